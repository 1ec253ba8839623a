//! F-14, F-20: a disk that takes two seconds for a sync, and a process that stands still: all is
//! late, and nothing else.

use std::time::{Duration, Instant};

use edgesync_tests::eventually;

use super::Injected;
use crate::{plan, trace::can_trace, world::World};

const SLOW: &str = "fdatasync:delay_enter=2000000";
const PACE: Duration = Duration::from_millis(20);

/// Sessions of each edge since the control plane started.
fn sessions(world: &World) -> Vec<u64> {
    world.stack.fleet().iter().map(|row| row["sessions"].as_u64().expect("a number")).collect()
}

/// The longest time from one to the next advance of what `value` counts, or to the end, over a while.
fn longest_pause(value: impl Fn() -> u64, time: Duration) -> Duration {
    let begin = Instant::now();
    let (mut last, mut since, mut longest) = (value(), Instant::now(), Duration::ZERO);
    while begin.elapsed() < time {
        let now = value();
        if now != last {
            longest = longest.max(since.elapsed());
            (last, since) = (now, Instant::now());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    longest.max(since.elapsed())
}

#[test]
fn slow_disks_make_things_late_and_end_no_session() {
    if !can_trace() {
        return;
    }
    let mut world = World::start(2);
    world.storm(plan::number("EDGESYNC_TORTURE_SEED", 1), PACE);
    std::thread::sleep(Duration::from_millis(300));
    let before = sessions(&world);
    let place = world.stack.dir().to_owned();

    let pid = world.stack.edge(0).id();
    let slow = Injected::into(pid, "fdatasync", SLOW, &place);
    let pause = longest_pause(|| world.acked(0), Duration::from_secs(7));
    let other = longest_pause(|| world.acked(1), Duration::from_secs(4));
    slow.end();
    println!("slow edge: acks up to {pause:?} apart, of the other edge {other:?}");
    assert!(pause > Duration::from_secs(1), "it was not slow");
    assert!(other < Duration::from_secs(1), "the other edge waits for it");

    let pid = world.stack.control().id();
    let slow = Injected::into(pid, "fdatasync", SLOW, &place);
    let pause = longest_pause(|| world.history.count(), Duration::from_secs(9));
    slow.end();
    println!("slow control plane: answers up to {pause:?} apart");
    assert!(pause > Duration::from_secs(1), "it was not slow");

    assert_eq!(sessions(&world), before, "a session has ended");
    let (_, verdict) = world.judge();
    println!("slow disks: {verdict:?}");
}

#[test]
fn an_edge_that_stands_still_is_noticed_and_goes_on() {
    let still = Duration::from_secs(plan::number("EDGESYNC_TORTURE_STILL_SECONDS", 20));
    let mut world = World::start(1);
    world.storm(plan::number("EDGESYNC_TORTURE_SEED", 1), PACE);
    std::thread::sleep(Duration::from_millis(300));
    world.stack.edge(0).signal("STOP");
    let begin = Instant::now();
    let state = |world: &World| world.stack.fleet()[0]["state"].as_str().unwrap_or("").to_owned();
    let mut noticed = None;
    while begin.elapsed() < still {
        if noticed.is_none() && state(&world) == "disconnected" {
            noticed = Some(begin.elapsed());
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    let acked = world.acked(0);
    world.stack.edge(0).signal("CONT");
    let begin = Instant::now();
    eventually("the edge goes on", || world.acked(0) > acked);
    println!("noticed after {noticed:?}, went on {:?} after SIGCONT", begin.elapsed());
    assert!(noticed.is_some(), "the control plane has not noticed in {still:?}");
    let (_, verdict) = world.judge();
    println!("stood still: {verdict:?}");
}
