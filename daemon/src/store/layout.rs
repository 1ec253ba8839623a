//! Station 6, the bytes on disk: every key of the store's one tree and what stands under it. The
//! only place that makes keys; records and zones have the form that the core gives them.
//!
//! | key | value |
//! |---|---|
//! | `m` `format` | version of this layout (4) |
//! | `m` `epoch` | how often the store has been opened (8) |
//! | `m` `position` | log id (16), offset (8), history hash (32), hash of the filter (32) |
//! | `m` `folding` | nothing; there while the entries under `p` are published and not yet folded |
//! | `m` `writing` | generation (8), first id (8): a large set is being written out of sight |
//! | `p` record key | a staged write of a large set: 1 and the value, or 0 for a delete |
//! | `r` record key | a record, as `edgesync_core::key` writes it |
//! | `t` generation (8) | nothing; the generation's records are garbage |
//! | `z` zone key | what the store says of a zone, as `edgesync_core::key` writes it |
//!
//! Numbers are big endian.

use edgesync_core::{
    change::Generation,
    position::{HistoryHash, LogId, Offset, Position},
};
use sled::IVec;

/// Version of this layout.
pub(super) const FORMAT: u32 = 1;

/// Key of the layout's version.
pub(super) const FORMAT_KEY: &[u8] = b"mformat";
/// Key of the boot epoch.
pub(super) const EPOCH_KEY: &[u8] = b"mepoch";
/// Key of the position.
pub(super) const POSITION_KEY: &[u8] = b"mposition";
/// Key of the mark that staged entries are published.
pub(super) const FOLDING_KEY: &[u8] = b"mfolding";
/// Key of the mark that a large set is being written out of sight.
pub(super) const WRITING_KEY: &[u8] = b"mwriting";

/// Prefix of staged writes.
pub(super) const STAGED: u8 = b'p';
/// Prefix of records.
pub(super) const RECORD: u8 = b'r';
/// Prefix of generations to be purged.
pub(super) const GARBAGE: u8 = b't';
/// Prefix of zones.
pub(super) const ZONE: u8 = b'z';

/// A key under a prefix.
pub(super) fn under(prefix: u8, key: &[u8]) -> Vec<u8> {
    let mut whole = Vec::with_capacity(1 + key.len());
    whole.push(prefix);
    whole.extend_from_slice(key);
    whole
}

/// The same key under another prefix.
pub(super) fn moved(prefix: u8, key: &[u8]) -> IVec {
    let mut whole = IVec::from(key);
    if let Some(first) = whole.first_mut() {
        *first = prefix;
    }
    whole
}

/// A staged write.
pub(super) fn staged_value(value: Option<&[u8]>) -> Vec<u8> {
    match value {
        Some(value) => under(1, value),
        None => vec![0],
    }
}

/// What a staged write writes: a value, or a delete.
pub(super) fn read_staged(value: &[u8]) -> Option<&[u8]> {
    value.split_first().filter(|(kind, _)| **kind == 1).map(|(_, value)| value)
}

/// What stands under [`POSITION_KEY`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct StoredPosition {
    /// The position.
    pub position: Position,
    /// Hash of the filter that the records are the fold of (rule 13).
    pub filter: [u8; 32],
}

impl StoredPosition {
    /// As octets.
    pub fn encode(&self) -> Vec<u8> {
        let mut value = Vec::with_capacity(88);
        value.extend_from_slice(&self.position.log.0);
        value.extend_from_slice(&self.position.offset.0.to_be_bytes());
        value.extend_from_slice(&self.position.hash.0);
        value.extend_from_slice(&self.filter);
        value
    }

    /// From octets, if they are 88.
    pub fn decode(value: &[u8]) -> Option<Self> {
        let (log, rest) = value.split_first_chunk::<16>()?;
        let (offset, rest) = rest.split_first_chunk::<8>()?;
        let (hash, rest) = rest.split_first_chunk::<32>()?;
        let filter = rest.try_into().ok()?;
        let (log, offset) = (LogId(*log), Offset(u64::from_be_bytes(*offset)));
        Some(Self { position: Position { log, offset, hash: HistoryHash(*hash) }, filter })
    }
}

/// What stands under [`WRITING_KEY`]: which records go if the write was not finished.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Writing {
    /// The generation that is written to.
    pub generation: Generation,
    /// The first id that the set gives; what has a lower one was there before.
    pub first: Offset,
}

impl Writing {
    /// As octets.
    pub fn encode(self) -> Vec<u8> {
        [self.generation.0.to_be_bytes(), self.first.0.to_be_bytes()].concat()
    }

    /// From octets, if they are 16.
    pub fn decode(value: &[u8]) -> Option<Self> {
        let (generation, first) = value.split_first_chunk::<8>()?;
        let generation = Generation(u64::from_be_bytes(*generation));
        Some(Self { generation, first: Offset(number(first)?) })
    }
}

/// A number of eight octets.
pub(super) fn number(value: &[u8]) -> Option<u64> {
    value.try_into().ok().map(u64::from_be_bytes)
}

/// The id in which a record's key ends.
pub(super) fn id_of(key: &[u8]) -> Option<u64> {
    key.last_chunk::<8>().map(|id| u64::from_be_bytes(*id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_reads_back_and_other_octets_do_not() {
        let position = Position::genesis(LogId([7; 16])).after(Offset(9), b"body");
        let stored = StoredPosition { position, filter: [3; 32] };
        assert_eq!(StoredPosition::decode(&stored.encode()), Some(stored));
        let writing = Writing { generation: Generation(5), first: Offset(6) };
        assert_eq!(Writing::decode(&writing.encode()), Some(writing));
        for short in 0..88 {
            assert_eq!(StoredPosition::decode(&vec![0; short]), None);
        }
        assert_eq!(read_staged(&staged_value(Some(b"x"))), Some(&b"x"[..]));
        assert_eq!(read_staged(&staged_value(Some(b""))), Some(&b""[..]));
        assert_eq!(read_staged(&staged_value(None)), None);
        assert_eq!(&*moved(RECORD, b"pabc"), b"rabc");
    }
}
