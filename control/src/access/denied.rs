//! Why a call is not let through. Each has one gRPC code, and a line that names the function and the way
//! out; none says more of what is there than the caller may know.

use edgesync_core::name::Name;
use tonic::{Code, Status};

use crate::log::WriteError;

/// Why a call is not let through.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// The policy is not there yet.
    #[error(
        "the access policy is not loaded yet, and until it is nobody may do anything: try again"
    )]
    NotLoaded,
    /// There are no credentials.
    #[error(
        "{function} needs credentials: send `authorization: Bearer TOKEN`; `edgesync login` gets a token"
    )]
    NoCredentials {
        /// The function.
        function: &'static str,
    },
    /// There is a password where a token belongs.
    #[error(
        "{function} takes no password: call edgesync.v1.AccessService/Login with it, and send the token \
         that it gives"
    )]
    Password {
        /// The function.
        function: &'static str,
    },
    /// The credentials are not in their form.
    #[error("the credentials have not the form of any: {0}")]
    Malformed(&'static str),
    /// The credentials are not good, or not any more.
    #[error("the token is not known, or has ended: `edgesync login` gets another one")]
    BadToken,
    /// The user or the password is wrong; which of both is not told.
    #[error("the user name or the password is wrong")]
    BadLogin,
    /// They came over a connection on which others can read them.
    #[error(
        "credentials came over a connection that is not encrypted, from another host: change them, and \
         use TLS"
    )]
    Unencrypted,
    /// The principal has no right to it.
    #[error("{principal} may not call {function}{}: {}", place(zone.as_ref()), way_out(zone.as_ref()))]
    NoRight {
        /// The principal.
        principal: String,
        /// The function.
        function: &'static str,
        /// The zone that it is about, if it is about one that the caller has named.
        zone: Option<Name>,
    },
    /// An edge is another one than its certificate says.
    #[error("the certificate is of edge {certificate}, and the Hello is of edge {hello}")]
    OtherEdge {
        /// By the certificate.
        certificate: String,
        /// By its own word.
        hello: String,
    },
    /// An edge may receive nothing of what it asks for.
    #[error(
        "edge {0} may receive none of the zones that it asks for: give it the role edge in them"
    )]
    NoZones(String),
    /// The rights have changed while a stream was open.
    #[error("the rights of {0} have changed: call again")]
    Changed(String),
    /// Too many logins.
    #[error("too many logins: try again later")]
    TooMany {
        /// When.
        retry_after: std::time::Duration,
    },
}

fn place(zone: Option<&Name>) -> String {
    zone.map_or_else(String::new, |zone| format!(" in {zone}"))
}

const fn way_out(zone: Option<&Name>) -> &'static str {
    match zone {
        Some(_) => "an operator can grant a role in that zone",
        None => "an operator can grant the role",
    }
}

impl Denied {
    /// Its code.
    #[must_use]
    pub const fn code(&self) -> Code {
        match self {
            Self::NotLoaded => Code::Unavailable,
            Self::NoCredentials { .. }
            | Self::Password { .. }
            | Self::Malformed(_)
            | Self::BadToken
            | Self::BadLogin
            | Self::Unencrypted => Code::Unauthenticated,
            Self::NoRight { .. } | Self::OtherEdge { .. } | Self::NoZones(_) => {
                Code::PermissionDenied
            }
            Self::Changed(_) => Code::Aborted,
            Self::TooMany { .. } => Code::ResourceExhausted,
        }
    }

    /// As a caller is told.
    #[must_use]
    pub fn status(&self) -> Status {
        match self {
            Self::TooMany { retry_after } => exhausted(&self.to_string(), *retry_after),
            _ => Status::new(self.code(), self.to_string()),
        }
    }
}

/// RESOURCE_EXHAUSTED with the time after which another try makes sense.
#[must_use]
pub fn exhausted(message: &str, retry_after: std::time::Duration) -> Status {
    use tonic_types::{ErrorDetails, StatusExt};
    let details = ErrorDetails::with_retry_info(Some(retry_after));
    Status::with_error_details(Code::ResourceExhausted, message, details)
}

impl From<Denied> for Status {
    fn from(denied: Denied) -> Self {
        denied.status()
    }
}

impl From<Denied> for WriteError {
    fn from(denied: Denied) -> Self {
        Self::NotAllowed(denied.to_string())
    }
}
