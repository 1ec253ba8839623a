//! Station 2, the log: the one total order of changes. A write comes in from the API, is checked and
//! given its offsets by the one sequencer, becomes durable together with what it does to the
//! records, and only then is released to the sessions and answered (invariants 1 to 3).

mod access;
mod backend;
mod chain;
mod clock;
mod commit;
mod corrupt;
mod error;
mod guards;
mod history;
mod idempotency;
mod open;
mod pins;
mod prepare;
mod queue;
mod recent;
mod retention;
mod room;
mod sampler;
mod schema;
mod scrub;
mod seal;
mod sequencer;
mod tables;
mod tidy;
mod view;
mod write;

use std::{
    path::PathBuf,
    sync::Arc,
    task::{Context, Poll},
};

pub use clock::{APART, Clock, Times};
use edgesync_core::{
    change::Generation,
    position::{Offset, Position},
    sample::Sample,
};
use edgesync_host::place::Place;
pub use error::WriteError;
pub use history::HistoryError;
pub use open::{OpenError, Options};
pub use pins::Pin;
pub use recent::Released;
pub use retention::Retention;
pub use schema::{AuditEntry, FleetRow, Freeze, LogEntry};
pub use scrub::Scrub;
use tokio::sync::{oneshot, watch};
pub use view::{ReadError, View};
pub use write::{Action, Caller, IdempotencyKey, Write};

use crate::access::Authorized;

use self::{
    pins::Pins,
    queue::{FreezeOrder, Order, Queue},
};

/// A durable write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Committed {
    /// Offset of its first change.
    pub first: Offset,
    /// Position after it.
    pub position: Position,
    /// Generation that it wrote to.
    pub generation: Generation,
    /// True if it is the answer of an earlier call with the same idempotency key.
    pub replayed: bool,
}

/// A handle on the log. Cheap to clone.
#[derive(Clone)]
pub struct Log {
    shared: Arc<Shared>,
}

struct Shared {
    path: PathBuf,
    min_free: u64,
    /// Where the store's file is, if it is one.
    place: Option<Place>,
    database: Arc<redb::Database>,
    queue: Queue,
    recent: Arc<recent::Recent>,
    pins: Pins,
    heard: Heard,
}

/// What the sequencer says.
struct Heard {
    head: watch::Receiver<Position>,
    released: watch::Receiver<Position>,
    freeze: watch::Receiver<Option<Freeze>>,
    full: watch::Receiver<Option<String>>,
    floor: watch::Receiver<Offset>,
    sample: watch::Receiver<Option<Arc<Sampled>>>,
    failed: watch::Receiver<Option<String>>,
}

/// What some zones are at a position.
#[derive(Debug)]
pub struct Sampled {
    /// The position.
    pub position: Position,
    /// The zones.
    pub sample: Sample,
}

/// What came of a compaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Compaction {
    /// The log begins after this offset.
    pub floor: Offset,
    /// Number of change sets that were forgotten.
    pub sets: u64,
    /// What kept more from being forgotten, if something did.
    pub kept: Option<KeptBy>,
}

/// What keeps change sets from being forgotten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeptBy {
    /// No snapshot could take their place.
    Freeze,
    /// A snapshot that edges take, or that is being made, needs what follows this offset.
    Snapshot(Offset),
}

impl Log {
    /// Opens or creates the log in a directory and starts its sequencer.
    ///
    /// # Errors
    /// If another process has it, its format is another one, or it cannot be read.
    pub fn open(options: &Options) -> Result<Self, OpenError> {
        open::open(options).map(|shared| Self { shared: Arc::new(shared) })
    }

    /// Opens or creates the log on a storage of the caller's, as the tests of crashes do; the
    /// options' directory is not looked at.
    ///
    /// # Errors
    /// As [`Log::open`].
    pub fn open_on(
        backend: impl redb::StorageBackend,
        options: &Options,
    ) -> Result<Self, OpenError> {
        open::open_on(backend, options).map(|shared| Self { shared: Arc::new(shared) })
    }

    /// Hands a write to the sequencer, which takes writes in the order in which this returns.
    ///
    /// # Errors
    /// If no more writes are taken.
    pub async fn submit(&self, write: Write) -> Result<Pending, WriteError> {
        write.authorized.spend(queue::octets(&write))?;
        self.take(write).await
    }

    /// The same, but a write that comes too fast waits for its turn: for streams, whose callers feel it
    /// by being slowed down.
    ///
    /// # Errors
    /// If no more writes are taken.
    pub async fn submit_in_turn(&self, write: Write) -> Result<Pending, WriteError> {
        let octets = queue::octets(&write);
        while let Err(refused) = write.authorized.spend(octets) {
            let WriteError::TooFast { retry_after } = refused else { return Err(refused) };
            tokio::time::sleep(retry_after).await;
        }
        self.take(write).await
    }

    async fn take(&self, write: Write) -> Result<Pending, WriteError> {
        let (answer, answered) = oneshot::channel();
        self.shared.queue.send(write, answer).await.map_err(|_| self.stopped())?;
        Ok(Pending { answered, log: self.clone() })
    }

    /// Commits a write; returns when it is durable.
    ///
    /// # Errors
    /// If it is refused, and then nothing is changed; or if the store fails, and then it is not known
    /// before a restart whether it is.
    pub async fn commit(&self, write: Write) -> Result<Committed, WriteError> {
        self.submit(write).await?.await
    }

    /// Keeps what the fleet looks like; not waited for, and lost in a crash without harm.
    pub fn save_fleet(&self, rows: Vec<FleetRow>) {
        self.shared.queue.save_fleet(rows);
    }

