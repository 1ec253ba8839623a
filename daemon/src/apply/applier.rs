//! The apply thread's own: takes works, groups what is applied for one sync, and says what came of it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
        mpsc::{Receiver, RecvTimeoutError, TryRecvError},
    },
    thread,
    time::{Duration, Instant},
};

use edgesync_core::{
    guard::StoreGuard,
    position::{Offset, Position},
    session::{Filter, Pause},
    snapshot::Scope,
};
use tokio::sync::mpsc::UnboundedSender;

use super::{
    Arrived, PauseConfig, Report, Work,
    halt::{Halted, Mode},
    pause::Pauses,
};
use crate::{
    limits::{FILES_PERIOD, LOOK_PERIOD, SYNC_CHANGES, SYNC_WAIT, WITNESS_PERIOD},
    metrics::{self, ApplyMetrics},
    store::{ApplyError, Attempt, ClosedStore, Distrust, Store, StoreError},
};

/// What is applied and not yet durable.
#[derive(Debug, Default)]
struct Unsynced {
    works: usize,
    changes: usize,
    receipts: Vec<Instant>,
    moved: bool,
    staged: bool,
    since: Option<Instant>,
}

impl Unsynced {
    /// True if more may share the sync (rule 8).
    fn may_grow(&self) -> bool {
        let young = self.since.is_none_or(|since| since.elapsed() < SYNC_WAIT);
        young && self.changes < SYNC_CHANGES
    }
}

/// A store that cannot be written now.
enum Broken {
    /// Readers read it.
    Serving(Box<Store>),
    /// It did not open again when it was tried.
    Closed(ClosedStore),
}

/// The thread's own.
pub(super) struct Applier {
    /// None if there is no store that could be written.
    pub(super) store: Option<Store>,
    /// A store that cannot be written now, and has lost nothing.
    broken: Option<Broken>,
    works: Receiver<Work>,
    reports: UnboundedSender<Report>,
    unsynced: Unsynced,
    pub(super) mode: Mode,
    /// A set that a person has confirmed.
    pub(super) confirmed: Option<Offset>,
    pub(super) guard: StoreGuard,
    /// Which zones the last snapshot that was begun is of.
    pub(super) filter: Filter,
    pub(super) attempt: Attempt,
    pub(super) pauses: Pauses,
    paused: Option<Pause>,
    ending: Arc<AtomicBool>,
    metrics: ApplyMetrics,
    witnessed: (Instant, Option<Position>),
    /// When the store's files were last seen where they are.
    files_seen: Instant,
    /// When it was last tried to open a broken store again.
    reopen_tried: Instant,
}

impl Applier {
    pub(super) fn new(
        store: Store,
        works: Receiver<Work>,
        reports: UnboundedSender<Report>,
        pauses: PauseConfig,
        attempt: Attempt,
        ending: Arc<AtomicBool>,
    ) -> Self {
        let witnessed = (Instant::now(), store.durable());
        Self {
            store: Some(store),
            broken: None,
            works,
            reports,
            unsynced: Unsynced::default(),
            mode: Mode::Going,
            confirmed: None,
            guard: StoreGuard::default(),
            filter: Filter::All,
            attempt,
            pauses: Pauses::new(pauses),
            paused: None,
            ending,
            metrics: ApplyMetrics::new(),
            witnessed,
            files_seen: Instant::now(),
            reopen_tried: Instant::now(),
        }
    }

    pub(super) fn run(&mut self) {
        while let Some(work) = self.wait() {
            if !self.wait_for_pause() {
                return;
            }
            self.check_files();
            self.reopen();
            self.take(work);
            while !self.attempt.is_step_by_step()
                && self.unsynced.may_grow()
                && let Ok(work) = self.works.try_recv()
            {
                self.take(work);
            }
            self.make_durable();
        }
        let ended = self.store.as_mut().map_or(Ok(()), Store::settle);
        self.give_up_on(ended);
        self.testify();
        if matches!(self.mode, Mode::Going) {
            self.attempt.clear();
        }
    }

    /// The next work; tidies up while there is none. None when there will be no more.
    fn wait(&mut self) -> Option<Work> {
        loop {
            match self.works.try_recv() {
                Ok(work) => return Some(work),
                Err(TryRecvError::Disconnected) => return None,
                Err(TryRecvError::Empty) => {}
            }
            self.tell_pause();
            if self.tidy() {
                continue;
            }
            let wait = if self.broken.is_some() { LOOK_PERIOD } else { Duration::from_secs(1) };
            match self.works.recv_timeout(wait) {
                Ok(work) => return Some(work),
                Err(RecvTimeoutError::Disconnected) => return None,
                Err(RecvTimeoutError::Timeout) => self.metrics.tell(Instant::now()),
            }
            self.check_files();
            self.reopen();
        }
    }

