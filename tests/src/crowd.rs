//! Many edges in one process: the real protocol over HTTP/2, the core's receiver and the daemon's waits
//! between tries, and no store. What is handed out to be applied counts as durable at once.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use edgesync_core::{
    position::{Offset, Position},
    session::{
        Filter, Hello, InstanceId, PROTOCOL, Receiver, ReceiverInput, ReceiverOutput, ToEdge,
    },
    snapshot::{Manifest, Staged},
};
use edgesync_daemon::reconnect::{Reconnect, ReconnectConfig};
use edgesync_proto::v1::{SyncRequest, sync_service_client::SyncServiceClient};
use tokio::{sync::mpsc, task::JoinSet, time::sleep_until};
use tokio_stream::{StreamExt, wrappers::UnboundedReceiverStream};
use tonic::transport::Endpoint;

/// Flow-control window of a stream and of a connection, as the daemon has it.
const WINDOW_OCTETS: u32 = 4 * 1024 * 1024;
/// A session that has lived for so long was no failure.
const LIVED: Duration = Duration::from_secs(10);

/// Who is in a crowd.
#[derive(Clone, Debug)]
pub struct CrowdConfig {
    /// The control plane.
    pub url: String,
    /// Number of the first edge; its id is `crowd-NUMBER`.
    pub first: usize,
    /// How many there are.
    pub edges: usize,
    /// How many connect in a second, at the first time.
    pub per_second: u32,
    /// The longest wait between tries, after many failures.
    pub longest_wait: Duration,
    /// True if it is kept when each edge had which offset durable.
    pub timed: bool,
}

/// What a crowd has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Sessions that are there now.
    pub live: usize,
    /// Tries to connect.
    pub tries: u64,
    /// Sessions that have begun.
    pub welcomes: u64,
    /// Snapshots that were put in place.
    pub snapshots: u64,
    /// Goodbyes, or streams that ended without one.
    pub ends: u64,
}

#[derive(Default)]
struct Shared {
    live: AtomicUsize,
    tries: AtomicU64,
    welcomes: AtomicU64,
    snapshots: AtomicU64,
    ends: AtomicU64,
    durable: Mutex<Vec<(Offset, Instant)>>,
    timed: AtomicBool,
}

/// A running crowd; it goes with its handle.
pub struct Crowd {
    shared: Arc<Shared>,
    _edges: JoinSet<()>,
}

impl Crowd {
    /// Begins to connect; within a runtime.
    ///
    /// # Panics
    /// If the URL is none.
    #[must_use]
    pub fn start(config: &CrowdConfig) -> Self {
        let shared = Arc::new(Shared::default());
        shared.timed.store(config.timed, Relaxed);
        let mut edges = JoinSet::new();
        let begin = Instant::now();
        for number in 0..config.edges {
            let first_try = begin
                + Duration::from_secs(1) * u32::try_from(number).expect("a crowd")
                    / config.per_second.max(1);
            let endpoints = vec![config.url.parse().expect("a URL")];
            let (initial, max) = (Duration::from_millis(100), config.longest_wait);
            let reconnect =
                Reconnect::new(ReconnectConfig { endpoints, initial, max }, Instant::now());
            let edge = Edge {
                url: config.url.clone(),
                receiver: Receiver::new(hello(config.first + number)),
                reconnect,
                taking: None,
                log: None,
                shared: Arc::clone(&shared),
            };
            edges.spawn(edge.run(first_try));
        }
        Self { shared, _edges: edges }
    }

