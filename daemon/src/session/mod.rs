//! Station 5, the session: a shell around the core's `Receiver`. It moves values between the link
//! (station 4), the apply thread (towards station 6) and the receiver, which alone knows the
//! protocol; whatever ends a stream, the shell outlives it and connects again.

mod command;
mod in_hand;

use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::{Duration, Instant, SystemTime},
};

pub use command::{Command, Resumed};

use edgesync_core::{
    change::ChangeSet,
    limits::SET_OCTETS,
    name::Name,
    position::{LogId, Offset, Position},
    sample::Content,
    session::{CommittedSet, Halt, Hello, Receiver, ReceiverInput, ReceiverOutput, ToEdge},
    snapshot::Scope,
};
use edgesync_proto::convert::{decode_set, zone_of_set};
use tokio::{
    sync::{mpsc, watch},
    time::{sleep_until, timeout},
};

use self::in_hand::InHand;
use crate::{
    apply::{Applying, Arrived, Report, Work},
    limits::{DRAIN, SESSION_LIVED},
    link::{Dial, Endpoint, Event, Link},
    metrics::StateMetrics,
    reconnect::{Reconnect, ReconnectConfig},
    status::{LinkState, Status},
    store::Mismatch,
};

/// What a session needs from the rest of the daemon.
#[derive(Debug)]
pub struct SessionParts {
    /// Who this edge is, and what its store has.
    pub hello: Hello,
    /// The apply thread.
    pub applying: Applying,
    /// What people at this host want.
    pub commands: mpsc::Receiver<Command>,
    /// What connections are made with.
    pub dial: Dial,
    /// When and where to connect; may change while the session runs.
    pub reconnect: watch::Receiver<ReconnectConfig>,
    /// Where the status goes.
    pub status: watch::Sender<Status>,
    /// Where the metrics go.
    pub metrics: Arc<StateMetrics>,
}

/// A stream that is being made, or is there.
#[derive(Debug)]
struct Stream {
    link: Link,
    endpoint: Endpoint,
    /// The endpoint, as people read it.
    shown: String,
    /// When it was welcomed, and what was durable then.
    live: Option<(Instant, Option<Position>)>,
}

/// All sessions of this process, one after the other.
#[derive(Debug)]
pub struct Session {
    receiver: Receiver,
    applying: Applying,
    commands: mpsc::Receiver<Command>,
    in_hand: InHand,
    /// Octets of change sets that may be in hand before no more are taken from the link.
    room: usize,
    /// The log that the present stream is about.
    log: Option<LogId>,
    stream: Option<Stream>,
    reconnect: Reconnect,
    dial: Dial,
    settings: watch::Receiver<ReconnectConfig>,
    status: watch::Sender<Status>,
    metrics: Arc<StateMetrics>,
}

impl Session {
    /// A session that is not connected.
    #[must_use]
    pub fn new(parts: SessionParts) -> Self {
        let SessionParts { hello, applying, commands, dial, reconnect, status, metrics } = parts;
        let mut settings = reconnect;
        // A control plane that keeps to the window never comes near this: it guards our memory.
        let window = usize::try_from(hello.window).unwrap_or(SET_OCTETS);
        let room = window.saturating_mul(2).saturating_add(SET_OCTETS);
        let reconnect = Reconnect::new(settings.borrow_and_update().clone(), Instant::now());
        Self {
            receiver: Receiver::new(hello),
            applying,
            commands,
            in_hand: InHand::default(),
            room,
            log: None,
            stream: None,
            reconnect,
            dial,
            settings,
            status,
            metrics,
        }
    }

    /// Runs until `shutdown` is done, and then drains: what was received is applied and acked.
    pub async fn run(mut self, shutdown: impl Future<Output = ()>) {
        tokio::pin!(shutdown);
        // Without an apply thread there is nothing to connect for; what is there is served on.
        let mut applying = true;
        loop {
            self.tell();
            let room = self.in_hand.octets() < self.room;
            let deadline = self.receiver.poll_timeout().filter(|_| room);
            let due = (self.stream.is_none() && applying).then(|| self.reconnect.due());
            tokio::select! {
                biased;
                () = &mut shutdown => break,
                report = self.applying.reports.recv(), if applying => match report {
                    Some(report) => self.reported(report),
                    None => {
                        applying = false;
                        self.close("session", "the apply thread has ended".to_owned(), DRAIN);
                    }
                },
                event = event_of(&mut self.stream), if room => self.happened(event),
                () = until(deadline) => {
                    self.receiver.handle_timeout(Instant::now());
                    self.carry_out();
                }
                Some(command) = self.commands.recv() => self.command(command),
                () = until(due) => self.connect(),
                Ok(()) = self.settings.changed() => self.set(),
            }
        }
        self.drain().await;
    }

