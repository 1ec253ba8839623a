//! `edgesync record …`: one record at a time, by id.

use clap::{ArgGroup, Args, Subcommand};
use edgesync_proto::v1;
use serde::Serialize;

use crate::{
    args::{GuardArgs, KeyArgs},
    connect::{Server, Target},
    failure::{Failure, Outcome},
    output::{Printer, Row},
};

mod rdata;
mod row;

pub use row::{Receipt, RecordRow, missing};

/// What follows the options in the help of `create`.
const CREATE_EXAMPLES: &str = "\
Examples:
  edgesync record create example.com www A 300 192.0.2.1
  edgesync record create example.com @ MX 3600 10 mail
  edgesync record create example.com @ TXT 3600 'v=spf1 mx -all'
  edgesync record create example.com www TYPE65280 60 '\\# 2 abcd'

Text of a TXT record that has blanks or semicolons and no quotes of its own is quoted here.";

/// What to do with records.
#[derive(Debug, Subcommand)]
pub enum RecordCommand {
    /// Create a record.
    Create(CreateArgs),
    /// Change TTL or RDATA of a record; a new TTL goes to its whole RRset.
    Edit(EditArgs),
    /// Delete a record.
    Delete(DeleteArgs),
    /// Show a record.
    Get {
        /// The record's id.
        id: u64,
    },
    /// List the records of a zone, in canonical order.
    List(ListArgs),
}

/// Arguments of `record create`.
#[derive(Debug, Args)]
#[command(after_help = CREATE_EXAMPLES)]
pub struct CreateArgs {
    /// Origin of the zone.
    pub zone: String,
    /// Owner name, relative to the zone unless it ends in a dot; `@` is the zone's own.
    pub name: String,
    /// Type, such as AAAA, or TYPE65280 for one without a name.
    #[arg(value_name = "TYPE")]
    pub rtype: String,
    /// Time to live in seconds.
    pub ttl: u32,
    /// RDATA as in a zone file, in one word or several.
    #[arg(required = true)]
    pub rdata: Vec<String>,
    /// The idempotency key.
    #[command(flatten)]
    pub key: KeyArgs,
}

/// Arguments of `record edit`.
#[derive(Debug, Args)]
#[command(group(ArgGroup::new("change").required(true).multiple(true).args(["ttl", "rdata"])))]
pub struct EditArgs {
    /// The record's id.
    pub id: u64,
    /// New time to live in seconds, for the whole RRset.
    #[arg(long, value_name = "SECONDS")]
    pub ttl: Option<u32>,
    /// New RDATA as in a zone file, in one word or several.
    #[arg(long, value_name = "WORD", num_args = 1..)]
    pub rdata: Option<Vec<String>>,
    /// The version that the record must have.
    #[arg(long, value_name = "VERSION", default_value_t = 0, hide_default_value = true)]
    pub if_version: u64,
    /// The guard.
    #[command(flatten)]
    pub guard: GuardArgs,
    /// The idempotency key.
    #[command(flatten)]
    pub key: KeyArgs,
}

/// Arguments of `record delete`.
#[derive(Debug, Args)]
pub struct DeleteArgs {
    /// The record's id.
    pub id: u64,
    /// The version that the record must have.
    #[arg(long, value_name = "VERSION", default_value_t = 0, hide_default_value = true)]
    pub if_version: u64,
    /// The guard.
    #[command(flatten)]
    pub guard: GuardArgs,
    /// The idempotency key.
    #[command(flatten)]
    pub key: KeyArgs,
}

/// Arguments of `record list`.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// Origin of the zone.
    pub zone: String,
    /// Only this owner name, relative to the zone unless it ends in a dot.
    #[arg(long, default_value = "", hide_default_value = true)]
    pub name: String,
    /// Only this type.
    #[arg(long = "type", value_name = "TYPE", default_value = "", hide_default_value = true)]
    pub rtype: String,
}

/// Carries out a command.
///
/// # Errors
/// If the server cannot be reached, or refuses.
pub async fn run(
    command: RecordCommand,
    control: &Target,
    printer: &mut Printer,
) -> Result<Outcome, Failure> {
    let server = Server::control(control).await?;
    match command {
        RecordCommand::Create(args) => create(args, &server, printer).await?,
        RecordCommand::Edit(args) => edit(args, &server, printer).await?,
        RecordCommand::Delete(args) => delete(args, &server, printer).await?,
        RecordCommand::Get { id } => printer.rows(&[RecordRow::from(get(id, &server).await?)])?,
        RecordCommand::List(args) => list(args, &server, printer).await?,
    }
    Ok(Outcome::Done)
}

