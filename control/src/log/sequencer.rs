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
    position::{Offset, Position},
    stage::{Operation, RecordData, Target},
};
use redb::Database;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot, watch};

use super::{
    Action, Committed, Compaction, FleetRow, Freeze, Released, Sampled, View, Write, WriteError,
    commit::{self, Context, Outcome},
    corrupt::guarded,
    guards::Guards,
    pins::Pins,
    recent::Recent,
    sampler::Sampler,
    schema::{META, META_RELEASE},
    tidy,
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
    /// Something that is not a write, after all writes that came before.
    Order(Order),
    /// Stop, after all that came before.
    Close,
}

/// What changes how the log is kept or released, in line with the writes.
pub(super) enum Order {
    /// Release nothing more, or all again; the answer is a view of what is released.
    Release { freeze: Option<FreezeOrder>, answer: oneshot::Sender<Result<View, WriteError>> },
    /// Compact up to an offset.
    Compact { upto: Offset, answer: oneshot::Sender<Compaction> },
}

/// Who freezes, and why.
pub(super) struct FreezeOrder {
    pub(super) principal: String,
    pub(super) reason: String,
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

    /// Puts an order in line.
    pub(super) fn order(&self, order: Order) -> Result<(), WriteError> {
        self.jobs.send(Job::Order(order)).map_err(|_| WriteError::Stopping)
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

/// What the sequencer tells the rest of the control plane.
pub(super) struct Told {
    /// What is durable.
    pub(super) head: watch::Sender<Position>,
    /// What edges may have of it.
    pub(super) released: watch::Sender<Position>,
    /// Why that is not all, if it is not.
    pub(super) freeze: watch::Sender<Option<Freeze>>,
    /// What the log begins after.
    pub(super) floor: watch::Sender<Offset>,
    /// What some zones are at an offset.
    pub(super) sample: watch::Sender<Option<Arc<Sampled>>>,
    /// Why the store has failed, if it has.
    pub(super) failed: watch::Sender<Option<String>>,
}

/// The one writer of the log.
pub(super) struct Sequencer {
    database: Arc<Database>,
    recent: Arc<Recent>,
    pins: Pins,
    told: Told,
    guards: Guards,
    sampler: Sampler,
    compacting: Option<Compacting>,
}

/// A compaction that is under way.
struct Compacting {
    upto: Offset,
    answer: oneshot::Sender<Compaction>,
    sets: u64,
}

/// What was taken from the queue to be done at once.
#[derive(Default)]
struct Taken {
    writes: Vec<Write>,
    answers: Vec<(Answer, OwnedSemaphorePermit)>,
    fleet: Vec<FleetRow>,
    octets: usize,
    order: Option<Order>,
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
            Job::Order(order) => self.order = Some(order),
            Job::Close => self.close = true,
        }
    }

    const fn is_full(&self) -> bool {
        self.close
            || self.order.is_some()
            || self.writes.len() >= GROUP_WRITES
            || self.octets >= GROUP_OCTETS
    }
}

impl Sequencer {
    pub(super) fn new(
        database: Arc<Database>,
        recent: Arc<Recent>,
        pins: Pins,
        told: Told,
    ) -> Self {
        let (guards, sampler) = (Guards::default(), Sampler::new());
        Self { database, recent, pins, told, guards, sampler, compacting: None }
    }

    /// Works until the queue is closed or the store fails. A failed store is not tried again: what
    /// it has kept is known only after a restart.
    pub(super) fn run(mut self, jobs: &Jobs) {
        let mut taken = Taken::default();
        if let Err(error) = guarded(|| self.work(jobs, &mut taken)) {
            // Said before `taken` goes, so that the callers in it learn the reason.
            self.told.failed.send_replace(Some(error.to_string()));
        }
    }

