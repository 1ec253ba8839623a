//! Reading: whole change sets or nothing while the store is written, canonical order, and what
//! verifying finds.

use std::{
    sync::atomic::{AtomicBool, AtomicU32, Ordering},
    thread,
};

use super::*;

/// Sets that give each of `records` records the number of the set as text, and the first offset.
fn counting(records: u64, sets: u64) -> (Log, Name) {
    let (mut log, zone) = (Log::new(), name("count.example"));
    let owner = |n: u64| Name::parse(&format!("host-{n}"), &zone).unwrap();
    let creates = (0..records).map(|n| create(&owner(n), "0"));
    log.add(&zone, 1, [Change::ZoneCreate].into_iter().chain(creates).collect());
    for number in 1..=sets {
        let text = number.to_string();
        // Every third set replaces the records instead of editing them.
        let edits = (0..records).map(|n| edit(2 + n, &owner(n), &text));
        log.add(&zone, 1, edits.collect());
    }
    (log, zone)
}

/// What an export has as RDATA: the one text, if all records have the same.
fn one_text(reader: &Reader, zone: &Name, records: usize) -> String {
    let export = reader.export(zone).unwrap().unwrap();
    let text: String = export.map(Result::unwrap).collect();
    assert_eq!(text.lines().count(), records);
    let mut texts: Vec<_> = text.lines().map(|line| line.rsplit('\t').next().unwrap()).collect();
    texts.dedup();
    assert_eq!(texts.len(), 1, "a part of a change set was seen");
    texts[0].to_owned()
}

#[test]
fn readers_see_whole_change_sets_while_the_store_is_written() {
    // Small sets, one batch of them at a time; and sets that are staged.
    for (records, sets) in [(40, 300), (700, 30)] {
        let (log, zone) = counting(records, sets);
        let dir = tempfile::tempdir().unwrap();
        let mut store = open(dir.path());
        let mut rest = log.sets.iter().cloned();
        let (set, position) = rest.next().unwrap();
        store.apply(set, position).unwrap();
        store.sync().unwrap();
        let (reader, done) = (store.reader(), AtomicBool::new(false));
        let seen = AtomicU32::new(0);
        thread::scope(|scope| {
            scope.spawn(|| {
                let mut last = String::new();
                while !done.load(Ordering::Relaxed) {
                    let text = one_text(&reader, &zone, usize::try_from(records).unwrap());
                    seen.fetch_add(u32::from(text != last), Ordering::Relaxed);
                    last = text;
                }
            });
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    assert_eq!(reader.verify().unwrap().mismatches, []);
                }
            });
            for (set, position) in rest {
                store.apply(set, position).unwrap();
                store.sync().unwrap();
            }
            done.store(true, Ordering::Relaxed);
        });
        assert!(seen.into_inner() > 2, "the readers read while the store was written");
        assert_is_fold(&store, &log);
    }
}

#[test]
fn a_long_read_comes_to_an_end_though_the_zone_never_rests() {
    let (log, zone) = counting(1_500, 1);
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(dir.path());
    for (set, position) in &log.sets {
        store.apply(set.clone(), *position).unwrap();
    }
    store.sync().unwrap();
    let (reader, done) = (store.reader(), AtomicBool::new(false));
    thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..20 {
                assert_eq!(reader.export(&zone).unwrap().unwrap().count(), 1);
            }
            done.store(true, Ordering::Relaxed);
        });
        let mut position = log.position;
        let owner = Name::parse("host-7", &zone).unwrap();
        while !done.load(Ordering::Relaxed) {
            let (first, changes) = (position.offset.next(), vec![edit(9, &owner, "again")]);
            let set = ChangeSet {
                zone: zone.clone(),
                generation: Generation(1),
                first,
                changes,
                override_guard: false,
            };
            position = position.after(first, b"");
            store.apply(set, position).unwrap();
            store.sync().unwrap();
        }
    });
}

#[test]
fn readers_see_what_was_before_a_batch_that_failed_half_way() {
    let log = Log::of_everything();
    for stop in 0..30 {
        let dir = tempfile::tempdir().unwrap();
        let mut store = open(dir.path());
        store.engine.writes_left.set(Some(stop));
        store.engine.torn.set(true);
        let applied = log.sets.iter().try_for_each(|(set, position)| {
            store.apply(set.clone(), *position)?;
            store.sync()?;
            Ok::<_, ApplyError>(())
        });
        assert!(matches!(applied, Err(ApplyError::Store(StoreError::Stopped))), "{applied:?}");
        assert_is_fold(&store, &log);
    }
}

