//! Station 7, admission: which sessions may begin now, and when those that may not are to come back.
//! A bucket of tokens over monotonic time, which is an argument here; nothing waits and nothing is read.

use std::time::{Duration, Instant};

use super::NotAdmitted;

/// How long an edge is asked to wait at the least when there is no room.
const FULL_RETRY: Duration = Duration::from_secs(5);

/// What admission is set to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AdmissionConfig {
    /// Sessions at the most.
    pub max_sessions: usize,
    /// Sessions that may begin in a second, one after the other.
    pub per_second: u32,
    /// Sessions that may begin at once, after a time in which fewer did.
    pub burst: u32,
}

/// Who may begin a session. A storm of reconnects is let in at a steady rate: each edge that is sent
/// away is given a time of its own, so that they do not come back as one.
#[derive(Debug)]
pub(super) struct Admission {
    max_sessions: usize,
    /// Between two tokens.
    interval: Duration,
    /// What a full bucket is worth.
    burst: Duration,
    /// When the bucket will be full again, if nobody comes.
    full_at: Instant,
    /// The time of the edge that is sent away next.
    next_return: Instant,
}

impl Admission {
    /// With a full bucket.
    pub(super) fn new(config: AdmissionConfig, now: Instant) -> Self {
        let AdmissionConfig { max_sessions, per_second, burst } = config;
        let interval = Duration::from_secs(1) / per_second.max(1);
        let burst = interval.saturating_mul(burst.max(1));
        Self { max_sessions, interval, burst, full_at: now, next_return: now }
    }

    /// Lets a session begin beside so many others, or says when to come back.
    pub(super) fn admit(&mut self, sessions: usize, now: Instant) -> Result<(), NotAdmitted> {
        if sessions >= self.max_sessions {
            let retry_after = self.send_away(now).max(FULL_RETRY);
            return Err(NotAdmitted::Full { retry_after });
        }
        if self.until_token(now) > Duration::ZERO {
            return Err(NotAdmitted::Rate { retry_after: self.send_away(now) });
        }
        self.full_at = self.full_at.max(now) + self.interval;
        Ok(())
    }

    /// How long an edge is to stay away: until the times of those before it are over. Nobody waits for
    /// longer than a full house takes to come in; beyond that the times are given out once more.
    pub(super) fn send_away(&mut self, now: Instant) -> Duration {
        let earliest = now + self.until_token(now).max(self.interval);
        let sessions = u32::try_from(self.max_sessions).unwrap_or(u32::MAX);
        let longest = self.interval.saturating_mul(sessions);
        let turn = self.next_return.max(earliest);
        let is_far = turn.saturating_duration_since(now) > longest;
        let turn = if is_far { earliest } else { turn };
        self.next_return = turn + self.interval;
        turn.saturating_duration_since(now)
    }

    /// How long until there is a token.
    fn until_token(&self, now: Instant) -> Duration {
        let spent = self.full_at.saturating_duration_since(now);
        spent.saturating_add(self.interval).saturating_sub(self.burst)
    }
}

#[cfg(test)]
mod tests {
    use std::{cmp::Reverse, collections::BinaryHeap};

    use proptest::prelude::*;

    use super::*;

    const CONFIG: AdmissionConfig =
        AdmissionConfig { max_sessions: 10_000, per_second: 500, burst: 500 };

    fn retry_after(refused: Result<(), NotAdmitted>) -> Duration {
        refused.unwrap_err().retry_after()
    }

    #[test]
    fn a_burst_comes_in_at_once_and_the_rest_at_the_rate() {
        let begin = Instant::now();
        let mut admission = Admission::new(CONFIG, begin);
        let mut admitted = 0;
        for millis in 0..4_000 {
            let now = begin + Duration::from_millis(millis);
            admitted += (0..10).filter(|_| admission.admit(0, now).is_ok()).count();
        }
        assert!((2_490..=2_500).contains(&admitted), "500 and 4 s of 500: {admitted}");
        let later = begin + Duration::from_secs(60);
        let burst = (0..1_000).filter(|_| admission.admit(0, later).is_ok()).count();
        assert_eq!(burst, 500, "what was not used is not saved up beyond the burst");
    }

