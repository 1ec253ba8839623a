//! Why a command on certificates did nothing, and what can be done.

use std::{
    io,
    path::{Path, PathBuf},
};

use edgesync_host::pki::{CreateError, PkiError, Serial, SubjectError};

/// Why a command on certificates did nothing.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// Nothing is written over, but by `pki renew`.
    #[error(
        "{} is there already and was left as it is; {}",
        file.display(),
        "move it away, choose another directory, or use `pki renew` for a certificate"
    )]
    Exists {
        /// What is there.
        file: PathBuf,
    },
    /// There is no authority.
    #[error(
        "there is no authority in {}; say where it is with --dir, or make one with `edgesync pki init`",
        dir.display()
    )]
    NoAuthority {
        /// Where it was looked for.
        dir: PathBuf,
    },
    /// The authority's time is over.
    #[error(
        "the authority in {} ended at {end}; make another with `edgesync pki init` in a new directory",
        dir.display()
    )]
    Over {
        /// Where it is.
        dir: PathBuf,
        /// When.
        end: String,
    },
    /// A key that others can read.
    #[error(
        "{} can be read by others than its owner (mode {mode:04o}); `chmod 600` it, and think of whom it has been open to",
        file.display()
    )]
    Readable {
        /// The key.
        file: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// A file that is too large to be what it has to be.
    #[error("{} is larger than {limit} octets, so it is no file of `edgesync pki`", file.display())]
    TooLarge {
        /// The file.
        file: PathBuf,
        /// What it may have.
        limit: u64,
    },
    /// A name that the authority's own files have.
    #[error("`{0}` would take the name of one of the authority's own files; choose another")]
    Reserved(String),
    /// Not the file that has to be named.
    #[error("{} does not end in .pem; name the certificate, its key is found beside it", file.display())]
    NoCertificate {
        /// What was named.
        file: PathBuf,
    },
    /// What was revoked is not renewed.
    #[error(
        "{} is revoked (serial {serial}); to trust its owner again, remove it and its key and use `pki issue`",
        file.display()
    )]
    Revoked {
        /// The certificate.
        file: PathBuf,
        /// Its number.
        serial: Serial,
    },
    /// A file is not what it has to be.
    #[error("{}: {source}", file.display())]
    File {
        /// The file.
        file: PathBuf,
        /// Why not.
        source: PkiError,
    },
    /// A file cannot be read or written.
    #[error("{}: {source}", file.display())]
    Io {
        /// The file.
        file: PathBuf,
        /// What went wrong.
        source: io::Error,
    },
    /// A name is none.
    #[error(transparent)]
    Name(#[from] SubjectError),
    /// A certificate or list cannot be made.
    #[error(transparent)]
    Pki(#[from] PkiError),
    /// An authority cannot be made.
    #[error(transparent)]
    Create(#[from] CreateError),
}

impl Refusal {
    /// Of a file, what went wrong with it.
    pub(super) fn io(file: &Path) -> impl FnOnce(io::Error) -> Self {
        let file = file.to_owned();
        move |source| match source.kind() {
            io::ErrorKind::AlreadyExists => Self::Exists { file },
            _ => Self::Io { file, source },
        }
    }

    /// Whether the words of the command are wrong, and not what it found.
    pub const fn is_usage(&self) -> bool {
        matches!(
            self,
            Self::Name(_)
                | Self::Reserved(_)
                | Self::NoCertificate { .. }
                | Self::Create(CreateError::Name(_))
        )
    }
}
