//! F-15, F-16, F-19: the host runs out of descriptors, limits the size of files, and sets its clock.

use std::{
    fs,
    net::TcpStream,
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, SystemTime},
};

use edgesync_tests::{Stack, eventually, have, missing};

use super::full::refuses_and_serves;
use crate::{load::ZONE, plan, watch, world::World};

const PACE: Duration = Duration::from_millis(20);
/// Octets that the file of an edge's store grows by.
const SEGMENT: u64 = 8 * 1024 * 1024;
/// Descriptors that a daemon may have.
const DESCRIPTORS: usize = 64;

/// Number of a process's descriptors.
fn descriptors(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).expect("its descriptors").count()
}

#[test]
fn daemons_without_descriptors_accept_again_when_there_are_some() {
    if !have("prlimit") {
        return;
    }
    let limit = format!("--nofile={DESCRIPTORS}");
    let mut world = World::start(1);
    world.stack.control().stop();
    world.stack.begin_control(&["prlimit", &limit]);
    world.stack.edge(0).stop();
    world.stack.begin_edge(0, &["prlimit", &limit]);
    eventually("both are there", || world.acked_or_none(0).is_some());
    world.storm(plan::number("EDGESYNC_TORTURE_SEED", 1), PACE);
    std::thread::sleep(Duration::from_millis(500));

    let address = world.stack.url().replace("http://", "");
    let control = world.stack.control().id();
    let held: Vec<_> = (0..100).map(|_| TcpStream::connect(&address)).collect();
    eventually("the control plane has none left", || descriptors(control) >= DESCRIPTORS);
    let before = world.history.count();
    std::thread::sleep(Duration::from_secs(2));
    println!("answers meanwhile, on connections from before: {}", world.history.count() - before);
    assert!(world.history.count() > before, "connections from before go on");
    drop(held);
    eventually("the control plane accepts again", || world.acked_or_none(0).is_some());

    let edge = world.stack.edge(0).id();
    let socket = world.stack.socket(0);
    let held: Vec<_> = (0..100).map(|_| UnixStream::connect(&socket)).collect();
    eventually("the edge has none left", || descriptors(edge) >= DESCRIPTORS);
    let acked = world.acked(0);
    eventually("the edge goes on acking", || world.acked(0) > acked);
    drop(held);
    eventually("the edge accepts again", || watch::status(&socket).is_some());
    let (_, verdict) = world.judge();
    println!("no descriptors: {verdict:?}");
}

/// The library that sets the clock of one process.
fn library() -> Option<PathBuf> {
    let folders = fs::read_dir("/usr/lib").ok()?.filter_map(Result::ok).map(|entry| entry.path());
    let mut places = folders.map(|folder| folder.join("faketime/libfaketimeMT.so.1"));
    places.find(|path| path.is_file())
}

/// The command by way of which a daemon gets a clock that a file sets.
fn with_clock(library: &Path, file: &Path) -> [String; 6] {
    [
        "env".to_owned(),
        format!("LD_PRELOAD={}", library.display()),
        format!("FAKETIME_TIMESTAMP_FILE={}", file.display()),
        "FAKETIME_NO_CACHE=1".to_owned(),
        "DONT_FAKE_MONOTONIC=1".to_owned(),
        "FAKETIME_DONT_FAKE_MONOTONIC=1".to_owned(),
    ]
}

/// The date in so many days (by H. Hinnant's `civil_from_days`).
fn date_in(days: i64) -> String {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970");
    let shifted = i64::try_from(now.as_secs() / 86_400).expect("a date") + days + 719_468;
    let (era, day) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year + era * 400 + i64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}T")
}

#[test]
fn jumps_of_the_clock_change_neither_order_nor_sessions() {
    if !have("faketime") {
        return;
    }
    let Some(library) = library() else {
        missing("libfaketimeMT.so.1 is not where it is looked for");
        return;
    };
    let mut world = World::start(1);
    let file = world.stack.dir().join("clock");
    fs::write(&file, "+0").unwrap();
    let by = with_clock(&library, &file);
    let by: Vec<&str> = by.iter().map(String::as_str).collect();
    world.stack.control().stop();
    world.stack.begin_control(&by);
    world.stack.edge(0).stop();
    world.stack.begin_edge(0, &by);
    eventually("both are there", || world.acked_or_none(0).is_some());
    world.storm(plan::number("EDGESYNC_TORTURE_SEED", 1), PACE);
    eventually("the edge acks", || world.acked(0) > 50);
    let sessions = |world: &World| world.stack.fleet()[0]["sessions"].as_u64();
    let before = sessions(&world);
    for jump in ["+1d", "-1d", "+3650d", "-3650d", "+0"] {
        fs::write(&file, jump).unwrap();
        let (acked, answers) = (world.acked(0), world.history.count());
        std::thread::sleep(Duration::from_millis(1_200));
        assert!(world.history.count() > answers, "{jump}: no answers");
        assert!(world.acked(0) > acked, "{jump}: no acks");
        let log = world.stack.run(&["log", "--output", "json"]).good();
        let last = log.lines().last().expect("a change set");
        let last: serde_json::Value = serde_json::from_str(last).expect("JSON");
        let committed = last["committed"].as_str().expect("when it was committed");
        println!("{jump}: committed {committed}");
        // Else nothing has jumped. At midnight it may be the day before.
        let days: i64 = jump.trim_end_matches('d').parse().expect("days");
        let wanted = [0, 1].map(|before| date_in(days - before));
        assert!(wanted.iter().any(|date| committed.starts_with(date)), "{committed}: {wanted:?}");
    }
    assert_eq!(sessions(&world), before, "a session has ended");
    let (_, verdict) = world.judge();
    println!("clock: {verdict:?}");
}

