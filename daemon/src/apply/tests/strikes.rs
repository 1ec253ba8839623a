//! A set that kills is found among all that would have shared its sync, and no other is halted before.

use super::*;

/// Sets that a process begins with.
const SETS: u64 = 6;

/// Starts a process that has all sets in line before it takes the first, one of which kills it.
fn run(dir: &Path, dies_at: Offset) -> (Applying, Reader) {
    fs::write(dir.join("freeze"), "").unwrap();
    let store = open(dir);
    store.dies_at(dies_at);
    let (at, reader) = (store.durable().map_or(0, |durable| durable.offset.0), store.reader());
    let applying = start(store, pauses(dir)).unwrap();
    let mut log = Log::new();
    for offset in 1..=SETS {
        let work = if offset == 1 { log.next(vec![Change::ZoneCreate]) } else { log.create() };
        if offset > at {
            send(&applying, [work]);
        }
    }
    fs::remove_file(dir.join("freeze")).unwrap();
    (applying, reader)
}

/// What the process ends with, beside what becomes durable.
fn end(applying: &mut Applying) -> Report {
    loop {
        match next(applying) {
            Report::Durable { .. } | Report::Paused(_) => {}
            report => return report,
        }
    }
}

#[test]
fn the_set_that_kills_is_halted_before_and_not_the_first_of_those_that_share_its_sync() {
    for killer in [1, 4, SETS] {
        let dir = tempfile::tempdir().unwrap();
        let mut deaths = 0;
        let halt = loop {
            let (mut applying, reader) = run(dir.path(), Offset(killer));
            let ended = end(&mut applying);
            drop(applying.works);
            applying.thread.join().unwrap();
            match ended {
                Report::Failed { .. } => deaths += 1,
                Report::Halted(halt) => {
                    let there = reader.position().map_or(0, |position| position.offset.0);
                    assert_eq!(there, killer - 1, "what came before it is served");
                    break halt;
                }
                other => panic!("{other:?}"),
            }
            assert!(deaths < 10, "it is tried for ever");
        };
        assert_eq!((halt.first, halt.held), (Offset(killer), false), "{}", halt.reason);
        // The one that died in a group has struck none of it alone.
        assert_eq!(deaths, if killer == 1 { 3 } else { 4 });
    }
}

#[test]
fn a_process_says_before_what_it_applies() {
    let dir = tempfile::tempdir().unwrap();
    let (mut applying, _) = begin(dir.path());
    let mut log = Log::new();
    send(&applying, [log.next(vec![Change::ZoneCreate]), log.create()]);
    while !matches!(next(&mut applying), Report::Durable { position, .. } if position == log.0) {}
    let said = fs::read_to_string(dir.path().join("store.attempt")).unwrap();
    assert!(said.contains("offset 0\nstrikes 1\n"), "{said}");
    drop(applying.works);
    applying.thread.join().unwrap();
    assert!(!dir.path().join("store.attempt").exists(), "an end in order clears it");
}
