//! F-24, F-26: a bad network makes things late, and nothing else: no session ends, and no other edge
//! waits. A link so narrow that a large change set takes long still carries it.

use std::time::{Duration, Instant};

use edgesync_tests::{Weather, eventually};

use super::{PACE, durable, sessions, world};
use crate::{
    load::{self, ZONE},
    oracle::{Change, Line, Set},
    plan,
};

#[test]
fn delay_and_loss_make_an_edge_late_and_end_no_session() {
    let (mut world, proxy) = world(2, "300ms");
    world.storm(plan::number("EDGESYNC_TORTURE_SEED", 1), PACE);
    eventually("the edges ack", || world.acked(0).min(world.acked(1)) > 50);
    let before = (sessions(&world, 0), sessions(&world, 1));
    let (delay, jitter) = (Duration::from_millis(50), Duration::from_millis(20));
    proxy.set_both(&Weather { delay, jitter, lost: 5, ..Weather::default() });
    let (begin, acked) = (Instant::now(), world.acked(0));
    std::thread::sleep(Duration::from_secs(4));
    let rate = (world.acked(0) - acked) as f64 / begin.elapsed().as_secs_f64();
    let behind = world.head().saturating_sub(world.acked(0));
    println!("50 to 70 ms and 5 % lost each way: {rate:.0} changes/s acked, {behind} behind");
    assert!(world.acked(0) > acked, "nothing gets through");
    assert_eq!((sessions(&world, 0), sessions(&world, 1)), before, "a session has ended");
    let (_, verdict) = world.judge();
    println!("bad network: {verdict:?}");
}

/// Records of the large set, and octets of the text of each.
const RECORDS: u32 = 2_500;
const TEXT: u32 = 200;

/// A set of so many records of some hundred octets each.
fn large(name: &str, records: u32) -> Set {
    let line = |n| Line {
        owner: format!("{name}-{n}.{ZONE}"),
        ttl: 60,
        rtype: "TXT",
        rdata: format!("\"{}\"", "x".repeat(TEXT as usize)),
    };
    Set { zone: ZONE.to_owned(), changes: (0..records).map(|n| Change::Create(line(n))).collect() }
}

#[test]
fn a_narrow_link_carries_a_large_set_and_ends_no_session() {
    let rate = plan::number("EDGESYNC_TORTURE_OCTETS_PER_SECOND", 100_000);
    let (mut world, proxy) = world(2, "300ms");
    eventually("the edges are there", || durable(&world, 0) > 0 && durable(&world, 1) > 0);
    let before = (sessions(&world, 0), sessions(&world, 1));
    proxy.set_both(&Weather { rate: Some(rate), ..Weather::default() });
    // Some 600 KiB in one set: it takes twice as long as both ends bear silence.
    let url = world.stack.url();
    let set = large("narrow", RECORDS);
    load::runtime().block_on(async {
        load::Caller::new(&url).commit("large", set, &world.history).await;
    });
    let head = world.history.highest();
    let begin = Instant::now();
    eventually("the other edge has it", || world.acked(1) >= head);
    let other = begin.elapsed();
    eventually("the edge has it", || world.acked(0) >= head);
    let took = begin.elapsed();
    println!("{rate} octets/s: there after {took:?}, at the other edge {other:?}");
    let least = f64::from(RECORDS * TEXT) / rate as f64;
    assert!(took.as_secs_f64() > least / 2.0, "it was not narrow: {took:?}");
    assert_eq!((sessions(&world, 0), sessions(&world, 1)), before, "a session has ended");
    let (_, verdict) = world.judge();
    println!("narrow link: {verdict:?}");
}