/// A record as a write left it, and where that stands in the log.
#[derive(Serialize)]
struct Written {
    #[serde(flatten)]
    record: RecordRow,
    #[serde(flatten)]
    receipt: Receipt,
}

impl Row for Written {
    const HEADER: &'static [&'static str] =
        &["ID", "VERSION", "OFFSET", "OWNER", "TTL", "TYPE", "RDATA"];

    fn cells(&self) -> Vec<String> {
        let mut cells = self.record.cells();
        cells.insert(2, self.receipt.offset.to_string());
        cells
    }
}

/// A record that is gone.
#[derive(Serialize)]
struct Deleted {
    id: u64,
    #[serde(flatten)]
    receipt: Receipt,
}

impl Row for Deleted {
    const HEADER: &'static [&'static str] = &["ID", "OFFSET"];

    fn cells(&self) -> Vec<String> {
        vec![self.id.to_string(), self.receipt.offset.to_string()]
    }
}

async fn create(args: CreateArgs, server: &Server, printer: &mut Printer) -> Result<(), Failure> {
    let record = v1::RecordData {
        owner: args.name,
        rdata: rdata::join(&args.rtype, &args.rdata),
        r#type: args.rtype,
        ttl: args.ttl,
        rdata_wire: bytes::Bytes::new(),
    };
    let request = v1::CreateRecordRequest {
        zone: args.zone,
        record: Some(record),
        idempotency_key: args.key.key,
    };
    let answer = server.records().create_record(request).await.map_err(server.failure())?;
    let v1::CreateRecordResponse { record, receipt } = answer.into_inner();
    print_written(record, receipt, server, printer)
}

async fn edit(args: EditArgs, server: &Server, printer: &mut Printer) -> Result<(), Failure> {
    let rdata = match args.rdata {
        None => None,
        // How a word is meant may depend on the type, which only the record knows.
        Some(words) if words.iter().any(|word| rdata::is_open(word)) => {
            Some(rdata::join(&get(args.id, server).await?.r#type, &words))
        }
        Some(words) => Some(words.join(" ")),
    };
    let request = v1::EditRecordRequest {
        id: args.id,
        ttl: args.ttl,
        rdata,
        if_version: args.if_version,
        idempotency_key: args.key.key,
        override_guard: args.guard.override_guard,
    };
    let answer = server.records().edit_record(request).await.map_err(server.failure())?;
    let v1::EditRecordResponse { record, receipt } = answer.into_inner();
    print_written(record, receipt, server, printer)
}

fn print_written(
    record: Option<v1::Record>,
    receipt: Option<v1::Receipt>,
    server: &Server,
    printer: &mut Printer,
) -> Result<(), Failure> {
    let record = record.ok_or_else(|| missing(server, "record"))?.into();
    let receipt = receipt.ok_or_else(|| missing(server, "receipt"))?.into();
    printer.rows(&[Written { record, receipt }])
}

async fn delete(args: DeleteArgs, server: &Server, printer: &mut Printer) -> Result<(), Failure> {
    let DeleteArgs { id, if_version, guard, key } = args;
    let (idempotency_key, override_guard) = (key.key, guard.override_guard);
    let request = v1::DeleteRecordRequest { id, if_version, idempotency_key, override_guard };
    let answer = server.records().delete_record(request).await.map_err(server.failure())?;
    let receipt = answer.into_inner().receipt.ok_or_else(|| missing(server, "receipt"))?.into();
    printer.rows(&[Deleted { id, receipt }])
}

async fn get(id: u64, server: &Server) -> Result<v1::Record, Failure> {
    let request = v1::GetRecordRequest { id };
    let answer = server.records().get_record(request).await.map_err(server.failure())?;
    answer.into_inner().record.ok_or_else(|| missing(server, "record"))
}

async fn list(args: ListArgs, server: &Server, printer: &mut Printer) -> Result<(), Failure> {
    let request = v1::ListRecordsRequest { zone: args.zone, owner: args.name, r#type: args.rtype };
    let answer = server.records().list_records(request).await.map_err(server.failure())?;
    let mut pages = answer.into_inner();
    while let Some(page) = pages.message().await.map_err(server.failure())? {
        let rows: Vec<_> = page.records.into_iter().map(RecordRow::from).collect();
        printer.rows(&rows)?;
    }
    Ok(())
}
