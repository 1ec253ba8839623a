//! What the daemon tells Prometheus. All names, helps and units stand here; a name or a zone is
//! never a label. Without a recorder nothing here does anything.

use std::time::{Duration, Instant};

use edgesync_core::{snapshot::Scope, spike::SpikeWatch};
use metrics::{
    Counter, Gauge, Histogram, Unit, counter, describe_counter, describe_gauge, describe_histogram,
    gauge, histogram,
};

use crate::{
    status::{LinkState, Status},
    store::{Distrust, Totals},
};

/// Why a session ended: the values of the label of `reconnects_total`.
pub const RECONNECT_REASONS: [&str; 4] = ["connect", "stream", "session", "fenced"];

/// What the store's writes and syncs take.
#[derive(Clone)]
pub struct StoreMetrics {
    /// Writing one batch, in seconds.
    pub write: Histogram,
    /// Making what was written durable, in seconds.
    pub sync: Histogram,
}

impl Default for StoreMetrics {
    fn default() -> Self {
        Self { write: Histogram::noop(), sync: Histogram::noop() }
    }
}

impl StoreMetrics {
    /// Those of the process's recorder.
    #[must_use]
    pub fn new() -> Self {
        describe_histogram!(WRITE, Unit::Seconds, "Time to write one batch to the store.");
        describe_histogram!(SYNC, Unit::Seconds, "Time to make written batches durable.");
        Self { write: histogram!(WRITE), sync: histogram!(SYNC) }
    }
}

impl std::fmt::Debug for StoreMetrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("StoreMetrics")
    }
}

const WRITE: &str = "edgesync_edge_store_write_seconds";
const SYNC: &str = "edgesync_edge_store_sync_seconds";

/// What the apply thread tells.
pub struct ApplyMetrics {
    latency: Histogram,
    group: Histogram,
    sets: Counter,
    changes: Counter,
    spikes: Spikes,
}

impl std::fmt::Debug for ApplyMetrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ApplyMetrics")
    }
}

impl ApplyMetrics {
    /// Those of the process's recorder.
    #[must_use]
    pub fn new() -> Self {
        const LATENCY: &str = "edgesync_edge_receive_to_durable_seconds";
        const GROUP: &str = "edgesync_edge_group_changes";
        const SETS: &str = "edgesync_edge_applied_change_sets_total";
        const CHANGES: &str = "edgesync_edge_applied_changes_total";
        let help = "Time from the receipt of a change set to its being durable.";
        describe_histogram!(LATENCY, Unit::Seconds, help);
        describe_histogram!(GROUP, Unit::Count, "Changes made durable by one sync.");
        describe_counter!(SETS, Unit::Count, "Change sets applied and durable.");
        describe_counter!(CHANGES, Unit::Count, "Changes applied and durable.");
        Self {
            latency: histogram!(LATENCY),
            group: histogram!(GROUP),
            sets: counter!(SETS),
            changes: counter!(CHANGES),
            spikes: Spikes::new(),
        }
    }

    /// A group is durable: the receipts of its sets, and the number of their changes.
    pub fn durable(&mut self, receipts: &[Instant], changes: u64, now: Instant) {
        for together in receipts.chunk_by(|a, b| a == b) {
            let Some(receipt) = together.first() else { continue };
            let latency = now.saturating_duration_since(*receipt);
            self.latency.record_many(latency, together.len());
            self.spikes.take(latency, now);
        }
        self.group.record(u32::try_from(changes).unwrap_or(u32::MAX));
        self.sets.increment(receipts.len() as u64);
        self.changes.increment(changes);
    }

    /// Tells the worst of the last minute.
    pub fn tell(&self, now: Instant) {
        self.spikes.tell(now);
    }
}

impl Default for ApplyMetrics {
    fn default() -> Self {
        Self::new()
    }
}

/// Latencies that stand out, and the worst of the last minute, as Prometheus gets them.
struct Spikes {
    watch: SpikeWatch,
    count: Counter,
    worst: Gauge,
}

impl Spikes {
    fn new() -> Self {
        const COUNT: &str = "edgesync_edge_receive_to_durable_spikes_total";
        const WORST: &str = "edgesync_edge_receive_to_durable_worst_seconds";
        let help = "Change sets that took over 10 times the running median, and over 5 ms.";
        describe_counter!(COUNT, Unit::Count, help);
        let help = "Longest time from receipt to durable in the last minute.";
        describe_gauge!(WORST, Unit::Seconds, help);
        let watch = SpikeWatch::new(Instant::now());
        Self { watch, count: counter!(COUNT), worst: gauge!(WORST) }
    }

    fn take(&mut self, latency: Duration, now: Instant) {
        self.count.increment(u64::from(self.watch.observe(latency, now)));
    }

    fn tell(&self, now: Instant) {
        self.worst.set(self.watch.worst(now));
    }
}

