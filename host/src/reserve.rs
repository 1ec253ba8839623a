//! Room that is kept in a file. A look ahead ([`crate::room`]) sees neither quotas nor programs that take the
//! room between the look and the write; what has to be written all the same gets what is kept here.

use std::{
    fs::File,
    io,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
};

use rustix::{
    fs::{FallocateFlags, fallocate},
    io::Errno,
};

use crate::room::Shortage;

/// Room on the disk that nobody else gets.
#[derive(Debug)]
pub struct Reserve {
    dir: PathBuf,
    octets: u64,
    /// None if nothing is kept.
    file: Option<File>,
    /// True if the room is there.
    whole: AtomicBool,
}

impl Reserve {
    /// The reserve in a file of a directory, as it is; see [`Reserve::take`].
    ///
    /// # Errors
    /// If the file cannot be opened.
    pub fn open(dir: &Path, name: &str, octets: u64) -> io::Result<Self> {
        let path = dir.join(name);
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
    #[must_use]
    pub const fn octets(&self) -> u64 {
        self.octets
    }

    /// Whether they are.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.whole.load(Ordering::Acquire)
    }

    /// Takes what of the room is not there, such as in a file that was copied without its zeros.
    ///
    /// # Errors
    /// If the disk does not give it.
    pub fn take(&self) -> Result<(), Shortage> {
        let Some(file) = &self.file else { return Ok(()) };
        let (dir, wanted) = (self.dir.clone(), self.octets);
        let taken = match fallocate(file, FallocateFlags::empty(), 0, wanted) {
            // A file system that keeps no room has none to give up either.
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => {
                tracing::warn!(dir = %dir.display(), "the file system keeps no room");
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
    #[must_use]
    pub fn give(&self) -> bool {
        let Some(file) = self.file.as_ref().filter(|_| self.whole.swap(false, Ordering::AcqRel))
        else {
            return false;
        };
        file.set_len(0).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OCTETS: u64 = 64 * 1024;
    const FILE: &str = "reserve";

    fn open(dir: &Path, octets: u64) -> Reserve {
        Reserve::open(dir, FILE, octets).unwrap()
    }

    fn size(dir: &Path) -> u64 {
        std::fs::metadata(dir.join(FILE)).unwrap().len()
    }

    #[test]
    fn what_is_kept_is_there_until_it_is_given_and_then_again() {
        let dir = tempfile::tempdir().unwrap();
        let reserve = open(dir.path(), OCTETS);
        assert!(!reserve.give(), "it is not there yet");
        assert_eq!((reserve.take(), size(dir.path())), (Ok(()), OCTETS));
        drop(reserve);
        // It outlives the process, for what the next one has to write before it can look.
        let reserve = open(dir.path(), OCTETS);
        assert_eq!((reserve.give(), size(dir.path())), (true, 0));
        assert!(!reserve.give(), "it is given once");
        assert_eq!((reserve.take(), size(dir.path())), (Ok(()), OCTETS));
        let less = open(dir.path(), OCTETS / 2);
        assert_eq!((less.give(), open(dir.path(), 0).give()), (true, false));
    }

    #[test]
    fn a_disk_that_does_not_give_the_room_is_named_and_keeps_nothing_of_it() {
        let dir = tempfile::tempdir().unwrap();
        // Too large for any file: what the disk says to it is what it says when it is full.
        let reserve = open(dir.path(), i64::MAX as u64);
        let short = reserve.take().unwrap_err().to_string();
        assert!(short.contains(&dir.path().display().to_string()), "{short}");
        assert_eq!(size(dir.path()), 0);
    }
}
