//! What the control plane does by the clock: compacts what is beyond the retention, and lets go of
//! snapshots that nobody needs any more.

use std::time::{Duration, Instant, SystemTime};

use tokio::{
    sync::watch,
    task::spawn_blocking,
    time::{MissedTickBehavior, interval},
};

use crate::{
    config::Config,
    log::{APART, Clock, Log, Retention, Times},
    snapshot::Snapshots,
};

/// Between two looks.
const LOOK: Duration = Duration::from_secs(10);

/// Keeps house, for ever.
pub(super) async fn keep(log: Log, snapshots: Snapshots, config: watch::Receiver<Config>) {
    let mut ticks = interval(LOOK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (clock, mut is_said) = (Clock::start(), false);
    loop {
        ticks.tick().await;
        let now = clock.now();
        if now.apart() > APART && !is_said {
            tell_apart(now);
            is_said = true;
        }
        let tidied = snapshots.clone();
        aside("snapshots", move || tidied.tidy(Instant::now())).await;
        let keep = {
            let config = config.borrow();
            Retention {
                age: config.log.retention_age.get(),
                octets: config.log.retention_size.as_u64(),
            }
        };
        // Before a compaction, which may take minutes beside writes that never rest.
        let told = log.clone();
        aside("gauges", move || tell(&told)).await;
        compact(&log, keep, now.earlier()).await;
    }
}

/// Does what may block. What panics in it is told, and tried again at the next look.
async fn aside<T: Send + 'static>(
    what: &'static str,
    work: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    let done = spawn_blocking(work).await;
    done.inspect_err(|error| tracing::error!(what, %error, "housekeeping has failed")).ok()
}

fn tell_apart(Times { wall, steady }: Times) {
    let jumped = if wall > steady { "ahead of" } else { "behind" };
    let by = wall.duration_since(steady).unwrap_or_else(|error| error.duration());
    tracing::warn!(
        "the host's clock is {} s {jumped} what it was at the start and the time since: it was set, or \
         the host slept; until a restart the log is kept by the earlier time",
        by.as_secs()
    );
}

async fn compact(log: &Log, keep: Retention, now: SystemTime) {
    let reader = log.clone();
    let expired = aside("retention", move || reader.expired(keep, now)).await;
    let upto = match expired {
        Some(Ok(Some(upto))) if log.frozen().is_none() => upto,
        Some(Err(error)) => {
            return tracing::error!(%error, "the retention of the log cannot be kept");
        }
        _ => return,
    };
    if let Ok(done) = log.compact(upto).await
        && done.sets > 0
    {
        let metric = metrics::counter!("edgesync_control_compacted_change_sets_total");
        metric.increment(done.sets);
        tracing::info!(floor = %done.floor, sets = done.sets, "log compacted by its retention");
    }
}

#[allow(clippy::cast_precision_loss)]
fn tell(log: &Log) {
    metrics::gauge!("edgesync_control_floor_offset").set(log.floor().0 as f64);
    let released = log.released().borrow().offset;
    metrics::gauge!("edgesync_control_released_offset").set(released.0 as f64);
    let frozen = if log.frozen().is_some() { 1.0 } else { 0.0 };
    metrics::gauge!("edgesync_control_frozen").set(frozen);
    if let Ok(octets) = log.view().and_then(|view| view.log_octets()) {
        metrics::gauge!("edgesync_control_log_bytes").set(octets as f64);
    }
}
