//! The rows of the log's store, octet by octet: a line of the file that is not right any more is another
//! format, which needs another number.

use std::time::{Duration, UNIX_EPOCH};

use edgesync_core::{
    Rtype,
    change::Generation,
    digest::Digest,
    fold::{ZoneState, ZoneStates},
    key,
    position::{HistoryHash, LogId},
    record::RecordId,
};

use super::super::{
    schema::{self, AuditEntry, FORMAT, FleetRow, Freeze, LogEntry, META_FLOOR, META_HEAD},
    seal, *,
};
use super::origin;

const GOLDEN: &str = include_str!("golden.txt");

fn position() -> Position {
    Position { log: LogId([1; 16]), offset: Offset(300), hash: HistoryHash([2; 32]) }
}

fn rows() -> Vec<(&'static str, Vec<u8>)> {
    let (digest, version) = (Digest::from_bytes([9; 32]), Offset(7));
    let state = |generation| ZoneState { generation, records: 3, digest, version };
    let (visible, hidden) = (Some(state(Generation(5))), Some(state(Generation(6))));
    let zone = |states| schema::zone_value(&key::zone_key(&origin()), &origin(), &states);
    let owner = edgesync_core::name::Name::parse("www", &origin()).unwrap();
    let record_key = key::record_key(Generation(5), &origin(), &owner, Rtype::A, RecordId(8));
    let record = key::record_value(60, Offset(9), &[192, 0, 2, 1]);
    let at = UNIX_EPOCH + Duration::from_micros(1_700_000_000_123_456);
    let entry = LogEntry {
        first: Offset(299),
        last: Offset(300),
        hash: HistoryHash([2; 32]),
        committed: at,
        body: "body".into(),
    };
    let caller =
        Caller { principal: "me".to_owned(), peer: "127.0.0.1:1".to_owned(), method: "x/Y" };
    let freeze = Freeze {
        released: position(),
        since: at,
        principal: "me".to_owned(),
        reason: "why".to_owned(),
    };
    vec![
        ("format", FORMAT.to_be_bytes().to_vec()),
        ("head", schema::position_value(META_HEAD, &position())),
        ("floor", schema::position_value(META_FLOOR, &position())),
        ("release", freeze.value()),
        ("log", entry.value()),
        ("audit", AuditEntry::value(Offset(300), &caller)),
        ("zone-key", key::zone_key(&origin())),
        ("zone", zone(ZoneStates { visible, hidden: None })),
        ("zone-with-a-hidden-generation", zone(ZoneStates { visible, hidden })),
        ("generation", schema::origin_value(5, &origin())),
        ("record-key", record_key.clone()),
        ("record", seal::seal(&schema::RECORDS, &record_key, record.clone())),
        ("history", schema::history_value(300, &record_key, record)),
        ("fleet", FleetRow::value("edge-1", &position())),
    ]
}

fn hex(octets: &[u8]) -> String {
    octets.iter().map(|octet| format!("{octet:02x}")).collect()
}

#[test]
fn rows_are_written_as_they_were() {
    let written: String =
        rows().iter().map(|(name, octets)| format!("{name} {}\n", hex(octets))).collect();
    if std::env::var_os("EDGESYNC_GOLDEN").is_some() {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/src/log/tests/golden.txt");
        std::fs::write(file, &written).unwrap();
        return;
    }
    for (now, before) in written.lines().zip(GOLDEN.lines()) {
        assert_eq!(now, before, "stores that exist cannot be read any more: raise FORMAT");
    }
    assert_eq!(written.lines().count(), GOLDEN.lines().count());
}
