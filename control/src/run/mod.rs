//! The control plane as a whole: what is opened in which order, who serves what, and how it ends
//! without a loss. `process` makes a program of it.

mod housekeeping;
mod process;
mod server;

use std::{future::Future, io, net::SocketAddr, path::PathBuf, time::Duration};

use edgesync_core::position::Offset;
use edgesync_host::{
    listen::{ListenError, bind},
    lock::{DirLock, LockError},
    metrics::Metrics,
    page::Page,
    systemd,
    tls::{Current, ServerSide, TlsError},
};
pub use process::main;
use tokio::{
    net::TcpListener,
    sync::watch,
    task::{JoinSet, spawn, spawn_blocking},
    time::{interval, timeout},
};

use self::server::{ServeError, Server};
use crate::{
    access::{Access, AccessError, AccessOptions},
    api::Api,
    config::Config,
    fleet::{AdmissionConfig, EdgeState, Fleet},
    log::{Log, OpenError, Options, WriteError},
    snapshot::Snapshots,
    sync::{SyncApi, SyncConfig},
};

/// What the names of metrics begin with.
const METRICS: &str = "edgesync_control";

/// Time between two lines for `systemctl status`.
const STATUS: Duration = Duration::from_secs(5);

/// Time between two looks whether the store's file is still there.
const PLACE: Duration = Duration::from_secs(1);

/// Why the control plane does not run, or not any more.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The data directory is not its own.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The log cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The fleet cannot be read.
    #[error("the fleet cannot be read from the log: {0}; if it is damaged, restore a backup")]
    Fleet(redb::Error),
    /// Who may do what cannot be kept.
    #[error(transparent)]
    Access(#[from] AccessError),
    /// The directory of snapshots cannot be used.
    #[error("cannot use the directory of snapshots {}: {source}", dir.display())]
    Snapshots {
        /// The directory.
        dir: PathBuf,
        /// What went wrong.
        source: io::Error,
    },
    /// What unfinished imports have left cannot be given up.
    #[error("what unfinished imports have left in the log cannot be given up: {0}")]
    Abandoned(WriteError),
    /// An address cannot be listened on.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// TLS cannot be had.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// A socket has no address.
    #[error("a socket has no address: {0}")]
    Address(io::Error),
    /// The server has ended.
    #[error(transparent)]
    Serve(#[from] ServeError),
    /// The store has failed; what it has kept is known only after a restart.
    #[error(
        "the log's store failed: {0}; what was answered is durable, the restart recovers the rest"
    )]
    Failed(String),
    /// The store's file is not where it was.
    #[error(
        "the log {0}: nothing more is accepted, because it could not be found again; put the file back, \
         or restore a backup, before the next start"
    )]
    Gone(io::Error),
    /// A task of the start ended before its time: a defect.
    #[error("the start failed: {0}")]
    Start(#[from] tokio::task::JoinError),
}

/// Where a control plane can be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Addresses {
    /// The API and the sessions.
    pub listen: SocketAddr,
    /// The metrics page.
    pub metrics: SocketAddr,
}

/// A control plane whose log is open and whose addresses are taken, but that serves nothing yet.
pub struct ControlPlane {
    log: Log,
    fleet: Fleet,
    snapshots: Snapshots,
    access: Access,
    config: watch::Sender<Config>,
    ready: Readiness,
    /// What ends with it.
    tasks: JoinSet<()>,
    listener: TcpListener,
    /// None: nothing is encrypted.
    tls: Option<Current<ServerSide>>,
    addresses: Addresses,
    /// Last, so that the directory is let go when all else is.
    _lock: DirLock,
}

/// Why /readyz says no, if it does.
type Readiness = watch::Sender<Option<&'static str>>;

/// It says so before the policy file was read, and as long as it cannot be.
const NO_POLICY: &str = "there is no access policy, and nobody may do anything";

/// Says yes once there is a policy, unless something else has been said since.
async fn tell_ready(ready: Readiness, access: Access) {
    access.loaded().await;
    let _ = ready.send_if_modified(|why| why.take_if(|why| *why == NO_POLICY).is_some());
}

