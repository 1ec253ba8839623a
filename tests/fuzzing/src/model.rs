//! A store in memory: what a fold has to leave behind, recomputed from its records.

use std::{collections::BTreeMap, convert::Infallible};

use edgesync_core::{
    change::Generation,
    digest::Digest,
    fold::Records,
    key::{generation_prefix, read_record},
    name::Name,
};

/// Records in order of their keys.
#[derive(Default, Clone)]
pub struct ModelStore(pub BTreeMap<Vec<u8>, Vec<u8>>);

impl Records for ModelStore {
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

impl ModelStore {
    /// Count and digest of a generation, by reading all its records.
    pub fn recomputed(&self, zone: &Name, generation: Generation) -> (u64, Digest) {
        let prefix = generation_prefix(generation);
        let records = self.0.iter().filter(|(key, _)| key.starts_with(&prefix));
        records.fold((0, Digest::empty()), |(count, digest), (key, value)| {
            let record = read_record(zone, key, value).expect("what was written reads back");
            assert!(record.owner.is_within(zone), "{} is not in {zone}", record.owner);
            (count + 1, digest.plus(&record))
        })
    }
}
