//! Station 4, when and where to: the one owner of reconnecting. Exponential backoff with full jitter,
//! so that a fleet that lost its control plane does not come back as one; several endpoints in turn.

use std::time::{Duration, Instant};

use backoff::{SystemClock, backoff::Backoff as _, exponential::ExponentialBackoff};

use crate::link::Endpoint;

/// How to come back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReconnectConfig {
    /// The control planes, the preferred first; at least one.
    pub endpoints: Vec<Endpoint>,
    /// The longest wait after the first failure.
    pub initial: Duration,
    /// The longest wait after many.
    pub max: Duration,
}

/// When and where to connect next.
#[derive(Debug)]
pub struct Reconnect {
    config: ReconnectConfig,
    backoff: ExponentialBackoff<SystemClock>,
    /// Place of the next endpoint in the list.
    next: usize,
    due: Instant,
}

impl Reconnect {
    /// The first try is due at once.
    #[must_use]
    pub fn new(config: ReconnectConfig, now: Instant) -> Self {
        Self { backoff: full_jitter(config.initial, config.max), config, next: 0, due: now }
    }

    /// When the next try is due.
    #[must_use]
    pub const fn due(&self) -> Instant {
        self.due
    }

    /// Where the next try goes; none if there is no endpoint.
    #[must_use]
    pub fn endpoint(&self) -> Option<Endpoint> {
        let count = self.config.endpoints.len();
        self.config.endpoints.get(self.next.checked_rem(count)?).cloned()
    }

    /// A session has come to something: the next wait is a short one again.
    pub fn progressed(&mut self) {
        self.backoff.reset();
    }

    /// A try or a session has ended: the next one goes to the next endpoint, after `least` and a
    /// wait drawn evenly from nothing to the present backoff.
    pub fn ended(&mut self, least: Duration, now: Instant) {
        self.next = self.next.wrapping_add(1);
        let jitter = self.backoff.next_backoff().unwrap_or(self.config.max);
        self.due = now + least + jitter.min(self.config.max);
    }

    /// Takes another configuration; a wait that has begun goes on, but no longer than it may.
    pub fn set(&mut self, config: ReconnectConfig, now: Instant) {
        self.backoff = full_jitter(config.initial, config.max);
        self.due = self.due.min(now + config.max);
        self.next = 0;
        self.config = config;
    }

    /// True if an endpoint is among those configured.
    #[must_use]
    pub fn has(&self, endpoint: &Endpoint) -> bool {
        self.config.endpoints.contains(endpoint)
    }
}

/// The crate draws evenly from `current * (1 - factor)` to `current * (1 + factor)`; with a factor
/// of 1 and half the interval that is from nothing to the interval.
fn full_jitter(initial: Duration, max: Duration) -> ExponentialBackoff<SystemClock> {
    let mut backoff = ExponentialBackoff {
        initial_interval: initial.min(max) / 2,
        randomization_factor: 1.0,
        multiplier: 2.0,
        max_interval: max / 2,
        max_elapsed_time: None,
        ..ExponentialBackoff::default()
    };
    backoff.reset();
    backoff
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reconnect(endpoints: &[&str]) -> (Reconnect, Instant) {
        let config = ReconnectConfig {
            endpoints: endpoints.iter().map(|url| url.parse().unwrap()).collect(),
            initial: Duration::from_millis(100),
            max: Duration::from_secs(60),
        };
        let now = Instant::now();
        (Reconnect::new(config, now), now)
    }

    #[test]
    fn waits_double_up_to_the_cap_and_are_drawn_from_nothing_on() {
        let mut cap = Duration::from_millis(100);
        let (mut a, now) = reconnect(&["https://a:1"]);
        assert_eq!(a.due(), now, "the first try is due at once");
        for _ in 0..14 {
            let mut waits: Vec<Duration> = (0..200)
                .map(|_| {
                    let mut other =
                        Reconnect { backoff: a.backoff.clone(), config: a.config.clone(), ..a };
                    other.ended(Duration::ZERO, now);
                    other.due() - now
                })
                .collect();
            waits.sort();
            assert!(waits[199] <= cap + Duration::from_nanos(10), "{:?} above {cap:?}", waits[199]);
            assert!(waits[199] > cap.mul_f64(0.9), "the whole range is drawn from");
            assert!(waits[0] < cap.mul_f64(0.1), "down to nothing: {:?} of {cap:?}", waits[0]);
            let median = waits[100].as_secs_f64() / cap.as_secs_f64();
            assert!((0.3..0.7).contains(&median), "evenly: {median}");
            a.ended(Duration::ZERO, now);
            cap = (cap * 2).min(Duration::from_secs(60));
        }
        assert_eq!(cap, Duration::from_secs(60));
        a.progressed();
        a.ended(Duration::ZERO, now);
        assert!(a.due() - now <= Duration::from_millis(101));
    }

    #[test]
    fn the_least_wait_is_kept_and_endpoints_take_turns() {
        let (mut reconnect, now) = reconnect(&["https://a:1", "https://b:2"]);
        for url in ["https://a:1", "https://b:2", "https://a:1"] {
            assert_eq!(reconnect.endpoint().unwrap().to_string(), url);
            reconnect.ended(Duration::from_secs(30), now);
            assert!(reconnect.due() >= now + Duration::from_secs(30));
        }
    }

    #[test]
    fn another_configuration_counts_at_once() {
        let (mut reconnect, now) = reconnect(&["https://a:1"]);
        reconnect.ended(Duration::from_secs(3_600), now);
        let endpoints = vec!["https://b:2".parse().unwrap()];
        let (initial, max) = (Duration::from_secs(1), Duration::from_secs(2));
        reconnect.set(ReconnectConfig { endpoints, initial, max }, now);
        assert!(reconnect.due() <= now + max);
        assert_eq!(reconnect.endpoint().unwrap().to_string(), "https://b:2");
        assert!(!reconnect.has(&"https://a:1".parse().unwrap()));
    }
}
