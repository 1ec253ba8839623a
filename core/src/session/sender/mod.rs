//! The control plane's end of a session: what may be sent, and when. It never holds more than one
//! frame, and never lets more than the edge's window go unacknowledged, nor more than some heartbeats
//! unanswered (invariant 16).

mod history;
mod snapshot;
mod steps;

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

pub use self::steps::{SenderInput, SenderOutput};
use self::{history::History, snapshot::Snapshots};
use super::{
    Ack, CommittedSet, Filter, GoodbyeReason, Hello, PROTOCOL, PROTOCOL_OLDEST, Pause, Start,
    ToControl, ToEdge, Welcome, assembly,
};
use crate::{
    limits::{
        FENCED_WAIT, FRAME_OCTETS, HEARTBEATS_AHEAD, HEARTBEATS_MISSED, HELLO_WAIT,
        PROGRESS_COALESCED, SAMPLES_AHEAD, SET_OVERHEAD_OCTETS, WINDOW_OCTETS, WINDOW_OCTETS_MAX,
    },
    position::{Offset, Position},
    sample::Sample,
    snapshot::Scope,
};

/// What a sender is set to.
#[derive(Debug, Clone)]
pub struct SenderConfig {
    /// Time between heartbeats.
    pub heartbeat: Duration,
}

/// A position that the edge was sent to and has not acknowledged.
#[derive(Debug)]
struct InFlight {
    position: Position,
    octets: usize,
}

/// The control plane's end of one session.
#[derive(Debug)]
pub struct Sender {
    config: SenderConfig,
    head: Position,
    /// The last position that the edge was told of: `prev` of what is sent next.
    sent: Offset,
    /// Up to where the log was read; beyond `sent` if there was nothing for this edge.
    read: Position,
    acked: Offset,
    in_flight: VecDeque<InFlight>,
    in_flight_octets: usize,
    window: usize,
    fetching: bool,
    greeted: bool,
    /// Which zones the session is for, once it has been greeted.
    filter: Option<Filter>,
    halted: bool,
    /// Why the edge applies nothing for now, as last said.
    paused: Option<Pause>,
    closed: bool,
    snapshots: Snapshots,
    /// What some zones are, and where: sent when the edge is sent there.
    sample: Option<(Position, Sample)>,
    next_heartbeat: Option<Instant>,
    /// Heartbeats that the edge has not answered.
    unanswered: u32,
    deadline: Instant,
    outputs: VecDeque<SenderOutput>,
}

impl Sender {
    /// A sender that waits for Hello.
    #[must_use]
    pub fn new(config: SenderConfig, head: Position, now: Instant) -> Self {
        Self {
            head,
            sent: Offset::ZERO,
            read: Position::genesis(head.log),
            acked: Offset::ZERO,
            in_flight: VecDeque::new(),
            in_flight_octets: 0,
            window: 0,
            fetching: false,
            greeted: false,
            filter: None,
            halted: false,
            paused: None,
            closed: false,
            snapshots: Snapshots::default(),
            sample: None,
            next_heartbeat: None,
            unanswered: 0,
            deadline: now + HELLO_WAIT,
            config,
            outputs: VecDeque::new(),
        }
    }

    /// The next thing to be done.
    pub fn poll(&mut self) -> Option<SenderOutput> {
        self.outputs.pop_front()
    }

