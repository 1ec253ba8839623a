//! Station 6, the bytes on disk: every key of the store's one tree and what stands under it. The
//! only place that makes keys; records and zones have the form that the core gives them.
//!
//! | key | value |
//! |---|---|
//! | `m` `format` | version of this layout (4 octets) |
//! | `m` `epoch` | how often the store has been opened (8) |
//! | `m` `position` | log id (16), offset (8), history hash (32), hash of the filter (32) |
//! | `m` `root` | place (4): under it stand the zones that are served |
//! | `m` `place` | place (4): the last one that was given out |
//! | `m` `snapshot` | what is staged of a snapshot, see [`StoredSnapshot`] |
//! | `m` `folding` | nothing; there while the entries under `p` are published and not yet folded |
//! | `m` `writing` | place (4), generation (8), first id (8): a large set is being written out of sight |
//! | `p` place (4) record key | a staged write of a large set: 1 and the value, or 0 for a delete |
//! | `r` place (4) record key | a record, as `edgesync_core::key` writes it |
//! | `t` prefix | nothing; all keys with the prefix are garbage |
//! | `z` root (4) zone key | place (4) of the zone's records, and what `edgesync_core::key` says of a zone |
//!
//! Numbers are big endian. A *place* is where a snapshot is staged, beside all that is served; it is
//! never used twice. A snapshot of everything becomes the root; that of one zone is the place of its
//! records from then on (rule 16).

use bytes::Bytes;
use edgesync_core::{
    change::Generation,
    fold::ZoneStates,
    key,
    name::Name,
    position::{HistoryHash, LogId, Offset, Position},
    snapshot::{Manifest, Scope, SnapshotId, Staged},
};
use sled::IVec;

/// Version of this layout.
pub(super) const FORMAT: u32 = 3;

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

/// Key of the root.
pub(super) const ROOT_KEY: &[u8] = b"mroot";
/// Key of the last place that was given out.
pub(super) const PLACE_KEY: &[u8] = b"mplace";
/// Key of what is staged of a snapshot.
pub(super) const SNAPSHOT_KEY: &[u8] = b"msnapshot";

/// Prefix of staged writes.
pub(super) const STAGED: u8 = b'p';
/// Prefix of records.
pub(super) const RECORD: u8 = b'r';
/// Prefix of prefixes whose keys are to be purged.
pub(super) const GARBAGE: u8 = b't';
/// Prefix of zones.
pub(super) const ZONE: u8 = b'z';

/// Where records are that were staged together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Place(pub u32);

impl Place {
    /// From octets, if they are 4.
    pub fn decode(value: &[u8]) -> Option<Self> {
        value.try_into().ok().map(|octets| Self(u32::from_be_bytes(octets)))
    }

    /// What all keys of a kind begin with that are there.
    pub fn prefix(self, kind: u8) -> Vec<u8> {
        under(kind, &self.0.to_be_bytes())
    }

    /// What all records of a generation begin with that are there.
    pub fn generation(self, generation: Generation) -> Vec<u8> {
        self.record(&key::generation_prefix(generation))
    }

    /// The key of a record, or the beginning of one.
    pub fn record(self, key: &[u8]) -> Vec<u8> {
        let mut whole = Vec::with_capacity(5 + key.len());
        whole.push(RECORD);
        whole.extend_from_slice(&self.0.to_be_bytes());
        whole.extend_from_slice(key);
        whole
    }

    /// The key of a zone, this being the root.
    pub fn zone(self, origin: &Name) -> Vec<u8> {
        [self.prefix(ZONE), key::zone_key(origin)].concat()
    }
}

/// What the core gave as the key of a stored record.
pub(super) fn core_key(key: &[u8]) -> &[u8] {
    key.get(5..).unwrap_or_default()
}

/// What stands under a zone's key.
pub(super) fn zone_value(place: Place, origin: &Name, states: &ZoneStates) -> Vec<u8> {
    [&place.0.to_be_bytes(), key::zone_value(origin, states).as_slice()].concat()
}

/// What [`zone_value`] has written.
pub(super) fn read_zone(value: &[u8]) -> Option<(Place, Name, ZoneStates)> {
    let (place, value) = value.split_first_chunk::<4>()?;
    let (origin, states) = key::read_zone(value).ok()?;
    Some((Place(u32::from_be_bytes(*place)), origin, states))
}

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

/// What stands under [`SNAPSHOT_KEY`]: a snapshot, where it is staged, and how far.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct StoredSnapshot {
    /// What it has.
    pub manifest: Manifest,
    /// Where it is staged.
    pub place: Place,
    /// The first chunk that is not there.
    pub next: u32,
}

