//! A store that is stopped at any write, or killed, is the fold of a prefix of the log, and goes on
//! from there (invariants 4, 5, 7; rule 17).

use std::{fs, path::Path};

use super::*;

/// Applies what the store has not yet, until the end or a planted stop. True at the end.
fn go_on(store: &mut Store, log: &Log) -> bool {
    let applied = store.reader().position().map_or(Offset::ZERO, |position| position.offset);
    let due = log.sets.iter().filter(|(set, _)| set.first > applied);
    for (set, position) in due {
        match store.apply(set.clone(), *position) {
            Ok(()) => {}
            Err(ApplyError::Store(StoreError::Stopped)) => return false,
            Err(error) => panic!("{error}"),
        }
    }
    match store.sync() {
        Ok(durable) => assert_eq!(durable, Some(log.position)),
        Err(StoreError::Stopped) => return false,
        Err(error) => panic!("{error}"),
    }
    store.settle().is_ok()
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to)
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}

#[test]
fn a_store_stopped_at_any_write_is_a_fold_and_goes_on() {
    let log = Log::of_everything();
    let mut stops = 0;
    let mut folds = std::collections::BTreeSet::new();
    loop {
        let dir = tempfile::tempdir().unwrap();
        let mut store = open(dir.path());
        store.engine.writes_left.set(Some(stops));
        let done = go_on(&mut store, &log);
        store.engine.writes_left.set(None);
        assert_is_fold(&store, &log);
        let before = store.reader().position();
        drop(store);
        let mut store = open(dir.path());
        assert_eq!(store.distrusted(), None);
        assert_eq!(store.durable(), before, "what readers saw is there after the restart");
        assert_is_fold(&store, &log);
        folds.insert(store.durable().map(|position| position.offset));
        assert!(go_on(&mut store, &log));
        assert_is_fold(&store, &log);
        assert_nothing_left_over(&mut store);
        if done {
            break;
        }
        stops += 1;
    }
    assert!(stops > 25 && folds.len() > 5, "{stops} stops, {folds:?}");
}

#[test]
fn a_store_stopped_at_any_write_of_opening_goes_on() {
    let log = Log::of_everything();
    for (stops, again) in [(6, 0), (6, 1), (11, 0), (11, 2), (14, 0), (14, 1), (14, 3)] {
        let dir = tempfile::tempdir().unwrap();
        let mut store = open(dir.path());
        store.engine.writes_left.set(Some(stops));
        assert!(!go_on(&mut store, &log));
        drop(store);
        // What opening does first, stopped again.
        let cache = config(dir.path()).cache_octets;
        let engine = Engine::open(&dir.path().join("store"), cache).unwrap();
        engine.writes_left.set(Some(again));
        let _ = unseen::take_back(&engine).and_then(|()| pending::recover(&engine));
        drop(engine);
        let mut store = open(dir.path());
        assert_is_fold(&store, &log);
        assert!(go_on(&mut store, &log));
        assert_is_fold(&store, &log);
        assert_nothing_left_over(&mut store);
    }
}

#[test]
fn the_image_of_a_killed_process_has_all_that_was_durable() {
    let log = Log::of_everything();
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(&dir.path().join("live"));
    for (number, (set, position)) in log.sets.iter().enumerate() {
        store.apply(set.clone(), *position).unwrap();
        if number % 2 == 0 {
            store.sync().unwrap();
        }
        let image = dir.path().join(format!("image-{number}"));
        copy(&dir.path().join("live"), &image);
        let killed = open(&image);
        assert_eq!(killed.distrusted(), None);
        assert!(killed.durable().map(|p| p.offset) >= store.durable().map(|p| p.offset));
        assert_is_fold(&killed, &log);
    }
}

#[test]
fn what_is_not_committed_is_not_seen_and_not_there_after_a_restart() {
    let log = Log::of_everything();
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(dir.path());
    let (set, position) = log.sets[0].clone();
    store.apply(set, position).unwrap();
    assert_eq!(store.reader().position(), None);
    drop(store);
    assert_eq!(open(dir.path()).durable(), None);
}

