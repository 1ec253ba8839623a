//! Which zones of the edge are to be mended. What was found once is kept until it is mended: samples compare what
//! the store says of its zones, and do not find again where only the records have rotted (invariant 17).

use std::{
    collections::{BTreeMap, HashMap},
    time::Instant,
};

use super::Receiver;
use crate::{
    limits::{REPAIR_INTERVAL, REPAIRS_KEPT},
    name::Name,
    session::{Filter, ToControl},
};

/// Zones that have drifted, and zones that were mended a short while ago.
#[derive(Debug, Default)]
pub(super) struct Repairs {
    /// Zones to be mended; true if that was asked for on this stream.
    wanted: BTreeMap<Name, bool>,
    /// When zones were mended.
    done: HashMap<Name, Instant>,
}

impl Repairs {
    /// A zone has drifted. Beyond the bound nothing is kept: what a sample has found another one finds again.
    fn want(&mut self, zone: Name) {
        if self.wanted.len() < REPAIRS_KEPT {
            self.wanted.entry(zone).or_default();
        }
    }

    /// A zone was mended.
    pub fn mended(&mut self, zone: Name, now: Instant) {
        self.wanted.remove(&zone);
        self.done.insert(zone, now);
    }

    /// The store has refused a repair: those that were asked for wait like those that were mended, or the session
    /// would end for one again and again.
    pub fn refused(&mut self, now: Instant) {
        let asked = self.wanted.iter().filter(|(_, is_asked)| **is_asked);
        self.done.extend(asked.map(|(zone, _)| (zone.clone(), now)));
        self.forget_asked();
    }

    /// Everything was replaced.
    pub fn replaced(&mut self) {
        self.wanted.clear();
    }

    /// What was asked for on a stream that is gone is to be asked for again.
    pub fn forget_asked(&mut self) {
        self.wanted.values_mut().for_each(|is_asked| *is_asked = false);
    }

    /// The next zone to be asked for: one of the session's, and not again and again (rule 15).
    fn next(&mut self, filter: &Filter, now: Instant) -> Option<Name> {
        self.wanted.retain(|zone, _| filter.wants(zone));
        self.done.retain(|_, at| now.saturating_duration_since(*at) < REPAIR_INTERVAL);
        let asked = self.wanted.values().filter(|is_asked| **is_asked).count();
        if asked + self.done.len() >= REPAIRS_KEPT {
            return None;
        }
        let done = &self.done;
        let mut due = self.wanted.iter_mut().filter(|(zone, _)| !done.contains_key(*zone));
        let (zone, is_asked) = due.find(|(_, is_asked)| !**is_asked)?;
        *is_asked = true;
        Some(zone.clone())
    }
}

impl Receiver {
    /// True if a zone is known to have drifted, and was not mended since.
    #[must_use]
    pub fn is_to_be_mended(&self, zone: &Name) -> bool {
        self.repairs.wanted.contains_key(zone)
    }

    /// Number of zones that have drifted and wait to be mended.
    #[must_use]
    pub fn to_be_mended(&self) -> usize {
        self.repairs.wanted.len()
    }

    /// A zone has drifted.
    pub(super) fn drifted(&mut self, zone: Name, now: Instant) {
        self.repairs.want(zone);
        self.ask_for_repair(now);
    }

    /// Asks for the next zone that is to be mended. One at a time, so that what one event brings out is bounded.
    pub(super) fn ask_for_repair(&mut self, now: Instant) {
        // A halted edge takes none, and one that is being replaced needs none; and what is about to be put in
        // place may be the very one.
        let has_other = self.replacing || self.handed_out.is_some();
        if !self.is_live() || has_other || self.halted.is_some() {
            return;
        }
        if let Some(zone) = self.repairs.next(&self.filter, now) {
            self.send(ToControl::Repair { zone });
        }
    }
}
