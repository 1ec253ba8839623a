//! Station 1, the API: the records of a zone in canonical order, all of them or those of an owner or
//! type, from one view.

use edgesync_core::{
    Rtype, change::Generation, name::Name, position::Position, rdata, record::Record,
};
use edgesync_proto::{convert, v1};
use tonic::Status;

use super::{
    Api, blocking, origin,
    pages::{self, Pages},
    status,
};
use crate::{
    access::Admitted,
    log::{View, WriteError},
};

/// Records of one message at the most.
const RECORDS: usize = 500;

/// The records of a zone that are still to be sent.
pub(super) struct RecordPages {
    view: View,
    zone: Name,
    generation: Generation,
    position: Position,
    owner: Option<Name>,
    rtype: Option<Rtype>,
    /// Key of the record read last.
    after: Option<Vec<u8>>,
    over: bool,
}

/// Opens the list that a caller asks for.
pub(super) async fn open(
    api: &Api,
    admitted: &Admitted,
    message: v1::ListRecordsRequest,
) -> Result<RecordPages, Status> {
    let zone = origin(&message.zone)?;
    admitted.may(&zone)?;
    let owner = Some(message.owner.as_str()).filter(|text| !text.is_empty());
    let owner = owner.map(|text| Name::parse(text, &zone)).transpose();
    let owner = owner.map_err(|error| status::bad_input(&error))?;
    let rtype = Some(message.r#type.as_str()).filter(|text| !text.is_empty());
    let rtype = rtype.map(rdata::parse_type).transpose();
    let rtype = rtype.map_err(|error| status::bad_input(&error))?;
    let view = api.view().await?;
    blocking(move || {
        let error = |error| status::store(&error);
        let position = view.position().map_err(error)?;
        let state = view.zone(&zone).map_err(error)?;
        let none = || status::refused(&WriteError::NoZone(zone.clone()));
        let generation = state.ok_or_else(none)?.generation;
        let (after, over) = (None, false);
        Ok(RecordPages { view, zone, generation, position, owner, rtype, after, over })
    })
    .await?
}

impl RecordPages {
    fn read(&mut self) -> Result<Vec<Record>, redb::Error> {
        if let Some(owner) = &self.owner {
            self.over = true;
            return self.view.at_owner(&self.zone, self.generation, owner);
        }
        let after = self.after.as_deref();
        let read = self.view.records(&self.zone, self.generation, after, RECORDS)?;
        let (records, last) = read;
        self.over = records.len() < RECORDS;
        self.after = last;
        Ok(records)
    }
}

impl Pages for RecordPages {
    type Page = v1::ListRecordsResponse;

    fn next(&mut self) -> Result<Vec<Self::Page>, Status> {
        while !self.over {
            let mut records = self.read().map_err(|error| status::store(&error))?;
            records.retain(|record| self.rtype.is_none_or(|rtype| rtype == record.rtype));
            if !records.is_empty() {
                let shown = records.iter().map(|record| convert::record(&self.zone, record));
                let parts = pages::divide(shown.collect(), RECORDS, pages::encoded);
                let position = Some(v1::Position::from(self.position));
                let message =
                    |records| v1::ListRecordsResponse { records, position: position.clone() };
                return Ok(parts.into_iter().map(message).collect());
            }
        }
        Ok(Vec::new())
    }
}
