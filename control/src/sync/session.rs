//! The shell of one session: moves values between the stream, the log, the fleet and the core's
//! [`Sender`], which alone decides.

use std::{net::SocketAddr, sync::Arc, time::Instant};

use edgesync_core::{
    position::{HistoryHash, Offset, Position},
    session::{
        Ack, CommittedSet, Filter, GoodbyeReason, Hello, Sender, SenderConfig, SenderInput,
        SenderOutput, ToControl, ToEdge,
    },
};
use edgesync_proto::{convert, v1};
use tokio::{
    sync::{Notify, mpsc, watch},
    time::sleep_until,
};
use tokio_stream::StreamExt;
use tonic::{Status, Streaming};

use super::{SyncApi, latency::Journey};
use crate::{
    fleet::{NotAdmitted, Seat},
    log::Log,
};

type Outbound = mpsc::UnboundedSender<Result<v1::SyncResponse, Status>>;

/// How long an edge is asked to wait when the control plane stops: longer than a restart takes.
const DRAIN_RETRY: std::time::Duration = std::time::Duration::from_millis(500);
/// How long an edge is asked to wait when there is no room.
const BUSY_RETRY: std::time::Duration = std::time::Duration::from_secs(5);

/// One session.
pub(super) struct Session {
    api: SyncApi,
    address: Option<SocketAddr>,
    outbound: Outbound,
    sender: Sender,
    journey: Journey,
    filter: Filter,
    seat: Option<Seat>,
    over: Option<&'static str>,
}

impl Session {
    pub(super) fn new(api: &SyncApi, address: Option<SocketAddr>, outbound: Outbound) -> Self {
        let now = Instant::now();
        let config = SenderConfig { heartbeat: api.config.heartbeat };
        let head = *api.log.head().borrow();
        Self {
            api: api.clone(),
            address,
            outbound,
            sender: Sender::new(config, head, now),
            journey: Journey::new(api.spikes.clone(), now),
            filter: Filter::All,
            seat: None,
            over: None,
        }
    }

