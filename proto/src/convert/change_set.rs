//! Change sets: encoded once, at commit; decoded at each edge.

use bytes::Bytes;
use edgesync_core::{
    Rtype,
    change::{Change, ChangeSet, Generation},
    limits::{RDATA_OCTETS, SET_CHANGES, TTL_SECONDS},
    name::Name,
    position::Offset,
    record::RecordId,
};
use prost::{
    DecodeError, Message,
    encoding::{DecodeContext, decode_key, skip_field},
};

use super::ConvertError;
use crate::v1::{self, change::Change as Wire};

/// The bytes of a change set that the log stores and edges get.
#[must_use]
pub fn encode_set(set: &ChangeSet) -> Bytes {
    let changes = set.changes.iter().map(|change| v1::Change { change: Some(encode(change)) });
    let wire = v1::ChangeSet {
        zone: set.zone.wire().clone(),
        generation: set.generation.0,
        first: set.first.0,
        changes: changes.collect(),
        override_guard: set.override_guard,
    };
    wire.encode_to_vec().into()
}

/// The change set of its bytes.
///
/// # Errors
/// If they are not what [`encode_set`] makes, have a change that this version does not know, or are
/// beyond what a set may be (rules 1 and 6).
pub fn decode_set(body: Bytes) -> Result<ChangeSet, ConvertError> {
    let encoding = |e: DecodeError| ConvertError::Encoding(e.to_string());
    // A change of four octets takes two hundred when decoded: counted first (invariant 15).
    match count_changes(body.clone()).map_err(encoding)? {
        0 => return Err(ConvertError::Missing("changes")),
        1..=SET_CHANGES => {}
        _ => return Err(ConvertError::Range("the number of changes")),
    }
    let wire = v1::ChangeSet::decode(body).map_err(encoding)?;
    // Offsets begin at 1, and each change has one.
    let after_first = wire.changes.len().saturating_sub(1) as u64;
    if wire.first == 0 || wire.first.checked_add(after_first).is_none() {
        return Err(ConvertError::Range("first"));
    }
    let zone = Name::from_wire(wire.zone)?;
    let changes = wire.changes.into_iter().enumerate().map(|(index, change)| {
        let change = decode(change.change.ok_or(ConvertError::UnknownChange(index))?)?;
        within_limits(&zone, &change).map(|()| change)
    });
    let changes = changes.collect::<Result<_, _>>()?;
    Ok(ChangeSet {
        zone,
        generation: Generation(wire.generation),
        first: Offset(wire.first),
        changes,
        override_guard: wire.override_guard,
    })
}

/// The zone of an encoded set, whatever its changes are: also of those that this version does not know.
///
/// # Errors
/// If the bytes are no set, or have no zone.
pub fn zone_of_set(mut body: Bytes) -> Result<Name, ConvertError> {
    let encoding = |e: DecodeError| ConvertError::Encoding(e.to_string());
    let mut zone = None;
    while !body.is_empty() {
        let (field, wire_type) = decode_key(&mut body).map_err(encoding)?;
        if field == ZONE_FIELD {
            let octets = zone.insert(Bytes::new());
            let context = DecodeContext::default();
            prost::encoding::bytes::merge(wire_type, octets, &mut body, context)
                .map_err(encoding)?;
        } else {
            skip_field(wire_type, field, &mut body, DecodeContext::default()).map_err(encoding)?;
        }
    }
    Ok(Name::from_wire(zone.ok_or(ConvertError::Missing("zone"))?)?)
}

/// Number of the field `zone`.
const ZONE_FIELD: u32 = 1;
/// Number of the field `changes`.
const CHANGES_FIELD: u32 = 4;

/// How many changes an encoded set has, without decoding them.
fn count_changes(mut body: Bytes) -> Result<usize, DecodeError> {
    let mut count = 0;
    while !body.is_empty() {
        let (field, wire_type) = decode_key(&mut body)?;
        skip_field(wire_type, field, &mut body, DecodeContext::default())?;
        count += usize::from(field == CHANGES_FIELD);
    }
    Ok(count)
}

