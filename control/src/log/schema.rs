//! What stands in the control plane's store, table by table, and the form of each value. Each value
//! is sealed (`seal`), but for the format's version and the log's bodies, which the hash proves.
//!
//! | table | key | value |
//! |---|---|---|
//! | meta | name | format version; head; floor; release; octets of the log (8) |
//! | log | last offset of a change set | first (8), hash (32), time in µs (8), check of these (8), encoded change set |
//! | audit | last offset of a change set | principal, peer, method, each length (2) and text |
//! | zones | `key::zone_key` | `key::zone_value` |
//! | generations | generation | origin in wire form |
//! | records | `key::record_key` | `key::record_value` |
//! | ids | record id | the record's key without its id |
//! | history | last offset of a change set, record key | what the record was before the set |
//! | garbage | offset at which a generation was replaced, generation | – |
//! | keys | BLAKE3 of principal, method, idempotency key | request hash (32), first (8), generation (8), time in µs (8), position (56) |
//! | keys_by_time | time in µs, key | – |
//! | fleet | edge id | `FleetRow` |
//! | access | principal | what it is and may do (`access::text`) |

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use edgesync_core::{
    fold::ZoneStates,
    key::{self, MalformedRecord},
    name::Name,
    position::{HistoryHash, LogId, Offset, Position},
    record::Record,
};
use redb::TableDefinition;

use super::{Caller, corrupt::malformed, seal};

/// Version of this schema; a store of another version is not opened.
pub(super) const FORMAT: u64 = 3;

pub(super) const META: TableDefinition<&str, &[u8]> = TableDefinition::new("meta");
pub(super) const LOG: TableDefinition<u64, &[u8]> = TableDefinition::new("log");
pub(super) const AUDIT: TableDefinition<u64, &[u8]> = TableDefinition::new("audit");
pub(super) const ZONES: TableDefinition<&[u8], &[u8]> = TableDefinition::new("zones");
pub(super) const GENERATIONS: TableDefinition<u64, &[u8]> = TableDefinition::new("generations");
pub(super) const RECORDS: TableDefinition<&[u8], &[u8]> = TableDefinition::new("records");
pub(super) const IDS: TableDefinition<u64, &[u8]> = TableDefinition::new("ids");
pub(super) const HISTORY: TableDefinition<(u64, &[u8]), &[u8]> = TableDefinition::new("history");
pub(super) const GARBAGE: TableDefinition<(u64, u64), ()> = TableDefinition::new("garbage");
pub(super) const KEYS: TableDefinition<&[u8], &[u8]> = TableDefinition::new("keys");
pub(super) const KEYS_BY_TIME: TableDefinition<(u64, &[u8]), ()> =
    TableDefinition::new("keys_by_time");
pub(super) const FLEET: TableDefinition<&str, &[u8]> = TableDefinition::new("fleet");

/// Key of the schema's version in META.
pub(super) const META_FORMAT: &str = "format";
/// Key of the head's position in META.
pub(super) const META_HEAD: &str = "head";
/// Key of the position that the log begins after, in META; not there: at the very beginning.
pub(super) const META_FLOOR: &str = "floor";
/// Key of the [`Freeze`] in META; not there: everything is released.
pub(super) const META_RELEASE: &str = "release";
/// Key of the octets of the log's change sets in META.
pub(super) const META_OCTETS: &str = "octets";

/// Microseconds since 1970, for what people read; order never depends on it.
pub(super) fn micros(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

/// Takes numbers and octets off the front of a value.
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl Reader<'_> {
    pub(super) fn take<const N: usize>(&mut self) -> Result<[u8; N], MalformedRecord> {
        let (taken, rest) = self.0.split_first_chunk::<N>().ok_or(MalformedRecord)?;
        self.0 = rest;
        Ok(*taken)
    }

    pub(super) fn number(&mut self) -> Result<u64, MalformedRecord> {
        self.take().map(u64::from_be_bytes)
    }

    fn text(&mut self) -> Result<String, MalformedRecord> {
        let length = usize::from(u16::from_be_bytes(self.take()?));
        let (text, rest) = self.0.split_at_checked(length).ok_or(MalformedRecord)?;
        self.0 = rest;
        Ok(String::from_utf8_lossy(text).into_owned())
    }

    pub(super) fn position(&mut self) -> Result<Position, MalformedRecord> {
        let (log, offset) = (LogId(self.take()?), Offset(self.number()?));
        Ok(Position { log, offset, hash: HistoryHash(self.take()?) })
    }
}

