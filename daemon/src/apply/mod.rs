//! Station 5 to 6, applying: one thread has the store. It takes all change sets that are waiting,
//! writes them in groups, makes them durable together, and only then says so to the session, which
//! may ack them (invariant 6).

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::mpsc::{Receiver, RecvTimeoutError, Sender, TryRecvError, channel},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use edgesync_core::{
    change::ChangeSet,
    position::{Offset, Position},
};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::{
    limits::{SYNC_CHANGES, SYNC_WAIT, WITNESS_PERIOD},
    metrics::{self, ApplyMetrics},
    store::{ApplyError, Distrust, Store, StoreError},
};

/// A change set to be applied.
#[derive(Debug)]
pub struct Arrived {
    /// The set, or why its bytes are none: one line.
    pub set: Result<ChangeSet, String>,
    /// Offset of its first change.
    pub first: Offset,
    /// The position after it.
    pub position: Position,
    /// When the last of its bytes came.
    pub received: Instant,
}

/// What the apply thread has to do, in this order.
#[derive(Debug)]
pub enum Work {
    /// Apply a change set.
    Set(Arrived),
    /// Move on to a position that has no set for this edge (rule 14).
    Pass(Position),
    /// Put the store aside and begin with an empty one.
    Rebuild {
        /// Why: one line.
        reason: String,
    },
}

/// What the apply thread has done. `done` is the number of works that the report is about, in
/// order.
#[derive(Debug)]
pub enum Report {
    /// All up to a position is durable.
    Durable {
        /// The position.
        position: Position,
        /// From the receipt of the last set to now.
        apply: Duration,
        /// Number of changes that are new in it.
        changes: u64,
        /// Number of works.
        done: usize,
    },
    /// A set cannot be applied; it and all behind it are dropped (rule 23).
    Poison {
        /// Offset of the set's first change.
        first: Offset,
        /// Offset of its last change.
        last: Offset,
        /// Why: one line.
        reason: String,
    },
    /// Works were dropped, because the thread has halted.
    Dropped {
        /// Number of works.
        done: usize,
    },
    /// The store is a new one, and empty.
    Rebuilt,
    /// The store has failed. What it has is served on, nothing more is applied.
    Failed {
        /// Why: one line.
        reason: String,
    },
}

/// The ends that the session has of the apply thread. When `works` is dropped, the thread finishes
/// what is waiting, and ends.
#[derive(Debug)]
pub struct Applying {
    /// What is to be done. The session bounds what waits here.
    pub works: Sender<Work>,
    /// What was done; never more than works.
    pub reports: UnboundedReceiver<Report>,
    /// The thread.
    pub thread: JoinHandle<()>,
}

/// Begins to apply to a store.
///
/// # Errors
/// If the host has no thread to give.
pub fn start(store: Store) -> std::io::Result<Applying> {
    let (works, incoming) = channel();
    let (outgoing, reports) = unbounded_channel();
    let failed = outgoing.clone();
    let run = move || {
        let mut applier = Applier::new(store, incoming, outgoing);
        // A panic in the store must not end what is served, nor be taken for an end in order.
        if catch_unwind(AssertUnwindSafe(|| applier.run())).is_err() {
            let reason = "the apply thread has panicked; restart the daemon".to_owned();
            let _ = failed.send(Report::Failed { reason });
        }
    };
    let thread = thread::Builder::new().name("apply".to_owned()).spawn(run)?;
    Ok(Applying { works, reports, thread })
}

/// What is applied and not yet durable.
#[derive(Debug, Default)]
struct Unsynced {
    done: usize,
    changes: usize,
    receipts: Vec<Instant>,
    since: Option<Instant>,
}

impl Unsynced {
    /// True if more may share the sync (rule 8).
    fn may_grow(&self) -> bool {
        let young = self.since.is_none_or(|since| since.elapsed() < SYNC_WAIT);
        young && self.changes < SYNC_CHANGES
    }
}

/// The thread's own.
struct Applier {
    /// None if there is no store that could be written.
    store: Option<Store>,
    works: Receiver<Work>,
    reports: UnboundedSender<Report>,
    unsynced: Unsynced,
    /// A set was refused: nothing behind it may be applied.
    halted: bool,
    metrics: ApplyMetrics,
    witnessed: (Instant, Option<Position>),
}

impl Applier {
    fn new(store: Store, works: Receiver<Work>, reports: UnboundedSender<Report>) -> Self {
        let witnessed = (Instant::now(), store.durable());
        Self {
            store: Some(store),
            works,
            reports,
            unsynced: Unsynced::default(),
            halted: false,
            metrics: ApplyMetrics::new(),
            witnessed,
        }
    }

    fn run(&mut self) {
        while let Some(work) = self.wait() {
            self.take(work);
            while self.unsynced.may_grow()
                && let Ok(work) = self.works.try_recv()
            {
                self.take(work);
            }
            self.make_durable();
        }
        let ended = self.store.as_mut().map_or(Ok(()), Store::settle);
        self.give_up_on(ended);
        self.testify();
    }

