//! The guards: a fast system must not be the amplifier of a mistake. What takes much away within a
//! short time needs a person's word, at the control plane before it is committed, at an edge before
//! it is applied (rule 10).

use std::{collections::HashSet, time::Instant};

use crate::{
    Rtype,
    change::{Change, ChangeSet},
    fold::ZoneStates,
    limits::{GUARD_PERCENT, GUARD_RECORDS, GUARD_WINDOW},
    position::Offset,
    record::RecordId,
};

/// True if so many of so many records are more than may go without a word.
#[must_use]
pub const fn is_too_much(gone: u64, of: u64) -> bool {
    of >= GUARD_RECORDS && gone.saturating_mul(100) > of.saturating_mul(GUARD_PERCENT)
}

/// What the guard has stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exceeded {
    /// Records that would be gone or edited.
    pub touched: u64,
    /// Records that were there.
    pub of: u64,
}

/// What one principal does to one zone within a window. Counted are distinct records that were there
/// when it began; the SOA, which every change touches, is not.
#[derive(Debug)]
pub struct ZoneGuard {
    began: Instant,
    /// Records with a lower id were there.
    first: Offset,
    records: u64,
    touched: HashSet<RecordId>,
    /// Records that went with a whole generation.
    replaced: u64,
}

impl ZoneGuard {
    /// A window that begins with a zone as it is, and the offset of the next change.
    #[must_use]
    pub fn new(zone: &ZoneStates, first: Offset, now: Instant) -> Self {
        let records = zone.visible.map_or(0, |visible| visible.records);
        Self { began: now, first, records, touched: HashSet::new(), replaced: 0 }
    }

    /// True if the window is over.
    #[must_use]
    pub fn is_over(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.began) >= GUARD_WINDOW
    }

    /// Counts a set that is to be committed, unless it is too much. A publication takes `published`
    /// records away or changes them: who has compared the two generations knows. Their sizes alone would
    /// tell nothing of a zone that is replaced by another one as large.
    ///
    /// # Errors
    /// With the numbers, if it is too much; nothing of it is counted then.
    pub fn take(
        &mut self,
        set: &ChangeSet,
        zone: &ZoneStates,
        published: u64,
    ) -> Result<(), Exceeded> {
        let Some(visible) = zone.visible else { return Ok(()) };
        let mut touched = HashSet::new();
        let (mut replaced, mut created) = (0, 0);
        for change in &set.changes {
            match change {
                Change::RecordEdit { id, rtype, .. } | Change::RecordDelete { id, rtype, .. }
                    if *rtype != Rtype::SOA && id.0 < self.first.0 =>
                {
                    touched.extend((!self.touched.contains(id)).then_some(*id));
                }
                Change::RecordCreate { .. } => created += 1,
                Change::ZoneDelete => replaced = visible.records,
                Change::ZonePublish => {
                    let hidden = zone.hidden.map_or(0, |hidden| hidden.records);
                    let fewer = visible.records.saturating_sub(hidden.saturating_add(created));
                    replaced = fewer.max(published);
                }
                _ => {}
            }
        }
        let all = (self.touched.len() + touched.len()) as u64;
        let all = all.saturating_add(self.replaced).saturating_add(replaced);
        if is_too_much(all, self.records) && !(touched.is_empty() && replaced == 0) {
            return Err(Exceeded { touched: all, of: self.records });
        }
        self.touched.extend(touched);
        self.replaced = self.replaced.saturating_add(replaced);
        Ok(())
    }
}

/// What change sets do to the number of a store's records within a window.
#[derive(Debug, Default)]
pub struct StoreGuard {
    window: Option<(Instant, u64)>,
}

impl StoreGuard {
    /// Looks at a set that takes a store from so many records to so many.
    ///
    /// # Errors
    /// With the numbers, if it takes too much away and no person has said that it may.
    pub fn take(
        &mut self,
        before: u64,
        after: u64,
        is_allowed: bool,
        now: Instant,
    ) -> Result<(), Exceeded> {
        let young =
            |(began, _): &(Instant, u64)| now.saturating_duration_since(*began) < GUARD_WINDOW;
        let (began, of) = self.window.filter(young).unwrap_or((now, before));
        let shrinks = after < before;
        let result = if shrinks && !is_allowed { Self::replace(of, after) } else { Ok(()) };
        // What was allowed is not held against what follows.
        let of = if is_allowed && shrinks { after } else { of };
        self.window = Some((began, of));
        result
    }

