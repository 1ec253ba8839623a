//! Station 1, the API: makes a zone equal to a zone file. What fits one change set is one; what does
//! not is written to a hidden generation, chunk by chunk, and published whole with the last (rule 7).
//!
//! An idempotency key goes with the write that makes the import visible, the only or the last one;
//! before anything else the sequencer is asked whether it has it. The answer to a repeated call has
//! the receipt of the first; the numbers of what was changed are not kept, and are zero in it.

mod gather;
mod plan;

use std::{sync::Arc, time::Duration};

use edgesync_core::{
    name::Name,
    position::Offset,
    stage::{Operation, RecordData, Serial},
    zone_file::{self, ZoneFileError},
};
use edgesync_proto::v1;
pub(super) use plan::SetLimits;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};
use tonic::{Request, Status, Streaming};

use self::{
    gather::gather,
    plan::{Plan, PlanError, plan},
};
use super::{Api, blocking, caller::Call, change, methods, receipt, status};
use crate::{
    access::{Admitted, exhausted},
    log::{Action, Committed, WriteError},
};

/// How long a caller waits for its turn before it is told to come back.
const TURN: Duration = Duration::from_secs(60);
const IMPORTS_RUN: &str = "as many imports are running as may be: try again when one has ended";
const RESTORES_RUN: &str = "as many zones are being restored as may be: try again when one is";

/// How often an import is planned anew because the zone was changed while it was planned.
const ATTEMPTS: u32 = 5;

/// Carries out an import. From where its text is whole it goes on even if the caller goes away, so
/// that no hidden generation is left behind.
pub(super) async fn import(
    api: &Api,
    request: Request<Streaming<v1::ImportZoneRequest>>,
) -> Result<v1::ImportZoneResponse, Status> {
    let admitted = Admitted::of(&request)?;
    let caller = admitted.caller(methods::IMPORT_ZONE.name);
    let permit = permit(&api.imports, IMPORTS_RUN).await?;
    let gathered = gather(&admitted, request.into_inner()).await?;
    let call = Call { admitted, caller, idempotency: gathered.idempotency };
    let (zone, override_guard) = (gathered.zone, gathered.override_guard);
    let import = Import { api: api.clone(), zone, call, override_guard, _permit: permit };
    let done = tokio::spawn(import.run(gathered.text)).await;
    done.map_err(|error| Status::internal(format!("the import failed: {error}")))?
}

/// Leave to hold a zone in memory; who does not get it soon is told why.
async fn permit(places: &Arc<Semaphore>, why: &str) -> Result<OwnedSemaphorePermit, Status> {
    match timeout(TURN, Arc::clone(places).acquire_owned()).await {
        Ok(permit) => permit.map_err(|_| status::stopping()),
        Err(_) => Err(exhausted(why, TURN)),
    }
}

/// Reads a zone file and checks what needs no zone.
fn read(text: &[u8], zone: &Name) -> Result<Vec<RecordData>, Status> {
    let records = zone_file::parse(text, zone).map_err(|error| match error {
        // `LINE:COLUMN: reason`, as it is.
        ZoneFileError::Text(text) => Status::invalid_argument(text),
        other => status::bad_input(&other),
    })?;
    match records.iter().find(|data| !data.owner.is_within(zone)) {
        None => Ok(records),
        Some(data) => Err(Status::invalid_argument(format!(
            "{} {} is outside the zone {zone}: give the file's own origin, or take it out",
            data.owner, data.rtype
        ))),
    }
}

/// An import whose text is whole, or something else that makes a zone equal to what is wanted.
pub(super) struct Import {
    api: Api,
    zone: Name,
    call: Call,
    override_guard: bool,
    _permit: OwnedSemaphorePermit,
}

impl Import {
    async fn run(self, text: Vec<u8>) -> Result<v1::ImportZoneResponse, Status> {
        if let Some(response) = self.replayed().await? {
            return Ok(response);
        }
        let zone = self.zone.clone();
        let wanted = blocking(move || read(&text, &zone)).await??;
        self.make_equal(wanted).await
    }

    /// A restore, which makes a zone equal to what it was.
    pub(super) async fn restore(
        api: &Api,
        zone: Name,
        call: Call,
        override_guard: bool,
    ) -> Result<Self, Status> {
        let permit = permit(&api.restores, RESTORES_RUN).await?;
        Ok(Self { api: api.clone(), zone, call, override_guard, _permit: permit })
    }

    /// The answer that an earlier call with the same idempotency key got.
    pub(super) async fn replayed(&self) -> Result<Option<v1::ImportZoneResponse>, Status> {
        let committed = self.api.replayed(&self.call).await?;
        let receipt = committed.map(|committed| receipt(&committed));
        Ok(receipt
            .map(|receipt| v1::ImportZoneResponse { receipt: Some(receipt), ..Default::default() }))
    }

