//! Station 6, blobs: sled writes a page of more than about 128 KiB into a file of its own and never
//! syncs it. A few large records that are neighbours make such a page, though each of them is smaller
//! (rule 6); so these files are made durable here, before anything that is in them is acked.

use std::{
    collections::HashSet,
    ffi::{OsStr, OsString},
    fs::File,
    io,
    os::unix::ffi::OsStrExt,
    path::PathBuf,
};

use rustix::fs::{RawDir, SeekFrom};

/// Octets of the entries of their directory that are read at once.
const ENTRIES_OCTETS: usize = 8 * 1024;

/// The files that sled has put pages into.
#[derive(Debug)]
pub(super) struct Blobs {
    dir: PathBuf,
    /// The same, open: a look needs no descriptor, so a host that has none left does not fail a sync.
    open: File,
    /// Those that are durable; a file is written once, and not changed until it is removed.
    durable: HashSet<OsString>,
}

impl Blobs {
    /// In sled's directory. What is found there may have been written by a process that was killed,
    /// and counts as not durable.
    ///
    /// # Errors
    /// If it cannot be opened.
    pub fn of(dir: PathBuf) -> io::Result<Self> {
        let open = File::open(&dir)?;
        Ok(Self { dir, open, durable: HashSet::new() })
    }

    /// Makes all of them durable, and their names. After sled's flush: what that has written of
    /// the log points to whole files.
    pub fn sync(&mut self) -> io::Result<()> {
        let mut found = HashSet::new();
        let mut are_new = false;
        rustix::fs::seek(&self.open, SeekFrom::Start(0))?;
        let mut room = Vec::with_capacity(ENTRIES_OCTETS);
        let mut entries = RawDir::new(&self.open, room.spare_capacity_mut());
        while let Some(entry) = entries.next() {
            let name = OsStr::from_bytes(entry?.file_name().to_bytes()).to_owned();
            if name == "." || name == ".." {
                continue;
            }
            if !self.durable.contains(&name) {
                match File::open(self.dir.join(&name)) {
                    Ok(blob) => blob.sync_all()?,
                    // Its page was written anew meanwhile.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                    Err(error) => return Err(error),
                }
                are_new = true;
            }
            found.insert(name);
        }
        if are_new {
            self.open.sync_all()?;
        }
        self.durable = found;
        Ok(())
    }
}
