//! Station 6, the breadcrumb: written before the first change of a process is applied, so that a change
//! that kills the daemon is not tried for ever. After three strikes at one offset the daemon starts
//! halted before it, and serves what it has (rule 23).

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
};

use edgesync_core::position::Offset;

use crate::limits::STRIKES;

/// First line of the file.
const HEAD: &str = "edgesync store attempt 1";

/// How often applying what follows an offset was begun and not survived.
#[derive(Debug, Clone)]
pub struct Attempt {
    path: PathBuf,
    /// What the file says.
    known: Option<(Offset, u32)>,
    /// This process has written it.
    begun: bool,
}

impl Attempt {
    /// What earlier processes have left in a data directory. A file that cannot be read says nothing.
    #[must_use]
    pub fn read(data_dir: &Path) -> Self {
        let path = data_dir.join("store.attempt");
        let known = fs::read_to_string(&path).ok().and_then(|text| parse(&text));
        Self { path, known, begun: false }
    }

    /// True if what follows an offset has ended too many processes.
    #[must_use]
    pub fn is_out(&self, offset: Offset) -> bool {
        !self.begun && self.known.is_some_and(|(at, strikes)| at == offset && strikes >= STRIKES)
    }

    /// Says, durably, that what follows an offset is about to be applied; once in a process.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn begin(&mut self, offset: Offset) -> io::Result<()> {
        if self.begun {
            return Ok(());
        }
        let strikes = match self.known {
            Some((at, strikes)) if at == offset => strikes.saturating_add(1),
            _ => 1,
        };
        self.begun = true;
        self.known = Some((offset, strikes));
        let mut file = File::create(&self.path)?;
        write!(file, "{HEAD}\noffset {offset}\nstrikes {strikes}\n")?;
        file.sync_data()
    }

    /// Nothing was wrong: the process ends in order, or a person has looked.
    pub fn clear(&mut self) {
        self.known = None;
        self.begun = false;
        match fs::remove_file(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(file = %self.path.display(), %error, "cannot remove");
            }
            _ => {}
        }
    }
}

fn parse(text: &str) -> Option<(Offset, u32)> {
    let mut lines = text.lines();
    let whole = lines.next()? == HEAD;
    let offset = lines.next()?.strip_prefix("offset ")?.parse().ok()?;
    let strikes = lines.next()?.strip_prefix("strikes ")?.parse().ok()?;
    whole.then_some((Offset(offset), strikes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_processes_that_end_at_one_offset_are_enough() {
        let dir = tempfile::tempdir().unwrap();
        for _ in 0..STRIKES {
            let mut attempt = Attempt::read(dir.path());
            assert!(!attempt.is_out(Offset(5)));
            attempt.begin(Offset(5)).unwrap();
            attempt.begin(Offset(6)).unwrap();
            assert!(!attempt.is_out(Offset(5)), "it is being tried");
        }
        let mut attempt = Attempt::read(dir.path());
        assert!(attempt.is_out(Offset(5)) && !attempt.is_out(Offset(6)));
        attempt.begin(Offset(6)).unwrap();
        assert!(!Attempt::read(dir.path()).is_out(Offset(5)), "it has got on");
        attempt.clear();
        assert!(!dir.path().join("store.attempt").exists());
        fs::write(dir.path().join("store.attempt"), "else").unwrap();
        assert!(!Attempt::read(dir.path()).is_out(Offset::ZERO));
    }
}
