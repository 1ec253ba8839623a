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
use edgesync_daemon::store::{ApplyError, Distrust, Store, StoreConfig};

use crate::{
    assert_one_line,
    input::{Input, sized},
};

/// Entries of one tree at the most.
const ENTRIES: usize = 64;

/// A witness file (bit 0 of the first octet: with a right checksum), then keys and values of the
/// tree, each behind its length.
pub fn run(input: &[u8]) {
    let mut input = Input(input);
    let flags = input.u8();
    let witness = input.octets();
    let dir = tempfile::tempdir().expect("a directory");
    fs::write(dir.path().join("store.witness"), whole(witness, flags)).expect("it is written");
    if !input.is_empty() {
        write_entries(&dir.path().join("store"), input);
    }
    open(dir.path());
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

fn open(dir: &Path) {
    let config =
        || StoreConfig { data_dir: dir.to_owned(), cache_octets: 1 << 20, filter: Filter::All };
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

pub fn seeds() -> Vec<(&'static str, Vec<u8>)> {
    let log = LogId([7; 16]);
    let head = "edgesync store witness 1\n";
    let witness = format!("{head}epoch 3\nlog {log}\noffset 5\nrecords 1\n");
    let entry = |key: &[u8], value: &[u8]| [sized(key), sized(value)].concat();
    let at = Position::genesis(log).after(Offset(5), b"");
    let filter = Filter::All.hash();
    let position = [&log.0[..], &5u64.to_be_bytes(), &at.hash.0, &filter].concat();
    let mut zone = edgesync_core::fold::ZoneStates::default();
    let sets = crate::change_set::log();
    let mut model = crate::model::ModelStore::default();
    for set in &sets[..3] {
        edgesync_core::fold::fold(set, &mut zone, &mut model).expect("the log folds");
    }
    let origin = &sets[0].zone;
    let mut entries = [
        entry(b"mformat", &1u32.to_be_bytes()),
        entry(b"mepoch", &3u64.to_be_bytes()),
        entry(b"mposition", &position),
        entry(&[b"z", &zone_key(origin)[..]].concat(), &zone_value(origin, &zone)),
    ]
    .concat();
    for (key, value) in &model.0 {
        entries.extend(entry(&[b"r", &key[..]].concat(), value));
    }
    let staged = record_key(
        Generation(1),
        origin,
        origin,
        edgesync_core::Rtype::TXT,
        edgesync_core::record::RecordId(6),
    );
    let value = record_value(60, Offset(6), b"\x01x");
    let staged = entry(&[b"p", &staged[..]].concat(), &[&[1], &value[..]].concat());
    let writing = entry(b"mwriting", &[0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 6]);
    let garbage = entry(b"t\0\0\0\0\0\0\0\x09", b"");
    let seed = |flags: u8, witness: &str, entries: &[&[u8]]| {
        [&[flags][..], &sized(witness.as_bytes()), &entries.concat()].concat()
    };
    vec![
        ("empty", seed(0, "", &[])),
        ("witness-of-nothing", seed(1, &format!("{head}epoch 9\n"), &[])),
        ("witness-ahead", seed(1, &witness, &[])),
        ("witness-torn", seed(0, &witness, &[])),
        ("whole", seed(0, "", &[&entries])),
        ("folding", seed(0, "", &[&entries, &staged, &entry(b"mfolding", b"")])),
        ("staged", seed(0, "", &[&entries, &staged])),
        ("writing", seed(0, "", &[&entries, &writing])),
        ("garbage", seed(0, "", &[&entries, &garbage])),
        ("other-format", seed(0, "", &[&entry(b"mformat", &9u32.to_be_bytes())])),
        ("last-epoch", seed(1, &format!("{head}epoch {}\n", u64::MAX), &[])),
    ]
}
