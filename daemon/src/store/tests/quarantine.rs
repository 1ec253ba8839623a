//! A store that cannot be trusted is put aside and never served; one that is only not ours to use
//! is left as it is (invariant 17, rule 13).

use std::fs;

use super::*;

/// A store with some change sets, closed.
fn filled(dir: &Path) -> (Log, u64) {
    let log = Log::of_everything();
    let mut store = open(dir);
    for (set, position) in log.sets.iter().take(3) {
        store.apply(set.clone(), *position).unwrap();
    }
    let durable = store.sync().unwrap().unwrap();
    store.testify().unwrap();
    (log, durable.offset.0)
}

fn aside(dir: &Path) -> Vec<String> {
    let names = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name());
    let mut names: Vec<_> = names.map(|name| name.to_string_lossy().into_owned()).collect();
    names.retain(|name| name.starts_with("store.quarantine-"));
    names.sort();
    names
}

/// The store in `dir` is put aside for the reason of a label, and the next one takes the log anew.
#[track_caller]
fn assert_put_aside(dir: &Path, log: &Log, label: &str) {
    let mut store = open(dir);
    assert_eq!(store.distrusted().map(Distrust::label), Some(label));
    assert_eq!((store.durable(), store.reader().totals()), (None, Totals::default()));
    assert!(store.epoch() > 1, "the epoch grows on");
    for (set, position) in &log.sets {
        store.apply(set.clone(), *position).unwrap();
    }
    store.sync().unwrap();
    store.testify().unwrap();
    assert_is_fold(&store, log);
    drop(store);
    assert_eq!(open(dir).distrusted(), None, "the new one is trusted");
}

#[test]
fn a_store_behind_its_witness_is_put_aside() {
    let dir = tempfile::tempdir().unwrap();
    let (log, offset) = filled(dir.path());
    let path = dir.path().join("store.witness");
    let witness = Witness::read(&path).unwrap();
    let mark = witness.mark.unwrap();
    assert_eq!(mark.offset.0, offset);
    let ahead = Mark { offset: Offset(offset + 1), ..mark };
    Witness { mark: Some(ahead), ..witness }.write(&path).unwrap();
    assert_put_aside(dir.path(), &log, "disagrees");
    assert_eq!(aside(dir.path()).len(), 1);
}

#[test]
fn a_store_of_another_log_or_with_other_records_than_its_witness_is_put_aside() {
    for other in [
        |mark: Mark| Mark { log: LogId([1; 16]), ..mark },
        |mark: Mark| Mark { records: mark.records + 1, ..mark },
    ] {
        let dir = tempfile::tempdir().unwrap();
        let (log, _) = filled(dir.path());
        let path = dir.path().join("store.witness");
        let witness = Witness::read(&path).unwrap();
        Witness { mark: witness.mark.map(other), ..witness }.write(&path).unwrap();
        assert_put_aside(dir.path(), &log, "disagrees");
    }
}

#[test]
fn a_store_that_is_gone_or_opens_empty_is_noticed() {
    for damage in [
        |store: &Path| fs::remove_dir_all(store).unwrap(),
        |store: &Path| fs::write(store.join("db"), b"").unwrap(),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let (log, _) = filled(dir.path());
        for entry in fs::read_dir(dir.path().join("store")).unwrap() {
            let path = entry.unwrap().path();
            if path.file_name().unwrap().to_string_lossy().starts_with("snap.") {
                fs::remove_file(path).unwrap();
            }
        }
        damage(&dir.path().join("store"));
        assert_put_aside(dir.path(), &log, "disagrees");
    }
}

/// Whatever sled makes of a file that is not what was written: it is put aside, or it is the fold of what
/// is known to be durable. Returns how many of the files were put aside.
fn never_served(files: usize, damage: impl Fn(usize, &mut Vec<u8>)) -> usize {
    let dir = tempfile::tempdir().unwrap();
    let (log, offset) = filled(dir.path());
    let whole = fs::read(dir.path().join("store/db")).unwrap();
    let mut put_aside = 0;
    for file in 0..files {
        let mut octets = whole.clone();
        damage(file, &mut octets);
        fs::write(dir.path().join("store/db"), octets).unwrap();
        let store = open(dir.path());
        if store.distrusted().is_none() {
            assert!(store.durable().unwrap().offset.0 >= offset);
            let verified = store.reader().verify();
            drop(store);
            if verified.is_ok_and(|verified| verified.mismatches.is_empty()) {
                assert_is_fold(&open(dir.path()), &log);
            }
        } else {
            put_aside += 1;
        }
        fs::remove_dir_all(dir.path()).unwrap();
        filled(dir.path());
    }
    put_aside
}

