//! The apply thread: durable before it is said, halted before what does not fit, silent after a
//! failure.

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
use crate::store::StoreConfig;

fn open(dir: &Path) -> Store {
    let data_dir = dir.to_owned();
    Store::open(StoreConfig { data_dir, cache_octets: 4 << 20, filter: Filter::All }).unwrap()
}

fn zone() -> Name {
    Name::parse_origin("a.example").unwrap()
}

/// Change sets that follow each other.
struct Log(Position);

impl Log {
    fn new() -> Self {
        Self(Position::genesis(LogId([1; 16])))
    }

    fn next(&mut self, changes: Vec<Change>) -> Work {
        let first = self.0.offset.next();
        let set = ChangeSet {
            zone: zone(),
            generation: Generation(1),
            first,
            changes,
            override_guard: false,
        };
        self.0 = self.0.after(set.last(), &[]);
        Work::Set(Arrived { set: Ok(set), first, position: self.0, received: Instant::now() })
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
    let mut applying = start(open(&live)).unwrap();
    let mut log = Log::new();
    applying.works.send(log.next(vec![Change::ZoneCreate])).unwrap();
    let mut done = 0;
    for number in 0..20 {
        for _ in 0..number {
            applying.works.send(log.create()).unwrap();
        }
        let Some(Report::Durable { position, done: works, .. }) = applying.reports.blocking_recv()
        else {
            panic!("it is not durable");
        };
        done += works;
        let image = dir.path().join(format!("image-{number}"));
        copy(&live, &image);
        let killed = open(&image);
        assert!(killed.durable().unwrap().offset >= position.offset);
        applying.works.send(log.create()).unwrap();
    }
    drop(applying.works);
    let mut last = None;
    while let Some(Report::Durable { position, done: works, .. }) = applying.reports.blocking_recv()
    {
        done += works;
        last = Some(position);
    }
    assert_eq!(last, Some(log.0), "the end comes after all that was waiting");
    assert_eq!(done as u64, log.0.offset.0, "each work is told of once");
    applying.thread.join().unwrap();
}

#[test]
fn nothing_behind_a_set_that_does_not_fit_is_applied_until_a_rebuild() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let reader = store.reader();
    let mut applying = start(store).unwrap();
    let mut log = Log::new();
    let mut works = vec![log.next(vec![Change::ZoneCreate]), log.create()];
    let good = log.0;
    works.push(log.next(vec![Change::RecordDelete {
        id: RecordId(77),
        owner: zone(),
        rtype: Rtype::A,
    }]));
    let bad = log.0.offset;
    works.extend([log.create(), Work::Pass(log.0)]);
    works.into_iter().for_each(|work| applying.works.send(work).unwrap());
    let mut durable = 0;
    let first = loop {
        match applying.reports.blocking_recv().unwrap() {
            Report::Durable { position, done, .. } => {
                assert!(position.offset <= good.offset);
                durable += done;
            }
            Report::Poison { first, last, reason } => {
                assert_eq!(last, bad);
                assert!(reason.contains("77"), "{reason}");
                break first;
            }
            other => panic!("{other:?}"),
        }
    };
    assert_eq!((first, durable), (bad, 2), "what came before it is durable first");
    let mut dropped = 0;
    while dropped < 2 {
        match applying.reports.blocking_recv().unwrap() {
            Report::Dropped { done } => dropped += done,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(reader.position(), Some(good));
    // A rebuild begins anew, and applies again.
    applying.works.send(Work::Rebuild { reason: "another log".to_owned() }).unwrap();
    assert!(matches!(applying.reports.blocking_recv(), Some(Report::Rebuilt)));
    assert_eq!(reader.position(), None);
    let mut log = Log::new();
    applying.works.send(log.next(vec![Change::ZoneCreate])).unwrap();
    assert!(matches!(applying.reports.blocking_recv(), Some(Report::Durable { .. })));
    assert_eq!(reader.position(), Some(log.0));
}

#[test]
fn a_failed_store_is_served_on_and_says_nothing_is_durable() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    store.fail_after(2);
    let reader = store.reader();
    let mut applying = start(store).unwrap();
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
            Report::Dropped { .. } => assert!(failed),
            other => panic!("{other:?}"),
        }
        applying.works.send(log.create()).unwrap();
    }
    assert!(failed);
    assert_eq!(reader.position(), durable);
    assert_eq!(reader.verify().unwrap().mismatches, []);
}
