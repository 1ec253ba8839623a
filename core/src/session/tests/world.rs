//! An edge and a control plane on virtual time: the real sender and the real receiver, a log and a
//! store that are lists, and the stream between them.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use super::super::*;
use crate::{limits::FRAME_OCTETS, position::LogId};

pub const LOG: LogId = LogId([7; 16]);

/// The log: sets of one to three changes.
pub struct ModelLog {
    pub sets: Vec<CommittedSet>,
    pub head: Position,
}

impl ModelLog {
    pub fn new(log: LogId) -> Self {
        Self { sets: Vec::new(), head: Position::genesis(log) }
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
        octets: usize,
        stride: u64,
    ) -> (Vec<CommittedSet>, Position) {
        let (mut left, mut sets, mut read_to) = (octets, Vec::new(), self.head);
        for set in self.sets.iter().filter(|set| set.first > after) {
            if left == 0 {
                break;
            }
            left = left.saturating_sub(set.body.len());
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
    pub rebuilds: usize,
}

impl ModelStore {
    /// Makes some of what waits durable; says how the receiver is told.
    pub fn write(&mut self, count: usize) -> Vec<ReceiverInput> {
        let mut told = Vec::new();
        for _ in 0..count {
            match self.waiting.pop_front() {
                Some(ReceiverOutput::Apply(set)) => {
                    let before = self.applied.last().map_or(Offset::ZERO, |last| last.last);
                    assert!(set.first > before, "invariant 7: applied once, in order");
                    let log = LOG;
                    self.position = Some(Position { log, offset: set.last, hash: set.hash });
                    self.applied.push(set);
                }
                Some(ReceiverOutput::Progress(position)) => self.position = Some(position),
                Some(ReceiverOutput::Rebuild { .. }) => {
                    *self = Self {
                        rebuilds: self.rebuilds + 1,
                        waiting: std::mem::take(&mut self.waiting),
                        ..Self::default()
                    };
                    told.push(ReceiverInput::Rebuilt);
                    continue;
                }
                _ => break,
            }
            let position = self.position.unwrap();
            told.push(ReceiverInput::Durable { position, apply: Duration::from_millis(1) });
        }
        told
    }
}

pub fn hello(position: Option<Position>, filter: Filter) -> Hello {
    Hello {
        edge: "edge-1".parse().unwrap(),
        instance: InstanceId([1; 16]),
        boot_epoch: 1,
        position,
        filter,
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
                SenderOutput::Fetch { after, octets } => {
                    let (sets, read_to) = self.log.fetch(after, octets, self.stride);
                    let fetched = SenderInput::Fetched { sets, read_to };
                    self.sender.as_mut().unwrap().handle(fetched, self.now);
                }
                SenderOutput::Acked { ack, durable } => {
                    let there = self.store.position.map_or(Offset::ZERO, |p| p.offset);
                    assert!(durable.offset <= there, "invariant 6: acked what is not durable");
                    assert_eq!(Some(durable.hash), self.log.hash_at(durable.offset));
                    assert_eq!(durable.offset, ack.last);
                    self.acked = durable.offset;
                }
                SenderOutput::Nacked { .. } | SenderOutput::Close => {}
            }
        }
    }

    /// Carries one message each way.
    pub fn carry(&mut self) {
        if let Some(message) = self.to_control.pop_front() {
            let input = match message {
                ToControl::Hello(hello) => SenderInput::Hello {
                    ours: self.log.hash_at(hello.position.map_or(Offset::ZERO, |p| p.offset)),
                    hello,
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
        self.store.write(count).into_iter().for_each(|told| self.tell(told));
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
        for _ in 0..20 {
            if self.sender.is_none() {
                self.connect();
            }
            self.input(SenderInput::Head(self.log.head));
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
