//! The file under redb. What redb syncs is durable only where it can be found again: a file that was
//! removed or replaced fails its sync, so no write in it is ever answered (invariant 1).
//!
//! redb trusts its store no more after a write that failed. One that finds no room is made again, once, with the
//! room of the reserve; what is on its way becomes durable as ever, and nothing follows it before the reserve
//! is there again. Never a sync is made again: what a failed one has dropped is lost.

use std::{fs::File, io, ops::Bound, path::Path, sync::Arc};

use edgesync_host::{place::Place, reserve::Reserve, room::is_short};
use redb::{BackendError, DatabaseError, StorageBackend, backends::FileBackend};

type Range = Bound<u64>;

/// Name of the file of the reserve, beside the log.
pub(super) const RESERVE: &str = "log.reserve";
/// Times that it was needed.
const GIVEN: &str = "edgesync_control_reserve_given_total";

/// The log's file.
#[derive(Debug)]
pub(super) struct LogFile<B = FileBackend> {
    file: B,
    place: Place,
    reserve: Arc<Reserve>,
}

impl LogFile {
    /// Opens a file that is there.
    pub(super) fn open(path: &Path, reserve: Arc<Reserve>) -> Result<Self, DatabaseError> {
        let file = File::options().read(true).write(true).open(path)?;
        let place = Place::of(path, &file)?;
        Ok(Self { file: FileBackend::new(file)?, place, reserve })
    }

    pub(super) fn place(&self) -> Place {
        self.place.clone()
    }
}

impl<B: StorageBackend> StorageBackend for LogFile<B> {
    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        match self.file.write(offset, data) {
            Err(error) if is_short(&error) && self.reserve.give() => {
                metrics::counter!(GIVEN).increment(1);
                tracing::warn!(%error, "the disk is full: the room kept for the log is used");
                self.file.write(offset, data)
            }
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
        self.file.sync_data()?;
        self.place.check()
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
    use rustix::io::Errno;

    use super::*;

    const OCTETS: u64 = 64 * 1024;

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
        let reserve = Arc::new(Reserve::open(dir.path(), RESERVE, OCTETS).unwrap());
        let path = dir.path().join("file");
        let place = Place::of(&path, &File::create(&path).unwrap()).unwrap();
        let file = LogFile { file: Failing::default(), place, reserve: Arc::clone(&reserve) };
        file.set_len(8).unwrap();
        let fail = |errors: &[Errno]| *file.file.errors.lock().unwrap() = errors.to_vec();
        for errno in [Errno::NOSPC, Errno::DQUOT] {
            reserve.take().unwrap();
            fail(&[errno]);
            file.write(0, b"12345678").unwrap();
            let mut read = [0; 8];
            file.read(0, &mut read).unwrap();
            assert_eq!((&read, reserve.is_whole()), (b"12345678", false));
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
        assert!(reserve.is_whole(), "neither a broken disk nor a sync is helped by room");
    }
}
