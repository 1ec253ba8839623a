//! The one writer. It takes all writes that are waiting (and never waits for more), commits them as
//! one group, then releases them to the sessions, then answers the callers: in this order, so that
//! nothing undurable is ever seen (invariant 3).

use std::{
    sync::{
        Arc,
        mpsc::{self, RecvTimeoutError},
    },
    time::{Duration, Instant, SystemTime},
};

use edgesync_core::{
    position::Position,
    stage::{Operation, RecordData, Target},
};
use redb::Database;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot, watch};

use super::{
    Action, Committed, FleetRow, Released, Write, WriteError,
    commit::{self, Outcome},
    corrupt::guarded,
    recent::Recent,
};

/// Writes of one group at the most: what shares one sync of the disk.
const GROUP_WRITES: usize = 1_024;
/// Octets of the writes of one group, about.
const GROUP_OCTETS: usize = 16 * 1024 * 1024;
/// How long the sequencer is idle before it goes on tidying up.
const IDLE: Duration = Duration::from_millis(20);
/// Octets that one permit of the queue stands for.
const PERMIT_OCTETS: usize = 1_024;

/// The gauge of what waits for the sequencer.
const WAITING: &str = "edgesync_control_queue_writes";

type Answer = oneshot::Sender<Result<Committed, WriteError>>;

/// Something for the sequencer to do.
enum Job {
    /// Commit a write and answer.
    Write { write: Box<Write>, octets: usize, answer: Answer, room: OwnedSemaphorePermit },
    /// Keep what the fleet looks like.
    SaveFleet(Vec<FleetRow>),
    /// Stop, after all that came before.
    Close,
}

/// The way to the sequencer, bounded in octets: a caller without room waits.
pub(super) struct Queue {
    jobs: mpsc::Sender<Job>,
    room: Arc<Semaphore>,
    permits: usize,
}

/// The sequencer's end of the queue.
pub(super) struct Jobs(mpsc::Receiver<Job>);

impl Queue {
    pub(super) fn new(octets: usize) -> (Self, Jobs) {
        let permits = (octets / PERMIT_OCTETS).clamp(1, Semaphore::MAX_PERMITS);
        let (jobs, receiver) = mpsc::channel();
        (Self { jobs, room: Arc::new(Semaphore::new(permits)), permits }, Jobs(receiver))
    }

    /// Puts a write in line, when there is room for it.
    pub(super) async fn send(&self, write: Write, answer: Answer) -> Result<(), WriteError> {
        let octets = octets(&write);
        let permits = (octets / PERMIT_OCTETS + 1).min(self.permits);
        let permits = u32::try_from(permits).unwrap_or(u32::MAX);
        let room = Arc::clone(&self.room).acquire_many_owned(permits).await;
        let room = room.map_err(|_| WriteError::Stopping)?;
        let job = Job::Write { write: Box::new(write), octets, answer, room };
        metrics::gauge!(WAITING).increment(1);
        self.jobs.send(job).map_err(|_| WriteError::Stopping)
    }

    /// Puts the fleet's rows in line; they are few and small, and need no room.
    pub(super) fn save_fleet(&self, rows: Vec<FleetRow>) {
        let _ = self.jobs.send(Job::SaveFleet(rows));
    }

    /// Takes nothing more; what is in line is still done.
    pub(super) fn close(&self) {
        self.room.close();
        let _ = self.jobs.send(Job::Close);
    }
}

/// What a write takes in memory, about.
fn octets(write: &Write) -> usize {
    let record = |data: &RecordData| 64 + data.owner.wire().len() + data.rdata.len();
    let target = |target: &Target| match target {
        Target::Id { owner, .. } => 64 + owner.wire().len(),
        Target::Exact(data) => record(data),
    };
    match &write.action {
        Action::Change { operations, .. } => operations
            .iter()
            .map(|operation| match operation {
                Operation::Create(data) => record(data),
                Operation::Edit { target: old, rdata, .. } => {
                    target(old) + rdata.as_ref().map_or(0, bytes::Bytes::len)
                }
                Operation::Delete(old) => target(old),
            })
            .sum(),
        Action::CreateZone(records)
        | Action::OpenGeneration(records)
        | Action::ExtendGeneration(_, records)
        | Action::PublishGeneration(_, records) => records.iter().map(record).sum(),
        Action::DeleteZone | Action::DropGeneration(_) => 64,
    }
}

