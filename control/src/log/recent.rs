//! The change sets released last, in memory: encoded once, shared by all sessions. A session that is
//! behind them reads the log.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use edgesync_core::{name::Name, position::Offset, session::CommittedSet};

/// A change set that is durable, and so may be streamed.
#[derive(Debug)]
pub struct Released {
    /// The set; its `prev` is the offset before its first.
    pub set: CommittedSet,
    /// Origin of its zone.
    pub zone: Name,
    /// When it became durable.
    pub at: Instant,
}

/// The sets released last, bounded in octets, with what each costs beside its own.
pub(super) struct Recent {
    octets: usize,
    sets: Mutex<Sets>,
}

#[derive(Default)]
struct Sets {
    sets: VecDeque<Arc<Released>>,
    octets: usize,
}

impl Recent {
    pub(super) fn new(octets: usize) -> Self {
        Self { octets, sets: Mutex::default() }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Sets> {
        self.sets.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds what has just become durable.
    pub(super) fn release(&self, released: Vec<Arc<Released>>) {
        let mut sets = self.lock();
        for set in released {
            sets.octets += set.set.credit();
            sets.sets.push_back(set);
        }
        while sets.octets > self.octets && sets.sets.len() > 1 {
            let gone = sets.sets.pop_front().map_or(0, |set| set.set.credit());
            sets.octets = sets.octets.saturating_sub(gone);
        }
    }

    /// What follows an offset, up to so many octets but at least one set; none if what follows is
    /// not here any more, or not yet.
    pub(super) fn after(&self, after: Offset, octets: usize) -> Option<Vec<Arc<Released>>> {
        let sets = self.lock();
        let start = sets.sets.partition_point(|set| set.set.first <= after);
        let next = sets.sets.get(start)?;
        if next.set.prev != after {
            return None;
        }
        let mut left = octets;
        let fits = |set: &&Arc<Released>| {
            let fits = left > 0;
            left = left.saturating_sub(set.set.credit());
            fits
        };
        Some(sets.sets.range(start..).take_while(fits).cloned().collect())
    }
}

#[cfg(test)]
mod tests {
    use edgesync_core::position::HistoryHash;

    use super::*;

    fn set(first: u64, last: u64) -> Arc<Released> {
        let (first, last) = (Offset(first), Offset(last));
        let (hash, body) = (HistoryHash([0; 32]), vec![0; 10].into());
        let set = CommittedSet { prev: first.before(), first, last, hash, body };
        Arc::new(Released { set, zone: Name::root(), at: Instant::now() })
    }

    #[test]
    fn a_session_gets_what_follows_or_is_sent_to_the_log() {
        // Three of them.
        let recent = Recent::new(3 * set(1, 2).set.credit());
        recent.release(vec![set(1, 2), set(3, 3), set(4, 6), set(7, 7)]);
        let lasts = |after, octets| {
            let sets = recent.after(Offset(after), octets)?;
            Some(sets.iter().map(|set| set.set.last.0).collect::<Vec<_>>())
        };
        assert_eq!(lasts(0, 1_000), None, "the oldest went to keep the bound");
        assert_eq!(lasts(2, 1_000), Some(vec![3, 6, 7]));
        assert_eq!(lasts(3, 1), Some(vec![6]), "at least one");
        assert_eq!(lasts(5, 1_000), None, "no position is within a set");
        assert_eq!(lasts(7, 1_000), None, "nothing follows the head");
    }
}
