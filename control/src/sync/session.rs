//! The shell of one session: moves values between the stream, the log, the fleet and the core's
//! [`Sender`], which alone decides.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    time::{Duration, Instant},
};

use edgesync_core::{
    edge_id::EdgeId,
    position::{HistoryHash, Offset, Position},
    session::{
        Ack, CommittedSet, Filter, GoodbyeReason, Hello, Sender, SenderConfig, SenderInput,
        SenderOutput, ToControl, ToEdge,
    },
    snapshot::{Manifest, Scope, Staged},
};
use edgesync_proto::v1;
use tokio::{
    sync::{Notify, OwnedSemaphorePermit, watch},
    time::sleep_until,
};
use tokio_stream::StreamExt;
use tonic::{Status, Streaming};

use super::{SyncApi, count_refused, filter, latency::Journey, outbound::Outbound};
use crate::{
    access::{Admitted, Denied, Zones},
    fleet::{NotAdmitted, Progress, Seat},
    log::{Log, ReadError, Sampled},
    snapshot::{Busy, Lease},
};

/// A snapshot that is being looked for, or made.
type Making = Pin<Box<dyn Future<Output = Result<Lease, Busy>> + Send>>;

/// How long a session that has ended lets its last messages go out.
pub(super) const LAST_WORDS: Duration = Duration::from_secs(5);
/// How long an edge is asked to wait when the control plane stops: longer than a restart takes.
const DRAIN_RETRY: Duration = Duration::from_millis(500);

/// How long an edge stays away that may have nothing: a person has to do something first.
const DENIED_RETRY: Duration = Duration::from_secs(5);

/// One session.
pub(super) struct Session {
    api: SyncApi,
    /// What was let through, and what it may have of the zones.
    admitted: Admitted,
    allowed: Option<Zones>,
    edge: Option<EdgeId>,
    outbound: Outbound,
    sender: Sender,
    journey: Journey,
    filter: Filter,
    /// A place among those that have not yet said which edge they are of.
    greeting: Option<Greeting>,
    seat: Option<Seat>,
    making: Option<Making>,
    lease: Option<Lease>,
    over: Option<&'static str>,
}

/// Counts a stream until it has said which edge it is of, or has ended.
struct Greeting {
    _place: OwnedSemaphorePermit,
}

impl Greeting {
    fn new(place: OwnedSemaphorePermit) -> Self {
        metrics::gauge!("edgesync_control_sessions_greeting").increment(1);
        Self { _place: place }
    }
}

impl Drop for Greeting {
    fn drop(&mut self) {
        metrics::gauge!("edgesync_control_sessions_greeting").decrement(1);
    }
}

/// However it ends, also by a panic: its seat is free, and it is counted no more.
impl Drop for Session {
    fn drop(&mut self) {
        self.seat.iter().for_each(|seat| self.api.fleet.leave(seat));
        metrics::gauge!("edgesync_control_sessions").decrement(1);
        let panicked = std::thread::panicking();
        let reason = if panicked { "panicked" } else { self.over.unwrap_or("closed") };
        metrics::counter!("edgesync_control_session_ends_total", "reason" => reason).increment(1);
    }
}

impl Session {
    pub(super) fn new(
        api: &SyncApi,
        admitted: Admitted,
        outbound: Outbound,
        place: OwnedSemaphorePermit,
    ) -> Self {
        let now = Instant::now();
        metrics::gauge!("edgesync_control_sessions").increment(1);
        let config = SenderConfig { heartbeat: api.config.heartbeat };
        let head = *api.log.released().borrow();
        Self {
            api: api.clone(),
            admitted,
            allowed: None,
            edge: None,
            outbound,
            sender: Sender::new(config, head, now),
            journey: Journey::new(api.spikes.clone(), now),
            filter: Filter::All,
            greeting: Some(Greeting::new(place)),
            seat: None,
            making: None,
            lease: None,
            over: None,
        }
    }

