//! An edge and a control plane on virtual time: the real sender and the real receiver, a log and a
//! store that are lists, and the stream between them.

use std::{
    collections::{HashMap, VecDeque},
    time::{Duration, Instant},
};

use super::super::*;
use crate::{
    digest::Digest,
    limits::FRAME_OCTETS,
    position::LogId,
    sample::{Content, Sample, Sweep, ZoneDigest, Zones},
    snapshot::{Chunk, Manifest, Scope, SnapshotId, Staged},
};

pub const LOG: LogId = LogId([7; 16]);

/// Chunks of a model snapshot.
pub const CHUNKS: u32 = 5;

/// The log: sets of one to three changes. What is below the floor is kept for comparison only.
pub struct ModelLog {
    pub sets: Vec<CommittedSet>,
    pub head: Position,
    pub floor: Offset,
    pub snapshots: HashMap<[u8; 16], (Manifest, Vec<CommittedSet>)>,
    /// What a snapshot is refused with.
    pub busy: bool,
}

impl ModelLog {
    pub fn new(log: LogId) -> Self {
        let head = Position::genesis(log);
        let (sets, snapshots) = (Vec::new(), HashMap::new());
        Self { sets, head, floor: Offset::ZERO, snapshots, busy: false }
    }

    /// Forgets the older half of what is there.
    pub fn compact(&mut self) {
        let kept: Vec<_> = self.sets.iter().filter(|set| set.first > self.floor).collect();
        self.floor = kept.get(kept.len() / 2).map_or(self.floor, |set| set.last);
    }

    /// A snapshot of what an edge should have.
    pub fn snapshot(&mut self, scope: Scope, stride: u64) -> Manifest {
        let number = u8::try_from(self.snapshots.len() % 256).unwrap();
        let content: Vec<_> =
            self.sets.iter().filter(|set| set.first.0 % stride == 0).cloned().collect();
        let (id, position) = (SnapshotId([number; 16]), self.head);
        let records = content.len() as u64;
        let chunks = if content.is_empty() { 0 } else { CHUNKS };
        let (filter, zones, octets) = (filter(stride).hash(), 1, 0);
        let manifest = Manifest { id, position, scope, filter, zones, records, octets, chunks };
        self.snapshots.insert(id.0, (manifest.clone(), content));
        manifest
    }

    /// What the one zone of this world is at the head.
    pub fn sample(&self, stride: u64) -> Sample {
        let count = self.sets.iter().filter(|set| set.first.0 % stride == 0).count() as u64;
        let content = (count > 0).then_some((count, Digest::empty()));
        let zones = content.map(|_| ZoneDigest { origin: Name::root(), content });
        let zones = zones.into_iter().collect();
        Sample { changed: Vec::new(), sweep: Sweep { after: None, zones, to_end: true } }
    }

    pub fn append(&mut self, changes: u64, octets: usize) {
        let (prev, first) = (self.head.offset, self.head.offset.next());
        let last = prev.plus(changes);
        let body = Bytes::from(vec![u8::try_from(first.0 % 251).unwrap(); octets]);
        self.head = self.head.after(last, &body);
        self.sets.push(CommittedSet { prev, first, last, hash: self.head.hash, body });
    }

    pub fn hash_at(&self, offset: Offset) -> Option<HistoryHash> {
        let genesis = (Offset::ZERO, HistoryHash::genesis(self.head.log));
        let mut ends = std::iter::once(genesis).chain(self.sets.iter().map(|s| (s.last, s.hash)));
        ends.find(|(last, _)| *last == offset).map(|(_, hash)| hash)
    }

    /// What an edge that wants every `stride`th set gets.
    pub fn fetch(
        &self,
        after: Offset,
        upto: Offset,
        octets: usize,
        stride: u64,
    ) -> (Vec<CommittedSet>, Position) {
        assert!(after >= self.floor, "what is compacted is asked for");
        let (mut left, mut sets, mut read_to) = (octets, Vec::new(), self.head);
        for set in self.sets.iter().filter(|set| set.first > after) {
            if left == 0 || set.last > upto {
                break;
            }
            left = left.saturating_sub(set.credit());
            read_to = Position { offset: set.last, hash: set.hash, ..self.head };
            if set.first.0 % stride == 0 {
                sets.push(set.clone());
            }
        }
        (sets, read_to)
    }
}

