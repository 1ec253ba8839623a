//! What systemd is told of a daemon (sd_notify(3)), for units of `Type=notify` or `notify-reload`.
//! Without NOTIFY_SOCKET in the environment nothing here does anything.

use std::time::Duration;

use sd_notify::NotifyState;
use tokio::{
    task::JoinHandle,
    time::{MissedTickBehavior, interval},
};

/// The daemon is up, or has reloaded.
pub fn ready() {
    tell(&[NotifyState::Ready]);
}

/// The daemon reads its configuration again; [`ready`] ends it.
pub fn reloading() {
    // notify-reload wants the moment as well, so that a late READY=1 is not taken for this one.
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(error) => tracing::warn!(%error, "cannot read the clock for systemd"),
    }
}

/// The daemon ends.
pub fn stopping() {
    tell(&[NotifyState::Stopping]);
}

/// One line on what the daemon does, for `systemctl status`.
pub fn status(line: &str) {
    tell(&[NotifyState::Status(&line.replace(['\n', '\r'], " "))]);
}

/// Feeds systemd's watchdog at half of WATCHDOG_USEC, as long as `alive` says so; nothing if the
/// unit has no watchdog. Runs on the runtime that it guards: if that hangs, so does this.
pub fn watchdog(alive: impl Fn() -> bool + Send + 'static) -> Option<JoinHandle<()>> {
    let limit = sd_notify::watchdog_enabled()?;
    Some(tokio::spawn(feed(limit / 2, alive, || tell(&[NotifyState::Watchdog]))))
}

/// Calls `sign` every `period` in which `alive` is true.
async fn feed(period: Duration, alive: impl Fn() -> bool, sign: impl Fn()) {
    let mut ticks = interval(period.max(Duration::from_millis(1)));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if alive() {
            sign();
        }
    }
}

fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!(%error, "cannot tell systemd");
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use tokio::time::timeout;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_watchdog_is_fed_only_while_the_daemon_is_alive() {
        let (asked, fed) = (AtomicU32::new(0), AtomicU32::new(0));
        let alive = || asked.fetch_add(1, Ordering::Relaxed) < 4;
        let sign = || {
            fed.fetch_add(1, Ordering::Relaxed);
        };
        let guarded = feed(Duration::from_secs(10), alive, sign);
        assert!(timeout(Duration::from_secs(95), guarded).await.is_err());
        assert_eq!((asked.into_inner(), fed.into_inner()), (10, 4));
    }
}