    /// Makes the zone have these records and no others.
    pub(super) async fn make_equal(
        self,
        mut wanted: Vec<RecordData>,
    ) -> Result<v1::ImportZoneResponse, Status> {
        let mut attempt = 1;
        loop {
            let (planned, records) = self.plan(wanted).await?;
            wanted = records;
            // What takes several sets would only be overtaken again.
            let is_last = attempt >= ATTEMPTS || matches!(planned, Plan::Replace { .. });
            match self.carry_out(planned).await {
                Err(error) if !is_last && was_overtaken(&error) => attempt += 1,
                done => return done.map_err(|error| status::refused(&error)),
            }
        }
    }

    async fn plan(&self, wanted: Vec<RecordData>) -> Result<(Plan, Vec<RecordData>), Status> {
        let (zone, limits) = (self.zone.clone(), self.api.limits);
        let log = self.api.log.clone();
        let planned = blocking(move || {
            let view = log.view().map_err(PlanError::Store)?;
            plan(&view, &zone, &wanted, limits).map(|plan| (plan, wanted))
        });
        planned.await?.map_err(|error| match error {
            PlanError::Store(error) => status::store(&error),
            serial @ PlanError::SerialStays(_) => Status::failed_precondition(serial.to_string()),
        })
    }

    async fn carry_out(&self, plan: Plan) -> Result<v1::ImportZoneResponse, WriteError> {
        let mut response = v1::ImportZoneResponse { change_sets: 1, ..Default::default() };
        let committed = match plan {
            Plan::Nothing => return Ok(v1::ImportZoneResponse::default()),
            Plan::Create(records) => {
                response.created = records.len() as u64;
                response.zone_created = true;
                self.visible(Action::CreateZone(records), None, 0).await?
            }
            Plan::Change { operations, seen } => {
                count(&operations, &mut response);
                self.visible(change(operations, Serial::AsWritten), Some(seen), 0).await?
            }
            Plan::Replace { chunks, seen, replaced } => {
                response.created = chunks.iter().map(|chunk| chunk.len() as u64).sum();
                response.deleted = replaced.map_or(0, |replaced| replaced.records);
                response.zone_created = replaced.is_none();
                let differ = replaced.map_or(0, |replaced| replaced.differ);
                response.change_sets = u32::try_from(chunks.len()).unwrap_or(u32::MAX);
                self.replace(chunks, seen, differ).await?
            }
        };
        response.receipt = Some(receipt(&committed));
        Ok(response)
    }

    /// Writes a hidden generation and publishes it with its last chunk, which the
    /// guard refuses if too many of the zone's records differ from it.
    async fn replace(
        &self,
        chunks: Vec<Vec<RecordData>>,
        seen: Offset,
        differ: u64,
    ) -> Result<Committed, WriteError> {
        let mut chunks = chunks.into_iter();
        let first = chunks.next().unwrap_or_default();
        let last = chunks.next_back().unwrap_or_default();
        let generation = self.hidden(Action::OpenGeneration(first), Some(seen)).await?.generation;
        let written = async {
            for chunk in chunks {
                self.hidden(Action::ExtendGeneration(generation, chunk), None).await?;
            }
            self.visible(Action::PublishGeneration(generation, last), None, differ).await
        };
        let written = written.await;
        if written.is_err() {
            // If this fails too, the next import of the zone gives the generation up.
            let _ = self.hidden(Action::DropGeneration(generation), None).await;
        }
        written
    }

    /// Commits what makes the import visible.
    async fn visible(
        &self,
        action: Action,
        seen: Option<Offset>,
        replaces: u64,
    ) -> Result<Committed, WriteError> {
        let mut write = self.call.clone().write(self.zone.clone(), action)?;
        write.replaces = replaces;
        (write.if_zone_version, write.override_guard) = (seen, self.override_guard);
        self.api.log.submit_in_turn(write).await?.await
    }

    /// Commits a part of the import that nobody sees.
    async fn hidden(&self, action: Action, seen: Option<Offset>) -> Result<Committed, WriteError> {
        let call = Call { idempotency: None, ..self.call.clone() };
        let mut write = call.write(self.zone.clone(), action)?;
        write.if_zone_version = seen;
        self.api.log.submit_in_turn(write).await?.await
    }
}

fn count(operations: &[Operation], response: &mut v1::ImportZoneResponse) {
    for operation in operations {
        match operation {
            Operation::Create(_) => response.created += 1,
            Operation::Edit { .. } => response.edited += 1,
            Operation::Delete(_) => response.deleted += 1,
        }
    }
}

/// True if the zone is not what it was when the import was planned.
const fn was_overtaken(error: &WriteError) -> bool {
    matches!(
        error,
        WriteError::ZoneVersion { .. } | WriteError::ZoneExists(_) | WriteError::NoZone(_)
    )
}

#[cfg(test)]
mod tests;