    /// Runs until either side ends it.
    pub(super) async fn run(mut self, mut inbound: Streaming<v1::SyncRequest>) {
        let mut head = self.api.log.released();
        let mut samples = self.api.log.samples();
        let mut drain = self.api.drain.clone();
        let mut rights = self.admitted.versions();
        let never = Arc::new(Notify::new());
        let outbound = self.outbound.clone();
        while self.over.is_none() {
            let fenced = self.seat.as_ref().map_or(&never, |seat| &seat.fenced);
            let fenced = Arc::clone(fenced);
            let due = self.sender.poll_timeout().unwrap_or_else(Instant::now);
            tokio::select! {
                message = inbound.next() => self.hear(message).await,
                Ok(()) = samples.changed() => {
                    let sampled = samples.borrow_and_update().clone();
                    self.sampled(sampled.as_deref());
                }
                moved = head.changed() => match moved {
                    Ok(()) => {
                        // A sample is of a head that is not yet released: it is to be known first.
                        if samples.has_changed().unwrap_or(false) {
                            let sampled = samples.borrow_and_update().clone();
                            self.sampled(sampled.as_deref());
                        }
                        self.feed(SenderInput::Head(*head.borrow_and_update()));
                    }
                    Err(_) => self.over = Some("log_failed"),
                },
                () = sleep_until(due.into()) => self.sender.handle_timeout(Instant::now()),
                made = made(&mut self.making) => self.made(made),
                () = fenced.notified() => self.feed(SenderInput::Fence),
                () = wait_for_drain(&mut drain) => {
                    self.feed(SenderInput::Drain { retry_after: DRAIN_RETRY });
                }
                () = changed(&mut rights) => self.rights_changed(),
                () = outbound.closed() => self.over = Some("disconnected"),
            }
            self.act().await;
        }
        let outbound = self.outbound.clone();
        drop(self);
        outbound.finish(LAST_WORDS).await;
    }

    fn feed(&mut self, input: SenderInput) {
        self.sender.handle(input, Instant::now());
    }

    /// Takes what the edge says.
    async fn hear(&mut self, message: Option<Result<v1::SyncRequest, Status>>) {
        let Some(Ok(message)) = message else {
            self.over = Some("disconnected");
            return;
        };
        match ToControl::try_from(message) {
            Err(error) => {
                self.goodbye(GoodbyeReason::Refused, Duration::ZERO, error.to_string());
            }
            Ok(ToControl::Hello(hello)) if self.seat.is_none() => self.greet(hello).await,
            Ok(message) => self.feed(SenderInput::Message(message)),
        }
    }

    /// Seats the edge and looks its position up in the log. Who is not admitted has not cost a look.
    async fn greet(&mut self, hello: Hello) {
        self.greeting = None;
        let filter = match self.allow(&hello) {
            Ok(filter) => filter,
            Err(denied) => {
                count_refused("not_allowed");
                return self.goodbye(GoodbyeReason::Refused, DENIED_RETRY, denied.to_string());
            }
        };
        let address = self.admitted.socket_address();
        let seat = match self.api.fleet.admit(&hello, address, Instant::now()) {
            Ok(seat) => seat,
            Err(refused) => {
                count_refused(refused.label());
                let reason = match refused {
                    NotAdmitted::Fenced => GoodbyeReason::Fenced,
                    NotAdmitted::Full { .. } | NotAdmitted::Rate { .. } => GoodbyeReason::Busy,
                };
                return self.goodbye(reason, refused.retry_after(), refused.to_string());
            }
        };
        self.seat = Some(seat);
        let offset = hello.position.map_or(Offset::ZERO, |position| position.offset);
        let floor = self.api.log.floor();
        let Ok(ours) = hash_at(&self.api.log, offset).await else {
            self.over = Some("log_failed");
            return;
        };
        let head = *self.api.log.released().borrow();
        tracing::info!(edge = %hello.edge, from = %offset, head = %head.offset, "session begins");
        self.filter.clone_from(&filter);
        self.feed(SenderInput::Hello { hello, filter, ours, floor, head });
    }

    /// What the edge may have of what it asks for (rule 13).
    fn allow(&mut self, hello: &Hello) -> Result<Filter, Denied> {
        let allowed = self.admitted.edge(&hello.edge)?;
        let filter = hello.filter.within(allowed.names());
        self.allowed = Some(allowed);
        self.edge = Some(hello.edge.clone());
        filter.ok_or_else(|| Denied::NoZones(hello.edge.to_string()))
    }

    /// Somebody may do more or less than before. An edge that may have other zones comes back for them.
    fn rights_changed(&mut self) {
        let Some(edge) = self.edge.clone().filter(|_| self.seat.is_some()) else { return };
        match self.admitted.edge(&edge) {
            Ok(allowed) if self.allowed.as_ref() == Some(&allowed) => {}
            Ok(_) => {
                let message = "the zones that this edge may have have changed".to_owned();
                self.goodbye(GoodbyeReason::Draining, Duration::ZERO, message);
            }
            Err(denied) => {
                self.goodbye(GoodbyeReason::Refused, DENIED_RETRY, denied.to_string());
            }
        }
    }

    /// Passes on what some zones are; the edge hears of those that it wants.
    fn sampled(&mut self, sampled: Option<&Sampled>) {
        let Some(Sampled { position, sample }) = sampled else { return };
        let sample = match &self.filter {
            Filter::All => sample.clone(),
            filter => sample.for_zones(|zone| filter.wants(zone)),
        };
        self.feed(SenderInput::Sample(*position, sample));
    }

