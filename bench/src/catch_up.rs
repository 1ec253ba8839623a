//! Catch-up: an edge that has nothing takes a whole log; against bare sled with the same sets.

use std::time::{Duration, Instant};

use edgesync_core::change::ChangeSet;
use edgesync_proto::convert::decode_set;

use crate::{
    Failure,
    bare::Bare,
    edge::Bench,
    load::{Load, ZONE_CHANGES},
    source::Source,
    stats::Spread,
};

/// Changes that share a sync under backlog, at the edge and so in the bare store beside it.
pub const SYNC_CHANGES: usize = 4_096;

/// Measures both in turn, so that what the machine does meanwhile meets both.
pub async fn run(bench: &Bench, zones: u32) -> Result<(), Failure> {
    let changes = zones * ZONE_CHANGES;
    println!("\ncatch-up of {changes} changes, {zones} zones; changes a second, median (range)");
    let load = Load::zones(zones)?;
    let sets: Vec<ChangeSet> =
        load.sets.iter().map(|set| decode_set(set.body.clone())).collect::<Result<_, _>>()?;
    let source = Source::serve(load).await?;
    let (mut edges, mut bares, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    let mut each_synced = Vec::new();
    let (mut resident, mut octets) = (0, 0);
    for _ in 0..bench.runs {
        let bare = |sync_changes| -> Result<f64, Failure> {
            let dir = bench.fresh()?;
            tokio::task::block_in_place(|| {
                Bare::open(&dir.path().join("bare"))?.catch_up(&sets, sync_changes)
            })
        };
        each_synced.push(bare(1)?);
        let bare = bare(SYNC_CHANGES)?;
        let dir = bench.fresh()?;
        source.take_seen();
        let started = Instant::now();
        let edge = bench.edge(dir.path(), &source)?;
        source.all_acked(Duration::from_secs(600)).await?;
        let seen = source.take_seen();
        let began = seen.hello.unwrap_or(started);
        let rate = f64::from(changes) / began.elapsed().as_secs_f64();
        resident = resident.max(edge.resident()?);
        octets = seen.octets;
        edges.push(rate);
        bares.push(bare);
        ratios.push(rate / bare);
        source.forget();
    }
    println!("  bare sled, batches of 256, a sync each          {}", Spread::of(each_synced));
    println!("  bare sled, batches of 256, a sync for {SYNC_CHANGES}     {}", Spread::of(bares));
    println!("  edge, from Hello to the last ack (syncs as that) {}", Spread::of(edges));
    let ratio = Spread::of(ratios);
    println!(
        "  edge / bare with the same syncs (goal ≥ 0.9)    {:.2} ({:.2} … {:.2})",
        ratio.median, ratio.least, ratio.most
    );
    println!(
        "  on the wire                                     {:.1} octets a change (sets of {ZONE_CHANGES})",
        per(octets, changes)
    );
    println!(
        "  edge's resident memory at the end               {} MB (goal < 250)",
        resident / 1_000_000
    );
    Ok(())
}

#[allow(clippy::cast_precision_loss)]
fn per(octets: u64, changes: u32) -> f64 {
    octets as f64 / f64::from(changes)
}
