//! One edge as the control plane sees it.

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, SystemTime},
};

use edgesync_core::{
    edge_id::EdgeId,
    position::{LogId, Offset, Position},
    session::{Halt, InstanceId, Pause},
};
use hdrhistogram::Histogram;
use tokio::sync::Notify;

/// Fenced processes that are remembered for one edge.
const FENCED_KEPT: usize = 16;
/// Microseconds of the longest latency that is told apart: an hour.
const LATENCY_MICROS: u64 = 3_600_000_000;
/// Digits to which latencies are kept.
const LATENCY_DIGITS: u8 = 2;

/// What an edge is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EdgeState {
    /// Has no session.
    Disconnected,
    /// Has a session and is behind the head.
    CatchingUp,
    /// Has a session and every released change.
    Current,
    /// Refused a change set, and waits for a person.
    Halted,
    /// Was sent what takes too much away, and waits for a person.
    Held,
    /// Takes a snapshot.
    Snapshot,
}

impl EdgeState {
    /// All states, with their names in metrics.
    pub const ALL: [(Self, &'static str); 6] = [
        (Self::Disconnected, "disconnected"),
        (Self::CatchingUp, "catching_up"),
        (Self::Current, "current"),
        (Self::Halted, "halted"),
        (Self::Held, "held"),
        (Self::Snapshot, "snapshot"),
    ];
}

/// How far an edge is with a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// The offset that the snapshot shows.
    pub offset: Offset,
    /// Chunks that are durable at the edge.
    pub done: u32,
    /// Chunks of the snapshot.
    pub chunks: u32,
    /// True if it is of one zone that has drifted.
    pub repair: bool,
}

/// Times from durable at the control plane to acknowledged by the edge, in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LatencySummary {
    /// Number of change sets measured.
    pub count: u64,
    /// Median.
    pub p50: u64,
    /// 99th percentile.
    pub p99: u64,
    /// 99.9th percentile.
    pub p999: u64,
    /// Largest.
    pub max: u64,
}

/// An edge at one moment.
#[derive(Clone, Debug)]
pub struct EdgeView {
    /// Its id.
    pub id: EdgeId,
    /// What it is doing.
    pub state: EdgeState,
    /// The last position that it has acknowledged, or greeted with.
    pub durable: Option<Position>,
    /// Changes between that and the head.
    pub lag_changes: u64,
    /// Age of the oldest change that is not durable there.
    pub lag: Duration,
    /// Changes acknowledged since the control plane started.
    pub acked_changes: u64,
    /// Offset from which the present or last session resumed.
    pub resumed_from: Offset,
    /// Sessions since the control plane started.
    pub sessions: u64,
    /// When the present session began, or the last one ended.
    pub since: SystemTime,
    /// Version of its software.
    pub version: String,
    /// Address that it is connected from.
    pub address: String,
    /// Why it is halted or paused, if it is.
    pub reason: String,
    /// Its latencies.
    pub latency: LatencySummary,
    /// The snapshot that it takes, if it does.
    pub snapshot: Option<Progress>,
    /// Repairs of its zones since the control plane started.
    pub repairs: u64,
}

/// A session in place.
#[derive(Debug)]
pub(super) struct Live {
    pub(super) session: u64,
    pub(super) instance: InstanceId,
    pub(super) fenced: Arc<Notify>,
    pub(super) resumed_from: Offset,
    pub(super) address: String,
    pub(super) version: String,
}

/// What is kept of an edge.
pub(super) struct Edge {
    pub(super) durable: Option<Position>,
    pub(super) acked_changes: u64,
    pub(super) live: Option<Live>,
    pub(super) since: SystemTime,
    pub(super) halted: Option<Halt>,
    /// Why it applies nothing for now, as its present session says.
    pub(super) paused: Option<Pause>,
    pub(super) snapshot: Option<Progress>,
    pub(super) repairs: u64,
    /// True if the store's memory of it is older than this.
    pub(super) dirty: bool,
    fenced: VecDeque<InstanceId>,
    sessions: u64,
    resumed_from: Offset,
    latency: Option<Histogram<u32>>,
}

impl Edge {
    /// An edge of which only the position is known.
    pub(super) fn remembered(durable: Option<Position>) -> Self {
        Self {
            durable,
            acked_changes: 0,
            live: None,
            since: SystemTime::now(),
            halted: None,
            paused: None,
            snapshot: None,
            repairs: 0,
            dirty: false,
            fenced: VecDeque::new(),
            sessions: 0,
            resumed_from: Offset::ZERO,
            latency: None,
        }
    }

