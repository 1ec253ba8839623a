//! The fleet, receipts, and the log for people.

use edgesync_proto::v1::{self, wait_for_offset_request::Edges};
use tokio_stream::StreamExt;
use tonic::{Code, Status};

use crate::harness::{Control, Edge, ZONE, all, refused, within};

async fn wait(
    control: &Control,
    position: Option<v1::Position>,
    edges: Option<Edges>,
    millis: u64,
) -> Result<v1::WaitForOffsetResponse, Status> {
    let timeout = std::time::Duration::from_millis(millis).try_into().ok();
    let request = v1::WaitForOffsetRequest { position, edges, timeout };
    control.fleet().wait_for_offset(request).await.map(tonic::Response::into_inner)
}

fn ids(ids: &[&str]) -> Option<Edges> {
    let ids = ids.iter().map(|id| (*id).to_owned()).collect();
    Some(Edges::Ids(v1::EdgeIds { ids }))
}

async fn log(control: &Control, request: v1::ListLogRequest) -> Vec<v1::ListLogResponse> {
    let entries = control.fleet().list_log(request).await.unwrap();
    all(entries.into_inner()).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receipt_comes_when_the_edges_have_acknowledged() {
    let control = Control::with_zone().await;
    let head = control.head().await;
    refused(Code::FailedPrecondition, wait(&control, None, Some(Edges::All(true)), 10).await);
    let mut edge = Edge::connect(&control, "fra-1").await;
    edge.read_to(head).await;

    let late = wait(&control, None, Some(Edges::All(true)), 50).await.unwrap();
    assert!(!late.reached && late.have.is_empty());
    assert_eq!(late.missing[0].id, "fra-1");
    assert_eq!(late.missing[0].state(), v1::EdgeState::CatchingUp);
    assert_eq!(late.position.as_ref().unwrap().offset, head);
    assert_eq!(late.position.as_ref().unwrap().history_hash.len(), 32);

    edge.ack(1, head);
    let done = wait(&control, late.position, ids(&["fra-1"]), 5_000).await;
    let done = done.unwrap();
    assert!(done.reached && done.missing.is_empty());
    assert_eq!(done.have, ["fra-1"]);
    let edges = control.fleet().list_edges(v1::ListEdgesRequest {}).await.unwrap().into_inner();
    let shown = &edges.edges[0];
    assert_eq!((shown.id.as_str(), shown.state()), ("fra-1", v1::EdgeState::Current));
    assert_eq!((shown.acked_changes, shown.lag_changes, shown.sessions), (head, 0, 1));
    assert_eq!(shown.durable, edges.head);
    assert_eq!(shown.version, "test");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edge_that_applies_nothing_for_now_is_named_with_why_it_does_not() {
    let control = Control::with_zone().await;
    let edge = Edge::connect(&control, "fra-1").await;
    edge.ack_paused(1, 0, "frozen by the file /data/freeze");
    let begin = std::time::Instant::now();
    let waited = wait(&control, None, Some(Edges::All(true)), 60_000).await.unwrap();
    assert!(!waited.reached && begin.elapsed() < std::time::Duration::from_secs(30));
    let [missing] = &waited.missing[..] else { panic!("{waited:?}") };
    assert_eq!(missing.reason, "paused: frozen by the file /data/freeze");
    let edges = control.fleet().list_edges(v1::ListEdgesRequest {}).await.unwrap().into_inner();
    assert_eq!(edges.edges[0].reason, missing.reason);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wait_that_makes_no_sense_is_refused_with_its_code() {
    let control = Control::with_zone().await;
    let _edge = Edge::connect(&control, "fra-1").await;
    let edges = control.fleet().list_edges(v1::ListEdgesRequest {}).await.unwrap().into_inner();
    let head = edges.head.unwrap();
    let all = || Some(Edges::All(true));
    let offset = |offset| Some(v1::Position { offset, ..Default::default() });
    for (position, edges, code) in [
        (offset(head.offset + 1), all(), Code::OutOfRange),
        (None, ids(&["fra-1", "nowhere"]), Code::NotFound),
        (None, ids(&["No Id"]), Code::InvalidArgument),
        (None, ids(&[]), Code::InvalidArgument),
        (None, None, Code::InvalidArgument),
        (None, Some(Edges::All(false)), Code::InvalidArgument),
        (None, Some(Edges::Count(0)), Code::InvalidArgument),
        (None, Some(Edges::Count(2)), Code::FailedPrecondition),
    ] {
        refused(code, wait(&control, position, edges, 10).await);
    }
    let other_log = v1::Position { log_id: vec![1; 16].into(), ..head.clone() };
    let told = refused(Code::FailedPrecondition, wait(&control, Some(other_log), all(), 10).await);
    let present: String = head.log_id.iter().map(|octet| format!("{octet:02x}")).collect();
    assert!(told.contains(&present) && told.contains(&"01".repeat(16)), "{told}");
    let other_history = v1::Position { history_hash: vec![1; 32].into(), ..head.clone() };
    refused(Code::FailedPrecondition, wait(&control, Some(other_history), all(), 10).await);
    let short = v1::Position { log_id: vec![1; 3].into(), ..head };
    refused(Code::InvalidArgument, wait(&control, Some(short), all(), 10).await);
    for seconds in [-1, 3_601] {
        let timeout = Some(prost_types::Duration { seconds, nanos: 0 });
        let request = v1::WaitForOffsetRequest { timeout, edges: all(), position: None };
        refused(Code::InvalidArgument, control.fleet().wait_for_offset(request).await);
    }
    // Within a change set there is no history hash, but an offset can be waited for.
    let within = wait(&control, offset(2), Some(Edges::Count(1)), 10).await.unwrap();
    assert_eq!(within.position.unwrap().offset, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_fleet_is_followed_without_a_flood() {
    let control = Control::with_zone().await;
    let watch = control.fleet().watch_edges(v1::WatchEdgesRequest {}).await.unwrap();
    let mut watch = watch.into_inner();
    assert!(watch.next().await.unwrap().unwrap().edges.is_empty());
    let edge = Edge::connect(&control, "fra-1").await;
    let seen = watch.next().await.unwrap().unwrap();
    assert_eq!(seen.edges[0].id, "fra-1");
    let (began, before) = (std::time::Instant::now(), control.head().await);
    for n in 0..200 {
        control.create(&format!("n{n}"), "A", "192.0.2.1").await.unwrap();
    }
    let head = control.head().await;
    let mut messages = 0;
    let mut state = within(async {
        loop {
            messages += 1;
            let seen = watch.next().await.unwrap().unwrap();
            let at = seen.head.unwrap().offset;
            assert!(at >= before);
            if at == head {
                break seen.edges[0].state();
            }
        }
    })
    .await;
    let most = began.elapsed().as_millis() / 100 + 2;
    assert!(messages <= most, "{messages} in {:?}", began.elapsed());
    drop(edge);
    // On a slow machine its silence has ended its session before.
    within(async {
        while state != v1::EdgeState::Disconnected {
            state = watch.next().await.unwrap().unwrap().edges[0].state();
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edge_is_forgotten_when_it_has_gone() {
    let control = Control::with_zone().await;
    let forget = async |id: &str| {
        let request = v1::ForgetEdgeRequest { id: id.to_owned() };
        control.fleet().forget_edge(request).await
    };
    refused(Code::NotFound, forget("fra-1").await);
    refused(Code::InvalidArgument, forget("Fra 1").await);
    let edge = Edge::connect(&control, "fra-1").await;
    refused(Code::FailedPrecondition, forget("fra-1").await);
    drop(edge);
    within(async {
        while let Err(status) = forget("fra-1").await {
            assert_eq!(status.code(), Code::FailedPrecondition);
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    })
    .await;
    let edges = control.fleet().list_edges(v1::ListEdgesRequest {}).await.unwrap().into_inner();
    assert!(edges.edges.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_tells_who_changed_what() {
    let control = Control::with_zone().await;
    control.create_zone("example.org").await.unwrap();
    for n in 0..150 {
        control.create(&format!("n{n}"), "A", "192.0.2.1").await.unwrap();
    }
    let request = v1::ListLogRequest::default();
    let last = log(&control, request.clone()).await;
    assert_eq!(last.len(), 100);
    assert_eq!(last.last().unwrap().last, control.head().await);
    let entry = last.last().unwrap();
    assert_eq!(entry.zone, "example.com.");
    assert_eq!(entry.principal, "anonymous");
    assert!(entry.peer.starts_with("127.0.0.1:"), "{}", entry.peer);
    assert_eq!(entry.method, "edgesync.v1.RecordService/CreateRecord");
    assert_eq!(entry.changes[0], "create n149.example.com. 300 IN A 192.0.2.1");
    assert!(entry.changes[1].starts_with("edit "), "the SOA that was raised with it");
    assert!(entry.size > 0 && entry.committed.is_some());

    let more = log(&control, v1::ListLogRequest { limit: 120, ..request.clone() }).await;
    assert_eq!((more.len(), &more[20..]), (120, &last[..]));
    let ten = log(&control, v1::ListLogRequest { limit: 10, ..request.clone() }).await;
    assert_eq!(ten, last[90..]);
    let whole = log(&control, v1::ListLogRequest { from: 1, ..request.clone() }).await;
    assert_eq!(whole.len(), 152);
    assert_eq!((whole[0].first, whole[0].changes[0].as_str()), (1, "zone create"));
    assert!(whole.windows(2).all(|pair| pair[1].first == pair[0].last + 1));
    let part = v1::ListLogRequest { from: 2, limit: 3, ..request.clone() };
    assert_eq!(log(&control, part).await, whole[..3]);
    let in_zone = |zone: &str, from| v1::ListLogRequest { zone: zone.to_owned(), from, limit: 0 };
    // It is far from the end of the log.
    assert_eq!(log(&control, in_zone("example.org", 0)).await, whole[1..2]);
    assert_eq!(log(&control, in_zone(ZONE, 0)).await, last);
    assert_eq!(log(&control, in_zone(ZONE, 1)).await.len(), 151);
    assert_eq!(log(&control, in_zone("example.net", 0)).await, []);
    let beyond = v1::ListLogRequest { from: control.head().await + 1, ..request };
    assert_eq!(log(&control, beyond).await, []);
    refused(Code::InvalidArgument, control.fleet().list_log(in_zone("a..b", 0)).await);
    // What is kept has fewer of a zone than are shown.
    let upto = whole[141].last;
    let compact = || async { control.fleet().compact_log(v1::CompactLogRequest { upto }).await };
    control.fleet().freeze(v1::FreezeRequest::default()).await.unwrap();
    let told = refused(Code::FailedPrecondition, compact().await);
    assert!(told.contains("`edgesync unfreeze`"), "{told}");
    control.fleet().unfreeze(v1::UnfreezeRequest {}).await.unwrap();
    assert_eq!(compact().await.unwrap().into_inner().floor, upto);
    assert_eq!(log(&control, in_zone(ZONE, 0)).await, whole[142..]);
    assert_eq!(log(&control, in_zone("example.org", 0)).await, []);
}
