//! Latency spikes: what Edgesync is watched for. A spike is a duration above ten times the running
//! median and above five milliseconds; the worst of the last minute is kept beside their number.

use std::time::{Duration, Instant};

/// A duration below this is no spike, whatever the median is.
const LEAST: Duration = Duration::from_millis(5);
/// How many times the median a spike is.
const TIMES: u32 = 10;
/// Durations from which on there is a median to speak of.
const WARM_UP: u32 = 100;
/// Seconds that the worst duration is kept for.
const SECONDS: usize = 60;

/// Watches a sequence of durations. Constant memory.
#[derive(Debug, Clone)]
pub struct SpikeWatch {
    start: Instant,
    median: Duration,
    seen: u32,
    worst: [(u64, Duration); SECONDS],
    spikes: u64,
}

impl SpikeWatch {
    /// A watch that has seen nothing.
    #[must_use]
    pub const fn new(now: Instant) -> Self {
        let worst = [(0, Duration::ZERO); SECONDS];
        Self { start: now, median: Duration::ZERO, seen: 0, worst, spikes: 0 }
    }

    /// Takes a duration; true if it is a spike.
    pub fn observe(&mut self, took: Duration, now: Instant) -> bool {
        let second = now.saturating_duration_since(self.start).as_secs();
        let place = usize::try_from(second).unwrap_or(0) % SECONDS;
        if let Some((of, worst)) = self.worst.get_mut(place) {
            *worst = if *of == second { took.max(*worst) } else { took };
            *of = second;
        }
        let spike = self.seen >= WARM_UP && took > LEAST && took > self.median * TIMES;
        self.seen = self.seen.saturating_add(1);
        self.spikes += u64::from(spike);
        // A step of 1/64 toward each value comes to rest where as many lie above as below.
        let step = (self.median / 64).max(Duration::from_nanos(100));
        self.median = match took.cmp(&self.median) {
            _ if self.median.is_zero() => took,
            std::cmp::Ordering::Greater => self.median + step,
            std::cmp::Ordering::Less => self.median.saturating_sub(step),
            std::cmp::Ordering::Equal => self.median,
        };
        spike
    }

    /// Number of spikes so far.
    #[must_use]
    pub const fn spikes(&self) -> u64 {
        self.spikes
    }

    /// The longest duration of the last minute.
    #[must_use]
    pub fn worst(&self, now: Instant) -> Duration {
        let second = now.saturating_duration_since(self.start).as_secs();
        let recent =
            self.worst.iter().filter(|(of, _)| second - (*of).min(second) < SECONDS as u64);
        recent.map(|(_, worst)| *worst).max().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spike_is_far_above_the_median_and_above_five_milliseconds() {
        let now = Instant::now();
        let mut watch = SpikeWatch::new(now);
        assert!(!watch.observe(Duration::from_micros(1), now));
        assert!(!watch.observe(Duration::from_secs(1), now), "nothing to compare with yet");
        let mut watch = SpikeWatch::new(now);
        for micros in (900..1_100).cycle().take(5_000) {
            assert!(!watch.observe(Duration::from_micros(micros), now));
        }
        assert!((900..1_100).contains(&watch.median.as_micros()), "{:?}", watch.median);
        assert!(!watch.observe(Duration::from_millis(9), now));
        assert!(watch.observe(Duration::from_millis(20), now));
        assert_eq!(watch.spikes(), 1);
    }

    #[test]
    fn the_worst_is_forgotten_after_a_minute() {
        let now = Instant::now();
        let at = |seconds| now + Duration::from_secs(seconds);
        let mut watch = SpikeWatch::new(now);
        watch.observe(Duration::from_millis(7), at(1));
        watch.observe(Duration::from_millis(3), at(30));
        assert_eq!(watch.worst(at(59)), Duration::from_millis(7));
        assert_eq!(watch.worst(at(62)), Duration::from_millis(3));
        assert_eq!(watch.worst(at(600)), Duration::ZERO);
    }
}