    /// What it has done.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let Shared { live, tries, welcomes, snapshots, ends, .. } = &*self.shared;
        Counts {
            live: live.load(Relaxed),
            tries: tries.load(Relaxed),
            welcomes: welcomes.load(Relaxed),
            snapshots: snapshots.load(Relaxed),
            ends: ends.load(Relaxed),
        }
    }

    /// When which edge had which change set durable, by the set's last offset, since the last time; if
    /// that is kept.
    #[must_use]
    pub fn take_durable(&self) -> Vec<(Offset, Instant)> {
        std::mem::take(&mut *self.shared.durable.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// What an empty edge of a crowd says first.
///
/// # Panics
/// Never.
#[must_use]
pub fn hello(number: usize) -> Hello {
    Hello {
        edge: format!("crowd-{number}").parse().expect("an edge id"),
        instance: InstanceId(rand::random()),
        boot_epoch: 1,
        position: None,
        filter: Filter::All,
        stored_filter: Filter::All.hash(),
        staged: None,
        protocol: PROTOCOL,
        version: "crowd".to_owned(),
        window: edgesync_core::limits::WINDOW_OCTETS,
    }
}

struct Edge {
    url: String,
    receiver: Receiver,
    reconnect: Reconnect,
    /// The snapshot that it takes.
    taking: Option<Manifest>,
    /// Where the log of the present session stands.
    log: Option<Position>,
    shared: Arc<Shared>,
}

/// Counts a session while it is there.
struct Live(Arc<Shared>);

impl Live {
    fn new(shared: &Arc<Shared>) -> Self {
        shared.live.fetch_add(1, Relaxed);
        shared.welcomes.fetch_add(1, Relaxed);
        Self(Arc::clone(shared))
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.0.live.fetch_sub(1, Relaxed);
    }
}

impl Edge {
    async fn run(mut self, first_try: Instant) {
        sleep_until(first_try.into()).await;
        loop {
            sleep_until(self.reconnect.due().into()).await;
            self.shared.tries.fetch_add(1, Relaxed);
            let (began, durable) = (Instant::now(), self.receiver.durable());
            let least = self.session().await.unwrap_or(Duration::ZERO);
            self.shared.ends.fetch_add(1, Relaxed);
            if began.elapsed() >= LIVED || durable != self.receiver.durable() {
                self.reconnect.progressed();
            }
            let now = Instant::now();
            self.receiver.handle(ReceiverInput::Disconnected, now);
            self.reconnect.ended(least, now);
        }
    }

    /// One session; how long it is to stay away after it, if it was told.
    async fn session(&mut self) -> Option<Duration> {
        let endpoint = Endpoint::from_shared(self.url.clone()).ok()?;
        let channel = endpoint
            .tcp_nodelay(true)
            .connect_timeout(Duration::from_secs(5))
            .initial_stream_window_size(WINDOW_OCTETS)
            .initial_connection_window_size(WINDOW_OCTETS)
            .connect()
            .await
            .ok()?;
        let (outbound, requests) = mpsc::unbounded_channel();
        let mut client = SyncServiceClient::new(channel);
        self.receiver.handle(ReceiverInput::Connected, Instant::now());
        self.carry_out(&outbound);
        let stream = client.sync(UnboundedReceiverStream::new(requests)).await.ok()?;
        let mut stream = stream.into_inner();
        let mut live = None;
        loop {
            let due = self.receiver.poll_timeout()?;
            let message = tokio::select! {
                message = stream.next() => message,
                () = sleep_until(due.into()) => {
                    self.receiver.handle_timeout(Instant::now());
                    return None;
                }
            };
            let message = ToEdge::try_from(message?.ok()?).ok()?;
            if let ToEdge::Welcome(welcome) = &message {
                self.log = Some(welcome.head);
                live = live.or_else(|| Some(Live::new(&self.shared)));
            }
            self.receiver.handle(ReceiverInput::Message(message), Instant::now());
            if let Some(least) = self.carry_out(&outbound) {
                return Some(least);
            }
        }
    }

    /// Does what the receiver wants done; how long to stay away, if the session is over.
    fn carry_out(&mut self, outbound: &mpsc::UnboundedSender<SyncRequest>) -> Option<Duration> {
        let mut over = None;
        let mut applied = Vec::new();
        loop {
            while let Some(output) = self.receiver.poll() {
                match output {
                    ReceiverOutput::Send(message) => {
                        // The end of the stream is told by the stream.
                        let _ = outbound.send(message.into());
                    }
                    ReceiverOutput::Apply(set) => applied.push((set.last, set.hash)),
                    ReceiverOutput::Reconnect { after, .. } => over = Some(after),
                    ReceiverOutput::Stage { manifest, .. } => self.taking = Some(manifest),
                    ReceiverOutput::StageChunk(chunk) => {
                        let staged = Staged { id: chunk.snapshot, next: chunk.index + 1 };
                        self.receiver.handle(ReceiverInput::Staged(staged), Instant::now());
                    }
                    ReceiverOutput::Install(_) => self.install(),
                    ReceiverOutput::Progress(_)
                    | ReceiverOutput::Compare { .. }
                    | ReceiverOutput::Replacing { .. }
                    | ReceiverOutput::Restart => {}
                }
            }
            let applied = std::mem::take(&mut applied);
            let (Some((offset, hash)), Some(head)) = (applied.last().copied(), self.log) else {
                return over;
            };
            let position = Position { log: head.log, offset, hash };
            let now = Instant::now();
            self.receiver.handle(ReceiverInput::Durable { position, apply: Duration::ZERO }, now);
            if self.shared.timed.load(Relaxed) {
                let mut durable =
                    self.shared.durable.lock().unwrap_or_else(PoisonError::into_inner);
                durable.extend(applied.into_iter().map(|(offset, _)| (offset, now)));
            }
        }
    }

    fn install(&mut self) {
        if let Some(Manifest { position, scope, filter, .. }) = self.taking.take() {
            self.shared.snapshots.fetch_add(1, Relaxed);
            let installed = ReceiverInput::Installed { position, scope, filter };
            self.receiver.handle(installed, Instant::now());
        }
    }
}