    /// Gives up the hidden generations that imports have left behind when the process ended. Those for
    /// which there is no room go with the next import of their zone, or at the next start.
    ///
    /// # Errors
    /// If the store cannot be read or written.
    pub async fn drop_abandoned(&self) -> Result<(), WriteError> {
        let read = || self.view()?.hidden_generations();
        let hidden = read().map_err(|error| WriteError::Store(error.to_string()))?;
        for (zone, generation) in hidden {
            let authorized = Authorized::by_the_control_plane(zone.clone(), "start");
            let action = Action::DropGeneration(generation);
            match self.commit(Write::new(authorized, action)).await {
                Ok(_) => tracing::info!(%zone, "an import that was never finished is given up"),
                Err(error @ WriteError::DiskFull(_)) => {
                    tracing::warn!(%zone, %error, "an import that was never finished stays hidden");
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Octets of the store's file; 0 if that cannot be told.
    #[must_use]
    pub fn store_octets(&self) -> u64 {
        std::fs::metadata(&self.shared.path).map_or(0, |file| file.len())
    }

    /// Octets that have to stay free on the store's disk.
    #[must_use]
    pub fn min_free(&self) -> u64 {
        self.shared.min_free
    }

    /// A consistent view of everything durable.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub fn view(&self) -> Result<View, redb::Error> {
        View::new(&self.shared.database)
    }

    /// The head: moves when something has become durable.
    #[must_use]
    pub fn head(&self) -> watch::Receiver<Position> {
        self.shared.heard.head.clone()
    }

    /// What edges may have: the head, unless the release is frozen (rule 19).
    #[must_use]
    pub fn released(&self) -> watch::Receiver<Position> {
        self.shared.heard.released.clone()
    }

    /// Why not all is released, if it is not.
    #[must_use]
    pub fn frozen(&self) -> Option<Freeze> {
        self.shared.heard.freeze.borrow().clone()
    }

    /// Why writes are refused for want of room, if they are: one line.
    #[must_use]
    pub fn full(&self) -> Option<String> {
        self.shared.heard.full.borrow().clone()
    }

    /// The offset that the log begins after.
    #[must_use]
    pub fn floor(&self) -> Offset {
        *self.shared.heard.floor.borrow()
    }

    /// The last sample of zones; told before its position is released.
    #[must_use]
    pub fn samples(&self) -> watch::Receiver<Option<Arc<Sampled>>> {
        self.shared.heard.sample.clone()
    }

    /// Releases nothing more after what is released now; gives a view from after that.
    ///
    /// # Errors
    /// If it cannot be made durable.
    pub async fn freeze(&self, principal: String, reason: String) -> Result<View, WriteError> {
        self.release(Some(FreezeOrder { principal, reason })).await
    }

    /// Releases all, and goes on so.
    ///
    /// # Errors
    /// If it cannot be made durable.
    pub async fn unfreeze(&self) -> Result<(), WriteError> {
        self.release(None).await.map(drop)
    }

    async fn release(&self, freeze: Option<FreezeOrder>) -> Result<View, WriteError> {
        let (answer, answered) = oneshot::channel();
        self.shared.queue.order(Order::Release { freeze, answer }).map_err(|_| self.stopped())?;
        answered.await.unwrap_or_else(|_| Err(self.stopped()))
    }

    /// Forgets the change sets that end at or before an offset, but not what is pinned.
    ///
    /// # Errors
    /// If the store fails, or has not even room for that.
    pub async fn compact(&self, upto: Offset) -> Result<Compaction, WriteError> {
        let (answer, answered) = oneshot::channel();
        self.shared.queue.order(Order::Compact { upto, answer }).map_err(|_| self.stopped())?;
        answered.await.unwrap_or_else(|_| Err(self.stopped()))
    }

    /// Keeps what follows an offset from being compacted.
    #[must_use]
    pub fn pin(&self, offset: Offset) -> Pin {
        self.shared.pins.pin(offset)
    }

    /// What follows an offset, from memory; none if that is no longer there.
    #[must_use]
    pub fn recent(&self, after: Offset, octets: usize) -> Option<Vec<Arc<Released>>> {
        self.shared.recent.after(after, octets)
    }

    /// Resolves, with the reason, when the store has failed.
    pub async fn failed(&self) -> String {
        let mut failed = self.shared.heard.failed.clone();
        let reason = failed.wait_for(Option::is_some).await;
        reason.ok().and_then(|reason| reason.clone()).unwrap_or_else(|| "it has stopped".to_owned())
    }

    /// Looks whether the store's file is still where it was opened.
    ///
    /// # Errors
    /// If it was removed or replaced: what is written from then on cannot be found again.
    pub fn check_place(&self) -> std::io::Result<()> {
        self.shared.place.as_ref().map_or(Ok(()), Place::check)
    }

    /// Takes no more writes, and returns when those that wait are durable and answered.
    pub async fn close(&self) {
        self.shared.queue.close();
        let mut failed = self.shared.heard.failed.clone();
        while failed.changed().await.is_ok() {}
    }

    fn stopped(&self) -> WriteError {
        match &*self.shared.heard.failed.borrow() {
            Some(reason) => WriteError::Store(reason.clone()),
            None => WriteError::Stopping,
        }
    }
}

/// A write that the sequencer has, or will have in its turn.
pub struct Pending {
    answered: oneshot::Receiver<Result<Committed, WriteError>>,
    log: Log,
}

impl Future for Pending {
    type Output = Result<Committed, WriteError>;

    fn poll(mut self: std::pin::Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let answered = std::pin::Pin::new(&mut self.answered).poll(context);
        answered.map(|answer| answer.unwrap_or_else(|_| Err(self.log.stopped())))
    }
}

#[cfg(test)]
mod tests;
