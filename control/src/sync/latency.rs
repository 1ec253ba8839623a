//! The way of each live change set, timed by one clock, the control plane's: durable → sent → acked.
//! The way of the ack is in it, and what the edge says it took itself is given beside it.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use edgesync_core::{position::Offset, session::Ack, spike::SpikeWatch};

/// Spikes over all sessions.
#[derive(Clone)]
pub(super) struct Spikes(Arc<Mutex<SpikeWatch>>);

impl Spikes {
    pub(super) fn new() -> Self {
        Self(Arc::new(Mutex::new(SpikeWatch::new(Instant::now()))))
    }

    /// Tells the worst time of the last minute, also when no ack has come in it.
    pub(super) fn tell(&self, now: Instant) {
        let worst = self.0.lock().unwrap_or_else(PoisonError::into_inner).worst(now);
        metrics::gauge!("edgesync_control_latency_worst_seconds").set(worst);
    }

    fn observe(&self, took: &[Duration], now: Instant) {
        let mut watch = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let spikes = took.iter().filter(|took| watch.observe(**took, now)).count();
        let worst = watch.worst(now);
        drop(watch);
        metrics::counter!("edgesync_control_latency_spikes_total").increment(spikes as u64);
        metrics::gauge!("edgesync_control_latency_worst_seconds").set(worst);
    }
}

/// A set on its way to an edge and back.
struct OnItsWay {
    last: Offset,
    durable: Instant,
    sent: Instant,
}

/// The live sets of one session that are on their way.
pub(super) struct Journey {
    began: Instant,
    sets: VecDeque<OnItsWay>,
    spikes: Spikes,
}

impl Journey {
    pub(super) const fn new(spikes: Spikes, now: Instant) -> Self {
        Self { began: now, sets: VecDeque::new(), spikes }
    }

    /// A set has been sent. One that became durable before the session began is catch-up, and its
    /// age says nothing of the way.
    pub(super) fn sent(&mut self, last: Offset, durable: Instant, now: Instant) {
        if durable >= self.began {
            let waited = now.saturating_duration_since(durable);
            metrics::histogram!("edgesync_control_release_to_send_seconds").record(waited);
            self.sets.push_back(OnItsWay { last, durable, sent: now });
        }
    }

    /// An ack has come: the times from durable to acked of the sets that it is for.
    pub(super) fn acked(&mut self, ack: &Ack, now: Instant) -> Vec<Duration> {
        let mut took = Vec::new();
        while let Some(set) = self.sets.pop_front_if(|set| set.last <= ack.last) {
            let whole = now.saturating_duration_since(set.durable);
            metrics::histogram!("edgesync_control_end_to_end_seconds").record(whole);
            took.push(whole);
            if set.last == ack.last {
                let way = now.saturating_duration_since(set.sent).saturating_sub(ack.apply);
                metrics::histogram!("edgesync_control_edge_apply_seconds").record(ack.apply);
                metrics::histogram!("edgesync_control_network_seconds").record(way);
            }
        }
        if !took.is_empty() {
            self.spikes.observe(&took, now);
        }
        took
    }
}

#[cfg(test)]
mod tests {
    use metrics_exporter_prometheus::PrometheusBuilder;

    use super::*;

    #[test]
    fn the_worst_time_of_a_minute_is_forgotten_after_it_also_without_acks() {
        let recorder = PrometheusBuilder::new().build_recorder();
        let (spikes, now) = (Spikes::new(), Instant::now());
        let told = || recorder.handle().render();
        metrics::with_local_recorder(&recorder, || spikes.observe(&[Duration::from_secs(3)], now));
        assert!(told().contains("latency_worst_seconds 3\n"), "{}", told());
        let later = now + Duration::from_secs(61);
        metrics::with_local_recorder(&recorder, || spikes.tell(later));
        assert!(told().contains("latency_worst_seconds 0\n"), "{}", told());
    }
}
