//! The control plane is killed with SIGKILL at random times under load, and again while it starts.
//! Callers ask again by their keys, after they have read what became of their writes.

use std::time::{Duration, Instant};

use rand::RngExt;

use crate::{plan, watch, world::World};

/// Cycles in one place, before all begins anew.
const ROUND: u64 = 500;

#[test]
fn a_killed_control_plane_has_every_write_that_got_ok_and_each_of_them_once() {
    let cycles = plan::number("EDGESYNC_TORTURE_CYCLES", 100);
    let mut random = plan::random("kill_control");
    let begin = Instant::now();
    let (mut done, mut double, mut slowest) = (0, 0, Duration::ZERO);
    while done < cycles {
        let mut world = World::start(2);
        world.storm(random.random(), Duration::from_millis(8));
        let round = ROUND.min(cycles - done);
        for _ in 0..round {
            std::thread::sleep(Duration::from_millis(random.random_range(10..300)));
            world.stack.control().kill();
            let answered = world.history.highest();
            if random.random_ratio(1, 3) {
                double += 1;
                world.stack.begin_control(&[]);
                std::thread::sleep(Duration::from_micros(random.random_range(0..50_000)));
                world.stack.control().kill();
            }
            slowest = slowest.max(world.restart_control());
            check(&world, answered);
        }
        done += round;
        let (_, verdict) = world.judge();
        let seconds = begin.elapsed().as_secs();
        println!(
            "kill_control: {done} cycles, {double} double, slowest restart {slowest:?}, \
             {seconds} s; {verdict:?}"
        );
        assert!(verdict.writes > round && verdict.resolved.read > 0, "there was no load");
    }
}

/// Nothing that got OK is lost, and no edge has more than the log.
fn check(world: &World, answered: u64) {
    let edges = (0..2).map(|edge| watch::status(&world.stack.socket(edge)).expect("an edge"));
    let edges: Vec<u64> = edges.map(|edge| edge.durable.unwrap_or_default().offset).collect();
    let head = world.head();
    assert!(head >= answered, "invariant 1: {answered} got OK, the head is {head}");
    for offset in edges {
        assert!(offset <= head, "invariant 3: an edge has {offset}, the head is {head}");
    }
}