    fn work(&mut self, jobs: &Jobs, taken: &mut Taken) -> Result<(), redb::Error> {
        let mut garbage = true;
        loop {
            *taken = Taken::default();
            let busy = garbage || self.compacting.is_some();
            let wait = if busy { IDLE } else { self.sampler.due() };
            match jobs.0.recv_timeout(wait) {
                Ok(job) => taken.add(job),
                Err(RecvTimeoutError::Timeout) => {
                    let floor = *self.told.floor.borrow();
                    garbage = garbage && tidy::purge(&self.database, floor)?;
                    garbage |= self.compact()?;
                    self.sample()?;
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
            match taken.order.take() {
                Some(Order::Release { freeze, answer }) => {
                    let _ = answer.send(Ok(self.release(freeze)?));
                }
                Some(Order::Compact { upto, answer }) => {
                    self.compacting = Some(Compacting { upto, answer, sets: 0 });
                }
                None => {}
            }
            garbage |= self.compact()?;
            if taken.close {
                return Ok(());
            }
        }
    }

    /// Makes what was taken durable, releases it, answers. True if there is something to tidy up.
    fn commit(&mut self, taken: &mut Taken) -> Result<bool, redb::Error> {
        let started = Instant::now();
        let before = *self.told.head.borrow();
        let (writes, fleet) = (std::mem::take(&mut taken.writes), std::mem::take(&mut taken.fleet));
        let context = Context { now: SystemTime::now(), guards: &mut self.guards };
        let group = commit::group(&self.database, before, writes, &fleet, context)?;
        let at = Instant::now();
        let (mut answers, mut released) = (Vec::with_capacity(group.outcomes.len()), Vec::new());
        for Outcome { answer, sets } in group.outcomes {
            answers.push(answer);
            released
                .extend(sets.into_iter().map(|(zone, set)| Arc::new(Released { set, zone, at })));
        }
        record_metrics(&released, at - started, group.head);
        released.iter().for_each(|set| self.sampler.note(set));
        self.recent.release(released);
        self.told.head.send_if_modified(|head| std::mem::replace(head, group.head) != group.head);
        self.sample()?;
        if self.told.freeze.borrow().is_none() {
            let moved = |released: &mut _| std::mem::replace(released, group.head) != group.head;
            self.told.released.send_if_modified(moved);
        }
        for ((answer, room), outcome) in taken.answers.drain(..).zip(answers) {
            drop(room);
            // A caller that has gone away learns by its idempotency key, or by reading.
            let _ = answer.send(outcome);
        }
        Ok(group.garbage)
    }

    /// Tells what some zones are at the head, if it is time to. Before the head is released: a
    /// session that knows of the sample can stop there.
    fn sample(&mut self) -> Result<(), redb::Error> {
        if self.sampler.due().is_zero() {
            let sample = self.sampler.sample(&View::new(&self.database)?)?;
            let position = *self.told.head.borrow();
            self.told.sample.send_replace(Some(Arc::new(Sampled { position, sample })));
        }
        Ok(())
    }

    /// Freezes the release at the head, or lets all go; durable before it takes effect (rule 19).
    fn release(&mut self, order: Option<FreezeOrder>) -> Result<View, redb::Error> {
        let freeze = order.map(|FreezeOrder { principal, reason }| Freeze {
            released: *self.told.released.borrow(),
            since: SystemTime::now(),
            principal,
            reason,
        });
        let transaction = self.database.begin_write()?;
        {
            let mut meta = transaction.open_table(META)?;
            match &freeze {
                Some(freeze) => meta.insert(META_RELEASE, freeze.value().as_slice())?,
                None => meta.remove(META_RELEASE)?,
            };
        }
        transaction.commit()?;
        let released = freeze.as_ref().map_or(*self.told.head.borrow(), |freeze| freeze.released);
        self.told.freeze.send_replace(freeze);
        self.told.released.send_if_modified(|now| std::mem::replace(now, released) != released);
        View::new(&self.database)
    }

    /// Compacts a little, if there is something to be compacted. What is pinned stays, and so does
    /// all while the release is frozen: no snapshot could take the place of what is gone.
    fn compact(&mut self) -> Result<bool, redb::Error> {
        let Some(Compacting { upto, answer, sets }) = self.compacting.take() else {
            return Ok(false);
        };
        let pinned = self.pins.lowest().map_or(upto, |pinned| upto.min(pinned));
        let frozen = self.told.freeze.borrow().is_some();
        let limit = if frozen { Offset::ZERO } else { pinned };
        let step = tidy::compact(&self.database, limit)?;
        let sets = sets + step.sets;
        if let Some(floor) = step.floor {
            self.told.floor.send_replace(floor.offset);
        }
        if step.more {
            self.compacting = Some(Compacting { upto, answer, sets });
        } else {
            let _ = answer.send(Compaction { floor: *self.told.floor.borrow(), sets });
        }
        Ok(true)
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
