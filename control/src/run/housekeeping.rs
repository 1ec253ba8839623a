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
    log::{Log, Retention},
    snapshot::Snapshots,
};

/// Between two looks.
const LOOK: Duration = Duration::from_secs(10);

/// Keeps house, for ever.
pub(super) async fn keep(log: Log, snapshots: Snapshots, config: watch::Receiver<Config>) {
    let mut ticks = interval(LOOK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let tidied = snapshots.clone();
        let _ = spawn_blocking(move || tidied.tidy(Instant::now())).await;
        let keep = {
            let config = config.borrow();
            Retention {
                age: config.log.retention_age.get(),
                octets: config.log.retention_size.as_u64(),
            }
        };
        compact(&log, keep).await;
        tell(&log);
    }
}

async fn compact(log: &Log, keep: Retention) {
    let reader = log.clone();
    let expired = spawn_blocking(move || reader.expired(keep, SystemTime::now())).await;
    let upto = match expired {
        Ok(Ok(Some(upto))) if log.frozen().is_none() => upto,
        Ok(Err(error)) => return tracing::error!(%error, "the retention of the log cannot be kept"),
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