    /// Has a snapshot looked for or made, while the session goes on.
    fn look_for_snapshot(&mut self, scope: Scope, staged: Option<Staged>) {
        let snapshots = self.api.snapshots.clone();
        let filter = self.filter.clone();
        self.lease = None;
        self.making = Some(Box::pin(async move { snapshots.get(scope, filter, staged).await }));
    }

    /// A snapshot is there, or cannot be had.
    fn made(&mut self, made: Result<Lease, Busy>) {
        match made {
            Ok(lease) => {
                let (manifest, next) = (lease.manifest().clone(), lease.next);
                let edge = self.seat.as_ref().map(Seat::to_string).unwrap_or_default();
                let Manifest { scope, position, records, .. } = &manifest;
                tracing::info!(edge, %scope, at = %position.offset, records, next, "snapshot begins");
                self.progress(&manifest, next);
                self.lease = Some(lease);
                self.feed(SenderInput::Snapshot { manifest, next });
            }
            Err(busy) => {
                let (retry_after, message) = (busy.retry_after(), busy.to_string());
                metrics::counter!("edgesync_control_snapshots_refused_total").increment(1);
                self.feed(SenderInput::SnapshotBusy { retry_after, message });
            }
        }
    }

    async fn chunk(&mut self, index: u32) {
        let Some(lease) = &self.lease else { return };
        match lease.chunk(index).await {
            Ok(chunk) => {
                let octets = chunk.body.len() as u64;
                metrics::counter!("edgesync_control_snapshot_sent_bytes_total").increment(octets);
                self.feed(SenderInput::Chunk(chunk));
            }
            Err(error) => {
                tracing::error!(%error, "a snapshot cannot be read");
                self.over = Some("snapshot_failed");
            }
        }
    }

    /// The edge has a part of the snapshot.
    fn staged(&mut self, staged: Staged) {
        let Some(lease) = self.lease.as_ref().filter(|l| l.manifest().id == staged.id) else {
            return;
        };
        let manifest = lease.manifest().clone();
        self.progress(&manifest, staged.next);
        if staged.next >= manifest.chunks && manifest.scope != Scope::Store {
            self.end_snapshot();
        }
    }

    fn progress(&self, manifest: &Manifest, done: u32) {
        if let Some(seat) = &self.seat {
            let (offset, chunks) = (manifest.position.offset, manifest.chunks);
            let repair = manifest.scope != Scope::Store;
            self.api.fleet.snapshot(seat, Progress { offset, done, chunks, repair });
        }
    }

    fn end_snapshot(&mut self) {
        if self.lease.take().is_some()
            && let Some(seat) = &self.seat
        {
            self.api.fleet.snapshot_ended(seat);
        }
    }

    /// Ends a session that never got as far as the sender.
    fn goodbye(&mut self, reason: GoodbyeReason, retry_after: Duration, message: String) {
        self.send(ToEdge::Goodbye { reason, retry_after, message });
        self.over = Some(end_reason(reason));
    }

    fn send(&mut self, message: ToEdge) {
        match &message {
            // In a storm there are thousands; the metrics count them.
            ToEdge::Goodbye { reason: GoodbyeReason::Busy, message, .. } => {
                tracing::debug!(message, "goodbye");
                self.over = Some(end_reason(GoodbyeReason::Busy));
            }
            ToEdge::Goodbye { reason, message, .. } => {
                let edge = self.seat.as_ref().map(Seat::to_string).unwrap_or_default();
                tracing::info!(edge, message, "goodbye");
                self.over = Some(end_reason(*reason));
            }
            _ => {}
        }
        if self.outbound.send(message).is_err() {
            let edge = self.seat.as_ref().map(Seat::to_string).unwrap_or_default();
            tracing::warn!(edge, "an edge acks and does not read: its session ends");
            self.over = Some("stuck");
        }
    }

    /// Does what the sender wants done.
    async fn act(&mut self) {
        while let Some(output) = self.sender.poll() {
            match output {
                SenderOutput::Send(message) => self.send(message),
                SenderOutput::Fetch { after, upto, octets } => {
                    self.fetch(after, upto, octets).await;
                }
                SenderOutput::Snapshot { scope, staged } => self.look_for_snapshot(scope, staged),
                SenderOutput::FetchChunk { index, .. } => self.chunk(index).await,
                SenderOutput::Staged(staged) => self.staged(staged),
                SenderOutput::Acked { ack, durable } => self.acked(&ack, durable),
                SenderOutput::Nacked(halt) => {
                    if let Some(seat) = &self.seat {
                        let (first, held, reason) = (halt.first, halt.held, &halt.reason);
                        tracing::warn!(edge = %seat, %first, held, reason, "an edge has halted");
                        self.api.fleet.halted(seat, halt);
                    }
                }
                SenderOutput::Close => self.over = self.over.or(Some("closed")),
            }
        }
    }

