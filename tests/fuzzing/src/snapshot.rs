//! A snapshot's chunk: what is opened is bounded, and only what was hashed; what it has for rows is
//! written again as the same rows.

use bytes::Bytes;
use edgesync_core::{
    change::Generation,
    digest::Digest,
    fold::{ZoneState, ZoneStates},
    limits::CHUNK_OCTETS_MAX,
    name::Name,
    position::Offset,
    snapshot::{Chunk, ChunkWriter, Row, SnapshotId},
};

use crate::assert_one_line;

const ID: SnapshotId = SnapshotId([9; 16]);

fn chunk(body: &[u8]) -> Chunk {
    // The hash is that of the octets: what is wrong behind it is to be found all the same.
    let hash = blake3::hash(body);
    Chunk { snapshot: ID, index: 0, hash: *hash.as_bytes(), body: Bytes::copy_from_slice(body) }
}

pub fn run(octets: &[u8]) {
    let given = chunk(octets);
    let damaged = Chunk { hash: [0; 32], ..given.clone() };
    assert!(damaged.open().is_err(), "another hash is another chunk");
    let rows = match given.open() {
        Ok(rows) => rows,
        Err(error) => return assert_one_line(&error),
    };
    let (mut read, mut octets) = (Vec::new(), 0);
    for row in rows.iter() {
        match row {
            Ok(Row::Zone(..)) => read.push(true),
            Ok(Row::Record { key, value }) => {
                octets += key.len() + value.len();
                read.push(false);
            }
            Err(error) => return assert_one_line(&error),
        }
    }
    assert!(octets <= CHUNK_OCTETS_MAX, "invariant 15: {octets} octets of records");
    // Rows that begin with a zone, as ours do, are written again as they were read.
    if read.first() == Some(&true) {
        let mut writer = ChunkWriter::default();
        for row in rows.iter().flatten() {
            match row {
                Row::Zone(origin, states) => writer.zone(&origin, &states),
                Row::Record { key, value } => writer.record(key, value),
            }
        }
        let again = writer.finish(ID, 0).expect("it is compressed");
        let again = again.open().map(|rows| rows.iter().flatten().count());
        assert_eq!(again, Ok(read.len()));
    }
}

pub fn seeds() -> Vec<(&'static str, Vec<u8>)> {
    let zone = Name::parse_origin("example.com.").expect("a seed's name");
    let visible = ZoneState {
        generation: Generation(1),
        records: 2,
        digest: Digest::empty(),
        version: Offset(3),
    };
    let states = ZoneStates { visible: Some(visible), hidden: Some(visible) };
    let mut writer = ChunkWriter::default();
    writer.zone(&zone, &states);
    writer.record(b"key one", b"value one");
    writer.record(b"key two", b"");
    let two = writer.finish(ID, 0).expect("it is compressed").body.to_vec();
    writer.record(b"key three", b"value");
    let next = writer.finish(ID, 1).expect("it is compressed").body.to_vec();
    vec![("two-records", two), ("continued", next), ("nothing", Vec::new())]
}
