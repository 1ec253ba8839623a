//! F-12, F-13, F-18: the disk fails. A sync that failed is never tried again, because what the
//! kernel has dropped then, it says to have written when it is asked once more.

use std::time::Duration;

use edgesync_tests::{Stack, eventually};

use super::Injected;
use crate::{
    disk::{Disk, can_mount},
    load::ZONE,
    plan,
    trace::can_trace,
    watch,
    world::World,
};

const PACE: Duration = Duration::from_millis(10);
const FAULT: &str = "fdatasync:error=EIO:when=20";

/// Syncs of a file after the one that failed.
fn syncs_after_the_failure(trace: &str, file: &str) -> Vec<String> {
    let (before, after) = trace.split_once("(INJECTED)").expect("the fault was injected");
    // Else nothing would be found behind it either.
    assert!(before.contains(file), "{file} is not what strace calls it: {before}");
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

/// Asserts what an edge does whose disk takes nothing for now (F-18, as F-10): it is paused and not
/// failed, acks no more, and serves. What it has acknowledged.
fn is_paused_and_serves(world: &World, what: &str) -> u64 {
    eventually("the edge is paused", || {
        world.stack.edge_metric(0, "edgesync_edge_paused") == Some(1.0)
    });
    std::thread::sleep(Duration::from_millis(100));
    let acked = world.acked(0);
    std::thread::sleep(Duration::from_secs(1));
    assert!(world.head() > acked, "{what}: there was no load");
    assert_eq!(world.acked(0), acked, "{what}: it has acked what its disk has not taken");
    assert_eq!(world.stack.edge_metric(0, "edgesync_edge_halted"), Some(0.0), "{what}");
    assert_eq!(world.stack.run_edge(0, &["export", ZONE]).code, 0, "{what}: it serves");
    assert!(world.stack.edge_page(0, "/readyz").is_some(), "{what}: it is there for readers");
    let paused = watch::status(&world.stack.socket(0)).expect("it answers").reason;
    println!("{what}: {paused}");
    acked
}

#[test]
fn an_edge_on_a_disk_that_became_read_only_is_paused_and_serves_on() {
    if !can_mount() {
        return;
    }
    let disk = Disk::make();
    // Declared before what will run on it.
    let copy;
    let mut stack = Stack::prepare(1);
    stack.place_edge(0, &disk.path().join("store"));
    let mut world = World::start_on(stack);
    world.stack.settle();
    // What ext4 does by itself after an error (errors=remount-ro), between two writes of the edge: a
    // sync that it comes into the middle of may say EIO, and then it is F-13.
    assert!(disk.remount("abort"), "the disk can be made to fail");
    world.storm(plan::number("EDGESYNC_TORTURE_SEED", 1), PACE);
    let acked = is_paused_and_serves(&world, "read-only");
    // On a disk that works again, which this one does not become without being mounted anew.
    assert!(world.stack.edge(0).stop().success(), "it ends in order");
    copy = disk.cut();
    world.stack.place_edge(0, &copy.path().join("store"));
    let status = world.restart_edge(0);
    assert!(status.resumed_from >= acked, "invariant 6: {acked}, found {}", status.resumed_from);
    let (_, verdict) = world.judge();
    println!("read-only disk: {verdict:?}");
}

#[test]
fn an_edge_goes_on_alone_when_its_read_only_disk_can_be_written_again() {
    if !can_trace() {
        return;
    }
    // Whichever call is told first.
    let (writes, syncs) = ("pwrite64,write,pwritev,ftruncate", "fdatasync,fsync,sync_file_range");
    for refused in [format!("{writes},{syncs}"), syncs.to_owned()] {
        let mut world = World::start(1);
        world.storm(plan::number("EDGESYNC_TORTURE_SEED", 1), PACE);
        eventually("the edge acks", || world.acked(0) > 50);
        let dir = world.stack.edge_dir(0).to_owned();
        let files = [dir.join("store/db"), dir.join("probe")];
        let (pid, fault) = (world.stack.edge(0).id(), format!("{refused}:error=EROFS"));
        let place = world.stack.dir().to_owned();
        let injected = Injected::into_files(pid, &files, &refused, &fault, &place);
        let acked = is_paused_and_serves(&world, &refused);
        let trace = injected.end();
        assert!(trace.contains("(INJECTED)"), "{trace}");
        eventually("it goes on by itself", || world.acked(0) > acked);
        assert!(!world.stack.edge(0).has_ended(), "it is the same process");
        eventually("it says so", || {
            world.stack.edge_metric(0, "edgesync_edge_paused") == Some(0.0)
        });
        let (_, verdict) = world.judge();
        println!("read-only for a while: {verdict:?}");
    }
}