    fn connect(&mut self) {
        let Some(endpoint) = self.reconnect.endpoint() else {
            return self.reconnect.ended(Duration::ZERO, Instant::now());
        };
        tracing::debug!(control = %endpoint, "connecting");
        let link = Link::open(endpoint.clone(), self.dial.clone());
        let shown = endpoint.to_string();
        self.stream = Some(Stream { link, endpoint, shown, live: None });
    }

    /// Takes new settings; a control plane that is not among them any more is left.
    fn set(&mut self) {
        let config = self.settings.borrow_and_update().clone();
        self.reconnect.set(config, Instant::now());
        if self.stream.as_ref().is_some_and(|stream| !self.reconnect.has(&stream.endpoint)) {
            self.close("session", "it is configured no more".to_owned(), Duration::ZERO);
        }
    }

    fn happened(&mut self, event: Event) {
        let now = Instant::now();
        match event {
            Event::Open => self.receiver.handle(ReceiverInput::Connected, now),
            Event::Part => self.receiver.handle(ReceiverInput::Part, now),
            Event::Message(message) => {
                self.status.send_modify(|status| status.last_contact = Some(SystemTime::now()));
                if let ToEdge::Welcome(welcome) = &*message {
                    self.log = Some(welcome.head.log);
                }
                self.receiver.handle(ReceiverInput::Message(*message), now);
            }
            Event::Closed(error) => self.close(error.label(), error.line(), Duration::ZERO),
        }
        self.carry_out();
    }

    fn reported(&mut self, report: Report) {
        let now = Instant::now();
        let input = match report {
            Report::Done(works) => return self.in_hand.done(works),
            Report::Durable { position, apply, changes } => {
                self.status.send_modify(|status| status.applied_changes += changes);
                ReceiverInput::Durable { position, apply }
            }
            Report::Staged { staged, manifest } => {
                self.metrics.snapshot(staged.next, manifest.chunks);
                self.status.send_modify(|s| s.snapshot = Some((manifest, staged.next)));
                ReceiverInput::Staged(staged)
            }
            Report::Installed { position, scope, filter } => {
                let repaired = u64::from(scope != Scope::Store);
                self.metrics.installed(&scope);
                self.status.send_modify(|status| {
                    status.snapshot = None;
                    status.repairs += repaired;
                });
                ReceiverInput::Installed { position, scope, filter }
            }
            Report::Rejected { reason } => {
                self.metrics.rejected();
                self.status.send_modify(|status| status.snapshot = None);
                ReceiverInput::Rejected { reason }
            }
            Report::Halted(halt) => ReceiverInput::Halted(halt),
            Report::Resumed => ReceiverInput::Resumed,
            Report::Drifted(drift) => {
                let (expected, found) = (content_text(drift.expected), content_text(drift.found));
                self.drifted(&drift.origin, &expected, &found);
                ReceiverInput::Drifted { zone: drift.origin }
            }
            Report::Skipped { zone } => {
                self.drifted(&zone, "with the set that was skipped", "without it");
                ReceiverInput::Drifted { zone }
            }
            Report::Paused(pause) => {
                self.status.send_modify(|status| status.paused.clone_from(&pause));
                ReceiverInput::Paused(pause)
            }
            Report::Reopened { position, staged, epoch } => {
                self.status.send_modify(|status| status.boot_epoch = epoch);
                ReceiverInput::Reopened { position, staged }
            }
            Report::Failed { reason } => {
                self.status.send_modify(|status| status.failed = Some(reason.clone()));
                ReceiverInput::Failed { reason }
            }
        };
        self.receiver.handle(input, now);
        self.carry_out();
    }

    /// A zone has drifted. Said and counted once until it is mended, however often it is found (rule 15).
    fn drifted(&self, zone: &Name, expected: &str, found: &str) {
        if !self.receiver.is_to_be_mended(zone) {
            tracing::error!(%zone, expected, found, "a zone has drifted");
            self.metrics.drift();
            self.status.send_modify(|status| status.drifts += 1);
        }
    }