#[test]
fn an_export_is_zone_file_text_in_canonical_order() {
    let (mut log, zone) = (Log::new(), name("example."));
    let a = |owner: &str, last: u8| Change::RecordCreate {
        owner: Name::parse(owner, &zone).unwrap(),
        rtype: Rtype::A,
        ttl: 300,
        rdata: Bytes::copy_from_slice(&[192, 0, 2, last]),
    };
    let www = Name::parse("www", &zone).unwrap();
    let opaque = Change::RecordCreate {
        owner: www.clone(),
        rtype: Rtype::from_int(65_280),
        ttl: 1,
        rdata: Bytes::from_static(&[0xab, 0xcd]),
    };
    let changes = vec![
        Change::ZoneCreate,
        a("z.a", 9),
        a("www", 20),
        opaque,
        create(&www, "text"),
        a("www", 3),
        a("@", 1),
        a("a", 7),
        a("*", 5),
    ];
    log.add(&zone, 1, changes);
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(dir.path());
    let (set, position) = log.sets[0].clone();
    store.apply(set, position).unwrap();
    store.commit().unwrap();
    let export = store.reader().export(&zone).unwrap().unwrap();
    assert_eq!(export.position(), Some(position));
    let text: String = export.map(Result::unwrap).collect();
    let wanted = "example.\t300\tIN\tA\t192.0.2.1\n\
        *.example.\t300\tIN\tA\t192.0.2.5\n\
        a.example.\t300\tIN\tA\t192.0.2.7\n\
        z.a.example.\t300\tIN\tA\t192.0.2.9\n\
        www.example.\t300\tIN\tA\t192.0.2.3\n\
        www.example.\t300\tIN\tA\t192.0.2.20\n\
        www.example.\t60\tIN\tTXT\t\"text\"\n\
        www.example.\t1\tIN\tTYPE65280\t\\# 2 abcd\n";
    assert_eq!(text, wanted);
    let found = store.reader().lookup(&www, Some(Rtype::A)).unwrap();
    let shown: Vec<_> = found.records.iter().map(|(_, record)| record.zone_file_line()).collect();
    assert_eq!(shown.len(), 2);
    assert!(shown[0].ends_with("192.0.2.3"));
    assert!(store.reader().export(&name("other.")).unwrap().is_none());
}

#[test]
fn an_owner_is_found_in_each_zone_that_it_is_in() {
    let (mut log, parent, child) = (Log::new(), name("example."), name("sub.example."));
    log.add(&parent, 1, vec![Change::ZoneCreate, create(&child, "delegation")]);
    log.add(&child, 3, vec![Change::ZoneCreate, create(&child, "apex")]);
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(dir.path());
    for (set, position) in &log.sets {
        store.apply(set.clone(), *position).unwrap();
    }
    store.commit().unwrap();
    let found = store.reader().lookup(&child, None).unwrap().records;
    let origins: Vec<_> = found.iter().map(|(origin, _)| origin.to_string()).collect();
    assert_eq!(origins, ["sub.example.", "example."]);
    let zones = store.reader().zones(None, 1);
    assert_eq!(zones[0].origin, parent);
    assert_eq!(store.reader().zones(Some(&parent), 5)[0].origin, child);
}

#[test]
fn verifying_finds_what_differs_and_names_the_zone() {
    let log = Log::of_everything();
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(dir.path());
    for (set, position) in log.sets.iter().take(5) {
        store.apply(set.clone(), *position).unwrap();
    }
    store.sync().unwrap();
    store.settle().unwrap();
    let good = store.reader().verify().unwrap();
    assert_eq!((good.zones, good.mismatches.len()), (2, 0));
    // One octet of one value, one record more, one less.
    let (key, value) = store.engine.db().scan_prefix([layout::RECORD]).next().unwrap().unwrap();
    let mut flipped = value.to_vec();
    *flipped.last_mut().unwrap() ^= 1;
    let mut another = key.to_vec();
    *another.last_mut().unwrap() ^= 0x80;
    type Plant<'a> = (&'a [u8], Option<&'a [u8]>);
    let plants: [Plant; 3] = [(&key, Some(&flipped)), (&another, Some(&value)), (&key, None)];
    for (planted, octets) in plants {
        let before = store.engine.db().get(planted).unwrap();
        match octets {
            Some(octets) => store.engine.db().insert(planted, octets).unwrap(),
            None => store.engine.db().remove(planted).unwrap(),
        };
        let bad = store.reader().verify().unwrap();
        assert_eq!(bad.mismatches.len(), 1);
        assert_eq!(bad.mismatches[0].origin, name("small.example"));
        match before {
            Some(before) => store.engine.db().insert(planted, before).unwrap(),
            None => store.engine.db().remove(planted).unwrap(),
        };
    }
    assert_eq!(store.reader().verify().unwrap().mismatches, []);
}
