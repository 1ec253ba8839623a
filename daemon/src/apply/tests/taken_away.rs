//! Zones that an edge may not have any more go without a person; what else goes is counted (rules 10, 13).

use edgesync_core::{
    digest::Digest,
    fold::{ZoneState, ZoneStates},
    key,
    record::Record,
    snapshot::ChunkWriter,
};

use super::*;

const ID: SnapshotId = SnapshotId([7; 16]);

fn staying() -> Name {
    Name::parse_origin("b.example").unwrap()
}

/// A set that makes a zone of so many records.
fn zone_of(log: &mut Log, origin: &Name, records: usize) -> Work {
    let rdata = || vec![192, 0, 2, 1].into();
    let create =
        |_| Change::RecordCreate { owner: origin.clone(), rtype: Rtype::A, ttl: 1, rdata: rdata() };
    let first = log.0.offset.next();
    let changes = std::iter::once(Change::ZoneCreate).chain((0..records).map(create));
    let Work::Set(mut arrived) = log.next(changes.collect()) else { panic!() };
    let set = arrived.set.as_mut().unwrap();
    (set.zone, set.generation) = (origin.clone(), Generation(first.0));
    Work::Set(arrived)
}

/// A snapshot for a filter, of the staying zone with so many records.
fn snapshot(position: Position, filter: &Filter, records: u64) -> (Manifest, Chunk) {
    let (generation, first) = (Generation(42), 43);
    let (mut writer, mut digest) = (ChunkWriter::default(), Digest::empty());
    let all: Vec<_> = (first..first + records)
        .map(|id| {
            let (owner, rtype, rdata) = (staying(), Rtype::A, vec![192, 0, 2, 1].into());
            Record { id: RecordId(id), version: Offset(id), owner, rtype, ttl: 1, rdata }
        })
        .collect();
    for record in &all {
        digest = digest.plus(record);
    }
    let version = Offset(first + records - 1);
    let visible = Some(ZoneState { generation, records, digest, version });
    writer.zone(&staying(), &ZoneStates { visible, hidden: None });
    for Record { id, version, owner, rtype, ttl, rdata } in &all {
        let key = key::record_key(generation, &staying(), owner, *rtype, *id);
        writer.record(&key, &key::record_value(*ttl, *version, rdata));
    }
    let chunk = writer.finish(ID, 0).unwrap();
    let (scope, filter, zones) = (Scope::Store, filter.hash(), 1);
    let (octets, chunks) = (0, 1);
    (Manifest { id: ID, position, scope, filter, zones, records, octets, chunks }, chunk)
}

#[test]
fn zones_that_are_taken_away_go_unheld_and_what_goes_of_the_others_is_held() {
    for (left, is_held) in [(10, false), (5, true)] {
        let dir = tempfile::tempdir().unwrap();
        let (mut applying, reader) = begin(dir.path());
        let mut log = Log::new();
        let first = zone_of(&mut log, &zone(), 40);
        send(&applying, [first, zone_of(&mut log, &staying(), 10)]);
        while !matches!(next(&mut applying), Report::Durable { position, .. } if position == log.0)
        {
        }
        let filter = Filter::Zones(vec![staying()]);
        let (manifest, chunk) = snapshot(log.0, &filter, left);
        send(&applying, [Work::Stage { manifest, filter, may_be_older: false }]);
        send(&applying, [Work::Chunk(chunk), Work::Install(ID)]);
        let ended = loop {
            match next(&mut applying) {
                Report::Staged { .. } => {}
                report => break report,
            }
        };
        match ended {
            Report::Installed { .. } => assert!(!is_held, "{left} of 10 are left"),
            Report::Halted(halt) => assert!(is_held && halt.reason.contains("5 of 10"), "{halt:?}"),
            other => panic!("{other:?}"),
        }
        assert_eq!(reader.zone(&zone()).is_none(), !is_held, "the zone that was taken away");
        assert_eq!(reader.totals().records, if is_held { 50 } else { 10 });
    }
}
