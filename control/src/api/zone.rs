//! Station 1, the API: `ZoneService`. A zone begins and ends with one change set.

use edgesync_core::Rtype;
use edgesync_core::{
    digest::Digest,
    fold::ZoneState,
    name::Name,
    position::{Offset, Position},
    rdata,
    record::{Record, RecordId},
    stage::RecordData,
};
use edgesync_proto::{
    convert,
    v1::{self, zone_service_server::ZoneService},
};
use tonic::{Request, Response, Status};

use super::{
    Api, blocking,
    caller::Call,
    methods, origin,
    pages::{self, PageStream, Pages},
    receipt, status, version,
};
use crate::{
    access::Admitted,
    log::{Action, Committed, View, WriteError},
};

/// Zones of one message at the most.
const ZONES: usize = 500;

#[tonic::async_trait]
impl ZoneService for Api {
    type ListZonesStream = PageStream<v1::ListZonesResponse>;

    async fn create_zone(
        &self,
        request: Request<v1::CreateZoneRequest>,
    ) -> Result<Response<v1::CreateZoneResponse>, Status> {
        let (call, message) = Call::take(request, methods::CREATE_ZONE)?;
        let zone = origin(&message.origin)?;
        let name = zone.clone();
        let records = blocking(move || records_of(&name, message.records)).await??;
        let action = Action::CreateZone(records.clone());
        let committed = self.commit(call.write(zone.clone(), action)?).await?;
        let zone = Some(created(&zone, records, &committed));
        Ok(Response::new(v1::CreateZoneResponse { zone, receipt: Some(receipt(&committed)) }))
    }

    async fn delete_zone(
        &self,
        request: Request<v1::DeleteZoneRequest>,
    ) -> Result<Response<v1::DeleteZoneResponse>, Status> {
        let (call, message) = Call::take(request, methods::DELETE_ZONE)?;
        let zone = origin(&message.origin)?;
        let mut write = call.write(zone.clone(), Action::DeleteZone)?;
        let name = zone;
        // Counted just before: without if_version a change in between is not in it.
        let there = self.read(move |view| view.zone(&name)).await?;
        write.if_zone_version = version(message.if_version);
        write.override_guard = message.override_guard;
        let committed = self.commit(write).await?;
        let records = there.map_or(0, |zone| zone.records);
        Ok(Response::new(v1::DeleteZoneResponse { receipt: Some(receipt(&committed)), records }))
    }

    async fn restore_zone(
        &self,
        request: Request<v1::RestoreZoneRequest>,
    ) -> Result<Response<v1::RestoreZoneResponse>, Status> {
        let (call, message) = Call::take(request, methods::RESTORE_ZONE)?;
        let (zone, offset) = (origin(&message.origin)?, Offset(message.offset));
        call.admitted.may(&zone)?;
        self.restore(call, zone, offset, message.override_guard).await.map(Response::new)
    }

    async fn get_zone(
        &self,
        request: Request<v1::GetZoneRequest>,
    ) -> Result<Response<v1::GetZoneResponse>, Status> {
        let admitted = Admitted::of(&request)?;
        let zone = origin(&request.into_inner().origin)?;
        admitted.may(&zone)?;
        let name = zone.clone();
        let read = move |view: &View| {
            view.zone(&name)?.map(|state| zone_of(view, &name, &state)).transpose()
        };
        let found = self.read(read).await?;
        let none = || status::refused(&WriteError::NoZone(zone));
        Ok(Response::new(v1::GetZoneResponse { zone: Some(found.ok_or_else(none)?) }))
    }

    async fn list_zones(
        &self,
        request: Request<v1::ListZonesRequest>,
    ) -> Result<Response<Self::ListZonesStream>, Status> {
        let admitted = Admitted::of(&request)?;
        let view = self.view().await?;
        let opened = blocking(move || {
            let position = view.position().map_err(|error| status::store(&error))?;
            Ok::<_, Status>(ZonePages { view, admitted, position, after: None, over: false })
        });
        Ok(Response::new(pages::stream(opened.await??)))
    }
}

/// The records that a zone is to begin with.
fn records_of(zone: &Name, records: Vec<v1::RecordData>) -> Result<Vec<RecordData>, Status> {
    let read = records.into_iter().enumerate().map(|(index, data)| {
        convert::record_data(zone, data).map_err(|error| {
            let status = status::bad_input(&error);
            Status::new(status.code(), format!("record {}: {}", index + 1, status.message()))
        })
    });
    read.collect()
}

/// A zone as it was created, whatever has become of it since: its records have the offsets after
/// that of its beginning, in their order.
fn created(origin: &Name, records: Vec<RecordData>, committed: &Committed) -> v1::Zone {
    let (mut digest, mut serial, mut at) = (Digest::empty(), 0, committed.first);
    let count = records.len() as u64;
    for RecordData { owner, rtype, ttl, rdata } in records {
        at = at.next();
        if rtype == Rtype::SOA {
            serial = rdata::soa_serial(&rdata).unwrap_or(0);
        }
        let id = RecordId(at.0);
        digest = digest.plus(&Record { id, version: at, owner, rtype, ttl, rdata });
    }
    v1::Zone {
        origin: origin.to_string(),
        generation: committed.generation.0,
        records: count,
        serial,
        version: committed.position.offset.0,
        digest: digest.to_bytes().to_vec().into(),
    }
}

/// A zone as the API shows it.
fn zone_of(view: &View, origin: &Name, state: &ZoneState) -> Result<v1::Zone, redb::Error> {
    let apex = view.at_owner(origin, state.generation, origin)?;
    let soa = apex.iter().find(|record| record.rtype == Rtype::SOA);
    Ok(v1::Zone {
        origin: origin.to_string(),
        generation: state.generation.0,
        records: state.records,
        serial: soa.and_then(|soa| rdata::soa_serial(&soa.rdata)).unwrap_or(0),
        version: state.version.0,
        digest: state.digest.to_bytes().to_vec().into(),
    })
}

/// The zones that are still to be sent.
struct ZonePages {
    view: View,
    /// Shown are the zones that the caller may see.
    admitted: Admitted,
    position: Position,
    after: Option<Name>,
    over: bool,
}

impl Pages for ZonePages {
    type Page = v1::ListZonesResponse;

    fn next(&mut self) -> Result<Vec<Self::Page>, Status> {
        while !self.over {
            let zones = self.read()?;
            if !zones.is_empty() {
                return Ok(vec![v1::ListZonesResponse {
                    zones,
                    position: Some(self.position.into()),
                }]);
            }
        }
        Ok(Vec::new())
    }
}

impl ZonePages {
    fn read(&mut self) -> Result<Vec<v1::Zone>, Status> {
        let mut read = || {
            let zones = self.view.zones(self.after.as_ref(), ZONES)?;
            self.over = zones.len() < ZONES;
            self.after = zones.last().map(|(origin, _)| origin.clone());
            let seen = zones.iter().filter(|(origin, _)| self.admitted.sees(origin));
            let shown = seen.map(|(origin, state)| zone_of(&self.view, origin, state));
            shown.collect::<Result<Vec<_>, _>>()
        };
        read().map_err(|error| status::store(&error))
    }
}