    /// The next work; tidies up while there is none. None when there will be no more.
    fn wait(&mut self) -> Option<Work> {
        loop {
            match self.works.try_recv() {
                Ok(work) => return Some(work),
                Err(TryRecvError::Disconnected) => return None,
                Err(TryRecvError::Empty) => {}
            }
            if self.tidy() {
                continue;
            }
            match self.works.recv_timeout(Duration::from_secs(1)) {
                Ok(work) => return Some(work),
                Err(RecvTimeoutError::Disconnected) => return None,
                Err(RecvTimeoutError::Timeout) => self.metrics.tell(Instant::now()),
            }
        }
    }

    /// Does a little of what can wait. False if there was nothing.
    fn tidy(&mut self) -> bool {
        let Some(store) = &mut self.store else { return false };
        let tidied = store.settle().and_then(|()| store.purge());
        if self.witnessed.0.elapsed() >= WITNESS_PERIOD {
            self.metrics.tell(Instant::now());
            self.testify();
        }
        self.give_up_on(tidied).unwrap_or(false)
    }

    /// Writes down how far the store is durable, if that has changed.
    fn testify(&mut self) {
        let Some(store) = &self.store else { return };
        if store.durable() != self.witnessed.1
            && let Err(error) = store.testify()
        {
            tracing::warn!(%error, "cannot write down how far the store is durable");
        }
        self.witnessed = (Instant::now(), store.durable());
    }

    fn take(&mut self, work: Work) {
        self.unsynced.since.get_or_insert_with(Instant::now);
        match work {
            Work::Rebuild { reason } => self.rebuild(reason),
            _ if self.halted || self.store.is_none() => self.report(Report::Dropped { done: 1 }),
            Work::Set(arrived) => self.apply(arrived),
            Work::Pass(position) => {
                let passed = self.store.as_mut().map_or(Ok(()), |store| store.pass(position));
                self.unsynced.done += 1;
                self.give_up_on(passed);
            }
        }
    }

    fn apply(&mut self, arrived: Arrived) {
        let Arrived { set, first, position, received } = arrived;
        let Some(store) = &mut self.store else { return };
        let applied = match set {
            Ok(set) => {
                let changes = set.changes.len();
                store.apply(set, position).map(|()| changes).map_err(|error| match error {
                    ApplyError::Store(error) => Ok(error),
                    refused => Err(refused.to_string()),
                })
            }
            Err(reason) => Err(Err(reason)),
        };
        match applied {
            Ok(changes) => {
                self.unsynced.done += 1;
                self.unsynced.changes += changes;
                self.unsynced.receipts.push(received);
            }
            Err(Ok(failed)) => {
                self.unsynced.done += 1;
                self.give_up_on(Err::<(), _>(failed));
            }
            Err(Err(reason)) => {
                // What came before it is good, and is made durable first.
                self.make_durable();
                tracing::error!(%first, last = %position.offset, %reason, "halted before a change set");
                self.halted = true;
                self.report(Report::Poison { first, last: position.offset, reason });
            }
        }
    }

    /// Makes all that was applied durable, and says so.
    fn make_durable(&mut self) {
        let unsynced = std::mem::take(&mut self.unsynced);
        let Some(store) = self.store.as_mut().filter(|_| unsynced.done > 0) else {
            return self.drop_works(unsynced.done);
        };
        let synced = store.sync();
        let now = Instant::now();
        match self.give_up_on(synced).flatten() {
            Some(position) => {
                let changes = unsynced.changes as u64;
                self.metrics.durable(&unsynced.receipts, changes, now);
                let last = unsynced.receipts.last();
                let apply = last.map_or(Duration::ZERO, |last| now.duration_since(*last));
                let done = unsynced.done;
                self.report(Report::Durable { position, apply, changes, done });
            }
            None => self.drop_works(unsynced.done),
        }
    }

    fn rebuild(&mut self, reason: String) {
        let done = std::mem::take(&mut self.unsynced).done;
        self.drop_works(done);
        let Some(store) = self.store.take() else { return self.drop_works(1) };
        match store.rebuild(reason) {
            Ok(store) => {
                metrics::quarantined(store.distrusted().map_or("rebuild", Distrust::label));
                self.store = Some(store);
                self.halted = false;
                self.report(Report::Rebuilt);
            }
            Err(error) => {
                let reason = format!("the store could not be rebuilt: {error}");
                tracing::error!(%reason);
                self.report(Report::Failed { reason });
                self.drop_works(1);
            }
        }
    }

    /// After a failure of the store nothing more is written to it; what it has is still served.
    fn give_up_on<T>(&mut self, done: Result<T, StoreError>) -> Option<T> {
        match done {
            Ok(done) => Some(done),
            Err(error) => {
                if let Some(store) = self.store.take() {
                    store.give_up(&error);
                }
                let reason = format!("the store has failed: {error}");
                tracing::error!(%reason, "nothing more is applied; what is there is served");
                self.report(Report::Failed { reason });
                None
            }
        }
    }

    fn drop_works(&self, done: usize) {
        if done > 0 {
            self.report(Report::Dropped { done });
        }
    }

    fn report(&self, report: Report) {
        // At the end of the daemon nobody may listen any more; the store is right all the same.
        let _ = self.reports.send(report);
    }
}

#[cfg(test)]
mod tests;
