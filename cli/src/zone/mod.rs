//! `edgesync zone …`: whole zones.

use clap::{Args, Subcommand};
use edgesync_proto::v1;
use serde::Serialize;

use crate::{
    args::{GuardArgs, KeyArgs},
    connect::{Server, Target},
    failure::{Failure, Outcome},
    format,
    output::{Printer, Row},
    record::{Receipt, missing},
};

mod create;
mod export;
mod import;
mod restore;

pub use create::CreateArgs;
pub use export::{Export, ExportArgs};
pub use import::{ImportArgs, Source};
pub use restore::RestoreArgs;

/// What to do with zones.
#[derive(Debug, Subcommand)]
pub enum ZoneCommand {
    /// Create a zone with a SOA and NS records.
    Create(CreateArgs),
    /// List all zones.
    List,
    /// Delete a zone with all its records.
    Delete(DeleteArgs),
    /// Print a zone as a zone file in canonical order, one record a line.
    Export(ExportArgs),
    /// Make a zone equal to a zone file: created if it is not there, else changed by what differs.
    Import(ImportArgs),
    /// Make a zone what it was at an offset, by a new change: history goes on.
    Restore(RestoreArgs),
}

/// Arguments of `zone delete`.
#[derive(Debug, Args)]
pub struct DeleteArgs {
    /// Origin of the zone.
    pub origin: String,
    /// The version that the zone must have.
    #[arg(long, value_name = "VERSION", default_value_t = 0, hide_default_value = true)]
    pub if_version: u64,
    /// The guard.
    #[command(flatten)]
    pub guard: GuardArgs,
    /// The idempotency key.
    #[command(flatten)]
    pub key: KeyArgs,
}

/// Carries out a command.
///
/// # Errors
/// If an argument is wrong, the server cannot be reached, or it refuses.
pub async fn run(
    command: ZoneCommand,
    control: &Target,
    printer: &mut Printer,
) -> Result<Outcome, Failure> {
    match command {
        ZoneCommand::Create(args) => {
            let request = create::request(args)?;
            create(request, &Server::control(control).await?, printer).await?;
        }
        ZoneCommand::List => list(&Server::control(control).await?, printer).await?,
        ZoneCommand::Delete(args) => {
            delete(args, &Server::control(control).await?, printer).await?;
        }
        ZoneCommand::Export(args) => {
            export::run(args, &Server::control(control).await?, printer).await?;
        }
        ZoneCommand::Restore(args) => {
            restore::run(args, &Server::control(control).await?, printer).await?;
        }
        ZoneCommand::Import(args) => import::run(args, control, printer).await?,
    }
    Ok(Outcome::Done)
}

/// A zone.
#[derive(Debug, Serialize)]
struct ZoneRow {
    origin: String,
    records: u64,
    serial: u32,
    version: u64,
    generation: u64,
    digest: String,
}

impl From<v1::Zone> for ZoneRow {
    fn from(zone: v1::Zone) -> Self {
        Self {
            origin: zone.origin,
            records: zone.records,
            serial: zone.serial,
            version: zone.version,
            generation: zone.generation,
            digest: format::hex(&zone.digest),
        }
    }
}

impl Row for ZoneRow {
    const HEADER: &'static [&'static str] = &["ORIGIN", "RECORDS", "SERIAL", "VERSION"];

    fn cells(&self) -> Vec<String> {
        vec![
            self.origin.clone(),
            self.records.to_string(),
            self.serial.to_string(),
            self.version.to_string(),
        ]
    }
}

/// A zone that was created.
#[derive(Serialize)]
struct Created {
    #[serde(flatten)]
    zone: ZoneRow,
    #[serde(flatten)]
    receipt: Receipt,
}

impl Row for Created {
    const HEADER: &'static [&'static str] = &["ORIGIN", "RECORDS", "SERIAL", "OFFSET"];

    fn cells(&self) -> Vec<String> {
        vec![
            self.zone.origin.clone(),
            self.zone.records.to_string(),
            self.zone.serial.to_string(),
            self.receipt.offset.to_string(),
        ]
    }
}

/// A zone that was deleted.
#[derive(Serialize)]
struct Deleted {
    origin: String,
    records: u64,
    #[serde(flatten)]
    receipt: Receipt,
}

impl Row for Deleted {
    const HEADER: &'static [&'static str] = &["ORIGIN", "RECORDS", "OFFSET"];

    fn cells(&self) -> Vec<String> {
        let offset = self.receipt.offset.to_string();
        vec![self.origin.clone(), self.records.to_string(), offset]
    }
}

async fn create(
    request: v1::CreateZoneRequest,
    server: &Server,
    printer: &mut Printer,
) -> Result<(), Failure> {
    let answer = server.zones().create_zone(request).await.map_err(server.failure())?;
    let v1::CreateZoneResponse { zone, receipt } = answer.into_inner();
    let zone = zone.ok_or_else(|| missing(server, "zone"))?.into();
    let receipt = receipt.ok_or_else(|| missing(server, "receipt"))?.into();
    printer.rows(&[Created { zone, receipt }])
}

async fn list(server: &Server, printer: &mut Printer) -> Result<(), Failure> {
    let answer = server.zones().list_zones(v1::ListZonesRequest {}).await;
    let mut pages = answer.map_err(server.failure())?.into_inner();
    while let Some(page) = pages.message().await.map_err(server.failure())? {
        let rows: Vec<_> = page.zones.into_iter().map(ZoneRow::from).collect();
        printer.rows(&rows)?;
    }
    Ok(())
}

async fn delete(args: DeleteArgs, server: &Server, printer: &mut Printer) -> Result<(), Failure> {
    let DeleteArgs { origin, if_version, guard, key } = args;
    let request = v1::DeleteZoneRequest {
        origin: origin.clone(),
        if_version,
        idempotency_key: key.key,
        override_guard: guard.override_guard,
    };
    let answer = server.zones().delete_zone(request).await.map_err(server.failure())?;
    let v1::DeleteZoneResponse { receipt, records } = answer.into_inner();
    let receipt = receipt.ok_or_else(|| missing(server, "receipt"))?.into();
    printer.rows(&[Deleted { origin, records, receipt }])
}