/// Runs a control plane until `shutdown` is done.
///
/// # Errors
/// If it cannot start, or its store fails.
pub async fn run(
    config: Config,
    metrics: Metrics,
    shutdown: impl Future<Output = ()>,
) -> Result<(), RunError> {
    ControlPlane::start(config, metrics).await?.serve(shutdown).await
}

impl ControlPlane {
    /// Locks the data directory, takes the addresses and opens the log. The metrics page is served
    /// from here on: after a crash the log is recovered first, which may take long.
    ///
    /// # Errors
    /// If one of these is not to be had; nothing was changed then.
    pub async fn start(config: Config, metrics: Metrics) -> Result<Self, RunError> {
        let tls = config.tls.is_used().then(|| Current::load(config.tls.clone(), METRICS));
        let lock = DirLock::take(&config.data_dir)?;
        let listener = bind(config.listen, "--listen").await?;
        let page_listener = bind(config.metrics_listen, "--metrics-listen").await?;
        let addresses = Addresses {
            listen: listener.local_addr().map_err(RunError::Address)?,
            metrics: page_listener.local_addr().map_err(RunError::Address)?,
        };
        let (ready, readiness) = watch::channel(Some("the log is being opened"));
        let mut tasks = JoinSet::new();
        let is_ready = move || readiness.borrow().map_or(Ok(()), |why| Err(why.to_owned()));
        let page = Page::new(metrics, is_ready);
        tasks.spawn(page.serve(page_listener, std::future::pending()));
        let tls = tls.transpose()?.map(|(tls, keeper)| {
            tasks.spawn(keeper.keep());
            tls
        });
        let options = Options {
            dir: config.data_dir.clone(),
            cache_bytes: config.log.cache.as_usize(),
            recent_bytes: config.log.recent.as_usize(),
            queue_bytes: config.log.queue.as_usize(),
            min_free_bytes: config.log.min_free.as_u64(),
        };
        let at_once = config.snapshots.at_once;
        let admission = AdmissionConfig {
            max_sessions: config.sessions.max_sessions,
            per_second: config.sessions.admit_per_second,
            burst: config.sessions.admit_burst,
        };
        let opened = spawn_blocking(move || {
            let log = Log::open(&options)?;
            let dir = options.dir.join("snapshots");
            let snapshots = Snapshots::open(log.clone(), dir.clone(), at_once)
                .map_err(|source| RunError::Snapshots { dir, source })?;
            let fleet = Fleet::open(log.clone(), admission).map_err(RunError::Fleet)?;
            Ok::<_, RunError>((log, fleet, snapshots))
        });
        let (log, fleet, snapshots) = opened.await??;
        log.drop_abandoned().await.map_err(RunError::Abandoned)?;
        let access = match access_options(&config) {
            Some(options) => {
                let log = log.clone();
                spawn_blocking(move || Access::open(options, log)).await??
            }
            None => Access::unrestricted(),
        };
        let (config, _) = watch::channel(config);
        Ok(Self {
            log,
            fleet,
            snapshots,
            access,
            config,
            ready,
            tasks,
            listener,
            tls,
            addresses,
            _lock: lock,
        })
    }

    /// Where it can be reached; tells the port where the configuration left it open.
    #[must_use]
    pub const fn addresses(&self) -> Addresses {
        self.addresses
    }

    /// Its configuration. What is sent here takes effect as far as it can without a restart.
    #[must_use]
    pub fn config(&self) -> watch::Sender<Config> {
        self.config.clone()
    }

