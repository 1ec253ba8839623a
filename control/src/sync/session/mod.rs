//! The shell of one session: moves values between the stream, the log, the fleet and the core's
//! [`Sender`], which alone decides.

mod log;
mod snapshot;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use edgesync_core::{
    edge_id::EdgeId,
    position::{Offset, Position},
    session::{
        Ack, Filter, GoodbyeReason, Hello, Sender, SenderConfig, SenderInput, SenderOutput, Start,
        ToControl, ToEdge, Welcome,
    },
    snapshot::{Manifest, Scope},
};
use edgesync_proto::v1;
use tokio::{
    sync::{Notify, OwnedSemaphorePermit, watch},
    time::sleep_until,
};
use tokio_stream::StreamExt;
use tonic::{Status, Streaming};

use self::{
    log::floor_and_hash,
    snapshot::{Making, made},
};
use super::{SyncApi, count_refused, latency::Journey, outbound::Outbound};
use crate::{
    access::{Admitted, Denied, Zones},
    fleet::{NotAdmitted, Seat},
    log::Sampled,
    snapshot::Lease,
};

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
    /// What the edge has of the zones; none before its Hello.
    filter: Option<Filter>,
    /// The offset that the edge came with.
    from: Offset,
    /// A place among those that have not yet said which edge they are of.
    greeting: Option<Greeting>,
    seat: Option<Seat>,
    making: Option<Making>,
    lease: Option<Lease>,
    /// Why the edge's history is another one, until that was told.
    diverged: Option<String>,
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
            filter: None,
            from: Offset::ZERO,
            greeting: Some(Greeting::new(place)),
            seat: None,
            making: None,
            lease: None,
            diverged: None,
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
            let displaced = self.lease.as_ref().and_then(Lease::lost);
            let displaced = displaced.unwrap_or_else(|| Arc::clone(&never));
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
                () = displaced.notified() => self.displaced(),
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
        self.from = hello.position.map_or(Offset::ZERO, |position| position.offset);
        let Ok((floor, ours)) = floor_and_hash(&self.api.log, self.from).await else {
            self.over = Some("log_failed");
            return;
        };
        let head = *self.api.log.released().borrow();
        tracing::info!(edge = %hello.edge, from = %self.from, head = %head.offset, "session begins");
        self.filter = Some(filter.clone());
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
        let (Some(Sampled { position, sample }), Some(filter)) = (sampled, &self.filter) else {
            return;
        };
        let sample = match filter {
            Filter::All => sample.clone(),
            filter => sample.for_zones(|zone| filter.wants(zone)),
        };
        self.feed(SenderInput::Sample(*position, sample));
    }

    /// Ends a session that never got as far as the sender.
    fn goodbye(&mut self, reason: GoodbyeReason, retry_after: Duration, message: String) {
        self.send(ToEdge::Goodbye { reason, retry_after, message });
        self.over = Some(end_reason(reason));
    }

    fn send(&mut self, message: ToEdge) {
        match &message {
            ToEdge::Welcome(Welcome {
                start: Start::Snapshot { diverged: true, reason, .. },
                ..
            }) => self.diverged = Some(reason.clone()),
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
                    // It keeps neither the log nor a turn (rule 23): what it holds it has, and more it takes
                    // only in another session.
                    (self.making, self.lease) = (None, None);
                }
                SenderOutput::Paused(why) => {
                    if let Some(seat) = &self.seat {
                        tracing::info!(edge = %seat, ?why, "an edge pauses, or goes on");
                        self.api.fleet.paused(seat, why);
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
