//! TLS 1.3 for both daemons and their callers: which files it is made of, what is checked of them, and how
//! new ones come into use while connections are open. No session is resumed and no early data is taken, so
//! each connection proves its peer anew (RFC 8446 sections 2.2, 2.3).

mod certificate;
mod current;
mod files;
mod side;
#[cfg(test)]
mod tests;

use std::{
    net::IpAddr,
    path::{Path, PathBuf},
};

pub use certificate::certificate;
pub use current::{Current, Keeper};
pub use files::Material;
pub use rustls::pki_types::ServerName;
use serde::{Deserialize, Serialize};
pub use side::{ClientSide, ServerSide, Side};

/// The files of TLS, all PEM (RFC 7468). An empty path is one that is not set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TlsFiles {
    /// The own certificate, with those between it and the CA behind it.
    pub cert: PathBuf,
    /// Its key; nobody but the owner may read it.
    pub key: PathBuf,
    /// The CAs that certificates of the other side have to be of.
    pub ca: PathBuf,
    /// Lists of what these CAs have revoked.
    pub crl: PathBuf,
}

impl TlsFiles {
    /// True if any is set.
    #[must_use]
    pub fn is_used(&self) -> bool {
        self.all().into_iter().any(|path| set(path).is_some())
    }

    const fn all(&self) -> [&PathBuf; 4] {
        [&self.cert, &self.key, &self.ca, &self.crl]
    }
}

/// True if a URL's host means this host, the only one that is spoken to without TLS. What a name means
/// elsewhere is not looked up: an answer could be anybody's.
#[must_use]
pub fn is_this_host(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

/// A path, if it is set.
fn set(path: &Path) -> Option<&Path> {
    Some(path).filter(|path| !path.as_os_str().is_empty())
}

/// Why the files of TLS cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// One is not named.
    #[error("tls.{0} is not set: name the PEM file")]
    Missing(&'static str),
    /// One cannot be read.
    #[error("{path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What went wrong.
        source: std::io::Error,
    },
    /// Others may read a key.
    #[error(
        "{path} has the mode {mode:03o}, so others than its owner can read the key: chmod 600 it"
    )]
    Open {
        /// The file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// One does not have what it should.
    #[error("{path}: {reason}")]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A certificate and a key do not belong together, or are of no use.
    #[error("{cert} and its key {key} cannot be used: {reason}")]
    Pair {
        /// The file of the certificate.
        cert: PathBuf,
        /// The file of the key.
        key: PathBuf,
        /// Why.
        reason: String,
    },
    /// They are of no use together.
    #[error("the files of TLS cannot be used: {0}")]
    Together(String),
}
