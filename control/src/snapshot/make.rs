//! Makes a snapshot from one view of the log's store. Each zone is counted and digested as it is read:
//! a damaged one is never sent on (invariant 17).

use std::{
    io,
    path::Path,
    time::{Duration, Instant},
};

use edgesync_core::{
    digest::Digest,
    fold::{ZoneState, ZoneStates},
    key,
    limits::CHUNK_OCTETS_MAX,
    name::Name,
    session::Filter,
    snapshot::{ChunkWriter, Manifest, Scope, SnapshotId},
};

use edgesync_host::room;

use super::file::{Chunks, SnapshotFile};
use crate::log::{Log, View};

/// Zones that are read at a time.
const ZONES: usize = 500;
/// Octets of a record in a snapshot's file, about: enough to say at once that there is no room. What
/// records really take is seen as they are written.
const RECORD_OCTETS: u64 = 128;

/// The longest rest after a chunk.
const REST: Duration = Duration::from_millis(50);

/// Why a snapshot is not made.
#[derive(Debug, thiserror::Error)]
pub enum MakeError {
    /// The store cannot be read.
    #[error("the log's store cannot be read: {0}")]
    Store(redb::Error),
    /// What is read is not what was written.
    #[error(
        "the zone {zone} is damaged: it has {found} records with the digest {found_digest}, and \
         should have {expected} with {expected_digest}; restore the log from a backup"
    )]
    Damaged {
        /// Its origin.
        zone: Name,
        /// Number of records that the store says it has.
        expected: u64,
        /// Number of records read.
        found: u64,
        /// Digest that the store says it has.
        expected_digest: Digest,
        /// Digest of the records read.
        found_digest: Digest,
    },
    /// The file cannot be written.
    #[error("its file cannot be written: {0}")]
    Io(#[from] io::Error),
    /// There is no room for it.
    #[error("its file takes about {wanted} octets, and {free} are free")]
    Space {
        /// What it takes, with what has to stay free.
        wanted: u64,
        /// What there is.
        free: u64,
    },
    /// Its maker panicked: a defect, or a damaged store.
    #[error("its maker failed: {0}")]
    Panicked(String),
}

impl From<redb::Error> for MakeError {
    fn from(error: redb::Error) -> Self {
        Self::Store(error)
    }
}

/// Makes a snapshot of what an edge with a filter is to have.
pub(super) fn make(
    log: &Log,
    dir: &Path,
    scope: Scope,
    filter: &Filter,
    view: Option<View>,
) -> Result<SnapshotFile, MakeError> {
    // Pinned before the view is there: what follows it cannot go in between.
    let from_floor = log.pin(log.floor());
    // Somebody may have tidied up.
    std::fs::create_dir_all(dir)?;
    let view = view.map_or_else(|| log.view(), Ok)?;
    let position = view.position()?;
    let id = SnapshotId(rand::random());
    let (zones, records, octets, chunks) = (0, 0, 0, 0);
    let hash = filter.hash();
    let manifest = Manifest { id, position, scope, filter: hash, zones, records, octets, chunks };
    let mut maker = Maker {
        view: &view,
        writer: ChunkWriter::default(),
        chunks: Chunks::create(dir, id)?,
        manifest,
        began: Instant::now(),
        disk: Disk { dir, min_free: log.min_free() },
    };
    maker.check_space()?;
    match maker.manifest.scope.clone() {
        Scope::Zone(zone) => {
            let states = view.zone_states(&zone)?;
            if !states.is_empty() {
                maker.zone(&zone, &states)?;
            }
        }
        Scope::Store => maker.zones(filter)?,
    }
    maker.finish_chunk()?;
    let Maker { chunks, manifest, .. } = maker;
    let manifest = Manifest { chunks: chunks.next(), ..manifest };
    // Pinned where it stands before what was below is let go.
    let stands = log.pin(position.offset);
    drop(from_floor);
    metrics::counter!("edgesync_control_snapshots_made_total").increment(1);
    Ok(chunks.finish(manifest, stands))
}

/// A snapshot that is being made.
struct Maker<'a> {
    view: &'a View,
    writer: ChunkWriter,
    chunks: Chunks,
    manifest: Manifest,
    /// When the chunk was begun.
    began: Instant,
    disk: Disk<'a>,
}

/// Where the file is, and what has to stay free there for the log.
struct Disk<'a> {
    dir: &'a Path,
    min_free: u64,
}