/// The one writer of the log.
pub(super) struct Sequencer {
    database: Arc<Database>,
    recent: Arc<Recent>,
    head: watch::Sender<Position>,
    failed: watch::Sender<Option<String>>,
}

/// What was taken from the queue to be done at once.
#[derive(Default)]
struct Taken {
    writes: Vec<Write>,
    answers: Vec<(Answer, OwnedSemaphorePermit)>,
    fleet: Vec<FleetRow>,
    octets: usize,
    close: bool,
}

impl Taken {
    fn add(&mut self, job: Job) {
        match job {
            Job::Write { write, octets, answer, room } => {
                metrics::gauge!(WAITING).decrement(1);
                self.writes.push(*write);
                self.answers.push((answer, room));
                self.octets = self.octets.saturating_add(octets);
            }
            Job::SaveFleet(rows) => self.fleet.extend(rows),
            Job::Close => self.close = true,
        }
    }

    const fn is_full(&self) -> bool {
        self.close || self.writes.len() >= GROUP_WRITES || self.octets >= GROUP_OCTETS
    }
}

impl Sequencer {
    pub(super) const fn new(
        database: Arc<Database>,
        recent: Arc<Recent>,
        head: watch::Sender<Position>,
        failed: watch::Sender<Option<String>>,
    ) -> Self {
        Self { database, recent, head, failed }
    }

    /// Works until the queue is closed or the store fails. A failed store is not tried again: what
    /// it has kept is known only after a restart.
    pub(super) fn run(self, jobs: &Jobs) {
        let mut taken = Taken::default();
        if let Err(error) = guarded(|| self.work(jobs, &mut taken)) {
            // Said before `taken` goes, so that the callers in it learn the reason.
            self.failed.send_replace(Some(error.to_string()));
        }
    }

    fn work(&self, jobs: &Jobs, taken: &mut Taken) -> Result<(), redb::Error> {
        let mut garbage = true;
        loop {
            *taken = Taken::default();
            let wait = if garbage { IDLE } else { Duration::from_secs(3_600) };
            match jobs.0.recv_timeout(wait) {
                Ok(job) => taken.add(job),
                Err(RecvTimeoutError::Timeout) => {
                    garbage = commit::purge(&self.database)?;
                    continue;
                }
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
            }
            while !taken.is_full()
                && let Ok(job) = jobs.0.try_recv()
            {
                taken.add(job);
            }
            garbage |= self.commit(taken)?;
            if taken.close {
                return Ok(());
            }
        }
    }

    /// Makes what was taken durable, releases it, answers. True if there is something to tidy up.
    fn commit(&self, taken: &mut Taken) -> Result<bool, redb::Error> {
        let started = Instant::now();
        let before = *self.head.borrow();
        let (writes, fleet) = (std::mem::take(&mut taken.writes), std::mem::take(&mut taken.fleet));
        let group = commit::group(&self.database, before, writes, &fleet, SystemTime::now())?;
        let at = Instant::now();
        let (mut answers, mut released) = (Vec::with_capacity(group.outcomes.len()), Vec::new());
        for Outcome { answer, sets } in group.outcomes {
            answers.push(answer);
            released
                .extend(sets.into_iter().map(|(zone, set)| Arc::new(Released { set, zone, at })));
        }
        record_metrics(&released, at - started, group.head);
        self.recent.release(released);
        self.head.send_if_modified(|head| std::mem::replace(head, group.head) != group.head);
        for ((answer, room), outcome) in taken.answers.drain(..).zip(answers) {
            drop(room);
            // A caller that has gone away learns by its idempotency key, or by reading.
            let _ = answer.send(outcome);
        }
        Ok(group.garbage)
    }
}

fn record_metrics(released: &[Arc<Released>], took: Duration, head: Position) {
    if released.is_empty() {
        return;
    }
    let changes: u64 = released.iter().map(|r| r.set.last.since(r.set.first) + 1).sum();
    metrics::histogram!("edgesync_control_commit_seconds").record(took);
    metrics::histogram!("edgesync_control_commit_sets").record(count(released.len() as u64));
    metrics::histogram!("edgesync_control_commit_changes").record(count(changes));
    metrics::counter!("edgesync_control_changes_total").increment(changes);
    metrics::gauge!("edgesync_control_head_offset").set(count(head.offset.0));
}

/// A count as a metric's value; exact up to 2^53.
#[allow(clippy::cast_precision_loss)]
const fn count(number: u64) -> f64 {
    number as f64
}
