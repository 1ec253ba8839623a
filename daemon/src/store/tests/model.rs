//! What change sets mean, written a second time and as plainly as can be.

use std::collections::BTreeMap;

use edgesync_core::{
    change::Change,
    name::Name,
    position::{Offset, Position},
};

use super::Log;
use crate::store::Reader;

/// A record as the model has it: owner, TTL, version, RDATA.
pub type Plain = (String, u32, u64, Vec<u8>);

/// The visible zones: records by id.
pub type Zones = BTreeMap<String, BTreeMap<u64, Plain>>;

/// The state after some change sets.
pub struct Model {
    offset: Offset,
    pub zones: Zones,
}

impl Model {
    /// After all sets up to an offset, which has to be the end of one.
    pub fn of(log: &Log, offset: Offset) -> Self {
        let mut generations: BTreeMap<u64, BTreeMap<u64, Plain>> = BTreeMap::new();
        let mut visible: BTreeMap<String, u64> = BTreeMap::new();
        for (set, _) in log.sets.iter().take_while(|(set, _)| set.last() <= offset) {
            let zone = set.zone.to_string();
            for (at, change) in set.with_offsets() {
                let at = at.0;
                let records = generations.entry(set.generation.0).or_default();
                match change {
                    Change::RecordCreate { owner, ttl, rdata, .. } => {
                        records.insert(at, (owner.to_string(), *ttl, at, rdata.to_vec()));
                    }
                    Change::RecordEdit { id, owner, ttl, rdata, .. } => {
                        let new = (owner.to_string(), *ttl, at, rdata.to_vec());
                        assert!(records.insert(id.0, new).is_some());
                    }
                    Change::RecordDelete { id, .. } => assert!(records.remove(&id.0).is_some()),
                    Change::ZoneCreate => assert_eq!(visible.insert(zone.clone(), at), None),
                    Change::ZoneDelete => assert!(visible.remove(&zone).is_some()),
                    Change::ZonePublish => {
                        visible.insert(zone.clone(), set.generation.0);
                    }
                    Change::GenerationOpen | Change::GenerationDrop => {}
                }
            }
        }
        let records = |generation| generations.get(generation).cloned().unwrap_or_default();
        let zones = visible.iter().map(|(zone, generation)| (zone.clone(), records(generation)));
        Self { offset, zones: zones.collect() }
    }

    /// The position at the model's offset.
    pub fn position(&self, log: &Log) -> Option<Position> {
        log.sets.iter().map(|(_, position)| *position).find(|at| at.offset == self.offset)
    }

    /// All that a reader finds, by owners.
    pub fn read(&self, reader: &Reader) -> Zones {
        let mut zones = Zones::new();
        for zone in reader.zones(None, usize::MAX) {
            let text: String = reader.export(&zone.origin).unwrap().unwrap().flatten().collect();
            let owners = text.lines().map(|line| line.split('\t').next().unwrap().to_owned());
            let mut owners: Vec<String> = owners.collect();
            let lines = owners.len();
            owners.dedup();
            let mut records = BTreeMap::new();
            for owner in owners {
                let found = reader.lookup(&Name::parse_origin(&owner).unwrap(), None).unwrap();
                for (_, r) in found.records.into_iter().filter(|(origin, _)| *origin == zone.origin)
                {
                    let plain = (r.owner.to_string(), r.ttl, r.version.0, r.rdata.to_vec());
                    records.insert(r.id.0, plain);
                }
            }
            assert_eq!(records.len(), lines, "export and lookup have the same records");
            zones.insert(zone.origin.to_string(), records);
        }
        zones
    }
}
