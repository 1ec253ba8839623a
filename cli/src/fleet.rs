//! `edgesync fleet`: what each edge has, how far it is behind, and how fast changes reach it.

use clap::{Args, Subcommand};
use edgesync_proto::v1::{self, EdgeState};
use serde::Serialize;

use crate::{
    connect::{Server, Target},
    failure::{Failure, Outcome},
    format,
    output::{Columns, Printer, Show},
};

/// Arguments of `fleet`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct FleetArgs {
    /// What to do with an edge.
    #[command(subcommand)]
    pub command: Option<FleetCommand>,
    /// Follow the fleet as it changes.
    #[arg(long)]
    pub watch: bool,
}

/// What to do with an edge.
#[derive(Debug, Subcommand)]
pub enum FleetCommand {
    /// Take an edge that will not come back out of the fleet.
    Forget {
        /// The edge's id.
        id: String,
    },
}

/// Carries out the command.
///
/// # Errors
/// If the server cannot be reached, or refuses.
pub async fn run(
    args: FleetArgs,
    control: &Target,
    printer: &mut Printer,
) -> Result<Outcome, Failure> {
    let server = Server::control(control).await?;
    match args.command {
        Some(FleetCommand::Forget { id }) => forget(id, &server, printer).await?,
        None if args.watch => watch(&server, printer).await?,
        None => {
            let answer = server.fleet().list_edges(v1::ListEdgesRequest {}).await;
            let v1::ListEdgesResponse { edges, head } =
                answer.map_err(server.failure())?.into_inner();
            printer.value(&Fleet::new(edges, head))?;
        }
    }
    Ok(Outcome::Done)
}

async fn watch(server: &Server, printer: &mut Printer) -> Result<(), Failure> {
    let answer = server.fleet().watch_edges(v1::WatchEdgesRequest {}).await;
    let mut states = answer.map_err(server.failure())?.into_inner();
    while let Some(state) = states.message().await.map_err(server.failure())? {
        printer.state(&Fleet::new(state.edges, state.head))?;
    }
    // Only a server that goes ends this stream.
    Err(server.failure()(tonic::Status::unavailable("the server ended the stream")))
}

async fn forget(id: String, server: &Server, printer: &mut Printer) -> Result<(), Failure> {
    let request = v1::ForgetEdgeRequest { id: id.clone() };
    server.fleet().forget_edge(request).await.map_err(server.failure())?;
    printer.value(&Forgotten { forgotten: id })
}

/// An edge that is out of the fleet.
#[derive(Serialize)]
struct Forgotten {
    forgotten: String,
}

impl Show for Forgotten {
    fn show(&self) -> String {
        format!("{} is forgotten", self.forgotten)
    }
}

/// The fleet at one moment.
#[derive(Debug, Serialize)]
struct Fleet {
    head: u64,
    edges: Vec<EdgeRow>,
}

impl Fleet {
    fn new(edges: Vec<v1::Edge>, head: Option<v1::Position>) -> Self {
        let edges = edges.into_iter().map(EdgeRow::from).collect();
        Self { head: head.map_or(0, |position| position.offset), edges }
    }
}

const HEADER: [&str; 12] = [
    "EDGE", "STATE", "DURABLE", "LAG", "LAG TIME", "ACKED", "RESUMED", "SESSIONS", "P50", "P99",
    "P99.9", "VERSION",
];

impl Show for Fleet {
    fn show(&self) -> String {
        let edges = format::count(self.edges.len() as u64, "edge");
        let mut text = format!("{edges}, head {}\n", self.head);
        if !self.edges.is_empty() {
            let rows = self.edges.iter().map(EdgeRow::cells).collect();
            text.push_str(&Columns::default().page(&HEADER, rows));
        }
        for edge in self.edges.iter().filter(|edge| !edge.reason.is_empty()) {
            text.push_str(&format!("{}: {}\n", edge.id, edge.reason));
        }
        for (edge, snapshot) in self.edges.iter().filter_map(|e| Some((e, e.snapshot.as_ref()?))) {
            let Snapshot { offset, chunks_done, chunks } = snapshot;
            let id = &edge.id;
            text.push_str(&format!(
                "{id}: has {chunks_done} of {chunks} chunks of the snapshot at offset {offset}\n"
            ));
        }
        text
    }
}

/// An edge.
#[derive(Debug, Serialize)]
struct EdgeRow {
    id: String,
    state: &'static str,
    durable_offset: u64,
    lag_changes: u64,
    lag_seconds: f64,
    acked_changes: u64,
    resumed_from: u64,
    sessions: u64,
    since: Option<String>,
    version: String,
    address: String,
    reason: String,
    repairs: u64,
    snapshot: Option<Snapshot>,
    latency: Latency,
}

/// How far an edge is with a snapshot.
#[derive(Debug, Serialize)]
struct Snapshot {
    offset: u64,
    chunks_done: u32,
    chunks: u32,
}

