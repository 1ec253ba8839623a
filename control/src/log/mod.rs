//! Station 2, the log: the one total order of changes. A write comes in from the API, is checked and
//! given its offsets by the one sequencer, becomes durable together with what it does to the
//! records, and only then is released to the sessions and answered (invariants 1 to 3).

mod chain;
mod commit;
mod corrupt;
mod idempotency;
mod open;
mod prepare;
mod recent;
mod schema;
mod scrub;
mod seal;
mod sequencer;
mod view;

use std::{
    path::PathBuf,
    pin::Pin,
    sync::{Arc, atomic::AtomicBool},
    task::{Context, Poll},
};

use edgesync_core::{
    change::Generation,
    name::Name,
    position::{HistoryHash, Offset, Position},
    stage::{Operation, RecordData, Refused, Serial},
};
pub use open::{OpenError, Options};
pub use recent::Released;
pub use schema::{AuditEntry, FleetRow, LogEntry};
pub use scrub::Scrub;
use tokio::sync::{oneshot, watch};
pub use view::View;

use self::sequencer::Queue;

/// Who asks for a write, and how: kept beside the log, never streamed (rule 1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The principal's name.
    pub principal: String,
    /// Address that the call came from.
    pub peer: String,
    /// The RPC, such as `edgesync.v1.RecordService/CreateRecord`.
    pub method: &'static str,
}

/// A key under which a repeated call gives the first answer (rule 9).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdempotencyKey {
    /// The caller's key, not empty.
    pub key: String,
    /// Hash of the request, so that another request under the same key is found.
    pub request: [u8; 32],
}

/// A change set on its way in.
#[derive(Clone, Debug)]
pub struct Write {
    /// Origin of the zone.
    pub zone: Name,
    /// What is to be done.
    pub action: Action,
    /// Who asks.
    pub caller: Caller,
    /// The idempotency key, if there is one.
    pub idempotency: Option<IdempotencyKey>,
    /// The zone's version that the caller has seen; another one makes the write fail.
    pub if_zone_version: Option<Offset>,
    /// Shared by the writes of one pipelined stream: set at the first refusal, after which the
    /// rest is refused too (rule 4).
    pub stream: Option<Arc<AtomicBool>>,
}

/// What a write does.
#[derive(Clone, Debug)]
pub enum Action {
    /// Begins a zone with these records.
    CreateZone(Vec<RecordData>),
    /// Ends a zone.
    DeleteZone,
    /// Changes records of a zone.
    Change {
        /// The operations, checked together.
        operations: Vec<Operation>,
        /// What happens to the serial.
        serial: Serial,
    },
    /// Begins a hidden generation with these records, giving up one that was never published.
    OpenGeneration(Vec<RecordData>),
    /// Adds records to a hidden generation.
    ExtendGeneration(Generation, Vec<RecordData>),
    /// Adds the last records to a hidden generation and makes it the zone.
    PublishGeneration(Generation, Vec<RecordData>),
    /// Gives a hidden generation up.
    DropGeneration(Generation),
}

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

/// Why a write did not happen. Nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    /// It breaks a rule.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// There is no such zone.
    #[error("there is no zone {0}: create it, or import it")]
    NoZone(Name),
    /// There is such a zone.
    #[error("the zone {0} exists already")]
    ZoneExists(Name),
    /// The zone was changed since the caller looked.
    #[error(
        "the zone {zone} has the version {has}, not {wanted}: it was changed meanwhile; read it again"
    )]
    ZoneVersion {
        /// The origin.
        zone: Name,
        /// What it has.
        has: Offset,
        /// What was asked for.
        wanted: Offset,
    },
    /// The hidden generation was given up, by a later import or after an edit.
    #[error("the import of the zone {0} was overtaken by another one: start it again")]
    NoGeneration(Name),
    /// The key was used for another request.
    #[error("the idempotency key was used for another request: use a new key")]
    KeyReused,
    /// A write before it in its stream was refused.
    #[error("a change set before this one was refused; nothing after it is committed")]
    StreamRefused,
    /// It changes nothing.
    #[error("the change set is empty: give at least one operation")]
    Empty,
    /// The control plane stops.
    #[error("the control plane is stopping: try again")]
    Stopping,
    /// What it is about is not what was written; other writes go on (invariant 17).
    #[error("the log's store is damaged where the write reads it: {0}; restore a backup")]
    Damaged(String),
    /// The store failed; nothing is accepted until a restart has recovered it.
    #[error("the log's store failed: {0}; restart edgesync-control to recover")]
    Store(String),
}