impl Disk<'_> {
    /// The log's room is not taken from it: with less than that free, all writes would be refused.
    fn check(&self, octets: u64) -> Result<(), MakeError> {
        let free = room::free(self.dir);
        // Twice, since the log grows beside a file that is kept for a while.
        let wanted = self.min_free.saturating_mul(2).saturating_add(octets);
        if free < wanted { Err(MakeError::Space { wanted, free }) } else { Ok(()) }
    }
}

impl Maker<'_> {
    /// Looks before anything is written.
    fn check_space(&self) -> Result<(), MakeError> {
        let records = match &self.manifest.scope {
            Scope::Store => self.view.record_count()?,
            Scope::Zone(zone) => self.view.zone(zone)?.map_or(0, |state| state.records),
        };
        self.disk.check(records.saturating_mul(RECORD_OCTETS))
    }

    fn zones(&mut self, filter: &Filter) -> Result<(), MakeError> {
        let mut after: Option<Name> = None;
        loop {
            let zones = self.view.all_zones(after.as_ref(), ZONES)?;
            let Some((last, _)) = zones.last() else { return Ok(()) };
            after = Some(last.clone());
            for (zone, states) in zones.iter().filter(|(zone, _)| filter.wants(zone)) {
                self.zone(zone, states)?;
            }
        }
    }

    /// Adds a zone, with the generation that is being written if there is one: the log after the
    /// snapshot goes on writing it.
    fn zone(&mut self, zone: &Name, states: &ZoneStates) -> Result<(), MakeError> {
        self.writer.zone(zone, states);
        for state in states.visible.iter().chain(&states.hidden) {
            self.generation(zone, state)?;
        }
        if let Some(visible) = states.visible {
            self.manifest.zones += 1;
            self.manifest.records += visible.records;
        }
        if self.writer.is_full() {
            self.finish_chunk()?;
        }
        Ok(())
    }

    fn generation(&mut self, zone: &Name, state: &ZoneState) -> Result<(), MakeError> {
        let (mut found, mut digest) = (0, Digest::empty());
        let view = self.view;
        view.each_record(state.generation, |key, value| -> Result<(), MakeError> {
            // One that cannot be read is missing in the digest, and so is found out.
            if let Ok(record) = key::read_record(zone, key, value) {
                digest = digest.plus(&record);
            }
            found += 1;
            self.writer.record(key, value);
            if self.writer.is_full() {
                self.finish_chunk()?;
            }
            Ok(())
        })?;
        if (found, digest) == (state.records, state.digest) {
            return Ok(());
        }
        Err(MakeError::Damaged {
            zone: zone.clone(),
            expected: state.records,
            found,
            expected_digest: state.digest,
            found_digest: digest,
        })
    }

    fn finish_chunk(&mut self) -> Result<(), MakeError> {
        if !self.writer.is_empty() {
            self.disk.check(CHUNK_OCTETS_MAX as u64)?;
            self.manifest.octets += self.writer.octets() as u64;
            let chunk = self.writer.finish(self.manifest.id, self.chunks.next())?;
            self.chunks.push(&chunk)?;
            // Who writes meanwhile comes first: a chunk's making is followed by as long a rest.
            std::thread::sleep(self.began.elapsed().min(REST));
            self.began = Instant::now();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::Options;

    #[test]
    fn a_chunk_does_not_take_the_room_of_the_log() {
        let dir = tempfile::tempdir().unwrap();
        let log = Log::open(&Options::of_a_test(dir.path()));
        let view = log.unwrap().view().unwrap();
        let id = SnapshotId([1; 16]);
        let manifest = Manifest {
            id,
            position: view.position().unwrap(),
            scope: Scope::Store,
            filter: Filter::All.hash(),
            zones: 0,
            records: 0,
            octets: 0,
            chunks: 0,
        };
        let mut maker = Maker {
            view: &view,
            writer: ChunkWriter::default(),
            chunks: Chunks::create(dir.path(), id).unwrap(),
            manifest,
            began: Instant::now(),
            disk: Disk { dir: dir.path(), min_free: 0 },
        };
        for (min_free, has_room) in [(0, true), (u64::MAX, false)] {
            maker.disk.min_free = min_free;
            maker.writer.zone(&Name::root(), &ZoneStates::default());
            let finished = maker.finish_chunk();
            assert_eq!(finished.is_ok(), has_room, "{finished:?}");
            assert!(has_room || matches!(finished, Err(MakeError::Space { .. })));
            assert_eq!(maker.chunks.next(), 1, "what had no room is not written");
        }
    }
}
