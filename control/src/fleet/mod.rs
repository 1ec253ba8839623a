//! Station 7, the fleet: what each edge has said is durable, and who waits for it. The receipt
//! ("offset N is durable on these edges") is answered here.

mod admission;
mod edge;
mod keeper;
mod receipt;
mod waits;

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant, SystemTime},
};

pub use admission::AdmissionConfig;
pub use edge::{EdgeState, EdgeView, LatencySummary, Progress};
use edgesync_core::{
    edge_id::EdgeId,
    limits::FENCED_WAIT,
    position::{Offset, Position},
    session::{Ack, Halt, Hello, Pause},
};
pub use receipt::{WaitEnd, WaitError, Waited, Wanted};
use tokio::sync::{Notify, watch};

use self::{
    admission::Admission,
    edge::{Edge, Live},
    waits::Waits,
};
use crate::log::{FleetRow, Log};

/// Offsets for which a look at the fleet reads the log.
const LAGS_READ: usize = 64;

/// A handle on the fleet. Cheap to clone.
#[derive(Clone)]
pub struct Fleet {
    shared: Arc<Shared>,
}

struct Shared {
    log: Log,
    edges: Mutex<Edges>,
    changed: watch::Sender<u64>,
}

struct Edges {
    by_id: BTreeMap<EdgeId, Edge>,
    next_session: u64,
    live: usize,
    admission: Admission,
    waits: Waits,
}

/// A session of an edge, while it is the one that counts.
#[derive(Clone, Debug)]
pub struct Seat {
    edge: EdgeId,
    session: u64,
    /// Told when a newer process has taken the edge id.
    pub fenced: Arc<Notify>,
}

impl std::fmt::Display for Seat {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.edge.fmt(f)
    }
}

/// Why a session is not admitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotAdmitted {
    /// This process was fenced, and the one that fenced it lives (rule 22).
    #[error("a newer process has this edge id: stop one of the two, or give one another --edge-id")]
    Fenced,
    /// There are as many sessions as may be.
    #[error("there are as many sessions as may be: raise sessions.max_sessions")]
    Full {
        /// When to come back.
        retry_after: Duration,
    },
    /// More sessions want to begin than may.
    #[error("many edges come back at once: this edge's turn comes")]
    Rate {
        /// When that is.
        retry_after: Duration,
    },
}

impl NotAdmitted {
    /// How long the edge is to stay away.
    #[must_use]
    pub const fn retry_after(self) -> Duration {
        match self {
            Self::Fenced => FENCED_WAIT,
            Self::Full { retry_after } | Self::Rate { retry_after } => retry_after,
        }
    }

    /// One word for metrics.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Fenced => "fenced",
            Self::Full { .. } => "full",
            Self::Rate { .. } => "rate",
        }
    }
}

/// Why an edge is not forgotten.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ForgetError {
    /// There is no such edge.
    #[error("there is no edge {0}: `edgesync fleet` lists them")]
    Unknown(EdgeId),
    /// It has a session.
    #[error("edge {0} is connected: stop its daemon first")]
    Connected(EdgeId),
}

