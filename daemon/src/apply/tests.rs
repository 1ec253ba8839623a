//! The apply thread: durable before it is said, halted before what does not fit, silent after a
//! failure.

mod damage;
mod strikes;
mod taken_away;

use std::{fs, path::Path};

use edgesync_core::{
    Rtype,
    change::{Change, Generation},
    name::Name,
    position::LogId,
    record::RecordId,
    session::Filter,
};

use super::*;
use crate::store::{Reader, StoreConfig};

fn open(dir: &Path) -> Store {
    let data_dir = dir.to_owned();
    Store::open(StoreConfig { data_dir, cache_octets: 4 << 20, filter: Filter::All }).unwrap()
}

fn pauses(dir: &Path) -> PauseConfig {
    PauseConfig { freeze_file: dir.join("freeze"), data_dir: dir.to_owned(), min_free: 0 }
}

fn zone() -> Name {
    Name::parse_origin("a.example").unwrap()
}

/// Begins to apply to the store in a directory.
fn begin(dir: &Path) -> (Applying, Reader) {
    let store = open(dir);
    let reader = store.reader();
    (start(store, pauses(dir)).unwrap(), reader)
}

/// Change sets that follow each other.
struct Log(Position);

impl Log {
    fn new() -> Self {
        Self(Position::genesis(LogId([1; 16])))
    }

    fn next(&mut self, changes: Vec<Change>) -> Work {
        let (prev, first) = (self.0.offset, self.0.offset.next());
        let set = ChangeSet {
            zone: zone(),
            generation: Generation(1),
            first,
            changes,
            override_guard: false,
        };
        self.0 = self.0.after(set.last(), &[]);
        let received = Instant::now();
        let zone = Some(set.zone.clone());
        Work::Set(Arrived { set: Ok(set), zone, prev, first, position: self.0, received })
    }

