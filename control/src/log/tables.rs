//! The tables of one write transaction, and the views that checks and folds have of the records in
//! them. What an edit or a delete takes away is kept as history (rule 24).

use bytes::Bytes;
use edgesync_core::{
    change::{ChangeSet, Generation},
    fold::{Records, ZoneStates},
    key,
    name::Name,
    position::Offset,
    record::Record,
    stage,
};
use redb::{Database, ReadableDatabase, ReadableTable, Table, WriteTransaction};

use super::{
    corrupt::malformed,
    schema::{
        self, AUDIT, FLEET, GARBAGE, GENERATIONS, HISTORY, IDS, KEYS, KEYS_BY_TIME, LOG, META,
        META_OCTETS, RECORDS, ZONES,
    },
    seal::seal,
};

/// The tables of one transaction.
pub(super) struct Tables<'t> {
    pub(super) meta: Table<'t, &'static str, &'static [u8]>,
    pub(super) log: Table<'t, u64, &'static [u8]>,
    pub(super) audit: Table<'t, u64, &'static [u8]>,
    pub(super) zones: Table<'t, &'static [u8], &'static [u8]>,
    pub(super) generations: Table<'t, u64, &'static [u8]>,
    pub(super) records: Table<'t, &'static [u8], &'static [u8]>,
    pub(super) ids: Table<'t, u64, &'static [u8]>,
    pub(super) history: Table<'t, (u64, &'static [u8]), &'static [u8]>,
    pub(super) garbage: Table<'t, (u64, u64), ()>,
    pub(super) fleet: Table<'t, &'static str, &'static [u8]>,
    pub(super) keys: Table<'t, &'static [u8], &'static [u8]>,
    pub(super) keys_by_time: Table<'t, (u64, &'static [u8]), ()>,
}

impl<'t> Tables<'t> {
    /// Begins a transaction, once a reader has been through what is said of the tables: where that
    /// is damaged redb 4.6 panics with a lock held that the tables opened before then want, and so
    /// ends the process. A reader's panic is only an error (`guarded`).
    pub(super) fn begin(database: &Database) -> Result<WriteTransaction, redb::Error> {
        let reader = database.begin_read()?;
        reader.open_table(META)?;
        reader.open_table(LOG)?;
        reader.open_table(AUDIT)?;
        reader.open_table(ZONES)?;
        reader.open_table(GENERATIONS)?;
        reader.open_table(RECORDS)?;
        reader.open_table(IDS)?;
        reader.open_table(HISTORY)?;
        reader.open_table(GARBAGE)?;
        reader.open_table(FLEET)?;
        reader.open_table(KEYS)?;
        reader.open_table(KEYS_BY_TIME)?;
        Ok(database.begin_write()?)
    }

    pub(super) fn open(transaction: &'t WriteTransaction) -> Result<Self, redb::Error> {
        Ok(Self {
            meta: transaction.open_table(META)?,
            log: transaction.open_table(LOG)?,
            audit: transaction.open_table(AUDIT)?,
            zones: transaction.open_table(ZONES)?,
            generations: transaction.open_table(GENERATIONS)?,
            records: transaction.open_table(RECORDS)?,
            ids: transaction.open_table(IDS)?,
            history: transaction.open_table(HISTORY)?,
            garbage: transaction.open_table(GARBAGE)?,
            fleet: transaction.open_table(FLEET)?,
            keys: transaction.open_table(KEYS)?,
            keys_by_time: transaction.open_table(KEYS_BY_TIME)?,
        })
    }

    /// Octets of the log's change sets.
    pub(super) fn octets(&self) -> Result<u64, redb::Error> {
        let stored = self.meta.get(META_OCTETS)?;
        stored.map_or(Ok(0), |octets| {
            schema::read_meta(META_OCTETS, octets.value())?.number().map_err(malformed)
        })
    }

    /// Sets the octets of the log's change sets.
    pub(super) fn set_octets(&mut self, octets: u64) -> Result<(), redb::Error> {
        let value = schema::meta_value(META_OCTETS, octets.to_be_bytes().to_vec());
        self.meta.insert(META_OCTETS, value.as_slice())?;
        Ok(())
    }

    /// What is said of a zone.
    pub(super) fn zone(&self, origin: &Name) -> Result<ZoneStates, redb::Error> {
        let key = key::zone_key(origin);
        let value = self.zones.get(key.as_slice())?;
        let Some(value) = value else { return Ok(ZoneStates::default()) };
        schema::read_zone(&key, value.value()).map(|(_, states)| states)
    }
}

