//! The edge's end of a session. Lives as long as the process: what was received and what is durable
//! outlast the streams. An ack can only be made from [`ReceiverInput::Durable`] and
//! [`ReceiverInput::Installed`], the store's own words.

mod snapshot;

use std::{
    collections::{HashMap, HashSet, VecDeque},
    time::{Duration, Instant},
};

use self::snapshot::Incoming;
use super::{
    Ack, CommittedSet, Filter, GoodbyeReason, Halt, Hello, PROTOCOL_OLDEST, Start, ToControl,
    ToEdge, Welcome, assembly::Assembly,
};
use crate::{
    limits::{FENCED_WAIT, HEARTBEATS_MISSED},
    name::Name,
    position::{Offset, Position},
    sample::Sample,
    snapshot::{Chunk, Manifest, Scope, SnapshotId, Staged},
};

/// How long a control plane may take to answer Hello.
const WELCOME_WAIT: Duration = Duration::from_secs(10);

/// How long a store may take to end what it has begun with another log's changes.
const RESTART_WAIT: Duration = Duration::from_secs(1);

/// What happens to a receiver.
#[derive(Debug)]
pub enum ReceiverInput {
    /// A stream is open.
    Connected,
    /// A message has come.
    Message(ToEdge),
    /// A good part of a message has come, or it waits behind one: on a narrow link a whole one takes
    /// longer than the silence after which a stream is given up.
    Part,
    /// The store has made everything up to here durable; how long that took since its receipt.
    Durable {
        /// Up to where.
        position: Position,
        /// From receipt to durable.
        apply: Duration,
    },
    /// The store does not apply a set or a snapshot: halt before it (rule 23).
    Halted(Halt),
    /// A person has said that the edge is to go on: what it had halted before is tried again.
    Resumed,
    /// Chunks of a snapshot are durable, and not yet visible.
    Staged(Staged),
    /// A snapshot is in place, and durable.
    Installed {
        /// The store's position with it.
        position: Position,
        /// What it has taken the place of.
        scope: Scope,
        /// Hash of the filter that a whole store is of with it.
        filter: [u8; 32],
    },
    /// A snapshot is not what it said, and was thrown away.
    Rejected {
        /// Why: one line.
        reason: String,
    },
    /// A zone is not what it should be.
    Drifted {
        /// Its origin.
        zone: Name,
    },
    /// The store was closed and opened again: what it had not made durable is lost to it.
    Reopened {
        /// What is durable in it.
        position: Option<Position>,
        /// What it has of a snapshot.
        staged: Option<Staged>,
    },
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
    /// A snapshot will take the place of all there is: to be told, and to be alarmed if the history
    /// differs.
    Replacing {
        /// Why: one line.
        reason: String,
        /// True if what there is is not of the control plane's history (invariant 12).
        diverged: bool,
    },
    /// After all that was to be applied before it: compare these zones with the store.
    Compare {
        /// Where the sample stands.
        position: Position,
        /// The zones.
        sample: Sample,
    },
    /// After all that was to be applied before it: make ready for a snapshot's chunks, from one on.
    Stage {
        /// What the snapshot has.
        manifest: Manifest,
        /// The first chunk that will come.
        next: u32,
    },
    /// Stage the next chunk.
    StageChunk(Chunk),
    /// All chunks were handed out: put the snapshot in place, if it is what it says.
    Install(SnapshotId),
    /// What was handed out and is not durable is void: nothing of it may be applied any more. What
    /// is handed out from here on begins at what is durable.
    Restart,
    /// Close the stream and connect again, not before a time has gone by.
    Reconnect {
        /// The least wait before the next try; backoff comes on top.
        after: Duration,
        /// Why: one line.
        reason: String,
    },
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
    handed_out: Option<SnapshotId>,
    /// A snapshot is to take the place of all there is: what is there is not acked any more.
    replacing: bool,
    /// Zones whose repair was asked for on this stream.
    asked: HashSet<Name>,
    /// When zones were repaired.
    repaired: HashMap<Name, Instant>,
    /// The last position that this stream has brought, and the last that was acked on it. What an
    /// earlier stream brought is not acked before this one has brought it again.
    seen: Offset,
    acked: Offset,
    assembly: Assembly,
    head: Offset,
    duplicates: u64,
    halted: Option<Halt>,
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
            replacing: false,
            asked: HashSet::new(),
            repaired: HashMap::new(),
            filter: identity.filter.clone(),
            identity,
            seen: Offset::ZERO,
            acked: Offset::ZERO,
            assembly: Assembly::default(),
            head: Offset::ZERO,
            duplicates: 0,
            halted: None,
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
                self.ack(apply);
            }
            ReceiverInput::Halted(halt) => {
                self.halted = Some(halt);
                self.nack();
            }
            ReceiverInput::Resumed => {
                (self.halted, self.set_aside) = (None, None);
                self.restart(Duration::ZERO, "resumed by hand");
            }
            ReceiverInput::Staged(staged) => self.chunks_durable(staged),
            ReceiverInput::Installed { position, scope, filter } => {
                self.installed(position, scope, filter, now);
            }
            ReceiverInput::Rejected { reason } => self.rejected(&reason),
            ReceiverInput::Drifted { zone } => self.drifted(zone, now),
            ReceiverInput::Reopened { position, staged } => {
                (self.durable, self.staged) = (position, staged);
                self.restart(Duration::ZERO, "the store was opened again");
            }
            ReceiverInput::Disconnected => {
                self.phase = Phase::Down;
                self.deadline = None;
                self.assembly = Assembly::default();
                (self.incoming, self.replacing) = (None, false);
                self.halted = self.halted.take().or(self.set_aside.take());
                self.asked.clear();
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

    /// Begins again from what is durable.
    fn restart(&mut self, after: Duration, reason: &str) {
        self.received = self.durable;
        (self.incoming, self.handed_out) = (None, None);
        self.outputs.push_back(ReceiverOutput::Restart);
        self.reconnect(after, reason.to_owned());
    }

    fn greet(&mut self, now: Instant) {
        self.phase = Phase::Greeting;
        self.deadline = Some(now + WELCOME_WAIT);
        self.seen = self.durable.map_or(Offset::ZERO, |durable| durable.offset);
        self.acked = self.seen;
        let (position, staged) = (self.durable, self.staged);
        self.send(ToControl::Hello(Hello { position, staged, ..self.identity.clone() }));
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
            }
            _ => self.broken("a message came out of turn"),
        }
    }

    fn alive(&mut self, now: Instant) {
        self.deadline = Some(now + self.heartbeat * HEARTBEATS_MISSED);
    }

    /// Gives the control plane a sign of life.
    fn sign(&mut self, now: Instant) {
        let (first, last) = (self.acked.next(), self.acked);
        self.send(ToControl::Ack(Ack { first, last, apply: Duration::ZERO }));
        self.said = Some(now);
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
        self.said = Some(now);
        self.head = welcome.head.offset;
        self.heartbeat = welcome.heartbeat;
        self.filter = welcome.filter;
        self.alive(now);
        self.phase = Phase::Live;
        match welcome.start {
            Start::Snapshot { reason, diverged } => {
                self.await_snapshot();
                self.outputs.push_back(ReceiverOutput::Replacing { reason, diverged });
            }
            Start::Resume => {
                let genesis = Position::genesis(welcome.head.log);
                let ours = self.received.get_or_insert(genesis).log;
                if ours == welcome.head.log {
                    self.nack();
                } else if self.durable.is_some() {
                    self.broken("it resumes another log");
                } else {
                    self.restart(RESTART_WAIT, "what is being stored is of another log");
                }
            }
        }
    }

    /// Takes a whole set: the next one, or one that is there already (invariant 7).
    fn receive(&mut self, set: CommittedSet) {
        if self.replacing && self.handed_out.is_none() {
            return self.broken("sets come before the snapshot that was announced");
        }
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
        if self.filter == Filter::All && (set.hash != ours || set.first != set.prev.next()) {
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
        if progress.offset <= received.offset {
            self.seen = self.seen.max(progress.offset);
            return;
        }
        if prev != received.offset || progress.log != received.log {
            return self.broken("a heartbeat does not follow what came before it");
        }
        // There is no set that an edge of all zones would be led past.
        if self.identity.filter == Filter::All {
            return self.broken("a heartbeat leads past sets that have not come");
        }
        self.seen = progress.offset;
        self.received = Some(progress);
        if self.halted.is_none() {
            self.outputs.push_back(ReceiverOutput::Progress(progress));
        }
    }

    /// Hands a sample on, if the store will stand where it was taken.
    fn compare(&mut self, position: Position, sample: Option<Sample>) {
        let here = self.received == Some(position) && self.halted.is_none() && !self.replacing;
        let sample = sample.filter(|_| here && self.phase == Phase::Live);
        self.outputs.extend(sample.map(|sample| ReceiverOutput::Compare { position, sample }));
    }

    /// Acks what is durable by the store's own word, and nothing else (invariant 6).
    fn ack(&mut self, apply: Duration) {
        if self.replacing {
            return;
        }
        let durable = self.durable.map_or(Offset::ZERO, |durable| durable.offset);
        let last = durable.min(self.seen);
        if last > self.acked && self.phase == Phase::Live {
            let first = std::mem::replace(&mut self.acked, last).next();
            self.send(ToControl::Ack(Ack { first, last, apply }));
        }
    }

    /// Says that the store has halted, if it has.
    fn nack(&mut self) {
        if let Some(halt) = self.halted.clone() {
            self.send(ToControl::Nack(halt));
        }
    }
}
