//! Station 6, the overlay: what change sets write, in memory, over what is stored. The core folds
//! into it; what it holds then becomes one atomic batch.

use std::{
    cell::RefCell,
    collections::{BTreeMap, HashMap},
};

use edgesync_core::fold::Records;
use sled::IVec;

use super::{
    StoreError,
    engine::{Batch, Engine},
    layout::Place,
};
use crate::limits::VALUE_OCTETS;

/// Writes by key: a value, or a delete.
#[derive(Debug, Default)]
pub(super) struct Writes {
    by_key: HashMap<IVec, Option<IVec>>,
    octets: usize,
    /// What was read from under them.
    read: RefCell<Vec<(IVec, IVec)>>,
}

impl Writes {
    /// Number of keys.
    pub fn len(&self) -> usize {
        self.by_key.len()
    }

    /// Octets of what was written, also of what was written over.
    pub const fn octets(&self) -> usize {
        self.octets
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        self.by_key.clear();
        self.octets = 0;
        self.read.get_mut().clear();
    }

    /// The value of a record's key, over what is stored.
    pub fn get(
        &self,
        engine: &Engine,
        place: Place,
        key: &[u8],
    ) -> Result<Option<IVec>, StoreError> {
        let key = place.record(key);
        match self.by_key.get(key.as_slice()) {
            Some(written) => Ok(written.clone()),
            None => {
                let stored = engine.db().get(&key).map_err(StoreError::Engine)?;
                let read = stored.clone().map(|value| (IVec::from(key), value));
                self.read.borrow_mut().extend(read);
                Ok(stored)
            }
        }
    }

    /// The stored values that were read, by key.
    pub fn read(&self) -> Vec<(IVec, IVec)> {
        self.read.borrow().clone()
    }

    fn set(&mut self, place: Place, key: &[u8], value: Option<Vec<u8>>) -> Result<(), StoreError> {
        let octets = value.as_ref().map_or(0, Vec::len);
        if octets >= VALUE_OCTETS {
            return Err(StoreError::TooLarge(octets));
        }
        self.octets += 5 + key.len() + octets;
        self.by_key.insert(place.record(key).into(), value.map(IVec::from));
        Ok(())
    }

    /// Moves all writes into a batch. What was read is kept.
    pub fn move_to(&mut self, batch: &mut Batch) {
        for (key, value) in self.by_key.drain() {
            match value {
                Some(value) => batch.insert(key, value),
                None => batch.remove(key),
            }
        }
        self.octets = 0;
    }

    /// The writes in the order of their keys.
    pub fn into_sorted(self) -> BTreeMap<IVec, Option<IVec>> {
        self.by_key.into_iter().collect()
    }
}

/// The records of a store with writes over them.
#[derive(Debug)]
pub(super) struct Overlay<'a> {
    /// What is stored.
    pub engine: &'a Engine,
    /// Where the zone's records are.
    pub place: Place,
    /// What is written over it.
    pub writes: &'a mut Writes,
}

impl Records for Overlay<'_> {
    type Error = StoreError;
    type Value = IVec;

    fn get(&self, key: &[u8]) -> Result<Option<IVec>, StoreError> {
        self.writes.get(self.engine, self.place, key)
    }

    fn put(&mut self, key: Vec<u8>, value: Vec<u8>) -> Result<(), StoreError> {
        self.writes.set(self.place, &key, Some(value))
    }

    fn remove(&mut self, key: Vec<u8>) -> Result<(), StoreError> {
        self.writes.set(self.place, &key, None)
    }
}