    /// True if a process was fenced, and the one that fenced it lives: it does not fence back (rule 22).
    pub(super) fn is_fenced_out(&self, instance: &InstanceId) -> bool {
        let other = self.live.as_ref().is_some_and(|live| live.instance != *instance);
        other && self.fenced.contains(instance)
    }

    /// Seats a session in the place of the one that there is.
    pub(super) fn seat(&mut self, live: Live) {
        if let Some(before) = &self.live {
            if before.instance != live.instance {
                self.fenced.push_back(before.instance);
                if self.fenced.len() > FENCED_KEPT {
                    self.fenced.pop_front();
                }
                metrics::counter!("edgesync_control_fenced_total").increment(1);
            }
            before.fenced.notify_one();
        }
        self.sessions += 1;
        self.since = SystemTime::now();
        self.resumed_from = live.resumed_from;
        (self.halted, self.snapshot, self.paused) = (None, None, None);
        self.live = Some(live);
    }

    pub(super) fn observe(&mut self, latency: Duration) {
        let micros = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
        let empty = || Histogram::new(LATENCY_DIGITS).ok();
        if self.latency.is_none() {
            self.latency = empty();
        }
        if let Some(histogram) = &mut self.latency {
            // It grows as it must; `saturating_record` would not let it.
            let _ = histogram.record(micros.min(LATENCY_MICROS));
        }
    }

    /// True if everything up to an offset of a log is durable there.
    pub(super) fn has(&self, log: LogId, offset: Offset) -> bool {
        let durable = self.durable.filter(|durable| durable.log == log);
        durable.is_some_and(|durable| durable.offset >= offset)
    }

    /// True if waiting for it is vain for now: until a person has looked, as a rule (rule 21).
    pub(super) fn stands_still(&self) -> bool {
        let is_frozen = self.paused.as_ref().is_some_and(|pause| pause.is_frozen);
        self.live.is_some() && (self.halted.is_some() || is_frozen)
    }

    /// Why it does not go on: one line.
    fn reason(&self) -> String {
        let halted = self.halted.as_ref().map(reason);
        let paused = || self.paused.as_ref().map(|pause| format!("paused: {}", pause.why));
        halted.or_else(paused).unwrap_or_default()
    }

    /// How it is, with its latencies.
    pub(super) fn whole_view(&self, id: &EdgeId, head: Position) -> EdgeView {
        let latency = self.latency.as_ref().map(summary).unwrap_or_default();
        EdgeView { latency, ..self.view(id, head) }
    }

    /// How it is, without its latencies.
    pub(super) fn view(&self, id: &EdgeId, head: Position) -> EdgeView {
        let durable = self.durable.filter(|durable| durable.log == head.log);
        let offset = durable.map_or(Offset::ZERO, |durable| durable.offset);
        let lag_changes = head.offset.since(offset);
        let state = match (&self.live, &self.halted) {
            (None, _) => EdgeState::Disconnected,
            (_, Some(halt)) if halt.held => EdgeState::Held,
            (_, Some(_)) => EdgeState::Halted,
            _ if self.snapshot.is_some_and(|snapshot| !snapshot.repair) => EdgeState::Snapshot,
            _ if lag_changes > 0 => EdgeState::CatchingUp,
            _ => EdgeState::Current,
        };
        let live = self.live.as_ref();
        EdgeView {
            id: id.clone(),
            state,
            durable,
            lag_changes,
            lag: Duration::ZERO,
            acked_changes: self.acked_changes,
            resumed_from: self.resumed_from,
            sessions: self.sessions,
            since: self.since,
            version: live.map(|live| live.version.clone()).unwrap_or_default(),
            address: live.map(|live| live.address.clone()).unwrap_or_default(),
            reason: self.reason(),
            snapshot: self.snapshot,
            repairs: self.repairs,
            latency: LatencySummary::default(),
        }
    }
}

fn reason(halt: &Halt) -> String {
    let Halt { first, last, reason, .. } = halt;
    format!("offsets {first} to {last}: {reason}")
}

fn summary(histogram: &Histogram<u32>) -> LatencySummary {
    LatencySummary {
        count: histogram.len(),
        p50: histogram.value_at_quantile(0.5),
        p99: histogram.value_at_quantile(0.99),
        p999: histogram.value_at_quantile(0.999),
        max: histogram.max(),
    }
}