/// Checks what every committed change holds: its owner is in the set's zone, or its key would be
/// that of another name, and TTL and RDATA are what DNS can carry.
fn within_limits(zone: &Name, change: &Change) -> Result<(), ConvertError> {
    let (owner, ttl, octets) = match change {
        Change::RecordCreate { owner, ttl, rdata, .. }
        | Change::RecordEdit { owner, ttl, rdata, .. } => (owner, *ttl, rdata.len()),
        Change::RecordDelete { owner, .. } => (owner, 0, 0),
        _ => return Ok(()),
    };
    if !owner.is_within(zone) {
        let (owner, zone) = (owner.clone(), zone.clone());
        return Err(ConvertError::OutOfZone { owner, zone });
    }
    if ttl > TTL_SECONDS {
        return Err(ConvertError::Range("ttl"));
    }
    if octets > RDATA_OCTETS { Err(ConvertError::Range("rdata")) } else { Ok(()) }
}

fn encode(change: &Change) -> Wire {
    let number = |rtype: &Rtype| u32::from(rtype.to_int());
    match change {
        Change::RecordCreate { owner, rtype, ttl, rdata } => Wire::RecordCreate(v1::RecordCreate {
            owner: owner.wire().clone(),
            r#type: number(rtype),
            ttl: *ttl,
            rdata: rdata.clone(),
        }),
        Change::RecordEdit { id, owner, rtype, ttl, rdata } => Wire::RecordEdit(v1::RecordEdit {
            id: id.0,
            owner: owner.wire().clone(),
            r#type: number(rtype),
            ttl: *ttl,
            rdata: rdata.clone(),
        }),
        Change::RecordDelete { id, owner, rtype } => Wire::RecordDelete(v1::RecordDelete {
            id: id.0,
            owner: owner.wire().clone(),
            r#type: number(rtype),
        }),
        Change::ZoneCreate => Wire::ZoneCreate(v1::ZoneCreate {}),
        Change::ZoneDelete => Wire::ZoneDelete(v1::ZoneDelete {}),
        Change::GenerationOpen => Wire::GenerationOpen(v1::GenerationOpen {}),
        Change::ZonePublish => Wire::ZonePublish(v1::ZonePublish {}),
        Change::GenerationDrop => Wire::GenerationDrop(v1::GenerationDrop {}),
    }
}

