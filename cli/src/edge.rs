//! `edgesync edge …`: asks the daemon on this host, through its socket. It answers from its store,
//! whatever the state of the control plane.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use edgesync_core::name::Name;
use edgesync_proto::v1;

use crate::{
    connect::Server,
    failure::{Failure, Outcome},
    output::Printer,
    record::{RecordRow, missing},
    zone::{Export, ExportArgs},
};

mod resume;
mod status;
mod verify;
mod zones;

/// Arguments of `edge`.
#[derive(Debug, Args)]
pub struct EdgeArgs {
    /// What to ask the daemon.
    #[command(subcommand)]
    pub command: EdgeCommand,
    /// The daemon's socket.
    #[arg(
        long,
        global = true,
        value_name = "PATH",
        default_value = "/run/edgesyncd/edgesyncd.sock"
    )]
    pub socket: PathBuf,
}

/// What to ask the daemon.
#[derive(Debug, Subcommand)]
pub enum EdgeCommand {
    /// Show what the daemon has and does.
    Status {
        /// Follow it as it changes.
        #[arg(long)]
        watch: bool,
    },
    /// List the zones that the daemon serves.
    Zones,
    /// Show the records of an owner name.
    Get {
        /// Owner name.
        name: String,
        /// Only this type.
        #[arg(value_name = "TYPE", default_value = "", hide_default_value = true)]
        rtype: String,
    },
    /// Print a zone as a zone file in canonical order, one record a line.
    Export(ExportArgs),
    /// Read all records of the store, what is in its cache from there and the rest from disk, and check
    /// them; exit code 4 if a zone differs. The daemon then fetches that zone anew.
    Verify,
    /// Let a halted edge go on: what it holds is confirmed, what it could not apply is tried again.
    Resume,
    /// Let a halted edge go on behind the change set that it cannot apply.
    Skip {
        /// First offset of the change set, as `edge status` shows it.
        first: u64,
    },
}

/// Carries out a command.
///
/// # Errors
/// If the daemon cannot be reached, or refuses.
pub async fn run(args: EdgeArgs, printer: &mut Printer) -> Result<Outcome, Failure> {
    let EdgeArgs { command, socket } = args;
    let server = Server::edge(&socket).await?;
    let mut calls = server.edge_calls();
    match command {
        EdgeCommand::Status { watch: true } => status::watch(&server, printer).await?,
        EdgeCommand::Status { watch: false } => {
            let answer =
                calls.get_status(v1::GetStatusRequest {}).await.map_err(server.failure())?;
            let status = answer.into_inner().status.ok_or_else(|| missing(&server, "status"))?;
            printer.value(&status::Status::from(status))?;
        }
        EdgeCommand::Zones => zones::list(&server, printer).await?,
        EdgeCommand::Get { name, rtype } => get(&name, rtype, &server, printer).await?,
        EdgeCommand::Export(args) => export(args, &server, printer).await?,
        EdgeCommand::Resume => resume::resume(&server, printer).await?,
        EdgeCommand::Skip { first } => resume::skip(first, &server, printer).await?,
        EdgeCommand::Verify => {
            let answer = calls.verify_store(v1::VerifyStoreRequest {}).await;
            let found = verify::Verified::from(answer.map_err(server.failure())?.into_inner());
            printer.value(&found)?;
            return Ok(found.outcome());
        }
    }
    Ok(Outcome::Done)
}

async fn get(
    name: &str,
    rtype: String,
    server: &Server,
    printer: &mut Printer,
) -> Result<(), Failure> {
    let owner = Name::parse_origin(name).map_err(|error| Failure::Usage(error.to_string()))?;
    let request = v1::LookupRecordsRequest { owner: owner.to_string(), r#type: rtype };
    let answer = server.edge_calls().lookup_records(request).await.map_err(server.failure())?;
    let rows: Vec<_> = answer.into_inner().records.into_iter().map(RecordRow::from).collect();
    printer.rows(&rows)
}

async fn export(args: ExportArgs, server: &Server, printer: &mut Printer) -> Result<(), Failure> {
    let request = v1::ExportZoneRequest { origin: args.origin.clone() };
    let answer = server.edge_calls().export_zone(request).await.map_err(server.failure())?;
    let mut parts = answer.into_inner();
    let mut export = Export::begin(args, printer)?;
    while let Some(part) = parts.message().await.map_err(server.failure())? {
        export.take(&part.text, part.position.as_ref())?;
    }
    export.finish()
}
