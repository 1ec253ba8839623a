//! What a change set does to a store: the one meaning of every change, at the control plane and at
//! each edge. A zone's records are the fold of all change sets over nothing (invariant 4).

use crate::{
    change::{Change, ChangeSet, Generation},
    digest::Digest,
    key,
    name::Name,
    position::Offset,
    record::{Record, RecordId},
};

/// An ordered store of records, keyed and valued as in [`key`].
pub trait Records {
    /// What can go wrong in it.
    type Error;
    /// A value read.
    type Value: AsRef<[u8]>;

    /// The value of a key, as left by the last write.
    ///
    /// # Errors
    /// If the store cannot be read.
    fn get(&self, key: &[u8]) -> Result<Option<Self::Value>, Self::Error>;

    /// Writes a value.
    ///
    /// # Errors
    /// If the store cannot be written.
    fn put(&mut self, key: Vec<u8>, value: Vec<u8>) -> Result<(), Self::Error>;

    /// Takes a key out.
    ///
    /// # Errors
    /// If the store cannot be written.
    fn remove(&mut self, key: Vec<u8>) -> Result<(), Self::Error>;
}

/// What a store says of one generation of a zone, beside its records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ZoneState {
    /// Which generation.
    pub generation: Generation,
    /// Number of its records.
    pub records: u64,
    /// Digest of its records.
    pub digest: Digest,
    /// Of the visible generation: offset of the last change to the zone. Of a hidden one: what
    /// that was when the generation began, so that an edit in between is seen (rule 7).
    pub version: Offset,
}

impl ZoneState {
    const fn begin(generation: Offset, version: Offset) -> Self {
        Self { generation: Generation(generation.0), records: 0, digest: Digest::empty(), version }
    }
}

/// What a store says of one zone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ZoneStates {
    /// The generation that readers see.
    pub visible: Option<ZoneState>,
    /// A generation that is being written.
    pub hidden: Option<ZoneState>,
}

impl ZoneStates {
    /// The state of a generation, if it is one of the two.
    #[must_use]
    pub fn of(&self, generation: Generation) -> Option<&ZoneState> {
        self.visible.iter().chain(&self.hidden).find(|state| state.generation == generation)
    }

    fn of_mut(&mut self, generation: Generation) -> Option<&mut ZoneState> {
        let mut states = self.visible.iter_mut().chain(&mut self.hidden);
        states.find(|state| state.generation == generation)
    }

    /// True if no generation is left.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.visible.is_none() && self.hidden.is_none()
    }
}

/// Why a change set does not fit the store.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FoldError<E> {
    /// The store failed.
    #[error("the store failed: {0}")]
    Store(E),
    /// The store has not what the change is about: it is not the fold of what came before.
    #[error("offset {offset}, zone {zone}: {what}")]
    Diverged {
        /// Offset of the change.
        offset: Offset,
        /// Origin of its zone.
        zone: Name,
        /// What was found.
        what: Divergence,
    },
}

/// What a change found instead of what it needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Divergence {
    /// A record to edit or delete is not there.
    #[error("there is no record {0}")]
    NoRecord(RecordId),
    /// A record is there but cannot be read.
    #[error("the stored record {0} has not the form that this version writes")]
    Malformed(RecordId),
    /// The set's generation is neither visible nor being written.
    #[error("there is no generation {}", .0.0)]
    NoGeneration(Generation),
    /// The zone to create is there.
    #[error("the zone is there already")]
    ZoneExists,
    /// The zone to delete is not there.
    #[error("there is no such zone")]
    NoZone,
}

