//! The daemon, put together: lock, sockets, store, apply thread, session, local API and metrics
//! page; and taken apart in the other direction, so that what was received is applied and acked.

use std::{
    io,
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use edgesync_core::session::{Hello, InstanceId, PROTOCOL};
use edgesync_host::{
    listen::{self, ListenError},
    lock::{DirLock, LockError},
    metrics::Metrics,
    page::Page,
    systemd,
    tls::{ClientSide, Current, Keeper},
};
use tokio::{
    net::{TcpListener, UnixListener},
    sync::{mpsc, oneshot, watch},
    task::{JoinHandle, spawn_blocking},
    time::{MissedTickBehavior, interval, timeout},
};

use crate::{
    apply,
    config::Settings,
    limits::LAST_WORDS,
    link::{Dial, Names},
    local::{Local, Socket, SocketError},
    metrics::{self, StateMetrics, StoreMetrics},
    reconnect::ReconnectConfig,
    session::{Session, SessionParts},
    status::Status,
    store::{Distrust, OpenError, Reader, Store},
};

/// How often the metrics of the state are told.
const TELL: Duration = Duration::from_millis(250);
/// Name of the file, in the data directory, of what people had the edge do.
const AUDIT_FILE: &str = "audit.log";
/// Wishes of people that may wait.
const COMMANDS: usize = 16;
/// How many tells stand between two looks at the store's size.
const SIZE_EACH: u32 = 40;

/// Why the daemon cannot run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The data directory cannot be locked.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The address of the metrics page cannot be taken.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The socket cannot be made.
    #[error(transparent)]
    Socket(#[from] SocketError),
    /// The store cannot be opened.
    #[error(transparent)]
    Store(#[from] OpenError),
    /// The host gives no thread.
    #[error("cannot start a thread: {0}")]
    Thread(#[from] io::Error),
    /// A part of the daemon has panicked.
    #[error("a part of the daemon has panicked: {0}")]
    Panic(#[from] tokio::task::JoinError),
}

/// What a daemon gets from its process, beside its settings.
#[derive(Debug, Default)]
pub struct Surroundings {
    /// The metrics of the process; without them there is no page.
    pub metrics: Option<Metrics>,
    /// Control planes and how to come back to them, where they may change.
    pub reconnect: Option<watch::Receiver<ReconnectConfig>>,
}

/// What connections are made with. Files of TLS that cannot be used keep the edge from connecting, and from
/// nothing else (invariant 14).
fn dial(settings: &Settings) -> (Dial, Option<Keeper<ClientSide>>) {
    let (tls, keeper) = match settings.tls.is_used() {
        true => {
            let (tls, keeper) = Current::load_or_wait(settings.tls.clone(), "edgesync_edge");
            (Some(tls), Some(keeper))
        }
        false => (None, None),
    };
    let server_name = settings.server_name.clone();
    (Dial { names: Names::default(), tls, server_name }, keeper)
}

/// Runs the daemon until `shutdown` is done and what was received is applied and acked. Starting
/// does not wait for a control plane.
///
/// # Errors
/// If it cannot start.
pub async fn run(
    settings: Settings,
    surroundings: Surroundings,
    shutdown: impl Future<Output = ()>,
) -> Result<(), RunError> {
    let _lock = DirLock::take(&settings.store.data_dir)?;
    let page = match surroundings.metrics {
        Some(metrics) => {
            let listener = listen::bind(settings.metrics_listen, "--metrics-listen").await?;
            Some((metrics, listener))
        }
        None => None,
    };
    let (_socket, listener) = Socket::bind(&settings.socket)?;
    metrics::begin();
    let mut outside = Outside::default();
    let ready = Arc::new(OnceLock::new());
    // A store may take a while to open: who looks at the edge is told so, and not refused.
    page.into_iter().for_each(|(metrics, listener)| outside.page(metrics, listener, &ready));
    let store = open_store(&settings).await?;
    let (reader, first) = (store.reader(), first_status(&store));
    let state = Arc::new(StateMetrics::new());
    state.resumed_from(first.resumed_from.0);
    let (status, watched) = watch::channel(first);
    let (_keep, fixed) = watch::channel(settings.reconnect.clone());
    let (commander, commands) = mpsc::channel(COMMANDS);
    let (dial, keeper) = dial(&settings);
    let keeping = keeper.map(|keeper| tokio::spawn(keeper.keep()));
    let session = Session::new(SessionParts {
        hello: hello(&settings, &store),
        applying: apply::start(store, settings.pauses.clone())?,
        commands,
        dial,
        reconnect: surroundings.reconnect.unwrap_or(fixed),
        status,
        metrics: Arc::clone(&state),
    });
    let audit = settings.store.data_dir.join(AUDIT_FILE);
    let edge = settings.edge.clone();
    let local = Local::new(edge, reader.clone(), watched.clone(), commander, audit);
    outside.local(local, listener);
    let _ = ready.set(reader.clone());
    let teller = tokio::spawn(tell(state, reader, watched));
    // A task of its own: whoever waits on this future may do so on a thread that wakes up slowly.
    let (stop, stopped) = oneshot::channel::<()>();
    let mut session = tokio::spawn(session.run(async {
        let _ = stopped.await;
    }));
    let session_runs = session.abort_handle();
    let watchdog = systemd::watchdog(move || !session_runs.is_finished());
    systemd::ready();
    let ended = tokio::select! {
        () = shutdown => {
            systemd::stopping();
            drop(stop);
            session.await
        }
        // Only by a panic.
        ended = &mut session => ended,
    };
    teller.abort();
    keeping.inspect(JoinHandle::abort);
    watchdog.inspect(JoinHandle::abort);
    outside.close().await;
    Ok(ended?)
}

async fn open_store(settings: &Settings) -> Result<Store, RunError> {
    let config = settings.store.clone();
    let begin = Instant::now();
    let mut store = spawn_blocking(|| Store::open(config)).await??;
    if let Some(label) = store.distrusted().map(Distrust::label) {
        metrics::quarantined(label);
    }
    store.set_metrics(StoreMetrics::new());
    let totals = store.reader().totals();
    tracing::info!(
        zones = totals.zones,
        records = totals.records,
        epoch = store.epoch(),
        took = ?begin.elapsed(),
        "store open at offset {}",
        store.durable().map_or(0, |position| position.offset.0),
    );
    Ok(store)
}

fn hello(settings: &Settings, store: &Store) -> Hello {
    Hello {
        edge: settings.edge.clone(),
        instance: InstanceId(rand::random()),
        boot_epoch: store.epoch(),
        position: store.durable(),
        filter: settings.store.filter.clone(),
        stored_filter: store.filter(),
        staged: store.staged(),
        protocol: PROTOCOL,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        window: settings.window,
    }
}

fn first_status(store: &Store) -> Status {
    let durable = store.durable();
    Status {
        durable,
        resumed_from: durable.map(|position| position.offset).unwrap_or_default(),
        boot_epoch: store.epoch(),
        reason: "not connected yet".to_owned(),
        ..Status::default()
    }
}

/// Whether there is a store that is served.
fn is_ready(reader: &OnceLock<Reader>) -> Result<(), String> {
    let serves = reader.get().is_some_and(Reader::is_serving);
    serves.then_some(()).ok_or_else(|| "the store is being opened".to_owned())
}

/// What others reach the daemon by.
#[derive(Default)]
struct Outside {
    stops: Vec<oneshot::Sender<()>>,
    servers: Vec<JoinHandle<()>>,
}

impl Outside {
    fn local(&mut self, local: Local, listener: UnixListener) {
        let stopped = self.stop();
        self.servers.push(tokio::spawn(async move {
            if let Err(error) = local.serve(listener, stopped).await {
                tracing::error!(%error, "the local API has ended");
            }
        }));
    }

    fn page(&mut self, metrics: Metrics, listener: TcpListener, ready: &Arc<OnceLock<Reader>>) {
        let ready = Arc::clone(ready);
        let page = Page::new(metrics, move || is_ready(&ready));
        let stopped = self.stop();
        self.servers.push(tokio::spawn(page.serve(listener, stopped)));
    }

    /// Done when the outside closes.
    fn stop(&mut self) -> impl Future<Output = ()> + use<> {
        let (stop, stopped) = oneshot::channel();
        self.stops.push(stop);
        async {
            let _ = stopped.await;
        }
    }

    /// Answers what was asked, for a moment, and closes.
    async fn close(self) {
        drop(self.stops);
        for mut server in self.servers {
            if timeout(LAST_WORDS, &mut server).await.is_err() {
                server.abort();
            }
        }
    }
}

/// Tells Prometheus and systemd how things stand, for ever.
async fn tell(state: Arc<StateMetrics>, reader: Reader, status: watch::Receiver<Status>) {
    let mut ticks = interval(TELL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut told = String::new();
    for tick in 0u32.. {
        ticks.tick().await;
        let status = status.borrow().clone();
        state.tell(&status, reader.totals(), Instant::now());
        let line = status.line();
        if line != told {
            systemd::status(&line);
            told = line;
        }
        if tick.is_multiple_of(SIZE_EACH) {
            let reader = reader.clone();
            if let Ok(Ok(octets)) = spawn_blocking(move || reader.size()).await {
                state.size(octets);
            }
        }
    }
}