#[test]
fn a_damaged_file_is_never_served() {
    let put_aside = never_served(24, |step, octets| {
        let place = step * octets.len() / 24 + 64;
        octets[place..place + 16].fill(0xa5);
    });
    assert!(put_aside > 0);
}

/// F-06: the last write came to the disk in part.
#[test]
fn a_file_whose_end_is_missing_or_was_not_written_is_never_served() {
    // The very end may be pages that were split by then, which are the same before and after.
    let end = |octets: &[u8]| octets.iter().rposition(|octet| *octet != 0).unwrap() + 1;
    let before = |step, octets: &[u8]| end(octets).saturating_sub(1usize << step);
    let cut = never_served(16, |step, octets| octets.truncate(before(step, octets)));
    let blank = never_served(16, |step, octets| {
        let (from, end) = (before(step, octets), end(octets));
        octets[from..end].fill(0);
    });
    assert!(cut > 0 && blank > 0, "{cut} {blank}");
}

#[test]
fn after_a_change_of_the_filter_the_old_zones_are_served_and_the_filter_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let (log, offset) = filled(dir.path());
    let filter = Filter::Zones(vec![name("small.example")]);
    let mut store = Store::open(StoreConfig { filter, ..config(dir.path()) }).unwrap();
    assert_eq!((store.distrusted(), store.durable().unwrap().offset.0), (None, offset));
    assert_eq!(store.filter(), Filter::All.hash());
    assert_is_fold(&store, &log);
    // What is written meanwhile is still by the old one.
    store.pass(log.position.after(log.position.offset.next(), &[])).unwrap();
    store.sync().unwrap();
    assert_eq!(store.filter(), Filter::All.hash());
}

#[test]
fn after_a_failed_sync_the_store_is_not_trusted_at_the_next_start() {
    let dir = tempfile::tempdir().unwrap();
    let (log, _) = filled(dir.path());
    let store = open(dir.path());
    store.give_up(&StoreError::Sync(std::io::Error::other("planted")));
    drop(store);
    assert_put_aside(dir.path(), &log, "disk_failed");
    let full = std::io::Error::from(std::io::ErrorKind::StorageFull);
    assert!(!StoreError::Sync(full).loses_trust(), "a full disk is no reason");
}

#[test]
fn readers_of_a_store_that_is_opened_again_are_never_told_that_it_is_empty() {
    let dir = tempfile::tempdir().unwrap();
    let (log, _) = filled(dir.path());
    let store = open(dir.path());
    let reader = store.reader();
    let zones = reader.zones(None, usize::MAX);
    let zone = zones.first().unwrap().origin.clone();
    let mut closed = store.close();
    // As often as it takes: what is in the way goes at some time.
    let witness = dir.path().join("store.witness");
    fs::rename(&witness, dir.path().join("kept")).unwrap();
    fs::create_dir(&witness).unwrap();
    for _ in 0..2 {
        assert!(matches!(closed.open(), Err(OpenError::Io { .. })));
        assert_eq!(reader.zones(None, usize::MAX), zones);
        assert!(matches!(reader.lookup(&zone, None), Err(StoreError::Closed)));
        assert!(!reader.is_serving());
    }
    fs::remove_dir(&witness).unwrap();
    fs::rename(dir.path().join("kept"), &witness).unwrap();
    let store = closed.open().unwrap();
    assert_is_fold(&store, &log);
    assert_eq!((reader.position(), store.distrusted()), (store.durable(), None));
    assert_eq!(aside(dir.path()), Vec::<String>::new());
}

