//! Snapshots as the plane of the tests makes them: a fold of its sets over a map.

use std::{collections::BTreeMap, convert::Infallible};

use bytes::Bytes;
use edgesync_core::{
    fold::{self, Records, ZoneStates},
    key,
    name::Name,
    position::Position,
    session::{CommittedSet, Filter},
    snapshot::{Chunk, ChunkWriter, Manifest, Scope, SnapshotId},
};
use edgesync_proto::convert::decode_set;

/// What all sets up to a position make.
#[derive(Default)]
pub struct Folded {
    pub zones: BTreeMap<Vec<u8>, (Name, ZoneStates)>,
    records: Map,
}

#[derive(Default)]
struct Map(BTreeMap<Vec<u8>, Vec<u8>>);

impl Records for Map {
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

impl Folded {
    pub fn of(sets: &[CommittedSet]) -> Self {
        let mut folded = Self::default();
        for set in sets {
            let Ok(set) = decode_set(set.body.clone()) else { continue };
            let key = key::zone_key(&set.zone);
            let zone =
                folded.zones.entry(key).or_insert_with(|| (set.zone.clone(), Default::default()));
            // A set that does not fit is one that the test has planted.
            let _ = fold::fold(&set, &mut zone.1, &mut folded.records);
        }
        folded
    }

    /// A snapshot in chunks of so many rows.
    pub fn snapshot(
        &self,
        id: u8,
        position: Position,
        scope: Scope,
        filter: &Filter,
        rows: usize,
    ) -> (Manifest, Vec<Chunk>) {
        let id = SnapshotId([id; 16]);
        let (mut writer, mut chunks) = (ChunkWriter::default(), Vec::new());
        let mut next = |writer: &mut ChunkWriter| {
            let index = u32::try_from(chunks.len()).unwrap();
            chunks.push(writer.finish(id, index).unwrap());
        };
        let (mut zones, mut records, mut in_chunk) = (0, 0, 0);
        let wanted = |zone: &Name| match &scope {
            Scope::Store => filter.wants(zone),
            Scope::Zone(only) => only == zone,
        };
        for (zone, states) in self.zones.values().filter(|(zone, _)| wanted(zone)) {
            let Some(visible) = states.visible else { continue };
            zones += 1;
            writer.zone(zone, states);
            let prefix = key::generation_prefix(visible.generation);
            for (key, value) in self.records.0.iter().filter(|(key, _)| key.starts_with(&prefix)) {
                records += 1;
                in_chunk += 1;
                writer.record(key, value);
                if in_chunk == rows {
                    next(&mut writer);
                    in_chunk = 0;
                }
            }
        }
        if !writer.is_empty() {
            next(&mut writer);
        }
        let octets = chunks.iter().map(|chunk: &Chunk| chunk.body.len() as u64).sum();
        let (filter, count) = (filter.hash(), u32::try_from(chunks.len()).unwrap());
        let manifest =
            Manifest { id, position, scope, filter, zones, records, octets, chunks: count };
        (manifest, chunks)
    }
}

/// A chunk whose rows are not those of the snapshot, although nothing is wrong with its octets.
pub fn forged(chunk: &Chunk, zone: &Name, states: &ZoneStates) -> Chunk {
    let mut writer = ChunkWriter::default();
    writer.zone(zone, states);
    let Chunk { snapshot, index, .. } = *chunk;
    let Chunk { hash, body, .. } = writer.finish(snapshot, index).unwrap();
    Chunk { snapshot, index, hash, body: Bytes::from(body.to_vec()) }
}
