//! Live latency: from sent to durable ack under a steady load; against a bare durable write under
//! the same arrivals, plus an empty stream.

use std::{
    sync::mpsc,
    time::{Duration, Instant},
};

use edgesync_proto::convert::decode_set;

use crate::{
    Failure,
    bare::{self, Bare},
    catch_up::SYNC_CHANGES,
    edge::Bench,
    load::Load,
    source::{Seen, Source},
    stats::{Latencies, Spread},
};

/// Zones under the load.
const ZONES: u32 = 1_000;

/// Measures the edge, the bare store and the empty stream in turn.
pub async fn run(bench: &Bench, rate: u32, time: Duration) -> Result<(), Failure> {
    println!("\nlive, {rate} change sets a second for {} s; µs, median (range)", time.as_secs());
    let raw = bare::raw_sync(&bench.dir, 500)?;
    let mut figures: [Vec<f64>; 8] = Default::default();
    let mut octets = 0.0;
    for _ in 0..bench.runs {
        let bare = tokio::task::block_in_place(|| bare_run(bench, rate, time))?;
        let (echo, _) = stream_run(bench, rate, time, false).await?;
        let (edge, wire) = stream_run(bench, rate, time, true).await?;
        octets = wire;
        let limit = bare.quantile(0.5) + echo.quantile(0.5);
        let run = [
            bare.quantile(0.5),
            echo.quantile(0.5),
            edge.quantile(0.5),
            edge.quantile(0.99),
            edge.quantile(0.999),
            edge.quantile(0.5) / limit,
            bare.quantile(0.99),
            echo.quantile(0.99),
        ];
        figures.iter_mut().zip(run).for_each(|(all, one)| all.push(one));
    }
    let [bare50, echo50, edge50, edge99, edge999, ratio, bare99, echo99] = figures.map(Spread::of);
    println!("  raw fdatasync, 4 octets              {}", raw.as_micros());
    println!("  bare sled, same arrivals       p50   {bare50}");
    println!("                                 p99   {bare99}");
    println!("  empty stream                   p50   {echo50}");
    println!("                                 p99   {echo99}");
    println!("  edge, sent to durable ack      p50   {edge50}");
    println!("                                 p99   {edge99}");
    println!("                                 p99.9 {edge999}");
    println!(
        "  p50 / (bare + empty) (goal ≤ 1.3)    {:.2} ({:.2} … {:.2})",
        ratio.median, ratio.least, ratio.most
    );
    println!("  on the wire                          {octets:.1} octets a change (sets of 1)");
    Ok(())
}

/// Calls `each` at a steady rate.
fn paced(
    rate: u32,
    time: Duration,
    mut each: impl FnMut(u32) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let (started, every) = (Instant::now(), Duration::from_secs(1) / rate);
    for number in 0.. {
        let due = every * number;
        if due >= time {
            break;
        }
        let due = started + due;
        if let Some(wait) = due.checked_duration_since(Instant::now()) {
            std::thread::sleep(wait);
        }
        each(number)?;
    }
    Ok(())
}

fn bare_run(bench: &Bench, rate: u32, time: Duration) -> Result<Latencies, Failure> {
    let dir = bench.fresh()?;
    let mut load = Load::zones(ZONES)?;
    let mut sets = Vec::new();
    for set in &load.sets {
        sets.push(decode_set(set.body.clone())?);
    }
    let mut bare = Bare::open(&dir.path().join("bare"))?;
    bare.catch_up(&sets, SYNC_CHANGES)?;
    let (sender, arrivals) = mpsc::channel();
    let writer = std::thread::spawn(move || bare.live(&arrivals));
    paced(rate, time, |number| {
        let set = load.edit(ZONES, number)?;
        load.push(&set);
        Ok(sender.send((Instant::now(), set))?)
    })?;
    drop(sender);
    writer.join().map_err(|_| "the bare writer panicked")?
}

async fn stream_run(
    bench: &Bench,
    rate: u32,
    time: Duration,
    durable: bool,
) -> Result<(Latencies, f64), Failure> {
    let dir = bench.fresh()?;
    let source = Source::serve(Load::zones(ZONES)?).await?;
    let process = if durable { bench.edge(dir.path(), &source)? } else { bench.echo(&source)? };
    source.all_acked(Duration::from_secs(120)).await?;
    source.take_seen();
    let writer = source.clone();
    let paced = move || paced(rate, time, |number| writer.edit(ZONES, number));
    tokio::task::spawn_blocking(paced).await??;
    source.all_acked(Duration::from_secs(60)).await?;
    drop(process);
    let seen = source.take_seen();
    #[allow(clippy::cast_precision_loss)]
    let wire = seen.octets as f64 / seen.sent.len().max(1) as f64;
    Ok((latencies(&seen), wire))
}

/// From sent to the first ack that is not before it.
fn latencies(seen: &Seen) -> Latencies {
    let mut latencies = Latencies::new();
    let mut acks = seen.acks.iter().peekable();
    for (last, sent) in &seen.sent {
        while acks.next_if(|(acked, _)| acked < last).is_some() {}
        if let Some((_, at)) = acks.peek() {
            latencies.record(at.saturating_duration_since(*sent));
        }
    }
    latencies
}
