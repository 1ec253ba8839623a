//! Station 6, the store: takes change sets in order, writes records and position in one batch, then
//! makes them durable. Change sets come from the apply thread, which alone has the [`Store`]; what
//! is stored goes out to whoever has a [`Reader`]. Nothing outside this folder names sled.

mod attempt;
mod blobs;
mod engine;
mod error;
mod group;
mod layout;
mod open;
mod overlay;
mod pending;
mod quarantine;
mod read;
mod staging;
#[cfg(test)]
mod tests;
mod unread;
mod unseen;
mod verify;
mod view;
mod witness;

use std::{collections::VecDeque, path::PathBuf, sync::Arc, time::Instant};

pub use attempt::Attempt;
use edgesync_core::{
    change::{Change, ChangeSet},
    position::{Offset, Position},
    sample::{Drift, Sample},
    session::Filter,
};
use edgesync_host::reserve::Reserve;
pub use error::{ApplyError, Distrust, OpenError, StoreError};
pub use open::database_file;
pub use quarantine::put_aside_text;
pub use read::{EdgeZone, Export, Found, Reader};
pub use staging::InstallError;
pub use verify::{Mismatch, Verified};
pub use view::Totals;

use self::{
    engine::{Batch, Engine},
    group::{Effects, Group},
    layout::StoredSnapshot,
    open::Paths,
    overlay::{Overlay, Writes},
    view::{Gate, Zone},
    witness::{Mark, Witness},
};
use crate::{
    limits::{BATCH_CHANGES_MAX, BATCH_OCTETS, PURGE_RECORDS},
    metrics::StoreMetrics,
};

/// What a store is opened with.
#[derive(Debug, Clone)]
pub struct StoreConfig {
    /// The data directory; the caller has its lock.
    pub data_dir: PathBuf,
    /// Octets of sled's cache.
    pub cache_octets: u64,
    /// Which zones the store is for.
    pub filter: Filter,
}

/// The store of an edge. Who has it is the only writer.
#[derive(Debug)]
pub struct Store {
    config: StoreConfig,
    paths: Paths,
    /// Hash of the filter that the records are the fold of (rule 13).
    filter: [u8; 32],
    engine: Engine,
    gate: Arc<Gate>,
    group: Group,
    /// Number of visible records, with all that was applied.
    records: u64,
    /// Prefixes of what nobody reads any more.
    garbage: VecDeque<Vec<u8>>,
    /// What is staged of a snapshot.
    snapshot: Option<StoredSnapshot>,
    folding: bool,
    durable: Option<Position>,
    epoch: u64,
    distrusted: Option<Distrust>,
    /// The room that is kept for the next opening.
    reserve: Option<Reserve>,
    /// It was there when last looked at.
    keeps_room: bool,
    metrics: StoreMetrics,
}

/// A store that is closed, with the readers that it had.
#[derive(Debug)]
pub struct ClosedStore {
    config: StoreConfig,
    gate: Arc<Gate>,
    metrics: StoreMetrics,
    /// What was durable in it.
    durable: Option<Position>,
}

impl ClosedStore {
    /// Opens it again. Until then readers are told that it is closed, and never that what it has is not
    /// there (invariant 14). It is read from the disk, and put aside if it is behind what was durable in it: after a
    /// sync that has failed, the kernel may have pages in memory that it takes for written and that the disk has
    /// not. A store that was opened over these would sync without an error, and ack what a power cut takes
    /// (invariant 6).
    ///
    /// # Errors
    /// If it does not open now.
    pub fn open(&mut self) -> Result<Store, OpenError> {
        // All of sled has to be closed before it is opened again.
        self.gate.write().db = None;
        engine::forget_cached(&self.config.data_dir.join(open::STORE));
        let mut store = open::open(self.config.clone(), Arc::clone(&self.gate), &mut self.durable)?;
        store.metrics = self.metrics.clone();
        Ok(store)
    }
}

