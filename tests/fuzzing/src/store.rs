//! An edge's store directory: any witness file, and any entries in the tree. It opens, or is put
//! aside for a stated reason, or stays with a typed error; what opens takes the next change set.
//! Slow, for sled makes files: some hundred inputs a second.
//!
//! Entries are written by sled itself here, so the octets on disk are always a sound sled: what a
//! damaged one does is tested in `daemon/src/store/tests/quarantine.rs`.

use std::{fs, path::Path};

use edgesync_core::{
    change::{Change, ChangeSet, Generation},
    key::{record_key, record_value, zone_key, zone_value},
    name::Name,
    position::{LogId, Offset, Position},
    session::Filter,
};
use edgesync_daemon::{
    limits::SEGMENT_OCTETS,
    store::{ApplyError, Distrust, Store, StoreConfig},
};
use tempfile::TempDir;

use crate::{
    assert_one_line,
    input::{Input, sized},
};

/// Entries of one tree at the most.
const ENTRIES: usize = 64;

/// A witness file (bit 0 of the first octet: with a right checksum), then keys and values of the
/// tree, each behind its length.
pub fn run(input: &[u8]) {
    open(made(input).path());
}

/// The directory that an input stands for.
fn made(input: &[u8]) -> TempDir {
    let mut input = Input(input);
    let flags = input.u8();
    let witness = input.octets();
    let dir = tempfile::tempdir().expect("a directory");
    fs::write(dir.path().join("store.witness"), whole(witness, flags)).expect("it is written");
    if !input.is_empty() {
        write_entries(&dir.path().join("store"), input);
    }
    dir
}

/// The text of a witness, with the line that makes it believed.
fn whole(text: &[u8], flags: u8) -> Vec<u8> {
    let mut text = text.to_vec();
    if flags & 1 == 1 {
        let check = blake3::hash(&text);
        text.extend_from_slice(format!("check {check}\n").as_bytes());
    }
    text
}

fn write_entries(dir: &Path, mut input: Input<'_>) {
    fs::create_dir_all(dir).expect("it is made");
    let config = sled::Config::new().path(dir).flush_every_ms(None).cache_capacity(1 << 20);
    // As the store has them: what has others is put aside before any of it is read.
    let config = config.segment_size(SEGMENT_OCTETS);
    let db = config.open().expect("sled opens");
    for _ in 0..ENTRIES {
        if input.is_empty() {
            break;
        }
        let (key, value) = (input.octets(), input.octets());
        db.insert(key, value).expect("it is written");
    }
    db.flush().expect("it is flushed");
}

fn config(dir: &Path) -> StoreConfig {
    StoreConfig { data_dir: dir.to_owned(), cache_octets: 1 << 20, filter: Filter::All }
}

fn open(dir: &Path) {
    let config = || config(dir);
    let mut store = match Store::open(config()) {
        Ok(store) => store,
        Err(error) => {
            assert!(!error.to_string().contains("panicked"), "octets on disk made it panic");
            return assert_one_line(&error);
        }
    };
    if let Some(distrust) = store.distrusted() {
        assert_one_line(distrust);
        let panicked = matches!(distrust, Distrust::Unreadable(why) if why.contains("panicked"));
        assert!(!panicked, "octets on disk made the store panic");
        assert!(!matches!(distrust, Distrust::Segments(_)), "nothing under test was reached");
        assert_eq!(store.durable(), None, "a new store is empty");
    }
    let (epoch, trusted) = (store.epoch(), store.distrusted().is_none());
    assert!(epoch > 0, "the epoch rises");
    let reader = store.reader();
    for zone in reader.zones(None, usize::MAX) {
        assert_one_line(&zone.origin);
        let _ = reader.lookup(&zone.origin, None);
        let _ = reader.export(&zone.origin).map(|export| export.map(|records| records.count()));
    }
    let _ = reader.verify();
    drop(reader);
    let durable = store.durable();
    let next = match apply_next(&mut store, durable) {
        Ok(next) => next,
        Err(error) => return assert_one_line(&error),
    };
    assert_eq!(store.durable(), Some(next));
    drop(store);
    let store = Store::open(config()).expect("what was written in order opens");
    assert_eq!(store.durable(), Some(next), "what was durable is there (invariant 6)");
    assert!(store.epoch() > epoch || epoch == u64::MAX, "the epoch rises");
    assert!(!trusted || store.distrusted().is_none(), "{:?}", store.distrusted());
}

