//! Certificates for those who have no authority of their own: an authority with its key, the
//! certificates that it issues, and its list of those that it has revoked. All of it is text in memory;
//! who calls reads and writes the files. Keys are ECDSA P-256, made here and shown to nobody.

mod authority;
mod issued;
mod revoked;
mod subject;

use std::{
    fmt,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

pub use crate::secret::Secret;
use rcgen::ExtendedKeyUsagePurpose;
use time::OffsetDateTime;
use x509_parser::{pem::parse_x509_pem, time::ASN1Time};

pub use self::{
    authority::{Authority, CreateError, self_signed},
    issued::Issued,
    revoked::{MAX_REVOKED, Revocations, Revoked, Serial, SerialError},
    subject::{Subject, SubjectError},
};

/// A certificate begins so long before it is made: clocks of peers may be behind.
pub const SKEW: Duration = Duration::from_secs(5 * 60);

/// Why there is no certificate or list.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    /// Text that has to be a certificate, a key or a list is none.
    #[error("this is no {what} in PEM form: {reason}")]
    Unreadable {
        /// What it has to be.
        what: &'static str,
        /// Why it is none.
        reason: String,
    },
    /// A certificate that has to be an authority's is another's.
    #[error("this certificate is no authority's: it may not sign others")]
    NoAuthority,
    /// The authority's key is another's.
    #[error(
        "the key is not that of the certificate; put the two that were made together side by side"
    )]
    OtherKey,
    /// Something that another authority has signed.
    #[error("this {what} was not signed by this authority; is it the right directory?")]
    NotOurs {
        /// What it is.
        what: &'static str,
    },
    /// A certificate with something that is never issued here.
    #[error("this certificate has {0}, which is never issued here")]
    Foreign(&'static str),
    /// A certificate that would end before it begins, or at a time that cannot be written.
    #[error(
        "a certificate would not be valid at any time; give it more days, or renew the authority"
    )]
    NoTime,
    /// The list is full.
    #[error(
        "the list has {MAX_REVOKED} certificates, and no more are taken; begin a new authority"
    )]
    TooMany,
    /// What the library says of a name, a key or a signature.
    #[error("cannot make a certificate: {0}")]
    Library(#[from] rcgen::Error),
}

/// What a certificate may be used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// To be called by its names.
    Server,
    /// To call.
    Client,
}

impl Purpose {
    const fn usage(self) -> ExtendedKeyUsagePurpose {
        match self {
            Self::Server => ExtendedKeyUsagePurpose::ServerAuth,
            Self::Client => ExtendedKeyUsagePurpose::ClientAuth,
        }
    }
}

impl fmt::Display for Purpose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Server => "server",
            Self::Client => "client",
        })
    }
}

/// A certificate and its key.
#[derive(Clone, Debug)]
pub struct Pair {
    /// The certificate as PEM. It stands alone: the authority signs it directly, so there is no chain.
    pub certificate: String,
    /// Its key.
    pub key: Secret,
}

/// A moment as certificates have it, which is to the second.
fn written(moment: SystemTime) -> Result<OffsetDateTime, PkiError> {
    let since = moment.duration_since(UNIX_EPOCH).map_err(|_| PkiError::NoTime)?.as_secs();
    let seconds = i64::try_from(since).map_err(|_| PkiError::NoTime)?;
    OffsetDateTime::from_unix_timestamp(seconds).map_err(|_| PkiError::NoTime)
}

/// A moment of a certificate. What lies before 1970 is as good as 1970: long ago.
fn read(moment: ASN1Time) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(u64::try_from(moment.timestamp()).unwrap_or(0))
}

/// The octets of the first block of PEM text, which has to be of this kind.
fn octets(text: &str, label: &str, what: &'static str) -> Result<Vec<u8>, PkiError> {
    let unreadable = |reason| PkiError::Unreadable { what, reason };
    let (_, pem) = parse_x509_pem(text.as_bytes()).map_err(|error| match error {
        x509_parser::nom::Err::Error(error) | x509_parser::nom::Err::Failure(error) => {
            unreadable(error.to_string())
        }
        x509_parser::nom::Err::Incomplete(_) => unreadable("it is cut off".to_owned()),
    })?;
    if pem.label == label {
        Ok(pem.contents)
    } else {
        Err(unreadable(format!("it is a {}", pem.label)))
    }
}

#[cfg(test)]
mod tests;