    /// Serves until `shutdown` is done, then ends what is open, in the order that loses nothing:
    /// sessions say goodbye and calls end, and only then the log is closed.
    ///
    /// # Errors
    /// If the store fails, or the server ends by itself.
    pub async fn serve(self, shutdown: impl Future<Output = ()>) -> Result<(), RunError> {
        // The lock is let go last.
        let Self {
            _lock,
            log,
            fleet,
            snapshots,
            access,
            config,
            ready,
            mut tasks,
            listener,
            tls,
            addresses,
        } = self;
        let (drain, draining) = watch::channel(false);
        tasks.spawn(tell_status(log.clone(), fleet.clone(), draining.clone()));
        let scrubbing = spawn(log.clone().keep_scrubbing(draining.clone()));
        tasks.spawn({
            let fleet = fleet.clone();
            async move { fleet.keep().await }
        });
        let sync_config = {
            let config = config.borrow();
            let heartbeat = config.sessions.heartbeat.get();
            SyncConfig { heartbeat, max_greeting: config.sessions.max_greeting }
        };
        tasks.spawn(housekeeping::keep(log.clone(), snapshots.clone(), config.subscribe()));
        let (settings, stop) = (config.subscribe(), draining.clone());
        let api = Api::new(log.clone(), fleet.clone(), snapshots.clone(), settings, stop);
        let sync = SyncApi::new(log.clone(), fleet, snapshots, sync_config, draining.clone());
        tasks.spawn(sync.clone().keep());
        tasks.spawn(access.clone().watch());
        let server = Server::new(api, sync, access.clone()).await;
        let health = server.health();
        let max_sessions = config.borrow().sessions.max_sessions;
        let serving = server.serve(listener, tls, max_sessions, draining);
        tokio::pin!(serving);
        let Addresses { listen, metrics } = addresses;
        let head = *log.head().borrow();
        head_metric(head.offset);
        ready.send_replace(Some(NO_POLICY));
        tasks.spawn(tell_ready(ready.clone(), access.clone()));
        tracing::info!(%listen, %metrics, %head, "serving");
        tokio::select! {
            ended = &mut serving => return ended.map_err(RunError::from),
            reason = log.failed() => {
                log.check_place().map_err(RunError::Gone)?;
                return Err(RunError::Failed(reason));
            }
            gone = gone(&log) => return Err(RunError::Gone(gone)),
            () = shutdown => {}
        }
        let grace = config.borrow().drain.grace.get();
        tracing::info!(?grace, "draining");
        ready.send_replace(Some("the control plane is stopping"));
        health.stopping().await;
        drain.send_replace(true);
        if timeout(grace, serving).await.is_err() {
            tracing::warn!("calls that did not end in time are cut off");
        }
        log.close().await;
        tasks.shutdown().await;
        // Blocks for the one sync of what is still to be written.
        let _ = spawn_blocking(move || access.close()).await;
        // What it reads would keep the log open.
        let _ = scrubbing.await;
        let head = *log.head().borrow();
        tracing::info!(%head, "stopped");
        Ok(())
    }
}

/// What access is set to, if anything is to be asked of anybody.
fn access_options(config: &Config) -> Option<AccessOptions> {
    let access = config.access.as_ref()?;
    Some(AccessOptions {
        policy: access.policy.clone(),
        audit: config.data_dir.join("audit.log"),
        login_lifetime: access.login_lifetime.get(),
        logins_per_minute: access.logins_per_minute,
        writes_per_second: config.limits.writes_per_second,
        bytes_per_second: config.limits.bytes_per_second.as_u64(),
    })
}

/// Resolves when the store's file is not where it was, also when nobody writes.
async fn gone(log: &Log) -> io::Error {
    let mut ticks = interval(PLACE);
    loop {
        ticks.tick().await;
        let log = log.clone();
        if let Ok(Err(gone)) = spawn_blocking(move || log.check_place()).await {
            return gone;
        }
    }
}

/// Shows the head from the start, not only from the first commit on.
#[allow(clippy::cast_precision_loss)]
fn head_metric(head: Offset) {
    metrics::gauge!("edgesync_control_head_offset").set(head.0 as f64);
}

/// Tells systemd what there is to see.
async fn tell_status(log: Log, fleet: Fleet, mut draining: watch::Receiver<bool>) {
    let mut ticks = interval(STATUS);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            _ = draining.wait_for(|draining| *draining) => return,
        }
        let fleet = fleet.clone();
        let edges = spawn_blocking(move || fleet.states()).await.unwrap_or_default();
        let current = edges.iter().filter(|edge| edge.state == EdgeState::Current).count();
        let head = log.head().borrow().offset;
        let full =
            log.full().map_or_else(String::new, |why| format!("; writes are refused: {why}"));
        systemd::status(&format!("head {head}; {current} of {} edges current{full}", edges.len()));
    }
}
