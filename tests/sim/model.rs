//! The log and the edge's disk, as lists.

use bytes::Bytes;
use edgesync_core::{
    position::{HistoryHash, LogId, Offset, Position},
    session::CommittedSet,
};

/// A log whose every append is durable at once; the real one's is tested where it lives.
pub struct SimLog {
    sets: Vec<CommittedSet>,
    head: Position,
}

impl SimLog {
    pub fn new(seed: u64) -> Self {
        let mut id = [0; 16];
        id[..8].copy_from_slice(&seed.to_be_bytes());
        Self { sets: Vec::new(), head: Position::genesis(LogId(id)) }
    }

    pub const fn head(&self) -> Position {
        self.head
    }

    pub fn len(&self) -> u64 {
        self.sets.len() as u64
    }

    pub fn append(&mut self, changes: u64, octets: usize) {
        let (prev, first) = (self.head.offset, self.head.offset.next());
        let last = prev.plus(changes);
        let body = Bytes::from(vec![u8::try_from(first.0 % 251).unwrap(); octets]);
        self.head = self.head.after(last, &body);
        self.sets.push(CommittedSet { prev, first, last, hash: self.head.hash, body });
    }

    pub fn hash_at(&self, offset: Offset) -> Option<HistoryHash> {
        if offset == Offset::ZERO {
            return Some(HistoryHash::genesis(self.head.log));
        }
        self.sets.iter().find(|set| set.last == offset).map(|set| set.hash)
    }

    pub fn fetch(&self, after: Offset, octets: usize) -> (Vec<CommittedSet>, Position) {
        let start = self.sets.partition_point(|set| set.first <= after);
        let (mut left, mut sets) = (octets, Vec::new());
        for set in &self.sets[start..] {
            if left == 0 {
                break;
            }
            left = left.saturating_sub(set.body.len());
            sets.push(set.clone());
        }
        let read_to = sets.last().map_or(self.head, |set| Position {
            offset: set.last,
            hash: set.hash,
            ..self.head
        });
        (sets, read_to)
    }

    /// Invariants 4 and 7, by comparing the lists.
    pub fn check_edge(&self, disk: &Disk) {
        let applied: Vec<_> = disk.written.iter().map(|set| (set.first, &set.body)).collect();
        let wanted: Vec<_> = self.sets.iter().map(|set| (set.first, &set.body)).collect();
        assert_eq!(applied, wanted);
    }
}

/// An edge's disk: what is written, and how much of it is durable.
#[derive(Default)]
pub struct Disk {
    pub written: Vec<CommittedSet>,
    log: Option<LogId>,
    durable: usize,
    pub sessions: u64,
    pub duplicates: u64,
    pub lost: u64,
}

impl Disk {
    pub fn write(&mut self, log: LogId, set: CommittedSet) {
        let before = self.written.last().map_or(Offset::ZERO, |last| last.last);
        assert!(set.first > before, "invariant 7: a set is applied once");
        self.log = Some(log);
        self.written.push(set);
    }

    /// Makes all that is written durable.
    pub fn sync(&mut self) -> Option<Position> {
        self.durable = self.written.len();
        self.durable()
    }

    pub fn durable(&self) -> Option<Position> {
        let set = self.written[..self.durable].last()?;
        Some(Position { log: self.log?, offset: set.last, hash: set.hash })
    }

    /// A crash takes away what is not durable.
    pub fn crash(&mut self) {
        self.lost += (self.written.len() - self.durable) as u64;
        self.written.truncate(self.durable);
    }
}