    /// Runs until either side ends it.
    pub(super) async fn run(mut self, mut inbound: Streaming<v1::SyncRequest>) {
        metrics::gauge!("edgesync_control_sessions").increment(1);
        let mut head = self.api.log.head();
        let mut drain = self.api.drain.clone();
        let never = Arc::new(Notify::new());
        let outbound = self.outbound.clone();
        while self.over.is_none() {
            let fenced = self.seat.as_ref().map_or(&never, |seat| &seat.fenced);
            let fenced = Arc::clone(fenced);
            let due = self.sender.poll_timeout().unwrap_or_else(Instant::now);
            tokio::select! {
                message = inbound.next() => self.hear(message).await,
                moved = head.changed() => match moved {
                    Ok(()) => self.feed(SenderInput::Head(*head.borrow_and_update())),
                    Err(_) => self.over = Some("log_failed"),
                },
                () = sleep_until(due.into()) => self.sender.handle_timeout(Instant::now()),
                () = fenced.notified() => self.feed(SenderInput::Fence),
                () = wait_for_drain(&mut drain) => {
                    self.feed(SenderInput::Drain { retry_after: DRAIN_RETRY });
                }
                () = outbound.closed() => self.over = Some("disconnected"),
            }
            self.act().await;
        }
        self.seat.iter().for_each(|seat| self.api.fleet.leave(seat));
        metrics::gauge!("edgesync_control_sessions").decrement(1);
        let reason = self.over.unwrap_or("closed");
        metrics::counter!("edgesync_control_session_ends_total", "reason" => reason).increment(1);
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
            Err(error) => self.goodbye(GoodbyeReason::Refused, error.to_string()),
            Ok(ToControl::Hello(hello)) if self.seat.is_none() => self.greet(hello).await,
            Ok(message) => self.feed(SenderInput::Message(message)),
        }
    }

    /// Seats the edge and looks its position up in the log.
    async fn greet(&mut self, hello: Hello) {
        let max_sessions = self.api.config.max_sessions;
        let seat = match self.api.fleet.admit(&hello, self.address, max_sessions) {
            Ok(seat) => seat,
            Err(refused) => {
                let reason = match refused {
                    NotAdmitted::Fenced => GoodbyeReason::Fenced,
                    NotAdmitted::Busy => GoodbyeReason::Busy,
                };
                return self.goodbye(reason, refused.to_string());
            }
        };
        self.seat = Some(seat);
        let offset = hello.position.map_or(Offset::ZERO, |position| position.offset);
        let Ok(ours) = hash_at(&self.api.log, offset).await else {
            self.over = Some("log_failed");
            return;
        };
        let head = *self.api.log.head().borrow();
        tracing::info!(edge = %hello.edge, from = %offset, head = %head.offset, "session begins");
        self.filter.clone_from(&hello.filter);
        self.feed(SenderInput::Hello { hello, ours, head });
    }

    /// Ends a session that never got as far as the sender.
    fn goodbye(&mut self, reason: GoodbyeReason, message: String) {
        let retry_after = match reason {
            GoodbyeReason::Fenced => edgesync_core::limits::FENCED_WAIT,
            GoodbyeReason::Busy => BUSY_RETRY,
            _ => std::time::Duration::ZERO,
        };
        self.send(ToEdge::Goodbye { reason, retry_after, message });
        self.over = Some(end_reason(reason));
    }

    fn send(&mut self, message: ToEdge) {
        if let ToEdge::Goodbye { reason, message, .. } = &message {
            let edge = self.seat.as_ref().map(Seat::to_string).unwrap_or_default();
            tracing::info!(edge, message, "goodbye");
            self.over = Some(end_reason(*reason));
        }
        // A stream that is gone is noticed by the loop.
        let _ = self.outbound.send(Ok(message.into()));
    }

    /// Does what the sender wants done.
    async fn act(&mut self) {
        while let Some(output) = self.sender.poll() {
            match output {
                SenderOutput::Send(message) => self.send(message),
                SenderOutput::Fetch { after, octets } => self.fetch(after, octets).await,
                SenderOutput::Acked { ack, durable } => self.acked(&ack, durable),
                SenderOutput::Nacked { first, reason } => {
                    tracing::warn!(%first, reason, "an edge has halted");
                    if let Some(seat) = &self.seat {
                        self.api.fleet.halted(seat, format!("offset {first}: {reason}"));
                    }
                }
                SenderOutput::Close => self.over = self.over.or(Some("closed")),
            }
        }
    }

    fn acked(&mut self, ack: &Ack, durable: Position) {
        let latencies = self.journey.acked(ack, Instant::now());
        if let Some(seat) = &self.seat {
            self.api.fleet.acked(seat, ack, durable, &latencies);
        }
    }

    /// Reads what follows an offset: from memory if it is there, else from the log.
    async fn fetch(&mut self, after: Offset, octets: usize) {
        let log_id = self.api.log.head().borrow().log;
        let position =
            |set: &CommittedSet| Position { log: log_id, offset: set.last, hash: set.hash };
        let (mut sets, mut read_to) = (Vec::new(), None);
        if let Some(recent) = self.api.log.recent(after, octets) {
            let now = Instant::now();
            read_to = recent.last().map(|released| position(&released.set));
            for released in recent.iter().filter(|released| self.filter.wants(&released.zone)) {
                self.journey.sent(released.set.last, released.at, now);
                sets.push(released.set.clone());
            }
        } else if let Ok(stored) = read_log(&self.api.log, after, octets).await {
            read_to = stored.last().map(position);
            let wanted = |set: &CommittedSet| match &self.filter {
                Filter::All => true,
                filter => {
                    convert::decode_set(set.body.clone()).is_ok_and(|s| filter.wants(&s.zone))
                }
            };
            sets = stored;
            sets.retain(wanted);
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

async fn wait_for_drain(drain: &mut watch::Receiver<bool>) {
    if drain.wait_for(|drain| *drain).await.is_err() {
        std::future::pending::<()>().await;
    }
}

async fn hash_at(log: &Log, offset: Offset) -> Result<Option<HistoryHash>, ReadFailed> {
    let log = log.clone();
    let read = tokio::task::spawn_blocking(move || log.hash_at(offset)).await;
    read.map_err(|_| ReadFailed)?.map_err(ReadFailed::from)
}

/// The sets after an offset, from the log's store.
async fn read_log(
    log: &Log,
    after: Offset,
    octets: usize,
) -> Result<Vec<CommittedSet>, ReadFailed> {
    let log = log.clone();
    let read = tokio::task::spawn_blocking(move || log.view()?.entries(after, octets)).await;
    let entries = read.map_err(|_| ReadFailed)?.map_err(ReadFailed::from)?;
    let set = |entry: crate::log::LogEntry| CommittedSet {
        prev: entry.first.before(),
        first: entry.first,
        last: entry.last,
        hash: entry.hash,
        body: entry.body,
    };
    Ok(entries.into_iter().map(set).collect())
}

/// The log could not be read; what went wrong is logged.
struct ReadFailed;

impl From<redb::Error> for ReadFailed {
    fn from(error: redb::Error) -> Self {
        tracing::error!(%error, "the log cannot be read");
        Self
    }
}
