//! The lock of a data directory: two processes must never write to one store. It is an flock, so
//! that the kernel takes it back when its holder dies, however it dies.

use std::{
    fs::{DirBuilder, File, OpenOptions, TryLockError},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    process,
};

/// Name of the lock's file in the directory.
const FILE: &str = "lock";

/// Why a data directory was not locked.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// It is not there and cannot be made.
    #[error("cannot create the data directory {}: {source}", dir.display())]
    Create {
        /// The directory.
        dir: PathBuf,
        /// What went wrong.
        source: io::Error,
    },
    /// The lock's file cannot be opened or written.
    #[error("cannot use {}: {source}; this user needs to be able to write to it", file.display())]
    Use {
        /// The file.
        file: PathBuf,
        /// What went wrong.
        source: io::Error,
    },
    /// Another process has it.
    #[error(
        "the data directory {} is in use by {}; stop that, or choose another with --data-dir",
        dir.display(),
        holder.map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}"))
    )]
    Held {
        /// The directory.
        dir: PathBuf,
        /// Id of the process that has it, if it could be read.
        holder: Option<u32>,
    },
}

/// A data directory that is this process's alone, until the value is dropped.
#[derive(Debug)]
pub struct DirLock {
    dir: PathBuf,
    _file: File,
}

impl DirLock {
    /// Locks a directory. One that is not there is made, for this user alone.
    ///
    /// # Errors
    /// If it cannot be made or written to, or another process has it.
    pub fn take(dir: &Path) -> Result<Self, LockError> {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(dir);
        made.map_err(|source| LockError::Create { dir: dir.to_owned(), source })?;
        let path = dir.join(FILE);
        let failed = |source| LockError::Use { file: path.clone(), source };
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let mut file = options.open(&path).map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(LockError::Held { dir: dir.to_owned(), holder: holder(&mut file) });
            }
            Err(TryLockError::Error(source)) => return Err(failed(source)),
        }
        // Written over what is there: a full disk has no room for a new block.
        let name = format!("{}\n", process::id());
        let named = file.write_all(name.as_bytes()).and_then(|()| file.set_len(name.len() as u64));
        named.map_err(failed)?;
        Ok(Self { dir: dir.to_owned(), _file: file })
    }

    /// The directory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }
}

/// Who holds the lock, by what it wrote into the file.
fn holder(file: &mut File) -> Option<u32> {
    let mut text = String::new();
    file.take(32).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt};

    use super::*;

    #[test]
    fn a_second_holder_is_refused_by_name_until_the_first_lets_go() {
        let parent = tempfile::tempdir().unwrap();
        let dir = parent.path().join("data");
        let first = DirLock::take(&dir).unwrap();
        let refused = DirLock::take(&dir).unwrap_err().to_string();
        for part in
            [&dir.display().to_string(), &format!("process {}", process::id()), "--data-dir"]
        {
            assert!(refused.contains(part), "{refused}");
        }
        assert_eq!(refused.lines().count(), 1);
        drop(first);
        assert!(DirLock::take(&dir).is_ok());
    }

    #[test]
    fn a_new_directory_is_for_its_owner_alone() {
        let parent = tempfile::tempdir().unwrap();
        let dir = parent.path().join("a/b");
        let _lock = DirLock::take(&dir).unwrap();
        assert_eq!(fs::metadata(&dir).unwrap().permissions().mode() & 0o777, 0o700);
    }

    #[test]
    fn the_pid_of_a_former_holder_leaves_no_trace() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(FILE), "99999999999999\n").unwrap();
        let _lock = DirLock::take(dir.path()).unwrap();
        let text = fs::read_to_string(dir.path().join(FILE)).unwrap();
        assert_eq!(text, format!("{}\n", process::id()));
    }

    #[test]
    fn a_directory_that_cannot_be_made_is_named() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("file"), "").unwrap();
        let below = dir.path().join("file/data");
        let refused = DirLock::take(&below).unwrap_err();
        assert!(matches!(refused, LockError::Create { .. }), "{refused}");
        assert!(refused.to_string().contains("file/data"));
    }
}
