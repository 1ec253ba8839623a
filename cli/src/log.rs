//! `edgesync log`: who changed what, oldest first.

use std::fmt::Write;

use clap::{Args, Subcommand};
use edgesync_proto::v1;
use serde::Serialize;

use crate::{
    connect::{Server, Target},
    failure::{Failure, Outcome},
    format,
    output::{Printer, Show},
};

/// Changes of a set that are shown to people, unless they want all.
const CHANGES_SHOWN: usize = 10;

/// Arguments of `log`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct LogArgs {
    /// What to do with the log, instead of showing it.
    #[command(subcommand)]
    pub command: Option<LogCommand>,
    /// Only changes of this zone.
    #[arg(long, value_name = "ORIGIN", default_value = "", hide_default_value = true)]
    pub zone: String,
    /// From this offset on [default: the last change sets, 100 or as many as --limit says].
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    pub from: u64,
    /// At most so many change sets [default: 100, or with --from all that follow].
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    pub limit: u32,
    /// Show all changes of each set, not only the first ten.
    #[arg(long)]
    pub full: bool,
}

/// What to do with the log.
#[derive(Debug, Subcommand)]
pub enum LogCommand {
    /// Forget the oldest change sets. Edges that still need them take a snapshot, and zones can no
    /// longer be restored to them.
    Compact {
        /// Forget all change sets that end at or before this offset.
        #[arg(long, value_name = "OFFSET")]
        upto: u64,
    },
}

/// What a compaction has left.
#[derive(Serialize)]
struct Compacted {
    floor: u64,
    change_sets: u64,
    kept: String,
}

impl Show for Compacted {
    fn show(&self) -> String {
        let sets = format::count(self.change_sets, "change set");
        let kept = if self.kept.is_empty() { String::new() } else { format!("; {}", self.kept) };
        format!("{sets} forgotten; the log begins after offset {}{kept}", self.floor)
    }
}

async fn compact(upto: u64, server: &Server, printer: &mut Printer) -> Result<Outcome, Failure> {
    let answer = server.fleet().compact_log(v1::CompactLogRequest { upto }).await;
    let v1::CompactLogResponse { floor, change_sets, kept } =
        answer.map_err(server.failure())?.into_inner();
    printer.value(&Compacted { floor, change_sets, kept })?;
    Ok(Outcome::Done)
}

/// Prints the log.
///
/// # Errors
/// If the server cannot be reached, or refuses.
pub async fn run(
    args: LogArgs,
    control: &Target,
    printer: &mut Printer,
) -> Result<Outcome, Failure> {
    let LogArgs { command, zone, from, limit, full } = args;
    let server = Server::control(control).await?;
    if let Some(LogCommand::Compact { upto }) = command {
        return compact(upto, &server, printer).await;
    }
    let answer = server.fleet().list_log(v1::ListLogRequest { zone, from, limit }).await;
    let mut sets = answer.map_err(server.failure())?.into_inner();
    while let Some(set) = sets.message().await.map_err(server.failure())? {
        printer.value(&Entry::new(set, full))?;
    }
    Ok(Outcome::Done)
}

/// A change set and who made it.
#[derive(Debug, Serialize)]
struct Entry {
    first_offset: u64,
    last_offset: u64,
    committed: Option<String>,
    zone: String,
    principal: String,
    peer: String,
    method: String,
    octets: u32,
    changes: Vec<String>,
    #[serde(skip)]
    shown: usize,
}

impl Entry {
    fn new(set: v1::ListLogResponse, full: bool) -> Self {
        Self {
            first_offset: set.first,
            last_offset: set.last,
            committed: format::moment(set.committed.as_ref()),
            zone: set.zone,
            principal: set.principal,
            peer: set.peer,
            method: set.method,
            octets: set.size,
            changes: set.changes,
            shown: if full { usize::MAX } else { CHANGES_SHOWN },
        }
    }
}

impl Show for Entry {
    fn show(&self) -> String {
        let Self { first_offset: first, last_offset: last, zone, changes, shown, .. } = self;
        let offsets = if first == last { first.to_string() } else { format!("{first}..{last}") };
        let committed = self.committed.as_deref().unwrap_or("-");
        let method = self.method.rsplit('.').next().unwrap_or_default();
        let who = format::or_dash(&self.principal);
        let (method, peer) = (format::or_dash(method), format::or_dash(&self.peer));
        let mut text = format!("{offsets}  {committed}  {zone}  by {who} from {peer}, {method}\n");
        for change in changes.iter().take(*shown) {
            // To write to a String cannot fail.
            let _ = writeln!(text, "    {change}");
        }
        if changes.len() > *shown {
            let _ = writeln!(text, "    … and {} more (--full)", changes.len() - shown);
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(changes: usize) -> v1::ListLogResponse {
        v1::ListLogResponse {
            first: 5,
            last: 5 + changes as u64 - 1,
            committed: Some(prost_types::Timestamp { seconds: 1_700_000_000, nanos: 0 }),
            zone: "example.com.".to_owned(),
            principal: "anna".to_owned(),
            peer: "127.0.0.1:5".to_owned(),
            method: "edgesync.v1.RecordService/CreateRecord".to_owned(),
            changes: (0..changes).map(|i| format!("create {i}")).collect(),
            size: 100,
        }
    }

    #[test]
    fn a_set_is_told_with_its_maker() {
        assert_eq!(
            Entry::new(set(1), false).show(),
            "5  2023-11-14T22:13:20Z  example.com.  by anna from 127.0.0.1:5, \
             RecordService/CreateRecord\n    create 0\n"
        );
    }

    #[test]
    fn what_keeps_the_log_is_told_with_what_is_forgotten() {
        let mut compacted = Compacted { floor: 7, change_sets: 2, kept: String::new() };
        assert_eq!(compacted.show(), "2 change sets forgotten; the log begins after offset 7");
        compacted.kept = "what follows offset 7 is kept".to_owned();
        assert!(compacted.show().ends_with("offset 7; what follows offset 7 is kept"));
    }

    #[test]
    fn a_large_set_is_cut_for_people_and_whole_for_programs() {
        let entry = Entry::new(set(12), false);
        let text = entry.show();
        assert!(
            text.starts_with("5..16  ") && text.ends_with("    … and 2 more (--full)\n"),
            "{text}"
        );
        assert_eq!(Entry::new(set(12), true).show().lines().count(), 13);
        let json = serde_json::to_value(&entry).unwrap();
        assert_eq!(json["changes"].as_array().unwrap().len(), 12);
        assert_eq!(
            (json["first_offset"].as_u64(), json["last_offset"].as_u64()),
            (Some(5), Some(16))
        );
    }
}
