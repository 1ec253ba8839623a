//! The log and the edge's disk, as lists.

use std::collections::HashMap;

use bytes::Bytes;
use edgesync_core::{
    digest::Digest,
    name::Name,
    position::{HistoryHash, LogId, Offset, Position},
    sample::{Content, Sample, Sweep, ZoneDigest, Zones},
    session::{CommittedSet, Filter},
    snapshot::{Manifest, Scope, SnapshotId, Staged},
};

/// Chunks of a model snapshot.
const CHUNKS: u32 = 6;

/// A log whose every append is durable at once; the real one's is tested where it lives.
pub struct SimLog {
    sets: Vec<CommittedSet>,
    head: Position,
    /// What is up to here is kept for comparison only.
    floor: Offset,
    snapshots: HashMap<SnapshotId, (Manifest, usize)>,
    /// The highest ack of each edge.
    acked: HashMap<String, Offset>,
    /// What tasks of the control plane have panicked with.
    pub failures: Vec<String>,
}

impl SimLog {
    pub fn new(seed: u64) -> Self {
        let mut id = [0; 16];
        id[..8].copy_from_slice(&seed.to_be_bytes());
        let head = Position::genesis(LogId(id));
        let (sets, floor, snapshots) = (Vec::new(), Offset::ZERO, HashMap::new());
        Self { sets, head, floor, snapshots, acked: HashMap::new(), failures: Vec::new() }
    }

    /// The control plane has seen an ack.
    pub fn acked(&mut self, edge: String, offset: Offset) {
        let highest = self.acked.entry(edge).or_default();
        *highest = offset.max(*highest);
    }

    /// Invariant 6: what an edge has acked is durable there.
    pub fn check_acked(&self, edge: &str, disk: &Disk) {
        let acked = self.acked.get(edge).copied().unwrap_or_default();
        let has = disk.durable().map_or(Offset::ZERO, |position| position.offset);
        assert!(has >= acked, "invariant 6: {edge} has acked {acked} and has {has}");
    }

    pub const fn floor(&self) -> Offset {
        self.floor
    }

    /// Forgets all but the last few sets.
    pub fn compact(&mut self) {
        let kept = self.sets.len().saturating_sub(5);
        self.floor = self.sets[..kept].last().map_or(self.floor, |set| set.last);
    }

    pub fn snapshot(&mut self, scope: Scope) -> Manifest {
        let mut id = [0; 16];
        id[..8].copy_from_slice(&(self.snapshots.len() as u64).to_be_bytes());
        let (id, position, records) = (SnapshotId(id), self.head, self.sets.len() as u64);
        let (filter, zones, octets, chunks) = (Filter::All.hash(), 1, 0, CHUNKS);
        let manifest = Manifest { id, position, scope, filter, zones, records, octets, chunks };
        self.snapshots.insert(id, (manifest.clone(), self.sets.len()));
        manifest
    }

    /// A snapshot that was made, if what follows it is still there.
    pub fn made(&self, id: SnapshotId) -> Option<&Manifest> {
        let (manifest, _) = self.snapshots.get(&id)?;
        (manifest.position.offset >= self.floor).then_some(manifest)
    }

    /// What a snapshot has.
    pub fn content(&self, id: SnapshotId) -> &[CommittedSet] {
        &self.sets[..self.snapshots[&id].1]
    }

    /// What the one zone is at the head.
    pub fn sample(&self) -> Sample {
        let content = (!self.sets.is_empty()).then(|| (self.sets.len() as u64, Digest::empty()));
        let zones = content.map(|_| ZoneDigest { origin: Name::root(), content });
        let zones = zones.into_iter().collect();
        Sample { changed: Vec::new(), sweep: Sweep { after: None, zones, to_end: true } }
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

    /// What follows an offset; none if it was compacted away.
    pub fn fetch(
        &self,
        after: Offset,
        upto: Offset,
        octets: usize,
    ) -> Option<(Vec<CommittedSet>, Position)> {
        if after < self.floor {
            return None;
        }
        let start = self.sets.partition_point(|set| set.first <= after);
        let (mut left, mut sets) = (octets, Vec::new());
        for set in &self.sets[start..] {
            if left == 0 || set.last > upto {
                break;
            }
            left = left.saturating_sub(set.credit());
            sets.push(set.clone());
        }
        let read_to = sets.last().map_or(self.head, |set| Position {
            offset: set.last,
            hash: set.hash,
            ..self.head
        });
        Some((sets, read_to))
    }

    /// Invariants 4, 6 and 7, by comparing the lists; and that only what was rotten was repaired.
    pub fn check_edge(&self, edge: &str, disk: &Disk) {
        self.check_acked(edge, disk);
        assert!(disk.repairs <= u64::from(disk.rotten), "{edge}: {}", disk.summary());
        let applied: Vec<_> = disk.written.iter().map(|set| (set.first, &set.body)).collect();
        let wanted: Vec<_> = self.sets.iter().map(|set| (set.first, &set.body)).collect();
        assert_eq!(applied, wanted);
    }
}

/// An edge's disk: what is written, and how much of it is durable.
#[derive(Default)]
pub struct Disk {
    pub written: Vec<CommittedSet>,
    position: Option<Position>,
    durable: (usize, Option<Position>),
    staging: Option<(Manifest, u32)>,
    staged: Option<Staged>,
    pub sessions: u64,
    pub duplicates: u64,
    pub lost: u64,
    pub installs: u64,
    pub repairs: u64,
    pub rotten: bool,
}

impl Zones for Disk {
    fn content(&self, _: &Name) -> Content {
        (!self.written.is_empty()).then(|| (self.written.len() as u64, Digest::empty()))
    }

