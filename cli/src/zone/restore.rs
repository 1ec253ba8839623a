//! `edgesync zone restore`: makes a zone what it was at an offset, by a new change.

use clap::Args;
use edgesync_proto::v1;
use serde::Serialize;

use crate::{
    args::{GuardArgs, KeyArgs},
    connect::Server,
    failure::Failure,
    output::{Printer, Show},
    record::Receipt,
};

/// Arguments of `zone restore`.
#[derive(Debug, Args)]
pub struct RestoreArgs {
    /// Origin of the zone.
    pub origin: String,
    /// The offset whose content it is to have again; `edgesync log --zone ORIGIN` shows them.
    #[arg(long, value_name = "OFFSET")]
    pub to: u64,
    /// The guard.
    #[command(flatten)]
    pub guard: GuardArgs,
    /// The idempotency key.
    #[command(flatten)]
    pub key: KeyArgs,
}

/// What a restore changed.
#[derive(Debug, Serialize)]
struct Restored {
    origin: String,
    to: u64,
    created: u64,
    edited: u64,
    deleted: u64,
    #[serde(flatten)]
    receipt: Option<Receipt>,
}

impl Show for Restored {
    fn show(&self) -> String {
        let Self { origin, to, created, edited, deleted, receipt } = self;
        match receipt {
            None => format!("{origin}: is what it was at offset {to}"),
            Some(receipt) => format!(
                "{origin}: as at offset {to} again: {created} created, {edited} edited, {deleted} \
                 deleted, offset {}",
                receipt.offset
            ),
        }
    }
}

/// Restores a zone.
///
/// # Errors
/// If the server cannot be reached, or refuses.
pub async fn run(args: RestoreArgs, server: &Server, printer: &mut Printer) -> Result<(), Failure> {
    let RestoreArgs { origin, to, guard, key } = args;
    let request = v1::RestoreZoneRequest {
        origin: origin.clone(),
        offset: to,
        idempotency_key: key.key,
        override_guard: guard.override_guard,
    };
    let answer = server.zones().restore_zone(request).await.map_err(server.failure())?;
    let v1::RestoreZoneResponse { receipt, created, edited, deleted } = answer.into_inner();
    let receipt = receipt.map(Receipt::from);
    printer.value(&Restored { origin, to, created, edited, deleted, receipt })
}