/// The store: what was applied, of it what is durable, and the position of each.
#[derive(Default)]
pub struct ModelStore {
    pub waiting: VecDeque<ReceiverOutput>,
    pub applied: Vec<CommittedSet>,
    pub position: Option<Position>,
    pub staging: Option<(Manifest, u32)>,
    pub installs: usize,
    pub drifts: usize,
    /// Whole snapshots are held.
    pub holds: bool,
    /// One is: what comes behind it is void.
    pub halted: bool,
}

impl Zones for ModelStore {
    fn content(&self, _: &Name) -> Content {
        let count = self.applied.len() as u64;
        (count > 0).then_some((count, Digest::empty()))
    }

    fn between(&self, _: Option<&Name>, _: Option<&Name>) -> Vec<Name> {
        if self.applied.is_empty() { Vec::new() } else { vec![Name::root()] }
    }
}

impl ModelStore {
    /// What a restart of the process finds.
    pub fn staged(&self) -> Option<Staged> {
        self.staging.as_ref().map(|(manifest, next)| Staged { id: manifest.id, next: *next })
    }

    fn durable(&self) -> ReceiverInput {
        let apply = Duration::from_millis(1);
        ReceiverInput::Durable { position: self.position.unwrap(), apply }
    }

    /// Does some of what waits; says how the receiver is told.
    pub fn write(&mut self, count: usize, log: &ModelLog) -> Vec<ReceiverInput> {
        let mut told = Vec::new();
        for _ in 0..count {
            let Some(work) = self.waiting.pop_front() else { break };
            told.extend(self.work(work, log));
        }
        told
    }

    fn work(&mut self, work: ReceiverOutput, log: &ModelLog) -> Option<ReceiverInput> {
        match work {
            ReceiverOutput::Apply(_)
            | ReceiverOutput::Progress(_)
            | ReceiverOutput::Compare { .. }
                if self.halted =>
            {
                None
            }
            ReceiverOutput::Apply(set) => {
                let before = self.position.map_or(Offset::ZERO, |position| position.offset);
                assert!(set.first > before, "invariant 7: applied once, in order");
                self.position = Some(Position { log: LOG, offset: set.last, hash: set.hash });
                self.applied.push(set);
                Some(self.durable())
            }
            ReceiverOutput::Progress(position) => {
                self.position = Some(position);
                Some(self.durable())
            }
            ReceiverOutput::Compare { position, sample } => {
                let ours = self.position.unwrap_or(Position::genesis(LOG));
                assert_eq!(ours, position, "compared where it was taken");
                let drift = sample.drifted(self).into_iter().next()?;
                self.drifts += 1;
                Some(ReceiverInput::Drifted { zone: drift.origin })
            }
            ReceiverOutput::Stage { manifest, next, .. } => {
                let ours = self.staged().filter(|staged| staged.id == manifest.id);
                assert!(ours.map_or(0, |staged| staged.next) >= next, "chunks would be missing");
                let next = ours.map_or(0, |staged| staged.next);
                self.staging = Some((manifest, next));
                None
            }
            ReceiverOutput::StageChunk(chunk) => {
                let (manifest, next) = self.staging.as_mut()?;
                if chunk.index == *next && chunk.snapshot == manifest.id {
                    *next += 1;
                }
                self.staged().map(ReceiverInput::Staged)
            }
            ReceiverOutput::Install(id) => self.install(id, log),
            ReceiverOutput::Restart => {
                self.halted = false;
                None
            }
            ReceiverOutput::Replacing { .. } => None,
            ReceiverOutput::Send(_) | ReceiverOutput::Reconnect { .. } => unreachable!(),
        }
    }

    /// Puts the staged snapshot in place, unless it is held.
    pub fn install(&mut self, id: SnapshotId, log: &ModelLog) -> Option<ReceiverInput> {
        let (manifest, next) = self.staging.as_ref()?;
        assert_eq!((manifest.id, *next), (id, manifest.chunks), "installed whole, or not at all");
        let position = manifest.position;
        self.halted = self.holds;
        if self.holds {
            let (first, reason) = (position.offset, "it shrinks".to_owned());
            return Some(ReceiverInput::Halted(Halt { first, last: first, held: true, reason }));
        }
        let (scope, filter) = (manifest.scope.clone(), manifest.filter);
        if let Scope::Zone(_) = scope {
            assert_eq!(self.position, Some(position), "a repair is a barrier");
        }
        self.applied.clone_from(&log.snapshots.get(&id.0)?.1);
        (self.position, self.staging) = (Some(position), None);
        self.installs += 1;
        Some(ReceiverInput::Installed { position, scope, filter })
    }
}