impl Store {
    /// Opens the store in a data directory, or creates it. One that cannot be trusted is put aside,
    /// and an empty one takes its place: see [`Store::distrusted`].
    ///
    /// # Errors
    /// If it cannot be used at all, or another version wrote it; it is then left as it is.
    pub fn open(config: StoreConfig) -> Result<Self, OpenError> {
        open::open(config, Arc::default(), &mut None)
    }

    /// Records what writes and syncs take.
    pub fn set_metrics(&mut self, metrics: StoreMetrics) {
        self.metrics = metrics;
    }

    /// Why the store found was put aside, if it was.
    #[must_use]
    pub const fn distrusted(&self) -> Option<&Distrust> {
        self.distrusted.as_ref()
    }

    /// How often stores have been opened in this directory.
    #[must_use]
    pub const fn epoch(&self) -> u64 {
        self.epoch
    }

    /// What is durable; none for an empty store.
    #[must_use]
    pub const fn durable(&self) -> Option<Position> {
        self.durable
    }

    /// Hash of the filter that the records are the fold of.
    #[must_use]
    pub const fn filter(&self) -> [u8; 32] {
        self.filter
    }

    /// Number of visible records, with all that was applied.
    #[must_use]
    pub const fn records(&self) -> u64 {
        self.records
    }

    /// Number of visible records in the zones that a filter wants.
    #[must_use]
    pub fn records_within(&self, filter: &Filter) -> u64 {
        let view = self.gate.read();
        let wanted = view.zones.values().filter(|zone| filter.wants(&zone.origin));
        wanted.filter_map(|zone| zone.states.visible).map(|state| state.records).sum()
    }

    /// How many visible records there will be with a set.
    #[must_use]
    pub fn records_with(&self, set: &ChangeSet) -> u64 {
        let states = self.group.zone(&set.zone, &self.gate).states;
        let shown = states.visible.is_some_and(|visible| visible.generation == set.generation);
        let (mut more, mut fewer, mut publishes) = (0u64, 0u64, shown);
        for change in &set.changes {
            match change {
                Change::RecordCreate { .. } => more += 1,
                Change::RecordDelete { .. } => fewer += 1,
                Change::ZoneCreate => publishes = true,
                Change::ZoneDelete => fewer += states.visible.map_or(0, |visible| visible.records),
                Change::ZonePublish => {
                    publishes = true;
                    more += states.hidden.map_or(0, |hidden| hidden.records);
                    fewer += states.visible.map_or(0, |visible| visible.records);
                }
                _ => {}
            }
        }
        let gone = set.changes.contains(&Change::ZoneDelete);
        if publishes || gone { (self.records + more).saturating_sub(fewer) } else { self.records }
    }

    /// Reads what is applied.
    #[must_use]
    pub fn reader(&self) -> Reader {
        Reader::of(Arc::clone(&self.gate))
    }

    /// Applies the next change set, whose last offset is that of `position`; readers see it with
    /// the group's batch, at the latest at the next [`Store::commit`].
    ///
    /// # Errors
    /// If it does not fit the store: nothing of it is then written, and all before it stays. Or if
    /// the store fails: nothing more may then be written.
    pub fn apply(&mut self, set: ChangeSet, position: Position) -> Result<(), ApplyError> {
        self.check_place(&set, position)?;
        #[cfg(test)]
        assert_ne!(self.engine.dies_at.get(), Some(set.first), "planted");
        self.settle()?;
        let records = self.records_with(&set);
        let octets = group::octets(&set);
        if set.changes.len() > BATCH_CHANGES_MAX || octets > BATCH_OCTETS {
            self.commit()?;
            self.apply_large(&set, position)?;
            self.records = records;
            return Ok(());
        }
        if !self.group.has_room_for(&set, octets) {
            self.commit()?;
        }
        self.group.add(set, position, &self.engine, &self.gate)?;
        self.records = records;
        if self.group.is_full() {
            self.commit()?;
        }
        Ok(())
    }