impl Fleet {
    /// The fleet as the log's store remembers it, all edges disconnected.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub fn open(log: Log, admission: AdmissionConfig) -> Result<Self, redb::Error> {
        let admission = Admission::new(admission, Instant::now());
        let (by_id, waits) = (BTreeMap::new(), Waits::default());
        let mut edges = Edges { by_id, next_session: 0, live: 0, admission, waits };
        for FleetRow { edge, durable } in log.view()?.fleet()? {
            if let Ok(id) = edge.parse() {
                edges.by_id.insert(id, Edge::remembered(durable));
            }
        }
        let (changed, _) = watch::channel(0);
        Ok(Self { shared: Arc::new(Shared { log, edges: Mutex::new(edges), changed }) })
    }

    /// Keeps metrics and the store's memory of the fleet up to date, until it is dropped.
    pub async fn keep(&self) {
        keeper::keep(self).await;
    }

    fn lock(&self) -> MutexGuard<'_, Edges> {
        self.shared.edges.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tick(&self) {
        self.shared.changed.send_modify(|tick| *tick = tick.wrapping_add(1));
    }

    fn head(&self) -> Position {
        *self.shared.log.head().borrow()
    }

    /// Gives a session its edge's seat, and fences the one that had it (invariant 13). Costs no look
    /// at the log.
    ///
    /// # Errors
    /// If the session's process was fenced before, there is no room, or it is not yet its turn.
    pub fn admit(
        &self,
        hello: &Hello,
        address: Option<SocketAddr>,
        now: Instant,
    ) -> Result<Seat, NotAdmitted> {
        let mut guard = self.lock();
        let edges = &mut *guard;
        let known = edges.by_id.get(&hello.edge);
        if known.is_some_and(|edge| edge.is_fenced_out(&hello.instance)) {
            return Err(NotAdmitted::Fenced);
        }
        let is_new = known.is_none();
        let others = edges.live - usize::from(known.is_some_and(|edge| edge.live.is_some()));
        edges.admission.admit(others, now)?;
        let session = edges.next_session;
        let fenced = Arc::new(Notify::new());
        let live = Live {
            session,
            instance: hello.instance,
            fenced: Arc::clone(&fenced),
            resumed_from: hello.position.map_or(Offset::ZERO, |position| position.offset),
            address: address.map_or_else(|| "unix".to_owned(), |address| address.to_string()),
            version: hello.version.clone(),
        };
        let edge = edges.by_id.entry(hello.edge.clone()).or_insert_with(|| Edge::remembered(None));
        edge.seat(live);
        // What it says it has counts only when the log has found it in its history.
        edge.durable = None;
        edges.next_session += 1;
        edges.live = others + 1;
        drop(guard);
        if is_new {
            let durable = Some(Position::genesis(self.head().log));
            let row = FleetRow { edge: hello.edge.to_string(), durable };
            self.shared.log.save_fleet(vec![row]);
        }
        self.tick();
        Ok(Seat { edge: hello.edge.clone(), session, fenced })
    }

    /// When an edge is to come back that is sent away before it has said who it is.
    #[must_use]
    pub fn send_away(&self, now: Instant) -> Duration {
        self.lock().admission.send_away(now)
    }

    /// Records an ack, unless the seat was lost.
    pub fn acked(&self, seat: &Seat, ack: &Ack, durable: Position, latencies: &[Duration]) {
        self.with_seat(seat, |edge, waits| {
            edge.durable = Some(durable);
            edge.acked_changes += ack.last.next().since(ack.first);
            edge.dirty = true;
            edge.halted = None;
            latencies.iter().for_each(|latency| edge.observe(*latency));
            waits.acked(&seat.edge, durable.offset);
        });
    }

    /// Records that an edge waits for a person; of a snapshot it takes no more.
    pub fn halted(&self, seat: &Seat, halt: Halt) {
        self.with_seat(seat, |edge, waits| {
            (edge.halted, edge.snapshot) = (Some(halt), None);
            waits.halted(&seat.edge);
        });
    }

    /// Records why an edge applies nothing for now, or that it goes on.
    pub fn paused(&self, seat: &Seat, pause: Option<Pause>) {
        self.with_seat(seat, |edge, waits| {
            edge.paused = pause;
            if edge.stands_still() {
                waits.halted(&seat.edge);
            }
        });
    }

    /// Records how far an edge is with a snapshot.
    pub fn snapshot(&self, seat: &Seat, progress: Progress) {
        self.with_seat(seat, |edge, _| edge.snapshot = Some(progress));
    }

    /// Records that an edge has a snapshot in place.
    pub fn snapshot_ended(&self, seat: &Seat) {
        self.with_seat(seat, |edge, _| {
            let repaired = edge.snapshot.take().is_some_and(|snapshot| snapshot.repair);
            edge.repairs += u64::from(repaired);
        });
    }

    /// Frees the seat of a session that has ended.
    pub fn leave(&self, seat: &Seat) {
        let left = self.with_seat(seat, |edge, _| {
            (edge.live, edge.snapshot, edge.paused) = (None, None, None);
            edge.since = SystemTime::now();
        });
        if left {
            let mut edges = self.lock();
            edges.live = edges.live.saturating_sub(1);
        }
    }

    fn with_seat(&self, seat: &Seat, change: impl FnOnce(&mut Edge, &mut Waits)) -> bool {
        let mut guard = self.lock();
        let Edges { by_id, waits, .. } = &mut *guard;
        let edge = by_id.get_mut(&seat.edge);
        let holds =
            |edge: &&mut Edge| edge.live.as_ref().is_some_and(|live| live.session == seat.session);
        let Some(edge) = edge.filter(holds) else { return false };
        change(edge, waits);
        drop(guard);
        self.tick();
        true
    }

    /// The edges as they are now, by id.
    #[must_use]
    pub fn edges(&self) -> Vec<EdgeView> {
        self.views(Edge::whole_view)
    }

    /// The same without their latencies, which cost more than all else: for looks by the clock.
    #[must_use]
    pub fn states(&self) -> Vec<EdgeView> {
        self.views(Edge::view)
    }

    fn views(&self, view: impl Fn(&Edge, &EdgeId, Position) -> EdgeView) -> Vec<EdgeView> {
        let head = self.head();
        let edges = self.lock();
        let mut views: Vec<_> = edges.by_id.iter().map(|(id, edge)| view(edge, id, head)).collect();
        drop(edges);
        self.fill_in_lags(&mut views);
        views
    }

    /// Says of each edge that is behind how old the first change is that it lacks. The log is read for
    /// a bounded number of offsets: where more edges are behind, each at its own, the age is that of
    /// an earlier change, and a little too high.
    fn fill_in_lags(&self, views: &mut [EdgeView]) {
        let offset = |view: &EdgeView| view.durable.map_or(Offset::ZERO, |durable| durable.offset);
        let mut behind: Vec<_> =
            views.iter().filter(|view| view.lag_changes > 0).map(offset).collect();
        behind.sort_unstable();
        behind.dedup();
        let step = behind.len().div_ceil(LAGS_READ).max(1);
        let ages: Vec<_> = behind
            .iter()
            .step_by(step)
            .map(|offset| (*offset, self.age_of_next(*offset)))
            .collect();
        for view in views.iter_mut().filter(|view| view.lag_changes > 0) {
            let next = ages.partition_point(|(at, _)| *at <= offset(view));
            let age = next.checked_sub(1).and_then(|place| ages.get(place));
            view.lag = age.map_or(Duration::ZERO, |(_, age)| *age);
        }
    }

    /// Age of the oldest change after an offset.
    fn age_of_next(&self, after: Offset) -> Duration {
        if let Some(next) = self.shared.log.recent(after, 1).and_then(|sets| sets.first().cloned())
        {
            return Instant::now().saturating_duration_since(next.at);
        }
        let Ok(view) = self.shared.log.view() else { return Duration::ZERO };
        // Of what was compacted away the age is not known; that of the oldest there is is less.
        let after = view.floor().map_or(after, |floor| after.max(floor.offset));
        let entries = view.entries(after, 1).ok();
        let next = entries.and_then(|entries| entries.first().map(|entry| entry.committed));
        next.and_then(|at| SystemTime::now().duration_since(at).ok()).unwrap_or_default()
    }

    /// Ticks with every change of the fleet.
    #[must_use]
    pub fn changed(&self) -> watch::Receiver<u64> {
        self.shared.changed.subscribe()
    }

    /// Takes an edge that will not come back out of the fleet.
    ///
    /// # Errors
    /// If there is no such edge, or it has a session.
    pub fn forget(&self, id: &EdgeId) -> Result<(), ForgetError> {
        let mut edges = self.lock();
        match edges.by_id.get(id) {
            None => return Err(ForgetError::Unknown(id.clone())),
            Some(edge) if edge.live.is_some() => return Err(ForgetError::Connected(id.clone())),
            Some(_) => edges.by_id.remove(id),
        };
        edges.waits.forgotten(id);
        drop(edges);
        self.shared.log.save_fleet(vec![FleetRow { edge: id.to_string(), durable: None }]);
        self.tick();
        Ok(())
    }
}

#[cfg(test)]
mod tests;
