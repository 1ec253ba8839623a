//! Without room for them writes are refused, and nothing else is.

use super::*;

/// Octets that no disk has free.
const NEVER: u64 = 1 << 60;

fn options(dir: &Path, min_free_bytes: u64) -> Options {
    let (cache_bytes, recent_bytes, queue_bytes) = (8 << 20, 1 << 20, 1 << 20);
    let dir = dir.to_owned();
    Options { dir, cache_bytes, recent_bytes, queue_bytes, min_free_bytes }
}

fn open_with(dir: &Path, min_free_bytes: u64) -> Log {
    Log::open(&options(dir, min_free_bytes)).unwrap()
}

fn create(owner: &str) -> Write {
    change(vec![Operation::Create(a(owner, 1))])
}

/// A directory with a log that has the zone, and an answer under the key `old`.
async fn written() -> (tempfile::TempDir, Committed) {
    let dir = tempfile::tempdir().unwrap();
    let log = open_with(dir.path(), 0);
    create_zone(&log).await;
    let old = log.commit(keyed(create("old"), "old", 1)).await.unwrap();
    let hidden = log.commit(write(Action::OpenGeneration(vec![soa(2)]))).await.unwrap();
    assert_ne!(hidden.generation, old.generation);
    log.close().await;
    (dir, old)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_without_room_is_refused_with_its_way_out_and_touches_nothing() {
    let (dir, old) = written().await;
    let log = open_with(dir.path(), NEVER);
    // What the control plane does at its start is small, and makes room.
    log.drop_abandoned().await.unwrap();
    assert!(log.view().unwrap().hidden_generations().unwrap().is_empty());
    let (head, before) = (*log.head().borrow(), lines(&log));
    for refused in [create("new"), keyed(create("new"), "new", 1), write(Action::DeleteZone)] {
        let error = log.commit(refused).await.unwrap_err();
        assert!(matches!(error, WriteError::DiskFull(_)), "{error}");
        let line = error.to_string();
        assert!(line.contains(&dir.path().display().to_string()), "{line}");
        assert!(line.contains("make room") && line.lines().count() == 1, "{line}");
    }
    assert!(log.full().unwrap().contains("make room"));
    assert_eq!((*log.head().borrow(), lines(&log)), (head, before));
    // Whoever asks again is told what came of it, and a stream goes no further.
    let again = log.commit(keyed(create("old"), "old", 1)).await.unwrap();
    assert_eq!(again, Committed { replayed: true, ..old });
    let other = log.commit(keyed(create("old"), "old", 2)).await;
    assert_eq!(other, Err(WriteError::KeyReused));
    let stream = Arc::<AtomicBool>::default();
    let mut pending = Vec::new();
    for _ in 0..3 {
        let write = Write { stream: Some(Arc::clone(&stream)), ..create("streamed") };
        pending.push(log.submit(write).await.unwrap());
    }
    let mut answers = Vec::new();
    for answer in pending {
        answers.push(answer.await.unwrap_err());
    }
    assert!(matches!(answers[0], WriteError::DiskFull(_)), "{answers:?}");
    assert_eq!(answers[1..], [WriteError::StreamRefused, WriteError::StreamRefused]);
    log.close().await;
    drop(log);
    // With room again.
    let log = open_with(dir.path(), 1);
    let new = log.commit(keyed(create("new"), "new", 1)).await.unwrap();
    assert_eq!((new.first, new.replayed), (head.offset.next(), false));
    assert_eq!(log.full(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_small_goes_on_without_room_for_writes() {
    let (dir, old) = written().await;
    let log = open_with(dir.path(), NEVER);
    drop(log.freeze("tester".to_owned(), "the disk".to_owned()).await.unwrap());
    log.unfreeze().await.unwrap();
    let edge = "fra-1".to_owned();
    log.save_fleet(vec![FleetRow { edge: edge.clone(), durable: Some(old.position) }]);
    let compacted = log.compact(old.first.before()).await.unwrap();
    assert_eq!((compacted.floor, compacted.sets), (old.first.before(), 1));
    let fleet = log.view().unwrap().fleet().unwrap();
    assert_eq!(fleet, [FleetRow { edge, durable: Some(old.position) }]);
}

/// A quota is not seen by looking: the room kept for the log cannot be taken again after it was needed.
#[tokio::test(flavor = "multi_thread")]
async fn without_the_room_kept_for_it_the_log_writes_nothing_at_all() {
    let (dir, old) = written().await;
    // A directory in its place: what is kept there cannot be opened, and the start says so.
    let reserve = dir.path().join("log.reserve");
    std::fs::create_dir(&reserve).unwrap();
    let (cache_bytes, recent_bytes, queue_bytes) = (8 << 20, 1 << 20, 1 << 20);
    let (options, min_free_bytes) = (dir.path().to_owned(), 64 << 20);
    let options = Options { dir: options, cache_bytes, recent_bytes, queue_bytes, min_free_bytes };
    let refused = Log::open(&options).err().unwrap().to_string();
    assert!(refused.contains("log.redb") && refused.lines().count() == 1, "{refused}");
    std::fs::remove_dir(&reserve).unwrap();
    // A device that is always full.
    std::os::unix::fs::symlink("/dev/full", &reserve).unwrap();
    let log = open_with(dir.path(), 64 << 20);
    for error in [
        log.commit(create("new")).await.unwrap_err(),
        log.compact(old.first).await.unwrap_err(),
        log.freeze("tester".to_owned(), String::new()).await.err().unwrap(),
    ] {
        assert!(matches!(error, WriteError::DiskFull(_)), "{error}");
        assert!(error.to_string().contains(&dir.path().display().to_string()), "{error}");
    }
    log.save_fleet(vec![FleetRow { edge: "fra-1".to_owned(), durable: Some(old.position) }]);
    assert!(log.commit(create("new")).await.is_err());
    assert!(log.view().unwrap().fleet().unwrap().is_empty());
    log.close().await;
}
