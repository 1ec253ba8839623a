//! Snapshots into a store that serves something else: seen by nobody before all of it is there, whole
//! from then on, and neither lost nor doubled by a stop between any two writes.

use edgesync_core::{
    change::Generation,
    fold::ZoneState,
    snapshot::{Chunk, ChunkWriter, Manifest, Scope, SnapshotId},
};

use super::*;
use crate::store::{
    layout::{Place, core_key},
    witness::{Mark, Witness},
};

const ID: SnapshotId = SnapshotId([5; 16]);

/// A snapshot of what a store has, in chunks of so many records.
fn snapshot(store: &Store, scope: Scope, rows: usize) -> (Manifest, Vec<Chunk>) {
    let view = store.gate.read();
    let (mut writer, mut chunks) = (ChunkWriter::default(), Vec::new());
    let mut finish = |writer: &mut ChunkWriter| {
        let index = u32::try_from(chunks.len()).unwrap();
        chunks.push(writer.finish(ID, index).unwrap());
    };
    let (mut zones, mut records, mut in_chunk) = (0, 0, 0);
    for zone in view.zones.values() {
        if matches!(&scope, Scope::Zone(only) if *only != zone.origin) {
            continue;
        }
        writer.zone(&zone.origin, &zone.states);
        zones += u64::from(zone.states.visible.is_some());
        records += zone.states.visible.map_or(0, |state| state.records);
        for state in zone.states.visible.iter().chain(&zone.states.hidden) {
            for found in store.engine.db().scan_prefix(zone.place.generation(state.generation)) {
                let (key, value) = found.unwrap();
                writer.record(core_key(&key), &value);
                in_chunk += 1;
                if in_chunk == rows {
                    finish(&mut writer);
                    in_chunk = 0;
                }
            }
        }
    }
    if !writer.is_empty() {
        finish(&mut writer);
    }
    let position = view.position.unwrap();
    let (id, filter, octets) = (ID, Filter::All.hash(), 0);
    let count = u32::try_from(chunks.len()).unwrap();
    let manifest = Manifest { id, position, scope, filter, zones, records, octets, chunks: count };
    (manifest, chunks)
}

/// A store with the first sets of the log, after which nothing is left over.
fn partly(dir: &Path, log: &Log, sets: usize) -> Store {
    let mut store = open(dir);
    for (set, position) in &log.sets[..sets] {
        store.apply(set.clone(), *position).unwrap();
    }
    store.sync().unwrap();
    store
}

/// A log with a hidden generation at its end, and the snapshot there.
fn source() -> (Log, Manifest, Vec<Chunk>) {
    let mut log = Log::of_everything();
    let large = name("large.example");
    let h = log.add(&large, log.next(), vec![Change::GenerationOpen]);
    let owner = |n: u64| Name::parse(&format!("h-{n}"), &large).unwrap();
    log.add(&large, h, (0..300).map(|n| create(&owner(n), "hidden")).collect());
    let dir = tempfile::tempdir().unwrap();
    let store = partly(dir.path(), &log, log.sets.len());
    let (manifest, chunks) = snapshot(&store, Scope::Store, 200);
    assert!(chunks.len() > 5);
    (log, manifest, chunks)
}

/// After the snapshot the log goes on: the hidden generation is published.
fn go_on(store: &mut Store, log: &Log) {
    let mut more = Log { position: log.position, sets: Vec::new() };
    let large = name("large.example");
    let (set, _) = &log.sets[log.sets.len() - 1];
    let owner = Name::parse("last", &large).unwrap();
    more.add(&large, set.generation.0, vec![create(&owner, "last"), Change::ZonePublish]);
    for (set, position) in &more.sets {
        store.apply(set.clone(), *position).unwrap();
    }
    store.sync().unwrap();
    assert_eq!(store.reader().zone(&large).unwrap().state.records, 301);
    assert_eq!(store.reader().verify().unwrap().mismatches, []);
}

