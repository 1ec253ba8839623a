//! Who may begin a session, and how long a stream may take to say whose it is.

use std::time::{Duration, Instant};

use edgesync_core::limits::HELLO_WAIT;
use edgesync_proto::v1;

use crate::harness::{Control, Edge, ZONE};

async fn control(change: impl FnOnce(&mut edgesync_control::config::SessionsConfig)) -> Control {
    let dir = tempfile::tempdir().unwrap();
    let control = Control::start_with(dir, |config| change(&mut config.sessions)).await;
    control.create_zone(ZONE).await.unwrap();
    control
}

/// The value of a metric with labels, by the beginning of its line.
async fn metric(control: &Control, name: &str) -> f64 {
    let page = control.page("/metrics").await;
    let line = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.map_or(0.0, |value| value.parse().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn edges_that_come_too_fast_are_sent_away_each_to_a_time_of_its_own() {
    let control = control(|sessions| {
        (sessions.admit_per_second, sessions.admit_burst) = (1, 2);
    })
    .await;
    // How many come in depends on how fast this machine is; not what those are told who do not.
    let (mut admitted, mut turns) = (Vec::new(), Vec::new());
    let began = Instant::now();
    for n in 0.. {
        assert!(began.elapsed() < Duration::from_secs(60), "{} are let in", admitted.len());
        let mut edge = Edge::open(&control).await;
        edge.hello(&format!("e{n}"));
        match edge.next().await.unwrap() {
            v1::sync_response::Message::Welcome(_) => admitted.push(edge),
            v1::sync_response::Message::Goodbye(goodbye) => {
                assert_eq!(goodbye.reason(), v1::GoodbyeReason::Busy);
                let retry_after: Duration = goodbye.retry_after.unwrap().try_into().unwrap();
                turns.push((began.elapsed(), retry_after));
            }
            other => panic!("{other:?}"),
        }
        if turns.len() == 3 {
            break;
        }
    }
    assert!(admitted.len() >= 2);
    let turns: Vec<_> = turns.iter().map(|(at, retry_after)| *at + *retry_after).collect();
    let gap = |pair: &[Duration]| pair[1].saturating_sub(pair[0]) > Duration::from_millis(500);
    assert!(turns.windows(2).all(gap), "a second from one to the next: {turns:?}");
    let edges = control.fleet().list_edges(v1::ListEdgesRequest {}).await.unwrap().into_inner();
    assert_eq!(edges.edges.len(), admitted.len(), "who was sent away is not waited for");
    tokio::time::sleep(turns[0].saturating_sub(began.elapsed())).await;
    let _back = Edge::connect(&control, "back").await;
    let refused = "edgesync_control_sessions_refused_total{reason=\"rate\"}";
    assert!(metric(&control, refused).await >= 3.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_that_do_not_say_whose_they_are_are_few_and_end() {
    let control = control(|sessions| sessions.max_greeting = 2).await;
    let began = Instant::now();
    let (mut first, _second) = (Edge::open(&control).await, Edge::open(&control).await);
    let mut third = Edge::open(&control).await;
    assert_eq!(third.goodbye().await.0, v1::GoodbyeReason::Busy);
    let refused = "edgesync_control_sessions_refused_total{reason=\"greeting\"}";
    assert!(metric(&control, refused).await >= 1.0);
    first.hello("a");
    assert!(matches!(first.next().await, Some(v1::sync_response::Message::Welcome(_))));
    let mut fourth = Edge::open(&control).await;
    assert_eq!(fourth.goodbye().await.0, v1::GoodbyeReason::Timeout);
    let took = began.elapsed();
    assert!(took >= HELLO_WAIT && took < HELLO_WAIT + Duration::from_secs(10), "{took:?}");
}
