//! A consistent view of what is durable: zones, records, and the log itself.

use std::sync::Arc;

use edgesync_core::{
    change::Generation,
    fold::{ZoneState, ZoneStates},
    key,
    name::Name,
    position::{HistoryHash, Offset, Position},
    record::{Record, RecordId},
};
use redb::{Database, ReadTransaction, ReadableDatabase, ReadableTable};

use super::{
    chain::Chain,
    corrupt::{corrupt, guarded, in_order, malformed},
    schema::{
        self, AUDIT, AuditEntry, FLEET, FleetRow, GENERATIONS, IDS, LOG, LogEntry, META, META_HEAD,
        RECORDS, Reader, ZONES,
    },
    seal::unseal,
};

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
        schema::read_head(head.value())
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
    /// If the store cannot be read, or a change set is not the one that the history hash was made
    /// of; the error names its offsets.
    pub fn entries(&self, after: Offset, octets: usize) -> Result<Vec<LogEntry>, redb::Error> {
        guarded(|| {
            let table = self.transaction.open_table(LOG)?;
            let mut chain = Chain::begin(&table, self.floor()?, after)?;
            let (mut entries, mut left) = (Vec::new(), octets);
            for row in table.range(after.next().0..)? {
                if left == 0 && !entries.is_empty() {
                    return Ok(entries);
                }
                let (last, value) = row?;
                let entry = LogEntry::read(last.value(), value.value())?;
                chain.follow(&entry)?;
                left = left.saturating_sub(entry.body.len());
                entries.push(entry);
            }
            chain.end(self.head()?).map(|()| entries)
        })
    }

    /// The position before the first change set that is kept.
    // When the log is compacted, the position that it was cut at is kept beside the head, and
    // stands here.
    fn floor(&self) -> Result<Position, redb::Error> {
        Ok(Position::genesis(self.head()?.log))
    }

    /// Checks that the log begins at its floor and ends at its head.
    pub(super) fn check_ends(&self) -> Result<(), redb::Error> {
        self.entries(self.floor()?.offset, 1)?;
        let last = self.before_last(1)?;
        self.entries(last, usize::MAX).map(|_| ())
    }

    /// The offset before the last `count` change sets.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub fn before_last(&self, count: usize) -> Result<Offset, redb::Error> {
        guarded(|| {
            let table = self.transaction.open_table(LOG)?;
            let start = table.range::<u64>(..)?.rev().nth(count).transpose()?;
            Ok(start.map_or(Offset::ZERO, |(last, _)| Offset(last.value())))
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
        let entries = self.entries(offset.before(), 1)?;
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
