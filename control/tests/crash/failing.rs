//! A disk that refuses a sync (row F-12). What the kernel could not write then it may have thrown away,
//! and says afterwards that all is well: so that sync is the last one, and nobody is told OK any more.

use edgesync_control::log::{Action, Log, Write, WriteError};

use crate::{
    Random,
    disk::{Crashes, Disk, Op},
    open, runtime, work,
};

/// The creation of a zone, a different one for each number.
fn write(number: usize) -> Write {
    let zone = format!("z{number}.example");
    let zone = edgesync_core::name::Name::parse_origin(&zone).unwrap();
    let records = work::zone_file(&zone, 1, 3, &mut Random(number as u64));
    work::write(zone, Action::CreateZone(records), number)
}

#[test]
fn a_sync_that_failed_is_told_to_all_and_not_tried_again() {
    for syncs in 0..4 {
        let disk = Disk::default();
        let answered = runtime().block_on(refused(&disk, syncs));
        let ops = disk.ops();
        let failed = ops.iter().position(|op| matches!(op, Op::FailedSync)).unwrap();
        let again = ops[failed + 1..].iter().any(|op| matches!(op, Op::Sync | Op::FailedSync));
        assert!(!again, "the disk was asked again after {syncs} syncs");
        // Whatever the disk has kept of what it refused, all that was answered is there.
        for seed in 0..12 {
            let image = Crashes::new(Vec::new(), &ops).image(ops.len(), &mut Random(seed));
            let log = open(&Disk::of(image)).expect("the log opens after the failure");
            let zones = log.view().unwrap().zones(None, usize::MAX).unwrap().len();
            assert!((answered..=answered + 1).contains(&zones), "{zones} of {answered}");
        }
    }
}

/// Writes until the disk refuses; the number of writes that were answered OK.
async fn refused(disk: &Disk, syncs: usize) -> usize {
    let log: Log = open(disk).unwrap();
    log.commit(write(0)).await.unwrap();
    disk.fail_a_sync_after(syncs);
    let mut answered = 1;
    let error = loop {
        match log.commit(write(answered)).await {
            Ok(_) => answered += 1,
            Err(error) => break error,
        }
        assert!(answered < 20, "nobody was told that the disk refuses");
    };
    let is_failure = |error: &WriteError| matches!(error, WriteError::Store(_));
    assert!(is_failure(&error), "{error}");
    let head = log.head().borrow().offset;
    let next = log.commit(write(answered + 1)).await.unwrap_err();
    assert!(is_failure(&next), "{next}");
    assert!(log.failed().await.contains("planted"), "the process is told to end");
    assert_eq!(log.head().borrow().offset, head, "nothing of it is released (invariant 3)");
    assert_eq!(log.view().map_or(head, |view| view.position().unwrap().offset), head);
    log.close().await;
    answered
}
