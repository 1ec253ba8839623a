//! Whether a file may grow: what is free on its disk, and the limit on the size of files. A look ahead,
//! so that a daemon refuses or waits before it writes, and nothing is torn; who writes may still be told
//! by the disk that it is full, by a quota, or because another program was faster.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use rustix::process::{Resource, getrlimit};

/// Why a file may not grow, and what can be done: one line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Shortage {
    /// Its disk is nearly full.
    #[error(
        "the disk of {} has {free} octets free, {wanted} have to be: make room on it", dir.display()
    )]
    Disk {
        /// A directory on the disk.
        dir: PathBuf,
        /// Octets that are free.
        free: u64,
        /// Octets that have to be.
        wanted: u64,
    },
    /// The limit on the size of files is near.
    #[error(
        "{} has {octets} octets and may need to grow to {wanted}, files are limited to {limit}: raise \
         the limit (LimitFSIZE= of the unit, or prlimit --fsize)", file.display()
    )]
    FileSize {
        /// The file.
        file: PathBuf,
        /// What it has.
        octets: u64,
        /// What it may come to.
        wanted: u64,
        /// What the limit is.
        limit: u64,
    },
    /// The disk says that it has room, and does not give it: a quota, or another program takes it all.
    #[error(
        "the disk of {} does not give {wanted} octets ({said}): make room on it, or raise the quota",
        dir.display()
    )]
    Withheld {
        /// A directory on the disk.
        dir: PathBuf,
        /// Octets that were asked for.
        wanted: u64,
        /// What was said.
        said: String,
    },
}

/// True if a write has failed for want of room: nothing that was written before is lost by it.
#[must_use]
pub fn is_short(error: &io::Error) -> bool {
    use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded | FileTooLarge)
}

/// Octets that are free on the disk of a directory, for those who are not root; all there can be where
/// the disk does not tell.
#[must_use]
pub fn free(dir: &Path) -> u64 {
    let stat = rustix::fs::statvfs(dir);
    stat.map_or(u64::MAX, |stat| stat.f_bavail.saturating_mul(stat.f_frsize))
}

/// What there is for a file, as it was when it was looked at.
#[derive(Debug, Clone, Copy)]
pub struct Room<'a> {
    dir: &'a Path,
    file: &'a Path,
    free: u64,
    limit: u64,
    octets: u64,
}

impl<'a> Room<'a> {
    /// Looks at a file in a directory, and at that directory's disk.
    #[must_use]
    pub fn look(dir: &'a Path, file: &'a Path) -> Self {
        let octets = fs::metadata(file).map_or(0, |file| file.len());
        let limit = getrlimit(Resource::Fsize).current.unwrap_or(u64::MAX);
        Self { dir, file, free: free(dir), limit, octets }
    }

    /// Octets of the file; 0 if it is not there.
    #[must_use]
    pub const fn octets(&self) -> u64 {
        self.octets
    }

    /// Whether so many octets are free, and the file may come to `length` octets.
    ///
    /// # Errors
    /// If not.
    pub fn check(&self, wanted: u64, length: u64) -> Result<(), Shortage> {
        let Self { free, limit, octets, .. } = *self;
        if free < wanted {
            return Err(Shortage::Disk { dir: self.dir.to_owned(), free, wanted });
        }
        if limit < length {
            let file = self.file.to_owned();
            return Err(Shortage::FileSize { file, octets, wanted: length, limit });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_short_is_named_with_its_place_and_the_way_out() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, "12345").unwrap();
        let room = Room::look(dir.path(), &file);
        assert_eq!((room.octets(), room.check(1, 6)), (5, Ok(())));
        assert!(room.free < u64::MAX);
        let full = Room { free: 9, ..room }.check(10, 6).unwrap_err().to_string();
        let limited = Room { limit: 5, ..room }.check(1, 6).unwrap_err().to_string();
        for (short, place, way_out) in
            [(full, dir.path(), "make room"), (limited, &*file, "LimitFSIZE")]
        {
            assert!(short.contains(&place.display().to_string()), "{short}");
            assert!(short.contains(way_out), "{short}");
            assert_eq!(short.lines().count(), 1);
        }
        assert_eq!(Room { free: 10, limit: 6, ..room }.check(10, 6), Ok(()));
        let nowhere = dir.path().join("nowhere");
        assert_eq!(free(&nowhere), u64::MAX, "it does not tell");
        assert_eq!(Room::look(&nowhere, &nowhere).octets(), 0);
    }

    #[test]
    fn a_full_disk_a_quota_and_a_limit_are_want_of_room_and_a_broken_disk_is_not() {
        use rustix::io::Errno;
        for errno in [Errno::NOSPC, Errno::DQUOT, Errno::FBIG] {
            assert!(is_short(&errno.into()), "{errno}");
        }
        for errno in [Errno::IO, Errno::ROFS, Errno::ACCESS] {
            assert!(!is_short(&errno.into()), "{errno}");
        }
    }
}
