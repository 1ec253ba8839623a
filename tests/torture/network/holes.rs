//! F-22, F-23: the network swallows what is sent, in both directions or in one, and tells nobody. Both
//! ends notice in time, the edge serves on, and it resumes when the hole is closed.

use std::time::{Duration, Instant};

use edgesync_proto::v1::LinkState;
use edgesync_tests::{Proxy, Way, Weather, eventually};

use super::{PACE, durable, state, world};
use crate::{load::ZONE, plan, watch, world::World};

/// What either end may take to notice: ten seconds and five for an answer, and what a busy host needs.
const NOTICED: Duration = Duration::from_secs(17);

const HOLE: Weather = Weather {
    hold: true,
    delay: Duration::ZERO,
    jitter: Duration::ZERO,
    rate: None,
    lost: 0,
    turned: None,
};

/// When the control plane and the edge have each noticed that they do not hear each other.
fn noticed(world: &World) -> (Duration, Duration) {
    let begin = Instant::now();
    let (mut control, mut edge) = (None, None);
    while control.is_none() || edge.is_none() {
        assert!(begin.elapsed() < NOTICED, "control plane {control:?}, edge {edge:?}");
        if control.is_none() && state(world, 0) == "disconnected" {
            control = Some(begin.elapsed());
        }
        let status = watch::status(&world.stack.socket(0)).expect("the edge answers");
        if edge.is_none() && status.link() != LinkState::Connected {
            edge = Some(begin.elapsed());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    (control.expect("noticed"), edge.expect("noticed"))
}

/// Closes the hole, and waits until the edge goes on where it was.
fn close(world: &World, proxy: &Proxy) {
    let before = durable(world, 0);
    assert_eq!(world.stack.run_edge(0, &["export", ZONE]).code, 0, "it serves on");
    proxy.set_both(&Weather::default());
    let begin = Instant::now();
    eventually("the edge goes on", || world.acked(0) > before);
    println!("  went on {:?} after the hole was closed", begin.elapsed());
}

#[test]
fn a_hole_in_the_network_is_noticed_by_both_ends_and_one_way_is_enough() {
    let (mut world, proxy) = world(1, "300ms");
    world.storm(plan::number("EDGESYNC_TORTURE_SEED", 1), PACE);
    eventually("the edge acks", || world.acked(0) > 50);
    for ways in [&Way::BOTH[..], &[Way::Up], &[Way::Down]] {
        ways.iter().for_each(|way| proxy.set(*way, HOLE));
        println!("{ways:?}: noticed after {:?} (control plane, edge)", noticed(&world));
        // What is sent into the hole for a while comes out of it late, and more than once.
        std::thread::sleep(Duration::from_secs(1));
        close(&world, &proxy);
    }
    let (_, verdict) = world.judge();
    println!("holes: {verdict:?}");
}

#[test]
fn a_hole_is_noticed_by_the_transport_where_heartbeats_are_rare() {
    let (mut world, proxy) = world(1, "300ms");
    world.stack.control().stop();
    world.stack.begin_control(&["env", "EDGESYNC_CONTROL_SESSIONS__HEARTBEAT=60s"]);
    eventually("the edge is back", || world.acked_or_none(0).is_some_and(|acked| acked > 0));
    eventually("its session is there", || state(&world, 0) == "current");
    world.storm(plan::number("EDGESYNC_TORTURE_SEED", 1), PACE);
    eventually("the edge acks", || world.acked(0) > 50);
    proxy.set_both(&HOLE);
    println!("heartbeats of 60 s: noticed after {:?} (control plane, edge)", noticed(&world));
    close(&world, &proxy);
    let (_, verdict) = world.judge();
    println!("hole: {verdict:?}");
}
