//! Store keys and values: what is read writes back to the same octets, so that no two octet strings
//! mean one record, and damage that still reads is not taken for a record (invariant 17).

use bytes::Bytes;
use edgesync_core::{
    Rtype,
    change::Generation,
    digest::Digest,
    fold::{ZoneState, ZoneStates},
    key::{read_record, read_zone, record_key, record_value, zone_value},
    name::Name,
    position::Offset,
    record::RecordId,
};

use crate::input::{Input, sized};

/// Origin in wire form, key, value; the value is also read as that of a zone.
pub fn run(input: &[u8]) {
    let mut input = Input(input);
    let (origin, key) = (input.octets(), input.octets());
    let value = input.rest();
    let origin = Name::from_wire(Bytes::copy_from_slice(origin)).unwrap_or_else(|_| Name::root());
    if let Ok(record) = read_record(&origin, key, value) {
        crate::name::check(&record.owner);
        assert!(record.owner.is_within(&origin));
        let (generation, _) = key.split_first_chunk::<8>().expect("it was read");
        let generation = Generation(u64::from_be_bytes(*generation));
        let again = record_key(generation, &origin, &record.owner, record.rtype, record.id);
        assert_eq!(again, key, "one record has one key");
        assert_eq!(record_value(record.ttl, record.version, &record.rdata), value);
    }
    if let Ok((origin, states)) = read_zone(value) {
        crate::name::check(&origin);
        assert_eq!(zone_value(&origin, &states), value, "one state has one value");
    }
}

pub fn seeds() -> Vec<(&'static str, Vec<u8>)> {
    let name = |text: &str| Name::parse_origin(text).expect("a seed's name");
    let seed = |origin: &str, owner: &str, rdata: &[u8]| {
        let (origin, owner) = (name(origin), name(owner));
        let key = record_key(Generation(7), &origin, &owner, Rtype::TXT, RecordId(9));
        let value = record_value(300, Offset(12), rdata);
        [sized(origin.wire()), sized(&key), value].concat()
    };
    let state = |generation| ZoneState {
        generation: Generation(generation),
        records: 3,
        digest: Digest::from_bytes([7; 32]),
        version: Offset(9),
    };
    let zone = |visible, hidden| {
        let states = ZoneStates { visible, hidden };
        [sized(&[0]), sized(&[]), zone_value(&name("example.com."), &states)].concat()
    };
    vec![
        ("record", seed("example.com.", "www.example.com.", b"\x03abc")),
        ("apex", seed("example.com.", "example.com.", b"")),
        ("root", seed(".", ".", b"\0")),
        ("escaped", seed(".", "\\000\\001\\002.a.", b"x")),
        ("zone-visible", zone(Some(state(1)), None)),
        ("zone-both", zone(Some(state(1)), Some(state(5)))),
        ("zone-none", zone(None, None)),
    ]
}
