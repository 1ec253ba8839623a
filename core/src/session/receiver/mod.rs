//! The edge's end of a session. Lives as long as the process: what was received and what is durable
//! outlast the streams. An ack can only be made from [`ReceiverInput::Durable`] and
//! [`ReceiverInput::Installed`], the store's own words.

mod changes;
mod repairs;
mod snapshot;
mod standing;
mod steps;

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

pub use self::steps::{ReceiverInput, ReceiverOutput};
use self::{
    repairs::Repairs,
    snapshot::{HandedOut, Incoming},
};
use super::{
    Filter, GoodbyeReason, Halt, Hello, PROTOCOL_OLDEST, Pause, Start, ToControl, ToEdge, Welcome,
    assembly::Assembly,
};
use crate::{
    limits::{FENCED_WAIT, HEARTBEATS_MISSED},
    position::{Offset, Position},
    snapshot::Staged,
};

/// How long a control plane may take to answer Hello.
const WELCOME_WAIT: Duration = Duration::from_secs(10);

/// How long a store may take to end what it has begun with another log's changes.
const RESTART_WAIT: Duration = Duration::from_secs(1);

/// Where the present stream stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// There is none.
    Down,
    /// Hello is out.
    Greeting,
    /// Changes flow.
    Live,
    /// It has been given up; what it still brings is not looked at.
    Closing,
}

/// The edge's end of its sessions.
#[derive(Debug)]
pub struct Receiver {
    identity: Hello,
    /// Which zones the session is for, as the last Welcome said.
    filter: Filter,
    phase: Phase,
    /// What was handed out to be applied; none before the first Welcome of an empty store.
    received: Option<Position>,
    durable: Option<Position>,
    /// What is durable of a snapshot.
    staged: Option<Staged>,
    /// The snapshot that this stream brings.
    incoming: Option<Incoming>,
    /// The snapshot that the store was told to put in place, and has not yet.
    handed_out: Option<HandedOut>,
    /// The position that Hello has said.
    said_position: Option<Position>,
    /// A snapshot is to take the place of all there is: what is there is not acked any more.
    replacing: bool,
    /// What is there is of another history: what comes may be older.
    diverged: bool,
    repairs: Repairs,
    /// The last position that this stream has brought, and the last that was acked on it. What an
    /// earlier stream brought is not acked before this one has brought it again.
    seen: Offset,
    acked: Offset,
    assembly: Assembly,
    head: Offset,
    duplicates: u64,
    halted: Option<Halt>,
    /// The store has failed: it takes nothing more, nor a snapshot that is about to be sent.
    failed: bool,
    /// Another process has taken this edge's id, by the last word of the last stream.
    fenced: bool,
    /// Why nothing is applied for now, if nothing is.
    paused: Option<Pause>,
    /// What the edge had halted before when a snapshot was said to come: it is so again, should the
    /// stream end before all of that has come.
    set_aside: Option<Halt>,
    heartbeat: Duration,
    deadline: Option<Instant>,
    /// When something was last said to the control plane, which listens for it too.
    said: Option<Instant>,
    outputs: VecDeque<ReceiverOutput>,
}

impl Receiver {
    /// A receiver for a store that has the position in `identity`.
    #[must_use]
    pub fn new(identity: Hello) -> Self {
        Self {
            phase: Phase::Down,
            received: identity.position,
            durable: identity.position,
            staged: identity.staged,
            incoming: None,
            handed_out: None,
            said_position: None,
            replacing: false,
            diverged: false,
            repairs: Repairs::default(),
            filter: identity.filter.clone(),
            identity,
            seen: Offset::ZERO,
            acked: Offset::ZERO,
            assembly: Assembly::default(),
            head: Offset::ZERO,
            duplicates: 0,
            halted: None,
            failed: false,
            fenced: false,
            paused: None,
            set_aside: None,
            heartbeat: WELCOME_WAIT,
            deadline: None,
            said: None,
            outputs: VecDeque::new(),
        }
    }

    /// What is durable in the store.
    #[must_use]
    pub const fn durable(&self) -> Option<Position> {
        self.durable
    }

    /// Offset of the control plane's head, as last heard.
    #[must_use]
    pub const fn head(&self) -> Offset {
        self.head
    }

    /// Number of changes received again that were there already.
    #[must_use]
    pub const fn duplicates(&self) -> u64 {
        self.duplicates
    }

    /// True between Welcome and the end of the stream.
    #[must_use]
    pub fn is_live(&self) -> bool {
        self.phase == Phase::Live
    }

    fn is_greeting(&self) -> bool {
        self.phase == Phase::Greeting
    }

    /// What the edge has halted before, if it has.
    #[must_use]
    pub const fn halted(&self) -> Option<&Halt> {
        self.halted.as_ref()
    }

