//! One group of writes as one transaction: each write is checked on the state that those before it
//! leave, and then changes log, records, zones, audit and keys together (rules 1 to 9).

use std::time::SystemTime;

use bytes::Bytes;
use edgesync_core::{
    change::{Change, ChangeSet, Generation},
    fold::{self, FoldError, Records, ZoneStates},
    key,
    name::Name,
    position::{Offset, Position},
    record::Record,
    session::CommittedSet,
    stage,
};
use edgesync_proto::convert::encode_set;
use redb::{Database, ReadableDatabase, ReadableTable, Table, WriteTransaction};

use super::{
    Committed, FleetRow, Write, WriteError, corrupt, idempotency,
    prepare::{self, Prepared},
    schema::{
        self, AUDIT, AuditEntry, FLEET, GARBAGE, GENERATIONS, IDS, KEYS, KEYS_BY_TIME, LOG,
        LogEntry, META, META_HEAD, RECORDS, ZONES,
    },
    seal::{seal, unseal},
};

/// Records of generations that nobody reads, removed in one go.
const PURGE_RECORDS: usize = 2_000;

/// What came of one write.
pub(super) struct Outcome {
    /// What the caller is told.
    pub(super) answer: Result<Committed, WriteError>,
    /// What the sessions get.
    pub(super) sets: Vec<(Name, CommittedSet)>,
}

/// What came of a group.
pub(super) struct Done {
    /// In the order of the writes.
    pub(super) outcomes: Vec<Outcome>,
    /// The head after it.
    pub(super) head: Position,
    /// True if there are records that nobody reads any more.
    pub(super) garbage: bool,
}

/// The tables of one transaction.
pub(super) struct Tables<'t> {
    meta: Table<'t, &'static str, &'static [u8]>,
    log: Table<'t, u64, &'static [u8]>,
    audit: Table<'t, u64, &'static [u8]>,
    zones: Table<'t, &'static [u8], &'static [u8]>,
    generations: Table<'t, u64, &'static [u8]>,
    records: Table<'t, &'static [u8], &'static [u8]>,
    ids: Table<'t, u64, &'static [u8]>,
    garbage: Table<'t, u64, ()>,
    fleet: Table<'t, &'static str, &'static [u8]>,
    pub(super) keys: Table<'t, &'static [u8], &'static [u8]>,
    pub(super) keys_by_time: Table<'t, (u64, &'static [u8]), ()>,
}

impl<'t> Tables<'t> {
    /// Begins a transaction, once a reader has been through what is said of the tables: where that
    /// is damaged redb 4.6 panics with a lock held that the tables opened before then want, and so
    /// ends the process. A reader's panic is only an error (`guarded`).
    fn begin(database: &Database) -> Result<WriteTransaction, redb::Error> {
        let reader = database.begin_read()?;
        reader.open_table(META)?;
        reader.open_table(LOG)?;
        reader.open_table(AUDIT)?;
        reader.open_table(ZONES)?;
        reader.open_table(GENERATIONS)?;
        reader.open_table(RECORDS)?;
        reader.open_table(IDS)?;
        reader.open_table(GARBAGE)?;
        reader.open_table(FLEET)?;
        reader.open_table(KEYS)?;
        reader.open_table(KEYS_BY_TIME)?;
        Ok(database.begin_write()?)
    }

    fn open(transaction: &'t WriteTransaction) -> Result<Self, redb::Error> {
        Ok(Self {
            meta: transaction.open_table(META)?,
            log: transaction.open_table(LOG)?,
            audit: transaction.open_table(AUDIT)?,
            zones: transaction.open_table(ZONES)?,
            generations: transaction.open_table(GENERATIONS)?,
            records: transaction.open_table(RECORDS)?,
            ids: transaction.open_table(IDS)?,
            garbage: transaction.open_table(GARBAGE)?,
            fleet: transaction.open_table(FLEET)?,
            keys: transaction.open_table(KEYS)?,
            keys_by_time: transaction.open_table(KEYS_BY_TIME)?,
        })
    }

    /// What is said of a zone.
    fn zone(&self, origin: &Name) -> Result<ZoneStates, redb::Error> {
        let key = key::zone_key(origin);
        let value = self.zones.get(key.as_slice())?;
        let Some(value) = value else { return Ok(ZoneStates::default()) };
        schema::read_zone(&key, value.value()).map(|(_, states)| states)
    }
}