#[test]
fn progress_is_durable_and_the_epoch_grows_with_each_opening() {
    let log = Log::of_everything();
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(dir.path());
    assert_eq!((store.epoch(), store.durable()), (1, None));
    let (set, position) = log.sets[0].clone();
    store.apply(set, position).unwrap();
    let on = position.after(Offset(500), b"sets of other zones");
    store.pass(on).unwrap();
    assert_eq!(store.sync().unwrap(), Some(on));
    drop(store);
    let store = open(dir.path());
    assert_eq!((store.epoch(), store.durable()), (2, Some(on)));
    assert_eq!(store.reader().totals(), Totals { zones: 1, records: 19 });
}

#[test]
fn a_set_that_does_not_fit_leaves_what_came_before_it_in_its_batch() {
    let mut log = Log::new();
    let zone = name("a.example");
    let first = log.add(&zone, 1, vec![Change::ZoneCreate, create(&zone, "one")]);
    log.add(&zone, first, vec![edit(2, &zone, "two")]);
    let good = log.position;
    log.add(&zone, first, vec![create(&zone, "never seen"), delete(2, &zone), delete(99, &zone)]);
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(dir.path());
    let refused =
        log.sets.iter().map(|(set, at)| store.apply(set.clone(), *at)).collect::<Vec<_>>();
    assert!(
        matches!(refused[..], [Ok(()), Ok(()), Err(ApplyError::Diverged { .. })]),
        "{refused:?}"
    );
    assert_eq!(store.sync().unwrap(), Some(good));
    assert_is_fold(&store, &log);
}

#[test]
fn a_large_set_that_does_not_fit_leaves_no_trace() {
    let mut log = Log::new();
    let zone = name("a.example");
    let first = log.add(&zone, 1, vec![Change::ZoneCreate, create(&zone, "one")]);
    let good = log.position;
    let creates = || (0..600).map(|_| create(&zone, "never seen"));
    // In sight, and out of sight in a generation that is not there.
    let bad = [creates().chain([delete(1, &zone)]).collect(), creates().collect::<Vec<_>>()];
    for (changes, generation) in bad.into_iter().zip([first, 77]) {
        let dir = tempfile::tempdir().unwrap();
        let mut store = open(dir.path());
        let (set, position) = log.sets[0].clone();
        store.apply(set, position).unwrap();
        let (first, generation) = (Offset(log.next()), Generation(generation));
        let set =
            ChangeSet { zone: zone.clone(), generation, first, changes, override_guard: false };
        let position = good.after(set.last(), b"");
        let refused = store.apply(set, position).unwrap_err();
        assert!(matches!(refused, ApplyError::Diverged { .. }), "{refused}");
        assert_eq!(store.sync().unwrap(), Some(good));
        assert_is_fold(&store, &log);
        assert_nothing_left_over(&mut store);
    }
}

#[test]
fn what_a_large_set_left_behind_is_not_in_the_set_that_comes_in_its_place() {
    // A log restored to where the store is may go on differently.
    let zone = name("a.example");
    let owner = |n: u64| Name::parse(&format!("host-{n}"), &zone).unwrap();
    for begun in [true, false] {
        let mut log = Log::new();
        let kept = log.add(&zone, 1, vec![Change::ZoneCreate, create(&zone, "kept")]);
        if begun {
            log.add(&zone, 3, vec![Change::GenerationOpen]);
            log.add(&zone, 3, vec![create(&zone, "hidden and kept")]);
        }
        let (place, sets) = (log.position, log.sets.len());
        let creates = (0..900).map(|n| create(&owner(n), "never seen"));
        let open_it = (!begun).then_some(Change::GenerationOpen);
        log.add(&zone, 3, open_it.into_iter().chain(creates).collect());
        let dir = tempfile::tempdir().unwrap();
        let mut store = open(dir.path());
        store.engine.writes_left.set(Some(u32::try_from(sets).unwrap().min(1) + 2));
        assert!(!go_on(&mut store, &log));
        drop(store);
        let mut store = open(dir.path());
        assert_eq!(store.durable(), Some(place));
        let mut other = Log { position: place, sets: log.sets.into_iter().take(sets).collect() };
        if !begun {
            other.add(&zone, 3, vec![Change::GenerationOpen]);
        }
        let creates = (5_000..5_900).map(|n| create(&owner(n), "the other history"));
        other.add(&zone, 3, creates.chain([Change::ZonePublish]).collect());
        assert_eq!(kept, 1);
        assert!(go_on(&mut store, &other));
        assert_is_fold(&store, &other);
        assert_nothing_left_over(&mut store);
    }
}

