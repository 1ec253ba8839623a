//! The key and value of a record in an ordered store: the same at the control plane and at an edge.
//!
//! ```text
//! key    generation (8) | labels below the origin, from the right, each ended by 00 | 00 | type (2) | id (8)
//! value  TTL (4) | version (8) | RDATA
//! zone   states (1: bit 0 visible, bit 1 hidden) | each: generation (8) | records (8) | version (8) | digest (32) | origin
//! ```
//! Numbers are big endian. In labels 00 is written 01 01 and 01 is written 01 02, so the order of
//! keys is the canonical order of names (RFC 4034 section 6.1), a zone is a range, and so is an
//! owner; `com` is no prefix of `com2`.

use bytes::Bytes;

use crate::{
    Rtype,
    change::Generation,
    digest::Digest,
    fold::{ZoneState, ZoneStates},
    name::{MAX_LABELS, Name},
    position::Offset,
    record::{Record, RecordId},
};

/// Octets of a value before the RDATA.
const VALUE_HEAD: usize = 12;

/// What a store holds is not a key or value of this form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a stored record has not the form that this version writes")]
pub struct MalformedRecord;

/// Writes a name's labels so that their order is that of the octets.
fn push_labels(key: &mut Vec<u8>, name: &Name, below: &Name) {
    let mut room = [&[][..]; MAX_LABELS];
    for label in name.labels_reversed(&mut room).skip(below.labels().count()) {
        for octet in label {
            match octet {
                0 => key.extend_from_slice(&[1, 1]),
                1 => key.extend_from_slice(&[1, 2]),
                other => key.push(*other),
            }
        }
        key.push(0);
    }
}

/// The place of a zone in an ordered list of zones: canonical order.
#[must_use]
pub fn zone_key(origin: &Name) -> Vec<u8> {
    let mut key = Vec::with_capacity(origin.wire().len() + 1);
    push_labels(&mut key, origin, &Name::root());
    key.push(0);
    key
}

/// The prefix of all records of a generation.
#[must_use]
pub const fn generation_prefix(generation: Generation) -> [u8; 8] {
    generation.0.to_be_bytes()
}

/// The prefix of all records at one owner name.
#[must_use]
pub fn owner_prefix(generation: Generation, origin: &Name, owner: &Name) -> Vec<u8> {
    let mut key = Vec::with_capacity(8 + owner.wire().len() + 11);
    key.extend_from_slice(&generation_prefix(generation));
    push_labels(&mut key, owner, origin);
    key.push(0);
    key
}

/// The key of a record.
#[must_use]
pub fn record_key(
    generation: Generation,
    origin: &Name,
    owner: &Name,
    rtype: Rtype,
    id: RecordId,
) -> Vec<u8> {
    let mut key = owner_prefix(generation, origin, owner);
    key.extend_from_slice(&rtype.to_int().to_be_bytes());
    key.extend_from_slice(&id.0.to_be_bytes());
    key
}

/// The value of a record.
#[must_use]
pub fn record_value(ttl: u32, version: Offset, rdata: &[u8]) -> Vec<u8> {
    let mut value = Vec::with_capacity(VALUE_HEAD + rdata.len());
    value.extend_from_slice(&ttl.to_be_bytes());
    value.extend_from_slice(&version.0.to_be_bytes());
    value.extend_from_slice(rdata);
    value
}

/// The record of a key and value in the zone `origin`.
///
/// # Errors
/// If they are not of the form that [`record_key`] and [`record_value`] write.
pub fn read_record(origin: &Name, key: &[u8], value: &[u8]) -> Result<Record, MalformedRecord> {
    read(origin, key, value).ok_or(MalformedRecord)
}

fn read(origin: &Name, key: &[u8], value: &[u8]) -> Option<Record> {
    let (rest, id) = key.split_last_chunk::<8>()?;
    let (rest, rtype) = rest.split_last_chunk::<2>()?;
    let (_generation, labels) = rest.split_first_chunk::<8>()?;
    let (ttl, rest) = value.split_first_chunk::<4>()?;
    let (version, rdata) = rest.split_first_chunk::<8>()?;
    Some(Record {
        id: RecordId(u64::from_be_bytes(*id)),
        version: Offset(u64::from_be_bytes(*version)),
        owner: read_owner(origin, labels)?,
        rtype: Rtype::from_int(u16::from_be_bytes(*rtype)),
        ttl: u32::from_be_bytes(*ttl),
        rdata: Bytes::copy_from_slice(rdata),
    })
}

/// The owner name of the escaped labels of a key, its final 00 included.
fn read_owner(origin: &Name, labels: &[u8]) -> Option<Name> {
    let (end, labels) = labels.split_last()?;
    if *end != 0 || labels.last().is_some_and(|last| *last != 0) {
        return None;
    }
    let mut wire = Vec::with_capacity(labels.len() + origin.wire().len());
    for escaped in labels.rsplit(|octet| *octet == 0).skip(1) {
        let place = wire.len();
        wire.push(0);
        let mut octets = escaped.iter();
        while let Some(octet) = octets.next() {
            wire.push(match *octet {
                1 => match octets.next()? {
                    1 => 0,
                    2 => 1,
                    _ => return None,
                },
                other if other.is_ascii_uppercase() => return None,
                other => other,
            });
        }
        let length = u8::try_from(wire.len() - place - 1).ok()?;
        *wire.get_mut(place)? = length;
    }
    wire.extend_from_slice(origin.wire());
    Name::from_wire(wire.into()).ok()
}

