//! The store against a model of its own, stopped at every write, read while it is written, and
//! damaged in the ways that sled is known to be damaged.

mod crash;
mod golden;
mod model;
mod quarantine;
mod reading;
mod room;
mod staging;

use std::path::Path;

use bytes::Bytes;
use edgesync_core::{
    Rtype,
    change::{Change, ChangeSet, Generation},
    name::Name,
    position::{LogId, Offset, Position},
    record::RecordId,
    session::Filter,
};
use model::Model;

use super::*;

fn config(dir: &Path) -> StoreConfig {
    StoreConfig { data_dir: dir.to_owned(), cache_octets: 8 << 20, filter: Filter::All }
}

fn open(dir: &Path) -> Store {
    Store::open(config(dir)).unwrap()
}

fn name(text: &str) -> Name {
    Name::parse_origin(text).unwrap()
}

/// RDATA of a TXT record.
fn txt(text: &str) -> Bytes {
    let mut rdata = vec![u8::try_from(text.len()).unwrap()];
    rdata.extend_from_slice(text.as_bytes());
    rdata.into()
}

fn create(owner: &Name, text: &str) -> Change {
    Change::RecordCreate { owner: owner.clone(), rtype: Rtype::TXT, ttl: 60, rdata: txt(text) }
}

fn edit(id: u64, owner: &Name, text: &str) -> Change {
    let (rtype, rdata) = (Rtype::TXT, txt(text));
    Change::RecordEdit { id: RecordId(id), owner: owner.clone(), rtype, ttl: 30, rdata }
}

fn delete(id: u64, owner: &Name) -> Change {
    Change::RecordDelete { id: RecordId(id), owner: owner.clone(), rtype: Rtype::TXT }
}

/// A log that is written set by set.
struct Log {
    position: Position,
    sets: Vec<(ChangeSet, Position)>,
}

impl Log {
    fn new() -> Self {
        Self { position: Position::genesis(LogId([9; 16])), sets: Vec::new() }
    }

    /// The offset that the next change gets.
    fn next(&self) -> u64 {
        self.position.offset.next().0
    }

    /// Adds a set; gives back its first offset.
    fn add(&mut self, zone: &Name, generation: u64, changes: Vec<Change>) -> u64 {
        let (first, generation) = (self.position.offset.next(), Generation(generation));
        let set =
            ChangeSet { zone: zone.clone(), generation, first, changes, override_guard: false };
        self.position = self.position.after(set.last(), &[]);
        self.sets.push((set, self.position));
        first.0
    }

    /// A log that has each kind of change, and large sets of both kinds.
    fn of_everything() -> Self {
        let mut log = Self::new();
        let (small, large) = (name("small.example"), name("large.example"));
        let owner = |n: u64, zone: &Name| Name::parse(&format!("host-{n}"), zone).unwrap();
        let s = log.next();
        let hosts = (1..20).map(|n| create(&owner(n, &small), "one"));
        log.add(&small, s, [Change::ZoneCreate].into_iter().chain(hosts).collect());
        log.add(
            &small,
            s,
            vec![edit(s + 1, &owner(1, &small), "two"), delete(s + 2, &owner(2, &small))],
        );
        // Out of sight: a new zone of 900 records, some edited and deleted in the same set.
        let l = log.next();
        let mut changes = vec![Change::ZoneCreate];
        changes.extend((1..900).map(|n| create(&owner(n, &large), "one")));
        changes.extend((1..60).map(|n| edit(l + n, &owner(n, &large), "two")));
        changes.extend((60..90).map(|n| delete(l + n, &owner(n, &large))));
        log.add(&large, l, changes);
        // In sight: staged.
        let edits = (90..800).map(|n| edit(l + n, &owner(n, &large), "three"));
        let deletes = (800..850).map(|n| delete(l + n, &owner(n, &large)));
        log.add(&large, l, edits.chain(deletes).collect());
        log.add(&small, s, vec![edit(s + 3, &owner(3, &small), "three")]);
        // A hidden generation, filled by several sets, edited largely, and published.
        let h = log.add(&large, log.next(), vec![Change::GenerationOpen]);
        let a = log.add(&large, h, (0..700).map(|n| create(&owner(n, &large), "new")).collect());
        log.add(&large, h, (0..650).map(|n| edit(a + n, &owner(n, &large), "newer")).collect());
        log.add(&large, l, vec![edit(l + 1, &owner(1, &large), "meanwhile")]);
        let more = (0..600).map(|n| create(&owner(n, &large), "more")).chain([Change::ZonePublish]);
        log.add(&large, h, more.collect());
        // One that is given up, and a zone that goes.
        let d = log.add(&small, log.next(), vec![Change::GenerationOpen]);
        log.add(&small, d, (0..5).map(|n| create(&owner(n, &small), "never")).collect());
        log.add(&small, d, vec![Change::GenerationDrop]);
        log.add(&small, s, vec![edit(s + 4, &owner(4, &small), "four")]);
        log.add(&small, s, vec![Change::ZoneDelete]);
        log
    }
}

/// What the store has is the fold of the log up to its position: nothing more, nothing less.
#[track_caller]
fn assert_is_fold(store: &Store, log: &Log) {
    let reader = store.reader();
    let offset = reader.position().map_or(Offset::ZERO, |position| position.offset);
    let model = Model::of(log, offset);
    assert_eq!(model.position(log), reader.position());
    assert_eq!(model.read(&reader), model.zones, "at offset {offset}");
    let verified = reader.verify().unwrap();
    assert_eq!(verified.mismatches, [], "at offset {offset}");
    assert_eq!(verified.records, reader.totals().records);
}

/// After all that is due at leisure, no record is left that no zone names.
#[track_caller]
fn assert_nothing_left_over(store: &mut Store) {
    store.settle().unwrap();
    while store.purge().unwrap() {}
    let count = |prefix: u8| store.engine.db().scan_prefix([prefix]).count() as u64;
    let view = store.gate.read();
    let states = view.zones.values().flat_map(|zone| [zone.states.visible, zone.states.hidden]);
    let named: u64 = states.flatten().map(|state| state.records).sum();
    assert_eq!(count(layout::RECORD), named);
    assert_eq!((count(layout::STAGED), count(layout::GARBAGE)), (0, 0));
    for mark in [layout::FOLDING_KEY, layout::WRITING_KEY] {
        assert!(!store.engine.db().contains_key(mark).unwrap());
    }
}
