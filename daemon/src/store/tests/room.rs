//! F-11: how much room sled takes for a snapshot, which is what is looked for before one is begun.

use edgesync_core::{
    digest::Digest,
    fold::{ZoneState, ZoneStates},
    key,
    snapshot::{Chunk, ChunkWriter, Manifest, Scope, SnapshotId},
};

use super::*;
use crate::limits::{STAGED_BASE_OCTETS, STAGED_OCTETS};

const ID: SnapshotId = SnapshotId([7; 16]);

/// A snapshot of so many records, each with so many octets of RDATA.
fn snapshot(records: u64, octets: usize) -> (Manifest, Vec<Chunk>) {
    let zone = name("room.example");
    let generation = Generation(1);
    let (digest, version) = (Digest::empty(), Offset(1));
    let visible = Some(ZoneState { generation, records, digest, version });
    let states = ZoneStates { visible, hidden: None };
    let (mut writer, mut chunks, mut rows) = (ChunkWriter::default(), Vec::new(), 0);
    writer.zone(&zone, &states);
    let mut finish = |writer: &mut ChunkWriter, rows: &mut u64| {
        *rows += writer.octets() as u64;
        let index = u32::try_from(chunks.len()).unwrap();
        chunks.push(writer.finish(ID, index).unwrap());
    };
    for number in 0..records {
        let owner = Name::parse(&format!("host-{number:07}"), &zone).unwrap();
        let key = key::record_key(generation, &zone, &owner, Rtype::A, RecordId(number + 2));
        let rdata = vec![u8::try_from(number % 251).unwrap(); octets];
        writer.record(&key, &key::record_value(300, Offset(number + 2), &rdata));
        if writer.is_full() {
            finish(&mut writer, &mut rows);
        }
    }
    finish(&mut writer, &mut rows);
    let position = Position { offset: Offset(records + 1), ..Position::genesis(LogId([9; 16])) };
    let (scope, filter) = (Scope::Store, Filter::All.hash());
    let count = u32::try_from(chunks.len()).unwrap();
    let manifest = Manifest {
        id: ID,
        position,
        scope,
        filter,
        zones: 1,
        records,
        octets: rows,
        chunks: count,
    };
    (manifest, chunks)
}

#[test]
fn what_is_looked_for_before_a_snapshot_is_what_sled_takes_for_it() {
    for (records, octets) in [(20_000, 4), (60_000, 4), (20_000, 200), (4_000, 2_000)] {
        let dir = tempfile::tempdir().unwrap();
        let mut store = open(dir.path());
        let file = database_file(dir.path());
        let before = std::fs::metadata(&file).unwrap().len();
        let (manifest, chunks) = snapshot(records, octets);
        let rows = manifest.octets;
        store.begin_staging(manifest).unwrap();
        for chunk in &chunks {
            store.stage(chunk).unwrap();
            store.sync().unwrap();
        }
        let taken = std::fs::metadata(&file).unwrap().len() - before;
        let share = taken * 100 / rows;
        println!("{records} records, {rows} octets of rows: sled takes {share} % of them");
        assert!(taken <= rows * STAGED_OCTETS + STAGED_BASE_OCTETS, "{share} %");
    }
}
