//! Station 6, blobs: sled puts a page that is too large for its log into a file of its own. It never syncs such
//! a file, and nothing keeps the log's pointer to it from reaching the disk before it, or the file before it
//! from being removed: after a power cut the page may be an older one than all others, or gone. So pages are
//! kept smaller than that (`limits::SEGMENT_OCTETS`), and should there be such a file all the same, what it
//! belongs to is not acked.

use std::{ffi::OsStr, fs::File, io, os::unix::ffi::OsStrExt, path::Path};

use rustix::fs::{RawDir, SeekFrom};

/// Octets of the entries of their directory that are read at once.
const ENTRIES_OCTETS: usize = 1024;

/// The directory of such files, open: a look needs no descriptor, so a host that has none left does not
/// fail a sync.
#[derive(Debug)]
pub(super) struct Blobs(File);

impl Blobs {
    /// In sled's directory.
    ///
    /// # Errors
    /// If it cannot be opened.
    pub fn of(dir: &Path) -> io::Result<Self> {
        Ok(Self(File::open(dir)?))
    }

    /// True if there is a page in a file of its own.
    pub fn is_any(&self) -> io::Result<bool> {
        rustix::fs::seek(&self.0, SeekFrom::Start(0))?;
        let mut room = Vec::with_capacity(ENTRIES_OCTETS);
        let mut entries = RawDir::new(&self.0, room.spare_capacity_mut());
        while let Some(entry) = entries.next() {
            let entry = entry?;
            let name = OsStr::from_bytes(entry.file_name().to_bytes());
            if name != "." && name != ".." {
                return Ok(true);
            }
        }
        Ok(false)
    }
}
