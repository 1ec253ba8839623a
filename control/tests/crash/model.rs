//! What the log has to hold, by a map that knows nothing of stores, offsets or hashes.

use std::collections::BTreeMap;

use edgesync_control::log::Action;
use edgesync_core::{
    Rtype,
    change::Generation,
    name::Name,
    rdata,
    stage::{Operation, RecordData, Serial, Target},
};

/// TTL of each SOA.
const SOA_TTL: u32 = 60;

/// Owner, type and RDATA of each record, with its TTL.
pub type Records = BTreeMap<(Name, u16, Vec<u8>), u32>;

/// What the log holds after some writes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Model {
    pub zones: BTreeMap<Name, Zone>,
    /// Counts what changes a zone that is seen.
    version: u64,
}

/// One zone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Zone {
    pub visible: Option<Content>,
    pub hidden: Option<Hidden>,
}

/// The records of a zone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Content {
    pub serial: u32,
    /// Without the SOA.
    pub records: Records,
    version: u64,
}

/// The records of a generation that nobody sees yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hidden {
    pub serial: u32,
    pub records: Records,
    /// Version of the zone when it began; a zone that is not there has the version 0.
    began: u64,
}

pub fn soa(origin: &Name, serial: u32) -> RecordData {
    let rdata = rdata::parse(Rtype::SOA, &format!("ns root {serial} 1 2 3 4"), origin).unwrap();
    RecordData { owner: origin.clone(), rtype: Rtype::SOA, ttl: SOA_TTL, rdata }
}

fn item(data: &RecordData) -> ((Name, u16, Vec<u8>), u32) {
    ((data.owner.clone(), data.rtype.to_int(), data.rdata.to_vec()), data.ttl)
}

/// The serial of the SOA among some records, and the rest.
fn split(records: &[RecordData]) -> (u32, Records) {
    let soa = records.iter().find(|data| data.rtype == Rtype::SOA).unwrap();
    let rest = records.iter().filter(|data| data.rtype != Rtype::SOA);
    (rdata::soa_serial(&soa.rdata).unwrap(), rest.map(item).collect())
}

/// Records with their zone's SOA.
pub fn with_soa(origin: &Name, serial: u32, records: &Records) -> Records {
    let mut records = records.clone();
    records.extend([item(&soa(origin, serial))]);
    records
}

impl Model {
    /// Does what a write says; false if it has to be refused. `current` is the hidden generation
    /// that is known to be the zone's.
    pub fn apply(&mut self, zone: &Name, action: &Action, current: Option<Generation>) -> bool {
        let version = self.version + 1;
        let state = self.zones.entry(zone.clone()).or_default();
        let done = state.apply(action, current, version);
        if state.visible.is_none() && state.hidden.is_none() {
            self.zones.remove(zone);
        }
        self.version = if done { version } else { self.version };
        done
    }
}

impl Zone {
    fn apply(&mut self, action: &Action, current: Option<Generation>, version: u64) -> bool {
        match action {
            Action::CreateZone(_) if self.visible.is_some() => false,
            Action::CreateZone(records) => {
                let (serial, records) = split(records);
                self.visible = Some(Content { serial, records, version });
                true
            }
            Action::DeleteZone => self.visible.take().is_some(),
            Action::Change { operations, serial } => {
                self.visible.as_mut().is_some_and(|zone| zone.change(operations, *serial, version))
            }
            Action::OpenGeneration(records) => {
                let (serial, records) = split(records);
                let began = self.visible.as_ref().map_or(0, |zone| zone.version);
                self.hidden = Some(Hidden { serial, records, began });
                true
            }
            Action::ExtendGeneration(generation, records) => {
                let hidden = self.hidden.as_mut().filter(|_| current == Some(*generation));
                hidden.map(|h| h.records.extend(records.iter().map(item))).is_some()
            }
            Action::PublishGeneration(generation, records) => {
                let has = self.visible.as_ref().map_or(0, |zone| zone.version);
                let fits = |hidden: &mut Hidden| hidden.began == has;
                if current != Some(*generation) {
                    return false;
                }
                let Some(mut hidden) = self.hidden.take_if(fits) else { return false };
                hidden.records.extend(records.iter().map(item));
                let Hidden { serial, records, .. } = hidden;
                self.visible = Some(Content { serial, records, version });
                true
            }
            Action::DropGeneration(generation) => {
                current == Some(*generation) && self.hidden.take().is_some()
            }
        }
    }
}

impl Content {
    fn change(&mut self, operations: &[Operation], serial: Serial, version: u64) -> bool {
        let before = self.clone();
        for operation in operations {
            let done = match operation {
                Operation::Create(data) => {
                    let (key, ttl) = item(data);
                    self.records.insert(key, ttl).is_none()
                }
                Operation::Delete(Target::Exact(data)) => {
                    self.records.remove(&item(data).0).is_some()
                }
                Operation::Edit { target: Target::Exact(data), ttl, rdata, .. } => {
                    let old = self.records.remove(&item(data).0);
                    let rdata = rdata.clone().unwrap_or_else(|| data.rdata.clone());
                    let (key, _) = item(&RecordData { rdata, ..data.clone() });
                    old.is_some_and(|old| self.records.insert(key, ttl.unwrap_or(old)).is_none())
                }
                _ => panic!("the work has no such operation"),
            };
            if !done {
                *self = before;
                return false;
            }
        }
        self.version = version;
        self.serial += u32::from(serial == Serial::Raise);
        true
    }
}
