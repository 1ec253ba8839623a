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

fn run(seed: u64) -> Faults {
    let mut sim = turmoil::Builder::new()
        .rng_seed(seed)
        .simulation_duration(STORM + CALM)
        .min_message_latency(Duration::from_millis(1))
        .max_message_latency(Duration::from_millis(30))
        .tick_duration(Duration::from_millis(5))
        .build();
    let log = Arc::new(Mutex::new(SimLog::new(seed)));
    let host_log = Arc::clone(&log);
    sim.host("control", move || control::serve(Arc::clone(&host_log), STORM));
    let disks: Vec<_> = EDGES.iter().map(|_| Arc::new(Mutex::new(Disk::default()))).collect();
    for (name, disk) in EDGES.iter().zip(&disks) {
        let (disk, shelf) = (Arc::clone(disk), Arc::clone(&log));
        sim.host(*name, move || edge::live(name, Arc::clone(&disk), Arc::clone(&shelf)));
    }
    let mut faults = Faults::default();
    let mut rng = StdRng::seed_from_u64(seed);
    while sim.elapsed() < STORM {
        sim.step().unwrap();
        if rng.random_ratio(1, 150) {
            disturb(&mut sim, &mut rng, &disks, &mut faults);
        }
    }
    for edge in EDGES {
        sim.repair("control", edge);
        if !sim.is_host_running(edge) {
            sim.bounce(edge);
        }
    }
    if !sim.is_host_running("control") {
        sim.bounce("control");
    }
    let head = |log: &Mutex<SimLog>| log.lock().unwrap().head();
    let healed = |disk: &Disk| {
        disk.durable() == Some(head(&log)) && disk.written.len() as u64 == log.lock().unwrap().len()
    };
    while disks.iter().any(|disk| !healed(&disk.lock().unwrap())) {
        let left: Vec<_> = disks.iter().map(|disk| disk.lock().unwrap().summary()).collect();
        let in_time = sim.elapsed() < STORM + CALM - Duration::from_secs(1);
        assert!(in_time, "invariant 20: seed {seed}, head {}: {left:?}", head(&log));
        sim.step().unwrap();
    }
    for disk in &disks {
        let disk = disk.lock().unwrap();
        log.lock().unwrap().check_edge(&disk);
        faults.sessions += disk.sessions;
        faults.duplicates += disk.duplicates;
        faults.lost_writes += disk.lost;
        faults.snapshots += disk.installs - disk.repairs;
        faults.repairs += disk.repairs;
    }
    faults.sets += log.lock().unwrap().len();
    faults
}

/// One fault, or the end of one.
fn disturb(
    sim: &mut turmoil::Sim<'_>,
    rng: &mut StdRng,
    disks: &[Arc<Mutex<Disk>>],
    faults: &mut Faults,
) {
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
