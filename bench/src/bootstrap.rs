//! An empty edge takes a snapshot of a large store while writes go on; beside the same writes while a bare
//! sled loads as much on the same machine.

use std::{
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use edgesync_core::change::ChangeSet;
use edgesync_proto::convert::decode_set;
use tokio::time::sleep;

use crate::{
    Failure,
    bare::Bare,
    caller::{Caller, Written},
    catch_up::SYNC_CHANGES,
    edge::{Bench, Process},
    load::{Load, ZONE_CHANGES},
    plane::Plane,
    stats::Spread,
};

/// Zones that the records are in, beside those that are written to.
const ZONES: u32 = 10;
/// How long anything may take.
const LIMIT: Duration = Duration::from_secs(600);

/// Figures of all runs.
#[derive(Default)]
struct Figures {
    took: Vec<f64>,
    edge_peak: Vec<f64>,
    control_peak: Vec<f64>,
    control_before: Vec<f64>,
    writes: [Vec<f64>; 3],
    bare_took: Vec<f64>,
    failed: usize,
}

/// Measures both in turn.
pub async fn run(bench: &Bench, records: u32, rate: u32) -> Result<(), Failure> {
    println!("\nbootstrap of an empty edge, {records} records, {rate} writes/s meanwhile");
    let mut plane = Plane::start(bench, &[])?;
    let mut caller = Caller::new(&plane.url()).await?;
    caller.zones(100).await?;
    let begin = Instant::now();
    for number in 0..ZONES {
        caller.import(&format!("bulk-{number}.example"), records / ZONES, 0).await?;
    }
    println!(
        "  imported in                                        {:.1} s",
        begin.elapsed().as_secs_f64()
    );
    caller.compact().await?;
    let mut figures = Figures::default();
    for run in 0..bench.runs {
        // A snapshot is made anew by each process, and the peak is of this run alone.
        plane.kill();
        plane.restart()?;
        caller = caller.connect_again(&plane.url()).await?;
        let calm = caller.load(rate, sleep(Duration::from_secs(8))).await?;
        figures.write(0, &calm);
        if run % 2 == 0 {
            beside_edge(bench, &plane, &mut caller, run, rate, &mut figures).await?;
            beside_bare(bench, &caller, records, rate, &mut figures).await?;
        } else {
            beside_bare(bench, &caller, records, rate, &mut figures).await?;
            beside_edge(bench, &plane, &mut caller, run, rate, &mut figures).await?;
        }
    }
    figures.print();
    Ok(())
}

impl Figures {
    fn write(&mut self, place: usize, written: &Written) {
        self.failed += written.failed;
        if let Some(writes) = self.writes.get_mut(place) {
            writes.push(written.latencies.quantile(0.99) / 1e3);
        }
    }

    fn print(self) {
        let [calm, edge, bare] = self.writes;
        let ratios = edge.iter().zip(&bare).map(|(edge, bare)| edge / bare).collect();
        let ratio = Spread::of(ratios);
        println!("  edge started → it has the head of then, s          {}", Spread::of(self.took));
        println!(
            "  edge's peak memory (goal < 300), MB                {}",
            Spread::of(self.edge_peak)
        );
        println!(
            "  control plane's memory before, MB                  {}",
            Spread::of(self.control_before)
        );
        println!(
            "  control plane's peak memory, MB                    {}",
            Spread::of(self.control_peak)
        );
        println!("  write p99, calm, ms                                {}", Spread::of(calm));
        println!("  write p99 beside the bootstrap, ms                 {}", Spread::of(edge));
        println!("  write p99 beside a bare sled load, ms              {}", Spread::of(bare));
        println!(
            "  the bare load took, s                              {}",
            Spread::of(self.bare_took)
        );
        println!(
            "  bootstrap / bare, pairs (goal ≤ 1.20)              {:.2} ({:.2} … {:.2})",
            ratio.median, ratio.least, ratio.most
        );
        println!("  writes that failed                                 {}", self.failed);
    }
}

async fn beside_edge(
    bench: &Bench,
    plane: &Plane,
    caller: &mut Caller,
    run: usize,
    rate: u32,
    figures: &mut Figures,
) -> Result<(), Failure> {
    let dir = bench.fresh()?;
    let id = format!("bootstrap-{run}");
    let head = caller.head().await?;
    figures.control_before.push(megabytes(plane.process()?.resident()?));
    let begin = Instant::now();
    let edge = bench.daemon(dir.path(), &id, &plane.url())?;
    let mut waiter = caller.clone();
    let (mut waited, mut took) = (Ok(()), Duration::ZERO);
    let bootstrapped = async {
        waited = waiter.wait_for_edge(&id, head, LIMIT).await;
        took = begin.elapsed();
    };
    let written = caller.load(rate, bootstrapped).await?;
    waited?;
    figures.took.push(took.as_secs_f64());
    figures.write(1, &written);
    figures.edge_peak.push(megabytes(edge.peak()?));
    figures.control_peak.push(megabytes(plane.process()?.peak()?));
    drop(edge);
    sleep(Duration::from_secs(2)).await;
    caller.forget(&id).await;
    Ok(())
}

async fn beside_bare(
    bench: &Bench,
    caller: &Caller,
    records: u32,
    rate: u32,
    figures: &mut Figures,
) -> Result<(), Failure> {
    let dir = bench.fresh()?;
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("bare-load").arg(dir.path().join("bare")).arg(records.to_string());
    let ready = dir.path().join("bare.ready");
    let done = dir.path().join("bare.done");
    let process = Process::spawn(&mut command)?;
    until_there(&ready).await?;
    let begin = Instant::now();
    let mut waited = Ok(());
    let loaded = async { waited = until_there(&done).await };
    let written = caller.load(rate, loaded).await?;
    waited?;
    drop(process);
    figures.bare_took.push(begin.elapsed().as_secs_f64());
    figures.write(2, &written);
    Ok(())
}

async fn until_there(file: &Path) -> Result<(), Failure> {
    let begin = Instant::now();
    while !file.exists() {
        if begin.elapsed() > LIMIT {
            return Err(format!("{} does not come", file.display()).into());
        }
        sleep(Duration::from_millis(10)).await;
    }
    Ok(())
}

/// The process that loads a bare sled: says by files beside the store when it begins and when it is done.
pub fn bare_load(dir: &Path, records: u32) -> Result<(), Failure> {
    let load = Load::zones(records.div_ceil(ZONE_CHANGES))?;
    let sets: Vec<ChangeSet> =
        load.sets.iter().map(|set| decode_set(set.body.clone())).collect::<Result<_, _>>()?;
    let mut bare = Bare::open(dir)?;
    std::fs::write(dir.with_extension("ready"), "")?;
    bare.catch_up(&sets, SYNC_CHANGES)?;
    std::fs::write(dir.with_extension("done"), "")?;
    sleep_for_ever();
    Ok(())
}

/// Until the process is ended, so that giving its memory back is not measured.
fn sleep_for_ever() {
    std::thread::sleep(LIMIT);
}

#[allow(clippy::cast_precision_loss)]
fn megabytes(octets: u64) -> f64 {
    octets as f64 / 1e6
}