    /// Does what a person at this host wants, if it makes sense.
    fn command(&mut self, command: Command) {
        let halted = self.receiver.halted().cloned();
        match command {
            Command::Resume { answer } => {
                let Status { failed, paused, .. } = self.status.borrow().clone();
                if halted.is_some() && failed.is_none() {
                    self.hand_over(Work::Resume, 0);
                }
                let paused = paused.map(|paused| paused.why);
                let _ = answer.send(Resumed { halted, failed, paused });
            }
            Command::Skip { first, answer } => {
                let skips = |halt: &Halt| halt.first == first && !halt.held;
                let has_failed = self.status.borrow().failed.is_some();
                let skipped = match halted {
                    Some(halt) if skips(&halt) && !has_failed => Ok(halt),
                    other => Err(other),
                };
                if skipped.is_ok() {
                    self.hand_over(Work::Skip, 0);
                }
                let _ = answer.send(skipped);
            }
            Command::Damaged(zones) => {
                for Mismatch { origin: zone, expected, found } in zones {
                    self.drifted(&zone, &content_text(Some(expected)), &content_text(Some(found)));
                    self.receiver.handle(ReceiverInput::Drifted { zone }, Instant::now());
                }
                self.carry_out();
            }
        }
    }

    /// Does what the receiver wants done.
    fn carry_out(&mut self) {
        while let Some(output) = self.receiver.poll() {
            match output {
                ReceiverOutput::Send(message) => {
                    let sent =
                        self.stream.as_ref().map_or(Ok(()), |stream| stream.link.send(message));
                    if let Err(error) = sent {
                        self.close(error.label(), error.line(), Duration::ZERO);
                    }
                }
                ReceiverOutput::Apply(set) => self.apply(set),
                ReceiverOutput::Progress(position) => self.hand_over(Work::Pass(position), 0),
                // One comes each second, also while nothing is applied.
                ReceiverOutput::Compare { .. } if self.status.borrow().paused.is_some() => {}
                ReceiverOutput::Compare { position, sample } => {
                    let octets = sample.octets();
                    self.hand_over(Work::Compare { position, sample }, octets);
                }
                ReceiverOutput::Stage { manifest, filter, may_be_older, .. } => {
                    self.hand_over(Work::Stage { manifest, filter, may_be_older }, 0);
                }
                ReceiverOutput::StageChunk(chunk) => {
                    let octets = chunk.body.len();
                    self.hand_over(Work::Chunk(chunk), octets);
                }
                ReceiverOutput::Install(id) => self.hand_over(Work::Install(id), 0),
                ReceiverOutput::Restart => self.hand_over(Work::Restart, 0),
                ReceiverOutput::Replacing { reason, diverged } => {
                    if diverged {
                        tracing::error!(%reason, "this store's history is not the control plane's");
                        self.metrics.diverged();
                    } else {
                        tracing::warn!(%reason, "a snapshot takes the place of what is here");
                    }
                }
                ReceiverOutput::Reconnect { after, reason } if self.receiver.is_fenced() => {
                    tracing::warn!(%reason, "another process has this edge's id: one of the two is too many");
                    self.close("fenced", reason, after);
                }
                ReceiverOutput::Reconnect { after, reason } => self.close("session", reason, after),
            }
        }
        self.welcome();
    }

    /// Says once that a session has begun, and from where.
    fn welcome(&mut self) {
        let Some(stream) = &mut self.stream else { return };
        if self.receiver.is_live() && stream.live.is_none() {
            let durable = self.receiver.durable();
            stream.live = Some((Instant::now(), durable));
            let (offset, head) = (offset_of(durable), self.receiver.head());
            tracing::info!(control = %stream.endpoint, %head, "resumed from offset {offset}");
            self.metrics.resumed_from(offset.0);
        }
    }

    fn apply(&mut self, set: CommittedSet) {
        let (prev, first, offset, hash) = (set.prev, set.first, set.last, set.hash);
        let octets = set.body.len();
        // The receiver hands out no set before Welcome has named the log.
        let Some(log) = self.log else { return };
        let position = Position { log, offset, hash };
        self.metrics.received(offset.since(first) + 1);
        let received = Instant::now();
        let body = set.body.clone();
        let set = decode(set);
        let zone =
            set.as_ref().map_or_else(|_| zone_of_set(body).ok(), |set| Some(set.zone.clone()));
        let arrived = Arrived { set, zone, prev, first, position, received };
        self.hand_over(Work::Set(arrived), octets);
    }

    fn hand_over(&mut self, work: Work, octets: usize) {
        let received = matches!(work, Work::Set(_)).then(Instant::now);
        self.in_hand.push(octets, received);
        // An apply thread that is gone has said so by a report.
        let _ = self.applying.works.send(work);
    }