#[test]
fn a_snapshot_is_seen_by_nobody_until_it_is_whole_and_then_the_log_goes_on() {
    let (log, manifest, chunks) = source();
    let dir = tempfile::tempdir().unwrap();
    let mut store = partly(dir.path(), &log, 2);
    let before = store.reader().position();
    store.begin_staging(manifest.clone()).unwrap();
    for chunk in &chunks {
        assert_eq!(store.install(ID).unwrap(), None, "not whole");
        store.stage(chunk).unwrap();
        store.stage(chunk).unwrap();
        assert_eq!(store.reader().position(), before);
        assert_eq!(Model::of(&log, before.unwrap().offset).read(&store.reader()).len(), 1);
    }
    assert_eq!(store.install(ID).unwrap(), Some(manifest.position));
    store.sync().unwrap();
    assert_is_fold(&store, &log);
    assert_nothing_left_over(&mut store);
    assert_eq!(store.records(), store.reader().totals().records);
    drop(store);
    let mut store = open(dir.path());
    assert_is_fold(&store, &log);
    go_on(&mut store, &log);
    assert_nothing_left_over(&mut store);
}

#[test]
fn of_another_snapshot_under_the_same_id_nothing_is_taken_for_what_is_there() {
    let (log, manifest, chunks) = source();
    let dir = tempfile::tempdir().unwrap();
    let mut store = partly(dir.path(), &log, 2);
    let earlier = Position { offset: Offset(1), ..manifest.position };
    store.begin_staging(Manifest { position: earlier, ..manifest.clone() }).unwrap();
    store.stage(&chunks[0]).unwrap();
    assert_eq!(store.staged().unwrap().next, 1);
    store.begin_staging(manifest.clone()).unwrap();
    assert_eq!(store.staged().unwrap().next, 0, "it begins anew");
    chunks.iter().for_each(|chunk| store.stage(chunk).unwrap());
    store.begin_staging(manifest.clone()).unwrap();
    assert_eq!(store.staged().unwrap().next, manifest.chunks, "and goes on");
    assert_eq!(store.install(ID).unwrap(), Some(manifest.position));
    assert_is_fold(&store, &log);
}

#[test]
fn a_stop_between_any_two_writes_leaves_the_old_or_the_new_and_goes_on_where_it_was() {
    let (log, manifest, chunks) = source();
    let mut stop = 0;
    let mut reached_the_end = false;
    while !reached_the_end {
        let dir = tempfile::tempdir().unwrap();
        let mut store = partly(dir.path(), &log, 2);
        let before = store.reader().position();
        store.engine.torn.set(stop % 2 == 0);
        store.fail_after(stop);
        let done = store.begin_staging(manifest.clone()).map_err(InstallError::from);
        let done = done.and_then(|()| chunks.iter().try_for_each(|chunk| store.stage(chunk)));
        let done = done.and_then(|()| store.install(ID));
        reached_the_end = done.is_ok() && store.engine.writes_left.get().is_some();
        drop(store);
        let mut store = open(dir.path());
        assert_eq!(store.distrusted(), None, "stopped at write {stop}");
        if store.durable() == before {
            assert_eq!(Model::of(&log, before.unwrap().offset).read(&store.reader()).len(), 1);
            let next = store.staged().map_or(0, |staged| staged.next);
            store.begin_staging(manifest.clone()).unwrap();
            let left = chunks.iter().filter(|chunk| chunk.index >= next);
            left.for_each(|chunk| store.stage(chunk).unwrap());
            assert_eq!(store.install(ID).unwrap(), Some(manifest.position));
        }
        store.sync().unwrap();
        assert_is_fold(&store, &log);
        go_on(&mut store, &log);
        assert_nothing_left_over(&mut store);
        stop += 1;
    }
    assert!(stop > 10, "{stop}");
}