/// What a store says of a zone, as octets.
#[must_use]
pub fn zone_value(origin: &Name, states: &ZoneStates) -> Vec<u8> {
    let present = u8::from(states.visible.is_some()) | u8::from(states.hidden.is_some()) << 1;
    let mut value = vec![present];
    for state in states.visible.iter().chain(&states.hidden) {
        value.extend_from_slice(&state.generation.0.to_be_bytes());
        value.extend_from_slice(&state.records.to_be_bytes());
        value.extend_from_slice(&state.version.0.to_be_bytes());
        value.extend_from_slice(&state.digest.to_bytes());
    }
    value.extend_from_slice(origin.wire());
    value
}

/// The origin and what a store says of the zone, from their octets.
///
/// # Errors
/// If they are not of the form that [`zone_value`] writes.
pub fn read_zone(value: &[u8]) -> Result<(Name, ZoneStates), MalformedRecord> {
    let (present, mut rest) = value.split_first().ok_or(MalformedRecord)?;
    if *present > 3 {
        return Err(MalformedRecord);
    }
    let mut state = |bit: u8| {
        if present & bit == 0 {
            return Some(None);
        }
        let (generation, after) = rest.split_first_chunk::<8>()?;
        let (records, after) = after.split_first_chunk::<8>()?;
        let (version, after) = after.split_first_chunk::<8>()?;
        let (digest, after) = after.split_first_chunk::<32>()?;
        rest = after;
        Some(Some(ZoneState {
            generation: Generation(u64::from_be_bytes(*generation)),
            records: u64::from_be_bytes(*records),
            version: Offset(u64::from_be_bytes(*version)),
            digest: Digest::from_bytes(*digest),
        }))
    };
    let visible = state(1).ok_or(MalformedRecord)?;
    let hidden = state(2).ok_or(MalformedRecord)?;
    let origin = Name::from_wire(Bytes::copy_from_slice(rest)).map_err(|_| MalformedRecord)?;
    if *origin.wire() != rest {
        return Err(MalformedRecord);
    }
    Ok((origin, ZoneStates { visible, hidden }))
}

#[cfg(test)]
#[allow(clippy::cast_possible_truncation)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn name() -> impl Strategy<Value = Name> {
        let octet = prop_oneof![Just(0u8), Just(1), Just(2), any::<u8>()];
        let label = prop::collection::vec(octet, 1..5);
        prop::collection::vec(label, 0..5).prop_map(|labels| {
            let mut wire = Vec::new();
            for label in labels {
                wire.push(label.len() as u8);
                wire.extend(label);
            }
            wire.push(0);
            Name::from_wire(wire.into()).unwrap()
        })
    }

    #[test]
    fn what_reads_is_what_is_written_and_other_octets_are_refused() {
        let (root, generation) = (Name::root(), Generation(1));
        let owner = Name::from_wire(Bytes::from_static(b"\x03a\0\x01\0")).unwrap();
        let key = record_key(generation, &root, &owner, Rtype::A, RecordId(2));
        let value = record_value(60, Offset(2), &[192, 0, 2, 1]);
        assert!(read_record(&root, &key, &value).is_ok());
        assert_eq!(key.get(8..14), Some(&[b'a', 1, 1, 1, 2, 0][..]));
        for (place, octet) in [(8, b'A'), (10, 3), (10, 0xff), (12, 3)] {
            let mut other = key.clone();
            other[place] = octet;
            assert_eq!(read_record(&root, &other, &value), Err(MalformedRecord), "{octet}");
        }
        let zone = Name::parse_origin("a").unwrap();
        let value = zone_value(&zone, &ZoneStates::default());
        assert!(read_zone(&value).is_ok());
        for (place, octet) in [(0, 4), (0, 0x80), (2, b'A')] {
            let mut other = value.clone();
            other[place] = octet;
            assert_eq!(read_zone(&other), Err(MalformedRecord), "{octet}");
        }
    }

    proptest! {
        #[test]
        fn keys_sort_as_names_do(a in name(), b in name()) {
            let root = Name::root();
            let (ka, kb) = (owner_prefix(Generation(1), &root, &a), owner_prefix(Generation(1), &root, &b));
            prop_assert_eq!(ka.cmp(&kb), a.cmp(&b));
            prop_assert_eq!(zone_key(&a).cmp(&zone_key(&b)), a.cmp(&b));
            prop_assert!(a == b || !ka.starts_with(&kb), "an owner's range holds no other owner");
        }

        #[test]
        fn a_record_reads_back(owner in name(), rtype: u16, id: u64, ttl: u32, version: u64, rdata: Vec<u8>) {
            for origin in [Name::root(), owner.clone(), owner.parent().unwrap_or_else(Name::root)] {
                let record = Record {
                    id: RecordId(id), version: Offset(version), owner: owner.clone(),
                    rtype: Rtype::from_int(rtype), ttl, rdata: rdata.clone().into(),
                };
                let key = record_key(Generation(7), &origin, &owner, record.rtype, record.id);
                let value = record_value(ttl, record.version, &rdata);
                prop_assert_eq!(read_record(&origin, &key, &value), Ok(record));
            }
        }

        #[test]
        fn a_zone_reads_back(origin in name(), visible: Option<(u64, u64, u64)>, hidden: Option<(u64, u64, u64)>) {
            let state = |(generation, records, version)| ZoneState {
                generation: Generation(generation), records, version: Offset(version),
                digest: Digest::from_bytes([records as u8; 32]),
            };
            let states = ZoneStates { visible: visible.map(state), hidden: hidden.map(state) };
            prop_assert_eq!(read_zone(&zone_value(&origin, &states)), Ok((origin, states)));
        }

        #[test]
        fn no_octets_make_it_panic(key: Vec<u8>, value: Vec<u8>) {
            let _ = read_zone(&value);
            let _ = read_record(&Name::root(), &key, &value);
        }
    }
}
