//! The audit of the control plane: who did what to which zone, at which offset, and what came of it,
//! denials included. Writes and denials are written down soon after, many at once; what changes who may
//! do what, or what edges get, is written down before it is done.
//!
//! Equal things of one moment become one line, and denials have a rate: nobody can fill the disk by
//! being refused. Who made which change set also stands beside the set in the log, always.

use std::{
    collections::VecDeque,
    path::Path,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use edgesync_host::audit::{Audit, AuditError, Entry};
use tokio::sync::oneshot;

use super::bucket::{Bucket, Rate};

/// How long lines are gathered before they are written in one sync.
const GATHER: Duration = Duration::from_millis(100);
/// Lines that wait at the most.
const LINES: usize = 4_096;
/// How far back an equal line is looked for.
const LOOK_BACK: usize = 64;
/// Denials that are written down.
const DENIALS: Rate = Rate { per_second: 20.0, burst: 200.0 };

/// A line on its way.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Line {
    /// The principal, or who somebody says he is.
    pub who: String,
    /// Where the call came from.
    pub peer: String,
    /// What was called.
    pub what: &'static str,
    /// The zone, if it is about one.
    pub zone: String,
    /// The offset, if there is one.
    pub offset: u64,
    /// `ok`, or why not.
    pub result: String,
    /// The rest.
    pub detail: String,
}

impl Line {
    fn is_like(&self, other: &Self) -> bool {
        let Self { who, peer, what, zone, offset: _, result, detail } = self;
        (who, peer, what, zone) == (&other.who, &other.peer, &other.what, &other.zone)
            && (result, detail) == (&other.result, &other.detail)
    }
}

/// Lines that wait, and who waits for them.
#[derive(Default)]
struct Pending {
    lines: VecDeque<(Line, u64, u64)>,
    waiters: Vec<oneshot::Sender<bool>>,
    denials: Option<Bucket>,
    untold: u64,
    is_closed: bool,
}

struct Shared {
    pending: Mutex<Pending>,
    came: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The audit.
pub struct Trail {
    shared: Arc<Shared>,
    writer: Mutex<Option<JoinHandle<()>>>,
}

impl std::fmt::Debug for Trail {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Trail")
    }
}

impl Trail {
    /// Opens the audit file, and begins to write.
    ///
    /// # Errors
    /// If the file cannot be used, or its end is not what was written.
    pub fn open(path: &Path) -> Result<Self, AuditError> {
        let audit = Audit::open(path)?;
        let last = audit.last();
        tracing::info!(entries = last.seq, hash = %last.hash, "the audit goes on");
        let shared = Arc::new(Shared { pending: Mutex::default(), came: Condvar::new() });
        let writing = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name("audit".to_owned());
        let writer = thread.spawn(move || write(&writing, audit));
        let failed = |source| AuditError::Io { path: path.to_owned(), source };
        let writer = Mutex::new(Some(writer.map_err(failed)?));
        Ok(Self { shared, writer })
    }

    /// Has a line written soon.
    pub fn note(&self, line: Line) {
        self.shared.lock().add(line, LINES);
        self.shared.came.notify_one();
    }

    /// Has a denial written soon, unless there are too many of them.
    pub fn denied(&self, line: Line) {
        let mut pending = self.shared.lock();
        let now = Instant::now();
        let bucket = pending.denials.get_or_insert_with(|| Bucket::full(DENIALS, now));
        match bucket.take(1.0, DENIALS, now) {
            Ok(()) => pending.add(line, LINES),
            Err(_) => pending.untold += 1,
        }
        self.shared.came.notify_one();
    }

    /// Writes a line durably; false if it could not be: what was to be done is not to be done then.
    pub async fn record(&self, line: Line) -> bool {
        let (told, tells) = oneshot::channel();
        {
            let mut pending = self.shared.lock();
            if pending.is_closed {
                return false;
            }
            pending.add(line, usize::MAX);
            pending.waiters.push(told);
        }
        self.shared.came.notify_one();
        tells.await.unwrap_or(false)
    }

    /// Writes what waits, and ends.
    pub fn close(&self) {
        self.shared.lock().is_closed = true;
        self.shared.came.notify_one();
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        writer.map(JoinHandle::join);
    }
}

impl Drop for Trail {
    fn drop(&mut self) {
        self.close();
    }
}

impl Pending {
    /// Has a line wait, or counts it if as many as may wait do already. Who waits for it is never told that
    /// it was written when it was not.
    fn add(&mut self, line: Line, most: usize) {
        let like = self.lines.iter_mut().rev().take(LOOK_BACK).find(|(at, ..)| at.is_like(&line));
        if let Some((_, last, count)) = like {
            *last = line.offset;
            *count += 1;
        } else if self.lines.len() < most {
            let last = line.offset;
            self.lines.push_back((line, last, 1));
        } else {
            self.untold += 1;
        }
    }

