//! Room that is kept for the log in a file beside it. redb trusts its store no more after a write that
//! failed, and a look ahead (`room`) sees neither quotas nor programs that take the room between the look
//! and the write. Then the reserve is given up and the write is made again, once: what is on its way
//! becomes durable as ever, and nothing follows it before the reserve is there again.
//!
//! Only writes are made again, never a sync: what a failed one has dropped is lost (invariant 1).

use std::{
    fs::File,
    io,
    ops::Bound,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use edgesync_host::room::{Shortage, is_short};
use redb::{BackendError, StorageBackend, backends::FileBackend};
use rustix::{
    fs::{FallocateFlags, fallocate},
    io::Errno,
};

/// Name of the file.
const FILE: &str = "log.reserve";
/// Times that the reserve was needed.
const GIVEN: &str = "edgesync_control_reserve_given_total";

/// Room on the disk that nobody else gets.
#[derive(Debug)]
pub(super) struct Reserve {
    dir: PathBuf,
    octets: u64,
    /// None if nothing is kept.
    file: Option<File>,
    /// True if the room is there.
    whole: AtomicBool,
}

impl Reserve {
    /// The reserve in a directory, as it is; see [`Reserve::take`].
    pub(super) fn open(dir: &Path, octets: u64) -> io::Result<Self> {
        let path = dir.join(FILE);
        let mut options = File::options();
        options.read(true).write(true).create(true).truncate(false);
        let file = if octets == 0 { None } else { Some(options.open(path)?) };
        let there = file.as_ref().map_or(Ok(0), |file| file.metadata().map(|file| file.len()))?;
        if let Some(file) = file.as_ref().filter(|_| there > octets) {
            file.set_len(octets)?;
        }
        let whole = AtomicBool::new(there >= octets || octets == 0);
        Ok(Self { dir: dir.to_owned(), octets, file, whole })
    }

    /// Octets that are kept, when they are.
    pub(super) const fn octets(&self) -> u64 {
        self.octets
    }

    /// Whether they are.
    pub(super) fn is_whole(&self) -> bool {
        self.whole.load(Ordering::Acquire)
    }

    /// Takes what of the room is not there, such as in a file that was copied without its zeros.
    ///
    /// # Errors
    /// If the disk does not give it.
    pub(super) fn take(&self) -> Result<(), Shortage> {
        let Some(file) = &self.file else { return Ok(()) };
        let (dir, wanted) = (self.dir.clone(), self.octets);
        let taken = match fallocate(file, FallocateFlags::empty(), 0, wanted) {
            // A file system that keeps no room has none to give up either.
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => {
                tracing::warn!(dir = %dir.display(), "the file system keeps no room for the log");
                Ok(())
            }
            Err(error) => Err(Shortage::Withheld { dir, wanted, said: error.to_string() }),
            Ok(()) => Ok(()),
        };
        self.whole.store(taken.is_ok(), Ordering::Release);
        // A part of it would only be in the way.
        taken.inspect_err(|_| drop(file.set_len(0)))
    }

    /// Gives the room up. False if there was none.
    fn give(&self) -> bool {
        let Some(file) = self.file.as_ref().filter(|_| self.whole.swap(false, Ordering::AcqRel))
        else {
            return false;
        };
        metrics::counter!(GIVEN).increment(1);
        tracing::warn!(dir = %self.dir.display(), "the disk is full: the room kept for the log is used");
        file.set_len(0).is_ok()
    }
}

/// The log's file, with a reserve behind it.
#[derive(Debug)]
pub(super) struct ReservedFile<B = FileBackend> {
    pub(super) file: B,
    pub(super) reserve: Arc<Reserve>,
}

type Range = Bound<u64>;

impl<B: StorageBackend> StorageBackend for ReservedFile<B> {
    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        match self.file.write(offset, data) {
            Err(error) if is_short(&error) && self.reserve.give() => self.file.write(offset, data),
            done => done,
        }
    }

    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn close(&self) -> io::Result<()> {
        self.file.close()
    }

    fn try_lock_range(&self, start: Range, end: Range) -> Result<bool, BackendError> {
        self.file.try_lock_range(start, end)
    }

    fn try_lock_shared_range(&self, start: Range, end: Range) -> Result<bool, BackendError> {
        self.file.try_lock_shared_range(start, end)
    }

    fn lock_range(&self, start: Range, end: Range) -> Result<(), BackendError> {
        self.file.lock_range(start, end)
    }

    fn lock_shared_range(&self, start: Range, end: Range) -> Result<(), BackendError> {
        self.file.lock_shared_range(start, end)
    }

    fn unlock_range(&self, start: Range, end: Range) -> Result<(), BackendError> {
        self.file.unlock_range(start, end)
    }

    fn query_lock_range(&self, start: Range, end: Range) -> Result<bool, BackendError> {
        self.file.query_lock_range(start, end)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use redb::backends::InMemoryBackend;

    use super::*;

    const OCTETS: u64 = 64 * 1024;

    fn size(dir: &Path) -> u64 {
        std::fs::metadata(dir.join(FILE)).unwrap().len()
    }

    #[test]
    fn what_is_kept_is_there_until_it_is_given_and_then_again() {
        let dir = tempfile::tempdir().unwrap();
        let reserve = Reserve::open(dir.path(), OCTETS).unwrap();
        assert!(!reserve.give(), "it is not there yet");
        assert_eq!((reserve.take(), size(dir.path())), (Ok(()), OCTETS));
        drop(reserve);
        // It outlives the process, for what the next one has to write before it can look.
        let reserve = Reserve::open(dir.path(), OCTETS).unwrap();
        assert_eq!((reserve.give(), size(dir.path())), (true, 0));
        assert!(!reserve.give(), "it is given once");
        assert_eq!((reserve.take(), size(dir.path())), (Ok(()), OCTETS));
        let less = Reserve::open(dir.path(), OCTETS / 2).unwrap();
        assert_eq!((less.give(), Reserve::open(dir.path(), 0).unwrap().give()), (true, false));
    }

    #[test]
    fn a_disk_that_does_not_give_the_room_is_named_and_keeps_nothing_of_it() {
        let dir = tempfile::tempdir().unwrap();
        // Too large for any file: what the disk says to it is what it says when it is full.
        let reserve = Reserve::open(dir.path(), i64::MAX as u64).unwrap();
        let short = reserve.take().unwrap_err().to_string();
        assert!(short.contains(&dir.path().display().to_string()), "{short}");
        assert_eq!(size(dir.path()), 0);
    }

    /// A file whose writes fail so often, with these errors.
    #[derive(Debug, Default)]
    struct Failing {
        memory: InMemoryBackend,
        errors: Mutex<Vec<Errno>>,
    }

    impl StorageBackend for Failing {
        fn len(&self) -> io::Result<u64> {
            self.memory.len()
        }
        fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
            self.memory.read(offset, out)
        }
        fn set_len(&self, len: u64) -> io::Result<()> {
            self.memory.set_len(len)
        }
        fn sync_data(&self) -> io::Result<()> {
            self.errors.lock().unwrap().pop().map_or(Ok(()), |errno| Err(errno.into()))
        }
        fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
            self.sync_data()?;
            self.memory.write(offset, data)
        }
    }

    #[test]
    fn a_write_without_room_is_made_again_once_and_nothing_else_is() {
        let dir = tempfile::tempdir().unwrap();
        let reserve = Arc::new(Reserve::open(dir.path(), OCTETS).unwrap());
        let file = ReservedFile { file: Failing::default(), reserve: Arc::clone(&reserve) };
        file.set_len(8).unwrap();
        let fail = |errors: &[Errno]| *file.file.errors.lock().unwrap() = errors.to_vec();
        for errno in [Errno::NOSPC, Errno::DQUOT] {
            reserve.take().unwrap();
            fail(&[errno]);
            file.write(0, b"12345678").unwrap();
            let mut read = [0; 8];
            file.read(0, &mut read).unwrap();
            assert_eq!((&read, size(dir.path())), (b"12345678", 0));
            fail(&[errno]);
            assert!(file.write(0, b"x").is_err(), "nothing is left to be given");
        }
        reserve.take().unwrap();
        fail(&[Errno::NOSPC, Errno::NOSPC]);
        assert!(file.write(0, b"x").is_err(), "it was made again more than once");
        reserve.take().unwrap();
        fail(&[Errno::IO]);
        assert!(file.write(0, b"x").is_err());
        fail(&[Errno::NOSPC]);
        assert!(file.sync_data().is_err());
        assert_eq!(size(dir.path()), OCTETS, "neither a broken disk nor a sync is helped by room");
    }
}