#[test]
fn a_record_that_is_too_large_refuses_its_set_alone() {
    let zone = name("a.example");
    let mut log = Log::new();
    log.add(&zone, 1, vec![Change::ZoneCreate]);
    let rdata = Bytes::from(vec![0; crate::limits::VALUE_OCTETS]);
    let big = Change::RecordCreate { owner: zone.clone(), rtype: Rtype::TXT, ttl: 1, rdata };
    log.add(&zone, 1, vec![big]);
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(dir.path());
    let (set, position) = log.sets[0].clone();
    store.apply(set, position).unwrap();
    let (set, after) = log.sets[1].clone();
    assert!(matches!(store.apply(set, after), Err(ApplyError::TooLarge(_))));
    assert_eq!(store.sync().unwrap(), Some(position));
}

#[test]
fn no_batch_has_more_changes_or_octets_than_sled_takes_without_much_memory() {
    // sled 0.34.7 took 0.4 GB for batches of 512 records, and 2.4 GB for batches of 16,384.
    const CHANGES: usize = 512;
    const OCTETS: usize = 1 << 20;
    let zone = name("a.example");
    let owner = |n: usize| Name::parse(&format!("host-{n}"), &zone).unwrap();
    let id = |n: usize| u64::try_from(n).unwrap() + 2;
    let large = |n| Change::RecordCreate {
        owner: owner(n),
        rtype: Rtype::TXT,
        ttl: 1,
        rdata: vec![0; 60_000].into(),
    };
    let begin = |changes: Vec<Change>| [Change::ZoneCreate].into_iter().chain(changes).collect();
    let creates = || (0..4_000).map(|n| create(&owner(n), "one")).collect::<Vec<_>>();
    let edits = |text| (0..4_000).map(move |n| edit(id(n), &owner(n), text));
    let mut log = Log::new();
    // Out of sight, in sight, many small ones, and few that are large.
    log.add(&zone, 1, begin(creates()));
    log.add(&zone, 1, edits("two").collect());
    for change in edits("three").chain((5_000..5_060).map(large)) {
        log.add(&zone, 1, vec![change]);
    }
    log.add(&zone, 1, (6_000..6_060).map(large).collect());
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(dir.path());
    let mut batches = |sets: &[(ChangeSet, Position)]| {
        store.engine.writes_left.set(Some(100_000));
        sets.iter().for_each(|(set, position)| store.apply(set.clone(), *position).unwrap());
        store.sync().unwrap();
        store.settle().unwrap();
        100_000 - usize::try_from(store.engine.writes_left.get().unwrap()).unwrap()
    };
    assert!(batches(&log.sets[..1]) >= 4_000 / CHANGES);
    assert!(batches(&log.sets[1..2]) >= 2 * 4_000 / CHANGES, "staged, and folded");
    assert!(batches(&log.sets[2..4_002]) >= 4_000 / CHANGES);
    assert!(batches(&log.sets[4_002..4_062]) >= 60 * 60_000 / OCTETS);
    assert!(batches(&log.sets[4_062..]) >= 2 * 60 * 60_000 / OCTETS);
}