/// What the session and the store tell of how things stand.
pub struct StateMetrics {
    head: Gauge,
    position: Gauge,
    lag_changes: Gauge,
    lag_seconds: Gauge,
    states: Vec<(LinkState, Gauge)>,
    reconnects: Vec<(&'static str, Counter)>,
    received: Counter,
    duplicates: Counter,
    resumed_from: Gauge,
    zones: Gauge,
    records: Gauge,
    size: Gauge,
    epoch: Gauge,
    halted: Gauge,
    held: Gauge,
    paused: Gauge,
    frozen: Gauge,
    healing: Healing,
}

/// What the session tells of snapshots and drift.
struct Healing {
    diverged: Counter,
    drifts: Counter,
    to_be_mended: Gauge,
    snapshots: Counter,
    rejected: Counter,
    repairs: Counter,
    chunks_done: Gauge,
    chunks: Gauge,
}

impl Healing {
    fn new() -> Self {
        Self {
            diverged: counted(
                "edgesync_edge_diverged_total",
                "Sessions that found another history at the control plane than in the store.",
            ),
            drifts: counted(
                "edgesync_edge_digest_mismatches_total",
                "Zones found not to be what the control plane said, or their records not what the store \
                 said; once for each until it is mended.",
            ),
            to_be_mended: described(
                "edgesync_edge_zones_to_be_mended",
                Unit::Count,
                "Zones that have drifted and are not mended yet; a zone is mended once in ten minutes at \
                 the most.",
            ),
            snapshots: counted(
                "edgesync_edge_snapshots_total",
                "Snapshots that took the place of all there was.",
            ),
            rejected: counted(
                "edgesync_edge_snapshots_rejected_total",
                "Snapshots thrown away because they were not what they said.",
            ),
            repairs: counted("edgesync_edge_repairs_total", "Zones replaced by their snapshots."),
            chunks_done: described(
                "edgesync_edge_snapshot_chunks_done",
                Unit::Count,
                "Chunks that are durable here of the snapshot that is taken, or was last.",
            ),
            chunks: described(
                "edgesync_edge_snapshot_chunks",
                Unit::Count,
                "Chunks of the snapshot that is taken, or was last.",
            ),
        }
    }
}

impl std::fmt::Debug for StateMetrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("StateMetrics")
    }
}

/// A gauge with its help.
fn described(name: &'static str, unit: Unit, help: &'static str) -> Gauge {
    describe_gauge!(name, unit, help);
    gauge!(name)
}

/// A counter with its help.
fn counted(name: &'static str, help: &'static str) -> Counter {
    describe_counter!(name, Unit::Count, help);
    counter!(name)
}

/// A gauge for each state of the session.
fn states() -> Vec<(LinkState, Gauge)> {
    const NAME: &str = "edgesync_edge_session_state";
    let help = "1 for the state that the session is in, 0 for the others.";
    describe_gauge!(NAME, Unit::Count, help);
    let of = |state: LinkState| (state, gauge!(NAME, "state" => state.label()));
    LinkState::ALL.into_iter().map(of).collect()
}

/// A counter for each reason of [`RECONNECT_REASONS`].
fn reconnects() -> Vec<(&'static str, Counter)> {
    const NAME: &str = "edgesync_edge_reconnects_total";
    let help = "Sessions and tries to connect that ended: without a connection, by the stream, by \
                what was said in the session, or because another process has this edge's id.";
    describe_counter!(NAME, Unit::Count, help);
    let of = |reason| (reason, counter!(NAME, "reason" => reason));
    RECONNECT_REASONS.into_iter().map(of).collect()
}

/// A number as a gauge takes it: exact up to 2^53.
#[allow(clippy::cast_precision_loss)]
const fn approximately(number: u64) -> f64 {
    number as f64
}

impl StateMetrics {
    /// Those of the process's recorder.
    #[must_use]
    pub fn new() -> Self {
        use Unit::{Bytes, Count, Seconds};
        Self {
            head: described(
                "edgesync_edge_head",
                Count,
                "Offset of the control plane's head, as last heard.",
            ),
            position: described(
                "edgesync_edge_position",
                Count,
                "Offset that is durable in the store.",
            ),
            lag_changes: described(
                "edgesync_edge_lag_changes",
                Count,
                "Changes from the durable offset to the head, as last heard.",
            ),
            lag_seconds: described(
                "edgesync_edge_lag_seconds",
                Seconds,
                "Age of the oldest change that is received and not durable; 0 if there is none.",
            ),
            states: states(),
            reconnects: reconnects(),
            received: counted(
                "edgesync_edge_received_changes_total",
                "Changes received that the store had not.",
            ),
            duplicates: counted(
                "edgesync_edge_duplicate_changes_total",
                "Changes received that the store had already; they have no effect.",
            ),
            resumed_from: described(
                "edgesync_edge_resumed_from_offset",
                Count,
                "Offset that the last session began from.",
            ),
            zones: described("edgesync_edge_zones", Count, "Zones that the store serves."),
            records: described("edgesync_edge_records", Count, "Records that the store serves."),
            size: described("edgesync_edge_store_bytes", Bytes, "Size of the store on disk."),
            epoch: described(
                "edgesync_edge_boot_epoch",
                Count,
                "How often a store has been opened here.",
            ),
            halted: described(
                "edgesync_edge_halted",
                Count,
                "1 if the edge has halted before a change set, or its store has failed.",
            ),
            held: described(
                "edgesync_edge_held",
                Count,
                "1 if the edge waits for a person to confirm what takes too much away.",
            ),
            paused: described(
                "edgesync_edge_paused",
                Count,
                "1 while nothing is applied, because the disk is full, the store waits to be opened again, or \
                 the edge is frozen.",
            ),
            frozen: described(
                "edgesync_edge_frozen",
                Count,
                "1 while nothing is applied because of the freeze file.",
            ),
            healing: Healing::new(),
        }
    }

