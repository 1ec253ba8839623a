//! Text that nobody is to see: passwords, tokens, keys. It is wiped from memory when it is dropped (what
//! libraries copy of it is theirs), has no `Display`, its `Debug` shows nothing, and it
//! comes from files, the environment or stdin only: what stands in arguments, all users of a host can
//! read.

use std::{
    fmt, fs,
    io::{self, Read},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use rustix::process::{Resource, Rlimit, setrlimit};
use zeroize::Zeroizing;

/// Octets of the longest secret.
const SECRET_OCTETS: u64 = 4_096;
/// Mode bits of a file that others than its owner can use, and those of them that are not its group.
const OTHERS: u32 = 0o077;
const WORLD: u32 = 0o037;
/// Where systemd says that it has put a service's credentials (systemd.exec(5)).
const CREDENTIALS: &str = "CREDENTIALS_DIRECTORY";

/// True if others than the owner of a file can use it; `mode` is that of the open file. What systemd gives to a
/// service lies in a directory that nobody else can enter, and has the service's user in an access list, which shows
/// as rights of the group.
#[must_use]
pub fn is_open_to_others(path: &Path, mode: u32) -> bool {
    let credentials = std::env::var_os(CREDENTIALS).map(PathBuf::from);
    is_open(path, mode, credentials.as_deref())
}

fn is_open(path: &Path, mode: u32, credentials: Option<&Path>) -> bool {
    let is_given = credentials.is_some_and(|dir| dir.is_absolute() && path.parent() == Some(dir));
    mode & if is_given { WORLD } else { OTHERS } != 0
}

/// Keeps what is in the memory of this process out of core dumps, whatever the host would make of one.
///
/// # Errors
/// If the host does not let it.
pub fn no_core_dumps() -> io::Result<()> {
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    Ok(setrlimit(Resource::Core, none)?)
}

/// A password, a token or a key.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Zeroizing<String>);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// Why a secret is not read.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The file cannot be read.
    #[error("cannot read the secret in {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What went wrong.
        source: io::Error,
    },
    /// Others can read the file.
    #[error("{} can be read by others (mode {mode:03o}): `chmod 600` it", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// There is nothing in it, or too much, or more than a line.
    #[error("{from} has no secret of one line and at most {SECRET_OCTETS} octets")]
    Form {
        /// Where it was to come from.
        from: String,
    },
}

impl Secret {
    /// A secret.
    #[must_use]
    pub fn new(text: String) -> Self {
        Self(Zeroizing::new(text))
    }

    /// The text, for where it is checked or sent.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Reads the one line of a file that its owner alone can read; `-` is stdin.
    ///
    /// # Errors
    /// If it cannot be read, others can read it, or it is not one line.
    pub fn read(path: &Path) -> Result<Self, SecretError> {
        let failed = |source| SecretError::Read { path: path.to_owned(), source };
        if path == Path::new("-") {
            return Self::from_reader(io::stdin().lock(), "stdin").map_err(|error| match error {
                Failed::Io(source) => failed(source),
                Failed::Form(from) => SecretError::Form { from },
            });
        }
        let file = fs::File::open(path).map_err(failed)?;
        let mode = file.metadata().map_err(failed)?.mode() & 0o777;
        if is_open_to_others(path, mode) {
            return Err(SecretError::Open { path: path.to_owned(), mode });
        }
        let name = path.display().to_string();
        Self::from_reader(file, &name).map_err(|error| match error {
            Failed::Io(source) => failed(source),
            Failed::Form(from) => SecretError::Form { from },
        })
    }

    fn from_reader(reader: impl Read, from: &str) -> Result<Self, Failed> {
        let mut text = String::new();
        reader.take(SECRET_OCTETS + 1).read_to_string(&mut text).map_err(Failed::Io)?;
        let line = text.strip_suffix('\n').unwrap_or(&text);
        let line = line.strip_suffix('\r').unwrap_or(line);
        let good = !line.is_empty()
            && text.len() as u64 <= SECRET_OCTETS
            && !line.contains(['\n', '\r', '\0']);
        if good { Ok(Self::new(line.to_owned())) } else { Err(Failed::Form(from.to_owned())) }
    }
}

enum Failed {
    Io(io::Error),
    Form(String),
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_secret_is_one_line_of_a_file_that_its_owner_alone_can_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret");
        let write = |text: &str, mode| {
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            Secret::read(&path).map(|secret| secret.expose().to_owned())
        };
        assert_eq!(write("hunter 2\n", 0o600).unwrap(), "hunter 2");
        assert_eq!(write("hunter2", 0o400).unwrap(), "hunter2");
        for (text, mode) in [("x", 0o640), ("x", 0o604), ("", 0o600), ("a\nb\n", 0o600)] {
            assert!(write(text, mode).is_err(), "{text:?} {mode:o}");
        }
        assert!(write(&"x".repeat(5_000), 0o600).is_err());
        assert!(Secret::read(&dir.path().join("none")).is_err());
    }

    #[test]
    fn what_systemd_gives_may_have_the_rights_of_an_access_list() {
        let given = Some(Path::new("/run/credentials/a.service"));
        let key = Path::new("/run/credentials/a.service/key");
        for (path, mode, credentials, open) in [
            (key, 0o440, given, false),
            (key, 0o400, None, false),
            (key, 0o440, None, true),
            (key, 0o444, given, true),
            (key, 0o460, given, true),
            (Path::new("/etc/key"), 0o440, given, true),
            (Path::new("key"), 0o440, Some(Path::new("")), true),
        ] {
            assert_eq!(is_open(path, mode, credentials), open, "{path:?} {mode:o} {credentials:?}");
        }
    }

    #[test]
    fn a_secret_shows_nothing_of_itself() {
        let secret = Secret::new("hunter2".to_owned());
        assert_eq!(format!("{secret:?} {:?}", Some(&secret)), "Secret Some(Secret)");
    }
}
