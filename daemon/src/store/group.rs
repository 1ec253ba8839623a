//! Station 6, the group: whole change sets that become one atomic batch, with the states of their
//! zones and the position after the last of them (invariants 4, 5).

use std::{collections::HashMap, mem};

use edgesync_core::{
    change::{Change, ChangeSet},
    fold::{self, FoldError},
    key,
    limits::CHANGE_OVERHEAD_OCTETS,
    name::Name,
    position::Position,
    record::RecordId,
};

use super::{
    ApplyError, StoreError,
    engine::{Batch, Engine},
    layout::{self, Place, StoredPosition},
    overlay::{Overlay, Writes},
    view::{Gate, Staged, View, Zone},
};
use crate::limits::{BATCH_CHANGES, BATCH_CHANGES_MAX, BATCH_OCTETS};

/// What change sets do beside the records.
#[derive(Debug, Default)]
pub(super) struct Effects {
    /// What is to be said of the zones that were touched.
    pub zones: HashMap<Name, Zone>,
    /// Prefixes of what nobody reads any more.
    pub garbage: Vec<Vec<u8>>,
    /// The position after them.
    pub position: Option<Position>,
}

impl Effects {
    /// Puts them into a batch.
    pub fn write_to(&self, batch: &mut Batch, root: Place, filter: [u8; 32]) {
        for Zone { origin, place, states } in self.zones.values() {
            let key = root.zone(origin);
            if states.is_empty() {
                batch.remove(key);
            } else {
                batch.insert(key, layout::zone_value(*place, origin, states));
            }
        }
        for prefix in &self.garbage {
            batch.insert(layout::under(layout::GARBAGE, prefix), &[]);
        }
        if let Some(position) = self.position {
            batch.insert(layout::POSITION_KEY, StoredPosition { position, filter }.encode());
        }
    }

    /// Lets readers see them.
    pub fn show(&self, view: &mut View) {
        for zone in self.zones.values() {
            view.set(zone.clone());
        }
        view.position = self.position.or(view.position);
    }

    /// Folds a set; on an error nothing of it is in these effects, but `records` has to go.
    pub fn fold<R: fold::Records<Error = StoreError>>(
        &mut self,
        set: &ChangeSet,
        zone: Zone,
        records: &mut R,
    ) -> Result<(), ApplyError> {
        let Zone { origin, place, states: before } = zone;
        let mut after = before;
        let gone = fold::fold(set, &mut after, records).map_err(refusal)?;
        let unnamed = before.visible.iter().chain(&before.hidden).map(|state| state.generation);
        let unnamed = unnamed.filter(|generation| after.of(*generation).is_none());
        for generation in unnamed.chain(gone) {
            let prefix = place.generation(generation);
            if !self.garbage.contains(&prefix) {
                self.garbage.push(prefix);
            }
        }
        self.zones.insert(origin.clone(), Zone { origin, place, states: after });
        Ok(())
    }
}

/// Why a set is not applied, from what the core says.
fn refusal(error: FoldError<StoreError>) -> ApplyError {
    match error {
        FoldError::Store(StoreError::TooLarge(octets)) => ApplyError::TooLarge(octets),
        FoldError::Store(error) => ApplyError::Store(error),
        FoldError::Diverged { offset, zone, what } => ApplyError::Diverged { offset, zone, what },
    }
}

/// Change sets that wait to be written together.
#[derive(Debug, Default)]
pub(super) struct Group {
    sets: Vec<ChangeSet>,
    positions: Vec<Position>,
    changes: usize,
    writes: Writes,
    effects: Effects,
}

impl Group {
    /// True if there is nothing to be written.
    pub const fn is_empty(&self) -> bool {
        self.effects.position.is_none()
    }

    /// True if the group is to be written before anything else comes.
    pub fn is_full(&self) -> bool {
        self.changes >= BATCH_CHANGES || self.writes.octets() >= BATCH_OCTETS
    }

    /// True if a set still fits.
    pub fn has_room_for(&self, set: &ChangeSet, octets: usize) -> bool {
        self.is_empty()
            || self.changes + set.changes.len() <= BATCH_CHANGES_MAX
                && self.writes.octets() + octets <= BATCH_OCTETS
    }