    /// Looks now and then whether the store's files are still there, as each sync does, and whether somebody could not
    /// read what is in them.
    fn check_files(&mut self) {
        if self.files_seen.elapsed() >= FILES_PERIOD {
            self.files_seen = Instant::now();
            let there = self.store.as_ref().map_or(Ok(()), Store::check_files);
            self.give_up_on(there);
            let read = self.store.as_mut().map_or(Ok(()), Store::check_reads);
            self.give_up_on(read);
        }
    }

    /// Waits while nothing may be applied. False if the daemon ends meanwhile.
    pub(super) fn wait_for_pause(&mut self) -> bool {
        while self.tell_pause() {
            if self.ending.load(Relaxed) {
                return false;
            }
            // A frozen edge is frozen for long, and what is damaged is not to be opened again as good.
            self.check_files();
            thread::sleep(LOOK_PERIOD);
        }
        true
    }

    /// Says why nothing may be applied, if that has changed. True if nothing may.
    fn tell_pause(&mut self) -> bool {
        if self.broken.is_some() {
            // Said when it broke; what comes is dropped, and comes again.
            return false;
        }
        let why = self.pauses.why();
        if why != self.paused.as_ref() {
            self.paused = why.cloned();
            match &self.paused {
                Some(Pause { why, .. }) => {
                    tracing::warn!(%why, "nothing is applied for now; what is there is served")
                }
                None => tracing::info!("applying goes on"),
            }
            self.report(Report::Paused(self.paused.clone()));
        }
        self.paused.is_some()
    }

    /// Does a little of what can wait. False if there was nothing.
    fn tidy(&mut self) -> bool {
        if self.paused.is_some() {
            return false;
        }
        let Some(store) = &mut self.store else { return false };
        let tidied = store.settle().and_then(|()| store.purge());
        if self.witnessed.0.elapsed() >= WITNESS_PERIOD {
            store.keep_room();
            self.metrics.tell(Instant::now());
            self.testify();
        }
        self.give_up_on(tidied).unwrap_or(false)
    }

    /// Writes down how far the store is durable, if that has changed.
    pub(super) fn testify(&mut self) {
        let Some(store) = &self.store else { return };
        if store.durable() != self.witnessed.1
            && let Err(error) = store.testify()
        {
            tracing::warn!(%error, "cannot write down how far the store is durable");
        }
        self.witnessed = (Instant::now(), store.durable());
    }

    /// Has the number of records written down again, also if the position stays what it is.
    pub(super) const fn testify_anew(&mut self) {
        self.witnessed.1 = None;
    }

    /// What is in line follows nothing any more. What is halted stays so, unless a snapshot of everything was to
    /// take its place.
    pub(super) fn void(&mut self) {
        let staged = self.store.as_ref().and_then(Store::staged_manifest);
        let is_replaced = staged.is_some_and(|manifest| manifest.scope == Scope::Store);
        if is_replaced || !self.mode.is_halted() {
            self.mode = Mode::Void;
        }
    }

    fn take(&mut self, work: Work) {
        self.unsynced.since.get_or_insert_with(Instant::now);
        self.unsynced.works += 1;
        match work {
            Work::Restart => self.mode = std::mem::take(&mut self.mode).restarted(),
            Work::Resume => self.resume(),
            Work::Skip => self.skip(),
            _ if self.store.is_none() || self.mode.is_void() => {}
            Work::Stage { manifest, filter, may_be_older } => {
                self.filter = filter;
                self.stage(manifest, may_be_older);
            }
            Work::Chunk(chunk) => self.stage_chunk(&chunk),
            Work::Install(id) => self.install(id, false),
            _ if self.mode.is_halted() => {}
            Work::Set(arrived) => self.apply(arrived),
            Work::Compare { position, sample } => {
                let drifted = self.store.as_mut().map(|store| store.compare(position, &sample));
                for drift in
                    drifted.and_then(|drifted| self.give_up_on(drifted)).unwrap_or_default()
                {
                    self.report(Report::Drifted(drift));
                }
            }
            Work::Pass(position) => {
                let passed = self.store.as_mut().map_or(Ok(()), |store| store.pass(position));
                self.unsynced.moved = true;
                self.give_up_on(passed);
            }
        }
    }

    fn apply(&mut self, arrived: Arrived) {
        let Arrived { set, zone, prev, first, position, received } = arrived;
        if self.store.as_ref().is_some_and(|store| store.applied() != prev) {
            return self.begin_again(prev);
        }
        let set = match set {
            Ok(set) => set,
            Err(reason) => return self.halt(Halted::poison(first, position, zone), reason),
        };
        if let Err(refused) = self.may_apply(&set, position) {
            let (halted, reason) = *refused;
            return self.halt(halted, reason);
        }
        let changes = set.changes.len();
        let Some(store) = &mut self.store else { return };
        match store.apply(set, position) {
            Ok(()) => {
                self.unsynced.changes += changes;
                self.unsynced.moved = true;
                self.unsynced.receipts.push(received);
            }
            Err(ApplyError::Store(failed)) => {
                self.give_up_on(Err::<(), _>(failed));
            }
            Err(refused) => {
                // It does not end the daemon.
                self.attempt.clear();
                self.halt(Halted::poison(first, position, zone), refused.to_string());
            }
        }
    }