    fn create(&mut self) -> Work {
        let rdata = vec![192, 0, 2, 1].into();
        self.next(vec![Change::RecordCreate { owner: zone(), rtype: Rtype::A, ttl: 1, rdata }])
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}

#[test]
fn what_is_said_to_be_durable_is_in_the_image_of_a_killed_process() {
    let dir = tempfile::tempdir().unwrap();
    let live = dir.path().join("live");
    let mut applying = start(open(&live), pauses(&live)).unwrap();
    let mut log = Log::new();
    applying.works.send(log.next(vec![Change::ZoneCreate])).unwrap();
    let mut done = 0;
    for number in 0..20 {
        for _ in 0..number {
            applying.works.send(log.create()).unwrap();
        }
        let position = loop {
            match applying.reports.blocking_recv().unwrap() {
                Report::Durable { position, .. } => break position,
                Report::Done(works) => done += works,
                other => panic!("{other:?}"),
            }
        };
        let image = dir.path().join(format!("image-{number}"));
        copy(&live, &image);
        let killed = open(&image);
        assert!(killed.durable().unwrap().offset >= position.offset);
        applying.works.send(log.create()).unwrap();
    }
    drop(applying.works);
    let mut last = None;
    while let Some(report) = applying.reports.blocking_recv() {
        match report {
            Report::Durable { position, .. } => last = Some(position),
            Report::Done(works) => done += works,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(last, Some(log.0), "the end comes after all that was waiting");
    assert_eq!(done as u64, log.0.offset.0, "each work is told of once");
    applying.thread.join().unwrap();
}

/// The next report that is not about works.
fn next(applying: &mut Applying) -> Report {
    loop {
        match applying.reports.blocking_recv().unwrap() {
            Report::Done(_) => {}
            report => return report,
        }
    }
}

fn send(applying: &Applying, works: impl IntoIterator<Item = Work>) {
    works.into_iter().for_each(|work| applying.works.send(work).unwrap());
}

#[test]
fn nothing_behind_a_set_that_does_not_fit_is_applied_until_a_person_has_looked() {
    for skips in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let (mut applying, reader) = begin(dir.path());
        let mut log = Log::new();
        send(&applying, [log.next(vec![Change::ZoneCreate]), log.create()]);
        let good = log.0;
        let (id, owner, rtype) = (RecordId(77), zone(), Rtype::A);
        let poison = log.next(vec![Change::RecordDelete { id, owner, rtype }]);
        let bad = log.0;
        send(&applying, [poison, log.create(), Work::Pass(log.0)]);
        let halt = loop {
            match next(&mut applying) {
                Report::Durable { position, .. } => assert!(position.offset <= good.offset),
                Report::Halted(halt) => break halt,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!((halt.first, halt.last, halt.held), (bad.offset, bad.offset, false));
        assert!(halt.reason.contains("77"), "{}", halt.reason);
        assert!(!dir.path().join("store.attempt").exists(), "it ends no process");
        assert_eq!(reader.position(), Some(good), "what came before it is there");
        let mut after = Log(if skips { bad } else { good });
        send(&applying, [if skips { Work::Skip } else { Work::Resume }, after.create()]);
        if skips {
            assert!(
                matches!(next(&mut applying), Report::Durable { position, .. } if position == bad)
            );
            // What was skipped is missing in its zone, which is to be mended (rule 23).
            assert!(matches!(next(&mut applying), Report::Skipped { zone: of } if of == zone()));
        }
        assert!(matches!(next(&mut applying), Report::Resumed));
        assert!(matches!(next(&mut applying), Report::Durable { .. }));
        assert_eq!(reader.position(), Some(after.0));
    }
}

#[test]
fn what_takes_too_much_away_is_held_until_it_is_confirmed() {
    let dir = tempfile::tempdir().unwrap();
    let (mut applying, reader) = begin(dir.path());
    let mut log = Log::new();
    let rdata = || vec![192, 0, 2, 1].into();
    let create =
        |_| Change::RecordCreate { owner: zone(), rtype: Rtype::A, ttl: 1, rdata: rdata() };
    let changes = std::iter::once(Change::ZoneCreate).chain((0..20).map(create));
    send(&applying, [log.next(changes.collect())]);
    assert!(matches!(next(&mut applying), Report::Durable { .. }));
    drop((applying.works, reader));
    applying.thread.join().unwrap();
    // Counted is from what was there when a window began: another process, another window.
    let (mut applying, reader) = begin(dir.path());
    let delete = |id| Change::RecordDelete { id: RecordId(id), owner: zone(), rtype: Rtype::A };
    // Six of twenty may go, one after the other; the seventh is too much.
    for id in 2..8 {
        send(&applying, [log.next(vec![delete(id)])]);
        assert!(matches!(next(&mut applying), Report::Durable { .. }));
    }
    let seventh = Log(log.0).next(vec![delete(8)]);
    send(&applying, [log.next(vec![delete(8)])]);
    let Report::Halted(halt) = next(&mut applying) else { panic!() };
    assert!(halt.held && halt.reason.contains("7 of 20"), "{halt:?}");
    assert!(!dir.path().join("store.attempt").exists(), "it ends no process");
    assert_eq!(reader.totals().records, 14, "what was there is served");
    send(&applying, [Work::Resume, seventh]);
    assert!(matches!(next(&mut applying), Report::Resumed));
    assert!(matches!(next(&mut applying), Report::Durable { .. }));
    assert_eq!(reader.totals().records, 13);
    // What a person has allowed at the control plane passes.
    let Work::Set(mut arrived) = log.next(vec![Change::ZoneDelete]) else { panic!() };
    arrived.set.as_mut().unwrap().override_guard = true;
    send(&applying, [Work::Set(arrived)]);
    assert!(matches!(next(&mut applying), Report::Durable { .. }));
    assert_eq!(reader.totals().records, 0);
}

#[test]
fn a_frozen_edge_waits_with_what_comes_and_ends_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let (mut applying, reader) = begin(dir.path());
    let mut log = Log::new();
    send(&applying, [log.next(vec![Change::ZoneCreate])]);
    assert!(matches!(next(&mut applying), Report::Durable { .. }));
    let there = log.0;
    fs::write(dir.path().join("freeze"), "").unwrap();
    std::thread::sleep(crate::limits::LOOK_PERIOD * 2);
    send(&applying, [log.create()]);
    let Report::Paused(Some(why)) = next(&mut applying) else { panic!() };
    assert!(why.is_frozen && why.why.contains("freeze"), "{why:?}");
    std::thread::sleep(crate::limits::LOOK_PERIOD * 2);
    assert_eq!(reader.position(), Some(there));
    fs::remove_file(dir.path().join("freeze")).unwrap();
    assert!(matches!(next(&mut applying), Report::Paused(None)));
    assert!(matches!(next(&mut applying), Report::Durable { .. }));
    assert_eq!(reader.position(), Some(log.0));
    fs::write(dir.path().join("freeze"), "").unwrap();
    std::thread::sleep(crate::limits::LOOK_PERIOD * 2);
    send(&applying, [log.create()]);
    applying.ending.store(true, std::sync::atomic::Ordering::Relaxed);
    drop(applying.works);
    applying.thread.join().unwrap();
}

#[test]
fn a_set_that_has_ended_three_processes_is_not_tried_a_fourth_time() {
    let dir = tempfile::tempdir().unwrap();
    for _ in 0..crate::limits::STRIKES {
        Attempt::read(dir.path()).begin(Offset::ZERO).unwrap();
    }
    let mut applying = start(open(dir.path()), pauses(dir.path())).unwrap();
    let mut log = Log::new();
    send(&applying, [log.next(vec![Change::ZoneCreate])]);
    let Report::Halted(halt) = next(&mut applying) else { panic!() };
    assert!(halt.reason.contains("3 times") && halt.reason.contains("edge resume"), "{halt:?}");
    send(&applying, [Work::Resume, Log::new().next(vec![Change::ZoneCreate])]);
    assert!(matches!(next(&mut applying), Report::Resumed));
    assert!(matches!(next(&mut applying), Report::Durable { .. }));
    drop(applying.works);
    applying.thread.join().unwrap();
    assert!(!Attempt::read(dir.path()).is_out(Offset::ZERO), "an end in order clears it");
}

#[test]
fn a_failed_store_is_served_on_and_says_nothing_is_durable() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    store.fail_after(2);
    let reader = store.reader();
    let mut applying = start(store, pauses(dir.path())).unwrap();
    let mut log = Log::new();
    let mut durable = None;
    let mut failed = false;
    applying.works.send(log.next(vec![Change::ZoneCreate])).unwrap();
    for _ in 0..6 {
        match applying.reports.blocking_recv().unwrap() {
            Report::Durable { position, .. } => {
                assert!(!failed);
                durable = Some(position);
            }
            Report::Failed { .. } => failed = true,
            Report::Done(_) => {}
            other => panic!("{other:?}"),
        }
        applying.works.send(log.create()).unwrap();
    }
    assert!(failed);
    assert_eq!(reader.position(), durable);
    assert_eq!(reader.verify().unwrap().mismatches, []);
}

#[test]
fn a_snapshot_of_before_what_is_here_is_taken_of_another_history_alone() {
    let dir = tempfile::tempdir().unwrap();
    let (mut applying, reader) = begin(dir.path());
    let mut log = Log::new();
    send(&applying, [log.next(vec![Change::ZoneCreate])]);
    assert!(matches!(next(&mut applying), Report::Durable { .. }));
    let (before, after) = (log.0, log.0.after(Offset(6), &[]));
    // In hand when Hello was said: the control plane has chosen a snapshot without it.
    send(&applying, [Work::Pass(after)]);
    assert!(matches!(next(&mut applying), Report::Durable { .. }));
    let (id, filter) = (SnapshotId([7; 16]), Filter::All.hash());
    let (zones, records, octets, chunks) = (0, 0, 0, 0);
    let stage = |may_be_older| {
        let (position, scope) = (before, Scope::Store);
        let manifest = Manifest { id, position, scope, filter, zones, records, octets, chunks };
        Work::Stage { manifest, filter: Filter::All, may_be_older }
    };
    send(&applying, [stage(false), Work::Install(id)]);
    let Report::Rejected { reason } = next(&mut applying) else { panic!() };
    assert_eq!(reason, "it is of offset 1, and the store is at 6");
    assert_eq!(reader.position(), Some(after));
    send(&applying, [Work::Restart, stage(true), Work::Install(id)]);
    while !matches!(next(&mut applying), Report::Installed { position, .. } if position == before) {
    }
    assert_eq!(reader.position(), Some(before));
}

/// The session has begun again, and sends what follows what is durable.
fn begins_again(applying: &mut Applying, durable: Position, works: impl IntoIterator<Item = Work>) {
    let Report::Reopened { position, .. } = next(applying) else { panic!() };
    assert_eq!(position, Some(durable));
    send(applying, std::iter::once(Work::Restart).chain(works));
}

#[test]
fn a_set_that_does_not_follow_is_not_applied_and_all_comes_again() {
    let dir = tempfile::tempdir().unwrap();
    let (mut applying, reader) = begin(dir.path());
    let mut log = Log::new();
    send(&applying, [log.next(vec![Change::ZoneCreate])]);
    assert!(matches!(next(&mut applying), Report::Durable { .. }));
    let good = log.0;
    drop(log.create());
    send(&applying, [log.create(), log.create()]);
    let mut again = Log(good);
    begins_again(&mut applying, good, [again.create()]);
    assert!(matches!(next(&mut applying), Report::Durable { .. }));
    assert_eq!(reader.position(), Some(again.0), "nothing of what did not follow is there");
}

#[test]
fn a_person_who_comes_too_late_has_what_comes_tried_and_a_halt_outlives_what_else_goes_wrong() {
    let dir = tempfile::tempdir().unwrap();
    let (mut applying, reader) = begin(dir.path());
    for word in [Work::Resume, Work::Skip] {
        send(&applying, [word]);
        assert!(matches!(next(&mut applying), Report::Resumed));
    }
    let mut log = Log::new();
    send(&applying, [log.next(vec![Change::ZoneCreate])]);
    assert!(matches!(next(&mut applying), Report::Durable { .. }));
    let good = log.0;
    let (id, owner, rtype) = (RecordId(77), zone(), Rtype::A);
    send(&applying, [log.next(vec![Change::RecordDelete { id, owner, rtype }])]);
    assert!(matches!(next(&mut applying), Report::Halted(_)));
    // A repair stood behind it in the line, and has no place any more.
    send(&applying, [Work::Install(SnapshotId([7; 16]))]);
    assert!(matches!(next(&mut applying), Report::Rejected { .. }));
    send(&applying, [Work::Restart, Log(good).create(), Work::Pass(good)]);
    let mut done = 0;
    while done < 3 {
        let Report::Done(works) = applying.reports.blocking_recv().unwrap() else { panic!() };
        done += works;
    }
    assert_eq!(reader.position(), Some(good), "it is still halted");
    send(&applying, [Work::Resume, Log(good).create()]);
    assert!(matches!(next(&mut applying), Report::Resumed));
    assert!(matches!(next(&mut applying), Report::Durable { .. }));
    assert_eq!(reader.position(), Some(good.after(good.offset.next(), &[])));
}

#[test]
fn a_store_is_open_again_though_what_comes_never_rests() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    store.full_after(1);
    let mut applying = start(store, pauses(dir.path())).unwrap();
    let mut log = Log::new();
    send(&applying, [log.next(vec![Change::ZoneCreate])]);
    assert!(matches!(next(&mut applying), Report::Durable { .. }));
    let good = log.0;
    send(&applying, [log.create()]);
    assert!(matches!(next(&mut applying), Report::Paused(Some(_))));
    let works = applying.works.clone();
    let (stop, stopped) = std::sync::mpsc::channel::<()>();
    let sends = std::thread::spawn(move || {
        let wait = Duration::from_millis(10);
        while stopped.recv_timeout(wait) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
            works.send(log.create()).unwrap();
        }
    });
    let begin = Instant::now();
    assert!(matches!(next(&mut applying), Report::Paused(None)));
    assert!(begin.elapsed() < Duration::from_secs(5));
    drop(stop);
    sends.join().unwrap();
    // None of what was in line is applied behind a gap.
    let mut again = Log(good);
    begins_again(&mut applying, good, [again.create()]);
    assert!(matches!(next(&mut applying), Report::Durable { position, .. } if position == again.0));
}