/// A handle on the log. Cheap to clone.
#[derive(Clone)]
pub struct Log {
    shared: Arc<Shared>,
}

struct Shared {
    path: PathBuf,
    database: Arc<redb::Database>,
    queue: Queue,
    recent: Arc<recent::Recent>,
    head: watch::Receiver<Position>,
    failed: watch::Receiver<Option<String>>,
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
        let (answer, answered) = oneshot::channel();
        self.shared.queue.send(write, answer).await.map_err(|_| self.stopped())?;
        Ok(Pending { answered, log: self.clone() })
    }

    /// Commits a write; returns when it is durable.
    ///
    /// # Errors
    /// If it is refused, or cannot be made durable. Nothing is changed then.
    pub async fn commit(&self, write: Write) -> Result<Committed, WriteError> {
        self.submit(write).await?.await
    }

    /// Keeps what the fleet looks like; not waited for, and lost in a crash without harm.
    pub fn save_fleet(&self, rows: Vec<FleetRow>) {
        self.shared.queue.save_fleet(rows);
    }

    /// Gives up the hidden generations that imports have left behind when the process ended.
    ///
    /// # Errors
    /// If the store cannot be read or written.
    pub async fn drop_abandoned(&self) -> Result<(), WriteError> {
        let read = || self.view()?.hidden_generations();
        let hidden = read().map_err(|error| WriteError::Store(error.to_string()))?;
        for (zone, generation) in hidden {
            tracing::info!(%zone, "an import that was never finished is given up");
            let caller = Caller {
                principal: "edgesync-control".to_owned(),
                peer: "-".to_owned(),
                method: "start",
            };
            let action = Action::DropGeneration(generation);
            let (idempotency, if_zone_version, stream) = (None, None, None);
            self.commit(Write { zone, action, caller, idempotency, if_zone_version, stream })
                .await?;
        }
        Ok(())
    }

    /// Octets of the store's file; 0 if that cannot be told.
    #[must_use]
    pub fn store_octets(&self) -> u64 {
        std::fs::metadata(&self.shared.path).map_or(0, |file| file.len())
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
        self.shared.head.clone()
    }

    /// What follows an offset, from memory; none if that is no longer there.
    #[must_use]
    pub fn recent(&self, after: Offset, octets: usize) -> Option<Vec<Arc<Released>>> {
        self.shared.recent.after(after, octets)
    }

    /// The history hash at the end of the change set that ends at an offset, if one does.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub fn hash_at(&self, offset: Offset) -> Result<Option<HistoryHash>, redb::Error> {
        self.view()?.hash_at(offset)
    }

    /// Resolves, with the reason, when the store has failed.
    pub async fn failed(&self) -> String {
        let mut failed = self.shared.failed.clone();
        let reason = failed.wait_for(Option::is_some).await;
        reason.ok().and_then(|reason| reason.clone()).unwrap_or_else(|| "it has stopped".to_owned())
    }

    /// Takes no more writes, and returns when those that wait are durable and answered.
    pub async fn close(&self) {
        self.shared.queue.close();
        let mut failed = self.shared.failed.clone();
        while failed.changed().await.is_ok() {}
    }

    fn stopped(&self) -> WriteError {
        match &*self.shared.failed.borrow() {
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

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let answered = Pin::new(&mut self.answered).poll(context);
        answered.map(|answer| answer.unwrap_or_else(|_| Err(self.log.stopped())))
    }
}

#[cfg(test)]
mod tests;
