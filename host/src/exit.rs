//! How a program ends: one line on what went wrong, and a code that scripts and systemd can tell
//! apart.

use std::{error::Error, io::Write, process::ExitCode};

/// Exit code of a wrong call or configuration (EX_USAGE of sysexits.h): to try again is no use.
pub const USAGE: u8 = 64;
/// Exit code of everything else that went wrong.
pub const RUNTIME: u8 = 1;

/// Why a program ends before its time.
#[derive(Debug)]
pub enum Failure {
    /// It was called or configured wrongly.
    Usage(Box<dyn Error + Send + Sync>),
    /// It could not do its work.
    Runtime(Box<dyn Error + Send + Sync>),
}

impl Failure {
    /// A wrong call or configuration; for `map_err`.
    pub fn usage(error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::Usage(error.into())
    }

    /// Work that could not be done; for `map_err`.
    pub fn runtime(error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::Runtime(error.into())
    }

    /// The exit code.
    #[must_use]
    pub const fn code(&self) -> u8 {
        match self {
            Self::Usage(_) => USAGE,
            Self::Runtime(_) => RUNTIME,
        }
    }

    /// What went wrong, in one line.
    #[must_use]
    pub fn line(&self) -> String {
        match self {
            Self::Usage(error) | Self::Runtime(error) => one_line(error.as_ref()),
        }
    }
}

/// Ends `program`: a failure is one line on stderr, `program: error: …`.
#[must_use]
pub fn report(program: &str, result: Result<(), Failure>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            // Where stderr is closed there is nobody to tell.
            let _ = writeln!(std::io::stderr(), "{program}: error: {}", failure.line());
            ExitCode::from(failure.code())
        }
    }
}

/// An error and all that caused it, in one line. A cause that the line before it told is left out.
#[must_use]
pub fn one_line(error: &(dyn Error + 'static)) -> String {
    let mut line = flat(&error.to_string());
    let mut cause = error.source();
    while let Some(error) = cause {
        let text = flat(&error.to_string());
        if !line.contains(&text) {
            line = format!("{line}: {text}");
        }
        cause = error.source();
    }
    line
}

/// Without line breaks, and without what a terminal would take for its own.
fn flat(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    line.chars().map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("cannot open the store\nin /data")]
    struct Outer(#[source] Middle);

    #[derive(Debug, thiserror::Error)]
    #[error("cannot read `meta`: {0}")]
    struct Middle(#[source] io::Error);

    #[test]
    fn a_failure_is_one_line_with_each_cause_once() {
        let error = Outer(Middle(io::Error::other("disk on fire")));
        let line = Failure::runtime(error).line();
        assert_eq!(line, "cannot open the store in /data: cannot read `meta`: disk on fire");
    }

    #[test]
    fn a_terminal_takes_nothing_of_it_for_a_command() {
        let line = Failure::usage("unknown key `a\x1b[2J\nb`").line();
        assert_eq!(line, "unknown key `a\u{fffd}[2J b`");
    }

    #[test]
    fn a_wrong_call_and_a_failed_run_have_codes_of_their_own() {
        assert_eq!(Failure::usage("no such key").code(), 64);
        assert_eq!(Failure::runtime("no such store").code(), 1);
    }
}
