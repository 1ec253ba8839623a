//! Station 6, the view: what readers see, behind one gate. The writer holds the gate while a batch
//! goes in, a reader while it reads a piece: so nobody sees a part of a change set (invariant 4).

use std::{
    collections::BTreeMap,
    ops::{Bound, Deref, DerefMut},
    sync::{
        Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
};

use edgesync_core::{fold::ZoneStates, key, name::Name, position::Position, sample};
use sled::{Db, IVec};

use super::{StoreError, layout::Place, unread::Unread};

/// Writes of a large set that are published and not yet folded into the records, by key.
pub(super) type Staged = BTreeMap<IVec, Option<IVec>>;

/// A zone, as the store says.
#[derive(Debug, Clone)]
pub(super) struct Zone {
    /// Its origin.
    pub origin: Name,
    /// Where its records are.
    pub place: Place,
    /// Its generations.
    pub states: ZoneStates,
}

/// How much a store serves.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// Number of visible zones.
    pub zones: u64,
    /// Number of records in them.
    pub records: u64,
}

/// What readers see.
#[derive(Debug, Default)]
pub(super) struct View {
    /// The database; none while the store is put aside, or opened again.
    pub db: Option<Db>,
    /// What is applied.
    pub position: Option<Position>,
    /// Where zones are that have no place of their own.
    pub root: Place,
    /// All zones, by [`key::zone_key`].
    pub zones: BTreeMap<Vec<u8>, Zone>,
    /// How much is visible.
    pub totals: Totals,
    /// What lies over the records in the database.
    pub staged: Option<Arc<Staged>>,
}

impl View {
    /// A zone; at the root and without states, if it is not there.
    pub fn zone(&self, origin: &Name) -> Zone {
        let zone = self.zones.get(&key::zone_key(origin)).cloned();
        let none =
            || Zone { origin: origin.clone(), place: self.root, states: ZoneStates::default() };
        zone.unwrap_or_else(none)
    }

    /// The states of a zone; both none if it is not there.
    pub fn states(&self, origin: &Name) -> ZoneStates {
        let zone = self.zones.get(&key::zone_key(origin));
        zone.map(|zone| zone.states).unwrap_or_default()
    }

    /// Sets what is said of a zone.
    pub fn set(&mut self, zone: Zone) {
        let key = key::zone_key(&zone.origin);
        let after = zone.states.visible;
        let old = if zone.states.is_empty() {
            self.zones.remove(&key)
        } else {
            self.zones.insert(key, zone)
        };
        let totals = &mut self.totals;
        if let Some(before) = old.and_then(|zone| zone.states.visible) {
            totals.zones = totals.zones.saturating_sub(1);
            totals.records = totals.records.saturating_sub(before.records);
        }
        if let Some(after) = after {
            totals.zones = totals.zones.saturating_add(1);
            totals.records = totals.records.saturating_add(after.records);
        }
    }

    /// The database.
    pub fn db(&self) -> Result<&Db, StoreError> {
        self.db.as_ref().ok_or(StoreError::Closed)
    }
}

impl sample::Zones for View {
    fn content(&self, origin: &Name) -> sample::Content {
        self.states(origin).visible.map(|state| (state.records, state.digest))
    }

    fn between(&self, after: Option<&Name>, last: Option<&Name>) -> Vec<Name> {
        let after = after.map(key::zone_key);
        let last = last.map(key::zone_key);
        let from = after.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
        let to = last.as_ref().map_or(Bound::Unbounded, Bound::Included);
        if matches!((&after, &last), (Some(after), Some(last)) if after >= last) {
            return Vec::new();
        }
        let zones = self.zones.range::<Vec<u8>, _>((from, to)).map(|(_, zone)| zone);
        let visible = zones.filter(|zone| zone.states.visible.is_some());
        visible.map(|zone| zone.origin.clone()).collect()
    }
}

/// The view and its gate, and beside it what may be asked by who must not wait at the gate.
#[derive(Debug, Default)]
pub(super) struct Gate {
    view: RwLock<View>,
    zones: AtomicU64,
    records: AtomicU64,
    serving: AtomicBool,
    epoch: AtomicU64,
    /// What readers could not read.
    pub unread: Unread,
}

impl Gate {
    /// To read. Who panicked with the gate in hand has left the view as it was: the database is
    /// written first, and what follows is assignments.
    pub fn read(&self) -> RwLockReadGuard<'_, View> {
        self.view.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// To write, when no reader reads.
    pub fn write(&self) -> Changing<'_> {
        let view = self.view.write().unwrap_or_else(PoisonError::into_inner);
        Changing { gate: self, view }
    }

    /// How much is visible; never waits.
    pub fn totals(&self) -> Totals {
        Totals { zones: self.zones.load(Relaxed), records: self.records.load(Relaxed) }
    }

    /// Which store stands behind it: how often one has been opened.
    pub fn epoch(&self) -> u64 {
        self.epoch.load(Relaxed)
    }

    /// Another store stands behind it from now on.
    pub fn set_epoch(&self, epoch: u64) {
        self.epoch.store(epoch, Relaxed);
    }

    /// True if there is a database; never waits.
    pub fn is_serving(&self) -> bool {
        self.serving.load(Relaxed)
    }
}

/// The view while it is changed.
#[derive(Debug)]
pub(super) struct Changing<'a> {
    gate: &'a Gate,
    view: RwLockWriteGuard<'a, View>,
}

impl Deref for Changing<'_> {
    type Target = View;

    fn deref(&self) -> &View {
        &self.view
    }
}

impl DerefMut for Changing<'_> {
    fn deref_mut(&mut self) -> &mut View {
        &mut self.view
    }
}

impl Drop for Changing<'_> {
    fn drop(&mut self) {
        self.gate.zones.store(self.view.totals.zones, Relaxed);
        self.gate.records.store(self.view.totals.records, Relaxed);
        self.gate.serving.store(self.view.db.is_some(), Relaxed);
    }
}
