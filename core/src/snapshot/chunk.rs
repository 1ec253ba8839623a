//! A chunk: rows, compressed, with a hash over what travels.
//!
//! ```text
//! rows   z | length (4) | zone value        the rows that follow are of this zone
//!        r | length (4) | key | length (4) | record value
//! ```
//! Numbers are big endian.

use bytes::Bytes;

use super::SnapshotId;
use crate::{
    fold::ZoneStates,
    key,
    limits::{CHUNK_OCTETS, CHUNK_OCTETS_MAX},
    name::Name,
};

/// Level of compression: the fastest that still finds the repetition in names and keys.
const ZSTD_LEVEL: i32 = 1;
/// Tag of a zone's row.
const ZONE: u8 = b'z';
/// Tag of a record's row.
const RECORD: u8 = b'r';

/// A part of a snapshot, as it is stored and as it travels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// The snapshot that it is a part of.
    pub snapshot: SnapshotId,
    /// Its place, from 0 on.
    pub index: u32,
    /// BLAKE3 of the body.
    pub hash: [u8; 32],
    /// The rows, compressed with zstd.
    pub body: Bytes,
}

/// Why a chunk is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MalformedChunk {
    /// The body is not what was sent.
    #[error("a snapshot's chunk is damaged: its hash differs")]
    Hash,
    /// The body is not compressed rows, or has too many octets of them.
    #[error("a snapshot's chunk cannot be decompressed into {CHUNK_OCTETS_MAX} octets: {0}")]
    Compression(String),
    /// The octets are no rows.
    #[error("a snapshot's chunk has not the form that this version writes")]
    Rows,
}

/// Writes the rows of chunks.
#[derive(Debug, Default)]
pub struct ChunkWriter {
    rows: Vec<u8>,
    zone: Vec<u8>,
}

impl ChunkWriter {
    /// True if the chunk is to end here.
    #[must_use]
    pub const fn is_full(&self) -> bool {
        self.rows.len() >= CHUNK_OCTETS
    }

    /// True if there is nothing in the chunk.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Octets of the rows.
    #[must_use]
    pub const fn octets(&self) -> usize {
        self.rows.len()
    }

    /// Begins a zone; the records that follow are of it, also in the chunks to come.
    pub fn zone(&mut self, origin: &Name, states: &ZoneStates) {
        self.zone = key::zone_value(origin, states);
        self.begin_zone();
    }

    fn begin_zone(&mut self) {
        self.rows.push(ZONE);
        push(&mut self.rows, &self.zone);
    }

    /// Adds a record of the zone.
    pub fn record(&mut self, key: &[u8], value: &[u8]) {
        if self.rows.is_empty() {
            self.begin_zone();
        }
        self.rows.push(RECORD);
        push(&mut self.rows, key);
        push(&mut self.rows, value);
    }

    /// Ends the chunk; the writer is ready for the next one of the same zone.
    ///
    /// # Errors
    /// If the compressor fails.
    pub fn finish(&mut self, snapshot: SnapshotId, index: u32) -> std::io::Result<Chunk> {
        let body = Bytes::from(zstd::bulk::compress(&self.rows, ZSTD_LEVEL)?);
        self.rows.clear();
        Ok(Chunk { snapshot, index, hash: *blake3::hash(&body).as_bytes(), body })
    }
}

fn push(rows: &mut Vec<u8>, octets: &[u8]) {
    // A row is far below 4 GiB: keys and values have bounds of their own.
    let length = u32::try_from(octets.len()).unwrap_or(u32::MAX);
    rows.extend_from_slice(&length.to_be_bytes());
    rows.extend_from_slice(octets);
}

impl Chunk {
    /// The rows, checked and decompressed into a bounded room.
    ///
    /// # Errors
    /// If the body is not what was sent, or has more rows than a chunk may have.
    pub fn open(&self) -> Result<Rows, MalformedChunk> {
        if *blake3::hash(&self.body).as_bytes() != self.hash {
            return Err(MalformedChunk::Hash);
        }
        let rows = zstd::bulk::decompress(&self.body, CHUNK_OCTETS_MAX);
        rows.map(Rows).map_err(|error| MalformedChunk::Compression(error.to_string()))
    }
}

