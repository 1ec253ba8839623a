//! Station 6, a large set that nobody sees: it adds records to a generation that is not visible, so
//! they are written as they come, and the last batch makes them count. A mark says meanwhile what
//! has to go if that batch never comes (rules 7, 17).

use std::ops::Bound;

use edgesync_core::{
    change::{Change, ChangeSet},
    fold::{Records, ZoneStates},
};
use sled::IVec;

use super::{
    StoreError,
    engine::{Batch, Engine},
    layout::{self, Place, Writing},
    overlay::{Overlay, Writes},
};
use crate::limits::{BATCH_CHANGES, BATCH_OCTETS};

/// True if a set can be written before it counts: its generation is not visible, and it edits and
/// deletes only what it has created itself, so that writing it again has the same effect.
pub(super) fn is_unseen(set: &ChangeSet, states: &ZoneStates) -> bool {
    let visible = states.visible.is_some_and(|visible| visible.generation == set.generation);
    let own = |change: &Change| match change {
        Change::RecordEdit { id, .. } | Change::RecordDelete { id, .. } => id.0 >= set.first.0,
        _ => true,
    };
    !visible && set.changes.iter().all(own)
}

/// The records of a store, written in batches of a bounded size as they come.
#[derive(Debug)]
pub(super) struct Chunks<'a> {
    engine: &'a Engine,
    place: Place,
    writes: Writes,
    mark: Option<Writing>,
}

impl<'a> Chunks<'a> {
    /// For the records of a set.
    pub fn of(set: &ChangeSet, place: Place, engine: &'a Engine) -> Self {
        let mark = Some(Writing { place, generation: set.generation, first: set.first });
        Self { engine, place, writes: Writes::default(), mark }
    }

    /// What is left for the last batch, which also takes the mark away.
    pub fn finish(mut self) -> Batch {
        let mut batch = Batch::default();
        self.writes.move_to(&mut batch);
        batch.remove(layout::WRITING_KEY);
        batch
    }

    fn write_if_full(&mut self) -> Result<(), StoreError> {
        if self.writes.len() < BATCH_CHANGES && self.writes.octets() < BATCH_OCTETS {
            return Ok(());
        }
        let mut batch = Batch::default();
        self.writes.move_to(&mut batch);
        self.writes.clear();
        if let Some(mark) = self.mark.take() {
            batch.insert(layout::WRITING_KEY, mark.encode());
        }
        self.engine.write(batch)
    }
}

impl Records for Chunks<'_> {
    type Error = StoreError;
    type Value = IVec;

    fn get(&self, key: &[u8]) -> Result<Option<IVec>, StoreError> {
        self.writes.get(self.engine, self.place, key)
    }

    fn put(&mut self, key: Vec<u8>, value: Vec<u8>) -> Result<(), StoreError> {
        let Self { engine, place, writes, .. } = self;
        Overlay { engine, place: *place, writes }.put(key, value)?;
        self.write_if_full()
    }

    fn remove(&mut self, key: Vec<u8>) -> Result<(), StoreError> {
        let Self { engine, place, writes, .. } = self;
        Overlay { engine, place: *place, writes }.remove(key)?;
        self.write_if_full()
    }
}

/// Takes back what a large set has written, if one was not finished.
pub(super) fn take_back(engine: &Engine) -> Result<(), StoreError> {
    let mark = engine.db().get(layout::WRITING_KEY).map_err(StoreError::Engine)?;
    let Some(mark) = mark else { return Ok(()) };
    let mark = Writing::decode(&mark).ok_or(StoreError::Malformed("the mark of a large set"))?;
    tracing::info!(first = mark.first.0, "taking back a change set that was not finished");
    let new = |key: &[u8]| layout::id_of(key).is_none_or(|id| id >= mark.first.0);
    let prefix = mark.place.generation(mark.generation);
    remove_all(engine, &prefix, BATCH_CHANGES, new)?;
    let mut batch = Batch::default();
    batch.remove(layout::WRITING_KEY);
    engine.write(batch)
}

/// Removes the keys with a prefix that are `which`, some at a time. None is looked at twice: what a large set has
/// written stands behind all that was there before, which would be walked again for each batch, and
/// meanwhile the edge would not answer (invariant 14).
fn remove_all(
    engine: &Engine,
    prefix: &[u8],
    most: usize,
    which: impl Fn(&[u8]) -> bool,
) -> Result<(), StoreError> {
    let mut last = None;
    loop {
        last = remove_some(engine, prefix, last.as_ref(), most, &which)?;
        if last.is_none() {
            return Ok(());
        }
    }
}

/// Removes some keys with a prefix, from after `after` on. Gives back the last that it has removed; none if there was
/// none left.
pub(super) fn remove_some(
    engine: &Engine,
    prefix: &[u8],
    after: Option<&IVec>,
    most: usize,
    which: impl Fn(&[u8]) -> bool,
) -> Result<Option<IVec>, StoreError> {
    let from = after.map_or(Bound::Included(prefix), |after| Bound::Excluded(after.as_ref()));
    let mut batch = Batch::default();
    let (mut removed, mut last) = (0, None);
    for found in engine.db().range::<&[u8], _>((from, Bound::Unbounded)).keys() {
        let key = found.map_err(StoreError::Engine)?;
        if !key.starts_with(prefix) {
            break;
        }
        if which(&key) {
            batch.remove(key.clone());
            last = Some(key);
            removed += 1;
        }
        if removed == most {
            break;
        }
    }
    if removed > 0 {
        engine.write(batch)?;
    }
    Ok(last)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn taking_back_what_stands_behind_much_that_stays_looks_at_no_key_twice() {
        let dir = tempfile::tempdir().unwrap();
        let engine = Engine::open(dir.path(), 4 << 20).unwrap();
        let mut batch = Batch::default();
        for number in 0..2_000u32 {
            batch.insert([b"rkey".as_slice(), &number.to_be_bytes()].concat(), b"value");
        }
        // Neither goes: one is before the prefix, one behind it.
        [b"rjey".as_slice(), b"rkez"].iter().for_each(|key| batch.insert(*key, b"value"));
        engine.write(batch).unwrap();
        let number = |key: &[u8]| u32::from_be_bytes(*key.last_chunk::<4>().unwrap());
        let visited = Cell::new(0);
        let new = |key: &[u8]| {
            visited.set(visited.get() + 1);
            number(key) >= 1_500
        };
        remove_all(&engine, b"rkey", 10, new).unwrap();
        assert_eq!(visited.get(), 2_000, "50 batches behind 1,500 keys that stay");
        assert_eq!(engine.db().len(), 1_502);
    }
}