impl StoredSnapshot {
    /// How much of it is there.
    pub const fn staged(&self) -> Staged {
        Staged { id: self.manifest.id, next: self.next }
    }

    /// As octets: id (16), log id (16), offset (8), history hash (32), hash of the filter (32), zones (8),
    /// records (8), octets (8), chunks (4), place (4), next (4), and the zone in wire form if it is of
    /// one.
    pub fn encode(&self) -> Vec<u8> {
        let Manifest { id, position, scope, filter, zones, records, octets, chunks } =
            &self.manifest;
        let mut value = Vec::with_capacity(140);
        value.extend_from_slice(&id.0);
        value.extend_from_slice(&position.log.0);
        value.extend_from_slice(&position.offset.0.to_be_bytes());
        value.extend_from_slice(&position.hash.0);
        value.extend_from_slice(filter);
        for number in [zones, records, octets] {
            value.extend_from_slice(&number.to_be_bytes());
        }
        for number in [*chunks, self.place.0, self.next] {
            value.extend_from_slice(&number.to_be_bytes());
        }
        if let Scope::Zone(zone) = scope {
            value.extend_from_slice(zone.wire());
        }
        value
    }

    /// From octets.
    pub fn decode(value: &[u8]) -> Option<Self> {
        let (id, rest) = value.split_first_chunk::<16>()?;
        let (log, rest) = rest.split_first_chunk::<16>()?;
        let (offset, rest) = rest.split_first_chunk::<8>()?;
        let (hash, rest) = rest.split_first_chunk::<32>()?;
        let (filter, mut rest) = rest.split_first_chunk::<32>()?;
        let mut long = || {
            let (number, after) = rest.split_first_chunk::<8>()?;
            rest = after;
            Some(u64::from_be_bytes(*number))
        };
        let (zones, records, octets) = (long()?, long()?, long()?);
        let mut short = || {
            let (number, after) = rest.split_first_chunk::<4>()?;
            rest = after;
            Some(u32::from_be_bytes(*number))
        };
        let (chunks, place, next) = (short()?, Place(short()?), short()?);
        let scope = match rest {
            [] => Scope::Store,
            wire => Scope::Zone(Name::from_wire(Bytes::copy_from_slice(wire)).ok()?),
        };
        let (log, offset) = (LogId(*log), Offset(u64::from_be_bytes(*offset)));
        let position = Position { log, offset, hash: HistoryHash(*hash) };
        let (id, filter) = (SnapshotId(*id), *filter);
        let manifest = Manifest { id, position, scope, filter, zones, records, octets, chunks };
        Some(Self { manifest, place, next })
    }
}

/// What stands under [`WRITING_KEY`]: which records go if the write was not finished.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Writing {
    /// Where the generation is.
    pub place: Place,
    /// The generation that is written to.
    pub generation: Generation,
    /// The first id that the set gives; what has a lower one was there before.
    pub first: Offset,
}

impl Writing {
    /// As octets.
    pub fn encode(self) -> Vec<u8> {
        let numbers = [self.generation.0.to_be_bytes(), self.first.0.to_be_bytes()].concat();
        [&self.place.0.to_be_bytes(), numbers.as_slice()].concat()
    }

    /// From octets, if they are 20.
    pub fn decode(value: &[u8]) -> Option<Self> {
        let (place, rest) = value.split_first_chunk::<4>()?;
        let (generation, first) = rest.split_first_chunk::<8>()?;
        let generation = Generation(u64::from_be_bytes(*generation));
        let place = Place(u32::from_be_bytes(*place));
        Some(Self { place, generation, first: Offset(number(first)?) })
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
        let writing = Writing { place: Place(4), generation: Generation(5), first: Offset(6) };
        assert_eq!(Writing::decode(&writing.encode()), Some(writing));
        for scope in [Scope::Store, Scope::Zone(Name::root())] {
            let (id, filter, zones, records) = (SnapshotId([1; 16]), [4; 32], 6, 7);
            let (octets, chunks) = (8, 9);
            let manifest = Manifest { id, position, scope, filter, zones, records, octets, chunks };
            let stored = StoredSnapshot { manifest, place: Place(3), next: 2 };
            assert_eq!(StoredSnapshot::decode(&stored.encode()), Some(stored));
        }
        for short in 0..88 {
            assert_eq!(StoredSnapshot::decode(&vec![0; short]), None);
            assert_eq!(StoredPosition::decode(&vec![0; short]), None);
        }
        assert_eq!(read_staged(&staged_value(Some(b"x"))), Some(&b"x"[..]));
        assert_eq!(read_staged(&staged_value(Some(b""))), Some(&b""[..]));
        assert_eq!(read_staged(&staged_value(None)), None);
        assert_eq!(&*moved(RECORD, b"pabc"), b"rabc");
    }
}
