//! Certificates and keys replaced again and again under load: no stream is dropped, no call fails, and a bad
//! pair changes nothing (F-38). `EDGESYNC_ROTATIONS` says how often.

use std::{
    env,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    thread::JoinHandle,
};

use edgesync_host::tls::{ClientSide, Material, ServerName, Side, TlsFiles};
use edgesync_proto::v1::{self, record_service_client::RecordServiceClient};
use edgesync_tests::{Stack, eventually};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tonic::{
    Request,
    transport::{Channel, Endpoint, Uri},
};

/// A caller that writes on one connection until it is told to stop.
struct Writer {
    stop: Arc<AtomicBool>,
    connections: Arc<AtomicU64>,
    thread: JoinHandle<u64>,
}

impl Writer {
    fn start(stack: &Stack) -> Self {
        let (stop, connections) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let files = TlsFiles { ca: stack.certs().file("ca.pem"), ..TlsFiles::default() };
        let side = ClientSide::make(Material::load(&files).unwrap()).unwrap();
        let token = std::fs::read_to_string(stack.token_file.as_ref().unwrap()).unwrap();
        let (url, address) = (stack.url(), stack.control_address());
        let (stopped, counted) = (Arc::clone(&stop), Arc::clone(&connections));
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let connector = tower::service_fn(move |_: Uri| {
                counted.fetch_add(1, Relaxed);
                let connector = side.connector();
                async move {
                    let stream = TcpStream::connect(address).await?;
                    let name = ServerName::try_from("localhost").expect("a name");
                    connector.connect(name, stream).await.map(TokioIo::new)
                }
            });
            runtime.unwrap().block_on(async {
                let endpoint = Endpoint::from_shared(url).unwrap();
                let channel = endpoint.connect_with_connector(connector).await.unwrap();
                write(channel, token.trim(), &stopped).await
            })
        });
        Self { stop, connections, thread }
    }

    /// Stops it: calls that were answered, and connections that they took.
    fn stop(self) -> (u64, u64) {
        self.stop.store(true, Relaxed);
        (self.thread.join().expect("no call failed"), self.connections.load(Relaxed))
    }
}

async fn write(channel: Channel, token: &str, stop: &AtomicBool) -> u64 {
    let mut client = RecordServiceClient::new(channel);
    let mut written = 0;
    while !stop.load(Relaxed) {
        let record = v1::RecordData {
            owner: format!("r-{written}"),
            r#type: "A".to_owned(),
            ttl: 60,
            rdata: "192.0.2.1".to_owned(),
            ..Default::default()
        };
        let zone = "example.com".to_owned();
        let record = Some(record);
        let mut request =
            Request::new(v1::CreateRecordRequest { zone, record, ..Default::default() });
        let value = format!("Bearer {token}").parse().unwrap();
        request.metadata_mut().insert("authorization", value);
        client.create_record(request).await.expect("a write under rotation");
        written += 1;
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    written
}

fn reloads(stack: &Stack, result: &str) -> f64 {
    let name = format!("edgesync_control_tls_reloads_total{{result=\"{result}\"}}");
    stack.control_metric(&name).unwrap_or_default()
}

#[test]
fn certificates_are_replaced_under_load_and_no_stream_is_dropped() {
    let rotations = env::var("EDGESYNC_ROTATIONS").ok().and_then(|text| text.parse().ok());
    let rotations: u32 = rotations.unwrap_or(20);
    let mut stack = Stack::secured(2);
    stack.start_control();
    (0..2).for_each(|edge| stack.start_edge(edge));
    eventually("the edges register", || stack.fleet().len() >= 2);
    let made = stack.run(&["zone", "create", "example.com", "--ns", "ns1.example.com."]);
    let _ = made.good();
    let writer = Writer::start(&stack);
    let mut bad = 0;
    for rotation in 0..rotations {
        if rotation % 5 == 4 {
            // The certificate of one pair with the key of another.
            let (wrong, before) = (stack.certs().server(), reloads(&stack, "error"));
            stack.certs().replace("control.key", wrong.key.expose());
            eventually("a bad pair is refused", || reloads(&stack, "error") > before);
            let _ = stack.run(&["fleet"]).good();
            bad += 1;
        }
        let before = reloads(&stack, "ok");
        let edge = format!("edge-{}", rotation % 2);
        stack.certs().put(&edge, &stack.certs().edge(&edge));
        stack.certs().put("control", &stack.certs().server());
        eventually("the new pair is in use", || reloads(&stack, "ok") > before);
    }
    // A connection of now is made with the new certificate.
    let _ = stack.run(&["fleet"]).good();
    let (written, connections) = writer.stop();
    stack.settle();
    let page = stack.control_page("/metrics").unwrap();
    let dropped: Vec<_> = page
        .lines()
        .filter(|line| line.starts_with("edgesync_control_session_ends_total{"))
        .filter(|line| !line.ends_with(" 0"))
        .collect();
    assert!(dropped.is_empty(), "{dropped:?}");
    assert!(written > u64::from(rotations), "{written} writes are no load");
    assert_eq!(connections, 1, "the caller's connection was never cut");
    println!("{rotations} rotations, {bad} bad pairs between, {written} writes, 0 dropped streams");
}
