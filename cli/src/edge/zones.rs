//! `edgesync edge zones`: what the edge serves.

use edgesync_proto::v1;
use serde::Serialize;

use crate::{
    connect::Server,
    failure::Failure,
    format,
    output::{Printer, Row},
};

/// Prints the zones of the store, a page at a time.
///
/// # Errors
/// If the daemon cannot be reached, or refuses.
pub async fn list(server: &Server, printer: &mut Printer) -> Result<(), Failure> {
    let answer = server.edge_calls().list_edge_zones(v1::ListEdgeZonesRequest {}).await;
    let mut pages = answer.map_err(server.failure())?.into_inner();
    while let Some(page) = pages.message().await.map_err(server.failure())? {
        let rows: Vec<_> = page.zones.into_iter().map(ZoneRow::from).collect();
        printer.rows(&rows)?;
    }
    Ok(())
}

/// A zone of the store. Generation and digest are those of the control plane's `zone list`, if both
/// stand at one version.
#[derive(Debug, Serialize)]
struct ZoneRow {
    origin: String,
    records: u64,
    version: u64,
    generation: u64,
    digest: String,
}

impl From<v1::EdgeZone> for ZoneRow {
    fn from(zone: v1::EdgeZone) -> Self {
        let v1::EdgeZone { origin, generation, records, version, digest } = zone;
        Self { origin, records, version, generation, digest: format::hex(&digest) }
    }
}

impl Row for ZoneRow {
    const HEADER: &'static [&'static str] = &["ORIGIN", "RECORDS", "VERSION"];

    fn cells(&self) -> Vec<String> {
        vec![self.origin.clone(), self.records.to_string(), self.version.to_string()]
    }
}