    /// Adds a set. If it does not fit the store the group is as it was before.
    pub fn add(
        &mut self,
        set: ChangeSet,
        position: Position,
        engine: &Engine,
        gate: &Gate,
    ) -> Result<(), ApplyError> {
        let added = self.fold(&set, position, engine, gate);
        if added.is_ok() {
            self.changes += set.changes.len();
            self.sets.push(set);
            self.positions.push(position);
        } else {
            self.fold_again(engine, gate)?;
        }
        added
    }

    /// A zone, as the group has left it.
    pub fn zone(&self, origin: &Name, gate: &Gate) -> Zone {
        let touched = self.effects.zones.get(origin).cloned();
        touched.unwrap_or_else(|| gate.read().zone(origin))
    }

    /// The position that the group moves to; none if it moves nowhere.
    pub const fn position(&self) -> Option<Position> {
        self.effects.position
    }

    /// Moves the position on without a set.
    pub const fn pass(&mut self, position: Position) {
        self.effects.position = Some(position);
    }

    fn fold(
        &mut self,
        set: &ChangeSet,
        position: Position,
        engine: &Engine,
        gate: &Gate,
    ) -> Result<(), ApplyError> {
        let zone = self.zone(&set.zone, gate);
        let mut records = Overlay { engine, place: zone.place, writes: &mut self.writes };
        self.effects.fold(set, zone, &mut records)?;
        self.effects.position = Some(position);
        Ok(())
    }

    /// Makes the writes anew, after a set that left some of its own among them.
    fn fold_again(&mut self, engine: &Engine, gate: &Gate) -> Result<(), ApplyError> {
        self.writes.clear();
        let passed = self.effects.position;
        self.effects = Effects::default();
        let (sets, positions) = (mem::take(&mut self.sets), mem::take(&mut self.positions));
        for (set, position) in sets.iter().zip(&positions) {
            self.fold(set, *position, engine, gate)?;
        }
        (self.sets, self.positions, self.effects.position) = (sets, positions, passed);
        Ok(())
    }

    /// Everything as one batch. The group is not empty before [`Group::clear`].
    pub fn batch(&mut self, root: Place, filter: [u8; 32]) -> (Batch, Effects) {
        let mut batch = Batch::default();
        self.writes.move_to(&mut batch);
        let effects = mem::take(&mut self.effects);
        effects.write_to(&mut batch, root, filter);
        (batch, effects)
    }

    /// What was stored under the keys that the group writes. After a failure nobody knows how much
    /// of its batch is in the engine's memory: with this over it, readers see what was before.
    pub fn before(&self, gate: &View) -> Staged {
        let keys = self.sets.iter().flat_map(|set| {
            let place = gate.zone(&set.zone).place;
            set.with_offsets().filter_map(move |(offset, change)| {
                let (id, owner, rtype) = match change {
                    Change::RecordCreate { owner, rtype, .. } => (RecordId(offset.0), owner, rtype),
                    Change::RecordEdit { id, owner, rtype, .. }
                    | Change::RecordDelete { id, owner, rtype } => (*id, owner, rtype),
                    _ => return None,
                };
                let key = key::record_key(set.generation, &set.zone, owner, *rtype, id);
                Some(place.record(&key).into())
            })
        });
        let mut before: Staged = keys.map(|key| (key, None)).collect();
        before.extend(self.writes.read().into_iter().map(|(key, value)| (key, Some(value))));
        before
    }

    /// Empties the group, once its batch is written.
    pub fn clear(&mut self) {
        self.writes.clear();
        self.sets.clear();
        self.positions.clear();
        self.changes = 0;
    }
}

/// About how many octets a set writes.
pub(super) fn octets(set: &ChangeSet) -> usize {
    let of_change = |change: &Change| match change {
        Change::RecordCreate { owner, rdata, .. } | Change::RecordEdit { owner, rdata, .. } => {
            owner.wire().len() + rdata.len()
        }
        Change::RecordDelete { owner, .. } => owner.wire().len(),
        _ => 0,
    };
    set.changes.iter().map(|change| CHANGE_OVERHEAD_OCTETS + of_change(change)).sum()
}
