//! Station 6, staging: a snapshot is written beside what is served, at a place of its own, chunk by
//! chunk. When all of it is there and is what it says, one batch makes it what readers see; what was
//! there before goes at leisure (rule 16, invariant 11).

use std::collections::{BTreeMap, BTreeSet};

use edgesync_core::{
    digest::Digest,
    fold::ZoneState,
    key,
    name::Name,
    position::Position,
    snapshot::{Chunk, MalformedChunk, Manifest, Row, Scope, SnapshotId, Staged},
};

use super::{
    Store, StoreError,
    engine::{Batch, Engine},
    layout::{self, Place, StoredPosition, StoredSnapshot},
    view::Zone,
    witness::Witness,
};
use crate::limits::{BATCH_CHANGES, BATCH_OCTETS, VALUE_OCTETS};

/// Why a snapshot is not put in place. What was served before is served on.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    /// It is not what it says.
    #[error("it is not what it says: {0}")]
    Differs(String),
    /// A chunk of it cannot be read.
    #[error(transparent)]
    Chunk(#[from] MalformedChunk),
    /// A repair that comes where the store is not.
    #[error("it is of offset {0}, where the store is not")]
    OutOfPlace(edgesync_core::position::Offset),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The zones that are staged at a place.
fn staged_zones(engine: &Engine, place: Place) -> Result<Vec<Zone>, StoreError> {
    let mut zones = Vec::new();
    for found in engine.db().scan_prefix(place.prefix(layout::ZONE)).values() {
        let value = found.map_err(StoreError::Engine)?;
        let zone = layout::read_zone(&value);
        let (place, origin, states) = zone.ok_or(StoreError::Malformed("the state of a zone"))?;
        zones.push(Zone { origin, place, states });
    }
    Ok(zones)
}

/// Writes batches of a bounded size.
struct Writer<'a> {
    engine: &'a Engine,
    batch: Batch,
    entries: usize,
    octets: usize,
}

impl Writer<'_> {
    fn put(&mut self, key: Vec<u8>, value: Vec<u8>) -> Result<(), StoreError> {
        if value.len() >= VALUE_OCTETS {
            return Err(StoreError::TooLarge(value.len()));
        }
        self.octets += key.len() + value.len();
        self.entries += 1;
        self.batch.insert(key, value);
        if self.entries >= BATCH_CHANGES || self.octets >= BATCH_OCTETS {
            self.engine.write(std::mem::take(&mut self.batch))?;
            (self.entries, self.octets) = (0, 0);
        }
        Ok(())
    }
}

impl Store {
    /// What is there of a snapshot.
    #[must_use]
    pub fn staged(&self) -> Option<Staged> {
        self.snapshot.as_ref().map(StoredSnapshot::staged)
    }

    /// What the snapshot has that is being staged.
    #[must_use]
    pub fn staged_manifest(&self) -> Option<&Manifest> {
        self.snapshot.as_ref().map(|snapshot| &snapshot.manifest)
    }

    /// Makes ready for a snapshot's chunks. What is there of the same one stays.
    ///
    /// # Errors
    /// If the store fails.
    pub fn begin_staging(&mut self, manifest: Manifest) -> Result<(), StoreError> {
        if self.snapshot.as_ref().is_some_and(|snapshot| snapshot.manifest == manifest) {
            return Ok(());
        }
        self.drop_staging()?;
        let stored = self.engine.db().get(layout::PLACE_KEY).map_err(StoreError::Engine)?;
        let last = stored.map_or(Some(self.gate.read().root), |place| Place::decode(&place));
        let Place(last) = last.ok_or(StoreError::Malformed("the last place"))?;
        let place = Place(last.checked_add(1).ok_or(StoreError::Malformed("the last place"))?);
        let snapshot = StoredSnapshot { manifest, place, next: 0 };
        let mut batch = Batch::default();
        batch.insert(layout::PLACE_KEY, &place.0.to_be_bytes());
        batch.insert(layout::SNAPSHOT_KEY, snapshot.encode());
        self.engine.write(batch)?;
        self.snapshot = Some(snapshot);
        Ok(())
    }