/// Lets a running process make files as large as it likes.
fn raise_the_limit(pid: u32) {
    let mut command = Command::new("prlimit");
    let raised = command.args(["--pid", &pid.to_string(), "--fsize=unlimited:unlimited"]).status();
    assert!(raised.is_ok_and(|status| status.success()), "the limit can be raised");
}

#[test]
fn a_limit_on_the_size_of_files_is_an_error_and_no_signal() {
    if !have("prlimit") {
        return;
    }
    let mut stack = Stack::prepare(1);
    stack.control_environment.push(("EDGESYNC_CONTROL_LOG__MIN_FREE", "64KiB"));
    stack.edge_environment.push(("EDGESYNC_EDGE_RECONNECT__MAX", "300ms"));
    let mut world = World::start_on(stack);
    world.stack.control().stop();
    // Room to double once.
    let size = fs::metadata(world.stack.control_dir().join("log.redb")).expect("the log").len();
    let limit = format!("--fsize={}:unlimited", 5 * size);
    world.stack.begin_control(&["prlimit", &limit]);
    eventually("it answers", || world.acked_or_none(0).is_some());
    world.storm(plan::number("EDGESYNC_TORTURE_SEED", 1), Duration::from_millis(1));
    let full = |world: &World| world.stack.control_metric("edgesync_control_disk_full");
    eventually("it refuses writes", || full(&world) == Some(1.0));
    let answered = world.history.highest();
    assert!(answered > 0, "there were writes before");
    refuses_and_serves(&world, "LimitFSIZE");
    // What the kernel sends to whoever goes on all the same.
    world.stack.control().signal("XFSZ");
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(world.history.highest(), answered, "nothing is written");
    raise_the_limit(world.stack.control().id());
    eventually("writes go on by themselves", || world.history.highest() > answered);
    assert!(!world.stack.control().has_ended(), "it is the same process");
    let (_, verdict) = world.judge();
    println!("limited file of the control plane: {verdict:?}");
}

#[test]
fn an_edge_whose_file_may_not_grow_is_paused_serves_on_and_goes_on_alone() {
    if !have("prlimit") {
        return;
    }
    // With a look that comes in time, and with one that comes too late: then the write fails.
    for min_free in ["1MiB", "1B"] {
        let mut stack = Stack::prepare(1);
        stack.edge_environment.push(("EDGESYNC_EDGE_STORE__MIN_FREE", min_free));
        let mut world = World::start_on(stack);
        world.stack.settle();
        world.stack.edge(0).stop();
        let size = fs::metadata(world.stack.edge_dir(0).join("store/db")).expect("its file").len();
        // sled fills the segment that it has begun when it opens; then there is room for this.
        let size = size.next_multiple_of(SEGMENT) + 256 * 1024;
        let limit = format!("--fsize={size}:unlimited");
        world.stack.begin_edge(0, &["prlimit", &limit]);
        eventually("it is there", || watch::status(&world.stack.socket(0)).is_some());
        world.storm(plan::number("EDGESYNC_TORTURE_SEED", 1), Duration::from_millis(1));
        let paused = |world: &World| world.stack.edge_metric(0, "edgesync_edge_paused");
        eventually("it is paused", || paused(&world) == Some(1.0));
        let mut acked = 0;
        eventually("it acks no more", || {
            let before = std::mem::replace(&mut acked, world.acked(0));
            std::thread::sleep(Duration::from_secs(1));
            before == acked && world.head() > acked
        });
        let export = world.stack.run_edge(0, &["export", ZONE]);
        assert_eq!(export.code, 0, "it serves: {}", export.stderr);
        println!("{}", watch::status(&world.stack.socket(0)).expect("a status").reason);
        raise_the_limit(world.stack.edge(0).id());
        eventually("it goes on by itself", || world.acked(0) > acked);
        assert!(!world.stack.edge(0).has_ended(), "it is the same process");
        let (_, verdict) = world.judge();
        println!("limited file of the edge, min_free {min_free}: {verdict:?}");
    }
}
