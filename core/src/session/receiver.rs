//! The edge's end of a session. Lives as long as the process: what was received and what is durable
//! outlast the streams. An ack can only be made from [`ReceiverInput::Durable`].

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use super::{
    Ack, CommittedSet, Filter, GoodbyeReason, Hello, Start, ToControl, ToEdge, Welcome,
    assembly::Assembly,
};
use crate::{
    limits::{FENCED_WAIT, HEARTBEATS_MISSED},
    position::{LogId, Offset, Position},
};

/// How long a control plane may take to answer Hello.
const WELCOME_WAIT: Duration = Duration::from_secs(10);

/// What happens to a receiver.
#[derive(Debug)]
pub enum ReceiverInput {
    /// A stream is open.
    Connected,
    /// A message has come.
    Message(ToEdge),
    /// The store has made everything up to here durable; how long that took since its receipt.
    Durable {
        /// Up to where.
        position: Position,
        /// From receipt to durable.
        apply: Duration,
    },
    /// The store cannot apply a set: halt before it (rule 23).
    Poison {
        /// Offset of the set's first change.
        first: Offset,
        /// Offset of its last change.
        last: Offset,
        /// Why: one line.
        reason: String,
    },
    /// The store that [`ReceiverOutput::Rebuild`] asked for is there, and empty.
    Rebuilt,
    /// The stream is gone, by whatever cause.
    Disconnected,
}

/// What a receiver wants done.
#[derive(Debug, PartialEq, Eq)]
pub enum ReceiverOutput {
    /// Send a message.
    Send(ToControl),
    /// Apply a set after all before it.
    Apply(CommittedSet),
    /// Make a position durable that has no set for this edge, after all sets before it.
    Progress(Position),
    /// After all that was to be applied before it: put the store aside, open an empty one, and
    /// answer with [`ReceiverInput::Rebuilt`]. What is to be applied next is for the new one.
    Rebuild {
        /// Why: one line, to be alarmed.
        reason: String,
    },
    /// Close the stream and connect again, not before a time has gone by.
    Reconnect {
        /// The least wait before the next try; backoff comes on top.
        after: Duration,
        /// Why: one line.
        reason: String,
    },
}

