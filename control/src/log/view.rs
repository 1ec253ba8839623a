//! A consistent view of what is durable: zones, records, and the log itself.

use std::sync::Arc;

use edgesync_core::{
    change::Generation,
    fold::{ZoneState, ZoneStates},
    key,
    limits::SET_OVERHEAD_OCTETS,
    name::Name,
    position::{HistoryHash, Offset, Position},
    record::{Record, RecordId},
};
use redb::{Database, ReadTransaction, ReadableDatabase, ReadableTable, ReadableTableMetadata};

use super::{
    Freeze,
    chain::Chain,
    corrupt::{corrupt, guarded, in_order, malformed},
    schema::{
        self, AUDIT, AuditEntry, FLEET, FleetRow, GENERATIONS, IDS, LOG, LogEntry, META,
        META_FLOOR, META_HEAD, META_OCTETS, META_RELEASE, RECORDS, Reader, ZONES,
    },
    seal::unseal,
};

/// Why a part of the log is not read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The store cannot be read.
    #[error(transparent)]
    Store(redb::Error),
    /// It was compacted away.
    #[error("what follows offset {after} was compacted away; the log begins after offset {floor}")]
    Compacted {
        /// What was asked for follows this offset.
        after: Offset,
        /// What there is follows this one.
        floor: Offset,
    },
}

impl<E: Into<redb::Error>> From<E> for ReadError {
    fn from(error: E) -> Self {
        Self::Store(error.into())
    }
}

/// What is durable at one position. Hold it for moments only: pages that it sees are not reused.
///
/// Each read is guarded: what is found corrupt is an error, never an answer (invariant 17).
pub struct View {
    pub(super) transaction: ReadTransaction,
}

impl View {
    pub(super) fn new(database: &Arc<Database>) -> Result<Self, redb::Error> {
        guarded(|| Ok(Self { transaction: database.begin_read()? }))
    }

