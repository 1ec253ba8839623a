//! A crash while the log is being created, on real files: redb refuses for ever a file that is
//! neither empty nor a store.

use edgesync_control::log::{Log, Options};

use crate::{Random, disk::Crashes, disk::Disk, open};

#[test]
fn a_log_that_was_never_completed_is_begun_again() {
    let disk = Disk::default();
    drop(open(&disk).unwrap());
    let ops = disk.ops();
    let mut random = Random(1);
    let mut crashes = Crashes::new(Vec::new(), &ops);
    let mut refused = 0;
    for point in 0..ops.len() {
        let dir = tempfile::tempdir().unwrap();
        let image = crashes.image(point, &mut random);
        refused += usize::from(open(&Disk::of(image.clone())).is_err());
        std::fs::write(dir.path().join("log.redb.new"), image).unwrap();
        let (cache_bytes, recent_bytes, queue_bytes) = (1 << 20, 1 << 16, 1 << 20);
        let dir = dir.path().to_owned();
        let min_free_bytes = 0;
        let options = Options { dir, cache_bytes, recent_bytes, queue_bytes, min_free_bytes };
        let log = Log::open(&options).expect("nothing was promised yet");
        assert_eq!(log.head().borrow().offset.0, 0);
        assert!(!options.dir.join("log.redb.new").exists());
    }
    assert!(refused > 0, "redb takes what it had begun: the file's other name is not needed");
}
