//! Connections that came to nothing: refused, or closed before anybody was known. A flood has no others, so
//! each of them has the next ones wait in the kernel; a fleet that comes back after an outage has hardly any.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    task::yield_now,
    time::{Instant, sleep_until},
};

/// What was not used of the connections in a second is saved for so long. Hundreds at once would stand before
/// the one call of somebody else.
const BURST: Duration = Duration::from_millis(50);
/// Nobody waits longer than this, however many came to nothing at once (thousands of strangers whose listener
/// is cut off).
const LONGEST: Duration = Duration::from_secs(1);

/// Counts them.
#[derive(Debug)]
pub(super) struct Vain {
    every: Duration,
    /// When all that there were will have been due, one after the other.
    due: Mutex<Instant>,
}

impl Vain {
    /// So many in a second are borne.
    pub(super) fn new(per_second: u32) -> Self {
        let every = Duration::from_secs(1) / per_second.max(1);
        Self { every, due: Mutex::new(Instant::now()) }
    }

    fn due(&self) -> MutexGuard<'_, Instant> {
        self.due.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A connection came to nothing.
    pub(super) fn one_more(&self) {
        let (mut due, now) = (self.due(), Instant::now());
        *due = (now.max(*due) + self.every).min(now + BURST + LONGEST);
    }

    /// Waits until another connection is borne; others have a turn in any case.
    pub(super) async fn wait(&self) {
        let due = *self.due();
        if due > Instant::now() + BURST {
            sleep_until(due - BURST).await;
        } else {
            yield_now().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn so_many_in_a_second_are_borne_and_some_at_once() {
        let vain = Vain::new(100);
        let begin = Instant::now();
        for _ in 0..5 {
            vain.wait().await;
            vain.one_more();
        }
        assert_eq!(begin.elapsed(), Duration::ZERO, "a burst");
        for _ in 0..100 {
            vain.wait().await;
            vain.one_more();
        }
        let took = begin.elapsed();
        let range = Duration::from_millis(990)..Duration::from_millis(1_010);
        assert!(range.contains(&took), "{took:?}");
        for _ in 0..100 {
            vain.wait().await;
        }
        assert!(begin.elapsed() - took < Duration::from_millis(20), "the others wait for nothing");
        (0..10_000).for_each(|_| vain.one_more());
        let begin = Instant::now();
        vain.wait().await;
        assert!(begin.elapsed() <= LONGEST + Duration::from_millis(1), "{:?}", begin.elapsed());
    }
}