pub fn hello(position: Option<Position>, filter: Filter) -> Hello {
    Hello {
        edge: "edge-1".parse().unwrap(),
        instance: InstanceId([1; 16]),
        boot_epoch: 1,
        position,
        stored_filter: filter.hash(),
        filter,
        staged: None,
        protocol: PROTOCOL,
        version: "test".to_owned(),
        window: 64 * 1024,
    }
}

pub fn filter(stride: u64) -> Filter {
    if stride == 1 { Filter::All } else { Filter::Zones(vec![Name::root()]) }
}

/// An edge and a control plane, and the stream between them while there is one.
pub struct World {
    pub now: Instant,
    pub log: ModelLog,
    pub store: ModelStore,
    pub receiver: Receiver,
    pub sender: Option<Sender>,
    pub to_edge: VecDeque<ToEdge>,
    pub to_control: VecDeque<ToControl>,
    pub acked: Offset,
    pub stride: u64,
    pub reconnects: Vec<String>,
    pub applied_parts: usize,
    /// What the control plane knows of the edge.
    pub paused: Option<Pause>,
    pub nacks: usize,
}

impl World {
    pub fn new(stride: u64) -> Self {
        Self {
            now: Instant::now(),
            log: ModelLog::new(LOG),
            store: ModelStore::default(),
            receiver: Receiver::new(hello(None, filter(stride))),
            sender: None,
            to_edge: VecDeque::new(),
            to_control: VecDeque::new(),
            acked: Offset::ZERO,
            stride,
            reconnects: Vec::new(),
            applied_parts: 0,
            paused: None,
            nacks: 0,
        }
    }

    pub fn connect(&mut self) {
        self.cut();
        let config = SenderConfig { heartbeat: Duration::from_secs(1) };
        self.sender = Some(Sender::new(config, self.log.head, self.now));
        self.tell(ReceiverInput::Connected);
    }

    pub fn cut(&mut self) {
        if self.sender.take().is_some() {
            self.to_edge.clear();
            self.to_control.clear();
            self.tell(ReceiverInput::Disconnected);
        }
    }

    pub fn tell(&mut self, input: ReceiverInput) {
        self.receiver.handle(input, self.now);
        self.poll_receiver();
    }

    pub fn poll_receiver(&mut self) {
        while let Some(output) = self.receiver.poll() {
            match output {
                ReceiverOutput::Send(message) => self.to_control.push_back(message),
                ReceiverOutput::Reconnect { reason, .. } => {
                    self.reconnects.push(reason);
                    self.cut();
                }
                store => self.store.waiting.push_back(store),
            }
        }
    }

    pub fn input(&mut self, input: SenderInput) {
        if let Some(sender) = &mut self.sender {
            sender.handle(input, self.now);
        }
        self.poll_sender();
    }

