//! The way to the sequencer is bounded in octets (rule 6).

use std::time::Duration;

use tokio::time::timeout;

use super::*;

/// A write of about so many octets.
fn of(octets: usize, owner: &str) -> Write {
    let owner = Name::parse(owner, &origin()).unwrap();
    let rdata = vec![0; octets].into();
    change(vec![Operation::Create(RecordData { owner, rtype: Rtype::TXT, ttl: 60, rdata })])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_waits_while_there_is_no_room_in_the_queue() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options { queue_bytes: 64 << 10, ..Options::of_a_test(dir.path()) };
    let log = Log::open(&options).unwrap();
    create_zone(&log).await;
    // The sequencer stands still, with the first write in hand.
    let held = log.shared.database.begin_write().unwrap();
    let first = log.submit(of(40_000, "one")).await.unwrap();
    let mut second = std::pin::pin!(log.submit(of(40_000, "two")));
    let waits = timeout(Duration::from_millis(300), &mut second).await;
    assert!(waits.is_err(), "80,000 octets are taken where 64 KiB have room");
    let small = timeout(Duration::from_millis(300), log.submit(of(1, "three"))).await;
    assert!(small.is_err(), "callers keep their order");
    held.abort().unwrap();
    assert!(first.await.is_ok());
    let second = timeout(Duration::from_secs(5), second).await.expect("there is room again");
    assert!(second.unwrap().await.is_ok());
}