    /// A set came that does not follow what is here: what is between was dropped, by a defect. It comes again.
    fn begin_again(&mut self, prev: Offset) {
        self.make_durable();
        let Some(store) = &self.store else { return };
        let (at, epoch) = (store.applied(), store.epoch());
        let (position, staged) = (store.durable(), store.staged());
        tracing::error!(follows = %prev, %at, "a change set does not follow the store's position");
        self.void();
        self.report(Report::Reopened { position, staged, epoch });
    }

    /// Chunks were staged, to be said when they are durable.
    pub(super) const fn note_staged(&mut self) {
        self.unsynced.staged = true;
    }

    /// Makes all that was applied durable, and says so.
    pub(super) fn make_durable(&mut self) {
        let Unsynced { works, changes, receipts, moved, staged, .. } =
            std::mem::take(&mut self.unsynced);
        let synced = match self.store.as_mut().filter(|_| moved || staged) {
            Some(store) => store.sync(),
            None => return self.done(works),
        };
        let now = Instant::now();
        let position = self.give_up_on(synced).flatten();
        self.done(works);
        if let Some(position) = position.filter(|_| moved) {
            self.attempt.survived(changes);
            let changes = changes as u64;
            self.metrics.durable(&receipts, changes, now);
            let apply = receipts.last().map_or(Duration::ZERO, |last| now.duration_since(*last));
            self.report(Report::Durable { position, apply, changes });
        }
        let known = self.store.as_ref().filter(|_| staged);
        let known =
            known.and_then(|store| Some((store.staged()?, store.staged_manifest()?.clone())));
        if let Some((staged, manifest)) = known {
            self.report(Report::Staged { staged, manifest });
        }
    }

    fn done(&self, works: usize) {
        if works > 0 {
            self.report(Report::Done(works));
        }
    }

    /// After a failure of the store nothing more is written to it; what it has is still served.
    pub(super) fn give_up_on<T>(&mut self, done: Result<T, StoreError>) -> Option<T> {
        let error = match done {
            Ok(done) => return Some(done),
            Err(error) => error,
        };
        let is_lost = error.loses_trust();
        if !is_lost {
            // Now, since what is staged counts, and the store is taken next.
            self.void();
        }
        let store = self.store.take()?;
        if is_lost {
            store.give_up(&error);
            let reason = format!("the store has failed: {error}");
            tracing::error!(%reason, "nothing more is applied; what is there is served");
            self.report(Report::Failed { reason });
        } else {
            // Nothing that was durable is lost: it is opened again when the disk takes something.
            let why = format!("the store cannot be written: {error}");
            tracing::error!(%why, "nothing is applied for now; what is there is served");
            self.paused = Some(Pause::of_itself(why));
            self.report(Report::Paused(self.paused.clone()));
            self.broken = Some(Broken::Serving(Box::new(store)));
            self.attempt.clear();
        }
        None
    }

    /// Opens a store again that could not be written, once the disk takes what is written; looks now and then.
    fn reopen(&mut self) {
        if self.broken.is_none() || self.reopen_tried.elapsed() < LOOK_PERIOD {
            return;
        }
        self.reopen_tried = Instant::now();
        if self.pauses.why().is_some() || self.pauses.probe().is_err() {
            return;
        }
        let mut closed = match self.broken.take() {
            Some(Broken::Serving(store)) => store.close(),
            Some(Broken::Closed(closed)) => closed,
            None => return,
        };
        match closed.open() {
            Ok(store) => {
                tracing::info!("the store is open again");
                if let Some(label) = store.distrusted().map(Distrust::label) {
                    metrics::quarantined(label);
                }
                let (position, staged, epoch) = (store.durable(), store.staged(), store.epoch());
                self.store = Some(store);
                // What is in line follows what was lost, until the session has begun again.
                self.void();
                self.paused = None;
                self.guard.clear();
                self.report(Report::Paused(None));
                self.report(Report::Reopened { position, staged, epoch });
            }
            Err(error) => {
                // Tried again: the disk may have taken the probe, and not what opening writes.
                let why = format!("the store could not be opened again: {error}");
                let pause = Some(Pause::of_itself(why.clone()));
                if self.paused != pause {
                    tracing::error!(%why);
                    self.paused.clone_from(&pause);
                    self.report(Report::Paused(pause));
                }
                self.broken = Some(Broken::Closed(closed));
            }
        }
    }

    pub(super) fn report(&self, report: Report) {
        // At the end of the daemon nobody may listen any more; the store is right all the same.
        let _ = self.reports.send(report);
    }
}