    /// A set of another log, or one that was applied before, is never applied (invariants 7, 12).
    fn check_place(&self, set: &ChangeSet, position: Position) -> Result<(), ApplyError> {
        let at = self.group.position().or_else(|| self.gate.read().position);
        match at.filter(|at| at.log != position.log || at.offset >= set.first) {
            Some(at) => Err(ApplyError::OutOfPlace { first: set.first, at }),
            None => Ok(()),
        }
    }

    /// The offset that is applied.
    #[must_use]
    pub fn applied(&self) -> Offset {
        let at = self.group.position().or_else(|| self.gate.read().position);
        at.map_or(Offset::ZERO, |position| position.offset)
    }

    /// Compares zones with what they should be at a position; nothing, if the store is not there.
    ///
    /// # Errors
    /// If the store fails.
    pub fn compare(
        &mut self,
        position: Position,
        sample: &Sample,
    ) -> Result<Vec<Drift>, StoreError> {
        self.settle()?;
        self.commit()?;
        let view = self.gate.read();
        let here = view.position.unwrap_or(Position::genesis(position.log));
        Ok(if here == position { sample.drifted(&*view) } else { Vec::new() })
    }

    /// Moves on to a position that has no set for this edge.
    ///
    /// # Errors
    /// If the store fails.
    pub fn pass(&mut self, position: Position) -> Result<(), StoreError> {
        self.settle()?;
        self.group.pass(position);
        Ok(())
    }

    /// Writes what was applied since the last batch, as one batch, and lets readers see it.
    ///
    /// # Errors
    /// If the store fails.
    pub fn commit(&mut self) -> Result<(), StoreError> {
        if self.group.is_empty() {
            return Ok(());
        }
        let root = self.gate.read().root;
        let (batch, effects) = self.group.batch(root, self.filter);
        let published = self.publish(batch, effects, None);
        self.group.clear();
        published
    }

    /// Writes what was applied and makes all of it durable; gives back the durable position.
    ///
    /// # Errors
    /// If the store fails: what was written since the last sync may then be lost.
    pub fn sync(&mut self) -> Result<Option<Position>, StoreError> {
        self.commit()?;
        let begin = Instant::now();
        let synced = self.engine.sync();
        self.metrics.sync.record(begin.elapsed());
        synced?;
        self.durable = self.gate.read().position;
        Ok(self.durable)
    }

    /// Ends the folding of a large set, if there is one to be ended. The set is served and durable
    /// without it; the next one waits for it.
    ///
    /// # Errors
    /// If the store fails.
    pub fn settle(&mut self) -> Result<(), StoreError> {
        if self.folding {
            pending::settle(&self.engine, &self.gate)?;
            self.folding = false;
        }
        Ok(())
    }

    /// Removes some records that nobody reads any more. False if there were none.
    ///
    /// # Errors
    /// If the store fails.
    pub fn purge(&mut self) -> Result<bool, StoreError> {
        let Some(prefix) = self.garbage.front() else { return Ok(false) };
        // All of them go, so that each time begins at the first that is left.
        if unseen::remove_some(&self.engine, prefix, None, PURGE_RECORDS, |_| true)?.is_none() {
            let mut batch = Batch::default();
            batch.remove(layout::under(layout::GARBAGE, prefix));
            self.engine.write(batch)?;
            self.garbage.pop_front();
        }
        Ok(true)
    }

