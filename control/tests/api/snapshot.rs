//! Which snapshot an edge is given: one that was made for others is as good as a new one, as long as it takes
//! nobody back (invariant 8).

use std::time::{Duration, Instant};

use edgesync_proto::v1::{
    CompactLogRequest, EdgeState, Hello, ListEdgesRequest, Nack, Position, SnapshotBegin,
    StagedSnapshot, sync_response::Message,
};

use crate::harness::{Control, Edge, within};

/// What an edge is given that has something.
async fn given(control: &Control, id: &str, has: Hello) -> SnapshotBegin {
    let (mut edge, position) = (Edge::open(control).await, has.position.clone());
    edge.hello_with(id, has);
    let Some(Message::Welcome(welcome)) = edge.next().await else { panic!("no welcome") };
    assert_eq!(welcome.hello_position, position, "what Hello has said is said back");
    match edge.next().await {
        Some(Message::SnapshotBegin(begin)) => begin,
        other => panic!("{other:?}"),
    }
}

fn offset(begin: &SnapshotBegin) -> u64 {
    begin.position.as_ref().unwrap().offset
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_made_for_others_is_given_to_all_whom_it_does_not_take_back() {
    let control = Control::with_zone().await;
    let made_at = control.head().await;
    control.fleet().compact_log(CompactLogRequest { upto: made_at }).await.unwrap();
    let made = given(&control, "first", Hello::default()).await;
    assert_eq!(offset(&made), made_at);

    let receipt = control.create("later", "A", "192.0.2.1").await.unwrap().receipt.unwrap();
    let position = receipt.position.unwrap();
    assert!(position.offset > made_at);
    let empty = given(&control, "empty", Hello::default()).await;
    assert_eq!(empty.snapshot_id, made.snapshot_id, "it is made once");

    // Its zones have changed, so that it needs a snapshot wherever it is.
    let ahead = Hello {
        position: Some(position.clone()),
        stored_filter_hash: vec![9; 32].into(),
        ..Hello::default()
    };
    let staged = Some(StagedSnapshot { snapshot_id: made.snapshot_id, next: 0 });
    for (id, has) in [("ahead", ahead.clone()), ("staging", Hello { staged, ..ahead })] {
        let given = given(&control, id, has).await;
        assert!(offset(&given) >= position.offset, "{id} is taken back to {}", offset(&given));
    }
    control.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edge_that_holds_its_snapshot_is_held_and_takes_no_more_of_it() {
    let control = Control::with_zone().await;
    let made_at = control.head().await;
    let compact = async |upto| {
        let done = control.fleet().compact_log(CompactLogRequest { upto }).await;
        let done = done.unwrap().into_inner();
        assert_eq!(done.kept.contains("a snapshot"), done.floor < upto, "{}", done.kept);
        done.floor
    };
    assert_eq!(compact(made_at).await, made_at);
    let mut edge = Edge::open(&control).await;
    edge.hello("fra-1");
    within(async { while !matches!(edge.next().await, Some(Message::SnapshotChunk(_))) {} }).await;
    control.create("later", "A", "192.0.2.1").await.unwrap();
    let head = control.head().await;
    assert_eq!(compact(head).await, made_at, "the snapshot is on its way");
    let row = async || {
        let edges = control.fleet().list_edges(ListEdgesRequest {}).await.unwrap().into_inner();
        edges.edges.into_iter().next().unwrap()
    };
    assert!(row().await.snapshot.is_some());
    let (first, last, reason) = (made_at, made_at, "it takes too much away".to_owned());
    edge.nack(Nack { first, last, held: true, reason });
    let deadline = Instant::now() + Duration::from_secs(10);
    while row().await.state() != EdgeState::Held {
        assert!(Instant::now() < deadline, "it is held");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(row().await.snapshot, None);
    control.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edge_of_another_history_is_told_to_who_looks_after_the_control_plane() {
    let control = Control::with_zone().await;
    let diverged = async || {
        let page = control.page("/metrics").await;
        let value =
            |line: &str| line.strip_prefix("edgesync_control_diverged_edges_total ")?.parse().ok();
        page.lines().find_map(value).unwrap_or(0_u64)
    };
    let before = diverged().await;
    let mut edge = Edge::open(&control).await;
    let (log_id, history_hash) = (vec![9; 16].into(), vec![9; 32].into());
    let position = Some(Position { log_id, offset: 1, history_hash });
    edge.hello_with("fra-1", Hello { position, ..Hello::default() });
    let welcome = edge.next().await.unwrap();
    assert!(matches!(welcome, Message::Welcome(_)), "{welcome:?}");
    let begin = edge.next().await.unwrap();
    assert!(matches!(begin, Message::SnapshotBegin(_)), "{begin:?}");
    assert!(diverged().await > before);
    control.stop().await;
}
