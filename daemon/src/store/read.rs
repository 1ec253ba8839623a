//! Station 6, reading: owners, zones and exports, each as it stands at one position (invariant 4).
//! A short read holds the gate. A long one takes pieces and begins again if the zone has changed in
//! between; when that happens too often it holds the gate, and the writer waits for it.

use std::{iter::Peekable, ops::Bound, sync::Arc};

use edgesync_core::{
    Rtype, fold::ZoneState, key, name::Name, position::Position, rdata, record::Record,
};
use sled::IVec;

use super::{
    StoreError, Totals,
    layout::{self, Place},
    view::{Gate, View, Zone},
};
use crate::limits::{EXPORT_OCTETS, READ_CHUNK, READ_TRIES};

/// A record's key and value, as stored.
pub(super) type Stored = (IVec, IVec);

/// A zone that the store serves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EdgeZone {
    /// Its origin.
    pub origin: Name,
    /// What the store says of it.
    pub state: ZoneState,
}

/// The records of one owner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The records with the origins of their zones, the closest zone first.
    pub records: Vec<(Name, Record)>,
    /// The position that they stand for.
    pub position: Option<Position>,
}

/// Reads a store, from any thread, while it is written.
#[derive(Debug, Clone)]
pub struct Reader {
    pub(super) gate: Arc<Gate>,
}

impl Reader {
    pub(super) const fn of(gate: Arc<Gate>) -> Self {
        Self { gate }
    }

    /// The position that is applied; what is durable may be behind it.
    #[must_use]
    pub fn position(&self) -> Option<Position> {
        self.gate.read().position
    }

    /// How much the store serves. Never waits.
    #[must_use]
    pub fn totals(&self) -> Totals {
        self.gate.totals()
    }

    /// True unless the store is being put aside. Never waits.
    #[must_use]
    pub fn is_serving(&self) -> bool {
        self.gate.is_serving()
    }

    /// Octets of the database file and what belongs to it.
    ///
    /// # Errors
    /// If they cannot be counted.
    pub fn size(&self) -> Result<u64, StoreError> {
        self.gate.read().db()?.size_on_disk().map_err(StoreError::Engine)
    }

    /// A zone, if the store serves it.
    #[must_use]
    pub fn zone(&self, origin: &Name) -> Option<EdgeZone> {
        let state = self.gate.read().states(origin).visible?;
        Some(EdgeZone { origin: origin.clone(), state })
    }

    /// Some of the zones, in canonical order, from after `after` on.
    #[must_use]
    pub fn zones(&self, after: Option<&Name>, most: usize) -> Vec<EdgeZone> {
        let view = self.gate.read();
        let after = after.map(key::zone_key);
        let from = after.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
        let zones = view.zones.range::<Vec<u8>, _>((from, Bound::Unbounded));
        let visible = zones.filter_map(|(_, Zone { origin, states, .. })| {
            Some(EdgeZone { origin: origin.clone(), state: states.visible? })
        });
        visible.take(most).collect()
    }

    /// The records of an owner, in each zone that it is in.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub fn lookup(&self, owner: &Name, rtype: Option<Rtype>) -> Result<Found, StoreError> {
        self.watched(|| self.find(owner, rtype))
    }

    fn find(&self, owner: &Name, rtype: Option<Rtype>) -> Result<Found, StoreError> {
        let view = self.gate.read();
        let mut records = Vec::new();
        let mut origin = Some(owner.clone());
        while let Some(zone) = origin {
            let Zone { place, states, .. } = view.zone(&zone);
            if let Some(state) = states.visible {
                let mut prefix = key::owner_prefix(state.generation, &zone, owner);
                prefix.extend(rtype.iter().flat_map(|rtype| rtype.to_int().to_be_bytes()));
                let prefix = place.record(&prefix);
                let stored = records_under(&view, &prefix, None, usize::MAX)?;
                let found = in_canonical_order(&zone, &stored)?;
                records.extend(found.into_iter().map(|record| (zone.clone(), record)));
            }
            origin = zone.parent();
        }
        Ok(Found { records, position: view.position })
    }

    /// A zone as text; none if the store does not serve it. Takes memory for all its records.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub fn export(&self, origin: &Name) -> Result<Option<Export>, StoreError> {
        let read = self.watched(|| {
            self.scan(origin, Vec::new, |records, piece| {
                records.extend(piece);
                Ok(())
            })
        })?;
        Ok(read.map(|(_, position, records)| Export {
            origin: origin.clone(),
            position,
            records: records.into_iter().peekable(),
        }))
    }

    /// Reads all records of a zone as it stands at one position, piece by piece: what `each` has
    /// made of them, with the state and the position that it stands for.
    pub(super) fn scan<T>(
        &self,
        origin: &Name,
        begin: impl Fn() -> T,
        mut each: impl FnMut(&mut T, Vec<Stored>) -> Result<(), StoreError>,
    ) -> Result<Option<(ZoneState, Option<Position>, T)>, StoreError> {
        for tries in 0..=READ_TRIES {
            let mut held = Some(self.gate.read());
            let seen = self.visible(held.as_deref(), origin);
            let Some((place, state)) = seen else { return Ok(None) };
            let prefix = place.generation(state.generation);
            let mut result = begin();
            let mut last: Option<IVec> = None;
            loop {
                let view = held.take().unwrap_or_else(|| self.gate.read());
                if self.visible(Some(&view), origin) != seen {
                    break;
                }
                let piece = records_under(&view, &prefix, last.as_deref(), READ_CHUNK)?;
                let position = view.position;
                if tries == READ_TRIES {
                    held = Some(view);
                }
                let Some((key, _)) = piece.last() else {
                    return Ok(Some((state, position, result)));
                };
                last = Some(key.clone());
                each(&mut result, piece)?;
            }
        }
        Ok(None)
    }

    fn visible(&self, view: Option<&View>, origin: &Name) -> Option<(Place, ZoneState)> {
        let zone = view?.zone(origin);
        Some((zone.place, zone.states.visible?))
    }
}