    fn between(&self, _: Option<&Name>, _: Option<&Name>) -> Vec<Name> {
        if self.written.is_empty() { Vec::new() } else { vec![Name::root()] }
    }
}

impl Disk {
    pub fn write(&mut self, log: LogId, set: CommittedSet) {
        let before = self.position.map_or(Offset::ZERO, |position| position.offset);
        assert!(set.first > before, "invariant 7: a set is applied once");
        assert_eq!(set.prev, before, "invariant 4: no set is left out");
        self.position = Some(Position { log, offset: set.last, hash: set.hash });
        self.written.push(set);
    }

    pub const fn position(&self) -> Option<Position> {
        self.position
    }

    /// Makes all that is written durable; what there is to be said of it.
    pub fn sync(&mut self) -> (Option<Position>, Option<Staged>) {
        self.durable = (self.written.len(), self.position);
        self.staged = self.staging.as_ref().map(|(m, next)| Staged { id: m.id, next: *next });
        (self.durable.1, self.staged)
    }

    pub const fn durable(&self) -> Option<Position> {
        self.durable.1
    }

    pub const fn staged(&self) -> Option<Staged> {
        self.staged
    }

    pub fn begin_staging(&mut self, manifest: Manifest, next: u32) {
        let known = self.staging.as_ref().filter(|(m, _)| m.id == manifest.id);
        let known = known.map_or(0, |(_, next)| *next);
        assert!(next <= known, "chunks would be missing");
        self.staging = Some((manifest, known));
    }

    pub fn stage(&mut self, id: SnapshotId, index: u32) {
        if let Some((_, next)) = self.staging.as_mut().filter(|(m, n)| m.id == id && *n == index) {
            *next += 1;
        }
    }

    /// Puts a snapshot in place, durably.
    pub fn install(&mut self, id: SnapshotId, content: &[CommittedSet]) -> Manifest {
        let (manifest, next) = self.staging.take().expect("something is staged");
        assert_eq!(
            (manifest.id, next),
            (id, manifest.chunks),
            "invariant 11: whole, or not at all"
        );
        let (before, now) = (self.position.map(|at| at.offset), manifest.position.offset);
        assert!(before <= Some(now), "invariant 8: from {before:?} back to {now}");
        if manifest.scope != Scope::Store {
            assert_eq!(self.position, Some(manifest.position), "a repair is a barrier");
            self.repairs += 1;
        }
        self.installs += 1;
        self.written = content.to_vec();
        self.position = Some(manifest.position);
        self.sync();
        manifest
    }

    /// How it stands, for people.
    pub fn summary(&self) -> String {
        let at = self.durable.1.map_or(Offset::ZERO, |position| position.offset);
        format!(
            "{} sets at {at}, staged {:?}, rotten {}, {} sessions, {} snapshots, {} repairs",
            self.written.len(),
            self.staged,
            self.rotten,
            self.sessions,
            self.installs,
            self.repairs
        )
    }

    /// A set that was there is there no more, and nobody has noticed. Once in a run: a zone is not
    /// repaired again and again.
    pub fn rot(&mut self) {
        let (durable, _) = self.durable;
        if durable > 3 && self.written.len() == durable && !self.rotten {
            self.written.remove(durable / 2);
            self.durable.0 -= 1;
            self.rotten = true;
        }
    }

    /// A crash takes away what is not durable.
    pub fn crash(&mut self) {
        self.lost += (self.written.len() - self.durable.0) as u64;
        self.written.truncate(self.durable.0);
        self.position = self.durable.1;
        self.staging = self.staging.take().and_then(|(manifest, _)| {
            let staged = self.staged.filter(|staged| staged.id == manifest.id)?;
            Some((manifest, staged.next))
        });
    }
}
