//! Station 6, blobs: sled writes a page of more than about 128 KiB into a file of its own and never
//! syncs it. A few large records that are neighbours make such a page, though each of them is smaller
//! (rule 6); so these files are made durable here, before anything that is in them is acked.

use std::{
    collections::HashSet,
    ffi::OsString,
    fs::{self, File},
    io,
    path::PathBuf,
};

/// The files that sled has put pages into.
#[derive(Debug)]
pub(super) struct Blobs {
    dir: PathBuf,
    /// Those that are durable; a file is written once, and not changed until it is removed.
    durable: HashSet<OsString>,
}

impl Blobs {
    /// In sled's directory. What is found there may have been written by a process that was killed,
    /// and counts as not durable.
    pub fn of(dir: PathBuf) -> Self {
        Self { dir, durable: HashSet::new() }
    }

    /// Makes all of them durable, and their names. After sled's flush: what that has written of
    /// the log points to whole files.
    pub fn sync(&mut self) -> io::Result<()> {
        let mut found = HashSet::new();
        let mut are_new = false;
        for entry in fs::read_dir(&self.dir)? {
            let name = entry?.file_name();
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
            File::open(&self.dir)?.sync_all()?;
        }
        self.durable = found;
        Ok(())
    }
}
