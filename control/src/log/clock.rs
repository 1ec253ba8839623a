//! What time it is where something is forgotten by its age. The wall clock may jump by years, and what
//! is forgotten then cannot be got back; so it is read beside one that only goes, and what is forgotten
//! is old by both (F-19).

use std::time::{Duration, Instant, SystemTime};

/// The wall clock as it was at the start, and how long ago that is.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    wall: SystemTime,
    steady: Instant,
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
        Self { wall, steady }
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
}