fn decode(change: Wire) -> Result<Change, ConvertError> {
    let rtype = |number| {
        u16::try_from(number).map(Rtype::from_int).map_err(|_| ConvertError::Range("type"))
    };
    Ok(match change {
        Wire::RecordCreate(v1::RecordCreate { owner, r#type, ttl, rdata }) => {
            Change::RecordCreate {
                owner: Name::from_wire(owner)?,
                rtype: rtype(r#type)?,
                ttl,
                rdata,
            }
        }
        Wire::RecordEdit(v1::RecordEdit { id, owner, r#type, ttl, rdata }) => Change::RecordEdit {
            id: RecordId(id),
            owner: Name::from_wire(owner)?,
            rtype: rtype(r#type)?,
            ttl,
            rdata,
        },
        Wire::RecordDelete(v1::RecordDelete { id, owner, r#type }) => Change::RecordDelete {
            id: RecordId(id),
            owner: Name::from_wire(owner)?,
            rtype: rtype(r#type)?,
        },
        Wire::ZoneCreate(_) => Change::ZoneCreate,
        Wire::ZoneDelete(_) => Change::ZoneDelete,
        Wire::GenerationOpen(_) => Change::GenerationOpen,
        Wire::ZonePublish(_) => Change::ZonePublish,
        Wire::GenerationDrop(_) => Change::GenerationDrop,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> ChangeSet {
        let owner = Name::parse_origin("www.example.com").unwrap();
        let (rtype, rdata) = (Rtype::A, Bytes::from_static(&[192, 0, 2, 1]));
        ChangeSet {
            zone: Name::parse_origin("example.com").unwrap(),
            generation: Generation(7),
            first: Offset(7),
            override_guard: true,
            changes: vec![
                Change::ZoneCreate,
                Change::RecordCreate { owner: owner.clone(), rtype, ttl: 60, rdata: rdata.clone() },
                Change::RecordEdit { id: RecordId(8), owner: owner.clone(), rtype, ttl: 0, rdata },
                Change::RecordDelete { id: RecordId(8), owner, rtype },
                Change::GenerationOpen,
                Change::ZonePublish,
                Change::GenerationDrop,
                Change::ZoneDelete,
            ],
        }
    }

    #[test]
    fn every_change_survives_the_wire() {
        assert_eq!(decode_set(encode_set(&sample())).unwrap(), sample());
    }

    #[test]
    fn a_change_of_a_later_version_is_refused_and_never_skipped() {
        // Field 2000 of the oneof: what an older edge sees of a change that it does not know.
        let mut wire = v1::ChangeSet::decode(encode_set(&sample())).unwrap();
        wire.changes.truncate(1);
        let mut body = wire.encode_to_vec();
        body.extend_from_slice(&[0x22, 3, 0x82, 0x7d, 0]);
        let body = Bytes::from(body);
        assert_eq!(decode_set(body.clone()), Err(ConvertError::UnknownChange(1)));
        assert_eq!(zone_of_set(body), Ok(sample().zone), "who wants it can be told");
    }

    #[test]
    fn the_zone_of_a_set_is_told_or_there_is_an_error() {
        let body = encode_set(&sample());
        for end in 0..body.len() {
            let told = zone_of_set(body.slice(..end));
            assert!(told.is_err() || told == Ok(sample().zone), "{end}: {told:?}");
        }
        assert_eq!(zone_of_set(Bytes::new()), Err(ConvertError::Missing("zone")));
        let root = ChangeSet { zone: Name::root(), ..sample() };
        assert_eq!(zone_of_set(encode_set(&root)), Ok(Name::root()));
    }

    #[test]
    fn what_no_set_may_be_is_refused() {
        let refused = |change: &dyn Fn(&mut ChangeSet)| {
            let mut set = sample();
            change(&mut set);
            decode_set(encode_set(&set)).unwrap_err()
        };
        let outside = refused(&|set| set.zone = Name::parse_origin("example.net").unwrap());
        assert_eq!(outside.to_string(), "www.example.com. is not in the zone example.net.");
        assert_eq!(refused(&|set| set.first = Offset(0)), ConvertError::Range("first"));
        assert_eq!(refused(&|set| set.first = Offset(u64::MAX - 6)), ConvertError::Range("first"));
        let edit = |set: &mut ChangeSet, new_ttl: u32, octets: usize| {
            if let Some(Change::RecordCreate { ttl, rdata, .. }) = set.changes.get_mut(1) {
                (*ttl, *rdata) = (new_ttl, vec![0; octets].into());
            }
        };
        assert_eq!(refused(&|set| edit(set, TTL_SECONDS + 1, 4)), ConvertError::Range("ttl"));
        assert_eq!(refused(&|set| edit(set, 1, RDATA_OCTETS + 1)), ConvertError::Range("rdata"));
        let many = refused(&|set| set.changes = vec![Change::ZoneDelete; SET_CHANGES + 1]);
        assert_eq!(many, ConvertError::Range("the number of changes"));
    }

    #[test]
    fn cut_bytes_are_refused_or_are_another_set_but_never_panic() {
        let body = encode_set(&sample());
        for end in 0..body.len() {
            assert_ne!(decode_set(body.slice(..end)).ok(), Some(sample()));
        }
    }
}
