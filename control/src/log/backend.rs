//! The file under redb. What redb syncs is durable only where it can be found again: a file that was
//! removed or replaced fails its sync, so no write in it is ever answered (invariant 1).

use std::{fs::File, io, ops::Bound, path::Path};

use edgesync_host::place::Place;
use redb::{BackendError, DatabaseError, StorageBackend, backends::FileBackend};

type Range = Bound<u64>;

/// The log's file.
#[derive(Debug)]
pub(super) struct LogFile {
    file: FileBackend,
    place: Place,
}

impl LogFile {
    /// Opens a file that is there.
    pub(super) fn open(path: &Path) -> Result<Self, DatabaseError> {
        let file = File::options().read(true).write(true).open(path)?;
        let place = Place::of(path, &file)?;
        Ok(Self { file: FileBackend::new(file)?, place })
    }

    pub(super) fn place(&self) -> Place {
        self.place.clone()
    }
}

impl StorageBackend for LogFile {
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

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.file.write(offset, data)
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
