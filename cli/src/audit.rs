//! `edgesync audit …`: reads the audit of a control plane or an edge where it lies, and checks that none
//! of its lines was changed, moved or taken out.

use std::{
    collections::VecDeque,
    path::{Path, PathBuf},
};

use clap::Subcommand;
use edgesync_host::audit::{self, AuditError};
use serde::{Deserialize, Serialize};

use crate::{
    failure::{Failure, Outcome},
    format,
    output::{Printer, Row, Show},
};

/// What to do with an audit.
#[derive(Debug, Subcommand)]
pub enum AuditCommand {
    /// Check the whole chain; exit code 4 if a line is not what was written.
    Verify {
        /// The file: `audit.log` in the data directory of the daemon.
        file: PathBuf,
    },
    /// Show the last entries.
    Tail {
        /// The file: `audit.log` in the data directory of the daemon.
        file: PathBuf,
        /// At most so many.
        #[arg(long, short = 'n', value_name = "N", default_value_t = 20)]
        limit: usize,
    },
}

/// What a check has found.
#[derive(Serialize)]
struct Checked {
    whole: bool,
    entries: u64,
    hash: String,
    reason: String,
}

impl Show for Checked {
    fn show(&self) -> String {
        match self.whole {
            true => format!(
                "{} entries, none of them changed; the hash of them all is {}",
                self.entries, self.hash
            ),
            false => self.reason.clone(),
        }
    }
}

/// An entry, as the file has it.
#[derive(Serialize, Deserialize)]
struct Entry {
    seq: u64,
    time: String,
    who: String,
    peer: String,
    what: String,
    zone: String,
    offset: u64,
    result: String,
    detail: String,
}

impl Row for Entry {
    const HEADER: &'static [&'static str] =
        &["NUMBER", "TIME", "WHO", "FROM", "WHAT", "ZONE", "OFFSET", "RESULT", "DETAIL"];

    fn cells(&self) -> Vec<String> {
        // What a terminal would take for a command, or show in another place, stays escaped.
        let shown = |text: &str| format::or_dash(&text.escape_debug().to_string());
        let what = self.what.rsplit('/').next().unwrap_or(&self.what);
        let offset = if self.offset == 0 { String::new() } else { self.offset.to_string() };
        [&*self.seq.to_string(), &self.time, &self.who, &self.peer, what, &self.zone, &offset]
            .into_iter()
            .chain([&*self.result, &self.detail])
            .map(shown)
            .collect()
    }
}

/// Carries out a command.
///
/// # Errors
/// If the file cannot be read.
pub fn run(command: AuditCommand, printer: &mut Printer) -> Result<Outcome, Failure> {
    match command {
        AuditCommand::Verify { file } => {
            let checked = check(&file)?;
            printer.value(&checked)?;
            Ok(if checked.whole { Outcome::Done } else { Outcome::Differs })
        }
        AuditCommand::Tail { file, limit } => {
            let (entries, read) = tail(&file, limit);
            printer.rows(&entries)?;
            read.map(|()| Outcome::Done)
        }
    }
}

fn check(file: &Path) -> Result<Checked, Failure> {
    let (entries, hash, reason) = match audit::verify(file, |_| {}) {
        Ok(last) => (last.seq, last.hash.to_string(), String::new()),
        Err(AuditError::Io { path, source }) => return Err(Failure::File { file: path, source }),
        Err(broken) => (0, String::new(), broken.to_string()),
    };
    Ok(Checked { whole: reason.is_empty(), entries, hash, reason })
}

/// The last entries before the end, or before the first line that is not what was written.
fn tail(file: &Path, limit: usize) -> (Vec<Entry>, Result<(), Failure>) {
    let mut entries = VecDeque::new();
    let read = audit::verify(file, |line| {
        entries.extend(serde_json::from_str::<Entry>(line).ok());
        if entries.len() > limit {
            entries.pop_front();
        }
    });
    let read = read.map(drop).map_err(|error| match error {
        AuditError::Io { path, source } => Failure::File { file: path, source },
        broken @ AuditError::Broken { .. } => Failure::Usage(broken.to_string()),
    });
    (entries.into(), read)
}

#[cfg(test)]
mod tests {
    use edgesync_host::audit::{Audit, Entry as Added};

    use super::*;

    #[test]
    fn an_audit_is_shown_and_checked_where_it_lies() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("audit.log");
        let mut audit = Audit::open(&file).unwrap();
        for offset in 1..=3 {
            let (who, what) = ("al\u{1b}ice", "edgesync.v1.EdgeService/SkipChangeSet");
            audit.add(&Added { who, what, offset, ..Added::default() }).unwrap();
        }
        let (entries, read) = tail(&file, 2);
        read.unwrap();
        assert_eq!(entries.iter().map(|entry| entry.offset).collect::<Vec<_>>(), [2, 3]);
        assert_eq!(entries[0].cells()[4], "SkipChangeSet");
        assert_eq!(entries[0].cells()[2], "al\\u{1b}ice", "no terminal is written to");
        let checked = check(&file).unwrap();
        assert!(checked.whole && checked.show().starts_with("3 entries"), "{}", checked.show());
        let changed =
            std::fs::read_to_string(&file).unwrap().replace("\"offset\":2", "\"offset\":9");
        std::fs::write(&file, changed).unwrap();
        let checked = check(&file).unwrap();
        assert!(!checked.whole && checked.show().contains(":2: "), "{}", checked.show());
        let (entries, read) = tail(&file, 20);
        assert_eq!((entries.len(), read.is_err()), (1, true));
    }
}
