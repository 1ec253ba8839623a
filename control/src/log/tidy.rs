//! What the sequencer does between writes, a little at a time: removing the records of generations
//! that nobody reads, and compacting the log. Each step is a transaction that a crash may end.

use edgesync_core::{
    change::Generation,
    fold::Records,
    key,
    position::{Offset, Position},
};
use redb::{Database, ReadableTable};

use super::{
    corrupt::malformed,
    schema::{self, LogEntry, META_FLOOR, META_HEAD},
    tables::{IndexedRecords, Tables},
};

/// Records of generations that nobody reads, removed in one step.
const PURGE_RECORDS: usize = 2_000;
/// Change sets compacted in one step.
const COMPACT_SETS: usize = 1_000;
/// Octets of change sets compacted in one step; a step ends with the set that reaches them.
pub(super) const COMPACT_OCTETS: u64 = 64 * 1024 * 1024;
/// Rows of history that go with them in one step.
const COMPACT_HISTORY: usize = 10_000;

/// Removes some records of a generation that nobody reads, and that history has no use for either.
/// True if there is more to do.
pub(super) fn purge(database: &Database, floor: Offset) -> Result<bool, redb::Error> {
    let transaction = Tables::begin(database)?;
    let more = {
        let mut tables = Tables::open(&transaction)?;
        let Some((since, generation)) = next_garbage(&tables, floor)? else { return Ok(false) };
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
        let mut store = IndexedRecords::to_purge(&mut tables);
        keys.into_iter().try_for_each(|key| store.remove(key))?;
        if all {
            tables.garbage.remove((since, generation))?;
            tables.generations.remove(generation)?;
        }
        !all || next_garbage(&tables, floor)?.is_some()
    };
    transaction.commit()?;
    Ok(more)
}

/// The generation that may go next: nothing can be restored to an offset below the floor (rule 24).
fn next_garbage(tables: &Tables<'_>, floor: Offset) -> Result<Option<(u64, u64)>, redb::Error> {
    let first = tables.garbage.first()?.map(|(place, _)| place.value());
    Ok(first.filter(|(since, _)| *since <= floor.0))
}

/// What a step of the compaction has done.
pub(super) struct Compacted {
    /// The position that the log begins after.
    pub(super) floor: Option<Position>,
    /// Number of change sets that are gone.
    pub(super) sets: u64,
    /// True if there is more to do.
    pub(super) more: bool,
}

/// Forgets some of the change sets that end at or before an offset, the oldest first. The floor moves
/// in the same transaction: the log never begins with a gap (invariant 10).
pub(super) fn compact(
    database: &Database,
    upto: Offset,
    step_octets: u64,
) -> Result<Compacted, redb::Error> {
    let transaction = Tables::begin(database)?;
    let mut done = Compacted { floor: None, sets: 0, more: false };
    {
        let mut tables = Tables::open(&transaction)?;
        let head = read_head(&tables)?;
        let mut gone = Vec::new();
        let (octets, mut less) = (tables.octets()?, 0);
        for row in tables.log.range(..=upto.0)? {
            if gone.len() >= COMPACT_SETS || less >= step_octets {
                done.more = true;
                break;
            }
            let (last, value) = row?;
            let entry = LogEntry::read_head(last.value(), value.value())?;
            less += LogEntry::body_octets(value.value());
            done.floor = Some(Position { offset: entry.last, hash: entry.hash, ..head });
            gone.push(entry.last.0);
        }
        for last in &gone {
            tables.log.remove(last)?;
            tables.audit.remove(last)?;
        }
        done.sets = gone.len() as u64;
        done.more = done.more || forget_history(&mut tables, upto)?;
        if let Some(floor) = &done.floor {
            let value = schema::position_value(META_FLOOR, floor);
            tables.meta.insert(META_FLOOR, value.as_slice())?;
            tables.set_octets(octets.saturating_sub(less))?;
        }
    }
    transaction.commit()?;
    Ok(done)
}

/// Forgets some of the history up to an offset. True if there is more.
fn forget_history(tables: &mut Tables<'_>, upto: Offset) -> Result<bool, redb::Error> {
    let mut gone = Vec::new();
    for row in tables.history.range(..(upto.next().0, [].as_slice()))?.take(COMPACT_HISTORY) {
        let key = row?.0;
        let (last, key) = key.value();
        gone.push((last, key.to_vec()));
    }
    for (last, key) in &gone {
        tables.history.remove((*last, key.as_slice()))?;
    }
    Ok(gone.len() == COMPACT_HISTORY)
}

fn read_head(tables: &Tables<'_>) -> Result<Position, redb::Error> {
    let head = tables.meta.get(META_HEAD)?;
    let head = head.ok_or_else(|| malformed(key::MalformedRecord))?;
    schema::read_position(META_HEAD, head.value())
}