/// Records under a prefix, from after a key on, in the order of their keys; what is staged lies over
/// what is in the database.
fn records_under(
    view: &View,
    prefix: &[u8],
    after: Option<&[u8]>,
    most: usize,
) -> Result<Vec<Stored>, StoreError> {
    let from = after.map_or(Bound::Included(prefix), Bound::Excluded);
    let range = (from, Bound::Unbounded);
    let stored = view.db()?.range::<&[u8], _>(range);
    let within = |key: &IVec| key.starts_with(prefix);
    let mut stored = stored.take_while(|found| found.as_ref().map_or(true, |(key, _)| within(key)));
    let Some(staged) = &view.staged else {
        return stored.by_ref().take(most).collect::<Result<_, _>>().map_err(StoreError::Engine);
    };
    let mut stored = stored.peekable();
    let mut staged = staged.range::<[u8], _>(range).take_while(|(key, _)| within(key)).peekable();
    let mut records = Vec::new();
    while records.len() < most {
        let from_staged = match (stored.peek(), staged.peek()) {
            (None, None) => break,
            (Some(Ok((stored, _))), Some((staged, _))) => *staged <= stored,
            (stored, _) => stored.is_none(),
        };
        if !from_staged {
            records.extend(stored.next().transpose().map_err(StoreError::Engine)?);
        } else if let Some((key, value)) = staged.next() {
            stored.next_if(|found| found.as_ref().is_ok_and(|(stored, _)| stored == key));
            records.extend(value.as_ref().map(|value| (key.clone(), value.clone())));
        }
    }
    Ok(records)
}

/// A stored record.
pub(super) fn decode(origin: &Name, (key, value): &Stored) -> Result<Record, StoreError> {
    key::read_record(origin, layout::core_key(key), value)
        .map_err(|_| StoreError::Malformed("a record"))
}

/// Stored records in canonical order (RFC 4034 section 6): their keys have owners and types in it
/// already, and within those RDATA decides.
fn in_canonical_order(origin: &Name, stored: &[Stored]) -> Result<Vec<Record>, StoreError> {
    let records = stored.iter().map(|stored| decode(origin, stored));
    let mut records = records.collect::<Result<Vec<_>, _>>()?;
    for rrset in records.chunk_by_mut(|a, b| a.rtype == b.rtype && a.owner == b.owner) {
        if rrset.len() > 1 {
            rrset.sort_by_cached_key(|record| rdata::canonical(record.rtype, &record.rdata));
        }
    }
    Ok(records)
}

/// A zone's text, as it is at one position, in pieces of whole lines.
#[derive(Debug)]
pub struct Export {
    origin: Name,
    position: Option<Position>,
    records: Peekable<std::vec::IntoIter<Stored>>,
}

impl Export {
    /// The position that the text stands for.
    #[must_use]
    pub const fn position(&self) -> Option<Position> {
        self.position
    }

    /// All records of the next owner and type.
    fn next_set(&mut self) -> Vec<Stored> {
        let mut set: Vec<Stored> = self.records.next().into_iter().collect();
        let place = |key: &IVec| key.len().saturating_sub(8);
        while let Some(next) = self.records.next_if(|(key, _)| {
            let first = set.first().and_then(|(first, _)| first.get(..place(first)));
            first == key.get(..place(key))
        }) {
            set.push(next);
        }
        set
    }
}

impl Iterator for Export {
    type Item = Result<String, StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut text = String::new();
        while text.len() < EXPORT_OCTETS && self.records.peek().is_some() {
            let set = self.next_set();
            match in_canonical_order(&self.origin, &set) {
                Ok(records) => records.iter().for_each(|record| {
                    text.push_str(&record.zone_file_line());
                    text.push('\n');
                }),
                Err(error) => return Some(Err(error)),
            }
        }
        (!text.is_empty()).then_some(Ok(text))
    }
}
