//! Files of certificates and keys. A key's file is made for its owner alone, before the first octet is in
//! it. Each file is written beside its place, made durable, and renamed.
//!
//! A pair is two files, and no file system renames two at once: both are whole and durable before the
//! key is renamed, and the certificate after it, with nothing in between. A watcher that looks in that
//! moment sees a pair that does not match and has to keep the old one until it looks again. A crash in that moment
//! leaves such a pair; `pki renew` finds it and makes another.

use std::{
    fs::{self, File, Permissions},
    io::{self, Read, Write},
    os::unix::fs::{MetadataExt, PermissionsExt, fchown},
    path::{Path, PathBuf},
};

use edgesync_host::{
    pki::{Pair, Secret},
    secret::is_open_to_others,
};
use tempfile::{Builder, NamedTempFile};

use super::{PEM_OCTETS, refusal::Refusal};

/// A certificate or a list: for all to read.
pub const PUBLIC: u32 = 0o644;
/// A key: for its owner.
pub const PRIVATE: u32 = 0o600;
/// The permissions of a mode, without the file's kind.
const PERMISSIONS: u32 = 0o7777;

/// A file that is whole and durable, beside its place.
pub struct Staged {
    path: PathBuf,
    file: NamedTempFile,
}

impl Staged {
    /// Writes a file beside its place. It belongs to the owner of what is in its place now, so that a
    /// daemon can read what root has renewed.
    pub fn write(path: &Path, text: &str, mode: u32) -> Result<Self, Refusal> {
        let file = Self::try_write(path, text, mode).map_err(Refusal::io(path))?;
        Ok(Self { path: path.to_owned(), file })
    }

    fn try_write(path: &Path, text: &str, mode: u32) -> io::Result<NamedTempFile> {
        // Made with mode 0600; a public file is opened to others when it is whole.
        let mut builder = Builder::new();
        builder.prefix(".edgesync-").permissions(Permissions::from_mode(PRIVATE));
        let mut file = builder.tempfile_in(folder(path))?;
        file.write_all(text.as_bytes())?;
        if let Ok(old) = path.symlink_metadata() {
            let new = file.as_file().metadata()?;
            if (old.uid(), old.gid()) != (new.uid(), new.gid()) {
                fchown(file.as_file(), Some(old.uid()), Some(old.gid()))?;
            }
        }
        file.as_file().set_permissions(Permissions::from_mode(mode))?;
        file.as_file().sync_all()?;
        Ok(file)
    }

    /// Takes its place, whatever is there.
    pub fn replace(self) -> Result<(), Refusal> {
        let Self { path, file } = self;
        file.persist(&path).map(drop).map_err(|error| Refusal::io(&path)(error.error))
    }

    /// Takes its place, if nothing is there.
    pub fn place(self) -> Result<(), Refusal> {
        let Self { path, file } = self;
        file.persist_noclobber(&path).map(drop).map_err(|error| Refusal::io(&path)(error.error))
    }
}

/// A certificate's file and that of its key.
pub struct PairFiles {
    /// The certificate.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

impl PairFiles {
    /// Refuses to go on where one of them is there.
    pub fn check_free(&self) -> Result<(), Refusal> {
        let found = [&self.certificate, &self.key].into_iter().find(|path| is_taken(path));
        found.map_or(Ok(()), |file| Err(Refusal::Exists { file: file.clone() }))
    }

    /// Writes a pair where nothing is.
    pub fn create(&self, pair: &Pair) -> Result<(), Refusal> {
        self.check_free()?;
        let (key, certificate) = self.stage(pair)?;
        key.place()?;
        certificate.place()?;
        sync_folder(&self.certificate)
    }

    /// Writes a pair in the place of another.
    pub fn replace(&self, pair: &Pair) -> Result<(), Refusal> {
        let (key, certificate) = self.stage(pair)?;
        key.replace()?;
        certificate.replace()?;
        sync_folder(&self.certificate)
    }

    fn stage(&self, pair: &Pair) -> Result<(Staged, Staged), Refusal> {
        let key = Staged::write(&self.key, pair.key.expose(), PRIVATE)?;
        Ok((key, Staged::write(&self.certificate, &pair.certificate, PUBLIC)?))
    }
}

/// Reads a file of text that has at most so many octets.
pub fn read(path: &Path, limit: u64) -> Result<String, Refusal> {
    let file = File::open(path).map_err(Refusal::io(path))?;
    read_open(path, &file, limit)
}

/// Reads a key, if nobody but its owner can.
pub fn read_key(path: &Path) -> Result<Secret, Refusal> {
    let file = File::open(path).map_err(Refusal::io(path))?;
    // Of the file that is open: another may be in its place by now.
    let mode = file.metadata().map_err(Refusal::io(path))?.mode() & PERMISSIONS;
    if is_open_to_others(path, mode) {
        return Err(Refusal::Readable { file: path.to_owned(), mode });
    }
    read_open(path, &file, PEM_OCTETS).map(Secret::new)
}

fn read_open(path: &Path, file: &File, limit: u64) -> Result<String, Refusal> {
    let mut text = String::new();
    file.take(limit.saturating_add(1)).read_to_string(&mut text).map_err(Refusal::io(path))?;
    if u64::try_from(text.len()).is_ok_and(|octets| octets <= limit) {
        Ok(text)
    } else {
        Err(Refusal::TooLarge { file: path.to_owned(), limit })
    }
}

/// Makes a directory, for its owner alone, unless it is there.
pub fn make_dir(dir: &Path) -> Result<(), Refusal> {
    use std::os::unix::fs::DirBuilderExt;
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(dir);
    made.map_err(|source| Refusal::Io { file: dir.to_owned(), source })
}

/// Makes the names of a file's directory durable.
pub fn sync_folder(path: &Path) -> Result<(), Refusal> {
    let folder = folder(path);
    File::open(folder).and_then(|dir| dir.sync_all()).map_err(Refusal::io(folder))
}

/// Keeps other commands from the authority until the value is dropped. What they hold is its
/// certificate, which is never replaced.
pub fn lock(certificate: &Path) -> Result<File, Refusal> {
    let file = File::open(certificate).map_err(Refusal::io(certificate))?;
    file.lock().map_err(Refusal::io(certificate))?;
    Ok(file)
}

fn is_taken(path: &Path) -> bool {
    // A link that leads nowhere is something too.
    path.symlink_metadata().is_ok()
}

fn folder(path: &Path) -> &Path {
    path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."))
}
