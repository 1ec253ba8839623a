//! Keys and values of the edge's store, octet by octet: a line of the file that is not right any more is
//! another layout, which needs another number, so that the old store is put aside and not misread.

use edgesync_core::{
    digest::Digest,
    fold::{ZoneState, ZoneStates},
    key,
    position::HistoryHash,
    snapshot::{Manifest, Scope, SnapshotId},
};

use super::*;
use crate::store::layout::{self, Place, StoredPosition, StoredSnapshot, Writing};

const GOLDEN: &str = include_str!("golden.txt");

fn rows() -> Vec<(&'static str, Vec<u8>)> {
    let zone = name("example.com");
    let position =
        Position { log: LogId([1; 16]), offset: Offset(300), hash: HistoryHash([2; 32]) };
    let (digest, version) = (Digest::from_bytes([9; 32]), Offset(7));
    let state = |generation| ZoneState { generation, records: 3, digest, version };
    let (visible, hidden) = (Some(state(Generation(5))), Some(state(Generation(6))));
    let owner = Name::parse("www", &zone).unwrap();
    let record = key::record_key(Generation(5), &zone, &owner, Rtype::A, RecordId(8));
    let snapshot = |scope| {
        let (id, filter) = (SnapshotId([6; 16]), [5; 32]);
        let (zones, records, octets, chunks) = (1, 2, 3, 4);
        let manifest = Manifest { id, position, scope, filter, zones, records, octets, chunks };
        StoredSnapshot { manifest, place: Place(3), next: 2 }.encode()
    };
    let writing = Writing { place: Place(4), generation: Generation(5), first: Offset(6) };
    vec![
        ("format", [layout::FORMAT_KEY, &layout::FORMAT.to_be_bytes()].concat()),
        ("position", StoredPosition { position, filter: [5; 32] }.encode()),
        ("snapshot", snapshot(Scope::Store)),
        ("snapshot-of-a-zone", snapshot(Scope::Zone(zone.clone()))),
        ("writing", writing.encode()),
        ("zone-key", Place(3).zone(&zone)),
        ("zone", layout::zone_value(Place(3), &zone, &ZoneStates { visible, hidden })),
        ("record-key", Place(3).record(&record)),
        ("record", key::record_value(60, Offset(9), &[192, 0, 2, 1])),
        ("staged", layout::staged_value(Some(b"value"))),
        ("staged-delete", layout::staged_value(None)),
        ("garbage-key", layout::under(layout::GARBAGE, &Place(3).prefix(layout::RECORD))),
    ]
}

fn hex(octets: &[u8]) -> String {
    octets.iter().map(|octet| format!("{octet:02x}")).collect()
}

#[test]
fn what_is_stored_is_written_as_it_was() {
    let written: String =
        rows().iter().map(|(name, octets)| format!("{name} {}\n", hex(octets))).collect();
    if std::env::var_os("EDGESYNC_GOLDEN").is_some() {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/src/store/tests/golden.txt");
        std::fs::write(file, &written).unwrap();
        return;
    }
    for (now, before) in written.lines().zip(GOLDEN.lines()) {
        assert_eq!(now, before, "stores that exist cannot be read any more: raise FORMAT");
    }
    assert_eq!(written.lines().count(), GOLDEN.lines().count());
}
