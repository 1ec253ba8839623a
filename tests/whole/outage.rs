//! Outages: processes are killed and stopped while changes flow.

use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use edgesync_proto::v1::{self, record_service_client::RecordServiceClient};
use edgesync_tests::{Stack, eventually};
use tonic::transport::Endpoint;

/// Callers that create records as fast as answers come; what got OK is kept.
struct Writers {
    stop: Arc<AtomicBool>,
    acknowledged: Arc<Mutex<BTreeSet<String>>>,
    threads: Vec<JoinHandle<()>>,
}

impl Writers {
    fn start(url: &str) -> Self {
        let (stop, acknowledged) = (Arc::<AtomicBool>::default(), Arc::default());
        let threads = (0..8).map(|caller| {
            let (stop, url, kept) = (Arc::clone(&stop), url.to_owned(), Arc::clone(&acknowledged));
            std::thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
                runtime.unwrap().block_on(write(caller, &stop, url, &kept));
            })
        });
        let threads = threads.collect();
        Self { stop, acknowledged, threads }
    }

    /// Stops them; the owner names that got OK.
    fn stop(self) -> BTreeSet<String> {
        self.stop.store(true, Ordering::Relaxed);
        self.threads.into_iter().for_each(|thread| thread.join().unwrap());
        std::mem::take(&mut self.acknowledged.lock().unwrap())
    }
}

async fn write(caller: u32, stop: &AtomicBool, url: String, kept: &Mutex<BTreeSet<String>>) {
    let channel = Endpoint::from_shared(url).unwrap().connect().await.unwrap();
    let mut client = RecordServiceClient::new(channel);
    for number in 0.. {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        let owner = format!("r-{caller}-{number}");
        let record = v1::RecordData {
            owner: owner.clone(),
            r#type: "A".to_owned(),
            ttl: 60,
            rdata: "192.0.2.1".to_owned(),
            ..Default::default()
        };
        let zone = "example.com".to_owned();
        let request = v1::CreateRecordRequest { zone, record: Some(record), ..Default::default() };
        match client.create_record(request).await {
            Ok(_) => kept.lock().unwrap().insert(format!("{owner}.example.com.")),
            Err(_) => return,
        };
    }
}

#[test]
fn a_killed_control_plane_has_every_write_that_got_ok() {
    let mut stack = Stack::start(2);
    let _ = stack.run(&["zone", "create", "example.com", "--ns", "ns1.example.com."]).good();
    let writers = Writers::start(&stack.url());
    std::thread::sleep(Duration::from_millis(700));
    stack.control().kill();
    let acknowledged = writers.stop();
    assert!(acknowledged.len() > 50, "only {} writes were answered", acknowledged.len());

    stack.start_control();
    let text = stack.run(&["zone", "export", "example.com"]).good();
    let there: BTreeSet<_> = text.lines().filter_map(|line| line.split('\t').next()).collect();
    let lost: Vec<_> =
        acknowledged.iter().filter(|owner| !there.contains(owner.as_str())).collect();
    assert!(lost.is_empty(), "invariant 1: {} of {} lost", lost.len(), acknowledged.len());

    // The edges come back by themselves.
    stack.settle();
    for edge in 0..2 {
        assert_eq!(stack.run_edge(edge, &["export", "example.com"]).good(), text);
    }
}

#[test]
fn an_edge_without_control_plane_serves_its_last_state_and_catches_up_later() {
    let mut stack = Stack::start(1);
    let _ = stack.run(&["zone", "create", "example.com", "--ns", "ns1.example.com."]).good();
    stack.settle();
    let before = stack.run(&["zone", "export", "example.com"]).good();
    assert_eq!(stack.edge(0).stop().code(), Some(0));
    let create = ["record", "create", "example.com", "while-away", "A", "300", "192.0.2.7"];
    let _ = stack.run(&create).good();
    assert_eq!(stack.control().stop().code(), Some(0));

    let started = Instant::now();
    stack.start_edge(0);
    assert_eq!(stack.run_edge(0, &["export", "example.com"]).good(), before);
    assert!(started.elapsed() < Duration::from_secs(5), "at once: {:?}", started.elapsed());
    let status = stack.edge_status(0).expect("status");
    assert_ne!(status["link"], "connected", "{status}");

    stack.start_control();
    let text = stack.run(&["zone", "export", "example.com"]).good();
    assert!(text.contains("while-away"));
    eventually("the edge catches up", || {
        stack.run_edge(0, &["export", "example.com"]).stdout == text
    });
}

#[test]
fn a_killed_edge_resumes_at_its_offset_and_takes_nothing_twice() {
    let mut stack = Stack::start(2);
    let _ = stack.run(&["zone", "create", "example.com", "--ns", "ns1.example.com."]).good();
    let writers = Writers::start(&stack.url());
    for _ in 0..3 {
        std::thread::sleep(Duration::from_millis(300));
        stack.edge(1).kill();
        stack.start_edge(1);
    }
    assert!(!writers.stop().is_empty());
    stack.settle();
    let text = stack.run(&["zone", "export", "example.com"]).good();
    for edge in 0..2 {
        assert_eq!(stack.run_edge(edge, &["export", "example.com"]).good(), text);
        let _ = stack.run_edge(edge, &["verify"]).good();
        let status = stack.edge_status(edge).expect("status");
        let number = |name: &str| status[name].as_u64().expect("a number");
        let taken = number("resumed_from") + number("applied_changes");
        assert_eq!(taken, number("durable_offset"), "nothing skipped, nothing twice");
        assert_eq!(edge == 1, number("resumed_from") > 0, "{status}");
    }
}
