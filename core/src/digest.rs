//! The digest of a zone: a multiset hash, so that it follows changes without reading the zone.
//!
//! It is the sum of a BLAKE3 hash of each record, in four lanes of 64 bits. Adding and taking away
//! commute, so the order of changes does not matter, only what is there at the end.

use std::fmt;

use crate::{position::hex, record::Record};

/// Digest of a set of records; the default is that of the empty set.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Digest([u64; 4]);

impl Digest {
    /// The digest of no records.
    #[must_use]
    pub const fn empty() -> Self {
        Self([0; 4])
    }

    /// The digest of one record, with its identity and version.
    #[must_use]
    pub fn of(record: &Record) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&record.id.0.to_be_bytes());
        hasher.update(&record.version.0.to_be_bytes());
        hasher.update(&record.rtype.to_int().to_be_bytes());
        hasher.update(&record.ttl.to_be_bytes());
        hasher.update(record.owner.wire());
        hasher.update(&record.rdata);
        Self::from_bytes(*hasher.finalize().as_bytes())
    }

    /// With one record more.
    #[must_use]
    pub fn plus(self, record: &Record) -> Self {
        self.lanes(Self::of(record), u64::wrapping_add)
    }

    /// With one record less.
    #[must_use]
    pub fn minus(self, record: &Record) -> Self {
        self.lanes(Self::of(record), u64::wrapping_sub)
    }

    fn lanes(self, other: Self, combine: fn(u64, u64) -> u64) -> Self {
        let ([a, b, c, d], [e, f, g, h]) = (self.0, other.0);
        Self([combine(a, e), combine(b, f), combine(c, g), combine(d, h)])
    }

    /// The digest as octets, lane after lane, big endian.
    #[must_use]
    pub fn to_bytes(self) -> [u8; 32] {
        let mut octets = [0; 32];
        for (place, lane) in octets.chunks_exact_mut(8).zip(self.0) {
            place.copy_from_slice(&lane.to_be_bytes());
        }
        octets
    }

    /// The digest from its octets.
    #[must_use]
    pub fn from_bytes(octets: [u8; 32]) -> Self {
        let mut lanes = [0; 4];
        for (lane, place) in lanes.iter_mut().zip(octets.as_chunks::<8>().0) {
            *lane = u64::from_be_bytes(*place);
        }
        Self(lanes)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hex(f, &self.to_bytes())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Rtype, name::Name, position::Offset, record::RecordId};

    fn record(id: u64) -> Record {
        Record {
            id: RecordId(id),
            version: Offset(id),
            owner: Name::root(),
            rtype: Rtype::A,
            ttl: 60,
            rdata: vec![192, 0, 2, 1].into(),
        }
    }

    #[test]
    fn order_does_not_matter_and_taking_away_undoes_adding() {
        let (a, b) = (record(1), record(2));
        let both = Digest::default().plus(&a).plus(&b);
        assert_eq!(both, Digest::default().plus(&b).plus(&a));
        assert_eq!(both.minus(&a), Digest::of(&b));
        assert_eq!(both.minus(&a).minus(&b), Digest::default());
        assert_ne!(both, Digest::default().plus(&a).plus(&a));
        assert_eq!(Digest::from_bytes(both.to_bytes()), both);
    }

    #[test]
    fn every_field_counts() {
        let base = record(1);
        let others = [
            Record { ttl: 61, ..base.clone() },
            Record { version: Offset(2), ..base.clone() },
            Record { rtype: Rtype::AAAA, ..base.clone() },
            Record { owner: Name::parse_origin("a").unwrap(), ..base.clone() },
            Record { rdata: vec![192, 0, 2, 2].into(), ..base.clone() },
        ];
        for other in others {
            assert_ne!(Digest::of(&base), Digest::of(&other));
        }
    }
}