    /// Ends the stream, if there is one; the next try is due after `least` and the backoff.
    fn close(&mut self, label: &'static str, reason: String, least: Duration) {
        let Some(stream) = self.stream.take() else { return };
        let now = Instant::now();
        tracing::info!(control = %stream.endpoint, %reason, "not connected");
        if let Some((since, durable)) = stream.live
            && (now.duration_since(since) >= SESSION_LIVED || durable != self.receiver.durable())
        {
            self.reconnect.progressed();
        }
        self.receiver.handle(ReceiverInput::Disconnected, now);
        self.reconnect.ended(least, now);
        self.metrics.reconnect(label);
        self.status.send_modify(|status| status.reason = reason);
    }

    /// Puts what changed with this step into the status.
    fn tell(&self) {
        let (receiver, stream) = (&self.receiver, self.stream.as_ref());
        self.status.send_modify(|status| {
            status.halted = receiver.halted().cloned();
            status.link = match stream {
                _ if status.failed.is_some() => LinkState::Halted,
                _ if status.halted.as_ref().is_some_and(|halt| halt.held) => LinkState::Held,
                _ if status.halted.is_some() => LinkState::Halted,
                Some(_) if receiver.is_live() => LinkState::Connected,
                Some(_) => LinkState::Connecting,
                None => LinkState::Disconnected,
            };
            if let Some(stream) = stream.filter(|stream| stream.shown != status.control) {
                status.control.clone_from(&stream.shown);
            }
            status.durable = receiver.durable();
            status.head = receiver.head();
            status.duplicate_changes = receiver.duplicates();
            status.to_be_mended = receiver.to_be_mended() as u64;
            status.next_try = stream.is_none().then(|| self.reconnect.due());
            status.oldest_received = self.in_hand.oldest();
        });
    }

    /// Takes no more; what is in hand is applied, made durable and acked.
    async fn drain(self) {
        let Self { mut receiver, applying, mut stream, status, .. } = self;
        let Applying { works, mut reports, ending, thread } = applying;
        ending.store(true, Relaxed);
        drop(works);
        let finish = async {
            while let Some(report) = reports.recv().await {
                if let Report::Durable { position, apply, .. } = report {
                    receiver.handle(ReceiverInput::Durable { position, apply }, Instant::now());
                }
                while let Some(output) = receiver.poll() {
                    if let (ReceiverOutput::Send(message), Some(stream)) = (output, &stream) {
                        let _ = stream.link.send(message);
                    }
                }
            }
        };
        if timeout(DRAIN, finish).await.is_err() {
            let seconds = DRAIN.as_secs();
            tracing::warn!(
                "what was received is not all applied after {seconds} s; it will come again"
            );
        } else {
            // The reports end with the thread; this only waits for its last instructions.
            let _ = tokio::task::spawn_blocking(|| thread.join()).await;
        }
        let durable = receiver.durable();
        status.send_modify(|status| {
            status.durable = durable;
            status.link = LinkState::Disconnected;
        });
        if let Some(stream) = stream.take() {
            stream.link.finish().await;
        }
        tracing::info!("ended at offset {}", offset_of(durable));
    }
}

/// A zone's number of records and digest, for people.
fn content_text(content: Content) -> String {
    content.map_or_else(
        || "no such zone".to_owned(),
        |(records, digest)| format!("{records} records, digest {digest}"),
    )
}

/// A position's offset; 0 if there is none.
fn offset_of(position: Option<Position>) -> Offset {
    position.map_or(Offset::ZERO, |position| position.offset)
}

/// The change set in a committed set's bytes, which has to be the one that the envelope names.
fn decode(set: CommittedSet) -> Result<ChangeSet, String> {
    let CommittedSet { first, last, body, .. } = set;
    let set = decode_set(body).map_err(|error| error.to_string())?;
    if (set.first, set.last()) == (first, last) {
        Ok(set)
    } else {
        let (own, end) = (set.first, set.last());
        Err(format!("the bytes are those of offsets {own} to {end}"))
    }
}

/// What happens next on a stream; never, if there is none.
async fn event_of(stream: &mut Option<Stream>) -> Event {
    match stream {
        Some(stream) => stream.link.event().await,
        None => std::future::pending().await,
    }
}

/// Waits for a moment; for ever, if there is none.
async fn until(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment.into()).await,
        None => std::future::pending().await,
    }
}
