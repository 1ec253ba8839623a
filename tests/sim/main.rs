//! The real session machines over tonic in a simulated network: partitions, lost directions, crashes
//! of either side, on virtual time. A seed replays a run: `EDGESYNC_SIM_SEED=7`; how many are tried:
//! `EDGESYNC_SIM_SEEDS=10000` (500 by default).
//!
//! The stores are models, because sled has threads of its own: what is written is durable only after
//! a while, and a crash takes the rest away.

mod control;
mod edge;
mod model;
mod wire;

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use rand::{RngExt, SeedableRng, rngs::StdRng};

use self::model::{Disk, SimLog};

/// Virtual time with writes and faults, and then without.
const STORM: Duration = Duration::from_secs(20);
const CALM: Duration = Duration::from_secs(180);
const EDGES: [&str; 3] = ["edge-0", "edge-1", "edge-2"];
/// What takes how long in a storm.
const TIMES: Times = Times {
    pace: Duration::from_millis(37),
    tick: Duration::from_millis(5),
    back: Duration::from_millis(300),
};
/// The longest partition that is tried (F-22).
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

#[test]
fn whatever_the_network_does_every_edge_reaches_the_head_and_applies_each_set_once() {
    let number = |name: &str| std::env::var(name).ok().and_then(|value| value.parse::<u64>().ok());
    let seeds = match number("EDGESYNC_SIM_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("EDGESYNC_SIM_SEEDS").unwrap_or(500),
    };
    let count = seeds.end - seeds.start;
    let mut seen = Faults::default();
    for seed in seeds {
        let result = std::panic::catch_unwind(|| run(seed));
        match result {
            Ok(faults) => seen.add(&faults),
            Err(panic) => {
                eprintln!("replay with EDGESYNC_SIM_SEED={seed}");
                std::panic::resume_unwind(panic);
            }
        }
    }
    println!("{count} seeds: {seen:?}");
    if count >= 50 {
        // A simulation that had no faults would have shown nothing.
        assert!(seen.partitions > 0 && seen.crashes > 0 && seen.lost_writes > 0);
        assert!(seen.duplicates > 0, "no set was ever sent twice");
        assert!(seen.snapshots > 0 && seen.repairs > 0, "nothing was ever healed");
    }
}

/// What a run has seen, so that it shows when the faults do not happen.
#[derive(Debug, Default)]
struct Faults {
    partitions: u64,
    one_way: u64,
    crashes: u64,
    sets: u64,
    sessions: u64,
    duplicates: u64,
    lost_writes: u64,
    snapshots: u64,
    repairs: u64,
}

impl Faults {
    fn add(&mut self, other: &Self) {
        self.partitions += other.partitions;
        self.one_way += other.one_way;
        self.crashes += other.crashes;
        self.sets += other.sets;
        self.sessions += other.sessions;
        self.duplicates += other.duplicates;
        self.lost_writes += other.lost_writes;
        self.snapshots += other.snapshots;
        self.repairs += other.repairs;
    }
}

/// What takes how long.
struct Times {
    /// From one write to the next.
    pace: Duration,
    /// A step of the network.
    tick: Duration,
    /// The longest wait of an edge before it comes again.
    back: Duration,
}

/// A control plane, its edges, and what they have.
struct World<'a> {
    sim: turmoil::Sim<'a>,
    log: Arc<Mutex<SimLog>>,
    disks: Vec<Arc<Mutex<Disk>>>,
}

impl World<'_> {
    /// Writes go on until `storm`; the edges have `calm` then.
    fn start(
        seed: u64,
        edges: &[&'static str],
        (storm, calm): (Duration, Duration),
        times: &Times,
    ) -> Self {
        let mut sim = turmoil::Builder::new()
            .rng_seed(seed)
            .simulation_duration(storm + calm)
            .min_message_latency(Duration::from_millis(1))
            .max_message_latency(Duration::from_millis(30))
            .tick_duration(times.tick)
            .build();
        let log = Arc::new(Mutex::new(SimLog::new(seed)));
        let (host_log, pace, back) = (Arc::clone(&log), times.pace, times.back);
        sim.host("control", move || control::serve(Arc::clone(&host_log), storm, pace));
        let disks: Vec<_> = edges.iter().map(|_| Arc::new(Mutex::new(Disk::default()))).collect();
        for (name, disk) in edges.iter().zip(&disks) {
            let (disk, shelf) = (Arc::clone(disk), Arc::clone(&log));
            let name = *name;
            sim.host(name, move || edge::live(name, Arc::clone(&disk), Arc::clone(&shelf), back));
        }
        Self { sim, log, disks }
    }

    fn is_healed(&self, disk: &Disk) -> bool {
        let log = self.log.lock().unwrap();
        disk.durable() == Some(log.head()) && disk.written.len() as u64 == log.len()
    }

    /// Goes on until all edges have all (invariant 20), and judges what they have.
    fn heal(&mut self, until: Duration) {
        while self.disks.iter().any(|disk| !self.is_healed(&disk.lock().unwrap())) {
            let left: Vec<_> =
                self.disks.iter().map(|disk| disk.lock().unwrap().summary()).collect();
            let in_time = self.sim.elapsed() < until;
            let log = self.log.lock().unwrap();
            assert!(
                in_time,
                "invariant 20: head {}: {left:?}; panics: {:?}",
                log.head(),
                log.failures
            );
            drop(log);
            self.sim.step().unwrap();
        }
        let log = self.log.lock().unwrap();
        assert!(log.failures.is_empty(), "the control plane: {:?}", log.failures);
        for (edge, disk) in EDGES.iter().zip(&self.disks) {
            log.check_edge(edge, &disk.lock().unwrap());
        }
    }
}

