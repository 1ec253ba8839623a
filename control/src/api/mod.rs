//! Station 1, the API: takes what callers ask, reads and checks it, and hands it to the log. Text
//! becomes operations here; whether they may be is decided by the sequencer, on the state they meet.

mod access;
mod caller;
mod change_sets;
mod fleet;
mod import;
mod log_pages;
mod measure;
pub mod methods;
mod pages;
mod record;
mod record_pages;
mod release;
mod restore;
mod status;
mod zone;

use std::sync::Arc;

use edgesync_core::{
    change::{Change, ChangeSet},
    name::Name,
    position::Offset,
    record::{Record, RecordId},
    stage::{Operation, Serial},
};
use edgesync_proto::{
    convert::{self, decode_set},
    v1,
};
pub use measure::MeasureLayer;
use tokio::sync::{Semaphore, watch};
use tonic::Status;

use self::{caller::Call, import::SetLimits};
use crate::{
    config::{Config, SoaSerial},
    fleet::Fleet,
    log::{Action, Committed, Log, ReadError, View, Write, WriteError},
    snapshot::Snapshots,
};

/// Imports at a time; each holds a zone in memory.
const IMPORTS: usize = 2;
/// Restores at a time. They have places of their own, and do not stand behind slow imports.
const RESTORES: usize = 2;

/// The services of the API, but for the sessions.
#[derive(Clone)]
pub struct Api {
    log: Log,
    fleet: Fleet,
    snapshots: Snapshots,
    config: watch::Receiver<Config>,
    drain: watch::Receiver<bool>,
    imports: Arc<Semaphore>,
    restores: Arc<Semaphore>,
    limits: SetLimits,
}

impl Api {
    /// An API over a log and a fleet. Streams that would stay open end when `drain` turns true.
    #[must_use]
    pub fn new(
        log: Log,
        fleet: Fleet,
        snapshots: Snapshots,
        config: watch::Receiver<Config>,
        drain: watch::Receiver<bool>,
    ) -> Self {
        let [imports, restores] = [IMPORTS, RESTORES].map(|most| Arc::new(Semaphore::new(most)));
        let limits = SetLimits::default();
        Self { log, fleet, snapshots, config, drain, imports, restores, limits }
    }

    /// What happens to the serial of a zone when one of its records is changed.
    fn serial(&self) -> Serial {
        match self.config.borrow().soa_serial {
            SoaSerial::Raise => Serial::Raise,
            SoaSerial::Keep => Serial::AsWritten,
        }
    }

    /// Reads what is durable, where it may block.
    async fn read<T: Send + 'static, E: Into<ReadError> + Send + 'static>(
        &self,
        read: impl FnOnce(&View) -> Result<T, E> + Send + 'static,
    ) -> Result<T, Status> {
        let log = self.log.clone();
        let done = blocking(move || read(&log.view()?).map_err(Into::into)).await?;
        done.map_err(|error| status::read(&error))
    }

    /// Opens a view that goes with a list.
    async fn view(&self) -> Result<View, Status> {
        let log = self.log.clone();
        blocking(move || log.view()).await?.map_err(|error| status::store(&error))
    }

    /// Makes a write durable.
    async fn commit(&self, write: Write) -> Result<Committed, Status> {
        self.log.commit(write).await.map_err(|error| status::refused(&error))
    }

    /// The answer that an earlier call with the same idempotency key got. The sequencer alone knows
    /// the keys (rule 9), so it is asked with a write that would change nothing.
    async fn replayed(&self, call: &Call) -> Result<Option<Committed>, Status> {
        if call.idempotency.is_none() {
            return Ok(None);
        }
        let nothing = change(Vec::new(), Serial::AsWritten);
        match self.log.commit(call.clone().question(nothing)).await {
            Ok(committed) => Ok(Some(committed)),
            Err(WriteError::Empty) => Ok(None),
            Err(error) => Err(status::refused(&error)),
        }
    }

    /// The change set that a write became, as the log has it.
    async fn committed_set(&self, committed: &Committed) -> Result<ChangeSet, Status> {
        let before = committed.first.before();
        let recent = self.log.recent(before, 1);
        let body = match recent.as_ref().and_then(|sets| sets.first()) {
            Some(released) => released.set.body.clone(),
            None => {
                let entries = self.read(move |view| view.entries(before, 1)).await?;
                let entry = entries.into_iter().next();
                entry.ok_or_else(|| Status::internal("a durable write is not in the log"))?.body
            }
        };
        decode_set(body).map_err(|error| Status::internal(error.to_string()))
    }

    /// A record as a write made it, whatever has become of it since.
    async fn written(&self, committed: &Committed, id: RecordId) -> Result<v1::Record, Status> {
        let set = self.committed_set(committed).await?;
        let made = set.with_offsets().filter_map(|(at, change)| record_made(id, at, change)).last();
        let record = made.ok_or_else(|| Status::internal("a durable write lacks its record"))?;
        Ok(convert::record(&set.zone, &record))
    }
}

/// The record that a change made, if it is the one meant.
fn record_made(wanted: RecordId, at: Offset, change: &Change) -> Option<Record> {
    let (id, owner, rtype, ttl, rdata) = match change {
        Change::RecordCreate { owner, rtype, ttl, rdata } => {
            (RecordId(at.0), owner, rtype, ttl, rdata)
        }
        Change::RecordEdit { id, owner, rtype, ttl, rdata } => (*id, owner, rtype, ttl, rdata),
        _ => return None,
    };
    (id == wanted).then(|| Record {
        id,
        version: at,
        owner: owner.clone(),
        rtype: *rtype,
        ttl: *ttl,
        rdata: rdata.clone(),
    })
}

/// Does work that blocks, or takes long, where it keeps nobody else waiting.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Status> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| Status::internal(format!("a task of the control plane failed: {error}")))
}

/// Reads the origin of a zone.
fn origin(text: &str) -> Result<Name, Status> {
    Name::parse_origin(text).map_err(|error| status::bad_input(&error))
}

/// A write as its caller is told of it.
fn receipt(committed: &Committed) -> v1::Receipt {
    v1::Receipt {
        position: Some(committed.position.into()),
        first: committed.first.0,
        replayed: committed.replayed,
    }
}

/// A version that a caller asks for; 0 stands for any.
fn version(number: u64) -> Option<Offset> {
    (number != 0).then_some(Offset(number))
}

/// A wish for one record's change.
fn change(operations: Vec<Operation>, serial: Serial) -> Action {
    Action::Change { operations, serial }
}