pub(super) fn push_position(value: &mut Vec<u8>, position: &Position) {
    value.extend_from_slice(&position.log.0);
    value.extend_from_slice(&position.offset.0.to_be_bytes());
    value.extend_from_slice(&position.hash.0);
}

/// A value as META has it under a name.
pub(super) fn meta_value(name: &str, value: Vec<u8>) -> Vec<u8> {
    seal::seal(&META, name.as_bytes(), value)
}

/// What [`meta_value`] has sealed under a name.
pub(super) fn read_meta<'v>(name: &str, stored: &'v [u8]) -> Result<Reader<'v>, redb::Error> {
    seal::unseal(&META, name.as_bytes(), stored).map(Reader)
}

/// A position as META has it: the head, or the floor.
pub(super) fn position_value(name: &str, position: &Position) -> Vec<u8> {
    let mut value = Vec::new();
    push_position(&mut value, position);
    meta_value(name, value)
}

/// The position of what META has under a name.
pub(super) fn read_position(name: &str, stored: &[u8]) -> Result<Position, redb::Error> {
    read_meta(name, stored)?.position().map_err(malformed)
}

/// The place of a row of HISTORY, as its seal has it.
fn history_place(last: u64, key: &[u8]) -> Vec<u8> {
    [&last.to_be_bytes(), key].concat()
}

/// What HISTORY has of a record before a change set.
pub(super) fn history_value(last: u64, key: &[u8], before: Vec<u8>) -> Vec<u8> {
    seal::seal(&HISTORY, &history_place(last, key), before)
}

/// What [`history_value`] has sealed.
pub(super) fn read_history<'v>(
    last: u64,
    key: &[u8],
    stored: &'v [u8],
) -> Result<&'v [u8], redb::Error> {
    seal::unseal(&HISTORY, &history_place(last, key), stored)
}

/// A record's value, as RECORDS has it sealed.
pub(super) fn record_value<'v>(key: &[u8], stored: &'v [u8]) -> Result<&'v [u8], redb::Error> {
    seal::unseal(&RECORDS, key, stored)
}

/// What ZONES has of a zone.
pub(super) fn zone_value(key: &[u8], origin: &Name, states: &ZoneStates) -> Vec<u8> {
    seal::seal(&ZONES, key, key::zone_value(origin, states))
}

/// The zone of a row of ZONES.
pub(super) fn read_zone(key: &[u8], value: &[u8]) -> Result<(Name, ZoneStates), redb::Error> {
    key::read_zone(seal::unseal(&ZONES, key, value)?).map_err(malformed)
}

/// What GENERATIONS has of a generation.
pub(super) fn origin_value(generation: u64, origin: &Name) -> Vec<u8> {
    seal::seal(&GENERATIONS, &generation.to_be_bytes(), origin.wire().to_vec())
}

/// The origin of a row of GENERATIONS.
pub(super) fn read_origin(generation: u64, value: &[u8]) -> Result<Name, redb::Error> {
    let value = seal::unseal(&GENERATIONS, &generation.to_be_bytes(), value)?;
    Name::from_wire(Bytes::copy_from_slice(value)).map_err(|_| malformed(MalformedRecord))
}

/// The record of a row of RECORDS, of a zone.
pub(super) fn read_record(origin: &Name, key: &[u8], value: &[u8]) -> Result<Record, redb::Error> {
    key::read_record(origin, key, seal::unseal(&RECORDS, key, value)?).map_err(malformed)
}

fn push_text(value: &mut Vec<u8>, text: &str) {
    let text = text.as_bytes().get(..text.len().min(1_000)).unwrap_or_default();
    value.extend_from_slice(&u16::try_from(text.len()).unwrap_or(0).to_be_bytes());
    value.extend_from_slice(text);
}

/// Octets of a log entry before their check and the body.
const LOG_HEAD: usize = 48;

/// A committed change set, as the log has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogEntry {
    /// Offset of its first change.
    pub first: Offset,
    /// Offset of its last change.
    pub last: Offset,
    /// History hash after it.
    pub hash: HistoryHash,
    /// When it became durable, by the control plane's clock.
    pub committed: SystemTime,
    /// The encoded change set.
    pub body: Bytes,
}