    /// Throws away what is there of a snapshot.
    ///
    /// # Errors
    /// If the store fails.
    pub fn drop_staging(&mut self) -> Result<(), StoreError> {
        let Some(StoredSnapshot { place, .. }) = self.snapshot.take() else { return Ok(()) };
        let mut batch = Batch::default();
        batch.remove(layout::SNAPSHOT_KEY);
        let garbage = [place.prefix(layout::RECORD), place.prefix(layout::ZONE)];
        for prefix in &garbage {
            batch.insert(layout::under(layout::GARBAGE, prefix), &[]);
        }
        self.engine.write(batch)?;
        self.garbage.extend(garbage);
        Ok(())
    }

    /// Stages a chunk. One that is there already, or is of another snapshot, is nothing new.
    ///
    /// # Errors
    /// If the chunk is damaged: nothing of it is then counted. Or if the store fails.
    pub fn stage(&mut self, chunk: &Chunk) -> Result<(), InstallError> {
        let Some(snapshot) = &self.snapshot else { return Ok(()) };
        if snapshot.manifest.id != chunk.snapshot || chunk.index != snapshot.next {
            return Ok(());
        }
        let place = snapshot.place;
        let rows = chunk.open()?;
        let engine = &self.engine;
        let mut writer = Writer { engine, batch: Batch::default(), entries: 0, octets: 0 };
        for row in rows.iter() {
            match row? {
                Row::Zone(origin, states) => {
                    writer.put(place.zone(&origin), layout::zone_value(place, &origin, &states))?;
                }
                Row::Record { key, value } => writer.put(place.record(key), value.to_vec())?,
            }
        }
        // The last of its batches says that it is there: half a chunk is written again.
        let mut after = snapshot.clone();
        after.next += 1;
        let Writer { mut batch, .. } = writer;
        batch.insert(layout::SNAPSHOT_KEY, after.encode());
        self.engine.write(batch)?;
        self.snapshot = Some(after);
        Ok(())
    }

    /// Puts the staged snapshot in the place of what it is of; none if it is not the one staged, or
    /// not whole. Durable with the next [`Store::sync`].
    ///
    /// # Errors
    /// If it is not what it says, or the store fails.
    pub fn install(&mut self, id: SnapshotId) -> Result<Option<Position>, InstallError> {
        let whole = |s: &&StoredSnapshot| s.manifest.id == id && s.next >= s.manifest.chunks;
        let Some(snapshot) = self.snapshot.as_ref().filter(whole).cloned() else { return Ok(None) };
        self.settle()?;
        self.commit()?;
        let zones = staged_zones(&self.engine, snapshot.place)?;
        self.check_staged(&snapshot, &zones)?;
        // The witness of what was before must not speak against what comes: it is silent meanwhile.
        let silent = Witness { epoch: self.epoch, mark: None };
        silent.write(&self.paths.witness).map_err(StoreError::Sync)?;
        match snapshot.manifest.scope.clone() {
            Scope::Store => self.install_all(&snapshot, zones)?,
            Scope::Zone(origin) => self.install_zone(&snapshot, &origin, zones)?,
        }
        self.snapshot = None;
        self.records = self.gate.read().totals.records;
        Ok(Some(snapshot.manifest.position))
    }

    /// Reads all that was staged, and compares it with what was to come.
    fn check_staged(&self, snapshot: &StoredSnapshot, zones: &[Zone]) -> Result<(), InstallError> {
        let Manifest { zones: wanted_zones, records: wanted, scope, .. } = &snapshot.manifest;
        let visible = || zones.iter().filter_map(|zone| zone.states.visible);
        let found = (visible().count() as u64, visible().map(|state| state.records).sum::<u64>());
        if found != (*wanted_zones, *wanted) {
            return Err(InstallError::Differs(format!(
                "{} zones with {} records came, {wanted_zones} with {wanted} were announced",
                found.0, found.1
            )));
        }
        if let (Scope::Zone(origin), Some(other)) = (
            scope,
            zones.iter().find(|z| !matches!(scope, Scope::Zone(origin) if *origin == z.origin)),
        ) {
            let text = format!("it is of {origin}, and has {}", other.origin);
            return Err(InstallError::Differs(text));
        }
        for Zone { origin, states, place } in zones {
            for state in states.visible.iter().chain(&states.hidden) {
                self.check_generation(origin, *place, state)?;
            }
        }
        Ok(())
    }

