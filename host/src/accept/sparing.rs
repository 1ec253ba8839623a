//! Lines in a log about what strangers do: some a second, so that they cannot fill the disk.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// Lines in a second.
const LINES: u32 = 10;

/// Says whether one more line may be written.
#[derive(Debug)]
pub(super) struct Sparing(Mutex<(Instant, u32)>);

impl Default for Sparing {
    fn default() -> Self {
        Self(Mutex::new((Instant::now(), 0)))
    }
}

impl Sparing {
    pub(super) fn one_more(&self) -> bool {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if state.0.elapsed() >= Duration::from_secs(1) {
            *state = (Instant::now(), 0);
        }
        state.1 = state.1.saturating_add(1);
        state.1 <= LINES
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_lines_are_written_than_a_disk_can_bear() {
        let sparing = Sparing::default();
        let written = (0..10_000).filter(|_| sparing.one_more()).count();
        assert_eq!(written, usize::try_from(LINES).unwrap());
    }
}