    /// A snapshot takes the place of everything: is what it takes away too much?
    ///
    /// # Errors
    /// With the numbers, if it is.
    pub const fn replace(before: u64, after: u64) -> Result<(), Exceeded> {
        let gone = before.saturating_sub(after);
        if is_too_much(gone, before) { Err(Exceeded { touched: gone, of: before }) } else { Ok(()) }
    }

    /// Begins anew, after everything was replaced.
    pub const fn clear(&mut self) {
        self.window = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{change::Generation, digest::Digest, fold::ZoneState, name::Name};

    fn zone(records: u64, hidden: Option<u64>) -> ZoneStates {
        let state = |records, generation| ZoneState {
            generation: Generation(generation),
            records,
            digest: Digest::empty(),
            version: Offset(1),
        };
        let hidden = hidden.map(|records| state(records, 2));
        ZoneStates { visible: Some(state(records, 1)), hidden }
    }

    fn set(changes: Vec<Change>) -> ChangeSet {
        let (zone, generation, first) = (Name::root(), Generation(1), Offset(1_000));
        ChangeSet { zone, generation, first, changes, override_guard: false }
    }

    fn delete(id: u64) -> Change {
        Change::RecordDelete { id: RecordId(id), owner: Name::root(), rtype: Rtype::A }
    }

    fn edit(id: u64, rtype: Rtype) -> Change {
        let (id, owner, rdata) = (RecordId(id), Name::root(), vec![1].into());
        Change::RecordEdit { id, owner, rtype, ttl: 1, rdata }
    }

    fn guard(records: u64) -> (ZoneGuard, ZoneStates) {
        let zone = zone(records, None);
        (ZoneGuard::new(&zone, Offset(1_000), Instant::now()), zone)
    }

    #[test]
    fn thirty_in_a_hundred_may_go_and_not_one_more() {
        let (mut guard, zone) = guard(100);
        assert_eq!(guard.take(&set((0..30).map(delete).collect()), &zone, 0), Ok(()));
        let one_more = guard.take(&set(vec![delete(30)]), &zone, 0);
        assert_eq!(one_more, Err(Exceeded { touched: 31, of: 100 }));
        // The same records again, new ones, and the SOA are no harm.
        let harmless = vec![edit(7, Rtype::A), delete(2_000), edit(99, Rtype::SOA)];
        assert_eq!(guard.take(&set(harmless), &zone, 0), Ok(()));
    }

    #[test]
    fn small_zones_are_not_looked_at() {
        let (mut guard, zone) = guard(9);
        assert_eq!(guard.take(&set((0..9).map(delete).collect()), &zone, 0), Ok(()));
    }

    #[test]
    fn a_whole_zone_that_goes_or_shrinks_is_seen() {
        let (mut guard, zone) = guard(10);
        assert!(guard.take(&set(vec![Change::ZoneDelete]), &zone, 0).is_err());
        // One as large passes if it is much the same, and not if it is another one.
        let published =
            [(6, 0, false), (7, 0, true), (100, 0, true), (10, 3, true), (10, 4, false)];
        for (hidden, replaced, passes) in published {
            let zone = super::tests::zone(10, Some(hidden));
            let mut guard = ZoneGuard::new(&zone, Offset(1_000), Instant::now());
            let taken = guard.take(&set(vec![Change::ZonePublish]), &zone, replaced);
            assert_eq!(taken.is_ok(), passes, "{hidden} records, {replaced} replaced");
        }
    }

    #[test]
    fn a_store_may_shrink_slowly_or_by_word() {
        let (mut guard, now) = (StoreGuard::default(), Instant::now());
        assert_eq!(guard.take(100, 80, false, now), Ok(()));
        assert_eq!(guard.take(80, 70, false, now), Ok(()));
        assert_eq!(guard.take(70, 69, false, now), Err(Exceeded { touched: 31, of: 100 }));
        assert_eq!(guard.take(70, 75, false, now), Ok(()), "what grows passes");
        assert_eq!(guard.take(75, 20, true, now), Ok(()));
        assert_eq!(guard.take(20, 19, false, now), Ok(()), "what was allowed is not counted again");
        assert_eq!(
            guard.take(19, 5, false, now + GUARD_WINDOW),
            Err(Exceeded { touched: 14, of: 19 })
        );
        guard.clear();
        assert_eq!(guard.take(100, 1_000, false, now), Ok(()));
        let undone = guard.take(1_000, 100, false, now);
        assert_eq!(
            undone,
            Ok(()),
            "what came within the window may go within it, as at the source"
        );
        assert!(StoreGuard::replace(100, 69).is_err() && StoreGuard::replace(100, 70).is_ok());
        assert!(StoreGuard::replace(0, 0).is_ok() && StoreGuard::replace(9, 0).is_ok());
    }
}