    /// The position that the view shows.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub fn position(&self) -> Result<Position, redb::Error> {
        guarded(|| self.head())
    }

    fn head(&self) -> Result<Position, redb::Error> {
        let meta = self.transaction.open_table(META)?;
        let head = meta.get(META_HEAD)?;
        let head = head.ok_or_else(|| malformed(key::MalformedRecord))?;
        schema::read_position(META_HEAD, head.value())
    }

    /// The position that the log begins after.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub fn floor(&self) -> Result<Position, redb::Error> {
        guarded(|| {
            let meta = self.transaction.open_table(META)?;
            match meta.get(META_FLOOR)? {
                Some(floor) => schema::read_position(META_FLOOR, floor.value()),
                None => Ok(Position::genesis(self.head()?.log)),
            }
        })
    }

    /// Why not all is released to edges, if it is not.
    pub(super) fn freeze(&self) -> Result<Option<Freeze>, redb::Error> {
        guarded(|| {
            let meta = self.transaction.open_table(META)?;
            let freeze = meta.get(META_RELEASE)?;
            freeze.map(|freeze| Freeze::read(freeze.value())).transpose()
        })
    }

    /// Octets of the log's change sets.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub fn log_octets(&self) -> Result<u64, redb::Error> {
        guarded(|| {
            let meta = self.transaction.open_table(META)?;
            let stored = meta.get(META_OCTETS)?;
            stored.map_or(Ok(0), |octets| {
                schema::read_meta(META_OCTETS, octets.value())?.number().map_err(malformed)
            })
        })
    }

    /// What is said of a zone; empty if there is none.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub fn zone_states(&self, origin: &Name) -> Result<ZoneStates, redb::Error> {
        guarded(|| {
            let zones = self.transaction.open_table(ZONES)?;
            let key = key::zone_key(origin);
            let Some(value) = zones.get(key.as_slice())? else {
                return Ok(ZoneStates::default());
            };
            schema::read_zone(&key, value.value()).map(|(_, states)| states)
        })
    }

    /// A zone, if it is there.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub fn zone(&self, origin: &Name) -> Result<Option<ZoneState>, redb::Error> {
        Ok(self.zone_states(origin)?.visible)
    }

    /// The zones after one, in canonical order, at most `limit`.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub fn zones(
        &self,
        after: Option<&Name>,
        limit: usize,
    ) -> Result<Vec<(Name, ZoneState)>, redb::Error> {
        guarded(|| {
            let zones = self.transaction.open_table(ZONES)?;
            // One octet more than a zone's key is the least key above it.
            let from = after.map_or_else(Vec::new, |zone| [&*key::zone_key(zone), &[0]].concat());
            let mut found = Vec::new();
            for row in zones.range(from.as_slice()..)? {
                let (key, value) = row?;
                in_order(key.value(), &from)?;
                let (origin, states) = schema::read_zone(key.value(), value.value())?;
                found.extend(states.visible.map(|state| (origin, state)));
                if found.len() >= limit {
                    break;
                }
            }
            Ok(found)
        })
    }

    /// All zones after one, hidden generations as well, in canonical order, at most `limit`.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub fn all_zones(
        &self,
        after: Option<&Name>,
        limit: usize,
    ) -> Result<Vec<(Name, ZoneStates)>, redb::Error> {
        guarded(|| {
            let zones = self.transaction.open_table(ZONES)?;
            let from = after.map_or_else(Vec::new, |zone| [&*key::zone_key(zone), &[0]].concat());
            let mut found = Vec::new();
            for row in zones.range(from.as_slice()..)?.take(limit) {
                let (key, value) = row?;
                found.push(schema::read_zone(key.value(), value.value())?);
            }
            Ok(found)
        })
    }

    /// Reads the records of a generation as they are stored, one after the other.
    ///
    /// # Errors
    /// If the store cannot be read, or `each` fails.
    pub fn each_record<E: From<redb::Error>>(
        &self,
        generation: Generation,
        mut each: impl FnMut(&[u8], &[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let prefix = key::generation_prefix(generation);
        let begin = || {
            let table = self.transaction.open_table(RECORDS)?;
            Ok(table.range(prefix.as_slice()..)?)
        };
        let mut rows = guarded(begin)?;
        // What is done with a row is not guarded: a panic there is no damage of the store.
        while let Some((key, value)) = guarded(|| {
            let Some((key, value)) = rows.next().transpose()? else { return Ok(None) };
            // A damaged page may say that they lie outside of it, which is found out by looking.
            let (is_within, _) = (key.value().starts_with(&prefix), value.value());
            Ok(is_within.then_some((key, value)))
        })? {
            each(key.value(), schema::record_value(key.value(), value.value())?)?;
        }
        Ok(())
    }

    /// Number of records in the store, those of hidden and replaced generations as well.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub fn record_count(&self) -> Result<u64, redb::Error> {
        guarded(|| Ok(self.transaction.open_table(RECORDS)?.len()?))
    }

    /// The hidden generations that are being written, or were when their writer ended.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub fn hidden_generations(&self) -> Result<Vec<(Name, Generation)>, redb::Error> {
        guarded(|| {
            let zones = self.transaction.open_table(ZONES)?;
            let mut found = Vec::new();
            for row in zones.iter()? {
                let (key, value) = row?;
                let (origin, states) = schema::read_zone(key.value(), value.value())?;
                found.extend(states.hidden.map(|hidden| (origin, hidden.generation)));
            }
            Ok(found)
        })
    }

    /// The records of a generation after a key, in the order of keys, at most `limit`, with the
    /// key of the last.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub fn records(
        &self,
        origin: &Name,
        generation: Generation,
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<(Vec<Record>, Option<Vec<u8>>), redb::Error> {
        let prefix = key::generation_prefix(generation);
        let from = after.map_or_else(|| prefix.to_vec(), |after| [after, &[0]].concat());
        self.scan(origin, &from, &prefix, limit)
    }

    /// The records at one owner name of a generation.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub fn at_owner(
        &self,
        origin: &Name,
        generation: Generation,
        owner: &Name,
    ) -> Result<Vec<Record>, redb::Error> {
        if !owner.is_within(origin) {
            return Ok(Vec::new());
        }
        let prefix = key::owner_prefix(generation, origin, owner);
        self.scan(origin, &prefix, &prefix, usize::MAX).map(|(records, _)| records)
    }

    fn scan(
        &self,
        origin: &Name,
        from: &[u8],
        prefix: &[u8],
        limit: usize,
    ) -> Result<(Vec<Record>, Option<Vec<u8>>), redb::Error> {
        guarded(|| {
            let table = self.transaction.open_table(RECORDS)?;
            let (mut records, mut last) = (Vec::new(), None);
            for row in table.range(from..)? {
                let (key, value) = row?;
                in_order(key.value(), from)?;
                if records.len() >= limit || !key.value().starts_with(prefix) {
                    break;
                }
                records.push(schema::read_record(origin, key.value(), value.value())?);
                last = Some(key);
            }
            Ok((records, last.map(|key| key.value().to_vec())))
        })
    }

    /// A record by its id, with the origin of its zone; none if it is gone, or never was.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub fn record(&self, id: RecordId) -> Result<Option<(Name, Record)>, redb::Error> {
        guarded(|| {
            let ids = self.transaction.open_table(IDS)?;
            let Some(stem) = ids.get(id.0)? else { return Ok(None) };
            let octets = id.0.to_be_bytes();
            let key = [unseal(&IDS, &octets, stem.value())?, &octets].concat();
            let generation = Reader(&key).number().map_err(malformed)?;
            let generations = self.transaction.open_table(GENERATIONS)?;
            let Some(origin) = generations.get(generation)? else { return Ok(None) };
            let origin = schema::read_origin(generation, origin.value())?;
            let visible = self.zone(&origin)?.is_some_and(|zone| zone.generation.0 == generation);
            let records = self.transaction.open_table(RECORDS)?;
            let Some(value) = records.get(key.as_slice())?.filter(|_| visible) else {
                return Ok(None);
            };
            let record = schema::read_record(&origin, &key, value.value())?;
            Ok(Some((origin, record)))
        })
    }

    /// The change sets after an offset, up to so many octets but at least one, each proved to be
    /// what was committed there.
    ///
    /// # Errors
    /// If the store cannot be read, what follows the offset was compacted away, or a change set is not
    /// the one that the history hash was made of; the error names its offsets.
    pub fn entries(&self, after: Offset, octets: usize) -> Result<Vec<LogEntry>, ReadError> {
        let floor = self.floor()?;
        if after < floor.offset {
            return Err(ReadError::Compacted { after, floor: floor.offset });
        }
        self.proved_entries(floor, after, octets).map_err(ReadError::Store)
    }

    fn proved_entries(
        &self,
        floor: Position,
        after: Offset,
        octets: usize,
    ) -> Result<Vec<LogEntry>, redb::Error> {
        guarded(|| {
            let table = self.transaction.open_table(LOG)?;
            let mut chain = Chain::begin(&table, floor, after)?;
            let (mut entries, mut left) = (Vec::new(), octets);
            for row in table.range(after.next().0..)? {
                if left == 0 && !entries.is_empty() {
                    return Ok(entries);
                }
                let (last, value) = row?;
                let entry = LogEntry::read(last.value(), value.value())?;
                chain.follow(&entry)?;
                left = left.saturating_sub(entry.body.len() + SET_OVERHEAD_OCTETS);
                entries.push(entry);
            }
            chain.end(self.head()?).map(|()| entries)
        })
    }

    /// Checks that the log begins at its floor and ends at its head.
    pub(super) fn check_ends(&self) -> Result<(), redb::Error> {
        let floor = self.floor()?;
        self.proved_entries(floor, floor.offset, 1)?;
        let last = self.before_last(1)?;
        self.proved_entries(floor, last, usize::MAX).map(|_| ())
    }

    /// The offset before the last `count` change sets.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub fn before_last(&self, count: usize) -> Result<Offset, redb::Error> {
        let floor = self.floor()?.offset;
        guarded(|| {
            let table = self.transaction.open_table(LOG)?;
            let start = table.range::<u64>(..)?.rev().nth(count).transpose()?;
            Ok(start.map_or(floor, |(last, _)| Offset(last.value())))
        })
    }

    /// Who made the change set that ends at an offset.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub fn audit(&self, last: Offset) -> Result<Option<AuditEntry>, redb::Error> {
        guarded(|| {
            let audit = self.transaction.open_table(AUDIT)?;
            if let Some(value) = audit.get(last.0)? {
                return AuditEntry::read(last, value.value()).map(Some);
            }
            match self.transaction.open_table(LOG)?.get(last.0)? {
                None => Ok(None),
                Some(_) => {
                    Err(corrupt(format!("who made the change set that ends at {last} is lost")))
                }
            }
        })
    }

    /// The history hash at the end of the change set that ends at an offset, if one does; proved
    /// by that set, since a wrong answer would make an edge throw its records away (invariant 12).
    ///
    /// # Errors
    /// If the store cannot be read, or the set is not the one that the hash was made of.
    pub fn hash_at(&self, offset: Offset) -> Result<Option<HistoryHash>, redb::Error> {
        let floor = self.floor()?;
        if offset <= floor.offset {
            return Ok(Some(floor.hash).filter(|_| offset == floor.offset));
        }
        let entries = self.proved_entries(floor, offset.before(), 1)?;
        let ends_here = entries.into_iter().next().filter(|entry| entry.last == offset);
        Ok(ends_here.map(|entry| entry.hash))
    }

    /// The edges that are kept.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub fn fleet(&self) -> Result<Vec<FleetRow>, redb::Error> {
        guarded(|| {
            let table = self.transaction.open_table(FLEET)?;
            let rows = table.iter()?.map(|row| {
                let (edge, value) = row?;
                FleetRow::read(edge.value(), value.value())
            });
            rows.collect()
        })
    }
}