    fn acked(&mut self, ack: &Ack, durable: Position) {
        let latencies = self.journey.acked(ack, Instant::now());
        let installed = |lease: &Lease| {
            let Manifest { scope, position, .. } = lease.manifest();
            *scope == Scope::Store && durable.offset >= position.offset
        };
        if self.lease.as_ref().is_some_and(installed) {
            self.end_snapshot();
        }
        if let Some(seat) = &self.seat {
            self.api.fleet.acked(seat, ack, durable, &latencies);
        }
    }

    /// Reads what follows an offset, up to another one: from memory if it is there, else from the log.
    async fn fetch(&mut self, after: Offset, upto: Offset, octets: usize) {
        let log_id = self.api.log.head().borrow().log;
        let position =
            |set: &CommittedSet| Position { log: log_id, offset: set.last, hash: set.hash };
        let (mut sets, read_to);
        if let Some(mut recent) = self.api.log.recent(after, octets) {
            recent.retain(|released| released.set.last <= upto);
            let now = Instant::now();
            read_to = recent.last().map(|released| position(&released.set));
            sets = Vec::new();
            for released in recent.iter().filter(|released| self.filter.wants(&released.zone)) {
                self.journey.sent(released.set.last, released.at, now);
                sets.push(released.set.clone());
            }
        } else {
            let mut stored = match read_log(&self.api.log, after, octets).await {
                Ok(stored) => stored,
                Err(failed) => return self.over = Some(failed.label()),
            };
            stored.retain(|set| set.last <= upto);
            read_to = stored.last().map(position);
            sets = match filter::wanted(stored, &self.filter) {
                Ok(wanted) => wanted,
                Err(error) => {
                    // Never skipped (rule 23): who cannot be told whose set it is gets nothing behind it.
                    tracing::error!(%error, "the zone of a change set in the log cannot be read");
                    return self.over = Some("log_failed");
                }
            };
        }
        match read_to {
            Some(read_to) => self.feed(SenderInput::Fetched { sets, read_to }),
            None => self.over = Some("log_failed"),
        }
    }
}

/// The end of a session, as the metrics name it.
const fn end_reason(reason: GoodbyeReason) -> &'static str {
    match reason {
        GoodbyeReason::Draining => "draining",
        GoodbyeReason::Fenced => "fenced",
        GoodbyeReason::Refused => "refused",
        GoodbyeReason::Timeout => "timeout",
        GoodbyeReason::Busy => "busy",
    }
}

/// Resolves when somebody may do more or less than before.
async fn changed(rights: &mut Option<watch::Receiver<u64>>) {
    let changed = match rights {
        Some(rights) => rights.changed().await.is_ok(),
        None => false,
    };
    if !changed {
        std::future::pending::<()>().await;
    }
}

async fn wait_for_drain(drain: &mut watch::Receiver<bool>) {
    if drain.wait_for(|drain| *drain).await.is_err() {
        std::future::pending::<()>().await;
    }
}

async fn hash_at(log: &Log, offset: Offset) -> Result<Option<HistoryHash>, ReadFailed> {
    let log = log.clone();
    let read = tokio::task::spawn_blocking(move || log.hash_at(offset)).await;
    read.map_err(|_| ReadFailed::Store)?.map_err(|error| ReadFailed::from(ReadError::Store(error)))
}

/// The sets after an offset, from the log's store.
async fn read_log(
    log: &Log,
    after: Offset,
    octets: usize,
) -> Result<Vec<CommittedSet>, ReadFailed> {
    let log = log.clone();
    let read = tokio::task::spawn_blocking(move || log.view()?.entries(after, octets)).await;
    let entries = read.map_err(|_| ReadFailed::Store)?.map_err(ReadFailed::from)?;
    let set = |entry: crate::log::LogEntry| CommittedSet {
        prev: entry.first.before(),
        first: entry.first,
        last: entry.last,
        hash: entry.hash,
        body: entry.body,
    };
    Ok(entries.into_iter().map(set).collect())
}

/// Ready when a snapshot is there or cannot be had; never, if none is looked for.
async fn made(making: &mut Option<Making>) -> Result<Lease, Busy> {
    let Some(running) = making else { return std::future::pending().await };
    let made = running.await;
    *making = None;
    made
}

/// Why a part of the log could not be read; what went wrong is logged.
enum ReadFailed {
    /// The store has failed.
    Store,
    /// It was compacted away since the session began: the edge comes back for a snapshot.
    Compacted,
}

impl ReadFailed {
    const fn label(&self) -> &'static str {
        match self {
            Self::Store => "log_failed",
            Self::Compacted => "compacted",
        }
    }
}

impl From<ReadError> for ReadFailed {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Store(error) => {
                tracing::error!(%error, "the log cannot be read");
                Self::Store
            }
            ReadError::Compacted { after, floor } => {
                tracing::info!(%after, %floor, "the log was compacted before an edge had read it");
                Self::Compacted
            }
        }
    }
}
