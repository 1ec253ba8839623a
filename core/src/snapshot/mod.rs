//! Snapshots: all records of a store, or of one zone, as they are at one position; for an edge whose
//! next change is gone from the log, or one of whose zones has drifted (rules 16, 18).
//!
//! A snapshot is a [`Manifest`] and its chunks. A chunk can be read by itself: its rows begin with the
//! zone that they are of, so a download goes on where it stopped. Records have the keys and values
//! of [`crate::key`].

mod chunk;

use std::fmt;

pub use chunk::{Chunk, ChunkWriter, MalformedChunk, Row, Rows};

use crate::{
    name::Name,
    position::{Position, hex},
};

/// Identity of a snapshot, drawn at random when it is made.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SnapshotId(pub [u8; 16]);

impl fmt::Display for SnapshotId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hex(f, &self.0)
    }
}

impl fmt::Debug for SnapshotId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hex(f, &self.0)
    }
}

/// What a snapshot takes the place of.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Scope {
    /// All that an edge has: all zones of its filter.
    Store,
    /// One zone, which is gone if the snapshot has no rows.
    Zone(Name),
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Store => f.write_str("all zones"),
            Self::Zone(zone) => write!(f, "zone {zone}"),
        }
    }
}

/// What a snapshot has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// Its identity.
    pub id: SnapshotId,
    /// The position that it shows.
    pub position: Position,
    /// What it takes the place of.
    pub scope: Scope,
    /// Hash of the filter whose zones it has, if it is of a store (rule 13).
    pub filter: [u8; 32],
    /// Number of its zones.
    pub zones: u64,
    /// Number of records in visible generations.
    pub records: u64,
    /// Octets of its chunks' rows, before compression.
    pub octets: u64,
    /// Number of its chunks.
    pub chunks: u32,
}

/// How much of a snapshot is durable at an edge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Staged {
    /// Which snapshot.
    pub id: SnapshotId,
    /// The first chunk that is not there.
    pub next: u32,
}