    /// Writes down beside the store how far it is durable.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn testify(&self) -> Result<(), std::io::Error> {
        let view = self.gate.read();
        let records = view.totals.records;
        let current = self.durable.filter(|_| view.position == self.durable);
        drop(view);
        let Some(Position { log, offset, .. }) = current else { return Ok(()) };
        let mark = Some(Mark { log, offset, records });
        Witness { epoch: self.epoch, mark }.write(&self.paths.witness)
    }

    /// Looks whether the store's files are still where they were opened.
    ///
    /// # Errors
    /// If they were removed or replaced.
    pub fn check_files(&self) -> Result<(), StoreError> {
        self.engine.check_place()
    }

    /// Plants a failure after so many writes.
    #[cfg(test)]
    pub fn fail_after(&self, writes: u32) {
        self.engine.writes_left.set(Some(writes));
    }

    /// Plants a disk that is full after so many writes, for one of them.
    #[cfg(test)]
    pub fn full_after(&self, writes: u32) {
        self.fail_after(writes);
        self.engine.full.set(true);
    }

    /// Plants a set that kills.
    #[cfg(test)]
    pub fn dies_at(&self, first: Offset) {
        self.engine.dies_at.set(Some(first));
    }

    /// Gives the store up after a failure. If it means that the store cannot be trusted, the next
    /// start puts it aside.
    pub fn give_up(&self, error: &StoreError) {
        // What stands in the place of what is gone is not what has failed, and is judged by itself.
        let gone = matches!(error, StoreError::Gone(_));
        if error.loses_trust()
            && !gone
            && let Err(error) = quarantine::mark(&self.paths, &error.to_string())
        {
            tracing::error!(%error, "cannot mark the store as not to be trusted");
        }
    }

    /// Closes the store after a failure that has lost nothing, to be opened again.
    #[must_use]
    pub fn close(self) -> ClosedStore {
        let Self { config, gate, metrics, durable, .. } = self;
        ClosedStore { config, gate, metrics, durable }
    }

    /// Applies a set that is too large for one batch.
    fn apply_large(&mut self, set: &ChangeSet, position: Position) -> Result<(), ApplyError> {
        let zone = self.gate.read().zone(&set.zone);
        if unseen::is_unseen(set, &zone.states) {
            self.apply_unseen(set, zone, position)
        } else {
            self.apply_staged(set, zone, position)
        }
    }

    fn apply_unseen(
        &mut self,
        set: &ChangeSet,
        zone: Zone,
        position: Position,
    ) -> Result<(), ApplyError> {
        let mut effects = Effects { position: Some(position), ..Effects::default() };
        let mut records = unseen::Chunks::of(set, zone.place, &self.engine);
        if let Err(error) = effects.fold(set, zone, &mut records) {
            if !matches!(error, ApplyError::Store(_)) {
                unseen::take_back(&self.engine)?;
            }
            return Err(error);
        }
        let mut batch = records.finish();
        effects.write_to(&mut batch, self.gate.read().root, self.filter);
        Ok(self.publish(batch, effects, None)?)
    }

    fn apply_staged(
        &mut self,
        set: &ChangeSet,
        zone: Zone,
        position: Position,
    ) -> Result<(), ApplyError> {
        let mut effects = Effects { position: Some(position), ..Effects::default() };
        let mut writes = Writes::default();
        let place = zone.place;
        let mut records = Overlay { engine: &self.engine, place, writes: &mut writes };
        effects.fold(set, zone, &mut records)?;
        let staged = Arc::new(writes.into_sorted());
        pending::stage(&self.engine, &staged)?;
        self.sync()?;
        let mut batch = Batch::default();
        effects.write_to(&mut batch, self.gate.read().root, self.filter);
        batch.insert(layout::FOLDING_KEY, &[]);
        self.publish(batch, effects, Some(staged))?;
        self.folding = true;
        Ok(())
    }

    /// Writes a batch and lets readers see what it does, in one step for them.
    fn publish(
        &mut self,
        batch: Batch,
        effects: Effects,
        staged: Option<Arc<view::Staged>>,
    ) -> Result<(), StoreError> {
        let begin = Instant::now();
        let mut view = self.gate.write();
        if let Err(error) = self.engine.write(batch) {
            let before = self.group.before(&view);
            view.staged = Some(Arc::new(before));
            return Err(error);
        }
        effects.show(&mut view);
        view.staged = staged;
        drop(view);
        self.metrics.write.record(begin.elapsed());
        self.garbage.extend(effects.garbage);
        Ok(())
    }
}
