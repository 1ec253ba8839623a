//! One group of writes as one transaction: each write is checked on the state that those before it
//! leave, and then changes log, records, zones, audit and keys together (rules 1 to 9).

use std::{
    collections::BTreeMap,
    time::{Instant, SystemTime},
};

use edgesync_core::{
    change::{Change, ChangeSet},
    fold::{self, FoldError, ZoneStates},
    key,
    name::Name,
    position::{Offset, Position},
    session::CommittedSet,
};
use edgesync_proto::convert::encode_set;
use redb::{Database, ReadableDatabase, ReadableTable};

use crate::access::{Authorized, Rights};

use super::{
    Committed, FleetRow, Times, Write, WriteError, corrupt,
    guards::Guards,
    idempotency,
    prepare::{self, Prepared},
    schema::{self, AuditEntry, KEYS, LogEntry, META_HEAD},
    tables::{GenerationView, IndexedRecords, Tables},
};

/// What came of one write.
pub(super) struct Outcome {
    /// Who wrote, by which right.
    pub(super) authorized: Authorized,
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

/// What stands over the groups: when they are committed, and who does how much.
pub(super) struct Context<'a> {
    /// What time it is.
    pub(super) now: Times,
    /// The guards of the writers.
    pub(super) guards: &'a mut Guards,
}

/// A write that is to be committed, if there is room for it.
pub(super) struct Admission {
    /// The write.
    pub(super) write: Write,
    /// Whether there is.
    pub(super) room: Result<(), WriteError>,
}

/// Commits a group of writes durably, all in one sync of the disk. Refused ones change nothing.
pub(super) fn group(
    database: &Database,
    head: Position,
    writes: Vec<Admission>,
    fleet: &BTreeMap<String, FleetRow>,
    mut context: Context<'_>,
) -> Result<Done, redb::Error> {
    let mut done = Done { outcomes: Vec::with_capacity(writes.len()), head, garbage: false };
    if fleet.is_empty() && writes.iter().all(|admission| admission.room.is_err()) {
        done.outcomes = refuse(database, writes)?;
        return Ok(done);
    }
    let transaction = Tables::begin(database)?;
    {
        let now = context.now;
        let mut tables = Tables::open(&transaction)?;
        let octets = tables.octets()?;
        for Admission { write, room } in writes {
            let outcome = one(write, |write| match room {
                Ok(()) => take(&mut tables, &write, &mut context, &mut done),
                Err(full) => remembered(&tables.keys, &write, full),
            })?;
            done.outcomes.push(outcome);
        }
        let sets = done.outcomes.iter().flat_map(|outcome| &outcome.sets);
        tables.set_octets(octets + sets.map(|(_, set)| set.body.len() as u64).sum::<u64>())?;
        idempotency::expire(&mut tables, now)?;
        for row in fleet.values() {
            match &row.durable {
                Some(position) => {
                    tables.fleet.insert(&*row.edge, &*FleetRow::value(&row.edge, position))?
                }
                None => tables.fleet.remove(&*row.edge)?,
            };
        }
        tables.meta.insert(META_HEAD, schema::position_value(META_HEAD, &done.head).as_slice())?;
    }
    transaction.commit()?;
    Ok(done)
}

/// Refuses all writes of a group for want of room, without a transaction that writes.
fn refuse(database: &Database, writes: Vec<Admission>) -> Result<Vec<Outcome>, redb::Error> {
    if writes.is_empty() {
        return Ok(Vec::new());
    }
    let keys = database.begin_read()?.open_table(KEYS)?;
    let refused = writes.into_iter().filter_map(|Admission { write, room }| {
        room.err().map(|full| one(write, |write| remembered(&keys, &write, full)))
    });
    refused.collect()
}

/// What a write for which there is no room is told: what it was told before, if it was done then.
fn remembered(
    keys: &impl ReadableTable<&'static [u8], &'static [u8]>,
    write: &Write,
    full: WriteError,
) -> Result<Taken, Interrupted> {
    // Who may no more is not told either what was answered before.
    write.authorized.check(Rights::NONE)?;
    let remembered = idempotency::find(keys, write).map_err(damaged)?;
    let answer = remembered.unwrap_or(Err(full));
    answer.map(|committed| (committed, Vec::new())).map_err(Interrupted::Write)
}

/// Takes one write into the group, in its turn.
fn one(
    write: Write,
    take: impl FnOnce(Write) -> Result<Taken, Interrupted>,
) -> Result<Outcome, redb::Error> {
    use std::sync::atomic::Ordering::Relaxed;
    let (stream, authorized) = (write.stream.clone(), write.authorized.clone());
    let answer = if stream.as_ref().is_some_and(|refused| refused.load(Relaxed)) {
        Err(Interrupted::Write(WriteError::StreamRefused))
    } else {
        take(write)
    };
    match answer {
        Ok((committed, sets)) => Ok(Outcome { authorized, answer: Ok(committed), sets }),
        Err(Interrupted::Store(error)) => Err(error),
        Err(Interrupted::Write(error)) => {
            stream.inspect(|refused| refused.store(true, Relaxed));
            Ok(Outcome { authorized, answer: Err(error), sets: Vec::new() })
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
    write: &Write,
    context: &mut Context<'_>,
    done: &mut Done,
) -> Result<Taken, Interrupted> {
    write.authorized.check(Rights::NONE)?;
    let remembered = idempotency::find(&tables.keys, write).map_err(damaged)?;
    if let Some(answer) = remembered {
        return answer.map(|committed| (committed, Vec::new())).map_err(Interrupted::Write);
    }
    let mut states = tables.zone(write.zone()).map_err(damaged)?;
    // What it does is known here; whether it still may be, too (rule 25).
    write.authorized.check(write.needs(states.visible.is_some()))?;
    let first = done.head.offset.next();
    let view = GenerationView { records: &tables.records, origin: write.zone() };
    let prepared = prepare::prepare(&view, write, &states, first).map_err(damaged)?;
    let Prepared { sets, generation } = prepared;
    context.guards.check(write, &sets, &states, Instant::now())?;
    let now = context.now;
    let mut committed = Vec::with_capacity(sets.len());
    for set in sets {
        committed.push(append(tables, &set, write, &mut states, now.wall, done)?);
    }
    let zone_key = key::zone_key(write.zone());
    if states.is_empty() {
        tables.zones.remove(zone_key.as_slice())?;
    } else {
        tables.zones.insert(&*zone_key, &*schema::zone_value(&zone_key, write.zone(), &states))?;
    }
    let position = done.head;
    let answer = Committed { first, position, generation, replayed: false };
    idempotency::keep(tables, write, &answer, now.later())?;
    let zone = write.zone().clone();
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
    let mut store = IndexedRecords::changed_by(tables, set);
    let garbage = fold::fold(set, states, &mut store).map_err(|error| match error {
        FoldError::Store(error) => error,
        diverged @ FoldError::Diverged { .. } => redb::Error::Corrupted(diverged.to_string()),
    })?;
    if let Some(generation) = garbage {
        // A hidden generation that is given up was never part of a zone, and is no history.
        let dropped = set.changes.contains(&Change::GenerationDrop);
        let since = if dropped { Offset::ZERO } else { last };
        tables.garbage.insert((since.0, generation.0), ())?;
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
    tables.audit.insert(last.0, AuditEntry::value(last, write.caller()).as_slice())?;
    Ok(CommittedSet { prev, first, last, hash, body })
}

/// The offset that a zone's visible generation was last changed at.
pub(super) fn version(states: &ZoneStates) -> Option<Offset> {
    states.visible.map(|visible| visible.version)
}
