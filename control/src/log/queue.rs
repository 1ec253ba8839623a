//! The way to the sequencer, bounded in octets: a caller without room waits.

use std::sync::{Arc, mpsc};

use edgesync_core::{
    position::Offset,
    stage::{Operation, RecordData, Target},
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use super::{Action, Committed, Compaction, FleetRow, View, Write, WriteError};

/// Writes of one group at the most: what shares one sync of the disk.
const GROUP_WRITES: usize = 1_024;
/// Octets of the writes of one group, about.
const GROUP_OCTETS: usize = 16 * 1024 * 1024;
/// Octets that one permit of the queue stands for.
const PERMIT_OCTETS: usize = 1_024;

/// The gauge of what waits for the sequencer.
const WAITING: &str = "edgesync_control_queue_writes";

pub(super) type Answer = oneshot::Sender<Result<Committed, WriteError>>;

/// Something for the sequencer to do.
pub(super) enum Job {
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
    Compact { upto: Offset, answer: oneshot::Sender<Result<Compaction, WriteError>> },
    /// Keep what is said of a principal, or nothing more.
    SaveAccess {
        name: String,
        row: Option<Vec<u8>>,
        answer: oneshot::Sender<Result<(), WriteError>>,
    },
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
pub(super) struct Jobs(pub(super) mpsc::Receiver<Job>);

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
pub(super) fn octets(write: &Write) -> usize {
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

/// What was taken from the queue to be done at once.
#[derive(Default)]
pub(super) struct Taken {
    pub(super) writes: Vec<Write>,
    pub(super) answers: Vec<(Answer, OwnedSemaphorePermit)>,
    pub(super) fleet: Vec<FleetRow>,
    octets: usize,
    pub(super) order: Option<Order>,
    pub(super) close: bool,
}

impl Taken {
    pub(super) fn add(&mut self, job: Job) {
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

    pub(super) const fn is_full(&self) -> bool {
        self.close
            || self.order.is_some()
            || self.writes.len() >= GROUP_WRITES
            || self.octets >= GROUP_OCTETS
    }
}
