//! How the command ends: an exit code that scripts can use, and one line on stderr that says what
//! went wrong and what can be done.

use std::{
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
};

use edgesync_host::secret::SecretError;
use tonic::{Code, Status};

use crate::pki::Refusal;

/// How a command that was not refused ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// All is well.
    Done,
    /// What was waited for did not come in time.
    TimedOut,
    /// What was compared is not equal.
    Differs,
}

/// Why a command did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// An argument is wrong.
    #[error("{0}")]
    Usage(String),
    /// There is no connection to the server.
    #[error("cannot connect to {server}: {reason}; {way_out}")]
    Unreachable {
        /// Its URL or socket.
        server: String,
        /// Why not.
        reason: String,
        /// What can be done.
        way_out: String,
    },
    /// The connection, or the server, went away.
    #[error("lost {server}: {reason}; a write that was not answered may still have been done")]
    Lost {
        /// Its URL or socket.
        server: String,
        /// Why.
        reason: String,
    },
    /// The server, or what stands before it, does not take it now.
    #[error("{server} does not take it now: {reason}")]
    NotNow {
        /// Its URL or socket.
        server: String,
        /// Why.
        reason: String,
    },
    /// The server refused.
    #[error("{message}")]
    Refused {
        /// Why, as a code.
        code: Code,
        /// Why, in words.
        message: String,
    },
    /// A place in a file is wrong. It stands at the line's begin, where editors look for it.
    #[error("{file}:{position}: {message}")]
    InFile {
        /// The file.
        file: String,
        /// Line, or line and column, counted from 1.
        position: String,
        /// What is wrong there.
        message: String,
    },
    /// A file cannot be read or written.
    #[error("{}: {source}", file.display())]
    File {
        /// The file.
        file: PathBuf,
        /// What went wrong.
        source: io::Error,
    },
    /// A secret cannot be read.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// A certificate was not made, or a list.
    #[error(transparent)]
    Pki(#[from] Refusal),
    /// The output cannot be written.
    #[error("cannot write the output: {0}")]
    Output(io::Error),
    /// The output's reader has had enough: no failure of ours.
    #[error("the output was closed")]
    OutputClosed,
    /// The runtime cannot be started.
    #[error("cannot start: {0}")]
    Runtime(io::Error),
}

impl Failure {
    /// From what a server answered; `server` names it.
    #[must_use]
    pub fn from_status(status: &Status, server: &str) -> Self {
        // A status with a cause was not sent by the server, but made here of a broken transport.
        if let Some(cause) = std::error::Error::source(status) {
            return Self::Lost { server: server.to_owned(), reason: deepest(cause) };
        }
        let message = match (status.code(), one_line(status.message())) {
            (Code::Unimplemented, _) => {
                format!("{server} does not know this call: is it of this command's version?")
            }
            (code, text) if text.is_empty() => code.description().to_owned(),
            (_, text) => text,
        };
        match status.code() {
            Code::Unavailable => Self::NotNow { server: server.to_owned(), reason: message },
            code => Self::Refused { code, message },
        }
    }

    /// The exit code.
    #[must_use]
    pub const fn code(&self) -> u8 {
        match self {
            Self::OutputClosed => 0,
            Self::Usage(_) => 2,
            Self::Pki(refusal) if refusal.is_usage() => 2,
            Self::Unreachable { .. } | Self::Lost { .. } | Self::NotNow { .. } => 5,
            Self::Secret(_)
            | Self::Refused { .. }
            | Self::InFile { .. }
            | Self::File { .. }
            | Self::Pki(_)
            | Self::Output(_)
            | Self::Runtime(_) => 1,
        }
    }

    /// The line for people, if there is anything to tell.
    fn line(&self) -> Option<String> {
        match self {
            Self::OutputClosed => None,
            Self::InFile { .. } => Some(self.to_string()),
            _ => Some(format!("edgesync: error: {self}")),
        }
    }
}

impl From<io::Error> for Failure {
    /// Of writing the output.
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::OutputClosed,
            _ => Self::Output(error),
        }
    }
}

impl Outcome {
    /// The exit code.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::TimedOut => 3,
            Self::Differs => 4,
        }
    }
}

/// Ends the command.
pub fn exit(result: Result<Outcome, Failure>) -> ExitCode {
    match result {
        Ok(outcome) => ExitCode::from(outcome.code()),
        Err(failure) => {
            if let Some(line) = failure.line() {
                // Where stderr is closed there is nobody to tell.
                let _ = writeln!(io::stderr(), "{line}");
            }
            ExitCode::from(failure.code())
        }
    }
}

/// The cause of all causes, in words.
#[must_use]
pub fn deepest(error: &(dyn std::error::Error + 'static)) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    match error.downcast_ref::<io::Error>().map(io::Error::kind) {
        Some(io::ErrorKind::ConnectionRefused) => "connection refused".to_owned(),
        Some(io::ErrorKind::NotFound) => "no such socket".to_owned(),
        Some(io::ErrorKind::PermissionDenied) => "permission denied".to_owned(),
        Some(io::ErrorKind::TimedOut) => "no answer in time".to_owned(),
        _ => one_line(&error.to_string()),
    }
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn every_end_has_the_exit_code_of_the_help() {
        let refused = Failure::from_status(&Status::not_found("no zone `x.`"), "s");
        assert_eq!(
            (refused.code(), refused.line().unwrap().as_str()),
            (1, "edgesync: error: no zone `x.`")
        );
        assert_eq!(Failure::Usage(String::new()).code(), 2);
        let not_now = Failure::from_status(&Status::unavailable("the store failed: x"), "s");
        assert_eq!(not_now.code(), 5);
        assert_eq!(
            not_now.line().unwrap(),
            "edgesync: error: s does not take it now: the store failed: x"
        );
        let codes = [Outcome::Done, Outcome::TimedOut, Outcome::Differs].map(Outcome::code);
        assert_eq!(codes, [0, 3, 4]);
    }

    #[test]
    fn a_broken_transport_is_no_refusal() {
        let mut status = Status::unknown("transport error");
        status.set_source(Arc::new(io::Error::from(io::ErrorKind::ConnectionRefused)));
        let lost = Failure::from_status(&status, "http://c:1");
        assert_eq!(lost.code(), 5);
        assert!(lost.to_string().starts_with("lost http://c:1: connection refused; "), "{lost}");
        assert_eq!(Failure::from_status(&Status::unknown("odd"), "s").code(), 1);
    }

    #[test]
    fn a_closed_output_is_a_quiet_end() {
        let closed = Failure::from(io::Error::from(io::ErrorKind::BrokenPipe));
        assert_eq!((closed.code(), closed.line()), (0, None));
        assert_eq!(Failure::from(io::Error::from(io::ErrorKind::StorageFull)).code(), 1);
    }

    #[test]
    fn a_place_in_a_file_stands_at_the_begin_of_the_line() {
        let failure = Failure::InFile {
            file: "a.zone".to_owned(),
            position: "3:7".to_owned(),
            message: "no name".to_owned(),
        };
        assert_eq!(failure.line().unwrap(), "a.zone:3:7: no name");
    }

    #[test]
    fn a_message_of_several_lines_is_told_in_one() {
        let refused = Failure::from_status(&Status::invalid_argument("a\n  b"), "s");
        assert_eq!(refused.to_string(), "a b");
        assert_eq!(Failure::from_status(&Status::aborted(""), "s").to_string().lines().count(), 1);
    }
}