#[test]
fn what_is_not_what_it_says_is_not_put_in_place() {
    let (log, manifest, chunks) = source();
    let wrong = [
        Manifest { records: manifest.records + 1, ..manifest.clone() },
        Manifest { zones: manifest.zones + 1, ..manifest.clone() },
    ];
    let forged = |change: fn(&mut ZoneState)| {
        let mut chunks = chunks.clone();
        let mut writer = ChunkWriter::default();
        let rows = chunks[0].open().unwrap();
        for row in rows.iter() {
            match row.unwrap() {
                edgesync_core::snapshot::Row::Zone(origin, mut states) => {
                    states.visible.as_mut().map(change);
                    writer.zone(&origin, &states);
                }
                edgesync_core::snapshot::Row::Record { key, value } => writer.record(key, value),
            }
        }
        chunks[0] = writer.finish(ID, 0).unwrap();
        // The zone stands in each chunk; the last one counts.
        chunks.truncate(1);
        chunks
    };
    let one = Manifest { chunks: 1, ..manifest.clone() };
    let cases = [
        (wrong[0].clone(), chunks.clone()),
        (wrong[1].clone(), chunks.clone()),
        (one.clone(), forged(|state| state.records = 200)),
        (Manifest { records: 200, ..one }, forged(|state| state.records = 200)),
    ];
    for (manifest, chunks) in cases {
        let dir = tempfile::tempdir().unwrap();
        let mut store = partly(dir.path(), &log, 2);
        let before = store.reader().position();
        store.begin_staging(manifest).unwrap();
        chunks.iter().for_each(|chunk| store.stage(chunk).unwrap());
        assert!(matches!(store.install(ID), Err(InstallError::Differs(_))));
        store.drop_staging().unwrap();
        assert_eq!(store.reader().position(), before);
        assert_eq!(store.staged(), None);
        assert_nothing_left_over(&mut store);
        assert_eq!(store.reader().verify().unwrap().mismatches, []);
    }
    let damaged = Chunk { body: vec![1].into(), ..chunks[0].clone() };
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(dir.path());
    store.begin_staging(manifest).unwrap();
    assert!(matches!(store.stage(&damaged), Err(InstallError::Chunk(_))));
}

#[test]
fn a_zone_is_repaired_at_the_stores_own_position_and_nothing_else_changes() {
    let mut log = Log::of_everything();
    let (large, other) = (name("large.example"), name("other.example"));
    let o = log.next();
    log.add(&other, o, vec![Change::ZoneCreate, create(&other, "other")]);
    let source = tempfile::tempdir().unwrap();
    let good = partly(source.path(), &log, log.sets.len());
    let (manifest, chunks) = snapshot(&good, Scope::Zone(large.clone()), 200);
    let dir = tempfile::tempdir().unwrap();
    let mut store = partly(dir.path(), &log, log.sets.len());
    // Some records of the zone go, behind the store's back.
    let zone = store.gate.read().zone(&large);
    let prefix = zone.place.generation(zone.states.visible.unwrap().generation);
    let keys: Vec<_> = store.engine.db().scan_prefix(prefix).keys().take(7).collect();
    for key in keys {
        store.engine.db().remove(key.unwrap()).unwrap();
    }
    assert_eq!(store.reader().verify().unwrap().mismatches.len(), 1);
    for round in 0..2 {
        store.begin_staging(manifest.clone()).unwrap();
        chunks.iter().for_each(|chunk| store.stage(chunk).unwrap());
        // Before, it had other records there, and that is what is written down.
        let (epoch, log_id) = (store.epoch(), manifest.position.log);
        let mark = Mark { log: log_id, offset: manifest.position.offset, records: 1 };
        Witness { epoch, mark: Some(mark) }.write(&store.paths.witness).unwrap();
        assert_eq!(store.install(ID).unwrap(), Some(manifest.position), "round {round}");
        store.sync().unwrap();
        assert_is_fold(&store, &log);
        drop(store);
        store = open(dir.path());
        assert_eq!(store.distrusted(), None);
    }
    assert_nothing_left_over(&mut store);
    // A position that the store has left is no place for a repair.
    let beyond = log.add(&other, o, vec![edit(o + 1, &other, "later")]);
    let (set, position) = log.sets.last().unwrap();
    assert_eq!(set.first.0, beyond);
    store.apply(set.clone(), *position).unwrap();
    store.begin_staging(manifest).unwrap();
    chunks.iter().for_each(|chunk| store.stage(chunk).unwrap());
    assert!(matches!(store.install(ID), Err(InstallError::OutOfPlace(_))));
    store.drop_staging().unwrap();
    store.sync().unwrap();
    assert_is_fold(&store, &log);
    drop(store);
    assert_is_fold(&open(dir.path()), &log);
}

