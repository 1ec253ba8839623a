//! Station 6, the engine: the one place that writes to sled and makes it durable. What is written
//! is one atomic batch; what is durable is what [`Engine::sync`] has come back from (invariant 6).

use std::{
    fs::{self, File},
    io,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use edgesync_host::place::Place;
use rustix::fs::{Advice, FallocateFlags, fadvise, fallocate};
use sled::{Db, IVec};

use super::{StoreError, blobs::Blobs, error::EngineFault};
use crate::limits::SEGMENT_OCTETS;

/// How long sled's lock may be held by what is left of a store that was closed.
const LOCK_WAIT: Duration = Duration::from_secs(1);
/// What sled says when its lock is held.
const LOCKED: &str = "could not acquire lock";
/// Name of sled's file in its directory.
pub(super) const DATABASE_FILE: &str = "db";
/// Name of the file that says what sled was set to when it was created.
const SETTINGS_FILE: &str = "conf";
/// What stands there before the octets of a segment.
const SEGMENT_SETTING: &str = "segment_size: ";
/// Name of the directory of its blobs there.
const BLOBS: &str = "blobs";

/// Writes that happen together or not at all.
#[derive(Debug, Default)]
pub(super) struct Batch {
    writes: sled::Batch,
    keys: Vec<IVec>,
}

impl Batch {
    /// Adds a value under a key.
    pub fn insert(&mut self, key: impl Into<IVec>, value: impl Into<IVec>) {
        let key = self.key(key);
        self.writes.insert(key, value);
    }

    /// Adds the removal of a key.
    pub fn remove(&mut self, key: impl Into<IVec>) {
        let key = self.key(key);
        self.writes.remove(key);
    }

    fn key(&mut self, key: impl Into<IVec>) -> IVec {
        let key = key.into();
        self.keys.push(key.clone());
        key
    }
}

/// An open sled, and the means to make it durable.
#[derive(Debug)]
pub(super) struct Engine {
    db: Db,
    /// A second descriptor of the database file: sled's own flush is no barrier for a power loss.
    file: File,
    /// Up to where the disk keeps room for that file.
    reserved: u64,
    blobs: Blobs,
    /// Where that file is.
    place: Place,
    /// A sync has failed: nothing is known of what came before it, and none is tried again.
    failed: bool,
    /// Batches that may still be written before a planted stop, which happens once.
    #[cfg(test)]
    pub writes_left: std::cell::Cell<Option<u32>>,
    /// The planted stop leaves its batch in the engine's memory, as a full disk may.
    #[cfg(test)]
    pub torn: std::cell::Cell<bool>,
    /// The planted stop is a full disk.
    #[cfg(test)]
    pub full: std::cell::Cell<bool>,
    /// A set with this first offset kills.
    #[cfg(test)]
    pub dies_at: std::cell::Cell<Option<edgesync_core::position::Offset>>,
}

impl Engine {
    /// Opens or creates the database in a directory, whose lock the caller has.
    pub fn open(dir: &Path, cache_octets: u64) -> Result<Self, EngineFault> {
        let created = !dir.join(DATABASE_FILE).exists();
        fs::create_dir_all(dir)?;
        if let Some(octets) = created_with(dir)?.filter(|octets| *octets != SEGMENT_OCTETS) {
            return Err(EngineFault::Segments(octets));
        }
        remove_half_written_snapshots(dir)?;
        let config = sled::Config::new().path(dir).cache_capacity(cache_octets);
        let config = config.flush_every_ms(None).segment_size(SEGMENT_OCTETS);
        let db = open_unlocked(&config)?;
        let path = dir.join(DATABASE_FILE);
        let file = File::options().read(true).write(true).open(&path)?;
        let place = Place::of(&path, &file)?;
        if created {
            File::open(dir.join(SETTINGS_FILE))?.sync_all()?;
            File::open(dir)?.sync_all()?;
            dir.parent().map_or(Ok(()), |parent| File::open(parent)?.sync_all())?;
        }
        let mut engine = Self {
            db,
            file,
            reserved: 0,
            blobs: Blobs::of(&dir.join(BLOBS))?,
            place,
            failed: false,
            #[cfg(test)]
            writes_left: std::cell::Cell::new(None),
            #[cfg(test)]
            torn: std::cell::Cell::new(false),
            #[cfg(test)]
            full: std::cell::Cell::new(false),
            #[cfg(test)]
            dies_at: std::cell::Cell::new(None),
        };
        engine.reserve();
        Ok(engine)
    }

    /// The database, to read.
    pub const fn db(&self) -> &Db {
        &self.db
    }

    /// Writes a batch, all or nothing (invariant 5), and leaves all pages ready to be read.
    pub fn write(&self, batch: Batch) -> Result<(), StoreError> {
        let Batch { writes, keys } = batch;
        #[cfg(test)]
        if let Some(left) = self.writes_left.get() {
            self.writes_left.set(left.checked_sub(1));
            if left == 0 {
                if self.torn.get() {
                    self.db.apply_batch(writes).map_err(StoreError::Engine)?;
                }
                let full = || StoreError::Sync(io::ErrorKind::StorageFull.into());
                return Err(if self.full.get() { full() } else { StoreError::Stopped });
            }
        }
        self.db.apply_batch(writes).and_then(|()| self.tidy(keys)).map_err(StoreError::Engine)
    }

    /// Has the pages of what was written split and merged. sled leaves that to who comes by next, and be it
    /// to read; but to do it is to write, so that on a disk that takes no more nobody could read such a
    /// page (invariant 14).
    fn tidy(&self, mut keys: Vec<IVec>) -> sled::Result<()> {
        keys.sort_unstable();
        keys.iter().try_for_each(|key| self.db.contains_key(key).map(drop))
    }

    /// Makes all that was written durable. A failure is final: what the kernel said to have lost
    /// once, it says to have written when asked again.
    pub fn sync(&mut self) -> Result<(), StoreError> {
        if self.failed {
            return Err(StoreError::Failed);
        }
        let flushed = self.db.flush().map_err(StoreError::Engine);
        let synced = flushed.and_then(|_| self.file.sync_data().map_err(StoreError::Sync));
        let synced = synced.and_then(|()| match self.blobs.is_any() {
            Ok(false) => Ok(()),
            Ok(true) => Err(StoreError::Spilled),
            Err(error) => Err(StoreError::Sync(error)),
        });
        // What is in a file that nobody can open again is not durable; and where it is gone, that is
        // what is told, whatever failed because of it.
        let synced = self.check_place().and(synced);
        self.failed = synced.is_err();
        self.reserve();
        synced
    }

    /// Keeps the room that sled needs to be opened again, as far as the disk has it: it fills the segment that
    /// it has begun. Without that an edge on a disk that was filled meanwhile would not answer (invariant 14).
    fn reserve(&mut self) {
        let octets = self.file.metadata().map_or(0, |metadata| metadata.len());
        let segment = SEGMENT_OCTETS as u64;
        let wanted = octets.saturating_add(segment / 32).next_multiple_of(segment);
        let keep = FallocateFlags::KEEP_SIZE;
        if wanted != self.reserved && fallocate(&self.file, keep, 0, wanted).is_ok() {
            self.reserved = wanted;
        }
    }

    /// Looks whether the database's file is still where it was opened.
    pub fn check_place(&self) -> Result<(), StoreError> {
        self.place.check().map_err(StoreError::Gone)
    }
}

/// Has the kernel forget what it keeps of a closed database's files, as far as it takes it for written: what is read
/// next is what the disk has.
pub(super) fn forget_cached(dir: &Path) {
    for entry in fs::read_dir(dir).into_iter().flatten().filter_map(Result::ok) {
        let told = File::open(entry.path())
            .and_then(|file| Ok(fadvise(&file, 0, None, Advice::DontNeed)?));
        if let Err(error) = told {
            tracing::warn!(file = %entry.path().display(), %error, "it may be read from memory");
        }
    }
}

/// Octets of the segments that a database was created with. None if there is none, or it does not say: then it
/// is for sled to find out what is wrong.
fn created_with(dir: &Path) -> io::Result<Option<usize>> {
    let settings = match fs::read(dir.join(SETTINGS_FILE)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        settings => settings?,
    };
    // It ends in a checksum, which is no text.
    let settings = String::from_utf8_lossy(&settings);
    let octets = settings.lines().find_map(|line| line.strip_prefix(SEGMENT_SETTING));
    Ok(octets.and_then(|octets| octets.parse().ok()))
}

/// Opens sled. When it was closed in this process, a thread of its own may keep its lock for a moment.
fn open_unlocked(config: &sled::Config) -> sled::Result<Db> {
    let begin = Instant::now();
    loop {
        match config.open() {
            Err(sled::Error::Io(error))
                if error.to_string().contains(LOCKED) && begin.elapsed() < LOCK_WAIT =>
            {
                thread::sleep(LOCK_WAIT / 100);
            }
            opened => return opened,
        }
    }
}

/// A snapshot that sled was killed in the middle of makes it fail for ever; without it all is
/// there, from the log.
fn remove_half_written_snapshots(dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with("snap.") && name.ends_with(".generating") {
            tracing::warn!(file = %entry.path().display(), "removed sled's half-written snapshot");
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::{
        os::{fd::OwnedFd, unix::fs::MetadataExt},
        process::Command,
    };

    use rustix::process::{Resource, Rlimit, setrlimit};

    use super::*;
    use crate::limits::VALUE_OCTETS;

    /// Says to a process of a test that its disk is to be full.
    const FULL: &str = "EDGESYNC_TEST_FULL";

    fn open(dir: &Path) -> Engine {
        Engine::open(dir, 4 << 20).unwrap()
    }

    fn write(engine: &Engine, key: &[u8], value: &[u8]) {
        let mut batch = Batch::default();
        batch.insert(key, value);
        engine.write(batch).unwrap();
    }

    /// A file of which the kernel says that it cannot be synced.
    fn refuses_syncs() -> File {
        File::from(OwnedFd::from(io::pipe().unwrap().0))
    }

    #[test]
    fn a_sync_that_the_disk_refuses_is_told_and_none_is_tried_again() {
        let dir = tempfile::tempdir().unwrap();
        let mut engine = open(dir.path());
        let found = (engine.file.metadata().unwrap(), dir.path().join("db").metadata().unwrap());
        assert_eq!(found.0.ino(), found.1.ino(), "it is the database's file that is synced");
        engine.sync().unwrap();
        let disk = std::mem::replace(&mut engine.file, refuses_syncs());
        write(&engine, b"key", b"value");
        assert!(matches!(engine.sync(), Err(StoreError::Sync(_))));
        // A disk that says now that all is well has thrown away what it was told then.
        engine.file = disk;
        assert!(matches!(engine.sync(), Err(StoreError::Failed)));
    }

    #[test]
    fn the_largest_values_side_by_side_stay_in_sleds_log() {
        let dir = tempfile::tempdir().unwrap();
        let mut engine = open(dir.path());
        let value = vec![7; VALUE_OCTETS - 1];
        let key = |number: u32| format!("{}{number:06}", "k".repeat(600)).into_bytes();
        for from in (0..400).step_by(8) {
            let mut batch = Batch::default();
            (from..from + 8).for_each(|number| batch.insert(key(number), &*value));
            engine.write(batch).unwrap();
            engine.sync().unwrap();
        }
        // Pages are merged where most is gone, and grow again.
        for number in (0..400).filter(|number| number % 7 != 0) {
            let mut batch = Batch::default();
            batch.remove(key(number));
            engine.write(batch).unwrap();
        }
        engine.sync().unwrap();
        for number in (0..400).rev() {
            write(&engine, &key(number), &value);
            engine.sync().unwrap();
        }
    }

    #[test]
    fn the_disk_keeps_room_for_the_segment_that_was_begun() {
        let dir = tempfile::tempdir().unwrap();
        let mut engine = open(dir.path());
        let segment = SEGMENT_OCTETS as u64;
        for (number, kept) in [(1, segment), (segment / 60_000 + 1, 2 * segment)] {
            (0..number).for_each(|n| write(&engine, &n.to_be_bytes(), &vec![7; 60_000]));
            engine.sync().unwrap();
            let blocks = 512 * engine.file.metadata().unwrap().blocks();
            assert!(blocks >= kept, "{blocks} octets are kept, {kept} are needed");
        }
    }

    #[test]
    fn what_was_written_is_read_when_the_disk_takes_no_more() {
        let test = "store::engine::tests::what_was_written_is_read_when_the_disk_takes_no_more";
        let Some(dir) = std::env::var_os(FULL) else {
            // The limit is of a whole process; and the signal that comes with it would end it.
            let dir = tempfile::tempdir().unwrap();
            let mut other = Command::new("sh");
            other.args(["-c", r#"trap "" XFSZ; exec "$0" "$@""#]);
            other.arg(std::env::current_exe().unwrap()).args([test, "--exact", "--nocapture"]);
            return assert!(other.env(FULL, dir.path()).status().unwrap().success());
        };
        let mut engine = open(Path::new(&dir));
        let key = |number: u32| number.wrapping_mul(0x9e37_79b1).to_be_bytes();
        for from in (0..6_000).step_by(100) {
            let mut batch = Batch::default();
            (from..from + 100).for_each(|number| batch.insert(&key(number), b"value"));
            // Pages get smaller too: first those of one end.
            let gone = (from / 2..from / 2 + 50).filter(|number| key(*number) < key(1));
            gone.for_each(|number| batch.remove(&key(number)));
            engine.write(batch).unwrap();
        }
        engine.sync().unwrap();
        let length = engine.file.metadata().unwrap().len();
        setrlimit(Resource::Fsize, Rlimit { current: Some(length), maximum: None }).unwrap();
        write(&engine, b"one more", b"value");
        assert!(engine.sync().is_err(), "the disk takes no more");
        let unread = (0..6_000).filter(|number| engine.db.get(key(*number)).is_err()).count();
        let read = engine.db.iter().take_while(Result::is_ok).count();
        let gone = (0..3_000).filter(|number| key(*number) < key(1)).count();
        assert_eq!((unread, read), (0, 6_001 - gone), "{unread} keys of 6,000 cannot be read");
    }

    #[test]
    fn what_is_in_a_file_of_its_own_is_not_durable() {
        let dir = tempfile::tempdir().unwrap();
        let mut engine = open(dir.path());
        write(&engine, b"key", &vec![7; SEGMENT_OCTETS / 4]);
        assert!(matches!(engine.sync(), Err(StoreError::Spilled)));
        assert!(matches!(engine.sync(), Err(StoreError::Failed)));
    }

    #[test]
    fn sled_has_no_flusher_that_would_only_log_what_goes_wrong() {
        let dir = tempfile::tempdir().unwrap();
        let mut engine = open(dir.path());
        engine.sync().unwrap();
        let threads = fs::read_dir("/proc/self/task").unwrap();
        let names =
            threads.filter_map(|task| fs::read_to_string(task.unwrap().path().join("comm")).ok());
        let names: Vec<_> = names.collect();
        assert!(!names.iter().any(|name| name.trim() == "log flusher"), "{names:?}");
    }
}