    pub fn poll_sender(&mut self) {
        while let Some(output) = self.sender.as_mut().and_then(Sender::poll) {
            match output {
                SenderOutput::Send(message) => self.to_edge.push_back(message),
                SenderOutput::Fetch { after, upto, octets } => {
                    let (sets, read_to) = self.log.fetch(after, upto, octets, self.stride);
                    self.answer(SenderInput::Fetched { sets, read_to });
                }
                SenderOutput::Snapshot { .. } if self.log.busy => {
                    let retry_after = Duration::from_secs(1);
                    let message = "too many snapshots".to_owned();
                    self.answer(SenderInput::SnapshotBusy { retry_after, message });
                }
                SenderOutput::Snapshot { scope, staged } => {
                    let known = staged.and_then(|staged| {
                        let (manifest, _) = self.log.snapshots.get(&staged.id.0)?;
                        let pinned = manifest.position.offset >= self.log.floor;
                        (manifest.scope == scope && pinned).then(|| (manifest.clone(), staged.next))
                    });
                    let (manifest, next) =
                        known.unwrap_or_else(|| (self.log.snapshot(scope, self.stride), 0));
                    self.answer(SenderInput::Snapshot { manifest, next });
                }
                SenderOutput::FetchChunk { id, index } => {
                    let (hash, body) = ([0; 32], Bytes::from_static(&[0; 20_000]));
                    self.answer(SenderInput::Chunk(Chunk { snapshot: id, index, hash, body }));
                }
                SenderOutput::Acked { ack, durable } => {
                    let there = self.store.position.map_or(Offset::ZERO, |p| p.offset);
                    assert!(durable.offset <= there, "invariant 6: acked what is not durable");
                    assert!(self.store.position.is_some_and(|p| p.log == durable.log));
                    assert_eq!(Some(durable.hash), self.log.hash_at(durable.offset));
                    // An edge may stand at a position of an earlier stream, between two of this one.
                    assert!(durable.offset <= ack.last);
                    self.acked = durable.offset;
                }
                SenderOutput::Paused(why) => self.paused = why,
                SenderOutput::Nacked(_) => self.nacks += 1,
                SenderOutput::Staged(_) | SenderOutput::Close => {}
            }
        }
    }

    fn answer(&mut self, input: SenderInput) {
        self.sender.as_mut().unwrap().handle(input, self.now);
    }

    /// The process ends and starts again.
    pub fn restart_edge(&mut self) {
        self.cut();
        self.store.waiting.clear();
        let mut hello = hello(self.store.position, filter(self.stride));
        hello.staged = self.store.staged();
        self.receiver = Receiver::new(hello);
    }

    /// Carries one message each way.
    pub fn carry(&mut self) {
        if let Some(message) = self.to_control.pop_front() {
            let input = match message {
                ToControl::Hello(hello) => SenderInput::Hello {
                    filter: filter(self.stride),
                    ours: self.log.hash_at(hello.position.map_or(Offset::ZERO, |p| p.offset)),
                    hello,
                    floor: self.log.floor,
                    head: self.log.head,
                },
                other => SenderInput::Message(other),
            };
            self.input(input);
        }
        if let Some(message) = self.to_edge.pop_front() {
            if let ToEdge::Frame(parts) = &message {
                self.applied_parts += parts.len();
                let octets: usize = parts.iter().map(|part| part.set.body.len()).sum();
                assert!(parts.len() == 1 || octets <= 2 * FRAME_OCTETS, "a frame is bounded");
            }
            self.tell(ReceiverInput::Message(message));
        }
    }

    pub fn write_store(&mut self, count: usize) {
        for told in self.store.write(count, &self.log) {
            self.tell(told);
        }
    }

    /// Sends a sample of the digests along.
    pub fn sample(&mut self) {
        let sample = self.log.sample(self.stride);
        self.input(SenderInput::Sample(self.log.head, sample));
    }

    pub fn pass(&mut self, time: Duration) {
        self.now += time;
        if let Some(sender) = &mut self.sender {
            sender.handle_timeout(self.now);
        }
        self.poll_sender();
        self.receiver.handle_timeout(self.now);
        self.poll_receiver();
    }

    /// Lets everything come to rest without faults, and checks that all of it arrived.
    pub fn settle(&mut self) {
        for round in 0..20 {
            if round == 10 {
                // A zone that was repaired may be repaired again.
                self.cut();
                self.now += crate::limits::REPAIR_INTERVAL;
            }
            if self.sender.is_none() {
                self.connect();
            }
            self.input(SenderInput::Head(self.log.head));
            self.sample();
            for _ in 0..2_000 {
                self.carry();
                self.write_store(8);
            }
            self.pass(Duration::from_millis(1_000));
        }
        let wanted: Vec<_> =
            self.log.sets.iter().filter(|s| s.first.0 % self.stride == 0).collect();
        let applied: Vec<_> = self.store.applied.iter().map(|set| (set.first, &set.body)).collect();
        assert_eq!(applied, wanted.iter().map(|s| (s.first, &s.body)).collect::<Vec<_>>());
        assert_eq!(
            self.store.position.map(|p| p.offset),
            Some(self.log.head.offset).filter(|o| o.0 > 0)
        );
        assert_eq!(self.acked, self.log.head.offset, "invariant 20: the edge reaches the head");
    }
}
