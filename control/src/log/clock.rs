//! What time it is where something is forgotten by its age. The wall clock may jump by years, and what
//! is forgotten then cannot be got back; so it is read beside one that only goes, and what is forgotten
//! is old by both (F-19).

use std::time::{Duration, Instant, SystemTime};

/// How far the wall clock may be from what it was at the start and the time since, before it counts as set.
pub const APART: Duration = Duration::from_secs(60);

/// The wall clock as it was at the start, and how long ago that is.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    wall: SystemTime,
    steady: Instant,
    /// When the wall clock was set, and to what.
    set: Option<(SystemTime, Instant)>,
}

/// What two clocks say of one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Times {
    /// The host's clock, which people read.
    pub wall: SystemTime,
    /// That of the start, and what has gone by since.
    pub steady: SystemTime,
}

impl Clock {
    /// A clock that starts now.
    #[must_use]
    pub fn start() -> Self {
        Self::new(SystemTime::now(), Instant::now())
    }

    /// A clock that starts at a time.
    #[must_use]
    pub const fn new(wall: SystemTime, steady: Instant) -> Self {
        Self { wall, steady, set: None }
    }

    /// What time it is.
    #[must_use]
    pub fn now(&self) -> Times {
        self.at(SystemTime::now(), Instant::now())
    }

    /// What time it is when the host's clocks say this.
    #[must_use]
    pub fn at(&self, wall: SystemTime, steady: Instant) -> Times {
        let since = steady.saturating_duration_since(self.steady);
        Times { wall, steady: self.wall.checked_add(since).unwrap_or(self.wall) }
    }

    /// Believes a wall clock that was set once it has gone evenly for so long: what lives no longer than that is
    /// old by then, whatever it was dated by, and would else be kept until a restart.
    pub fn believe_after(&mut self, long: Duration, wall: SystemTime, steady: Instant) {
        if self.at(wall, steady).apart() <= APART {
            self.set = None;
            return;
        }
        let goes_on = |(set, when): &(SystemTime, Instant)| {
            Self::new(*set, *when).at(wall, steady).apart() <= APART
        };
        let (_, since) = *self.set.insert(self.set.filter(goes_on).unwrap_or((wall, steady)));
        if steady.saturating_duration_since(since) >= long {
            *self = Self::new(wall, steady);
        }
    }
}

impl Times {
    /// The earlier one: by which nothing is forgotten too early.
    #[must_use]
    pub fn earlier(self) -> SystemTime {
        self.wall.min(self.steady)
    }

    /// The later one: what is dated by it is not old too early.
    #[must_use]
    pub fn later(self) -> SystemTime {
        self.wall.max(self.steady)
    }

    /// How far the wall clock has been set, or has jumped, since the start.
    #[must_use]
    pub fn apart(self) -> Duration {
        self.later().duration_since(self.earlier()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wall_clock_that_jumps_makes_nothing_older_than_it_is() {
        let (wall, steady) =
            (SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000), Instant::now());
        let clock = Clock::new(wall, steady);
        let (hour, years) = (Duration::from_secs(3_600), Duration::from_secs(10 * 365 * 86_400));
        let right = clock.at(wall + hour, steady + hour);
        assert_eq!((right.earlier(), right.apart()), (wall + hour, Duration::ZERO));
        let forward = clock.at(wall + hour + years, steady + hour);
        assert_eq!((forward.earlier(), forward.apart()), (wall + hour, years));
        let back = clock.at(wall + hour - years, steady + hour);
        assert_eq!((back.earlier(), back.later()), (wall + hour - years, wall + hour));
        assert_eq!(back.apart(), years);
    }

    #[test]
    fn a_wall_clock_that_was_set_is_believed_when_it_has_gone_evenly_for_long() {
        let (wall, steady) =
            (SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000), Instant::now());
        let (hour, day) = (Duration::from_secs(3_600), Duration::from_secs(86_400));
        let mut clock = Clock::new(wall, steady);
        let mut apart = |set: Duration, since: Duration| {
            clock.believe_after(day, wall + set + since, steady + since);
            clock.at(wall + set + since, steady + since).apart()
        };
        // Set to a year ahead after an hour, and to two years ahead after another.
        assert_eq!(apart(day * 365, hour), day * 365);
        assert_eq!(apart(day * 730, hour * 2), day * 730);
        assert_eq!(apart(day * 730, day + hour), day * 730, "it has gone so for 23 hours");
        assert_eq!(apart(day * 730, day + hour * 2), Duration::ZERO);
        assert_eq!(apart(day * 730, day * 2), Duration::ZERO);
    }
}
