//! `edgesync demo`: the whole system as real processes on loopback, in a temporary directory, with mutual
//! TLS by an authority of its own, and credentials. A zone is imported, changes are streamed, one edge is
//! killed in the middle and comes back; at the end everything is compared, and the exit code says whether
//! all of it holds.

mod changes;
mod checks;
mod processes;
mod secure;
mod zone;

use std::time::{Duration, Instant};

use clap::Args;
use edgesync_proto::v1;
use tokio_stream::StreamExt;

use self::{checks::Report, processes::Cluster};
use crate::{
    connect::Server,
    failure::{Failure, Outcome},
    output::Printer,
};

/// The zone that the demo makes.
const ORIGIN: &str = "demo.example.";
/// Octets of one message of the import.
const CHUNK_OCTETS: usize = 256 * 1024;
/// How long anything in the demo may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// Arguments of `edgesync demo`.
#[derive(Debug, Args)]
pub struct DemoArgs {
    /// Number of edges; one of them is killed on the way.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=16))]
    edges: u8,
    /// Records of the zone that is imported.
    #[arg(long, default_value_t = 12_000, value_parser = clap::value_parser!(u32).range(100..=90_000))]
    records: u32,
    /// Change sets that are streamed.
    #[arg(long, default_value_t = 4_000, value_parser = clap::value_parser!(u32).range(30..=100_000))]
    changes: u32,
    /// Change sets a second.
    #[arg(long, default_value_t = 800, value_parser = clap::value_parser!(u32).range(1..=20_000))]
    rate: u32,
    /// Keep the directory with stores and logs, and say where it is.
    #[arg(long)]
    keep: bool,
}

/// Runs the demo.
pub async fn run(arguments: DemoArgs, printer: &mut Printer) -> Result<Outcome, Failure> {
    let programs = processes::programs()?;
    let started = Instant::now();
    let mut cluster = Cluster::start(programs, arguments.edges, arguments.keep).await?;
    say(
        started,
        &format!(
            "edgesync-control and {} edges are running, with certificates of the demo's own CA",
            arguments.edges
        ),
    );
    let result = story(&arguments, &mut cluster, started).await;
    match result {
        Ok(report) => {
            cluster.stop().await;
            say(started, "stopped");
            printer.value(&report)?;
            Ok(if report.holds { Outcome::Done } else { Outcome::Differs })
        }
        Err(failure) => {
            cluster.show_logs();
            Err(failure)
        }
    }
}

/// What the demo does now, for who watches.
fn say(started: Instant, what: &str) {
    eprintln!("{:>6.2} s  {what}", started.elapsed().as_secs_f64());
}

async fn story(
    arguments: &DemoArgs,
    cluster: &mut Cluster,
    started: Instant,
) -> Result<Report, Failure> {
    let server = cluster.control().await?;
    wait_for_edges(&server, usize::from(arguments.edges)).await?;
    let imported = import(&server, arguments.records).await?;
    say(started, &format!("imported {ORIGIN} with {imported} records as one change set"));
    wait_all(&server).await?;
    say(started, "the import is durable on every edge");

    let last = usize::from(arguments.edges) - 1;
    let third = arguments.changes / 3;
    let mut stream = changes::stream(&server, arguments.changes, arguments.rate).await?;
    stream.answers(third).await?;
    cluster.kill_edge(last)?;
    say(
        started,
        &format!(
            "edge-{last} killed with SIGKILL after {third} of {} change sets",
            arguments.changes
        ),
    );
    stream.answers(third).await?;
    cluster.start_edge(last)?;
    say(started, &format!("edge-{last} started again; changes still flow"));
    let head = stream.finish().await?;
    say(
        started,
        &format!("{} change sets committed, each on its own; head {head}", arguments.changes),
    );
    let waited = wait_all(&server).await?;
    say(
        started,
        &format!(
            "offset {head} is durable on every edge ({:.1} ms after asking)",
            waited.as_secs_f64() * 1e3
        ),
    );
    checks::check(cluster, &server, last, started.elapsed()).await
}

/// Waits until so many edges have said Hello.
async fn wait_for_edges(server: &Server, count: usize) -> Result<(), Failure> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let listed = server.fleet().list_edges(v1::ListEdgesRequest {}).await;
        let edges = listed.map_err(server.failure())?.into_inner().edges;
        if edges.len() >= count {
            return Ok(());
        }
        if Instant::now() > deadline {
            return Err(Failure::Usage(format!("only {} of {count} edges have come", edges.len())));
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn import(server: &Server, records: u32) -> Result<u64, Failure> {
    let text = zone::text(records);
    let chunks: Vec<_> = text.as_bytes().chunks(CHUNK_OCTETS).map(<[u8]>::to_vec).collect();
    let count = chunks.len();
    let messages = (1..).zip(chunks).map(move |(number, chunk)| v1::ImportZoneRequest {
        zone: if number == 1 { ORIGIN.to_owned() } else { String::new() },
        text: chunk.into(),
        last: number == count,
        ..Default::default()
    });
    let answer = server.records().import_zone(tokio_stream::iter(messages)).await;
    Ok(answer.map_err(server.failure())?.into_inner().created)
}

/// Waits until the head is durable on every edge; how long that took.
async fn wait_all(server: &Server) -> Result<Duration, Failure> {
    let request = v1::WaitForOffsetRequest {
        position: None,
        edges: Some(v1::wait_for_offset_request::Edges::All(true)),
        timeout: PATIENCE.try_into().ok(),
    };
    let answer = server.fleet().wait_for_offset(request).await;
    let answer = answer.map_err(server.failure())?.into_inner();
    if !answer.reached {
        let missing: Vec<_> = answer.missing.into_iter().map(|edge| edge.id).collect();
        return Err(Failure::Usage(format!("the changes did not reach {}", missing.join(", "))));
    }
    Ok(answer.waited.and_then(|waited| waited.try_into().ok()).unwrap_or_default())
}

/// The zone as the control plane has it, as zone-file text.
async fn export_control(server: &Server) -> Result<String, Failure> {
    let request = v1::ListRecordsRequest { zone: ORIGIN.to_owned(), ..Default::default() };
    let listed = server.records().list_records(request).await;
    let mut pages = listed.map_err(server.failure())?.into_inner();
    let mut text = String::new();
    while let Some(page) = pages.next().await {
        for record in page.map_err(server.failure())?.records {
            let v1::Record { owner, ttl, r#type: rtype, rdata, .. } = record;
            text.push_str(&format!("{owner}\t{ttl}\tIN\t{rtype}\t{rdata}\n"));
        }
    }
    Ok(text)
}

/// The zone as an edge has it.
async fn export_edge(edge: &Server) -> Result<String, Failure> {
    let request = v1::ExportZoneRequest { origin: ORIGIN.to_owned() };
    let exported = edge.edge_calls().export_zone(request).await;
    let mut parts = exported.map_err(edge.failure())?.into_inner();
    let mut text = String::new();
    while let Some(part) = parts.next().await {
        text.push_str(&part.map_err(edge.failure())?.text);
    }
    Ok(text)
}