#[test]
fn a_store_that_is_opened_again_behind_what_was_durable_in_it_is_put_aside() {
    let dir = tempfile::tempdir().unwrap();
    let (log, _) = filled(dir.path());
    let (place, kept) = (dir.path().join("store"), dir.path().join("kept"));
    fs::create_dir(&kept).unwrap();
    for file in fs::read_dir(&place).unwrap().map(Result::unwrap) {
        if file.file_type().unwrap().is_file() {
            fs::copy(file.path(), kept.join(file.file_name())).unwrap();
        }
    }
    let witness = fs::read(dir.path().join("store.witness")).unwrap();
    let mut store = open(dir.path());
    for (set, position) in &log.sets[3..] {
        store.apply(set.clone(), *position).unwrap();
    }
    store.sync().unwrap();
    let mut closed = store.close();
    // The disk has not what the kernel said to have written; nor has the witness been written since.
    fs::remove_dir_all(&place).unwrap();
    fs::rename(kept, place).unwrap();
    fs::write(dir.path().join("store.witness"), witness).unwrap();
    let store = closed.open().unwrap();
    assert_eq!(store.distrusted().map(Distrust::label), Some("disagrees"));
    assert_eq!((store.durable(), aside(dir.path()).len()), (None, 1));
    drop(store);
    // As if the empty one had not come to its end of opening: it is not behind what was put aside.
    let again = closed.open().unwrap();
    assert_eq!((again.distrusted(), aside(dir.path()).len()), (None, 1));
}

#[test]
fn a_clock_that_was_set_back_does_not_have_the_newest_removed_nor_a_name_taken_twice() {
    let dir = tempfile::tempdir().unwrap();
    let far = u64::MAX - 7;
    for number in [far, far - 1] {
        fs::create_dir(dir.path().join(format!("store.quarantine-{number}"))).unwrap();
    }
    for put in 1..3 {
        let store = open(dir.path());
        store.give_up(&StoreError::Sync(std::io::Error::other("planted")));
        drop(store);
        drop(open(dir.path()));
        let kept = [far + put - 1, far + put].map(|number| format!("store.quarantine-{number}"));
        assert_eq!(aside(dir.path()), kept);
    }
}

#[test]
fn the_newest_two_are_kept() {
    let dir = tempfile::tempdir().unwrap();
    let mut all = Vec::new();
    for _ in 0..4 {
        let store = open(dir.path());
        store.give_up(&StoreError::Sync(std::io::Error::other("planted")));
        drop(store);
        drop(open(dir.path()));
        all.extend(aside(dir.path()).last().cloned());
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    assert_eq!(all.len(), 4, "each store of a failing disk is put aside");
    assert_eq!(aside(dir.path()), all[2..]);
}

#[test]
fn another_format_is_named_and_left_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path());
    let engine = Engine::open(&dir.path().join("store"), 1 << 20).unwrap();
    engine.db().insert(layout::FORMAT_KEY, &7u32.to_be_bytes()).unwrap();
    drop(engine);
    let refused = Store::open(config(dir.path())).unwrap_err().to_string();
    for part in [&*dir.path().join("store").to_string_lossy(), "format 7", "reads 3", "move"] {
        assert!(refused.contains(part), "{refused}");
    }
    assert_eq!(refused.lines().count(), 1);
    assert_eq!(aside(dir.path()), Vec::<String>::new());
}

#[test]
fn a_store_of_a_version_with_small_segments_is_put_aside_and_filled_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    fs::create_dir_all(&path).unwrap();
    let small = sled::Config::new().path(&path).segment_size(512 * 1024).open().unwrap();
    small.insert(b"key", b"value").unwrap();
    small.flush().unwrap();
    drop(small);
    Witness { epoch: 3, mark: None }.write(&dir.path().join("store.witness")).unwrap();
    assert_put_aside(dir.path(), &Log::of_everything(), "segments");
    assert_eq!(aside(dir.path()).len(), 1);
}

#[test]
fn a_store_that_another_has_open_is_left_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path());
    let _held = open(dir.path());
    let refused = Store::open(config(dir.path())).unwrap_err();
    assert!(matches!(refused, OpenError::Engine { .. }), "{refused}");
    assert_eq!(aside(dir.path()), Vec::<String>::new());
}

#[test]
fn sleds_half_written_snapshot_is_swept() {
    let dir = tempfile::tempdir().unwrap();
    let (log, offset) = filled(dir.path());
    // sled writes one when it opens what is there.
    drop(open(dir.path()));
    let store = dir.path().join("store");
    let mut half_written = 0;
    for entry in fs::read_dir(&store).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if name.starts_with("snap.") {
            let half = fs::read(&path).unwrap();
            fs::write(store.join(format!("{name}.generating")), &half[..half.len() / 2]).unwrap();
            fs::remove_file(path).unwrap();
            half_written += 1;
        }
    }
    assert!(half_written > 0, "there is no snapshot of sled's");
    let store = open(dir.path());
    assert_eq!((store.distrusted(), store.durable().unwrap().offset.0), (None, offset));
    assert_is_fold(&store, &log);
}