impl LogEntry {
    pub(super) fn value(&self) -> Vec<u8> {
        let mut head = Vec::with_capacity(LOG_HEAD + seal::OCTETS + self.body.len());
        head.extend_from_slice(&self.first.0.to_be_bytes());
        head.extend_from_slice(&self.hash.0);
        head.extend_from_slice(&micros(self.committed).to_be_bytes());
        let mut value = seal::seal(&LOG, &self.last.0.to_be_bytes(), head);
        value.extend_from_slice(&self.body);
        value
    }

    /// Reads what stands before the body; leaves the body empty.
    pub(super) fn read_head(last: u64, value: &[u8]) -> Result<Self, redb::Error> {
        let head = value.get(..LOG_HEAD + seal::OCTETS).unwrap_or_default();
        let mut reader = Reader(seal::unseal(&LOG, &last.to_be_bytes(), head)?);
        let mut read = || {
            Ok(Self {
                first: Offset(reader.number()?),
                last: Offset(last),
                hash: HistoryHash(reader.take()?),
                committed: UNIX_EPOCH + Duration::from_micros(reader.number()?),
                body: Bytes::new(),
            })
        };
        read().map_err(malformed)
    }

    /// Octets of the body in a value.
    pub(super) const fn body_octets(value: &[u8]) -> u64 {
        value.len().saturating_sub(LOG_HEAD + seal::OCTETS) as u64
    }

    pub(super) fn read(last: u64, value: &[u8]) -> Result<Self, redb::Error> {
        let head = Self::read_head(last, value)?;
        let body = value.get(LOG_HEAD + seal::OCTETS..).unwrap_or_default();
        Ok(Self { body: Bytes::copy_from_slice(body), ..head })
    }
}

/// Who made a change set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditEntry {
    /// The principal's name.
    pub principal: String,
    /// Address that the call came from.
    pub peer: String,
    /// The RPC.
    pub method: String,
}

impl AuditEntry {
    pub(super) fn value(last: Offset, caller: &Caller) -> Vec<u8> {
        let mut value = Vec::new();
        for text in [&caller.principal, &caller.peer, caller.method] {
            push_text(&mut value, text);
        }
        seal::seal(&AUDIT, &last.0.to_be_bytes(), value)
    }

    pub(super) fn read(last: Offset, value: &[u8]) -> Result<Self, redb::Error> {
        let mut reader = Reader(seal::unseal(&AUDIT, &last.0.to_be_bytes(), value)?);
        let mut read =
            || Ok(Self { principal: reader.text()?, peer: reader.text()?, method: reader.text()? });
        read().map_err(malformed)
    }
}

/// Up to where changes are released to edges, and who has said so (rule 19).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Freeze {
    /// The last position that edges may have.
    pub released: Position,
    /// When it was frozen.
    pub since: SystemTime,
    /// Who froze it.
    pub principal: String,
    /// Why.
    pub reason: String,
}

impl Freeze {
    pub(super) fn value(&self) -> Vec<u8> {
        let mut value = Vec::new();
        push_position(&mut value, &self.released);
        value.extend_from_slice(&micros(self.since).to_be_bytes());
        push_text(&mut value, &self.principal);
        push_text(&mut value, &self.reason);
        meta_value(META_RELEASE, value)
    }

    pub(super) fn read(stored: &[u8]) -> Result<Self, redb::Error> {
        let mut reader = read_meta(META_RELEASE, stored)?;
        let mut read = || {
            Ok(Self {
                released: reader.position()?,
                since: UNIX_EPOCH + Duration::from_micros(reader.number()?),
                principal: reader.text()?,
                reason: reader.text()?,
            })
        };
        read().map_err(malformed)
    }
}

/// What is kept of an edge, so that a receipt also counts those that are away (rule 21).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FleetRow {
    /// Its id.
    pub edge: String,
    /// The last position that it has acknowledged; none if it is to be forgotten.
    pub durable: Option<Position>,
}

impl FleetRow {
    pub(super) fn value(edge: &str, position: &Position) -> Vec<u8> {
        let mut value = Vec::with_capacity(56 + seal::OCTETS);
        push_position(&mut value, position);
        seal::seal(&FLEET, edge.as_bytes(), value)
    }

    pub(super) fn read(edge: &str, value: &[u8]) -> Result<Self, redb::Error> {
        let value = seal::unseal(&FLEET, edge.as_bytes(), value)?;
        let durable = Reader(value).position().map_err(malformed)?;
        Ok(Self { edge: edge.to_owned(), durable: Some(durable) })
    }
}
