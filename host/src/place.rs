//! Whether an open file still stands under its name. One that was removed, renamed or replaced can be
//! written and synced as before, and nobody will ever find what was written.

use std::{
    fs::{self, File, Metadata},
    io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

/// The place of an open file.
#[derive(Debug, Clone)]
pub struct Place {
    path: PathBuf,
    identity: (u64, u64),
}

fn identity(metadata: &Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}

impl Place {
    /// The place of a file that was opened under a name.
    ///
    /// # Errors
    /// If the host does not say which file it is.
    pub fn of(path: &Path, file: &File) -> io::Result<Self> {
        Ok(Self { path: path.to_owned(), identity: identity(&file.metadata()?) })
    }

    /// Looks whether the file is still there; costs about a microsecond.
    ///
    /// # Errors
    /// If it is not, or that cannot be told; says which file in one line.
    pub fn check(&self) -> io::Result<()> {
        let path = self.path.display();
        let gone =
            |kind, what: &str| io::Error::new(kind, format!("{path} was {what} while in use"));
        match fs::metadata(&self.path) {
            Ok(found) if identity(&found) == self.identity => Ok(()),
            Ok(_) => Err(gone(io::ErrorKind::AlreadyExists, "replaced by another file")),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Err(gone(io::ErrorKind::NotFound, "removed"))
            }
            Err(error) => Err(io::Error::new(error.kind(), format!("{path}: {error}"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_gone_renamed_or_replaced_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let (path, other) = (dir.path().join("file"), dir.path().join("other"));
        let mut file = File::create(&path).unwrap();
        let place = Place::of(&path, &file).unwrap();
        place.check().unwrap();
        io::Write::write_all(&mut file, b"more").unwrap();
        place.check().unwrap();
        fs::rename(&path, &other).unwrap();
        let gone = place.check().unwrap_err().to_string();
        assert!(gone.contains("file was removed") && !gone.contains('\n'), "{gone}");
        fs::write(&path, "").unwrap();
        let replaced = place.check().unwrap_err().to_string();
        assert!(replaced.contains("replaced"), "{replaced}");
        fs::rename(&other, &path).unwrap();
        place.check().unwrap();
        fs::remove_dir_all(dir.path()).unwrap();
        assert_eq!(place.check().unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
