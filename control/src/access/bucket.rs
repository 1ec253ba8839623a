//! Token buckets, in tables of bounded size: how often something may be done, by principal, by user name
//! or by address.

use std::{
    collections::HashMap,
    hash::Hash,
    time::{Duration, Instant},
};

/// What may be done in a second, and at once after a time in which less was done.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rate {
    /// In a second; more than 0.
    pub per_second: f64,
    /// At once.
    pub burst: f64,
}

/// What is left of a rate.
#[derive(Clone, Copy, Debug)]
pub struct Bucket {
    level: f64,
    at: Instant,
}

impl Bucket {
    /// A full one.
    #[must_use]
    pub const fn full(rate: Rate, now: Instant) -> Self {
        Self { level: rate.burst, at: now }
    }

    fn fill(&mut self, rate: Rate, now: Instant) {
        let since = now.saturating_duration_since(self.at);
        self.level = rate.per_second.mul_add(since.as_secs_f64(), self.level).min(rate.burst);
        self.at = now;
    }

    /// Takes an amount if there is anything left. What is larger than the burst is not refused for ever:
    /// it leaves a debt.
    ///
    /// # Errors
    /// With the time after which there is something left.
    pub fn take(&mut self, amount: f64, rate: Rate, now: Instant) -> Result<(), Duration> {
        self.fill(rate, now);
        let least = amount.min(1.0);
        if self.level < least {
            let seconds = (least - self.level) / rate.per_second;
            // A debt is paid in an hour, or never.
            return Err(Duration::from_secs_f64(seconds.clamp(0.001, 3_600.0)));
        }
        self.level -= amount;
        Ok(())
    }

    /// Puts back what was taken.
    pub fn give(&mut self, amount: f64, rate: Rate) {
        self.level = (self.level + amount).min(rate.burst);
    }

    fn is_full(&mut self, rate: Rate, now: Instant) -> bool {
        self.fill(rate, now);
        self.level >= rate.burst
    }
}

/// A bucket for each of at most so many.
#[derive(Debug)]
pub struct Buckets<K> {
    rate: Rate,
    most: usize,
    by_key: HashMap<K, Bucket>,
}

impl<K: Hash + Eq> Buckets<K> {
    /// Of a rate, for at most so many.
    #[must_use]
    pub fn new(rate: Rate, most: usize) -> Self {
        Self { rate, most, by_key: HashMap::new() }
    }

    /// Takes one from a key's bucket.
    ///
    /// # Errors
    /// With the time after which there is one, also while there are too many keys.
    pub fn take(&mut self, key: K, now: Instant) -> Result<(), Duration> {
        let rate = self.rate;
        if self.by_key.len() >= self.most && !self.by_key.contains_key(&key) {
            // A full one says nothing that a new one does not.
            self.by_key.retain(|_, bucket| !bucket.is_full(rate, now));
            if self.by_key.len() >= self.most {
                return Err(Duration::from_secs(1));
            }
        }
        self.by_key.entry(key).or_insert_with(|| Bucket::full(rate, now)).take(1.0, rate, now)
    }

    /// Puts one back.
    pub fn give(&mut self, key: &K) {
        if let Some(bucket) = self.by_key.get_mut(key) {
            bucket.give(1.0, self.rate);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: Rate = Rate { per_second: 2.0, burst: 3.0 };

    #[test]
    fn a_bucket_gives_its_burst_and_then_its_rate() {
        let now = Instant::now();
        let mut bucket = Bucket::full(RATE, now);
        assert_eq!((0..5).filter(|_| bucket.take(1.0, RATE, now).is_ok()).count(), 3);
        let wait = bucket.take(1.0, RATE, now).unwrap_err();
        assert_eq!(wait, Duration::from_millis(500));
        assert!(bucket.take(1.0, RATE, now + wait).is_ok());
        assert!(bucket.take(1.0, RATE, now + wait).is_err());
    }

    #[test]
    fn what_is_larger_than_the_burst_leaves_a_debt() {
        let now = Instant::now();
        let mut bucket = Bucket::full(RATE, now);
        bucket.take(23.0, RATE, now).unwrap();
        assert_eq!(bucket.take(1.0, RATE, now), Err(Duration::from_millis(10_500)));
    }

    #[test]
    fn a_table_stays_bounded_and_forgets_only_who_has_done_nothing_lately() {
        let now = Instant::now();
        let mut buckets = Buckets::new(RATE, 2);
        for key in ["a", "b"] {
            while buckets.take(key, now).is_ok() {}
        }
        assert!(buckets.take("c", now).is_err(), "there is no room, and none is made");
        assert!(buckets.take("a", now).is_err());
        let later = now + Duration::from_secs(10);
        assert!(buckets.take("c", later).is_ok());
        assert_eq!(buckets.by_key.len(), 1);
    }
}
