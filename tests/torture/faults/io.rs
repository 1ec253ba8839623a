//! F-12, F-13, F-18: the disk fails. A sync that failed is never tried again, because what the
//! kernel has dropped then, it says to have written when it is asked once more.

use std::time::Duration;

use edgesync_tests::{Stack, eventually};

use super::Injected;
use crate::{
    disk::{Disk, can_mount},
    plan,
    trace::can_trace,
    watch,
    world::World,
};

const PACE: Duration = Duration::from_millis(10);
const FAULT: &str = "fdatasync:error=EIO:when=20";

/// Syncs of a file after the one that failed.
fn syncs_after_the_failure(trace: &str, file: &str) -> Vec<String> {
    let (_, after) = trace.split_once("(INJECTED)").expect("the fault was injected");
    after.lines().filter(|line| line.contains(file)).map(str::to_owned).collect()
}

#[test]
fn a_control_plane_whose_disk_fails_ends_and_has_lost_nothing_that_got_ok() {
    if !can_trace() {
        return;
    }
    let seed = plan::number("EDGESYNC_TORTURE_SEED", 1);
    let mut world = World::start(1);
    world.storm(seed, PACE);
    let place = world.stack.dir().to_owned();
    let pid = world.stack.control().id();
    let injected = Injected::into(pid, "fdatasync,fsync", FAULT, &place);
    let status = world.stack.control().wait();
    let answered = world.history.highest();
    assert_eq!(status.code(), Some(1), "it ends by itself");
    let log = world.stack.control().log_text();
    let last = log.lines().last().expect("a line");
    assert!(last.starts_with("edgesync-control: ") && last.contains("failed"), "{last}");
    println!("{last}");
    let after = syncs_after_the_failure(&injected.end(), "log.redb");
    assert!(after.is_empty(), "the sync was tried again: {after:?}");
    world.restart_control();
    assert!(world.head() >= answered, "invariant 1");
    let (_, verdict) = world.judge();
    println!("EIO at the control plane: {verdict:?}");
}

#[test]
fn an_edge_whose_disk_fails_serves_on_acks_no_more_and_begins_anew() {
    if !can_trace() {
        return;
    }
    let seed = plan::number("EDGESYNC_TORTURE_SEED", 1);
    let mut world = World::start(1);
    world.storm(seed, PACE);
    let place = world.stack.dir().to_owned();
    let pid = world.stack.edge(0).id();
    let injected = Injected::into(pid, "fdatasync,fsync", FAULT, &place);
    eventually("the edge has failed", || {
        world.stack.edge_metric(0, "edgesync_edge_halted") == Some(1.0)
    });
    std::thread::sleep(Duration::from_millis(100));
    let acked = world.acked(0);
    std::thread::sleep(Duration::from_secs(1));
    assert!(world.head() > acked, "there was no load");
    assert_eq!(world.acked(0), acked, "it has acked after its disk failed");
    let status = watch::status(&world.stack.socket(0)).expect("it still answers");
    println!("{}", status.reason);
    assert!(world.stack.run_edge(0, &["export", crate::load::ZONE]).code == 0, "it still serves");
    assert!(world.stack.edge_page(0, "/readyz").is_some(), "it is there for readers");
    let after = syncs_after_the_failure(&injected.end(), "store/db");
    assert!(after.is_empty(), "the sync was tried again: {after:?}");
    world.stack.edge(0).stop();
    world.put_aside(0);
    let status = world.restart_edge(0);
    assert_eq!(status.resumed_from, 0, "the store is put aside");
    let aside =
        world.stack.edge_metric(0, "edgesync_edge_quarantines_total{reason=\"disk_failed\"}");
    assert_eq!(aside, Some(1.0));
    let (_, verdict) = world.judge();
    println!("EIO at the edge: {verdict:?}");
}

#[test]
fn an_edge_on_a_disk_that_became_read_only_serves_on_and_acks_no_more() {
    if !can_mount() {
        return;
    }
    let seed = plan::number("EDGESYNC_TORTURE_SEED", 1);
    let disk = Disk::make();
    let mut stack = Stack::prepare(1);
    stack.place_edge(0, &disk.path().join("store"));
    let mut world = World::start_on(stack);
    world.storm(seed, PACE);
    std::thread::sleep(Duration::from_secs(1));
    // What ext4 does by itself after an error (errors=remount-ro).
    assert!(disk.remount("abort"), "the disk can be made to fail");
    eventually("the edge has failed", || {
        world.stack.edge_metric(0, "edgesync_edge_halted") == Some(1.0)
    });
    std::thread::sleep(Duration::from_millis(100));
    let acked = world.acked(0);
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(world.acked(0), acked, "it has acked after its disk failed");
    assert!(world.stack.run_edge(0, &["export", crate::load::ZONE]).code == 0, "it still serves");
    let log = world.stack.edge(0).log_text();
    let errors: Vec<&str> = log.lines().filter(|line| line.contains("ERROR")).collect();
    println!("{errors:#?}");
    // On a disk that works again; nothing that was acknowledged may be gone.
    world.stack.edge(0).stop();
    let copy = disk.cut();
    world.stack.place_edge(0, &copy.path().join("store"));
    let status = world.restart_edge(0);
    println!("acknowledged {acked}, found {}", status.resumed_from);
    world.stores_put_aside = status.resumed_from == 0;
    assert!(status.resumed_from == 0 || status.resumed_from >= acked, "invariant 6");
    let (_, verdict) = world.judge();
    println!("read-only disk: {verdict:?}");
    drop(world);
}
