//! Slow readers beside good ones: how long a change takes to twenty good edges, with and without edges
//! that hardly read, do not read, and stand still. In turn, so that what the machine does meets both.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use edgesync_core::{
    position::Offset,
    session::{Ack, ToControl},
};
use edgesync_proto::v1::{SyncRequest, sync_service_client::SyncServiceClient};
use edgesync_tests::{Crowd, CrowdConfig, Proxy, Way, Weather, hello};
use tokio::{
    sync::mpsc,
    task::JoinHandle,
    time::{sleep, timeout},
};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::transport::Endpoint;

use crate::{
    Failure,
    caller::{Caller, Written},
    crowd::Others,
    edge::{Bench, Process},
    plane::Plane,
    stats::{Latencies, Spread},
};

/// Good edges.
const GOOD: usize = 20;
/// Writes a second.
const RATE: u32 = 200;
/// How long each run writes.
const TIME: Duration = Duration::from_secs(8);
/// Octets a second that the slow edge reads.
const TRICKLE: u64 = 1_024;
/// Records of 1,000 octets that are in the log before: far more than a window and all buffers.
const BULK: u32 = 30_000;

/// Edges that do not read as they should.
struct Slow {
    _trickle: (Proxy, Process, tempfile::TempDir),
    _stopped: Others,
    mute: JoinHandle<()>,
}

impl Drop for Slow {
    fn drop(&mut self) {
        self.mute.abort();
    }
}

/// Measures both in turn.
pub async fn run(bench: &Bench) -> Result<(), Failure> {
    println!(
        "\nslow readers beside {GOOD} good edges, {RATE} writes/s for {} s; µs",
        TIME.as_secs()
    );
    let plane = Plane::start(bench, &[])?;
    let mut caller = Caller::new(&plane.url()).await?;
    caller.zones(100).await?;
    caller.import("bulk.example", BULK, 1_000).await?;
    let config = CrowdConfig {
        url: plane.url(),
        first: 0,
        edges: GOOD,
        per_second: 100,
        longest_wait: Duration::from_secs(1),
        timed: true,
    };
    let good = Crowd::start(&config);
    while good.counts().live < GOOD {
        sleep(Duration::from_millis(20)).await;
    }
    caller.wait_for_all(None, Duration::from_secs(120)).await?;
    let (mut without, mut beside, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    let (mut writes_without, mut writes_beside) = (Vec::new(), Vec::new());
    for run in 0..bench.runs * 2 {
        let is_beside = run % 4 == 1 || run % 4 == 2;
        let slow = if is_beside { Some(Slow::start(bench, &plane, run).await?) } else { None };
        drop(good.take_durable());
        let written = caller.load(RATE, sleep(TIME)).await?;
        sleep(Duration::from_secs(1)).await;
        let p99 = latencies(&written, &good).quantile(0.99);
        let (all, writes) = if is_beside {
            (&mut beside, &mut writes_beside)
        } else {
            (&mut without, &mut writes_without)
        };
        all.push(p99);
        writes.push(written.latencies.quantile(0.99));
        drop(slow);
        sleep(Duration::from_secs(1)).await;
    }
    ratios.extend(without.iter().zip(&beside).map(|(without, beside)| beside / without));
    println!("  answered → durable at an edge, p99, alone          {}", Spread::of(without));
    println!("  the same beside the slow ones                      {}", Spread::of(beside));
    let ratio = Spread::of(ratios);
    println!(
        "  ratio of neighbouring runs (goal < 1.10)           {:.2} ({:.2} … {:.2})",
        ratio.median, ratio.least, ratio.most
    );
    println!("  due → answered, p99, alone                         {}", Spread::of(writes_without));
    println!("  the same beside the slow ones                      {}", Spread::of(writes_beside));
    println!(
        "  sessions ended for not reading                     {}",
        plane.metric("edgesync_control_session_ends_total{reason=\"stuck\"}")
    );
    println!(
        "  and for silence                                    {}",
        plane.metric("edgesync_control_session_ends_total{reason=\"timeout\"}")
    );
    println!(
        "  control plane's memory                             {} MB",
        plane.process()?.resident()? / 1_000_000
    );
    Ok(())
}

/// From the answer of a write to the moment when an edge had it durable; for each edge.
fn latencies(written: &Written, good: &Crowd) -> Latencies {
    let answered: HashMap<Offset, Instant> = written.answered.iter().copied().collect();
    let mut latencies = Latencies::new();
    for (offset, durable) in good.take_durable() {
        if let Some(answered) = answered.get(&offset) {
            latencies.record(durable.saturating_duration_since(*answered));
        }
    }
    latencies
}

impl Slow {
    /// Three of them, each with all of the log before it.
    async fn start(bench: &Bench, plane: &Plane, run: usize) -> Result<Self, Failure> {
        let dir = bench.fresh()?;
        // It has a runtime of its own.
        let address = plane.address();
        let proxy = tokio::task::spawn_blocking(move || Proxy::start(address, 1)).await?;
        proxy.set(Way::Down, Weather { rate: Some(TRICKLE), ..Weather::default() });
        let trickle = bench.daemon(dir.path(), &format!("trickle-{run}"), &proxy.url())?;
        let config = CrowdConfig {
            url: plane.url(),
            first: 1_000 + run,
            edges: 1,
            per_second: 100,
            longest_wait: Duration::from_secs(1),
            timed: false,
        };
        let stopped = Others::start(&config)?;
        let begin = Instant::now();
        while stopped.counts().welcomes == 0 && begin.elapsed() < Duration::from_secs(10) {
            sleep(Duration::from_millis(5)).await;
        }
        let mute = tokio::spawn(mute(plane.url(), 2_000 + run));
        sleep(Duration::from_secs(1)).await;
        stopped.process().signal("STOP")?;
        Ok(Self { _trickle: (proxy, trickle, dir), _stopped: stopped, mute })
    }
}

/// An edge that says that it is there and reads nothing, again and again.
async fn mute(url: String, number: usize) {
    loop {
        let _ = mute_session(&url, number).await;
        sleep(Duration::from_millis(200)).await;
    }
}

async fn mute_session(url: &str, number: usize) -> Result<(), Failure> {
    let channel = Endpoint::from_shared(url.to_owned())?.connect().await?;
    let mut client = SyncServiceClient::new(channel);
    let (outbound, requests) = mpsc::unbounded_channel();
    let say = |message: ToControl| outbound.send(SyncRequest::from(message)).is_ok();
    say(ToControl::Hello(hello(number)));
    let stream = client.sync(UnboundedReceiverStream::new(requests)).await?.into_inner();
    let ack = Ack { first: Offset(1), last: Offset::ZERO, apply: Duration::ZERO };
    while say(ToControl::Ack(ack)) {
        let closed = timeout(Duration::from_millis(500), outbound.closed()).await;
        if closed.is_ok() {
            break;
        }
    }
    drop(stream);
    Ok(())
}
