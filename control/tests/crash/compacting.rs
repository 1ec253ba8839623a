//! F-33: a crash in the middle of a compaction, at any point of it. The floor is that of a step that was
//! made, no offset goes down, and the log behind the floor is whole.

use edgesync_control::{
    access::Access,
    log::{Action, Caller, Log, Write},
};
use edgesync_core::{
    Rtype,
    name::Name,
    position::{Offset, Position},
    rdata,
    stage::{Operation, RecordData, Serial},
};

use crate::{
    Random,
    disk::{Crashes, Disk, Op},
    open, runtime, seed,
};

/// Change sets: more than two steps of a compaction take.
const SETS: usize = 2_300;
/// Images of crashes.
const IMAGES: usize = 60;

fn write(action: Action) -> Write {
    let caller = Caller { principal: "x".to_owned(), peer: "x".to_owned(), method: "x" };
    let zone = Name::parse_origin("example.com").unwrap();
    Write::new(Access::unrestricted().trust(caller, zone).unwrap(), action)
}

fn data(owner: &str, rtype: Rtype, text: &str) -> RecordData {
    let zone = Name::parse_origin("example.com").unwrap();
    let rdata = rdata::parse(rtype, text, &zone).unwrap();
    RecordData { owner: Name::parse(owner, &zone).unwrap(), rtype, ttl: 60, rdata }
}

/// A log with many sets; its head.
async fn fill(log: &Log) -> Position {
    let soa = data("@", Rtype::SOA, "ns root 1 2 3 4 5");
    log.commit(write(Action::CreateZone(vec![soa]))).await.unwrap();
    let mut writes = tokio::task::JoinSet::new();
    for number in 1..SETS {
        let record = data(&format!("h-{number}"), Rtype::A, "192.0.2.1");
        let operations = vec![Operation::Create(record)];
        let (log, serial) = (log.clone(), Serial::AsWritten);
        writes.spawn(async move {
            log.commit(write(Action::Change { operations, serial })).await.unwrap();
        });
    }
    while writes.join_next().await.is_some() {}
    *log.head().borrow()
}

#[test]
fn a_crash_in_the_middle_of_a_compaction_leaves_the_floor_of_a_step_and_all_behind_it() {
    let (runtime, disk) = (runtime(), Disk::default());
    let log = open(&disk).unwrap();
    let head = runtime.block_on(fill(&log));
    let ends = ends_of(&log, Offset::ZERO);
    assert_eq!(ends.len(), SETS);
    let upto = ends[SETS - 100];
    let began = disk.now();
    let done = runtime.block_on(log.compact(upto)).unwrap();
    assert_eq!((done.floor, done.sets), (upto, SETS as u64 - 99));
    let ops = disk.ops();
    let steps = ops[began..].iter().filter(|op| matches!(op, Op::Sync)).count();
    assert!(steps > 2, "it takes steps: {steps} syncs");
    let mut random = Random(seed());
    let mut points: Vec<_> =
        (0..IMAGES).map(|_| began + random.below(ops.len() - began + 1)).collect();
    points.sort_unstable();
    let mut crashes = Crashes::new(Vec::new(), &ops);
    let (mut floors, mut last) = (std::collections::BTreeSet::new(), Offset::ZERO);
    for point in points {
        let image = Disk::of(crashes.image(point, &mut random));
        let log = open(&image).expect("the log opens after a crash in a compaction");
        assert_eq!(*log.head().borrow(), head, "no offset goes down");
        let floor = log.floor();
        assert!(floor == Offset::ZERO || ends.contains(&floor) && floor <= upto, "{floor}");
        let kept = ends.partition_point(|end| *end <= floor);
        assert_eq!(ends_of(&log, floor), ends[kept..], "behind {floor} all is there");
        if floor > Offset::ZERO {
            assert!(
                log.view().unwrap().hash_at(floor).unwrap().is_some(),
                "the hash at the floor stays"
            );
            assert!(log.view().unwrap().entries(Offset::ZERO, 1).is_err(), "never a gap unsaid");
        }
        last = last.max(floor);
        floors.insert(floor);
        // It goes on where it was, and ends.
        assert_eq!(runtime.block_on(log.compact(upto)).unwrap().floor, upto);
        assert_eq!(ends_of(&log, upto), ends[SETS - 99..]);
        runtime.block_on(log.close());
    }
    println!("{IMAGES} crashes left {} floors, the highest {last}", floors.len());
    assert!(floors.len() > 1, "the crashes came where none matters");
    runtime.block_on(log.close());
}

/// Last offsets of the sets behind an offset.
fn ends_of(log: &Log, after: Offset) -> Vec<Offset> {
    let entries = log.view().unwrap().entries(after, usize::MAX).unwrap();
    entries.iter().map(|entry| entry.last).collect()
}