    /// True if the last stream ended because another process has this edge's id (rule 22).
    #[must_use]
    pub const fn is_fenced(&self) -> bool {
        self.fenced
    }

    /// True while a snapshot is on its way into the place of all there is.
    #[must_use]
    pub const fn is_replacing(&self) -> bool {
        self.replacing
    }

    /// The next thing to be done.
    pub fn poll(&mut self) -> Option<ReceiverOutput> {
        self.outputs.pop_front()
    }

    /// When [`Receiver::handle_timeout`] is to be called.
    #[must_use]
    pub const fn poll_timeout(&self) -> Option<Instant> {
        self.deadline
    }

    /// Gives the stream up if it has been silent for too long.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.deadline.is_some_and(|deadline| now >= deadline) {
            self.reconnect(Duration::ZERO, "the control plane was silent for too long".to_owned());
        }
    }

    /// Takes what has happened.
    pub fn handle(&mut self, input: ReceiverInput, now: Instant) {
        match input {
            ReceiverInput::Connected => self.greet(now),
            ReceiverInput::Message(message) => self.take(message, now),
            ReceiverInput::Part if self.is_live() => {
                self.alive(now);
                self.speak(now);
            }
            ReceiverInput::Part => {}
            ReceiverInput::Durable { position, apply } => {
                self.durable = Some(position);
                // What is there was received, whatever was thought to be lost.
                let is_behind =
                    |at: Position| at.log == position.log && at.offset < position.offset;
                if self.received.is_some_and(is_behind) && !self.replacing {
                    self.received = Some(position);
                }
                self.ack(apply);
            }
            // Its store has failed: no person lets it go on.
            ReceiverInput::Halted(_) if self.failed => {}
            ReceiverInput::Halted(halt) => {
                self.halted = Some(halt);
                self.nack();
            }
            ReceiverInput::Failed { reason } => self.fail(reason),
            ReceiverInput::Paused(pause) => {
                let is_frozen = |pause: &Option<Pause>| pause.as_ref().map(|pause| pause.is_frozen);
                let is_new = is_frozen(&pause) != is_frozen(&self.paused);
                self.paused = pause;
                // Another reason, such as how much is free, goes with the next answer.
                if is_new {
                    self.say_paused(now);
                }
            }
            ReceiverInput::Resumed if self.failed => {}
            ReceiverInput::Resumed => {
                (self.halted, self.set_aside) = (None, None);
                self.restart(Duration::ZERO, "resumed by hand");
            }
            ReceiverInput::Staged(staged) => self.chunks_durable(staged),
            ReceiverInput::Installed { position, scope, filter } => {
                self.installed(position, scope, filter, now);
            }
            ReceiverInput::Rejected { reason } => self.rejected(&reason, now),
            ReceiverInput::Drifted { zone } => self.drifted(zone, now),
            ReceiverInput::Reopened { position, staged } => {
                (self.durable, self.staged) = (position, staged);
                self.restart(Duration::ZERO, "the store begins again from what is durable");
            }
            ReceiverInput::Disconnected => {
                self.phase = Phase::Down;
                self.deadline = None;
                self.assembly = Assembly::default();
                (self.incoming, self.replacing) = (None, false);
                self.halted = self.halted.take().or(self.set_aside.take());
                self.repairs.forget_asked();
            }
        }
    }

    fn send(&mut self, message: ToControl) {
        if !matches!(self.phase, Phase::Down | Phase::Closing) {
            self.outputs.push_back(ReceiverOutput::Send(message));
        }
    }

    fn reconnect(&mut self, after: Duration, reason: String) {
        if !matches!(self.phase, Phase::Down | Phase::Closing) {
            self.phase = Phase::Closing;
            self.deadline = None;
            self.outputs.push_back(ReceiverOutput::Reconnect { after, reason });
        }
    }

    /// Begins again from what is durable; a snapshot that is held is let go of.
    fn restart(&mut self, after: Duration, reason: &str) {
        if self.holds_snapshot() {
            self.halted = None;
        }
        self.received = self.durable;
        (self.incoming, self.handed_out) = (None, None);
        self.outputs.push_back(ReceiverOutput::Restart);
        self.reconnect(after, reason.to_owned());
    }

    fn greet(&mut self, now: Instant) {
        (self.phase, self.fenced) = (Phase::Greeting, false);
        self.deadline = Some(now + WELCOME_WAIT);
        self.seen = self.durable.map_or(Offset::ZERO, |durable| durable.offset);
        self.acked = self.seen;
        let (position, staged) = (self.durable, self.staged);
        self.said_position = position;
        self.send(ToControl::Hello(Hello { position, staged, ..self.identity.clone() }));
    }

    fn take(&mut self, message: ToEdge, now: Instant) {
        match (self.phase, message) {
            (Phase::Down | Phase::Closing, _) => {}
            (_, ToEdge::Goodbye { reason, retry_after, message }) => {
                self.fenced = reason == GoodbyeReason::Fenced;
                let least = if self.fenced { FENCED_WAIT } else { Duration::ZERO };
                self.reconnect(retry_after.max(least), format!("goodbye: {message}"));
            }
            (Phase::Greeting, ToEdge::Welcome(welcome)) => self.welcomed(welcome, now),
            (Phase::Live, ToEdge::Heartbeat { head, .. }) if self.failed => {
                self.alive(now);
                self.head = head;
                self.sign(now);
            }
            // A failed store takes nothing, and what was on its way when that was said is no progress: neither
            // acked nor followed. The control plane sends no more once it has heard it.
            (
                Phase::Live,
                ToEdge::Frame(_) | ToEdge::SnapshotBegin { .. } | ToEdge::SnapshotChunk(_),
            ) if self.failed => {
                self.alive(now);
                self.speak(now);
            }
            (Phase::Live, ToEdge::Frame(parts)) => {
                self.alive(now);
                for part in parts {
                    match self.assembly.take(part) {
                        Ok(Some(set)) => self.receive(set),
                        Ok(None) => {}
                        Err(_) => self.broken("a part of a change set is out of place"),
                    }
                }
                self.ack(Duration::ZERO);
                self.speak(now);
            }
            (Phase::Live, ToEdge::SnapshotBegin { manifest, next }) => {
                self.alive(now);
                self.begin_snapshot(manifest, next);
            }
            (Phase::Live, ToEdge::SnapshotChunk(chunk)) => {
                self.alive(now);
                self.take_chunk(chunk);
                self.speak(now);
            }
            (Phase::Live, ToEdge::Heartbeat { prev, progress, head, sample }) => {
                self.alive(now);
                self.head = head;
                self.progress(prev, progress);
                self.compare(progress, sample);
                self.ack(Duration::ZERO);
                self.sign(now);
                self.ask_for_repair(now);
            }
            _ => self.broken("a message came out of turn"),
        }
    }

    fn alive(&mut self, now: Instant) {
        self.deadline = Some(now + self.heartbeat * HEARTBEATS_MISSED);
    }

    /// Gives one if a heartbeat that would be answered has been due for a while: it waits behind what
    /// is on its way here.
    fn speak(&mut self, now: Instant) {
        let due = |said| now.saturating_duration_since(said) >= self.heartbeat;
        if self.is_live() && self.said.is_none_or(due) {
            self.sign(now);
        }
    }

    fn broken(&mut self, what: &str) {
        self.reconnect(Duration::ZERO, format!("the control plane broke the protocol: {what}"));
    }

    fn welcomed(&mut self, welcome: Welcome, now: Instant) {
        let (speaks, most) = (welcome.protocol, self.identity.protocol);
        if !(PROTOCOL_OLDEST..=most).contains(&speaks) {
            let reason = format!(
                "the control plane speaks version {speaks} of the protocol, this edge \
                 {PROTOCOL_OLDEST} to {most}: update the older of the two"
            );
            return self.reconnect(Duration::ZERO, reason);
        }
        if let Start::Snapshot { of: Some(of), .. } = welcome.start
            && Some(of) != self.said_position
        {
            return self.broken("what this edge has said came to it changed");
        }
        self.said = Some(now);
        self.head = welcome.head.offset;
        self.heartbeat = welcome.heartbeat;
        self.filter = welcome.filter;
        self.alive(now);
        self.phase = Phase::Live;
        match welcome.start {
            // It takes none, and says so.
            Start::Snapshot { .. } if self.failed => {
                (self.seen, self.acked) = (Offset::ZERO, Offset::ZERO);
                self.nack();
            }
            Start::Snapshot { reason, diverged, .. } => {
                self.diverged = diverged;
                self.await_snapshot();
                self.outputs.push_back(ReceiverOutput::Replacing { reason, diverged });
            }
            // What is held was of another control plane, or of another state of this one.
            Start::Resume if self.holds_snapshot() => {
                self.restart(Duration::ZERO, "no snapshot is to come any more");
            }
            Start::Resume => {
                let genesis = Position::genesis(welcome.head.log);
                let ours = self.received.get_or_insert(genesis).log;
                if ours == welcome.head.log {
                    self.nack();
                    self.ask_for_repair(now);
                } else if self.durable.is_some() {
                    self.broken("it resumes another log");
                } else {
                    self.restart(RESTART_WAIT, "what is being stored is of another log");
                }
            }
        }
        if self.paused.is_some() {
            self.say_paused(now);
        }
    }
}