    /// When [`Sender::handle_timeout`] is to be called.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let heartbeat = self.next_heartbeat.unwrap_or(self.deadline);
        (!self.closed).then(|| heartbeat.min(self.deadline))
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.closed {
            return;
        }
        if now >= self.deadline {
            let message = "no word from the edge for too long".to_owned();
            return self.goodbye(GoodbyeReason::Timeout, Duration::ZERO, message);
        }
        if self.next_heartbeat.is_some_and(|due| now >= due) {
            // Behind so many that wait at the edge, one more says nothing; what the edge reads is
            // sign of life enough.
            if self.unanswered < HEARTBEATS_AHEAD {
                self.heartbeat(None, now);
            } else {
                self.next_heartbeat = Some(now + self.config.heartbeat);
            }
            self.next_repair(now);
        }
    }

    /// Takes what has happened.
    pub fn handle(&mut self, input: SenderInput, now: Instant) {
        if self.closed {
            return;
        }
        match input {
            SenderInput::Hello { hello, filter, ours, floor, head } => {
                self.hello(&hello, filter, &History { ours, floor, head }, now);
            }
            SenderInput::Message(message) => self.message(message, now),
            SenderInput::Head(head) => {
                self.head = head;
                self.advance(now);
            }
            // One that waits for its place is not put off by the next: under load none would come. An
            // edge that is slow to answer has better things to read.
            SenderInput::Sample(position, sample) => {
                let has_time = self.unanswered < SAMPLES_AHEAD && self.sample.is_none();
                if has_time && position.offset >= self.read.offset {
                    self.sample = Some((position, sample));
                    self.advance(now);
                }
            }
            SenderInput::Snapshot { manifest, next } => self.snapshot_ready(manifest, next, now),
            SenderInput::SnapshotBusy { retry_after, message } => {
                self.snapshot_busy(retry_after, message, now);
            }
            SenderInput::Chunk(chunk) => self.chunk_fetched(chunk, now),
            SenderInput::Fetched { sets, read_to } => self.fetched(sets, read_to, now),
            SenderInput::Fence => {
                let message = "a newer process has this edge id".to_owned();
                self.goodbye(GoodbyeReason::Fenced, FENCED_WAIT, message);
            }
            SenderInput::Drain { retry_after } => {
                let message = "the control plane stops".to_owned();
                self.goodbye(GoodbyeReason::Draining, retry_after, message);
            }
        }
    }

    fn send(&mut self, message: ToEdge) {
        self.outputs.push_back(SenderOutput::Send(message));
    }

    fn goodbye(&mut self, reason: GoodbyeReason, retry_after: Duration, message: String) {
        self.send(ToEdge::Goodbye { reason, retry_after, message });
        self.outputs.push_back(SenderOutput::Close);
        self.closed = true;
    }

    fn refuse(&mut self, message: &str) {
        self.goodbye(GoodbyeReason::Refused, Duration::ZERO, message.to_owned());
    }

    fn hello(&mut self, hello: &Hello, filter: Filter, history: &History, now: Instant) {
        if self.greeted {
            return self.refuse("Hello came twice");
        }
        if hello.protocol < PROTOCOL_OLDEST {
            let speaks = hello.protocol;
            return self.refuse(&format!(
                "the edge speaks version {speaks} of the protocol, this control plane \
                 {PROTOCOL_OLDEST} to {PROTOCOL}: update the edge"
            ));
        }
        let (start, head) = (history.judge(hello, &filter), history.head);
        self.greeted = true;
        self.head = head;
        if let (Start::Resume, Some(position)) = (&start, hello.position) {
            (self.sent, self.acked, self.read) = (position.offset, position.offset, position);
            let (first, last) = (position.offset.next(), position.offset);
            let ack = Ack { first, last, apply: Duration::ZERO };
            self.outputs.push_back(SenderOutput::Acked { ack, durable: position });
        }
        let asked = if hello.window == 0 { WINDOW_OCTETS } else { hello.window };
        self.window = usize::try_from(asked.min(WINDOW_OCTETS_MAX)).unwrap_or(FRAME_OCTETS);
        self.deadline = now + self.config.heartbeat * HEARTBEATS_MISSED;
        self.next_heartbeat = Some(now + self.config.heartbeat);
        let (heartbeat, protocol) = (self.config.heartbeat, PROTOCOL.min(hello.protocol));
        let snapshot = matches!(start, Start::Snapshot { .. });
        self.filter = Some(filter.clone());
        self.send(ToEdge::Welcome(Welcome { start, head, heartbeat, protocol, filter }));
        if snapshot {
            self.ask_for_snapshot(Scope::Store, hello.staged);
        }
        self.advance(now);
    }

    fn message(&mut self, message: ToControl, now: Instant) {
        self.deadline = now + self.config.heartbeat * HEARTBEATS_MISSED;
        match message {
            ToControl::Hello(_) => self.refuse("Hello came twice"),
            _ if !self.greeted => self.refuse("the first message is Hello"),
            ToControl::Ack(ack) | ToControl::Paused { ack, .. } if ack.last > self.sent => {
                self.refuse("an ack for what was never sent");
            }
            ToControl::Ack(ack) => {
                // Only what answers a heartbeat says whether it is paused.
                if ack.first > ack.last {
                    self.paused(None);
                }
                self.ack(ack, now);
            }
            ToControl::Paused { ack, pause } => {
                self.paused(Some(pause));
                self.ack(ack, now);
            }
            ToControl::Nack(halt) => {
                self.halted = true;
                self.outputs.push_back(SenderOutput::Nacked(halt));
            }
            ToControl::SnapshotAck(staged) => self.chunks_acked(staged, now),
            ToControl::Repair { zone } if !self.filter.as_ref().is_some_and(|f| f.wants(&zone)) => {
                self.refuse("a repair of a zone that the session is not for");
            }
            ToControl::Repair { zone } => self.repair(zone, now),
        }
    }

    fn paused(&mut self, pause: Option<Pause>) {
        if self.paused != pause {
            self.paused.clone_from(&pause);
            self.outputs.push_back(SenderOutput::Paused(pause));
        }
    }

    fn ack(&mut self, ack: Ack, now: Instant) {
        if ack.last == self.sent {
            self.unanswered = 0;
        } else if ack.first > ack.last {
            self.unanswered = self.unanswered.saturating_sub(1);
        }
        if ack.last > self.acked {
            self.acked = ack.last;
            let mut durable = None;
            while let Some(sent) = self.in_flight.pop_front_if(|s| s.position.offset <= ack.last) {
                self.in_flight_octets = self.in_flight_octets.saturating_sub(sent.octets);
                durable = Some(sent.position);
            }
            self.outputs.extend(durable.map(|durable| SenderOutput::Acked { ack, durable }));
            self.advance(now);
        }
    }

    /// Does what is to be done where the edge has been sent to, and asks for what is to be sent next,
    /// if there is something and room for it.
    fn advance(&mut self, now: Instant) {
        if !self.greeted || self.halted || self.closed {
            return;
        }
        if !self.snapshots.holds_log() {
            let here = self.read.offset;
            // A snapshot may have gone beyond where it was taken: then it says nothing any more.
            let taken = self.sample.take_if(|(position, _)| position.offset <= here);
            if let Some((_, sample)) = taken.filter(|(position, _)| *position == self.read) {
                self.heartbeat(Some(sample), now);
            }
            if self.snapshots.barrier().is_some_and(|barrier| barrier <= here) {
                self.begin_repair(now);
            }
        }
        let room = self.window.saturating_sub(self.in_flight_octets);
        if self.fetching || room == 0 {
            return;
        }
        if self.snapshots.holds_log() {
            self.next_chunk();
        } else {
            self.fetch(room);
        }
    }

    /// Asks for more of the log, up to the next place where something else is to be sent.
    fn fetch(&mut self, room: usize) {
        let sample = self.sample.as_ref().map(|(position, _)| position.offset);
        let stops = [Some(self.head.offset), sample, self.snapshots.barrier()];
        let upto = stops.into_iter().flatten().min().unwrap_or(self.head.offset);
        if self.read.offset < upto {
            self.fetching = true;
            let (after, octets) = (self.read.offset, room.min(FRAME_OCTETS));
            self.outputs.push_back(SenderOutput::Fetch { after, upto, octets });
        }
    }

    fn fetched(&mut self, sets: Vec<CommittedSet>, read_to: Position, now: Instant) {
        self.fetching = false;
        self.read = read_to;
        let mut frame = Vec::with_capacity(sets.len());
        for mut set in sets {
            set.prev = std::mem::replace(&mut self.sent, set.last);
            let octets = set.credit();
            let position = Position { offset: set.last, hash: set.hash, ..self.head };
            self.in_flight.push_back(InFlight { position, octets });
            self.in_flight_octets = self.in_flight_octets.saturating_add(octets);
            for part in assembly::parts(set) {
                let alone = part.size > FRAME_OCTETS;
                if alone && !frame.is_empty() {
                    self.send(ToEdge::Frame(std::mem::take(&mut frame)));
                }
                frame.push(part);
                if alone {
                    self.send(ToEdge::Frame(std::mem::take(&mut frame)));
                }
            }
        }
        if !frame.is_empty() {
            self.send(ToEdge::Frame(frame));
        }
        if self.read.offset > self.sent {
            let soon = now + PROGRESS_COALESCED;
            self.next_heartbeat = self.next_heartbeat.map(|due| due.min(soon));
        }
        self.advance(now);
    }

    fn heartbeat(&mut self, sample: Option<Sample>, now: Instant) {
        self.next_heartbeat = Some(now + self.config.heartbeat);
        let (prev, progress, head) = (self.sent, self.read, self.head.offset);
        if progress.offset > prev {
            self.sent = progress.offset;
            // It waits at the edge as a set does, so it counts as one; what is read on the way to it was within the
            // window, so there is at most one beyond it (invariant 16).
            let octets = SET_OVERHEAD_OCTETS;
            self.in_flight.push_back(InFlight { position: progress, octets });
            self.in_flight_octets = self.in_flight_octets.saturating_add(octets);
        }
        self.unanswered = self.unanswered.saturating_add(1);
        self.send(ToEdge::Heartbeat { prev, progress, head, sample });
    }
}
