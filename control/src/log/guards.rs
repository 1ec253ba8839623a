//! The guards of the writers: how much each principal has taken away from each zone of late. Kept by
//! the sequencer alone, in memory; a restart begins new windows (rule 10).

use std::{
    collections::{HashMap, hash_map::Entry},
    time::Instant,
};

use edgesync_core::{change::ChangeSet, fold::ZoneStates, guard::ZoneGuard, name::Name};

use super::{Write, WriteError};

/// Windows that are kept before those that are over are thrown away.
const KEPT: usize = 1_024;

/// A window for each principal and zone.
pub(super) struct Guards {
    windows: HashMap<(String, Name), ZoneGuard>,
    /// With how many windows those that are over are looked for next: twice as many as were left, so
    /// that a write costs one look on average, however many windows there are.
    sweep_at: usize,
}

impl Default for Guards {
    fn default() -> Self {
        Self { windows: HashMap::new(), sweep_at: KEPT }
    }
}

impl Guards {
    /// Counts what a write is about to do; refuses it if it is too much, unless its caller has said
    /// that it may be.
    pub(super) fn check(
        &mut self,
        write: &Write,
        sets: &[ChangeSet],
        zone: &ZoneStates,
        now: Instant,
    ) -> Result<(), WriteError> {
        if write.override_guard || zone.visible.is_none() {
            return Ok(());
        }
        self.sweep(now);
        let place = (write.caller().principal.clone(), write.zone().clone());
        let Some(first) = sets.first().map(|set| set.first) else { return Ok(()) };
        let begin = || ZoneGuard::new(zone, first, now);
        let guard = match self.windows.entry(place) {
            Entry::Vacant(entry) => entry.insert(begin()),
            Entry::Occupied(entry) => {
                let guard = entry.into_mut();
                if guard.is_over(now) {
                    *guard = begin();
                }
                guard
            }
        };
        let take = |set| guard.take(set, zone, write.replaces);
        sets.iter().try_for_each(take).map_err(|exceeded| {
            metrics::counter!("edgesync_control_guard_refusals_total").increment(1);
            WriteError::Guard {
                zone: write.zone().clone(),
                touched: exceeded.touched,
                of: exceeded.of,
            }
        })
    }

    /// Throws away the windows that are over, if there are many. How many it has looked at.
    fn sweep(&mut self, now: Instant) -> usize {
        let windows = self.windows.len();
        if windows < self.sweep_at {
            return 0;
        }
        self.windows.retain(|_, guard| !guard.is_over(now));
        self.sweep_at = KEPT.max(self.windows.len().saturating_mul(2));
        windows
    }
}

#[cfg(test)]
mod tests {
    use edgesync_core::{limits::GUARD_WINDOW, position::Offset};

    use super::*;

    #[test]
    fn many_windows_cost_a_write_no_look_at_each_of_them() {
        let (mut guards, now) = (Guards::default(), Instant::now());
        let (mut looks, writes) = (0, 20 * KEPT);
        for number in 0..writes {
            looks += guards.sweep(now);
            let window = ZoneGuard::new(&ZoneStates::default(), Offset(1), now);
            guards.windows.insert((number.to_string(), Name::root()), window);
        }
        assert!(looks <= 2 * writes, "{looks} looks for {writes} writes");
        assert_eq!(guards.windows.len(), writes, "none is over");
        guards.sweep_at = 0;
        guards.sweep(now + GUARD_WINDOW);
        assert_eq!((guards.windows.len(), guards.sweep_at), (0, KEPT));
    }
}