impl From<v1::SnapshotProgress> for Snapshot {
    fn from(progress: v1::SnapshotProgress) -> Self {
        let v1::SnapshotProgress { offset, chunks_done, chunks } = progress;
        Self { offset, chunks_done, chunks }
    }
}

/// From durable at the control plane to acknowledged by the edge.
#[derive(Debug, Serialize)]
struct Latency {
    count: u64,
    p50_us: u64,
    p99_us: u64,
    p999_us: u64,
    max_us: u64,
}

impl From<v1::Edge> for EdgeRow {
    fn from(edge: v1::Edge) -> Self {
        let latency = edge.latency.unwrap_or_default();
        Self {
            state: state(edge.state()),
            durable_offset: edge.durable.as_ref().map_or(0, |position| position.offset),
            lag_changes: edge.lag_changes,
            lag_seconds: format::seconds(edge.lag.as_ref()),
            acked_changes: edge.acked_changes,
            resumed_from: edge.resumed_from,
            sessions: edge.sessions,
            since: format::moment(edge.since.as_ref()),
            id: edge.id,
            version: edge.version,
            address: edge.address,
            reason: edge.reason,
            repairs: edge.repairs,
            snapshot: edge.snapshot.map(Snapshot::from),
            latency: Latency {
                count: latency.count,
                p50_us: latency.p50_us,
                p99_us: latency.p99_us,
                p999_us: latency.p999_us,
                max_us: latency.max_us,
            },
        }
    }
}

impl EdgeRow {
    fn cells(&self) -> Vec<String> {
        let latency = &self.latency;
        let micros = |value| {
            if latency.count == 0 { "-".to_owned() } else { format::micros(value) }
        };
        vec![
            self.id.clone(),
            self.state.to_owned(),
            self.durable_offset.to_string(),
            self.lag_changes.to_string(),
            format::seconds_text(self.lag_seconds),
            self.acked_changes.to_string(),
            self.resumed_from.to_string(),
            self.sessions.to_string(),
            micros(latency.p50_us),
            micros(latency.p99_us),
            micros(latency.p999_us),
            format::or_dash(&self.version),
        ]
    }
}

/// What an edge is doing, in the words of the tables and of JSON.
#[must_use]
pub const fn state(state: EdgeState) -> &'static str {
    match state {
        EdgeState::Unspecified => "unknown",
        EdgeState::Disconnected => "disconnected",
        EdgeState::CatchingUp => "catching_up",
        EdgeState::Current => "current",
        EdgeState::Halted => "halted",
        EdgeState::Held => "held",
        EdgeState::Snapshot => "snapshot",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edge(id: &str) -> v1::Edge {
        let mut edge = v1::Edge { id: id.to_owned(), lag_changes: 3, ..Default::default() };
        edge.set_state(EdgeState::Current);
        edge.durable = Some(v1::Position { offset: 41, ..Default::default() });
        edge.lag = Some(prost_types::Duration { seconds: 1, nanos: 500_000_000 });
        edge
    }

    #[test]
    fn each_edge_is_a_row_under_the_head() {
        let mut halted = edge("fra-2");
        halted.set_state(EdgeState::Halted);
        halted.reason = "set 42 does not apply".to_owned();
        halted.latency =
            Some(v1::Latency { count: 2, p50_us: 900, p99_us: 1_500, ..Default::default() });
        let head = Some(v1::Position { offset: 44, ..Default::default() });
        let text = Fleet::new(vec![edge("fra-1"), halted], head).show();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines[0], "2 edges, head 44");
        assert!(lines[1].starts_with("EDGE   STATE    DURABLE"), "{text}");
        let cells: Vec<_> =
            lines[2].split("  ").filter(|cell| !cell.is_empty()).map(str::trim).collect();
        assert_eq!(&cells[..5], ["fra-1", "current", "41", "3", "1.500 s"]);
        assert_eq!(&cells[8..], ["-", "-", "-", "-"]);
        assert!(lines[3].contains("900 µs") && lines[3].contains("1.50 ms"), "{text}");
        assert_eq!(lines[4], "fra-2: set 42 does not apply");
    }

    #[test]
    fn a_fleet_without_edges_says_so() {
        assert_eq!(Fleet::new(Vec::new(), None).show(), "0 edges, head 0\n");
    }

    #[test]
    fn the_fields_of_json_have_stable_names() {
        let json = serde_json::to_value(Fleet::new(vec![edge("a")], None)).unwrap();
        assert_eq!(json["edges"][0]["durable_offset"], 41);
        assert_eq!(json["edges"][0]["lag_seconds"], 1.5);
        assert_eq!(json["edges"][0]["state"], "current");
        assert_eq!(json["edges"][0]["latency"]["p999_us"], 0);
    }
}
