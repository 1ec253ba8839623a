//! F-09, F-10: the disk is full, and then it is not any more.

use std::time::Duration;

use edgesync_tests::{Stack, eventually};

use crate::{disk::SmallDisk, load::ZONE, plan, watch, world::World};

const PACE: Duration = Duration::from_millis(2);
/// Octets that are free when the load begins.
const ROOM: u64 = 256 * 1024;

#[test]
fn a_control_plane_whose_disk_is_full_loses_nothing_that_got_ok() {
    let Some(disk) = SmallDisk::make(64) else { return };
    let mut stack = Stack::prepare(1);
    stack.place_control(&disk.path().join("log"));
    stack.edge_environment.push(("EDGESYNC_EDGE_RECONNECT__MAX", "300ms"));
    let mut world = World::start_on(stack);
    disk.fill(ROOM);
    world.storm(plan::number("EDGESYNC_TORTURE_SEED", 1), PACE);
    // Today it ends; rows F-09 and F-16 want it to refuse writes, to serve reads, and to go on.
    let status = world.stack.control().wait();
    let answered = world.history.highest();
    let log = world.stack.control().log_text();
    let last = log.lines().last().expect("a line").to_owned();
    println!("{status}: {last}");
    assert_eq!(status.code(), Some(1), "it ends by itself");
    assert!(last.starts_with("edgesync-control: "), "{last}");
    assert!(watch::status(&world.stack.socket(0)).is_some(), "the edge serves on");
    disk.free();
    world.restart_control();
    assert!(world.head() >= answered, "invariant 1: {answered} got OK, there is {}", world.head());
    let (_, verdict) = world.judge();
    println!("full disk of the control plane: {verdict:?}");
}

#[test]
fn an_edge_whose_disk_is_full_serves_on_and_resumes_alone() {
    let Some(disk) = SmallDisk::make(64) else { return };
    let mut stack = Stack::prepare(1);
    stack.place_edge(0, &disk.path().join("store"));
    let mut world = World::start_on(stack);
    disk.fill(ROOM);
    world.storm(plan::number("EDGESYNC_TORTURE_SEED", 1), PACE);
    let mut before = 0;
    eventually("it stops acking", || {
        let last = std::mem::replace(&mut before, world.acked(0));
        std::thread::sleep(Duration::from_secs(2));
        last > 0 && last == before && world.head() > before
    });
    let epoch = watch::status(&world.stack.socket(0)).expect("it still answers").boot_epoch;
    assert_eq!(world.stack.run_edge(0, &["export", ZONE]).code, 0, "it still serves");
    disk.free();
    eventually("it goes on by itself", || world.acked(0) > before);
    let status = watch::status(&world.stack.socket(0)).expect("it answers");
    assert_eq!(status.boot_epoch, epoch, "it was not opened again");
    let (_, verdict) = world.judge();
    println!("full disk of the edge: {verdict:?}");
}
