//! F-09 to F-11: the disk is full, and then it is not any more.

use std::time::Duration;

use edgesync_tests::{Stack, eventually};
use serde_json::Value;
use tonic::Code;

use super::Injected;
use crate::{
    disk::{Disk, SmallDisk, can_mount},
    load::{Caller, Script, ZONE, runtime},
    plan,
    trace::can_trace,
    watch,
    world::World,
};

const PACE: Duration = Duration::from_millis(2);
/// Octets that are free when the load begins.
const ROOM: u64 = 256 * 1024;
/// What has to stay free on the small disks of tests, as the stack says.
const MIN_FREE: u64 = 1024 * 1024;
const FULL: &str = "edgesync_control_disk_full";
const GIVEN: &str = "edgesync_control_reserve_given_total";

/// Whether the control plane says that it refuses writes.
fn is_full(world: &World) -> bool {
    world.stack.control_metric(FULL) == Some(1.0)
}

/// What the first edge's row in the fleet says of its sessions.
fn session(world: &World) -> (Value, Value) {
    let row = &world.stack.fleet()[0];
    (row["sessions"].clone(), row["state"].clone())
}

/// Asserts what a control plane without room does: it refuses with the way out, and reads go on.
pub(super) fn refuses_and_serves(world: &World, way_out: &str) {
    let set = Script::of(1).sets.pop().expect("a set");
    let url = world.stack.url();
    let refused = runtime().block_on(async { Caller::new(&url).call("refused", &set).await });
    assert_eq!(refused.map_err(|status| status.code()).err(), Some(Code::ResourceExhausted));
    let create = ["record", "create", ZONE, "refused", "A", "60", "192.0.2.1"];
    let line = world.stack.run(&create).refused(1);
    let dir = world.stack.control_dir().display().to_string();
    assert!(line.contains(&dir) && line.contains(way_out), "{line}");
    println!("{line}");
    assert!(!world.stack.run(&["zone", "export", ZONE]).good().is_empty());
    assert!(!world.stack.run(&["log", "--output", "json"]).good().is_empty());
    assert_eq!(world.stack.run_edge(0, &["export", ZONE]).code, 0, "the edge serves");
    assert!(world.stack.control_page("/readyz").is_some(), "reads go on, so it is ready");
}

#[test]
fn a_control_plane_whose_disk_is_full_refuses_writes_serves_on_and_goes_on_alone() {
    let Some(disk) = SmallDisk::make(64) else { return };
    let mut stack = Stack::prepare(1);
    stack.place_control(&disk.path().join("log"));
    let mut world = World::start_on(stack);
    disk.fill(MIN_FREE + ROOM);
    world.storm(plan::number("EDGESYNC_TORTURE_SEED", 1), PACE);
    eventually("it refuses what is too large", || world.history.refusals() > 0);
    // The rest is taken by another program: not an octet is left.
    disk.fill_up();
    let refusals = world.history.refusals();
    eventually("it refuses all", || is_full(&world) && world.history.refusals() > refusals + 20);
    eventually("the edge has all that got OK", || session(&world).1 == "current");
    let session_before = session(&world);
    let (head, answered) = (world.head(), world.history.highest());
    assert!(head >= answered && answered > 0, "invariant 1: {answered} got OK, there is {head}");
    refuses_and_serves(&world, "make room");
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(world.head(), head, "nothing is written");
    assert_eq!(session(&world), session_before, "the session goes on");
    disk.free();
    eventually("writes go on by themselves", || world.history.highest() > head);
    eventually("it says so", || world.stack.control_metric(FULL) == Some(0.0));
    assert!(!world.stack.control().has_ended(), "it is the same process");
    assert_eq!(session(&world).0, session_before.0, "the session has gone on");
    let refusals = world.history.refusals();
    let (_, verdict) = world.judge();
    println!("full disk of the control plane: {refusals} refusals; {verdict:?}");
    assert!(world.stack.control().stop().success(), "it ends in order");
}

#[test]
fn a_control_plane_survives_a_program_that_takes_the_room_while_it_writes() {
    let Some(disk) = SmallDisk::make(64) else { return };
    let mut stack = Stack::prepare(1);
    stack.place_control(&disk.path().join("log"));
    stack.control_environment.push(("EDGESYNC_CONTROL_LOG__MIN_FREE", "8MiB"));
    let mut world = World::start_on(stack);
    world.storm(plan::number("EDGESYNC_TORTURE_SEED", 1), PACE);
    for _ in 0..10 {
        let answered = world.history.count();
        eventually("writes go on", || world.history.count() > answered + 5);
        disk.fill_up();
        eventually("it refuses writes", || is_full(&world));
        disk.free();
    }
    assert!(!world.stack.control().has_ended(), "it is the same process");
    let given = world.stack.control_metric(GIVEN);
    let (_, verdict) = world.judge();
    println!("raced for the room: the reserve was used {given:?} times; {verdict:?}");
}

#[test]
fn a_write_that_finds_no_room_takes_what_is_kept_for_it_whatever_the_disk_calls_that() {
    if !can_trace() {
        return;
    }
    let mut world = World::start(1);
    world.storm(plan::number("EDGESYNC_TORTURE_SEED", 1), PACE);
    let place = world.stack.dir().to_owned();
    for (times, error) in [(1.0, "ENOSPC"), (2.0, "EDQUOT")] {
        let pid = world.stack.control().id();
        let fault = format!("pwrite64:error={error}:when=20");
        let injected = Injected::into(pid, "pwrite64,fallocate,ftruncate", &fault, &place);
        eventually("the reserve is used", || world.stack.control_metric(GIVEN) == Some(times));
        let answered = world.history.count();
        eventually("writes go on", || world.history.count() > answered + 5);
        let trace = injected.end();
        assert_eq!(trace.matches("(INJECTED)").count(), 1, "{trace}");
        assert_eq!(world.stack.control_metric(FULL), Some(0.0), "the reserve is there again");
    }
    assert!(!world.stack.control().has_ended(), "it is the same process");
    let (_, verdict) = world.judge();
    println!("no room for a write: {verdict:?}");
}

