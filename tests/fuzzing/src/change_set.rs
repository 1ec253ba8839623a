//! Change sets: what decodes encodes to one form, stays within the limits of a set, and folds on a
//! store so that its count and digest are those of its records (invariant 4), or is refused.

use std::collections::BTreeMap;

use bytes::Bytes;
use edgesync_core::{
    Rtype,
    change::{Change, ChangeSet, Generation},
    fold::{ZoneStates, fold},
    limits::{RDATA_OCTETS, SET_CHANGES, TTL_SECONDS},
    name::Name,
    position::Offset,
    record::RecordId,
};
use edgesync_proto::convert::{decode_set, encode_set};

use crate::{
    assert_one_line,
    input::{Input, sized},
    model::ModelStore,
};

/// Encoded change sets, each behind its length, in the order of a log.
pub fn run(input: &[u8]) {
    let mut input = Input(input);
    let mut store = ModelStore::default();
    let mut zones: BTreeMap<Name, ZoneStates> = BTreeMap::new();
    let mut before = Offset::ZERO;
    while !input.is_empty() {
        let set = match decode_set(Bytes::copy_from_slice(input.octets())) {
            Ok(set) => set,
            Err(error) => {
                assert_one_line(&error);
                continue;
            }
        };
        check(&set);
        // What the session's envelope makes sure of before a set is applied (rule 11).
        if set.first <= before || set.last().since(set.first) + 1 != set.changes.len() as u64 {
            continue;
        }
        let (mut trial, states) = (store.clone(), zones.get(&set.zone).copied());
        let mut states = states.unwrap_or_default();
        match fold(&set, &mut states, &mut trial) {
            Ok(_) => {
                for state in states.visible.iter().chain(&states.hidden) {
                    let own = trial.recomputed(&set.zone, state.generation);
                    assert_eq!((state.records, state.digest), own, "{}", set.zone);
                    assert!(state.version <= set.last() && state.generation.0 <= set.last().0);
                }
                (store, before) = (trial, set.last());
                zones.insert(set.zone.clone(), states);
            }
            Err(error) => assert_one_line(&error),
        }
    }
}

/// What holds for each set that is decoded.
pub fn check(set: &ChangeSet) {
    let body = encode_set(set);
    let again = decode_set(body.clone());
    assert_eq!(again.as_ref(), Ok(set), "what decodes is encoded to what decodes to it");
    assert!((1..=SET_CHANGES).contains(&set.changes.len()));
    let mut count = 0;
    for (offset, change) in set.with_offsets() {
        count += 1;
        assert!(offset >= set.first && offset <= set.last().max(set.first));
        let (owner, ttl, rdata) = match change {
            Change::RecordCreate { owner, ttl, rdata, .. }
            | Change::RecordEdit { owner, ttl, rdata, .. } => (owner, *ttl, rdata.len()),
            Change::RecordDelete { owner, .. } => (owner, 0, 0),
            _ => continue,
        };
        assert!(owner.is_within(&set.zone), "rule 1: {owner} is not in {}", set.zone);
        assert!(ttl <= TTL_SECONDS && rdata <= RDATA_OCTETS, "rule 6");
        assert!(!change.to_string().contains(char::is_control));
    }
    assert_eq!(count, set.changes.len(), "each change has an offset");
}

/// A log of a zone's life: each kind of change is in it.
pub fn log() -> Vec<ChangeSet> {
    let zone = Name::parse_origin("example.com.").expect("a seed's name");
    let owner = Name::parse_origin("www.example.com.").expect("a seed's name");
    let (rtype, rdata) = (Rtype::A, Bytes::from_static(&[192, 0, 2, 1]));
    let create = || {
        let (owner, rdata) = (owner.clone(), rdata.clone());
        Change::RecordCreate { owner, rtype, ttl: 60, rdata }
    };
    let edit = |id| {
        let (id, owner, rdata) = (RecordId(id), owner.clone(), rdata.clone());
        Change::RecordEdit { id, owner, rtype, ttl: 0, rdata }
    };
    let delete = |id| Change::RecordDelete { id: RecordId(id), owner: owner.clone(), rtype };
    let steps = [
        (1, vec![Change::ZoneCreate, create(), create()]),
        (1, vec![edit(2)]),
        (1, vec![delete(3), create()]),
        (7, vec![Change::GenerationOpen, create()]),
        (7, vec![create(), Change::ZonePublish]),
        (11, vec![Change::GenerationOpen, create(), Change::GenerationDrop]),
        (7, vec![delete(8)]),
        (7, vec![Change::ZoneDelete]),
    ];
    let mut first = Offset(1);
    let mut sets = Vec::new();
    for (generation, changes) in steps {
        let (zone, generation) = (zone.clone(), Generation(generation));
        let set = ChangeSet { zone, generation, first, changes, override_guard: false };
        first = set.last().next();
        sets.push(set);
    }
    sets
}

pub fn seeds() -> Vec<(&'static str, Vec<u8>)> {
    let bodies: Vec<_> = log().iter().map(|set| sized(&encode_set(set))).collect();
    let mut last = log().remove(0);
    last.first = Offset(u64::MAX - 2);
    let mut outside = log().remove(0);
    outside.zone = Name::parse_origin("example.net.").expect("a seed's name");
    // Field 2000 of the oneof: a change of a later version.
    let later = [&encode_set(&log()[1])[..], &[0x22, 3, 0x82, 0x7d, 0]].concat();
    vec![
        ("life", bodies.concat()),
        ("one", bodies[0].clone()),
        ("out-of-order", [&bodies[0][..], &bodies[3], &bodies[1]].concat()),
        ("last-offset", sized(&encode_set(&last))),
        ("outside", sized(&encode_set(&outside))),
        ("later-version", sized(&later)),
    ]
}
