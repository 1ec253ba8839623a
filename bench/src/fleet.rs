//! A fleet of idle edges on one control plane: what a session costs in memory, and at idle in CPU; and
//! how long a change takes until all of them have it.

use std::time::{Duration, Instant};

use edgesync_tests::CrowdConfig;

use crate::{Failure, caller::Caller, crowd::Others, edge::Bench, plane::Plane, stats::Latencies};

/// Zones of the log: a second's sample has as many as it may.
const ZONES: u32 = 100;
/// How long idling is watched.
const IDLE: Duration = Duration::from_secs(20);
/// How long something may take at the most.
const LIMIT: Duration = Duration::from_secs(180);

/// Measures one fleet.
pub async fn run(bench: &Bench, edges: usize, writes: usize) -> Result<(), Failure> {
    println!("\nfleet: {edges} idle edges on one control plane, {ZONES} zones, heartbeats of 1 s");
    let environment = [("SESSIONS__MAX_SESSIONS", (edges + 100).to_string())];
    let plane = Plane::start(bench, &environment)?;
    let mut caller = Caller::new(&plane.url()).await?;
    caller.zones(ZONES).await?;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let process = plane.process()?;
    let (before, cpu_before) = (process.resident()?, process.cpu()?);
    let config = CrowdConfig {
        url: plane.url(),
        first: 0,
        edges,
        per_second: 450,
        longest_wait: Duration::from_secs(60),
        timed: false,
    };
    let crowd = Others::start(&config)?;
    let took = crowd.until_live(edges, LIMIT).await?;
    caller.wait_for_all(None, LIMIT).await?;
    tokio::time::sleep(Duration::from_secs(3)).await;
    let session = (process.resident()?.saturating_sub(before)) as f64 / edges as f64;
    let greeted = (process.cpu()? - cpu_before).as_secs_f64();
    println!("  all are there after                              {:.1} s", took.as_secs_f64());
    println!("  CPU until then, with {} changes to each    {greeted:.1} s", 5 * ZONES);
    println!("  control plane's memory, a session                {:.1} KiB", session / 1_024.0);
    let (cpu, at) = (process.cpu()?, Instant::now());
    tokio::time::sleep(IDLE).await;
    let cpu = (process.cpu()? - cpu).as_secs_f64() / at.elapsed().as_secs_f64();
    let (percent, each) = (cpu * 100.0, cpu * 1e6 / edges as f64);
    println!("  CPU at idle                                      {percent:.1} % of one core");
    println!("  a session's heartbeat, sample and answer         {each:.0} µs of CPU a second");
    let (mut answers, mut receipts) = (Latencies::new(), Latencies::new());
    let cpu_before = process.cpu()?;
    for number in 0..writes {
        let begin = Instant::now();
        let position = caller.edit(number).await?;
        answers.record(begin.elapsed());
        let answered = Instant::now();
        caller.wait_for_all(Some(position), LIMIT).await?;
        receipts.record(answered.elapsed());
    }
    let a_write = (process.cpu()? - cpu_before).as_secs_f64() * 1e3 / writes.max(1) as f64;
    let line = |of: &Latencies| {
        format!("p50 {:.1}  p99 {:.1}", of.quantile(0.5) / 1e3, of.quantile(0.99) / 1e3)
    };
    println!("  {writes} writes, one after the other, ms");
    println!("  sent → answered                                {}", line(&answers));
    println!("  answered → acked by all (receipt)              {}", line(&receipts));
    println!("  control plane's CPU, a write                   {a_write:.1} ms");
    let end = process.resident()? / 1_000_000;
    println!("  its memory at the end                            {end} MB");
    Ok(())
}
