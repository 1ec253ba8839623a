//! Room that is kept for the log in a file beside it. redb trusts its store no more after a write that
//! failed, and a look ahead (`room`) sees neither quotas nor programs that take the room between the look
//! and the write. Then the reserve is given up (`backend`), what is on its way becomes durable as ever, and
//! nothing follows it before the reserve is there again.

use std::{
    fs::File,
    io,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
};

use edgesync_host::room::Shortage;
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
    pub(super) fn give(&self) -> bool {
        let Some(file) = self.file.as_ref().filter(|_| self.whole.swap(false, Ordering::AcqRel))
        else {
            return false;
        };
        metrics::counter!(GIVEN).increment(1);
        tracing::warn!(dir = %self.dir.display(), "the disk is full: the room kept for the log is used");
        file.set_len(0).is_ok()
    }
}

#[cfg(test)]
mod tests {
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
}