fn run(seed: u64) -> Faults {
    let mut world = World::start(seed, &EDGES, (STORM, CALM), &TIMES);
    let mut faults = Faults::default();
    let mut rng = StdRng::seed_from_u64(seed);
    while world.sim.elapsed() < STORM {
        world.sim.step().unwrap();
        if rng.random_ratio(1, 150) {
            disturb(&mut world, &mut rng, &mut faults);
        }
    }
    for edge in EDGES {
        world.sim.repair("control", edge);
        if !world.sim.is_host_running(edge) {
            world.sim.bounce(edge);
        }
    }
    if !world.sim.is_host_running("control") {
        world.sim.bounce("control");
    }
    world.heal(STORM + CALM - Duration::from_secs(1));
    for disk in &world.disks {
        let disk = disk.lock().unwrap();
        faults.sessions += disk.sessions;
        faults.duplicates += disk.duplicates;
        faults.lost_writes += disk.lost;
        faults.snapshots += disk.installs - disk.repairs;
        faults.repairs += disk.repairs;
    }
    faults.sets += world.log.lock().unwrap().len();
    faults
}

/// F-22: an edge that was cut off for a day, while the log went on and was compacted, has all soon after.
#[test]
fn an_edge_that_was_cut_off_for_a_day_has_all_soon_after() {
    let (before, after) = (Duration::from_secs(60), Duration::from_secs(600));
    let (storm, pace) = (before + DAY + after, Duration::from_secs(60));
    // A minute is what an edge waits at the most unless it is told otherwise.
    let times = Times { pace, tick: Duration::from_millis(500), back: Duration::from_secs(60) };
    let mut world = World::start(1, &EDGES[..1], (storm, after), &times);
    let durable = |world: &World<'_>| {
        world.disks[0].lock().unwrap().durable().map_or(0, |position| position.offset.0)
    };
    let go_on = |world: &mut World<'_>, until| {
        while world.sim.elapsed() < until {
            world.sim.step().unwrap();
        }
    };
    go_on(&mut world, before + pace);
    world.sim.partition("control", EDGES[0]);
    let had = durable(&world);
    assert!(had > 0, "it had something before");
    go_on(&mut world, before + pace + DAY);
    assert!(durable(&world) <= had + 4, "it was cut off");
    world.sim.repair("control", EDGES[0]);
    let head = world.log.lock().unwrap().head().offset.0;
    assert!(head > had + 2_000, "the log went on");
    let repaired = world.sim.elapsed();
    while durable(&world) < head {
        let took = world.sim.elapsed() - repaired;
        assert!(took < Duration::from_secs(120), "{} of {head} after {took:?}", durable(&world));
        world.sim.step().unwrap();
    }
    println!("{head} changes; there {:?} after the day", world.sim.elapsed() - repaired);
    world.heal(storm + after - Duration::from_secs(1));
}

/// One fault, or the end of one.
fn disturb(world: &mut World<'_>, rng: &mut StdRng, faults: &mut Faults) {
    let World { sim, log, disks } = world;
    let place = rng.random_range(0..EDGES.len());
    let edge = EDGES[place];
    match rng.random_range(0..9) {
        0 | 1 => {
            sim.partition("control", edge);
            faults.partitions += 1;
        }
        2 => {
            sim.partition_oneway("control", edge);
            faults.one_way += 1;
        }
        3 => {
            sim.partition_oneway(edge, "control");
            faults.one_way += 1;
        }
        4 => {
            sim.crash(edge);
            disks[place].lock().unwrap().crash();
            log.lock().unwrap().check_acked(edge, &disks[place].lock().unwrap());
            sim.bounce(edge);
            faults.crashes += 1;
        }
        5 => {
            sim.crash("control");
            sim.bounce("control");
            faults.crashes += 1;
        }
        6 => disks[place].lock().unwrap().rot(),
        _ => EDGES.iter().for_each(|edge| sim.repair("control", *edge)),
    }
}
