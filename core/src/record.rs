//! A DNS resource record as log and stores know it.

use std::{cmp::Ordering, fmt};

use bytes::Bytes;

use crate::{Rtype, name::Name, position::Offset, rdata};

/// Identity of a record: the offset of the change that created it (rule 5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecordId(pub u64);

impl fmt::Display for RecordId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One resource record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Its identity.
    pub id: RecordId,
    /// Offset of the last change to it.
    pub version: Offset,
    /// Owner name.
    pub owner: Name,
    /// Type.
    pub rtype: Rtype,
    /// Time to live, in seconds.
    pub ttl: u32,
    /// RDATA in uncompressed wire form.
    pub rdata: Bytes,
}

impl Record {
    /// The set that it is a member of at its owner: the type, and for an RRSIG also what it
    /// covers, because signatures have the TTL of what they sign (rule 2).
    #[must_use]
    pub fn rrset(&self) -> (Rtype, Rtype) {
        (self.rtype, rdata::covered(self.rtype, &self.rdata))
    }

    /// The canonical order of a zone: owner, type, RDATA (RFC 4034 section 6).
    #[must_use]
    pub fn canonical_cmp(&self, other: &Self) -> Ordering {
        (&self.owner, self.rtype).cmp(&(&other.owner, other.rtype)).then_with(|| {
            rdata::canonical(self.rtype, &self.rdata)
                .cmp(&rdata::canonical(other.rtype, &other.rdata))
        })
    }

    /// The record as a line of a zone file, without the line's end.
    #[must_use]
    pub fn zone_file_line(&self) -> String {
        let rdata = rdata::display(self.rtype, &self.rdata);
        format!("{}\t{}\tIN\t{}\t{rdata}", self.owner, self.ttl, self.rtype)
    }
}
