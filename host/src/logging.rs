//! Logs: one compact line an event, on stderr, where systemd and containers expect them.

use std::{
    env,
    io::{self, IsTerminal},
};

use tracing_subscriber::{EnvFilter, fmt::time::SystemTime, util::SubscriberInitExt};

/// The variable that says what is logged.
pub const VARIABLE: &str = "EDGESYNC_LOG";

/// Why logging cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum LoggingError {
    /// The variable's value cannot be read.
    #[error(
        "{VARIABLE}=`{value}` is no filter: {reason}; write `info`, or `warn,edgesync_core=debug`"
    )]
    Filter {
        /// What it is.
        value: String,
        /// What is wrong with it.
        reason: String,
    },
    /// There is a logger already.
    #[error("logging has begun already")]
    Twice,
}

/// Begins to log to stderr: what `EDGESYNC_LOG` says, else from `info` on. Colours only for a
/// terminal; no time where the journal keeps it anyway.
///
/// # Errors
/// If the variable's value is no filter.
pub fn init() -> Result<(), LoggingError> {
    let filter = filter(env::var(VARIABLE).ok().as_deref())?;
    let lines = tracing_subscriber::fmt()
        .compact()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal());
    let begun = if env::var_os("JOURNAL_STREAM").is_some() {
        lines.without_time().finish().try_init()
    } else {
        lines.with_timer(SystemTime).finish().try_init()
    };
    begun.map_err(|_| LoggingError::Twice)
}

fn filter(value: Option<&str>) -> Result<EnvFilter, LoggingError> {
    let value = value.filter(|value| !value.trim().is_empty()).unwrap_or("info");
    EnvFilter::builder().parse(value).map_err(|error| LoggingError::Filter {
        value: value.to_owned(),
        reason: error.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_filter_is_info_unless_said_otherwise() {
        assert_eq!(filter(None).unwrap().to_string(), "info");
        assert_eq!(filter(Some(" ")).unwrap().to_string(), "info");
        assert_eq!(filter(Some("warn,edgesync_core=debug")).unwrap().to_string().len(), 24);
    }

    #[test]
    fn a_value_that_is_no_filter_is_refused_by_name() {
        let refused = filter(Some("edgesync=loud")).unwrap_err().to_string();
        assert!(refused.contains("EDGESYNC_LOG") && refused.contains("edgesync=loud"), "{refused}");
    }
}