    fn check_generation(
        &self,
        origin: &Name,
        place: Place,
        state: &ZoneState,
    ) -> Result<(), InstallError> {
        let (mut records, mut digest) = (0, Digest::empty());
        for found in self.engine.db().scan_prefix(place.generation(state.generation)) {
            let (key, value) = found.map_err(StoreError::Engine)?;
            // One that cannot be read is missing in the digest.
            if let Ok(record) = key::read_record(origin, layout::core_key(&key), &value) {
                digest = digest.plus(&record);
            }
            records += 1;
        }
        if (records, digest) == (state.records, state.digest) {
            return Ok(());
        }
        Err(InstallError::Differs(format!(
            "zone {origin} came with {records} records and the digest {digest}, and should have {} \
             and {}",
            state.records, state.digest
        )))
    }

    /// A snapshot of everything: its place becomes the root, and its position the store's.
    fn install_all(
        &mut self,
        snapshot: &StoredSnapshot,
        zones: Vec<Zone>,
    ) -> Result<(), StoreError> {
        let (position, place) = (snapshot.manifest.position, snapshot.place);
        let old_root = self.gate.read().root;
        let places: BTreeSet<Place> =
            self.gate.read().zones.values().map(|zone| zone.place).chain([old_root]).collect();
        let mut garbage: Vec<_> = places.iter().map(|place| place.prefix(layout::RECORD)).collect();
        garbage.push(old_root.prefix(layout::ZONE));
        let mut batch = Batch::default();
        let filter = snapshot.manifest.filter;
        batch.insert(layout::POSITION_KEY, StoredPosition { position, filter }.encode());
        batch.insert(layout::ROOT_KEY, &place.0.to_be_bytes());
        batch.remove(layout::SNAPSHOT_KEY);
        for prefix in &garbage {
            batch.insert(layout::under(layout::GARBAGE, prefix), &[]);
        }
        let mut view = self.gate.write();
        self.engine.write(batch)?;
        view.zones = BTreeMap::new();
        view.totals = super::Totals::default();
        zones.into_iter().for_each(|zone| view.set(zone));
        (view.position, view.root, view.staged) = (Some(position), place, None);
        drop(view);
        // What was durable speaks no more for or against what is there: it may be of another history.
        (self.filter, self.durable) = (filter, None);
        self.garbage.extend(garbage);
        Ok(())
    }

    /// A snapshot of one zone, at the store's own position.
    fn install_zone(
        &mut self,
        snapshot: &StoredSnapshot,
        origin: &Name,
        zones: Vec<Zone>,
    ) -> Result<(), InstallError> {
        let position = snapshot.manifest.position;
        let mut view = self.gate.write();
        let here = view.position.unwrap_or(Position::genesis(position.log));
        if here != position {
            return Err(InstallError::OutOfPlace(position.offset));
        }
        let before = view.zone(origin);
        let none = Zone { states: Default::default(), ..before.clone() };
        let after = zones.into_iter().next().unwrap_or(none);
        let states = before.states.visible.iter().chain(&before.states.hidden);
        let mut garbage: Vec<_> =
            states.map(|state| before.place.generation(state.generation)).collect();
        garbage.push(snapshot.place.prefix(layout::ZONE));
        let mut batch = Batch::default();
        let key = view.root.zone(origin);
        if after.states.is_empty() {
            batch.remove(key);
        } else {
            batch.insert(key, layout::zone_value(after.place, origin, &after.states));
        }
        batch.remove(layout::SNAPSHOT_KEY);
        for prefix in &garbage {
            batch.insert(layout::under(layout::GARBAGE, prefix), &[]);
        }
        self.engine.write(batch)?;
        view.set(after);
        drop(view);
        self.garbage.extend(garbage);
        Ok(())
    }
}