#[test]
fn a_zone_that_is_gone_goes_by_its_repair() {
    let mut log = Log::new();
    let (kept, gone) = (name("kept.example"), name("gone.example"));
    let k = log.next();
    log.add(&kept, k, vec![Change::ZoneCreate, create(&kept, "kept")]);
    let dir = tempfile::tempdir().unwrap();
    let mut store = partly(dir.path(), &log, 1);
    // A zone that nobody has created.
    let states = edgesync_core::fold::ZoneStates {
        visible: Some(ZoneState {
            generation: Generation(1),
            records: 0,
            digest: edgesync_core::digest::Digest::empty(),
            version: Offset(1),
        }),
        hidden: None,
    };
    let zone = Zone { origin: gone.clone(), place: Place(0), states };
    store
        .engine
        .db()
        .insert(Place(0).zone(&gone), layout::zone_value(Place(0), &gone, &states))
        .unwrap();
    store.gate.write().set(zone);
    let manifest = Manifest {
        id: ID,
        position: log.position,
        scope: Scope::Zone(gone),
        filter: [0; 32],
        zones: 0,
        records: 0,
        octets: 0,
        chunks: 0,
    };
    store.begin_staging(manifest).unwrap();
    assert_eq!(store.install(ID).unwrap(), Some(log.position));
    store.sync().unwrap();
    assert_is_fold(&store, &log);
    drop(store);
    assert_is_fold(&open(dir.path()), &log);
}

#[test]
fn a_snapshot_makes_the_store_one_of_the_filter_that_it_was_made_for() {
    let (log, manifest, chunks) = source();
    let dir = tempfile::tempdir().unwrap();
    drop(partly(dir.path(), &log, 2));
    let filter = Filter::Zones(vec![name("large.example"), name("small.example")]);
    let config = StoreConfig { filter: filter.clone(), ..config(dir.path()) };
    let mut store = Store::open(config.clone()).unwrap();
    assert_eq!(store.filter(), Filter::All.hash());
    store.begin_staging(Manifest { filter: filter.hash(), ..manifest }).unwrap();
    chunks.iter().for_each(|chunk| store.stage(chunk).unwrap());
    store.install(ID).unwrap();
    assert_eq!(store.filter(), filter.hash());
    store.sync().unwrap();
    drop(store);
    assert_eq!(Store::open(config).unwrap().filter(), filter.hash());
}

#[test]
fn a_store_that_is_closed_behind_a_snapshot_of_another_history_is_not_held_against_what_was() {
    let (log, manifest, chunks) = source();
    let dir = tempfile::tempdir().unwrap();
    let mut store = partly(dir.path(), &log, log.sets.len());
    let position = Position { log: LogId([9; 16]), ..manifest.position };
    store.begin_staging(Manifest { position, ..manifest }).unwrap();
    chunks.iter().for_each(|chunk| store.stage(chunk).unwrap());
    assert_eq!(store.install(ID).unwrap(), Some(position));
    // The sync fails by want of room, and all is on the disk.
    let mut closed = store.close();
    let store = closed.open().unwrap();
    assert_eq!((store.distrusted(), store.durable()), (None, Some(position)));
}

#[test]
fn a_value_that_is_too_large_is_not_staged() {
    let mut log = Log::new();
    let zone = name("a.example");
    log.add(&zone, 1, vec![Change::ZoneCreate, create(&zone, "one")]);
    let dir = tempfile::tempdir().unwrap();
    let mut store = partly(dir.path(), &log, 1);
    let (manifest, chunks) = snapshot(&store, Scope::Store, 10);
    let rows = chunks[0].open().unwrap();
    let mut writer = ChunkWriter::default();
    for row in rows.iter() {
        match row.unwrap() {
            edgesync_core::snapshot::Row::Zone(origin, states) => writer.zone(&origin, &states),
            edgesync_core::snapshot::Row::Record { key, .. } => {
                writer.record(key, &vec![0; crate::limits::VALUE_OCTETS]);
            }
        }
    }
    store.begin_staging(manifest).unwrap();
    let staged = store.stage(&writer.finish(ID, 0).unwrap());
    assert!(matches!(staged, Err(InstallError::Store(StoreError::TooLarge(_)))), "{staged:?}");
    assert_eq!(store.staged().unwrap().next, 0);
}
