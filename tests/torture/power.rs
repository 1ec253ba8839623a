//! F-04, F-05: power cuts. A daemon is stopped, what has reached its disk is copied, and another
//! daemon opens the copy: all that was acknowledged or answered before has to be there. What a disk
//! has in a volatile cache of its own is not modelled.

use std::{
    fs,
    time::{Duration, Instant},
};

use edgesync_tests::{Process, Stack, eventually};
use rand::{RngExt, rngs::StdRng};

use crate::{
    disk::{Disk, can_mount},
    load::runtime,
    oracle::History,
    plan, watch,
    world::{self, World},
};

/// Cuts of one disk, before all begins anew: it is small.
const ROUND: u64 = 10;
/// A wait between two writes of a writer, on average.
const PACE: Duration = Duration::from_millis(30);
/// Time in which what was on its way when a process was stopped arrives.
const ON_ITS_WAY: Duration = Duration::from_millis(30);

/// Number of a copy, where an edge's is told.
const COPY: usize = usize::MAX;

/// Stops a process, whatever it is in the middle of.
fn stop(process: &Process) {
    process.signal("STOP");
    let tasks = format!("/proc/{}/task", process.id());
    eventually("all threads have stopped", || {
        let tasks = fs::read_dir(&tasks).expect("its threads");
        tasks.filter_map(Result::ok).all(|task| {
            let stat = fs::read_to_string(task.path().join("stat")).unwrap_or_default();
            stat.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with('T'))
        })
    });
    std::thread::sleep(ON_ITS_WAY);
}

/// Opens what an edge's disk had, without a control plane. The offset that was there.
fn open_edge(copy: &Disk, history: &History) -> u64 {
    let mut stack = Stack::prepare(1);
    stack.place_edge(0, &copy.path().join("store"));
    stack.begin_edge(0, &[]);
    let socket = stack.socket(0);
    eventually("the copy answers", || watch::status(&socket).is_some());
    world::assert_nothing_put_aside(&stack, 0, false);
    let _ = stack.run_edge(0, &["verify"]).good();
    let status = watch::status(&socket).expect("a status");
    let found = status.resumed_from;
    history.seen_records(COPY, found, status.records);
    runtime().block_on(async {
        let mut edge = watch::connect(&socket).await.expect("a connection");
        let zones = watch::zones(&mut edge).await.expect("the zones");
        // Of what is not listed nothing would be exported.
        history.seen_zones(COPY, found, zones.clone());
        for zone in zones {
            let (offset, text) = watch::export(&mut edge, &zone).await.expect("an export");
            assert_eq!(offset, found);
            history.seen(COPY, offset, &zone, text);
        }
    });
    stack.edge(0).kill();
    found
}

/// Opens what the control plane's disk had. The offset of the head that was there.
fn open_control(copy: &Disk, history: &History) -> u64 {
    let mut stack = Stack::prepare(0);
    stack.place_control(&copy.path().join("log"));
    stack.start_control();
    let fleet = stack.run(&["fleet", "--output", "json"]).json();
    let head = fleet["head"].as_u64().expect("a head");
    let zones = world::zones(&stack);
    history.seen_zones(COPY, head, zones.clone());
    for zone in zones {
        let text = stack.run(&["zone", "export", &zone]).good();
        history.seen(COPY, head, &zone, Some(text));
    }
    stack.control().kill();
    head
}

/// Cuts the power so often; `world` makes a world on a disk, `cut` cuts and checks.
fn rounds(what: &str, world: impl Fn(&Disk) -> World, mut cut: impl FnMut(&Disk, &mut World)) {
    if !can_mount() {
        return;
    }
    let cuts = plan::number("EDGESYNC_TORTURE_CUTS", 4);
    let mut random: StdRng = plan::random(what);
    let begin = Instant::now();
    let mut done = 0;
    while done < cuts {
        let disk = Disk::make();
        let mut world = world(&disk);
        world.storm(random.random(), PACE);
        let round = ROUND.min(cuts - done);
        for _ in 0..round {
            std::thread::sleep(Duration::from_millis(random.random_range(5..1_000)));
            cut(&disk, &mut world);
        }
        done += round;
        let (_, verdict) = world.judge();
        println!("{what}: {done} cuts, {} s; {verdict:?}", begin.elapsed().as_secs());
        assert!(verdict.writes > round && verdict.exports > 0, "there was no load");
    }
}

#[test]
fn an_edge_has_all_that_it_acknowledged_when_the_power_goes() {
    let on = |disk: &Disk| {
        let mut stack = Stack::prepare(1);
        stack.place_edge(0, &disk.path().join("store"));
        World::start_on(stack)
    };
    rounds("power of the edge", on, |disk, world| {
        stop(world.stack.edge(0));
        let acked = world.acked(0);
        let copy = disk.cut();
        world.stack.edge(0).signal("CONT");
        let found = open_edge(&copy, &world.history);
        assert!(found >= acked, "invariant 6: {acked} was acknowledged, {found} is there");
    });
}

#[test]
fn a_control_plane_has_all_that_got_ok_when_the_power_goes() {
    let on = |disk: &Disk| {
        let mut stack = Stack::prepare(1);
        stack.place_control(&disk.path().join("log"));
        World::start_on(stack)
    };
    rounds("power of the control plane", on, |disk, world| {
        stop(world.stack.control());
        let answered = world.history.highest();
        let copy = disk.cut();
        world.stack.control().signal("CONT");
        let found = open_control(&copy, &world.history);
        assert!(found >= answered, "invariant 1: {answered} got OK, {found} is there");
    });
}
