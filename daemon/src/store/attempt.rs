//! Station 6, the breadcrumb: written before the first change of a process is applied, so that a change
//! that kills the daemon is not tried for ever. After three strikes at one offset the daemon starts
//! halted before it, and serves what it has (rule 23).
//!
//! Many sets share a sync, and a process that dies leaves none of them: it may have died of any. So where a process
//! has died at the very offset that the next one begins at, this one goes *step by step*: it makes each set
//! durable, and rewrites the breadcrumb, before it applies the next. What then kills is what the breadcrumb
//! is before, and is struck alone. A process that dies of something else and has got on costs nothing.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
};

use edgesync_core::position::Offset;

use crate::limits::{STRIKES, SYNC_CHANGES};

/// First line of the file.
const HEAD: &str = "edgesync store attempt 1";

/// How often applying what follows an offset was begun and not survived.
#[derive(Debug, Clone)]
pub struct Attempt {
    path: PathBuf,
    /// What the file says.
    known: Option<(Offset, u32)>,
    /// What this process has written last.
    begun: Option<Offset>,
    /// Changes that are still to be applied step by step. What killed began before so many: no more share a sync.
    steps: usize,
}

impl Attempt {
    /// What earlier processes have left in a data directory. A file that cannot be read says nothing.
    #[must_use]
    pub fn read(data_dir: &Path) -> Self {
        let path = data_dir.join("store.attempt");
        let known = fs::read_to_string(&path).ok().and_then(|text| parse(&text));
        Self { path, known, begun: None, steps: 0 }
    }

    /// True if what follows an offset has ended too many processes.
    #[must_use]
    pub fn is_out(&self, offset: Offset) -> bool {
        self.begun.is_none()
            && self.known.is_some_and(|(at, strikes)| at == offset && strikes >= STRIKES)
    }

    /// True if what is applied is to be durable, and the breadcrumb written, before the next is.
    #[must_use]
    pub const fn is_step_by_step(&self) -> bool {
        self.steps > 0
    }

    /// So many changes are durable and have killed nobody.
    pub const fn survived(&mut self, changes: usize) {
        self.steps = self.steps.saturating_sub(changes);
    }

    /// Says, durably, that what follows an offset is about to be applied: once in a process, or step by step.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn begin(&mut self, offset: Offset) -> io::Result<()> {
        let is_first = self.begun.is_none();
        if !is_first && !self.is_step_by_step() || self.begun == Some(offset) {
            return Ok(());
        }
        let strikes = match self.known {
            Some((at, strikes)) if at == offset => {
                self.steps = SYNC_CHANGES;
                strikes.saturating_add(1)
            }
            _ => 1,
        };
        self.begun = Some(offset);
        self.known = Some((offset, strikes));
        let mut file = File::create(&self.path)?;
        write!(file, "{HEAD}\noffset {offset}\nstrikes {strikes}\n")?;
        file.sync_data()
    }

    /// Nothing was wrong: the process ends in order, or a person has looked.
    pub fn clear(&mut self) {
        (self.known, self.begun, self.steps) = (None, None, 0);
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
            assert!(!attempt.is_out(Offset(5)), "it is being tried");
        }
        let mut attempt = Attempt::read(dir.path());
        assert!(attempt.is_out(Offset(5)) && !attempt.is_out(Offset(6)));
        assert!(!attempt.is_step_by_step());
        attempt.begin(Offset(6)).unwrap();
        assert!(!Attempt::read(dir.path()).is_out(Offset(5)), "it has got on");
        attempt.clear();
        assert!(!dir.path().join("store.attempt").exists());
        fs::write(dir.path().join("store.attempt"), "else").unwrap();
        assert!(!Attempt::read(dir.path()).is_out(Offset::ZERO));
    }

    #[test]
    fn where_a_process_has_died_the_next_goes_step_by_step_and_only_there() {
        let dir = tempfile::tempdir().unwrap();
        let begin = |at: u64| {
            let mut attempt = Attempt::read(dir.path());
            attempt.begin(Offset(at)).unwrap();
            attempt
        };
        let known = || Attempt::read(dir.path()).known.unwrap();
        let mut first = begin(5);
        first.begin(Offset(6)).unwrap();
        assert_eq!(known(), (Offset(5), 1), "an ordinary run writes once");
        assert!(!begin(9).is_step_by_step(), "the one before has got on");
        let mut again = begin(9);
        assert_eq!((again.is_step_by_step(), known()), (true, (Offset(9), 2)));
        again.begin(Offset(9)).unwrap();
        assert_eq!(known(), (Offset(9), 2), "one process is one strike");
        again.survived(1);
        again.begin(Offset(10)).unwrap();
        assert_eq!(known(), (Offset(10), 1), "the next set has killed nobody yet");
        again.survived(SYNC_CHANGES);
        again.begin(Offset(11)).unwrap();
        assert_eq!((again.is_step_by_step(), known()), (false, (Offset(10), 1)));
    }
}