/// Commits a group of writes durably, all in one sync of the disk. Refused ones change nothing.
pub(super) fn group(
    database: &Database,
    head: Position,
    writes: Vec<Write>,
    fleet: &[FleetRow],
    now: SystemTime,
) -> Result<Done, redb::Error> {
    let transaction = Tables::begin(database)?;
    let mut done = Done { outcomes: Vec::with_capacity(writes.len()), head, garbage: false };
    {
        let mut tables = Tables::open(&transaction)?;
        for write in writes {
            let outcome = one(&mut tables, write, now, &mut done)?;
            done.outcomes.push(outcome);
        }
        idempotency::expire(&mut tables, now)?;
        for row in fleet {
            match &row.durable {
                Some(position) => {
                    tables.fleet.insert(&*row.edge, &*FleetRow::value(&row.edge, position))?
                }
                None => tables.fleet.remove(&*row.edge)?,
            };
        }
        tables.meta.insert(META_HEAD, schema::head_value(&done.head).as_slice())?;
    }
    transaction.commit()?;
    Ok(done)
}

/// Takes one write into the group.
fn one(
    tables: &mut Tables<'_>,
    write: Write,
    now: SystemTime,
    done: &mut Done,
) -> Result<Outcome, redb::Error> {
    use std::sync::atomic::Ordering::Relaxed;
    let stream = write.stream.clone();
    let answer = if stream.as_ref().is_some_and(|refused| refused.load(Relaxed)) {
        Err(Interrupted::Write(WriteError::StreamRefused))
    } else {
        take(tables, write, now, done)
    };
    match answer {
        Ok((committed, sets)) => Ok(Outcome { answer: Ok(committed), sets }),
        Err(Interrupted::Store(error)) => Err(error),
        Err(Interrupted::Write(error)) => {
            stream.inspect(|refused| refused.store(true, Relaxed));
            Ok(Outcome { answer: Err(error), sets: Vec::new() })
        }
    }
}

/// Why a write is not taken, or nothing can be.
pub(super) enum Interrupted {
    /// The write is refused; nothing of it was written.
    Write(WriteError),
    /// The store has failed.
    Store(redb::Error),
}

impl From<redb::Error> for Interrupted {
    fn from(error: redb::Error) -> Self {
        Self::Store(error)
    }
}

impl From<redb::StorageError> for Interrupted {
    fn from(error: redb::StorageError) -> Self {
        Self::Store(error.into())
    }
}

/// What was found damaged before anything was written concerns this write alone.
fn damaged(error: impl Into<Interrupted>) -> Interrupted {
    match error.into() {
        Interrupted::Store(redb::Error::Corrupted(what)) => {
            corrupt::count();
            Interrupted::Write(WriteError::Damaged(what))
        }
        other => other,
    }
}

type Taken = (Committed, Vec<(Name, CommittedSet)>);

fn take(
    tables: &mut Tables<'_>,
    write: Write,
    now: SystemTime,
    done: &mut Done,
) -> Result<Taken, Interrupted> {
    let remembered = idempotency::find(tables, &write).map_err(damaged)?;
    if let Some(answer) = remembered {
        return answer.map(|committed| (committed, Vec::new())).map_err(Interrupted::Write);
    }
    let mut states = tables.zone(&write.zone).map_err(damaged)?;
    let first = done.head.offset.next();
    let view = GenerationView { records: &tables.records, origin: &write.zone };
    let prepared = prepare::prepare(&view, &write, &states, first).map_err(damaged)?;
    let Prepared { sets, generation } = prepared;
    let mut committed = Vec::with_capacity(sets.len());
    for set in sets {
        committed.push(append(tables, &set, &write, &mut states, now, done)?);
    }
    let zone_key = key::zone_key(&write.zone);
    if states.is_empty() {
        tables.zones.remove(zone_key.as_slice())?;
    } else {
        tables.zones.insert(&*zone_key, &*schema::zone_value(&zone_key, &write.zone, &states))?;
    }
    let position = done.head;
    let answer = Committed { first, position, generation, replayed: false };
    idempotency::keep(tables, &write, &answer, now)?;
    let zone = write.zone;
    Ok((answer, committed.into_iter().map(|set| (zone.clone(), set)).collect()))
}