/// Applies a change set to `records` and to what is said of its zone. Gives back the generation
/// that nobody will read any more, if there is one: its records may be removed at leisure.
///
/// # Errors
/// If the store fails, or is not what the set was made for; `records` may then have been written
/// in part, and what was written has to be thrown away.
pub fn fold<R: Records>(
    set: &ChangeSet,
    zone: &mut ZoneStates,
    records: &mut R,
) -> Result<Option<Generation>, FoldError<R::Error>> {
    let mut garbage = None;
    for (offset, change) in set.with_offsets() {
        let diverged = |what| FoldError::Diverged { offset, zone: set.zone.clone(), what };
        match change {
            Change::ZoneCreate if zone.visible.is_some() => {
                return Err(diverged(Divergence::ZoneExists));
            }
            Change::ZoneCreate => zone.visible = Some(ZoneState::begin(offset, offset)),
            Change::GenerationOpen => {
                let version = zone.visible.map_or(Offset::ZERO, |visible| visible.version);
                zone.hidden = Some(ZoneState::begin(offset, version));
            }
            Change::ZoneDelete => {
                let gone = zone.visible.take().ok_or_else(|| diverged(Divergence::NoZone))?;
                garbage = Some(gone.generation);
            }
            Change::ZonePublish | Change::GenerationDrop => {
                let hidden = zone.hidden.take_if(|hidden| hidden.generation == set.generation);
                let none = || diverged(Divergence::NoGeneration(set.generation));
                let hidden = hidden.ok_or_else(none)?;
                let publish = *change == Change::ZonePublish;
                let gone = if publish { zone.visible.replace(hidden) } else { Some(hidden) };
                garbage = gone.map(|gone| gone.generation);
            }
            Change::RecordCreate { .. }
            | Change::RecordEdit { .. }
            | Change::RecordDelete { .. } => {
                let state = zone.of_mut(set.generation);
                let none = || diverged(Divergence::NoGeneration(set.generation));
                fold_record(set, offset, change, state.ok_or_else(none)?, records)?;
            }
        }
    }
    if let Some(visible) = zone.visible.as_mut().filter(|v| v.generation == set.generation) {
        visible.version = set.last();
    }
    Ok(garbage)
}