/// Applies a set of one zone that is not there, and makes it durable.
fn apply_next(store: &mut Store, durable: Option<Position>) -> Result<Position, ApplyError> {
    let before = durable.unwrap_or(Position::genesis(LogId([7; 16])));
    let first = before.offset.next();
    let (zone, generation) = (free_zone(store), Generation(first.0));
    let (changes, override_guard) = (vec![Change::ZoneCreate], false);
    let set = ChangeSet { zone, generation, first, changes, override_guard };
    let next = before.after(first, b"");
    store.apply(set, next)?;
    store.sync()?;
    Ok(next)
}

fn free_zone(store: &Store) -> Name {
    let reader = store.reader();
    let names = (0..).map(|n: u32| Name::parse_origin(&format!("free-{n}.example.")));
    let names = names.map(|name| name.expect("a name"));
    names.into_iter().find(|name| reader.zone(name).is_none()).expect("one is free")
}

/// Version of the store's layout that the seeds have.
const FORMAT: u32 = 3;
/// The place of what is served, where nothing was ever staged.
const ROOT: [u8; 4] = [0; 4];

/// A key and a value, as an input has them.
fn entry(key: &[&[u8]], value: &[&[u8]]) -> Vec<u8> {
    [sized(&key.concat()), sized(&value.concat())].concat()
}

/// Offset that the seeds have come to: the end of a zone's third set.
const AT: u64 = 6;
/// Records that the zone has there.
const RECORDS: u32 = 2;

/// A store with one zone, key by key; and the zone.
fn entries(log: LogId) -> (Vec<u8>, Name) {
    let at = Position::genesis(log).after(Offset(AT), b"");
    let filter = Filter::All.hash();
    let mut zone = edgesync_core::fold::ZoneStates::default();
    let sets = crate::change_set::log();
    let mut model = crate::model::ModelStore::default();
    for set in &sets[..3] {
        edgesync_core::fold::fold(set, &mut zone, &mut model).expect("the log folds");
    }
    let origin = sets[0].zone.clone();
    let mut entries = [
        entry(&[b"mformat"], &[&FORMAT.to_be_bytes()]),
        entry(&[b"mepoch"], &[&3u64.to_be_bytes()]),
        entry(&[b"mposition"], &[&log.0, &AT.to_be_bytes(), &at.hash.0, &filter]),
        entry(&[b"mroot"], &[&ROOT]),
        entry(&[b"mplace"], &[&ROOT]),
        entry(&[b"z", &ROOT, &zone_key(&origin)], &[&ROOT, &zone_value(&origin, &zone)]),
    ]
    .concat();
    for (key, value) in &model.0 {
        entries.extend(entry(&[b"r", &ROOT, key], &[value]));
    }
    (entries, origin)
}

/// What the store says of a snapshot of everything that is staged at a place.
fn snapshot(log: LogId, place: [u8; 4]) -> Vec<u8> {
    let numbers = [1u64, 3, 300].map(u64::to_be_bytes).concat();
    let (filter, hash) = (Filter::All.hash(), [9; 32]);
    let (chunks, next) = (2u32.to_be_bytes(), 1u32.to_be_bytes());
    let value: [&[u8]; 9] =
        [&[1; 16], &log.0, &9u64.to_be_bytes(), &hash, &filter, &numbers, &chunks, &place, &next];
    entry(&[b"msnapshot"], &value)
}