/// The records of one zone's generations, as the transaction has them.
pub(super) struct GenerationView<'a, 't> {
    pub(super) records: &'a Table<'t, &'static [u8], &'static [u8]>,
    pub(super) origin: &'a Name,
}

impl GenerationView<'_, '_> {
    /// The records at an owner name of a generation.
    pub(super) fn at_owner(
        &self,
        generation: Generation,
        owner: &Name,
    ) -> Result<Vec<Record>, redb::Error> {
        let prefix = key::owner_prefix(generation, self.origin, owner);
        let mut found = Vec::new();
        for row in self.records.range(prefix.as_slice()..)? {
            let (key, value) = row?;
            if !key.value().starts_with(&prefix) {
                break;
            }
            found.push(schema::read_record(self.origin, key.value(), value.value())?);
        }
        Ok(found)
    }

    /// The view of one generation, as staging wants it; none for a generation yet to begin.
    pub(super) const fn of(&self, generation: Option<Generation>) -> OneGeneration<'_> {
        OneGeneration { view: self, generation }
    }
}

/// The records of one generation.
pub(super) struct OneGeneration<'a> {
    view: &'a GenerationView<'a, 'a>,
    generation: Option<Generation>,
}

impl stage::View for OneGeneration<'_> {
    type Error = redb::Error;

    fn at_owner(&self, owner: &Name) -> Result<Vec<Record>, redb::Error> {
        self.generation
            .map_or_else(|| Ok(Vec::new()), |generation| self.view.at_owner(generation, owner))
    }
}

/// The records with their index by id, and with the history that a change set makes.
pub(super) struct IndexedRecords<'a, 't> {
    records: &'a mut Table<'t, &'static [u8], &'static [u8]>,
    ids: &'a mut Table<'t, u64, &'static [u8]>,
    history: &'a mut Table<'t, (u64, &'static [u8]), &'static [u8]>,
    /// First and last offset of the set; none where nothing is kept.
    set: Option<(Offset, Offset)>,
}

impl<'a, 't> IndexedRecords<'a, 't> {
    /// The records as a change set changes them.
    pub(super) fn changed_by(tables: &'a mut Tables<'t>, set: &ChangeSet) -> Self {
        let Tables { records, ids, history, .. } = tables;
        Self { records, ids, history, set: Some((set.first, set.last())) }
    }

    /// The records, to be removed without a trace.
    pub(super) const fn to_purge(tables: &'a mut Tables<'t>) -> Self {
        let Tables { records, ids, history, .. } = tables;
        Self { records, ids, history, set: None }
    }

    /// Keeps what a record was before the set, unless the set has made it itself.
    fn keep(&mut self, key: &[u8], before: &[u8]) -> Result<(), redb::Error> {
        let id = key.last_chunk::<8>().map(|id| u64::from_be_bytes(*id));
        let Some((_, last)) = self.set.filter(|(first, _)| id.is_some_and(|id| id < first.0))
        else {
            return Ok(());
        };
        if self.history.get((last.0, key))?.is_none() {
            let before = schema::record_value(key, before)?.to_vec();
            let value = schema::history_value(last.0, key, before);
            self.history.insert((last.0, key), value.as_slice())?;
        }
        Ok(())
    }
}

impl Records for IndexedRecords<'_, '_> {
    type Error = redb::Error;
    type Value = Bytes;

    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, redb::Error> {
        let Some(stored) = self.records.get(key)? else { return Ok(None) };
        Ok(Some(Bytes::copy_from_slice(schema::record_value(key, stored.value())?)))
    }

    fn put(&mut self, key: Vec<u8>, value: Vec<u8>) -> Result<(), redb::Error> {
        let value = seal(&RECORDS, &key, value);
        let before = self.records.insert(key.as_slice(), value.as_slice())?;
        if let Some(before) = before.map(|before| before.value().to_vec()) {
            self.keep(&key, &before)?;
        } else if let Some((stem, id)) = key.split_last_chunk::<8>() {
            let stem = seal(&IDS, id, stem.to_vec());
            self.ids.insert(u64::from_be_bytes(*id), stem.as_slice())?;
        }
        Ok(())
    }

    fn remove(&mut self, key: Vec<u8>) -> Result<(), redb::Error> {
        let before = self.records.remove(key.as_slice())?;
        if let Some(before) = before.map(|before| before.value().to_vec()) {
            self.keep(&key, &before)?;
        }
        if let Some((_, id)) = key.split_last_chunk::<8>() {
            self.ids.remove(u64::from_be_bytes(*id))?;
        }
        Ok(())
    }
}