/// Applies one change of a record.
fn fold_record<R: Records>(
    set: &ChangeSet,
    offset: Offset,
    change: &Change,
    state: &mut ZoneState,
    records: &mut R,
) -> Result<(), FoldError<R::Error>> {
    let diverged = |what| FoldError::Diverged { offset, zone: set.zone.clone(), what };
    let (id, owner, rtype) = match change {
        Change::RecordCreate { owner, rtype, .. } => (RecordId(offset.0), owner, *rtype),
        Change::RecordEdit { id, owner, rtype, .. } | Change::RecordDelete { id, owner, rtype } => {
            (*id, owner, *rtype)
        }
        _ => return Ok(()),
    };
    let key = key::record_key(set.generation, &set.zone, owner, rtype, id);
    if !matches!(change, Change::RecordCreate { .. }) {
        let old = records.get(&key).map_err(FoldError::Store)?;
        let old = old.ok_or_else(|| diverged(Divergence::NoRecord(id)))?;
        let old = key::read_record(&set.zone, &key, old.as_ref())
            .map_err(|_| diverged(Divergence::Malformed(id)))?;
        state.digest = state.digest.minus(&old);
        state.records = state.records.saturating_sub(1);
    }
    match change {
        Change::RecordCreate { ttl, rdata, .. } | Change::RecordEdit { ttl, rdata, .. } => {
            state.records = state.records.saturating_add(1);
            let (owner, ttl, rdata) = (owner.clone(), *ttl, rdata.clone());
            let new = Record { id, version: offset, owner, rtype, ttl, rdata };
            state.digest = state.digest.plus(&new);
            records.put(key, key::record_value(ttl, offset, &new.rdata))
        }
        _ => records.remove(key),
    }
    .map_err(FoldError::Store)
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, convert::Infallible};

    use proptest::prelude::*;

    use super::*;
    use crate::Rtype;

    /// A store in memory.
    #[derive(Default)]
    struct Store(BTreeMap<Vec<u8>, Vec<u8>>);

    impl Records for Store {
        type Error = Infallible;
        type Value = Vec<u8>;

        fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Infallible> {
            Ok(self.0.get(key).cloned())
        }

        fn put(&mut self, key: Vec<u8>, value: Vec<u8>) -> Result<(), Infallible> {
            self.0.insert(key, value);
            Ok(())
        }

        fn remove(&mut self, key: Vec<u8>) -> Result<(), Infallible> {
            self.0.remove(&key);
            Ok(())
        }
    }

    fn zone() -> Name {
        Name::parse_origin("example.com").unwrap()
    }

    fn set(first: u64, generation: u64, changes: Vec<Change>) -> ChangeSet {
        let generation = Generation(generation);
        ChangeSet { zone: zone(), generation, first: Offset(first), changes, override_guard: false }
    }

    fn create(octet: u8) -> Change {
        let rdata = vec![192, 0, 2, octet].into();
        Change::RecordCreate { owner: zone(), rtype: Rtype::A, ttl: 60, rdata }
    }

    fn edit(id: u64, octet: u8) -> Change {
        let (id, rdata) = (RecordId(id), vec![192, 0, 2, octet].into());
        Change::RecordEdit { id, owner: zone(), rtype: Rtype::A, ttl: 30, rdata }
    }

    fn delete(id: u64) -> Change {
        Change::RecordDelete { id: RecordId(id), owner: zone(), rtype: Rtype::A }
    }

    /// Count and digest by reading all records of a generation.
    fn recomputed(store: &Store, generation: Generation) -> (u64, Digest) {
        let prefix = key::generation_prefix(generation);
        let records = store.0.iter().filter(|(key, _)| key.starts_with(&prefix));
        records.fold((0, Digest::empty()), |(count, digest), (key, value)| {
            let record = key::read_record(&zone(), key, value).unwrap();
            (count + 1, digest.plus(&record))
        })
    }

    proptest! {
        #[test]
        fn count_and_digest_are_those_of_the_records(steps in prop::collection::vec((0u8..3, any::<u8>()), 1..60)) {
            let (mut store, mut states) = (Store::default(), ZoneStates::default());
            fold(&set(1, 1, vec![Change::ZoneCreate]), &mut states, &mut store).unwrap();
            let (mut next, mut live) = (2, Vec::new());
            for (kind, octet) in steps {
                let change = match (kind, live.len()) {
                    (1, count) if count > 0 => edit(live[usize::from(octet) % count], octet),
                    (2, count) if count > 0 => delete(live.remove(usize::from(octet) % count)),
                    _ => {
                        live.push(next);
                        create(octet)
                    }
                };
                fold(&set(next, 1, vec![change]), &mut states, &mut store).unwrap();
                next += 1;
                let visible = states.visible.unwrap();
                prop_assert_eq!((visible.records, visible.digest), recomputed(&store, Generation(1)));
                prop_assert_eq!(visible.records, live.len() as u64);
                prop_assert_eq!(visible.version, Offset(next - 1));
            }
        }
    }

    #[test]
    fn a_published_generation_takes_the_place_of_the_one_before() {
        let (mut store, mut states) = (Store::default(), ZoneStates::default());
        let mut apply = |set: ChangeSet| fold(&set, &mut states, &mut store).unwrap();
        apply(set(1, 1, vec![Change::ZoneCreate, create(1)]));
        apply(set(3, 3, vec![Change::GenerationOpen, create(2), create(3)]));
        assert_eq!(apply(set(6, 3, vec![create(4), Change::ZonePublish])), Some(Generation(1)));
        let visible = states.visible.unwrap();
        assert_eq!(
            (visible.generation, visible.records, visible.version),
            (Generation(3), 3, Offset(7))
        );
        assert_eq!(visible.digest, recomputed(&store, Generation(3)).1);
        assert_eq!(states.hidden, None);
        let gone = fold(&set(8, 3, vec![Change::ZoneDelete]), &mut states, &mut store);
        assert_eq!(gone, Ok(Some(Generation(3))));
        assert!(states.is_empty());
    }

    #[test]
    fn a_set_that_was_made_for_another_store_is_refused() {
        let (mut store, mut states) = (Store::default(), ZoneStates::default());
        let mut what = |set: ChangeSet| match fold(&set, &mut states, &mut store) {
            Err(FoldError::Diverged { what, .. }) => Some(what),
            _ => None,
        };
        let none = Divergence::NoGeneration(Generation(9));
        assert_eq!(what(set(1, 9, vec![create(1)])), Some(none));
        assert_eq!(what(set(1, 9, vec![Change::ZonePublish])), Some(none));
        assert_eq!(what(set(1, 9, vec![Change::ZoneDelete])), Some(Divergence::NoZone));
        assert_eq!(what(set(1, 1, vec![Change::ZoneCreate, create(1)])), None);
        assert_eq!(what(set(3, 3, vec![Change::ZoneCreate])), Some(Divergence::ZoneExists));
        let missing = Divergence::NoRecord(RecordId(7));
        assert_eq!(what(set(3, 1, vec![edit(7, 1)])), Some(missing));
        assert_eq!(what(set(3, 1, vec![delete(7)])), Some(missing));
    }
}
