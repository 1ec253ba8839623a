//! Station 1, the API: `RecordService`. One record at a time here; lists, imports and pipelined
//! change sets stand beside it.

use std::pin::Pin;

use edgesync_core::{
    name::Name,
    rdata,
    record::{Record, RecordId},
    stage::{Operation, Refusal, Target},
};
use edgesync_proto::{
    convert,
    v1::{self, record_service_server::RecordService},
};
use tokio_stream::Stream;
use tonic::{Request, Response, Status, Streaming};

use super::{
    Api, caller::Call, change, change_sets, import, methods, origin, pages, receipt, record_pages,
    status, version,
};
use crate::{
    access::Admitted,
    log::{Committed, WriteError},
};

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl RecordService for Api {
    type ListRecordsStream = pages::PageStream<v1::ListRecordsResponse>;
    type ApplyChangeSetsStream = Answers<v1::ApplyChangeSetsResponse>;

    async fn create_record(
        &self,
        request: Request<v1::CreateRecordRequest>,
    ) -> Result<Response<v1::CreateRecordResponse>, Status> {
        let (call, message) = Call::take(request, methods::CREATE_RECORD)?;
        let zone = origin(&message.zone)?;
        let data = message.record.ok_or_else(|| Status::invalid_argument("record is missing"))?;
        let data = convert::record_data(&zone, data).map_err(|e| status::bad_input(&e))?;
        let action = change(vec![Operation::Create(data)], self.serial());
        let committed = self.commit(call.write(zone, action)?).await?;
        let record = self.written(&committed, RecordId(committed.first.0)).await?;
        let receipt = Some(receipt(&committed));
        Ok(Response::new(v1::CreateRecordResponse { record: Some(record), receipt }))
    }

    async fn edit_record(
        &self,
        request: Request<v1::EditRecordRequest>,
    ) -> Result<Response<v1::EditRecordResponse>, Status> {
        let (call, message) = Call::take(request, methods::EDIT_RECORD)?;
        let v1::EditRecordRequest { id, ttl, rdata, if_version, override_guard, .. } = message;
        if ttl.is_none() && rdata.is_none() {
            return Err(Status::invalid_argument("nothing to edit: give a new TTL or new RDATA"));
        }
        let committed = match self.find(RecordId(id)).await? {
            Some((zone, record)) => {
                call.admitted.may_unnamed(&zone)?;
                let rdata = rdata.map(|text| rdata::parse(record.rtype, &text, &zone)).transpose();
                let operation = Operation::Edit {
                    target: target(record, if_version),
                    ttl,
                    rdata: rdata.map_err(|error| status::bad_input(&error))?,
                    whole_rrset: true,
                };
                let action = change(vec![operation], self.serial());
                let write = call.write_unnamed(zone, action)?;
                self.commit(write.overriding(override_guard)).await?
            }
            None => self.replayed_or_gone(&call, RecordId(id)).await?,
        };
        let record = self.written(&committed, RecordId(id)).await?;
        let receipt = Some(receipt(&committed));
        Ok(Response::new(v1::EditRecordResponse { record: Some(record), receipt }))
    }

    async fn delete_record(
        &self,
        request: Request<v1::DeleteRecordRequest>,
    ) -> Result<Response<v1::DeleteRecordResponse>, Status> {
        let (call, message) = Call::take(request, methods::DELETE_RECORD)?;
        let v1::DeleteRecordRequest { id, if_version, override_guard, .. } = message;
        let committed = match self.find(RecordId(id)).await? {
            Some((zone, record)) => {
                let operation = Operation::Delete(target(record, if_version));
                let action = change(vec![operation], self.serial());
                let write = call.write_unnamed(zone, action)?;
                self.commit(write.overriding(override_guard)).await?
            }
            None => self.replayed_or_gone(&call, RecordId(id)).await?,
        };
        Ok(Response::new(v1::DeleteRecordResponse { receipt: Some(receipt(&committed)) }))
    }

    async fn get_record(
        &self,
        request: Request<v1::GetRecordRequest>,
    ) -> Result<Response<v1::GetRecordResponse>, Status> {
        let admitted = Admitted::of(&request)?;
        let id = RecordId(request.into_inner().id);
        let (zone, record) = self.find(id).await?.ok_or_else(|| gone(id))?;
        admitted.may_unnamed(&zone)?;
        let record = Some(convert::record(&zone, &record));
        Ok(Response::new(v1::GetRecordResponse { record }))
    }

    async fn list_records(
        &self,
        request: Request<v1::ListRecordsRequest>,
    ) -> Result<Response<Self::ListRecordsStream>, Status> {
        let admitted = Admitted::of(&request)?;
        let pages = record_pages::open(self, &admitted, request.into_inner()).await?;
        Ok(Response::new(pages::stream(pages)))
    }

    async fn import_zone(
        &self,
        request: Request<Streaming<v1::ImportZoneRequest>>,
    ) -> Result<Response<v1::ImportZoneResponse>, Status> {
        import::import(self, request).await.map(Response::new)
    }

    async fn apply_change_sets(
        &self,
        request: Request<Streaming<v1::ApplyChangeSetsRequest>>,
    ) -> Result<Response<Self::ApplyChangeSetsStream>, Status> {
        Ok(Response::new(Box::pin(change_sets::apply(self, request)?)))
    }
}

impl Api {
    /// A record and its zone.
    async fn find(&self, id: RecordId) -> Result<Option<(Name, Record)>, Status> {
        self.read(move |view| view.record(id)).await
    }

    /// What a call about a record that is not there has to be told: the answer of the first call
    /// with its key, as after a delete of which the answer was lost, or that the record is gone.
    async fn replayed_or_gone(&self, call: &Call, id: RecordId) -> Result<Committed, Status> {
        self.replayed(call).await?.ok_or_else(|| gone(id))
    }
}

/// What an operation by id means. Zone, owner and type of a record never change (rule 5), so they
/// may be read before the sequencer decides.
pub(super) fn target(record: Record, if_version: u64) -> Target {
    Target::Id { id: record.id, owner: record.owner, if_version: version(if_version) }
}

/// There is no such record.
pub(super) fn gone(id: RecordId) -> Status {
    status::refused(&WriteError::Refused(Refusal::NoRecord(id).into()))
}