    /// A session, or a try, has ended.
    pub fn reconnect(&self, reason: &str) {
        for (_, count) in self.reconnects.iter().filter(|(known, _)| *known == reason) {
            count.increment(1);
        }
    }

    /// Changes were received.
    pub fn received(&self, changes: u64) {
        self.received.increment(changes);
    }

    /// The control plane's history is another one.
    pub fn diverged(&self) {
        self.healing.diverged.increment(1);
    }

    /// A zone differs.
    pub fn drift(&self) {
        self.healing.drifts.increment(1);
    }

    /// So many chunks of a snapshot are there.
    pub fn snapshot(&self, done: u32, chunks: u32) {
        self.healing.chunks_done.set(done);
        self.healing.chunks.set(chunks);
    }

    /// A snapshot is in place.
    pub fn installed(&self, scope: &Scope) {
        let Healing { snapshots, repairs, .. } = &self.healing;
        let count = if *scope == Scope::Store { snapshots } else { repairs };
        count.increment(1);
    }

    /// A snapshot was thrown away.
    pub fn rejected(&self) {
        self.healing.rejected.increment(1);
    }

    /// A session goes on from an offset.
    pub fn resumed_from(&self, offset: u64) {
        self.resumed_from.set(approximately(offset));
    }

    /// Octets of the store on disk.
    pub fn size(&self, octets: u64) {
        self.size.set(approximately(octets));
    }

    /// How things stand.
    pub fn tell(&self, status: &Status, totals: Totals, now: Instant) {
        let durable = status.durable.map_or(0, |position| position.offset.0);
        self.head.set(approximately(status.head.0));
        self.position.set(approximately(durable));
        self.lag_changes.set(approximately(status.head.0.saturating_sub(durable)));
        let oldest = status.oldest_received.map(|oldest| now.saturating_duration_since(oldest));
        self.lag_seconds.set(oldest.unwrap_or_default());
        for (state, gauge) in &self.states {
            gauge.set(if *state == status.link { 1.0 } else { 0.0 });
        }
        self.duplicates.absolute(status.duplicate_changes);
        self.zones.set(approximately(totals.zones));
        self.records.set(approximately(totals.records));
        self.epoch.set(approximately(status.boot_epoch));
        self.healing.to_be_mended.set(approximately(status.to_be_mended));
        let flag = |is: bool| if is { 1.0 } else { 0.0 };
        let held = status.halted.as_ref().is_some_and(|halt| halt.held);
        let halted = status.failed.is_some() || (status.halted.is_some() && !held);
        self.halted.set(flag(halted));
        self.held.set(flag(held));
        self.paused.set(flag(status.paused.is_some()));
        self.frozen.set(flag(status.paused.as_ref().is_some_and(|paused| paused.is_frozen)));
    }
}

impl Default for StateMetrics {
    fn default() -> Self {
        Self::new()
    }
}

const QUARANTINES: &str = "edgesync_edge_quarantines_total";
const READ_FAILURES: &str = "edgesync_edge_read_failures_total";
const RELOADS: &str = "edgesync_edge_config_reloads_total";

/// Describes what is counted by the functions below, and begins it at 0.
pub fn begin() {
    let help = "Stores put aside because they could not be trusted, by why.";
    describe_counter!(QUARANTINES, Unit::Count, help);
    let help = "Lookups, exports and zones of a verification that the store could not read.";
    describe_counter!(READ_FAILURES, Unit::Count, help);
    counter!(READ_FAILURES).increment(0);
    describe_counter!(RELOADS, Unit::Count, "Times that the configuration was read again.");
    Distrust::LABELS
        .iter()
        .for_each(|reason| counter!(QUARANTINES, "reason" => *reason).increment(0));
    ["ok", "error"].iter().for_each(|result| counter!(RELOADS, "result" => *result).increment(0));
}

/// A store was put aside; `reason` is a [`Distrust::label`].
pub fn quarantined(reason: &'static str) {
    counter!(QUARANTINES, "reason" => reason).increment(1);
}

/// The store could not be read.
pub fn read_failed() {
    counter!(READ_FAILURES).increment(1);
}

/// The configuration was read again; `result` is `ok` or `error`.
pub fn reloaded(result: &'static str) {
    counter!(RELOADS, "result" => result).increment(1);
}
