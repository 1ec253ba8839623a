//! What is done for the fleet by the clock: gauges each second, and the store's memory of positions
//! each five, so that a restarted control plane knows whom a receipt has to wait for.

use std::time::Duration;

use edgesync_core::position::Position;
use tokio::time::{MissedTickBehavior, interval};

use super::{EdgeState, Fleet};
use crate::log::FleetRow;

/// Between two looks at the fleet.
const LOOK: Duration = Duration::from_secs(1);
/// Looks between two saves.
const SAVE_EVERY: u32 = 5;

pub(super) async fn keep(fleet: &Fleet) {
    let mut ticks = interval(LOOK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for tick in 1u32.. {
        ticks.tick().await;
        record_metrics(fleet);
        if tick % SAVE_EVERY == 0 {
            save(fleet);
        }
    }
}

#[allow(clippy::cast_precision_loss)]
fn record_metrics(fleet: &Fleet) {
    let octets = fleet.shared.log.store_octets();
    metrics::gauge!("edgesync_control_store_bytes").set(octets as f64);
    let edges = fleet.states();
    for (state, name) in EdgeState::ALL {
        let count = edges.iter().filter(|edge| edge.state == state).count();
        metrics::gauge!("edgesync_control_edges", "state" => name).set(count as f64);
    }
    for edge in edges {
        let id = edge.id.to_string();
        let offset = edge.durable.map_or(0, |durable| durable.offset.0);
        metrics::gauge!("edgesync_control_edge_offset", "edge" => id.clone()).set(offset as f64);
        metrics::gauge!("edgesync_control_edge_lag_changes", "edge" => id.clone())
            .set(edge.lag_changes as f64);
        metrics::gauge!("edgesync_control_edge_lag_seconds", "edge" => id).set(edge.lag);
    }
}

fn save(fleet: &Fleet) {
    let log = fleet.head().log;
    let mut edges = fleet.lock();
    let mut rows = Vec::new();
    for (id, edge) in &mut edges.by_id {
        if std::mem::take(&mut edge.dirty) {
            let durable = edge.durable.unwrap_or_else(|| Position::genesis(log));
            rows.push(FleetRow { edge: id.to_string(), durable: Some(durable) });
        }
    }
    drop(edges);
    if !rows.is_empty() {
        fleet.shared.log.save_fleet(rows);
    }
}