/// A row of a chunk.
#[derive(Debug, PartialEq, Eq)]
pub enum Row<'a> {
    /// What follows is of this zone.
    Zone(Name, ZoneStates),
    /// A record.
    Record {
        /// Its key.
        key: &'a [u8],
        /// Its value.
        value: &'a [u8],
    },
}

/// The rows of a chunk.
#[derive(Debug)]
pub struct Rows(Vec<u8>);

impl Rows {
    /// The rows, one after the other; ends after the first that is none.
    pub fn iter(&self) -> impl Iterator<Item = Result<Row<'_>, MalformedChunk>> {
        let mut rest = self.0.as_slice();
        let mut failed = false;
        std::iter::from_fn(move || {
            if rest.is_empty() || failed {
                return None;
            }
            let row = next(&mut rest).ok_or(MalformedChunk::Rows);
            failed = row.is_err();
            Some(row)
        })
    }
}

fn next<'a>(rest: &mut &'a [u8]) -> Option<Row<'a>> {
    let (tag, after) = rest.split_first()?;
    *rest = after;
    match *tag {
        ZONE => {
            let (origin, states) = key::read_zone(take(rest)?).ok()?;
            Some(Row::Zone(origin, states))
        }
        RECORD => Some(Row::Record { key: take(rest)?, value: take(rest)? }),
        _ => None,
    }
}

fn take<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (length, after) = rest.split_first_chunk::<4>()?;
    let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
    let (taken, after) = after.split_at_checked(length)?;
    *rest = after;
    Some(taken)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{change::Generation, digest::Digest, fold::ZoneState, position::Offset};

    const ID: SnapshotId = SnapshotId([3; 16]);

    fn states() -> ZoneStates {
        let (generation, version) = (Generation(1), Offset(9));
        let visible = ZoneState { generation, records: 2, digest: Digest::empty(), version };
        ZoneStates { visible: Some(visible), hidden: None }
    }

    #[test]
    fn every_chunk_begins_with_the_zone_of_its_records() {
        let zone = Name::parse_origin("example.com").unwrap();
        let mut writer = ChunkWriter::default();
        writer.zone(&zone, &states());
        writer.record(b"key 1", b"value 1");
        let first = writer.finish(ID, 0).unwrap();
        writer.record(b"key 2", b"");
        let second = writer.finish(ID, 1).unwrap();
        assert!(writer.is_empty());
        for (chunk, key, value) in [(first, "key 1", "value 1"), (second, "key 2", "")] {
            let rows = chunk.open().unwrap();
            let rows: Vec<_> = rows.iter().map(Result::unwrap).collect();
            let record = Row::Record { key: key.as_bytes(), value: value.as_bytes() };
            assert_eq!(rows, [Row::Zone(zone.clone(), states()), record]);
        }
    }

    #[test]
    fn damage_is_found_at_every_octet_and_a_bomb_is_not_opened() {
        let mut writer = ChunkWriter::default();
        writer.zone(&Name::root(), &states());
        let chunk = writer.finish(ID, 0).unwrap();
        for place in 0..chunk.body.len() {
            let mut body = chunk.body.to_vec();
            body[place] ^= 1;
            let damaged = Chunk { body: body.into(), ..chunk.clone() };
            assert_eq!(damaged.open().err(), Some(MalformedChunk::Hash));
        }
        let body = Bytes::from(zstd::bulk::compress(&vec![0; CHUNK_OCTETS_MAX + 1], 1).unwrap());
        let bomb = Chunk { hash: *blake3::hash(&body).as_bytes(), body, ..chunk };
        assert!(matches!(bomb.open(), Err(MalformedChunk::Compression(_))));
    }

    #[test]
    fn octets_that_are_no_rows_end_the_reading() {
        for rows in [&b"x"[..], b"z", b"r\0\0\0\x01k\0\0\0\x09v", b"z\0\0\0\x01\xff"] {
            let rows = Rows(rows.to_vec());
            let read: Vec<_> = rows.iter().collect();
            assert_eq!(read, [Err(MalformedChunk::Rows)]);
        }
    }
}
