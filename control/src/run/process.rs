//! The control plane as a program: command line, signals, systemd, exit code.

use std::{process::ExitCode, time::Duration};

use clap::Parser;
use edgesync_host::{
    exit::{self, Failure, one_line},
    logging,
    metrics::Metrics,
    secret::no_core_dumps,
    signals::{Request, Signals},
    systemd,
};
use tokio::{runtime::Builder, sync::watch};

use super::ControlPlane;
use crate::{
    access::check_policy,
    config::{Config, Flags},
    metrics,
};

/// Name of the program.
const PROGRAM: &str = "edgesync-control";
/// How long what still runs is waited for after all has ended that counts.
const LEFTOVERS: Duration = Duration::from_secs(1);

/// Runs the program.
#[must_use]
pub fn main() -> ExitCode {
    match Flags::try_parse() {
        Ok(flags) => exit::report(PROGRAM, daemon(&flags)),
        Err(told) => {
            // Where the terminal is closed there is nobody to tell.
            let _ = told.print();
            if told.use_stderr() { ExitCode::from(exit::USAGE) } else { ExitCode::SUCCESS }
        }
    }
}

fn daemon(flags: &Flags) -> Result<(), Failure> {
    let config = flags.load().map_err(Failure::usage)?;
    if flags.check_config {
        if let Some(access) = &config.access {
            check_policy(&access.policy).map_err(Failure::usage)?;
        }
        println!("the configuration is right");
        return Ok(());
    }
    logging::init().map_err(Failure::usage)?;
    no_core_dumps().map_err(Failure::runtime)?;
    let runtime = Builder::new_multi_thread().enable_all().build().map_err(Failure::runtime)?;
    let result = runtime.block_on(serve(flags, config));
    runtime.shutdown_timeout(LEFTOVERS);
    result
}

async fn serve(flags: &Flags, config: Config) -> Result<(), Failure> {
    let recorder = Metrics::install(env!("CARGO_PKG_VERSION")).map_err(Failure::runtime)?;
    metrics::describe();
    let mut signals = Signals::take().map_err(Failure::runtime)?;
    systemd::status("opening the log");
    let control = tokio::select! {
        started = ControlPlane::start(config, recorder) => started.map_err(Failure::runtime)?,
        // A log that is being recovered may be left there, as by a crash.
        () = terminated(&mut signals) => return Ok(()),
    };
    let settings = control.config();
    let head = control.log.head();
    // Fed from the runtime, and only while the sequencer lives.
    let watchdog = systemd::watchdog(move || head.has_changed().is_ok());
    systemd::ready();
    let shutdown = async {
        while signals.next().await == Request::Reload {
            systemd::reloading();
            reload(flags, &settings);
            systemd::ready();
        }
        systemd::stopping();
    };
    let result = control.serve(shutdown).await.map_err(Failure::runtime);
    watchdog.iter().for_each(tokio::task::JoinHandle::abort);
    result
}

/// Waits until the host asks the program to end; there is nothing to reload yet.
async fn terminated(signals: &mut Signals) {
    while signals.next().await != Request::Terminate {}
}

/// Reads the configuration again. What is wrong changes nothing.
fn reload(flags: &Flags, settings: &watch::Sender<Config>) {
    let result = match flags.load() {
        Ok(config) => {
            let later = settings.borrow().needs_restart(&config);
            if !later.is_empty() {
                tracing::warn!(keys = later.join(", "), "these keys change at the next start");
            }
            settings.send_replace(config);
            tracing::info!("configuration reloaded");
            "ok"
        }
        Err(error) => {
            tracing::error!(
                error = one_line(&error),
                "configuration not reloaded, the old one stays"
            );
            "error"
        }
    };
    ::metrics::counter!("edgesync_control_config_reloads_total", "result" => result).increment(1);
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::config::SoaSerial;

    #[test]
    fn a_reload_takes_a_good_file_and_keeps_the_old_one_for_a_bad_one() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("control.toml");
        let flags = Flags { config: Some(file.clone()), insecure: Some(true), ..Flags::default() };
        fs::write(&file, "").unwrap();
        let (settings, _) = watch::channel(flags.load().unwrap());
        fs::write(&file, "soa_serial = \"keep\"").unwrap();
        reload(&flags, &settings);
        assert_eq!(settings.borrow().soa_serial, SoaSerial::Keep);
        for bad in ["soa_serial = 1", "soaserial = \"raise\"", "listen = \"0.0.0.0:1\""] {
            fs::write(&file, bad).unwrap();
            reload(&flags, &settings);
            assert_eq!(settings.borrow().soa_serial, SoaSerial::Keep, "{bad}");
        }
    }
}
