//! Idempotency keys: a repeated call gets the first answer, another request under the same key is
//! refused (rule 9). The sequencer alone looks, in the transaction that also commits,
//! or in one that only reads while there is no room to commit.

use std::time::SystemTime;

use edgesync_core::{change::Generation, limits::IDEMPOTENCY_KEPT, position::Offset};
use redb::ReadableTable;

use super::{
    Committed, Times, Write, WriteError,
    corrupt::malformed,
    schema::{KEYS, Reader, micros, push_position},
    seal::{seal, unseal},
    tables::Tables,
};

/// Expired keys that are removed with one group at the most.
const EXPIRED_AT_ONCE: usize = 256;

/// Key of the table: a key means something only for one principal and method.
fn table_key(write: &Write) -> Option<[u8; 32]> {
    let idempotency = write.idempotency.as_ref()?;
    let mut hasher = blake3::Hasher::new();
    for text in [&write.caller().principal, write.caller().method, &idempotency.key] {
        hasher.update(&(text.len() as u64).to_be_bytes());
        hasher.update(text.as_bytes());
    }
    Some(*hasher.finalize().as_bytes())
}

/// The answer that the first call with the write's key got, if there was one.
pub(super) fn find(
    keys: &impl ReadableTable<&'static [u8], &'static [u8]>,
    write: &Write,
) -> Result<Option<Result<Committed, WriteError>>, redb::Error> {
    let (Some(key), Some(idempotency)) = (table_key(write), &write.idempotency) else {
        return Ok(None);
    };
    let Some(value) = keys.get(key.as_slice())? else { return Ok(None) };
    let mut reader = Reader(unseal(&KEYS, &key, value.value())?);
    let mut read = || {
        let request: [u8; 32] = reader.take()?;
        let (first, generation) = (Offset(reader.number()?), Generation(reader.number()?));
        reader.number()?;
        let position = reader.position()?;
        Ok((request, Committed { first, position, generation, replayed: true }))
    };
    let (request, committed) = read().map_err(malformed)?;
    Ok(Some(if request == idempotency.request {
        Ok(committed)
    } else {
        Err(WriteError::KeyReused)
    }))
}

/// Remembers the answer to a write.
pub(super) fn keep(
    tables: &mut Tables<'_>,
    write: &Write,
    committed: &Committed,
    now: SystemTime,
) -> Result<(), redb::Error> {
    let (Some(key), Some(idempotency)) = (table_key(write), &write.idempotency) else {
        return Ok(());
    };
    let time = micros(now);
    let mut value = idempotency.request.to_vec();
    for number in [committed.first.0, committed.generation.0, time] {
        value.extend_from_slice(&number.to_be_bytes());
    }
    push_position(&mut value, &committed.position);
    tables.keys.insert(key.as_slice(), seal(&KEYS, &key, value).as_slice())?;
    tables.keys_by_time.insert((time, key.as_slice()), ())?;
    Ok(())
}

/// Forgets keys that are older than they are kept, and none before: a call that is repeated after
/// that is done again. One that was dated by a clock which was ahead is dated anew: it would be kept
/// for as long as that was ahead.
pub(super) fn expire(tables: &mut Tables<'_>, now: Times) -> Result<(), redb::Error> {
    let kept = u64::try_from(IDEMPOTENCY_KEPT.as_micros()).unwrap_or(u64::MAX);
    let oldest = micros(now.earlier()).saturating_sub(kept);
    let today = micros(now.later());
    for _ in 0..EXPIRED_AT_ONCE {
        let last = tables.keys_by_time.last()?;
        let last = last.map(|(key, _)| (key.value().0, key.value().1.to_vec()));
        let is_ahead = |time: u64| time > today.saturating_add(kept);
        let Some((time, key)) = last.filter(|(time, _)| is_ahead(*time)) else { break };
        tables.keys_by_time.remove((time, key.as_slice()))?;
        tables.keys_by_time.insert((today, key.as_slice()), ())?;
    }
    for _ in 0..EXPIRED_AT_ONCE {
        let first = tables.keys_by_time.first()?;
        let first = first.map(|(key, _)| (key.value().0, key.value().1.to_vec()));
        let Some((time, key)) = first.filter(|(time, _)| *time < oldest) else { break };
        tables.keys_by_time.remove((time, key.as_slice()))?;
        tables.keys.remove(key.as_slice())?;
    }
    Ok(())
}
