//! F-54: SIGTERM under load, of the control plane and of edges in turn. Each drains in time and ends with
//! code 0; what got OK and what was acknowledged is there, and all goes on.

use std::time::{Duration, Instant};

use rand::RngExt;

use crate::{plan, watch, world::World};

/// The drain's own bound, and what the process takes beside it.
const DRAINED: Duration = Duration::from_secs(17);

#[test]
fn daemons_that_are_asked_to_stop_under_load_drain_and_lose_nothing() {
    let stops = plan::number("EDGESYNC_TORTURE_STOPS", 14);
    let mut random = plan::random("stop");
    let begin = Instant::now();
    let mut world = World::start(2);
    world.storm(random.random(), Duration::from_millis(6));
    let (mut slowest, mut floor) = (Duration::ZERO, 0);
    for stop in 0..stops {
        std::thread::sleep(Duration::from_millis(random.random_range(10..400)));
        let edge = stop % 2 == 1;
        let stopping = Instant::now();
        let process = if edge { world.stack.edge(0) } else { world.stack.control() };
        let status = process.stop();
        slowest = slowest.max(stopping.elapsed());
        assert_eq!(status.code(), Some(0), "stop {stop}, edge: {edge}: {status}");
        assert!(stopping.elapsed() < DRAINED, "it took {:?}", stopping.elapsed());
        if edge {
            let acked = world.acked(0);
            let found = world.restart_edge(0).resumed_from;
            assert!(found >= acked, "invariant 6: {acked} was acknowledged, {found} is there");
            assert!(found >= floor, "invariant 8: the edge had {floor}, and has {found}");
            floor = found;
        } else {
            let answered = world.history.highest();
            assert!(watch::status(&world.stack.socket(0)).is_some(), "the edges serve on");
            world.restart_control();
            let head = world.head();
            assert!(head >= answered, "invariant 1: {answered} got OK, the head is {head}");
        }
    }
    let (_, verdict) = world.judge();
    let seconds = begin.elapsed().as_secs();
    println!("stop: {stops} stops, slowest {slowest:?}, {seconds} s; {verdict:?}");
    assert_eq!(verdict.resolved.done, 0, "a write came about and got no answer");
    assert!(verdict.writes > stops && verdict.exports > 0, "there was no load");
}