pub fn seeds() -> Vec<(&'static str, Vec<u8>)> {
    let log = LogId([7; 16]);
    let head = "edgesync store witness 1\n";
    let witness =
        |records: u32| format!("{head}epoch 3\nlog {log}\noffset {AT}\nrecords {records}\n");
    let (entries, origin) = entries(log);
    let of = |generation, id| {
        let txt = edgesync_core::Rtype::TXT;
        let (generation, id) = (Generation(generation), edgesync_core::record::RecordId(id));
        record_key(generation, &origin, &origin, txt, id)
    };
    let value = record_value(60, Offset(AT + 1), b"\x01x");
    let staged = entry(&[b"p", &ROOT, &of(1, AT + 1)], &[&[1], &value]);
    let folding = entry(&[b"mfolding"], &[]);
    let numbers = [1u64, AT + 1].map(u64::to_be_bytes).concat();
    let writing = entry(&[b"mwriting"], &[&ROOT, &numbers]);
    let unseen = entry(&[b"r", &ROOT, &of(1, AT + 1)], &[&value]);
    let garbage = entry(&[b"t", &ROOT, &9u64.to_be_bytes()], &[]);
    let old = entry(&[b"r", &ROOT, &of(9, 1)], &[&value]);
    let place = 1u32.to_be_bytes();
    let given = entry(&[b"mplace"], &[&place]);
    let taken = entry(&[b"r", &place, &of(1, 2)], &[&value]);
    let seed = |flags: u8, witness: &str, entries: &[&[u8]]| {
        [&[flags][..], &sized(witness.as_bytes()), &entries.concat()].concat()
    };
    let format = |version: u32| entry(&[b"mformat"], &[&version.to_be_bytes()]);
    vec![
        ("empty", seed(0, "", &[])),
        ("witness-of-nothing", seed(1, &format!("{head}epoch 9\n"), &[])),
        ("witness-ahead", seed(1, &witness(RECORDS), &[])),
        ("witness-torn", seed(0, &witness(RECORDS), &[])),
        ("whole", seed(1, &witness(RECORDS), &[&entries])),
        ("folding", seed(0, "", &[&entries, &staged, &folding])),
        ("staged", seed(0, "", &[&entries, &staged])),
        ("writing", seed(0, "", &[&entries, &unseen, &writing])),
        ("garbage", seed(0, "", &[&entries, &old, &garbage])),
        ("other-format", seed(0, "", &[&format(9)])),
        ("last-epoch", seed(1, &format!("{head}epoch {}\n", u64::MAX), &[])),
        ("snapshot", seed(0, "", &[&entries, &given, &taken, &snapshot(log, place)])),
        ("other-count", seed(1, &witness(RECORDS + 1), &[&entries])),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opened(seed: &str) -> (TempDir, Store) {
        let seeds = seeds();
        let (_, input) = seeds.iter().find(|(name, _)| *name == seed).expect("a seed's name");
        let dir = made(input);
        let store = Store::open(config(dir.path())).expect("it opens");
        (dir, store)
    }

    /// Else a fuzzer that begins with them would not come to what is under test.
    #[test]
    fn the_seeds_of_a_store_open_trusted_with_their_zone_and_its_records() {
        let (_, origin) = entries(LogId([7; 16]));
        for seed in ["whole", "folding", "staged", "writing", "garbage", "snapshot"] {
            let (_dir, store) = opened(seed);
            assert!(store.distrusted().is_none(), "{seed}: {:?}", store.distrusted());
            assert_eq!(store.durable().map(|at| at.offset), Some(Offset(AT)), "{seed}");
            assert!(store.epoch() > 3, "{seed}");
            let zone = store.reader().zone(&origin);
            assert!(zone.is_some(), "{seed}: the zone is not there");
            let export = store.reader().export(&origin).expect("it can be read");
            let text: Result<String, _> = export.expect("the zone is there").collect();
            let records = text.expect("it can be read").lines().count();
            let folded = usize::from(seed == "folding");
            assert_eq!(records, RECORDS as usize + folded, "{seed}");
        }
    }

    #[test]
    fn the_seeds_that_disagree_are_put_aside_for_what_is_wrong_with_them() {
        let (_dir, store) = opened("other-count");
        assert!(matches!(store.distrusted(), Some(Distrust::Count { .. })));
        let (_dir, store) = opened("witness-ahead");
        assert!(matches!(store.distrusted(), Some(Distrust::Behind { .. })));
    }
}
