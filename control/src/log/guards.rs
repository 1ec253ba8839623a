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
#[derive(Default)]
pub(super) struct Guards(HashMap<(String, Name), ZoneGuard>);

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
        if self.0.len() >= KEPT {
            self.0.retain(|_, guard| !guard.is_over(now));
        }
        let place = (write.caller().principal.clone(), write.zone().clone());
        let Some(first) = sets.first().map(|set| set.first) else { return Ok(()) };
        let begin = || ZoneGuard::new(zone, first, now);
        let guard = match self.0.entry(place) {
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
}
