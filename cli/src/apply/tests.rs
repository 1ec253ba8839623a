//! Files applied to a server that only takes down what it is sent.

use super::*;
use crate::testing::Fake;

const BLOCKS: usize = 10;

/// Ten blocks of three lines; line `3 * i + 1` opens block `i`.
fn text() -> String {
    let block = |i| format!("; serial {i}\n+ a{i} 60 IN A 192.0.2.1\n+ b{i} 60 IN A 192.0.2.1\n");
    (0..BLOCKS).map(block).collect()
}

async fn applied(fake: &Fake, in_flight: usize) -> Result<Summary, Failure> {
    let origin = Name::parse_origin("example.com").unwrap();
    let blocks = parse(&text(), &origin, "changes.txt").unwrap().into();
    let applying = Applying { blocks, origin: &origin, file: "changes.txt", override_guard: false };
    let server = Server::control(&Target::open(&fake.url)).await.unwrap();
    applying.apply(&server, in_flight, &ProgressBar::hidden()).await
}

#[tokio::test]
async fn all_blocks_are_sent_in_order_and_counted() {
    let fake = Fake::start().await;
    let summary = applied(&fake, 4).await.unwrap();
    assert_eq!((summary.blocks, summary.changes), (BLOCKS, 100));
    assert_eq!((summary.last_offset, summary.replayed), (100, 1));
    let keys: Vec<_> = fake.seen().sets.into_iter().map(|set| set.idempotency_key).collect();
    let wanted: Vec<_> = (0..BLOCKS).map(|i| format!("apply:example.com.:{i}")).collect();
    assert_eq!(keys, wanted);
}

#[tokio::test]
async fn no_more_than_the_given_number_is_unanswered() {
    for in_flight in [1, 3, 64] {
        let fake = Fake::start().await;
        applied(&fake, in_flight).await.unwrap();
        assert_eq!(fake.seen().unanswered, in_flight.min(BLOCKS));
    }
}

#[tokio::test]
async fn the_first_refusal_stops_all_and_names_its_line() {
    let fake = Fake::refusing_set(4, 1).await;
    let failure = applied(&fake, 2).await.unwrap_err();
    assert_eq!(
        failure.to_string(),
        "changes.txt:15: no such record (4 of 10 blocks were committed)"
    );
    assert_eq!(failure.code(), 1);
    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    assert!(fake.seen().sets.len() <= 6);
}

#[tokio::test]
async fn a_stream_that_breaks_says_how_far_it_got() {
    let fake = Fake::breaking_at_set(3).await;
    let failure = applied(&fake, 2).await.unwrap_err();
    assert_eq!(failure.code(), 5);
    assert!(failure.to_string().contains("draining (3 of 10 blocks were committed)"), "{failure}");
}

#[test]
fn a_line_that_is_not_of_the_format_is_named() {
    let origin = Name::parse_origin("example.com").unwrap();
    let failure = parse("; serial 1\n+ a 60 IN A 300\n", &origin, "changes.txt").unwrap_err();
    assert!(failure.to_string().starts_with("changes.txt:2: "), "{failure}");
}
