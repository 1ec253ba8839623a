//! A storm of reconnects: the control plane is killed and started again with a whole fleet outside.

use std::time::{Duration, Instant};

use edgesync_tests::CrowdConfig;
use tokio::time::sleep;

use crate::{
    Failure,
    caller::{Caller, Written},
    crowd::Others,
    edge::Bench,
    plane::Plane,
};

/// Zones of the log.
const ZONES: u32 = 100;
/// Writes a second, each to all edges.
const RATE: u32 = 2;
/// How long the calm is watched.
const CALM: Duration = Duration::from_secs(30);
/// How long everything may take.
const LIMIT: Duration = Duration::from_secs(300);

/// Measures one storm.
pub async fn run(bench: &Bench, edges: usize) -> Result<(), Failure> {
    println!("\nstorm: {edges} edges, the control plane killed and started again, {RATE} writes/s");
    let environment = [("SESSIONS__MAX_SESSIONS", (edges + 100).to_string())];
    let mut plane = Plane::start(bench, &environment)?;
    let mut caller = Caller::new(&plane.url()).await?;
    caller.zones(ZONES).await?;
    let config = CrowdConfig {
        url: plane.url(),
        first: 0,
        edges,
        per_second: 450,
        longest_wait: Duration::from_secs(60),
        timed: false,
    };
    let crowd = Others::start(&config)?;
    crowd.until_live(edges, LIMIT).await?;
    caller.wait_for_all(None, LIMIT).await?;
    let calm = caller.load(RATE, sleep(CALM)).await?;
    println!("  write in the calm, due → answered, ms              {}", line(&calm));
    let tries = crowd.counts().tries;
    plane.kill();
    let killed = Instant::now();
    while crowd.counts().live > 0 {
        sleep(Duration::from_millis(10)).await;
    }
    plane.restart()?;
    let ready = Instant::now();
    println!(
        "  killed → ready again                               {:.1} s",
        (ready - killed).as_secs_f64()
    );
    // It takes calls from here on, each by a connection of its own.
    let again = caller.connect_again(&plane.url()).await?;
    let back = async {
        while crowd.counts().live < edges && ready.elapsed() < LIMIT {
            sleep(Duration::from_millis(50)).await;
        }
    };
    let storm = again.load(RATE, back).await?;
    let took = ready.elapsed();
    let there = crowd.counts();
    let cpu = plane.process()?.cpu()?.as_secs_f64();
    let retries = (there.tries - tries) as f64 / edges as f64;
    println!("  edges that are back                                {} of {edges}", there.live);
    println!("  ready → all are back (goal < 120 s)                {:.1} s", took.as_secs_f64());
    println!(
        "  control plane's CPU until then                     {cpu:.1} s, {:.2} ms an edge",
        cpu * 1e3 / edges as f64
    );
    println!("  tries, an edge                                     {retries:.2}");
    println!("  write in the storm, due → answered, ms             {}", line(&storm));
    caller.connect_again(&plane.url()).await?.wait_for_all(None, LIMIT).await?;
    let after = again.load(RATE, sleep(CALM)).await?;
    println!("  write after it, due → answered, ms                 {}", line(&after));
    println!(
        "  all have the head; memory                          {} MB",
        plane.process()?.resident()? / 1_000_000
    );
    Ok(())
}

fn line(written: &Written) -> String {
    let Written { latencies, answered, failed } = written;
    let at = |quantile| latencies.quantile(quantile) / 1e3;
    let (count, p50, p99) = (answered.len(), at(0.5), at(0.99));
    format!("p50 {p50:.0}  p99 {p99:.0}  ({count} writes, {failed} failed)")
}
