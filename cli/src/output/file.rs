//! Where exported text goes: to stdout, or to a file that is there whole or not at all.

use std::{
    fs::{File, OpenOptions, Permissions},
    io::{self, BufWriter, Write},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use tempfile::{Builder, NamedTempFile};

use crate::failure::Failure;

/// A file that text is written to. A regular file appears, or is replaced, when all is written.
#[derive(Debug)]
pub struct TextFile {
    path: PathBuf,
    out: Target,
}

#[derive(Debug)]
enum Target {
    /// Beside the path until it is whole.
    Whole(BufWriter<NamedTempFile>),
    /// A pipe or a device: nothing to put in its place.
    Special(BufWriter<File>),
}

impl TextFile {
    /// Begins to write to `path`.
    ///
    /// # Errors
    /// If nothing can be written there.
    pub fn create(path: &Path) -> Result<Self, Failure> {
        // A link stays a link: what it points to is replaced.
        let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        let out =
            Self::open(&path).map_err(|source| Failure::File { file: path.clone(), source })?;
        Ok(Self { path, out })
    }

    fn open(path: &Path) -> io::Result<Target> {
        if path.metadata().is_ok_and(|found| !found.is_file()) {
            let file = OpenOptions::new().write(true).open(path)?;
            return Ok(Target::Special(BufWriter::new(file)));
        }
        let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty());
        let mut builder = Builder::new();
        builder.prefix(".edgesync-").permissions(Permissions::from_mode(0o666));
        let file = builder.tempfile_in(dir.unwrap_or_else(|| Path::new(".")))?;
        Ok(Target::Whole(BufWriter::new(file)))
    }

    /// Writes text.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn write(&mut self, text: &str) -> Result<(), Failure> {
        let written = match &mut self.out {
            Target::Whole(out) => out.write_all(text.as_bytes()),
            Target::Special(out) => out.write_all(text.as_bytes()),
        };
        written.map_err(|source| Failure::File { file: self.path.clone(), source })
    }

    /// All is written: the file takes its place, durably.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn finish(self) -> Result<(), Failure> {
        let finished = match self.out {
            Target::Whole(out) => out.into_inner().map_err(io::Error::from).and_then(|file| {
                file.as_file().sync_all()?;
                file.persist(&self.path).map(drop).map_err(io::Error::from)
            }),
            Target::Special(mut out) => out.flush(),
        };
        finished.map_err(|source| Failure::File { file: self.path.clone(), source })
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, io::Read, os::unix::fs::FileTypeExt, process::Command};

    use super::*;

    #[test]
    fn a_file_keeps_its_old_text_until_the_new_one_is_whole() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("zone");
        fs::write(&path, "old").unwrap();
        let mut broken = TextFile::create(&path).unwrap();
        broken.write("half").unwrap();
        drop(broken);
        assert_eq!(fs::read_to_string(&path).unwrap(), "old");
        let mut whole = TextFile::create(&path).unwrap();
        whole.write("new").unwrap();
        whole.finish().unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "new");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    /// On a pipe of its own: a failure of this test must not replace a device of the host.
    #[test]
    fn a_pipe_is_written_to_and_not_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pipe");
        assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
        // Open for reading and writing, so that neither side waits for the other.
        let mut pipe = OpenOptions::new().read(true).write(true).open(&path).unwrap();
        let mut out = TextFile::create(&path).unwrap();
        out.write("text").unwrap();
        out.finish().unwrap();
        assert!(path.metadata().unwrap().file_type().is_fifo());
        let mut text = [0; 4];
        pipe.read_exact(&mut text).unwrap();
        assert_eq!(&text, b"text");
    }

    #[test]
    fn a_place_that_is_not_there_is_named() {
        let failure = TextFile::create(Path::new("/nowhere/zone")).unwrap_err();
        assert!(failure.to_string().starts_with("/nowhere/zone: "), "{failure}");
    }
}
