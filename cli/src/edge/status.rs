//! What a daemon has and does, as the command prints it.

use edgesync_proto::v1::{self, LinkState};
use serde::Serialize;

use crate::{
    connect::Server,
    failure::Failure,
    format,
    output::{Printer, Show, fields},
    record::missing,
};

/// Prints the status, and again after each change.
///
/// # Errors
/// If the daemon cannot be reached, or ends.
pub async fn watch(server: &Server, printer: &mut Printer) -> Result<(), Failure> {
    let answer = server.edge_calls().watch_status(v1::WatchStatusRequest {}).await;
    let mut states = answer.map_err(server.failure())?.into_inner();
    while let Some(state) = states.message().await.map_err(server.failure())? {
        let status = state.status.ok_or_else(|| missing(server, "status"))?;
        printer.state(&Status::from(status))?;
    }
    // Only a daemon that ends ends this stream.
    Err(server.failure()(tonic::Status::unavailable("the daemon ended the stream")))
}

/// What a daemon has and does.
#[derive(Debug, Serialize)]
pub struct Status {
    edge_id: String,
    link: &'static str,
    control: String,
    durable_offset: u64,
    log_id: String,
    history_hash: String,
    head: u64,
    resumed_from: u64,
    applied_changes: u64,
    duplicate_changes: u64,
    boot_epoch: u64,
    zones: u64,
    records: u64,
    last_contact: Option<String>,
    next_try_seconds: Option<f64>,
    reason: String,
    paused: String,
    drifts: u64,
    repairs: u64,
    snapshot: Option<Snapshot>,
    version: String,
}

/// How far the daemon is with a snapshot.
#[derive(Debug, Serialize)]
struct Snapshot {
    offset: u64,
    zone: String,
    chunks_done: u32,
    chunks: u32,
}

impl From<v1::EdgeSnapshot> for Snapshot {
    fn from(snapshot: v1::EdgeSnapshot) -> Self {
        let v1::EdgeSnapshot { offset, zone, chunks_done, chunks } = snapshot;
        Self { offset, zone, chunks_done, chunks }
    }
}

impl Snapshot {
    fn text(&self) -> String {
        let Self { offset, zone, chunks_done, chunks } = self;
        let scope = if zone.is_empty() { "all zones" } else { zone.as_str() };
        format!("{scope} at offset {offset}: {chunks_done} of {chunks} chunks")
    }
}

impl From<v1::EdgeStatus> for Status {
    fn from(status: v1::EdgeStatus) -> Self {
        let link = link(status.link());
        let durable = status.durable.unwrap_or_default();
        Self {
            link,
            edge_id: status.edge_id,
            control: status.control,
            durable_offset: durable.offset,
            log_id: format::hex(&durable.log_id),
            history_hash: format::hex(&durable.history_hash),
            head: status.head,
            resumed_from: status.resumed_from,
            applied_changes: status.applied_changes,
            duplicate_changes: status.duplicate_changes,
            boot_epoch: status.boot_epoch,
            zones: status.zones,
            records: status.records,
            last_contact: format::moment(status.last_contact.as_ref()),
            next_try_seconds: status.next_try.as_ref().map(|time| format::seconds(Some(time))),
            reason: status.reason,
            paused: status.paused,
            drifts: status.drifts,
            repairs: status.repairs,
            snapshot: status.snapshot.map(Snapshot::from),
            version: status.version,
        }
    }
}

impl Show for Status {
    fn show(&self) -> String {
        let snapshot = self.snapshot.as_ref().map(Snapshot::text);
        let next_try = self.next_try_seconds.map(format::seconds_text);
        fields(&[
            ("edge", self.edge_id.clone()),
            ("link", self.link.to_owned()),
            ("reason", format::or_dash(&self.reason)),
            ("snapshot", format::or_dash(&snapshot.unwrap_or_default())),
            ("control plane", format::or_dash(&self.control)),
            ("last contact", format::or_dash(self.last_contact.as_deref().unwrap_or_default())),
            ("next try in", format::or_dash(next_try.as_deref().unwrap_or_default())),
            ("durable offset", self.durable_offset.to_string()),
            ("head, as heard", self.head.to_string()),
            ("resumed from", self.resumed_from.to_string()),
            ("applied changes", self.applied_changes.to_string()),
            ("duplicate changes", self.duplicate_changes.to_string()),
            ("zones that drifted", self.drifts.to_string()),
            ("zones repaired", self.repairs.to_string()),
            ("zones", self.zones.to_string()),
            ("records", self.records.to_string()),
            ("boot epoch", self.boot_epoch.to_string()),
            ("log", format::or_dash(&self.log_id)),
            ("version", format::or_dash(&self.version)),
        ])
    }
}

const fn link(link: LinkState) -> &'static str {
    match link {
        LinkState::Unspecified => "unknown",
        LinkState::Disconnected => "disconnected",
        LinkState::Connecting => "connecting",
        LinkState::Connected => "connected",
        LinkState::Halted => "halted",
        LinkState::Held => "held",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disconnected_daemon_says_why_and_when_it_tries_again() {
        let mut status = v1::EdgeStatus {
            edge_id: "fra-1".to_owned(),
            durable: Some(v1::Position { offset: 7, ..Default::default() }),
            next_try: Some(prost_types::Duration { seconds: 2, nanos: 0 }),
            reason: "connection refused".to_owned(),
            ..Default::default()
        };
        status.set_link(LinkState::Disconnected);
        let text = Status::from(status).show();
        for line in [
            "link                disconnected",
            "reason              connection refused",
            "next try in         2.000 s",
            "durable offset      7",
            "control plane       -",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} not in:\n{text}");
        }
    }
}