/// A set that the store could not apply.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Halt {
    first: Offset,
    last: Offset,
    reason: String,
}

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
    phase: Phase,
    /// What was handed out to be applied; none before the first Welcome of an empty store.
    received: Option<Position>,
    durable: Option<Position>,
    /// The last position that this stream has brought, and the last that was acked on it. What an
    /// earlier stream brought is not acked before this one has brought it again.
    seen: Offset,
    acked: Offset,
    assembly: Assembly,
    head: Offset,
    duplicates: u64,
    /// A store is being put aside: what is still said of it does not count.
    rebuilding: bool,
    halted: Option<Halt>,
    heartbeat: Duration,
    deadline: Option<Instant>,
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
            identity,
            seen: Offset::ZERO,
            acked: Offset::ZERO,
            assembly: Assembly::default(),
            head: Offset::ZERO,
            duplicates: 0,
            rebuilding: false,
            halted: None,
            heartbeat: WELCOME_WAIT,
            deadline: None,
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

    /// Why the edge has halted, if it has: one line.
    #[must_use]
    pub fn halted(&self) -> Option<String> {
        let halt = self.halted.as_ref()?;
        Some(format!("offsets {} to {}: {}", halt.first, halt.last, halt.reason))
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
            ReceiverInput::Durable { .. } | ReceiverInput::Poison { .. } if self.rebuilding => {}
            ReceiverInput::Durable { position, apply } => {
                self.durable = Some(position);
                self.ack(apply);
            }
            ReceiverInput::Poison { first, last, reason } => {
                self.halted = Some(Halt { first, last, reason });
                self.nack();
            }
            ReceiverInput::Rebuilt => self.rebuilding = false,
            ReceiverInput::Disconnected => {
                self.phase = Phase::Down;
                self.deadline = None;
                self.assembly = Assembly::default();
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

    fn greet(&mut self, now: Instant) {
        self.phase = Phase::Greeting;
        self.deadline = Some(now + WELCOME_WAIT);
        self.seen = self.durable.map_or(Offset::ZERO, |durable| durable.offset);
        self.acked = self.seen;
        self.send(ToControl::Hello(Hello { position: self.durable, ..self.identity.clone() }));
    }

    fn take(&mut self, message: ToEdge, now: Instant) {
        match (self.phase, message) {
            (Phase::Down | Phase::Closing, _) => {}
            (_, ToEdge::Goodbye { reason, retry_after, message }) => {
                let fenced = reason == GoodbyeReason::Fenced;
                let least = if fenced { FENCED_WAIT } else { Duration::ZERO };
                self.reconnect(retry_after.max(least), format!("goodbye: {message}"));
            }
            (Phase::Greeting, ToEdge::Welcome(welcome)) => self.welcomed(welcome, now),
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
            }
            (Phase::Live, ToEdge::Heartbeat { prev, progress, head }) => {
                self.alive(now);
                self.head = head;
                self.progress(prev, progress);
                self.ack(Duration::ZERO);
                let (first, last) = (self.acked.next(), self.acked);
                self.send(ToControl::Ack(Ack { first, last, apply: Duration::ZERO }));
            }
            _ => self.broken("a message came out of turn"),
        }
    }

    fn alive(&mut self, now: Instant) {
        self.deadline = Some(now + self.heartbeat * HEARTBEATS_MISSED);
    }

    fn broken(&mut self, what: &str) {
        self.reconnect(Duration::ZERO, format!("the control plane broke the protocol: {what}"));
    }

    fn welcomed(&mut self, welcome: Welcome, now: Instant) {
        self.head = welcome.head.offset;
        self.heartbeat = welcome.heartbeat;
        self.alive(now);
        self.phase = Phase::Live;
        let ours = self.received.map_or(welcome.head.log, |received| received.log);
        match welcome.start {
            Start::Rebuild { reason } => self.rebuild(welcome.head.log, reason),
            Start::Resume if ours == welcome.head.log => {
                self.received.get_or_insert(Position::genesis(welcome.head.log));
                self.nack();
            }
            Start::Resume if self.durable.is_none() => {
                let reason = format!("nothing of log {ours} is durable, and this is another one");
                self.rebuild(welcome.head.log, reason);
            }
            Start::Resume => self.broken("it resumes another log"),
        }
    }

    /// Begins anew. What the old store still does is ignored until the new one is there.
    fn rebuild(&mut self, log: LogId, reason: String) {
        (self.seen, self.acked) = (Offset::ZERO, Offset::ZERO);
        (self.received, self.durable, self.halted) = (Some(Position::genesis(log)), None, None);
        self.rebuilding = true;
        self.outputs.push_back(ReceiverOutput::Rebuild { reason });
    }

    /// Takes a whole set: the next one, or one that is there already (invariant 7).
    fn receive(&mut self, set: CommittedSet) {
        let Some(received) = self.received.filter(|_| self.phase == Phase::Live) else { return };
        self.seen = self.seen.max(set.last);
        if set.last <= received.offset {
            self.duplicates =
                self.duplicates.saturating_add(set.last.since(set.first)).saturating_add(1);
            return;
        }
        if set.prev != received.offset || set.first <= set.prev || set.first > set.last {
            let (prev, ours) = (set.prev, received.offset);
            return self.broken(&format!("a set follows {prev}, where {ours} was the last"));
        }
        // A filtered edge has not all sets that the hash chains, and can only keep it (rule 12).
        let ours = received.hash.chain(set.first, set.last, &set.body);
        if self.identity.filter == Filter::All && (set.hash != ours || set.first != set.prev.next())
        {
            return self.broken(&format!("the history hash of the set {} differs", set.first));
        }
        self.received = Some(Position { offset: set.last, hash: set.hash, ..received });
        self.head = self.head.max(set.last);
        if self.halted.is_none() {
            self.outputs.push_back(ReceiverOutput::Apply(set));
        }
    }

    /// Takes the progress of a heartbeat: what lies between has nothing for this edge (rule 11).
    fn progress(&mut self, prev: Offset, progress: Position) {
        let Some(received) = self.received.filter(|_| self.phase == Phase::Live) else { return };
        self.seen = self.seen.max(progress.offset);
        if progress.offset <= received.offset {
            return;
        }
        if prev != received.offset || progress.log != received.log {
            return self.broken("a heartbeat does not follow what came before it");
        }
        self.received = Some(progress);
        if self.halted.is_none() {
            self.outputs.push_back(ReceiverOutput::Progress(progress));
        }
    }

    /// Acks what is durable by the store's own word, and nothing else (invariant 6).
    fn ack(&mut self, apply: Duration) {
        let durable = self.durable.map_or(Offset::ZERO, |durable| durable.offset);
        let last = durable.min(self.seen);
        if last > self.acked && self.phase == Phase::Live {
            let first = std::mem::replace(&mut self.acked, last).next();
            self.send(ToControl::Ack(Ack { first, last, apply }));
        }
    }

    /// Says that the store has halted, if it has.
    fn nack(&mut self) {
        if let Some(Halt { first, last, reason }) = self.halted.clone() {
            self.send(ToControl::Nack { first, last, reason });
        }
    }
}