    #[test]
    fn those_who_are_sent_away_get_times_one_after_the_other() {
        let begin = Instant::now();
        let mut admission = Admission::new(CONFIG, begin);
        assert_eq!((0..500).filter(|_| admission.admit(0, begin).is_ok()).count(), 500);
        let times: Vec<_> = (0..2_000).map(|_| retry_after(admission.admit(0, begin))).collect();
        let gap = Duration::from_millis(2);
        assert!(times.windows(2).all(|pair| pair[1] - pair[0] == gap), "{:?}", &times[..9]);
        assert_eq!((times[0], times[1_999]), (gap, gap * 2_000));
        // They come back at their times, and each finds its token.
        assert!(times.iter().all(|time| admission.admit(0, begin + *time).is_ok()));
    }

    #[test]
    fn nobody_is_sent_away_for_longer_than_a_full_house_takes() {
        let begin = Instant::now();
        let mut admission = Admission::new(CONFIG, begin);
        let longest = (0..100_000).filter_map(|_| admission.admit(0, begin).err());
        let longest = longest.map(|refused| refused.retry_after()).max().unwrap();
        assert!(longest <= Duration::from_secs(20), "10,000 at 500 a second: {longest:?}");
        assert!(longest >= Duration::from_secs(19));
    }

    #[test]
    fn a_full_house_takes_no_token_and_sends_away_for_seconds() {
        let begin = Instant::now();
        let mut admission = Admission::new(CONFIG, begin);
        for _ in 0..2_000 {
            assert!(retry_after(admission.admit(10_000, begin)) >= FULL_RETRY);
        }
        assert_eq!((0..600).filter(|_| admission.admit(9_999, begin).is_ok()).count(), 500);
    }

    /// Edges as the daemon has them: what was asked for, and a wait drawn from nothing to a limit that
    /// doubles.
    fn storm(config: AdmissionConfig, edges: u32, initial: Duration) -> (Duration, u32) {
        let begin = Instant::now();
        let mut admission = Admission::new(config, begin);
        let mut random = 1u64;
        let mut draw = move |limit: Duration| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            limit.mul_f64(f64::from(u32::try_from(random >> 33).unwrap()) / f64::from(1u32 << 31))
        };
        let first = |n| Reverse((begin + Duration::from_micros(n), initial));
        let mut coming: BinaryHeap<_> = (0..u64::from(edges)).map(first).collect();
        let (mut last, mut tries, mut sessions) = (begin, 0, 0);
        while let Some(Reverse((at, limit))) = coming.pop() {
            tries += 1;
            match admission.admit(sessions, at) {
                Ok(()) => (sessions, last) = (sessions + 1, at),
                Err(refused) => {
                    let again = at + refused.retry_after() + draw(limit);
                    coming.push(Reverse((again, (limit * 2).min(Duration::from_secs(60)))));
                }
            }
        }
        (last - begin, tries)
    }

    #[test]
    fn ten_thousand_edges_that_come_as_one_are_all_in_within_half_a_minute() {
        let (took, tries) = storm(CONFIG, 10_000, Duration::from_millis(100));
        assert!(took < Duration::from_secs(30), "{took:?}");
        assert!(tries < 30_000, "{tries} tries of 10,000 edges");
    }

    #[test]
    fn edges_that_have_waited_for_long_already_are_in_within_two_minutes() {
        let (took, tries) = storm(CONFIG, 10_000, Duration::from_secs(60));
        assert!(took < Duration::from_secs(120), "{took:?}");
        assert!(tries < 30_000, "{tries} tries of 10,000 edges");
    }

    proptest! {
        #[test]
        fn never_more_than_the_burst_and_the_rate_come_in(
            per_second in 1u32..5_000, burst in 1u32..2_000,
            gaps in prop::collection::vec(0u64..20_000, 1..2_000),
        ) {
            let config = AdmissionConfig { max_sessions: 1_000_000, per_second, burst };
            let begin = Instant::now();
            let mut admission = Admission::new(config, begin);
            let (mut now, mut admitted) = (begin, 0.0);
            for gap in gaps {
                now += Duration::from_micros(gap);
                if admission.admit(0, now).is_ok() {
                    admitted += 1.0;
                }
                let most = f64::from(burst) + (now - begin).as_secs_f64() * f64::from(per_second);
                prop_assert!(admitted <= most * 1.000_001 + 1.0, "{admitted} of {most}");
            }
        }
    }
}
