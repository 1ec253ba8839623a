//! Changes and change sets: what the log holds and every edge applies, all or nothing.

use std::fmt;

use bytes::Bytes;

use crate::{Rtype, name::Name, position::Offset, rdata, record::RecordId};

/// One life of a zone's content: the offset of the change that began it. Offsets are never used
/// twice, so a generation is also the place of its records in a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Generation(pub u64);

/// One step in the log. Its offset is given by its place in the change set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A record is added; its id is this change's offset.
    RecordCreate {
        /// Owner name.
        owner: Name,
        /// Type.
        rtype: Rtype,
        /// Time to live, in seconds.
        ttl: u32,
        /// RDATA in wire form.
        rdata: Bytes,
    },
    /// A record gets another TTL or RDATA.
    RecordEdit {
        /// Which record.
        id: RecordId,
        /// Its owner name.
        owner: Name,
        /// Its type.
        rtype: Rtype,
        /// New time to live, in seconds.
        ttl: u32,
        /// New RDATA in wire form.
        rdata: Bytes,
    },
    /// A record goes.
    RecordDelete {
        /// Which record.
        id: RecordId,
        /// Its owner name.
        owner: Name,
        /// Its type.
        rtype: Rtype,
    },
    /// The zone begins, visible at once; this change's offset is its generation.
    ZoneCreate,
    /// The zone and its records go.
    ZoneDelete,
    /// A hidden generation begins; this change's offset is its number.
    GenerationOpen,
    /// The set's generation becomes the zone.
    ZonePublish,
    /// The set's generation, never published, goes.
    GenerationDrop,
}

/// Changes that are committed and applied together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChangeSet {
    /// Origin of the zone: one zone a set (rule 1).
    pub zone: Name,
    /// Generation that the record changes go to.
    pub generation: Generation,
    /// Offset of the first change.
    pub first: Offset,
    /// The changes; never none.
    pub changes: Vec<Change>,
    /// A person has said that the set may do more than the guards let pass (rule 10).
    pub override_guard: bool,
}

impl ChangeSet {
    /// Offset of the last change.
    #[must_use]
    pub fn last(&self) -> Offset {
        self.first.before().plus(self.changes.len() as u64)
    }

    /// The changes with their offsets.
    pub fn with_offsets(&self) -> impl Iterator<Item = (Offset, &Change)> {
        self.changes.iter().zip(0..).map(|(change, place)| (self.first.plus(place), change))
    }
}

impl fmt::Display for Change {
    /// One line for people, in the form of zone-file text.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::RecordCreate { owner, rtype, ttl, rdata } => {
                write!(f, "create {owner} {ttl} IN {rtype} {}", rdata::display(*rtype, rdata))
            }
            Self::RecordEdit { id, owner, rtype, ttl, rdata } => {
                write!(f, "edit {id} {owner} {ttl} IN {rtype} {}", rdata::display(*rtype, rdata))
            }
            Self::RecordDelete { id, owner, rtype } => write!(f, "delete {id} {owner} {rtype}"),
            Self::ZoneCreate => f.write_str("zone create"),
            Self::ZoneDelete => f.write_str("zone delete"),
            Self::GenerationOpen => f.write_str("generation open"),
            Self::ZonePublish => f.write_str("zone publish"),
            Self::GenerationDrop => f.write_str("generation drop"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_may_end_at_the_last_offset_there_is() {
        let (zone, generation) = (Name::root(), Generation(1));
        let changes = vec![Change::ZoneCreate, Change::ZoneDelete];
        let set = ChangeSet {
            zone,
            generation,
            first: Offset(u64::MAX - 1),
            changes,
            override_guard: false,
        };
        let offsets: Vec<_> = set.with_offsets().map(|(offset, _)| offset.0).collect();
        assert_eq!((offsets, set.last()), (vec![u64::MAX - 1, u64::MAX], Offset(u64::MAX)));
    }
}
