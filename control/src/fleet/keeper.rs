//! What is done for the fleet by the clock: gauges each second, and the store's memory of positions
//! each five, so that a restarted control plane knows whom a receipt has to wait for.

use std::{collections::BTreeSet, time::Duration};

use edgesync_core::{edge_id::EdgeId, position::Position};
use tokio::{
    task::spawn_blocking,
    time::{MissedTickBehavior, interval},
};

use super::{EdgeState, EdgeView, Fleet};
use crate::log::FleetRow;

/// Between two looks at the fleet.
const LOOK: Duration = Duration::from_secs(1);
/// Looks between two saves.
const SAVE_EVERY: u32 = 5;

/// The gauges of one edge.
const OFFSET: &str = "edgesync_control_edge_offset";
const LAG_CHANGES: &str = "edgesync_control_edge_lag_changes";
const LAG_SECONDS: &str = "edgesync_control_edge_lag_seconds";

pub(super) async fn keep(fleet: &Fleet) {
    let mut ticks = interval(LOOK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut told = Told::default();
    for tick in 1u32.. {
        ticks.tick().await;
        let looked = fleet.clone();
        // The age of what an edge lacks may have to be read from the store.
        let look = move || (looked.shared.log.store_octets(), looked.states());
        match spawn_blocking(look).await {
            Ok((octets, edges)) => told.tell(octets, &edges),
            Err(error) => tracing::error!(%error, "the fleet could not be looked at"),
        }
        if tick % SAVE_EVERY == 0 {
            save(fleet);
        }
    }
}

/// The edges of which something was told at the last look.
#[derive(Default)]
struct Told(BTreeSet<EdgeId>);

impl Told {
    #[allow(clippy::cast_precision_loss)]
    fn tell(&mut self, octets: u64, edges: &[EdgeView]) {
        metrics::gauge!("edgesync_control_store_bytes").set(octets as f64);
        for (state, name) in EdgeState::ALL {
            let count = edges.iter().filter(|edge| edge.state == state).count();
            metrics::gauge!("edgesync_control_edges", "state" => name).set(count as f64);
        }
        for edge in edges {
            let offset = edge.durable.map_or(0, |durable| durable.offset.0);
            gauge(OFFSET, &edge.id, offset as f64);
            gauge(LAG_CHANGES, &edge.id, edge.lag_changes as f64);
            gauge(LAG_SECONDS, &edge.id, edge.lag.as_secs_f64());
        }
        let now: BTreeSet<_> = edges.iter().map(|edge| edge.id.clone()).collect();
        // A series cannot be taken back. What was true of a forgotten edge would alarm for ever; no
        // comparison holds for NaN.
        for gone in self.0.difference(&now) {
            for name in [OFFSET, LAG_CHANGES, LAG_SECONDS] {
                gauge(name, gone, f64::NAN);
            }
        }
        self.0 = now;
    }
}

fn gauge(name: &'static str, edge: &EdgeId, value: f64) {
    metrics::gauge!(name, "edge" => edge.to_string()).set(value);
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

#[cfg(test)]
mod tests {
    use edgesync_core::position::LogId;
    use metrics_exporter_prometheus::PrometheusBuilder;

    use super::*;
    use crate::fleet::edge::Edge;

    #[test]
    fn what_was_true_of_a_forgotten_edge_is_not_told_any_more() {
        let recorder = PrometheusBuilder::new().build_recorder();
        let head = Position::genesis(LogId([0; 16]));
        let view = |id: &str| Edge::remembered(Some(head)).view(&id.parse().unwrap(), head);
        let mut told = Told::default();
        metrics::with_local_recorder(&recorder, || {
            told.tell(1, &[view("a"), view("b")]);
            told.tell(1, &[view("b")]);
        });
        let page = recorder.handle().render();
        for name in [OFFSET, LAG_CHANGES, LAG_SECONDS] {
            assert!(page.contains(&format!("{name}{{edge=\"a\"}} NaN\n")), "{page}");
            assert!(page.contains(&format!("{name}{{edge=\"b\"}} 0\n")), "{page}");
        }
        assert!(page.contains("edgesync_control_edges{state=\"disconnected\"} 1\n"), "{page}");
        metrics::with_local_recorder(&recorder, || told.tell(1, &[view("a")]));
        let page = recorder.handle().render();
        assert!(page.contains(&format!("{OFFSET}{{edge=\"a\"}} 0\n")), "it is back: {page}");
    }
}
