//! Why a change set is refused: what is wrong, and what would be right.

use super::{RecordData, StageError};
use crate::{
    Rtype,
    limits::{RRSET_RECORDS, SET_CHANGES, SET_OCTETS, TTL_SECONDS},
    name::Name,
    position::Offset,
    rdata,
    record::RecordId,
};

/// A refused set: the reason, and the operation that it is about.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct Refused {
    /// Index of the operation, from 0; none if it is about the set as a whole.
    pub operation: Option<usize>,
    /// The reason.
    pub reason: Refusal,
}

impl Refused {
    pub(super) const fn at(mut self, operation: usize) -> Self {
        self.operation = Some(operation);
        self
    }
}

/// A rule that a set breaks.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The owner is not in the zone.
    #[error("{owner} is outside the zone {zone}: give a name at or below the origin")]
    OutsideZone {
        /// The owner name.
        owner: Name,
        /// The origin.
        zone: Name,
    },
    /// CNAME beside other data (RFC 1034 section 3.6.2, RFC 4035 section 2.5).
    #[error(
        "{0} would have a CNAME beside other records: a CNAME stands alone at its name (RRSIG and \
         NSEC excepted); delete the other records in the same change set"
    )]
    CnameNotAlone(Name),
    /// A type of which a name has one record at the most.
    #[error("{owner} would have {count} {rtype} records: there may be one only")]
    NotSingle {
        /// The owner name.
        owner: Name,
        /// The type.
        rtype: Rtype,
        /// How many there would be.
        count: usize,
    },
    /// Two TTLs in one RRset (RFC 2181 section 5.2).
    #[error(
        "the RRset {owner} {rtype} would have the TTLs {ttl} and {other}: all its records have \
         one; use the RRset's, or edit the TTL of all in one change set"
    )]
    MixedTtl {
        /// The owner name.
        owner: Name,
        /// The type.
        rtype: Rtype,
        /// One TTL.
        ttl: u32,
        /// Another TTL.
        other: u32,
    },
    /// A TTL above what the field may hold (RFC 2181 section 8).
    #[error("the TTL {0} is too large: at most {TTL_SECONDS} seconds are allowed")]
    TtlTooLarge(u32),
    /// A record twice in an RRset (RFC 2181 section 5).
    #[error("{owner} has the same {rtype} record already (record {id})")]
    Duplicate {
        /// The owner name.
        owner: Name,
        /// The type.
        rtype: Rtype,
        /// The record that is there.
        id: RecordId,
    },
    /// An RRset above its limit.
    #[error("the RRset {owner} {rtype} would have {count} records: at most {RRSET_RECORDS} may be")]
    RrsetTooLarge {
        /// The owner name.
        owner: Name,
        /// The type.
        rtype: Rtype,
        /// How many there would be.
        count: usize,
    },
    /// Not exactly one SOA at the origin.
    #[error("the zone {zone} would have {count} SOA records at its origin: it has exactly one")]
    SoaCount {
        /// The origin.
        zone: Name,
        /// How many there would be.
        count: usize,
    },
    /// A SOA elsewhere.
    #[error("{0} would have a SOA record: it stands at the zone's origin only")]
    SoaNotAtOrigin(Name),
    /// The serial is not after the one before (RFC 1982).
    #[error(
        "the SOA's serial would go from {before} to {after}, which is not after it (RFC 1982): \
         write a higher one"
    )]
    SerialDoesNotRise {
        /// The serial before the set.
        before: u32,
        /// The serial after it.
        after: u32,
    },
    /// No record has the id.
    #[error("there is no record {0}: it was deleted, or never was")]
    NoRecord(RecordId),
    /// No record has the content.
    #[error(
        "the zone has no record `{} {} IN {} {}`: it was changed since, or never was",
        .0.owner, .0.ttl, .0.rtype, rdata::display(.0.rtype, &.0.rdata)
    )]
    NoSuchContent(Box<RecordData>),
    /// The record was changed since the caller read it.
    #[error("record {id} has the version {has}, not {wanted}: read it again and decide anew")]
    OtherVersion {
        /// The record.
        id: RecordId,
        /// What it has.
        has: Offset,
        /// What was asked for.
        wanted: Offset,
    },
    /// The set is over its limits.
    #[error(
        "the change set is too large: at most {SET_CHANGES} changes and {} MiB are allowed; split it",
        SET_OCTETS >> 20
    )]
    TooManyChanges,
}

impl From<Refusal> for Refused {
    fn from(reason: Refusal) -> Self {
        Self { operation: None, reason }
    }
}

impl<E> From<Refusal> for StageError<E> {
    fn from(reason: Refusal) -> Self {
        Self::Refused(reason.into())
    }
}