/// Puts a change set at the end of the log, and does to the records what it says.
fn append(
    tables: &mut Tables<'_>,
    set: &ChangeSet,
    write: &Write,
    states: &mut ZoneStates,
    now: SystemTime,
    done: &mut Done,
) -> Result<CommittedSet, redb::Error> {
    let (prev, first, last) = (done.head.offset, set.first, set.last());
    let mut store = IndexedRecords { records: &mut tables.records, ids: &mut tables.ids };
    let garbage = fold::fold(set, states, &mut store).map_err(|error| match error {
        FoldError::Store(error) => error,
        diverged @ FoldError::Diverged { .. } => redb::Error::Corrupted(diverged.to_string()),
    })?;
    if let Some(generation) = garbage {
        tables.garbage.insert(generation.0, ())?;
        done.garbage = true;
    }
    if matches!(set.changes.first(), Some(Change::ZoneCreate | Change::GenerationOpen)) {
        let generation = set.generation.0;
        let origin = schema::origin_value(generation, &set.zone);
        tables.generations.insert(generation, origin.as_slice())?;
    }
    let body = encode_set(set);
    done.head = done.head.after(last, &body);
    let hash = done.head.hash;
    let entry = LogEntry { first, last, hash, committed: now, body: body.clone() };
    tables.log.insert(last.0, entry.value().as_slice())?;
    tables.audit.insert(last.0, AuditEntry::value(last, &write.caller).as_slice())?;
    Ok(CommittedSet { prev, first, last, hash, body })
}

/// The records of one zone's generations, as the transaction has them.
pub(super) struct GenerationView<'a, 't> {
    records: &'a Table<'t, &'static [u8], &'static [u8]>,
    origin: &'a Name,
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

/// The records with their index by id.
struct IndexedRecords<'a, 't> {
    records: &'a mut Table<'t, &'static [u8], &'static [u8]>,
    ids: &'a mut Table<'t, u64, &'static [u8]>,
}

impl Records for IndexedRecords<'_, '_> {
    type Error = redb::Error;
    type Value = Bytes;

    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, redb::Error> {
        let Some(stored) = self.records.get(key)? else { return Ok(None) };
        let value = unseal(&RECORDS, key, stored.value())?;
        Ok(Some(Bytes::copy_from_slice(value)))
    }

    fn put(&mut self, key: Vec<u8>, value: Vec<u8>) -> Result<(), redb::Error> {
        let value = seal(&RECORDS, &key, value);
        let is_new = self.records.insert(key.as_slice(), value.as_slice())?.is_none();
        if is_new && let Some((stem, id)) = key.split_last_chunk::<8>() {
            let stem = seal(&IDS, id, stem.to_vec());
            self.ids.insert(u64::from_be_bytes(*id), stem.as_slice())?;
        }
        Ok(())
    }

    fn remove(&mut self, key: Vec<u8>) -> Result<(), redb::Error> {
        self.records.remove(key.as_slice())?;
        if let Some((_, id)) = key.split_last_chunk::<8>() {
            self.ids.remove(u64::from_be_bytes(*id))?;
        }
        Ok(())
    }
}

/// Removes some records of a generation that nobody reads. True if there is more to do.
pub(super) fn purge(database: &Database) -> Result<bool, redb::Error> {
    let transaction = Tables::begin(database)?;
    let more = {
        let mut tables = Tables::open(&transaction)?;
        let Some(generation) = tables.garbage.first()?.map(|(generation, _)| generation.value())
        else {
            return Ok(false);
        };
        let prefix = key::generation_prefix(Generation(generation));
        let mut keys = Vec::new();
        for row in tables.records.range(prefix.as_slice()..)?.take(PURGE_RECORDS) {
            let key = row?.0.value().to_vec();
            if !key.starts_with(&prefix) {
                break;
            }
            keys.push(key);
        }
        let all = keys.len() < PURGE_RECORDS;
        let mut store = IndexedRecords { records: &mut tables.records, ids: &mut tables.ids };
        keys.into_iter().try_for_each(|key| store.remove(key))?;
        if all {
            tables.garbage.remove(generation)?;
            tables.generations.remove(generation)?;
        }
        !all || tables.garbage.first()?.is_some()
    };
    transaction.commit()?;
    Ok(more)
}

/// The offset that a zone's visible generation was last changed at.
pub(super) fn version(states: &ZoneStates) -> Option<Offset> {
    states.visible.map(|visible| visible.version)
}
