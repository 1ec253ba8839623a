//! F-01, F-08, F-31: an edge is killed with SIGKILL at random times under load, and again while it
//! starts; now and then the log is compacted meanwhile, so that it takes a snapshot, and is killed in it.
//! What came and went in between may be a third of its store: then the guard holds the snapshot, and it is
//! let pass, as a person would.

use std::time::{Duration, Instant};

use edgesync_tests::eventually;
use rand::RngExt;

use crate::{plan, world::World};

/// Cycles in one place, before all begins anew.
const ROUND: u64 = 500;

#[test]
fn a_killed_edge_has_all_that_it_acknowledged_and_shows_whole_change_sets_only() {
    let cycles = plan::number("EDGESYNC_TORTURE_CYCLES", 100);
    let mut random = plan::random("kill_edge");
    let begin = Instant::now();
    let (mut done, mut double, mut snapshots, mut held) = (0, 0, 0, 0);
    let mut slowest = Duration::ZERO;
    while done < cycles {
        let mut world = World::start(1);
        world.storm(random.random(), Duration::from_millis(8));
        eventually("the edge acks", || world.acked(0) > 0);
        let (mut floor, mut compacted, mut last_acked) = (0, 0, 1);
        let round = ROUND.min(cycles - done);
        for _ in 0..round {
            std::thread::sleep(Duration::from_millis(random.random_range(10..300)));
            world.assert_nothing_put_aside(0);
            held += u64::from(world.let_pass(0));
            world.stack.edge(0).kill();
            // Acks on the way are read by the control plane: this is what it has seen.
            let acked = world.acked(0);
            // One that has fallen behind the log has to take a snapshot first, and until then counts as having nothing.
            let least = if compacted > last_acked { 0 } else { last_acked };
            assert!(acked >= least, "{last_acked} was acknowledged, and then {acked}");
            last_acked = acked;
            if random.random_ratio(1, 8) {
                std::thread::sleep(Duration::from_millis(30));
                compacted = world.compact();
            }
            if random.random_ratio(1, 3) {
                double += 1;
                world.stack.begin_edge(0, &[]);
                std::thread::sleep(Duration::from_micros(random.random_range(0..50_000)));
                world.stack.edge(0).kill();
            }
            let started = Instant::now();
            let status = world.restart_edge(0);
            slowest = slowest.max(started.elapsed());
            let found = status.resumed_from;
            assert!(found >= acked, "invariant 6: {acked} was acknowledged, {found} is there");
            assert!(found >= floor, "invariant 8: the edge had {floor}, and has {found}");
            floor = found;
            assert!(world.note_all(0) > 0, "the zone that all share is there");
            world.behind_the_log = found < compacted;
            snapshots += u64::from(world.behind_the_log);
        }
        done += round;
        let (_, verdict) = world.judge();
        let seconds = begin.elapsed().as_secs();
        println!(
            "kill_edge: {done} cycles, {double} double, {snapshots} behind the log, {held} held, \
             slowest restart {slowest:?}, {seconds} s; {verdict:?}"
        );
        assert!(verdict.writes > round, "there was no load");
        let least = usize::try_from(round).expect("a small number");
        assert!(verdict.exports >= least, "{} exports were judged", verdict.exports);
    }
}
