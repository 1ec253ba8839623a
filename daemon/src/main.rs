//! `edgesyncd`, the edge daemon of Edgesync: reads flags and configuration, runs the daemon, and
//! passes on what the host asks of it.

use std::{net::SocketAddr, path::PathBuf, process::ExitCode};

use clap::Parser;
use edgesync_daemon::{
    config::{Config, ENVIRONMENT, Settings},
    limits::LAST_WORDS,
    metrics,
    reconnect::ReconnectConfig,
    run::{Surroundings, run},
};
use edgesync_host::{
    config,
    exit::{self, Failure},
    logging,
    metrics::Metrics,
    secret::no_core_dumps,
    signals::{Request, Signals},
    systemd,
};
use serde::Serialize;
use tokio::{
    runtime::Builder,
    sync::{oneshot, watch},
};

/// Keeps a copy of a control plane's zones on this host: every change as soon as it is committed,
/// through outages, without a person looking.
#[derive(Debug, Clone, Parser)]
#[command(version, name = "edgesyncd")]
struct Arguments {
    /// Configuration file; config/edgesyncd.toml explains every key.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Check the configuration and end.
    #[arg(long)]
    check_config: bool,
    #[command(flatten)]
    flags: Flags,
}

/// Flags that set keys of the configuration; they override it.
#[derive(Debug, Clone, clap::Args, Serialize)]
struct Flags {
    /// Id of this edge, unique in the fleet [default: the host's name].
    #[arg(long, value_name = "ID")]
    edge_id: Option<String>,
    /// Directory of the store [default: /var/lib/edgesyncd].
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// URL of a control plane; may be given several times, the preferred one first [default:
    /// http://127.0.0.1:7353].
    #[arg(long, value_name = "URL")]
    control: Vec<String>,
    /// Address of /metrics, /healthz and /readyz [default: 127.0.0.1:9354].
    #[arg(long, value_name = "ADDR")]
    metrics_listen: Option<SocketAddr>,
    /// Unix socket of the local API [default: /run/edgesyncd/edgesyncd.sock].
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
}

impl Arguments {
    fn load(&self) -> Result<(Config, Settings), Failure> {
        let loaded = config::load(self.config.as_deref(), ENVIRONMENT, &self.flags);
        let config: Config = loaded.map_err(Failure::usage)?;
        let settings = config.settings().map_err(Failure::usage)?;
        Ok((config, settings))
    }
}

fn main() -> ExitCode {
    match Arguments::try_parse() {
        Ok(arguments) => exit::report("edgesyncd", start(&arguments)),
        Err(told) => {
            // Where the terminal is closed there is nobody to tell.
            let _ = told.print();
            if told.use_stderr() { ExitCode::from(exit::USAGE) } else { ExitCode::SUCCESS }
        }
    }
}

fn start(arguments: &Arguments) -> Result<(), Failure> {
    let (config, settings) = arguments.load()?;
    if arguments.check_config {
        println!("the configuration is right");
        return Ok(());
    }
    logging::init().map_err(Failure::usage)?;
    no_core_dumps().map_err(Failure::runtime)?;
    let runtime = Builder::new_multi_thread().enable_all().build().map_err(Failure::runtime)?;
    let ended = runtime.block_on(serve(arguments, config, settings));
    // A read that is stuck in the disk is not waited for.
    runtime.shutdown_timeout(LAST_WORDS);
    ended
}

/// Runs the daemon until the host asks it to end.
async fn serve(arguments: &Arguments, config: Config, settings: Settings) -> Result<(), Failure> {
    let mut signals = Signals::take().map_err(Failure::runtime)?;
    let page = Metrics::install(env!("CARGO_PKG_VERSION")).map_err(Failure::runtime)?;
    let (reconnect, reconnects) = watch::channel(settings.reconnect.clone());
    let surroundings = Surroundings { metrics: Some(page), reconnect: Some(reconnects) };
    let (stop, stopped) = oneshot::channel::<()>();
    let mut stop = Some(stop);
    let daemon = run(settings, surroundings, async {
        let _ = stopped.await;
    });
    tokio::pin!(daemon);
    loop {
        tokio::select! {
            ended = &mut daemon => return ended.map_err(Failure::runtime),
            request = signals.next() => match request {
                Request::Terminate => drop(stop.take()),
                Request::Reload => reload(arguments, &config, &reconnect),
            }
        }
    }
}

/// Reads the configuration again. A mistake in it changes nothing.
fn reload(arguments: &Arguments, running: &Config, reconnect: &watch::Sender<ReconnectConfig>) {
    systemd::reloading();
    match arguments.load() {
        Ok((config, settings)) => {
            reconnect.send_replace(settings.reconnect);
            tracing::info!("configuration reloaded");
            let later = running.needs_restart(&config);
            if !later.is_empty() {
                tracing::warn!(keys = later.join(", "), "these keys change at the next start");
            }
            metrics::reloaded("ok");
        }
        Err(failure) => {
            let error = failure.line();
            tracing::error!(error, "configuration not reloaded, the old one stays");
            metrics::reloaded("error");
        }
    }
    systemd::ready();
}
