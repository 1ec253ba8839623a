//! The page over real sockets.

use std::{
    net::SocketAddr,
    sync::atomic::{AtomicBool, Ordering},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::oneshot,
    task::JoinHandle,
};

use super::*;

struct Running {
    address: SocketAddr,
    ready: Arc<AtomicBool>,
    stop: oneshot::Sender<()>,
    server: JoinHandle<()>,
}

async fn run() -> Running {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let ready = Arc::new(AtomicBool::new(false));
    let is_ready = Arc::clone(&ready);
    let page = Page::new(Metrics::local("1.2.3"), move || {
        if is_ready.load(Ordering::Relaxed) { Ok(()) } else { Err("the store opens".to_owned()) }
    });
    let (stop, stopped) = oneshot::channel::<()>();
    let server = tokio::spawn(page.serve(listener, async {
        let _ = stopped.await;
    }));
    Running { address, ready, stop, server }
}

async fn fetch(address: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    text
}

#[tokio::test]
async fn readiness_follows_the_program_and_health_does_not() {
    let page = run().await;
    let not_yet = fetch(page.address, "/readyz").await;
    assert!(not_yet.starts_with("HTTP/1.1 503") && not_yet.ends_with("the store opens\n"));
    assert!(fetch(page.address, "/healthz").await.starts_with("HTTP/1.1 200"));
    page.ready.store(true, Ordering::Relaxed);
    assert!(fetch(page.address, "/readyz").await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn metrics_have_prometheus_content_type() {
    let page = run().await;
    let text = fetch(page.address, "/metrics").await;
    assert!(text.starts_with("HTTP/1.1 200"), "{text}");
    assert!(text.contains("content-type: text/plain; version=0.0.4\r\n"), "{text}");
    assert!(text.contains("edgesync_build_info{version=\"1.2.3\"} 1\n"), "{text}");
    assert!(fetch(page.address, "/").await.starts_with("HTTP/1.1 404"));
}

#[tokio::test]
async fn shutdown_answers_what_was_begun_and_then_ends() {
    let page = run().await;
    let mut begun = TcpStream::connect(page.address).await.unwrap();
    begun.write_all(b"GET /healthz HTTP/1.1\r\n").await.unwrap();
    fetch(page.address, "/healthz").await;
    page.stop.send(()).unwrap();
    sleep(Duration::from_millis(50)).await;
    assert!(!page.server.is_finished());
    begun.write_all(b"Host: x\r\n\r\n").await.unwrap();
    let mut text = String::new();
    begun.read_to_string(&mut text).await.unwrap();
    assert!(text.starts_with("HTTP/1.1 200"), "{text}");
    page.server.await.unwrap();
    assert!(TcpStream::connect(page.address).await.is_err());
}

#[tokio::test]
async fn slow_clients_take_their_places_but_not_for_ever() {
    let page = run().await;
    let mut slow = Vec::new();
    for _ in 0..CONNECTIONS {
        slow.push(TcpStream::connect(page.address).await.unwrap());
    }
    sleep(Duration::from_millis(50)).await;
    let waiting = tokio::spawn(fetch(page.address, "/healthz"));
    sleep(Duration::from_millis(200)).await;
    assert!(!waiting.is_finished(), "more than {CONNECTIONS} at a time");
    tokio::time::pause();
    tokio::time::advance(CONNECTION).await;
    tokio::time::resume();
    let answer = timeout(Duration::from_secs(5), waiting).await.unwrap().unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    drop(slow);
}

/// F-56: however many there are, they have only so many places, and each place for so long.
#[tokio::test]
async fn a_hundred_slow_scrapers_hold_up_the_next_one_for_a_bounded_time() {
    let page = run().await;
    let mut slow = Vec::new();
    for _ in 0..100 {
        let mut stream = TcpStream::connect(page.address).await.unwrap();
        stream.write_all(b"GET /metrics HTTP/1.1\r\n").await.unwrap();
        slow.push(stream);
    }
    sleep(Duration::from_millis(50)).await;
    let waiting = tokio::spawn(fetch(page.address, "/metrics"));
    let rounds = 100u32.div_ceil(CONNECTIONS);
    for _ in 0..rounds {
        sleep(Duration::from_millis(100)).await;
        tokio::time::pause();
        tokio::time::advance(CONNECTION).await;
        tokio::time::resume();
    }
    let answer = timeout(Duration::from_secs(5), waiting).await.unwrap().unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    drop(slow);
}