    /// Takes what waits, as it is written.
    fn take(&mut self) -> (Vec<Line>, Vec<oneshot::Sender<bool>>) {
        let one = |(mut line, last, count): (Line, u64, u64)| {
            if count > 1 {
                let space = if line.detail.is_empty() { "" } else { "; " };
                let upto = if last == 0 { String::new() } else { format!(", to offset {last}") };
                line.detail = format!("{count} times{upto}{space}{}", line.detail);
            }
            line
        };
        let mut lines: Vec<_> = self.lines.drain(..).map(one).collect();
        let untold = std::mem::take(&mut self.untold);
        if untold > 0 {
            metrics::counter!("edgesync_control_audit_untold_total").increment(untold);
            let who = "edgesync-control".to_owned();
            let detail = format!("{untold} further ones were not written: there were too many");
            let result = "untold".to_owned();
            lines.push(Line { who, what: "audit", result, detail, ..Line::default() });
        }
        (lines, std::mem::take(&mut self.waiters))
    }
}

/// Writes what comes until the end.
fn write(shared: &Shared, mut audit: Audit) {
    loop {
        let mut pending = shared.lock();
        while pending.lines.is_empty() && pending.untold == 0 && !pending.is_closed {
            pending = shared.came.wait(pending).unwrap_or_else(PoisonError::into_inner);
        }
        // Who waits is not kept waiting; all others are gathered.
        let until = Instant::now() + GATHER;
        while pending.waiters.is_empty() && !pending.is_closed {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            let waited = shared.came.wait_timeout(pending, left);
            pending = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        let is_over = pending.is_closed;
        let (lines, waiters) = pending.take();
        drop(pending);
        let written = add(&mut audit, &lines);
        for waiter in waiters {
            let _ = waiter.send(written);
        }
        if is_over {
            return;
        }
    }
}

fn add(audit: &mut Audit, lines: &[Line]) -> bool {
    if lines.is_empty() {
        return true;
    }
    let entries: Vec<_> = lines.iter().map(entry).collect();
    match audit.add_all(&entries) {
        Ok(()) => true,
        Err(error) => {
            metrics::counter!("edgesync_control_audit_failures_total").increment(1);
            tracing::error!(%error, lines = lines.len(), "the audit cannot be written");
            false
        }
    }
}

fn entry(line: &Line) -> Entry<'_> {
    let Line { who, peer, what, zone, offset, result, detail } = line;
    Entry { who, peer, what, zone, offset: *offset, result, detail }
}

#[cfg(test)]
mod tests {
    use edgesync_host::audit::verify;

    use super::*;

    fn line(who: &str, offset: u64) -> Line {
        Line { who: who.to_owned(), what: "test/Write", offset, ..Line::default() }
    }

    fn read(path: &Path) -> Vec<serde_json::Value> {
        let mut lines = Vec::new();
        verify(path, |line| lines.push(serde_json::from_str(line).unwrap())).unwrap();
        lines
    }

    #[tokio::test]
    async fn what_is_recorded_is_there_and_what_is_noted_is_there_at_the_end() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("audit.log");
        let trail = Trail::open(&path).unwrap();
        assert!(trail.record(line("anna", 1)).await);
        assert_eq!(read(&path).len(), 1);
        for offset in 2..=5 {
            trail.note(line("bert", offset));
        }
        trail.note(line("anna", 6));
        drop(trail);
        let lines = read(&path);
        assert_eq!(lines.len(), 3, "equal things of one moment are one line: {lines:?}");
        assert_eq!(lines[1]["offset"], 2);
        assert_eq!(lines[1]["detail"], "4 times, to offset 5");
    }

    #[tokio::test]
    async fn what_is_recorded_is_there_however_much_waits() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("audit.log");
        let trail = Trail::open(&path).unwrap();
        {
            let mut pending = trail.shared.lock();
            (0..LINES).for_each(|n| pending.add(line(&format!("w-{n}"), 1), LINES));
        }
        trail.note(line("one too many", 1));
        assert!(trail.record(line("anna", 1)).await);
        let lines = read(&path);
        assert!(lines.iter().any(|line| line["who"] == "anna"), "{} lines", lines.len());
        assert!(!lines.iter().any(|line| line["who"] == "one too many"));
    }

    #[test]
    fn denials_do_not_fill_the_disk_and_are_counted_all_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("audit.log");
        let trail = Trail::open(&path).unwrap();
        for n in 0..10_000 {
            trail.denied(line(&format!("mallory-{n}"), 0));
        }
        drop(trail);
        let lines = read(&path);
        let untold: u64 = lines
            .iter()
            .filter(|line| line["result"] == "untold")
            .map(|line| line["detail"].as_str().unwrap().split(' ').next().unwrap())
            .map(|count| count.parse::<u64>().unwrap())
            .sum();
        let told = lines.iter().filter(|line| line["result"] != "untold").count() as u64;
        assert_eq!(told + untold, 10_000);
        assert!(told < 1_000, "{told}");
    }
}
