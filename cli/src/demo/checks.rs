//! What the demo looks at when all is done, and the table that it shows.

use std::time::Duration;

use edgesync_proto::v1;
use serde::Serialize;

use super::{export_control, export_edge, processes::Cluster};
use crate::{
    connect::Server,
    failure::Failure,
    format::micros,
    output::{Columns, Show},
};

/// What came of the demo.
#[derive(Serialize)]
pub struct Report {
    /// True if everything that was checked holds.
    pub holds: bool,
    /// What does not.
    failed: Vec<String>,
    /// Records of the zone at the end.
    records: usize,
    /// Offset of the log's head.
    head: u64,
    /// Duration of the whole, in seconds.
    seconds: f64,
    /// The edges.
    edges: Vec<EdgeRow>,
}

/// One edge in the table.
#[derive(Serialize)]
pub struct EdgeRow {
    edge: String,
    offset: u64,
    acked_changes: u64,
    applied_changes: u64,
    duplicate_changes: u64,
    sessions: u64,
    resumed_from: u64,
    p50_us: u64,
    p99_us: u64,
    p999_us: u64,
    export_equal: bool,
    verified: bool,
}

/// Compares every edge with the control plane.
pub async fn check(
    cluster: &Cluster,
    server: &Server,
    killed: usize,
    took: Duration,
) -> Result<Report, Failure> {
    let listed = server.fleet().list_edges(v1::ListEdgesRequest {}).await;
    let fleet = listed.map_err(server.failure())?.into_inner();
    let head = fleet.head.as_ref().map_or(0, |head| head.offset);
    let wanted = export_control(server).await?;
    let mut report = Report {
        holds: true,
        failed: Vec::new(),
        records: wanted.lines().count(),
        head,
        seconds: took.as_secs_f64(),
        edges: Vec::new(),
    };
    for number in 0..cluster.edges() {
        let edge = cluster.edge(number).await?;
        let row = row(&edge, &fleet, number, &wanted).await?;
        report.judge(&row, number == killed);
        report.edges.push(row);
    }
    report.holds = report.failed.is_empty();
    Ok(report)
}

async fn row(
    edge: &Server,
    fleet: &v1::ListEdgesResponse,
    number: usize,
    wanted: &str,
) -> Result<EdgeRow, Failure> {
    let id = format!("edge-{number}");
    let seen = fleet.edges.iter().find(|edge| edge.id == id).cloned().unwrap_or_default();
    let status = edge.edge_calls().get_status(v1::GetStatusRequest {}).await;
    let status = status.map_err(edge.failure())?.into_inner().status.unwrap_or_default();
    let verified = edge.edge_calls().verify_store(v1::VerifyStoreRequest {}).await;
    let verified = verified.map_err(edge.failure())?.into_inner();
    let latency = seen.latency.unwrap_or_default();
    Ok(EdgeRow {
        edge: id,
        offset: seen.durable.as_ref().map_or(0, |durable| durable.offset),
        acked_changes: seen.acked_changes,
        applied_changes: status.applied_changes,
        duplicate_changes: status.duplicate_changes,
        sessions: seen.sessions,
        resumed_from: seen.resumed_from,
        p50_us: latency.p50_us,
        p99_us: latency.p99_us,
        p999_us: latency.p999_us,
        export_equal: export_edge(edge).await? == wanted,
        verified: verified.mismatches.is_empty() && verified.records > 0,
    })
}

impl Report {
    /// What has to hold of an edge.
    fn judge(&mut self, row: &EdgeRow, killed: bool) {
        let head = self.head;
        let mut demand = |holds: bool, what: &str| {
            if !holds {
                self.failed.push(format!("{}: {what}", row.edge));
            }
        };
        demand(row.offset == head, "its offset is not the head");
        demand(row.export_equal, "its export differs from the control plane's");
        demand(row.verified, "its store does not verify");
        // What its last process took is exactly what it had not: nothing skipped, nothing twice.
        let (from, applied) = (row.resumed_from, row.applied_changes);
        demand(from + applied == head, "offset resumed from + changes applied is not the head");
        if killed {
            demand(row.sessions >= 2, "it was killed, and had one session only");
            demand(row.resumed_from > 0, "it was killed, and did not resume from its offset");
        } else {
            demand(row.acked_changes == head, "it has not acked every change");
        }
    }
}

impl Show for Report {
    fn show(&self) -> String {
        let header = [
            "EDGE",
            "OFFSET",
            "ACKED",
            "SESSIONS",
            "RESUMED FROM",
            "P50",
            "P99",
            "P99.9",
            "EXPORT",
            "STORE",
        ];
        let equal = |equal| if equal { "equal" } else { "DIFFERS" }.to_owned();
        let rows = self.edges.iter().map(|row| {
            vec![
                row.edge.clone(),
                row.offset.to_string(),
                row.acked_changes.to_string(),
                row.sessions.to_string(),
                row.resumed_from.to_string(),
                micros(row.p50_us),
                micros(row.p99_us),
                micros(row.p999_us),
                equal(row.export_equal),
                if row.verified { "verified" } else { "DIFFERS" }.to_owned(),
            ]
        });
        let table = Columns::default().page(&header, rows.collect());
        let Self { records, head, seconds, .. } = self;
        let what = format!(
            "{records} records, head {head}, {seconds:.1} s. Latency: from durable at the control plane \
             to acknowledged as durable by the edge.\n"
        );
        let end = if self.holds {
            "All of it holds.\n".to_owned()
        } else {
            self.failed.iter().map(|failed| format!("FAILED  {failed}\n")).collect()
        };
        format!("\n{table}\n{what}{end}")
    }
}