#[test]
fn a_control_plane_that_is_killed_on_a_full_disk_starts_on_it_and_serves() {
    if !can_mount() {
        return;
    }
    let disk = Disk::make();
    let mut stack = Stack::prepare(1);
    stack.place_control(&disk.path().join("log"));
    stack.edge_environment.push(("EDGESYNC_EDGE_RECONNECT__MAX", "300ms"));
    let mut world = World::start_on(stack);
    world.storm(plan::number("EDGESYNC_TORTURE_SEED", 1), PACE);
    eventually("there are writes", || world.history.count() > 50);
    disk.fill();
    eventually("it refuses writes", || is_full(&world));
    for _ in 0..3 {
        let answered = world.history.highest();
        world.stack.control().kill();
        world.restart_control();
        assert!(world.head() >= answered, "invariant 1");
        eventually("it refuses writes", || is_full(&world));
        eventually("the edge is there", || session(&world).1 == "current");
        refuses_and_serves(&world, "make room");
    }
    disk.free();
    let answered = world.history.highest();
    eventually("writes go on by themselves", || world.history.highest() > answered);
    let (_, verdict) = world.judge();
    println!("started on a full disk: {verdict:?}");
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

/// What the disk has is what another program has left: nothing.
#[test]
fn an_edge_that_is_killed_on_a_full_disk_starts_on_it_and_serves() {
    let Some(disk) = SmallDisk::make(64) else { return };
    let mut stack = Stack::prepare(1);
    stack.place_edge(0, &disk.path().join("store"));
    let mut world = World::start_on(stack);
    world.storm(plan::number("EDGESYNC_TORTURE_SEED", 1), PACE);
    eventually("there are acks", || world.acked(0) > 50);
    for _ in 0..2 {
        disk.fill_up();
        let acked = world.acked(0);
        world.stack.edge(0).kill();
        world.stack.begin_edge(0, &[]);
        eventually("it answers", || watch::status(&world.stack.socket(0)).is_some());
        let status = watch::status(&world.stack.socket(0)).expect("it answers");
        assert!(status.durable.is_some_and(|durable| durable.offset >= acked), "invariant 6");
        assert_eq!(world.stack.run_edge(0, &["export", ZONE]).code, 0, "it serves");
        disk.free();
        eventually("it goes on by itself", || world.acked_or_none(0).is_some_and(|n| n > acked));
        let kept = world.stack.edge_dir(0).join("store.reserve");
        let is_kept = || std::fs::metadata(&kept).is_ok_and(|kept| kept.len() > 0);
        eventually("the room for the next start is kept again", is_kept);
    }
    let (_, verdict) = world.judge();
    println!("an edge started on a full disk: {verdict:?}");
}

/// A zone of so many addresses, as a file.
fn zone_file(serial: u32, addresses: u32) -> String {
    let lines = (0..addresses).map(|n| format!("host-{n} 300 A 192.0.2.{}\n", n % 250));
    format!("@ 300 SOA ns1 root {serial} 1 2 3 4\n@ 300 NS ns1\n") + &lines.collect::<String>()
}

/// F-11: with room for changes, and not for the snapshot, nothing of the snapshot is begun.
#[test]
fn an_edge_without_room_for_a_snapshot_serves_what_it_has_and_begins_when_there_is_room() {
    let Some(disk) = SmallDisk::make(192) else { return };
    let mut stack = Stack::prepare(1);
    stack.place_edge(0, &disk.path().join("store"));
    stack.start_control();
    let import = |stack: &Stack, serial, addresses| {
        let words = ["zone", "import", "-", "--origin", "example.com"];
        drop(stack.run_with(&words, &zone_file(serial, addresses)).good());
    };
    import(&stack, 1, 1_000);
    stack.start_edge(0);
    stack.settle();
    assert!(stack.edge(0).stop().success());
    let served = stack.run(&["zone", "export", "example.com"]).good();
    import(&stack, 2, 8_000);
    let head = stack.run(&["release", "--output", "json"]).json()["head"].to_string();
    drop(stack.run(&["log", "compact", "--upto", &head]).good());
    // 8,000 records are half a MiB of rows, and sled makes some of it.
    disk.fill(MIN_FREE + 3 * 1024 * 1024);
    stack.start_edge(0);
    let paused = |stack: &Stack| {
        let status = stack.edge_status(0).unwrap_or_default();
        status["paused"].as_str().unwrap_or_default().to_owned()
    };
    eventually("it is paused", || !paused(&stack).is_empty());
    let why = paused(&stack);
    assert!(why.contains("no room for the snapshot") && why.contains("make room"), "{why}");
    println!("{why}");
    std::thread::sleep(Duration::from_secs(4));
    assert_eq!(paused(&stack), why, "it waits, and nothing was written");
    assert_eq!(stack.run_edge(0, &["export", "example.com"]).good(), served, "it serves");
    let row = &stack.fleet()[0];
    assert_eq!((row["sessions"].as_u64(), row["state"].as_str()), (Some(2), Some("snapshot")));
    disk.free();
    stack.settle();
    assert_eq!(paused(&stack), "");
    let wanted = stack.run(&["zone", "export", "example.com"]).good();
    assert_eq!(stack.run_edge(0, &["export", "example.com"]).good(), wanted);
}
