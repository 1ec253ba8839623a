//! Station 1, the API: makes a zone what it was at an offset, by what an import would do. History goes
//! on, and the serial moves forward (rule 24).

use edgesync_core::{
    Rtype, key, name::Name, position::Offset, rdata, record::Record, stage::RecordData, zone_file,
};
use edgesync_proto::v1;
use tonic::Status;

use super::{Api, blocking, caller::Call, import::Import, status};
use crate::log::{HistoryError, View};

impl Api {
    /// Restores a zone.
    pub(super) async fn restore(
        &self,
        call: Call,
        zone: Name,
        offset: Offset,
        override_guard: bool,
    ) -> Result<v1::RestoreZoneResponse, Status> {
        let import = Import::restore(self, zone.clone(), call, override_guard).await?;
        let response = match import.replayed().await? {
            Some(response) => response,
            None => {
                let log = self.log.clone();
                let past = blocking(move || past(&log.view()?, &zone, offset)).await?;
                match past.map_err(|error| status::history(&error))? {
                    Some(wanted) => import.make_equal(wanted).await?,
                    None => v1::ImportZoneResponse::default(),
                }
            }
        };
        let v1::ImportZoneResponse { receipt, created, edited, deleted, .. } = response;
        Ok(v1::RestoreZoneResponse { receipt, created, edited, deleted })
    }
}

/// What a zone is to have to be again what it was; none if it is so.
fn past(view: &View, zone: &Name, offset: Offset) -> Result<Option<Vec<RecordData>>, HistoryError> {
    let past = view.zone_at(zone, offset)?;
    let mut wanted: Vec<RecordData> = past.iter().map(data).collect();
    let Some(state) = view.zone(zone)? else { return Ok(Some(wanted)) };
    let mut now = Vec::new();
    view.each_record(state.generation, |key, value| -> Result<(), redb::Error> {
        let record = key::read_record(zone, key, value);
        now.push(record.map_err(|error| redb::Error::Corrupted(error.to_string()))?);
        Ok(())
    })?;
    let present = now.iter().find(|record| record.rtype == Rtype::SOA);
    let serial = present.and_then(|soa| rdata::soa_serial(&soa.rdata));
    if zone_file::difference(now, wanted.clone()).is_empty() {
        return Ok(None);
    }
    for soa in wanted.iter_mut().filter(|data| data.rtype == Rtype::SOA) {
        let risen = serial.map(|serial| serial.wrapping_add(1));
        if let Some(raised) = risen.and_then(|serial| rdata::with_soa_serial(&soa.rdata, serial)) {
            soa.rdata = raised;
        }
    }
    Ok(Some(wanted))
}

fn data(record: &Record) -> RecordData {
    let Record { owner, rtype, ttl, rdata, .. } = record.clone();
    RecordData { owner, rtype, ttl, rdata }
}
