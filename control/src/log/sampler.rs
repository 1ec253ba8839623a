//! Samples of digests for the sessions: after a commit, or each second when there is none, some zones
//! as they are at the head. The sequencer alone writes, so what it reads after a commit is what the
//! head says (rule 15).

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use edgesync_core::{
    fold::ZoneState,
    limits::{SAMPLE_CHANGED_ZONES, SAMPLE_PERIOD, SAMPLE_SWEPT_ZONES},
    name::Name,
    sample::{Content, Sample, Sweep, ZoneDigest},
};

use super::{Released, View};

/// What the next sample has to have.
pub(super) struct Sampler {
    changed: BTreeSet<Name>,
    swept: Option<Name>,
    last: Instant,
}

impl Sampler {
    pub(super) fn new() -> Self {
        Self { changed: BTreeSet::new(), swept: None, last: Instant::now() }
    }

    /// Notes the zones of a set that is released.
    pub(super) fn note(&mut self, released: &Released) {
        if self.changed.len() < SAMPLE_CHANGED_ZONES && !self.changed.contains(&released.zone) {
            self.changed.insert(released.zone.clone());
        }
    }

    /// How long until the next sample is due.
    pub(super) fn due(&self) -> Duration {
        SAMPLE_PERIOD.saturating_sub(self.last.elapsed())
    }

    /// The next sample, from a view of the head.
    pub(super) fn sample(&mut self, view: &View) -> Result<Sample, redb::Error> {
        self.last = Instant::now();
        let digest = |origin, state: Option<ZoneState>| {
            let content: Content = state.map(|state| (state.records, state.digest));
            ZoneDigest { origin, content }
        };
        let mut changed = Vec::with_capacity(self.changed.len());
        for origin in std::mem::take(&mut self.changed) {
            let state = view.zone(&origin)?;
            changed.push(digest(origin, state));
        }
        let after = self.swept.take();
        let zones = view.zones(after.as_ref(), SAMPLE_SWEPT_ZONES)?;
        let to_end = zones.len() < SAMPLE_SWEPT_ZONES;
        self.swept = zones.last().map(|(origin, _)| origin.clone()).filter(|_| !to_end);
        let zones = zones.into_iter().map(|(origin, state)| digest(origin, Some(state))).collect();
        Ok(Sample { changed, sweep: Sweep { after, zones, to_end } })
    }
}
