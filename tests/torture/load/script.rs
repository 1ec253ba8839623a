//! A short load that is always the same: every kind of change set once or a few times.

use super::ZONE;
use crate::oracle::{Change, Line, Set};

/// Records of what is larger than a batch of the edge.
const LARGE: u32 = 600;

/// Change sets, in their order.
pub struct Script {
    /// The sets.
    pub sets: Vec<Set>,
}

fn line(owner: &str, number: u32) -> Line {
    Line {
        owner: owner.to_owned(),
        ttl: 60 + number,
        rtype: "TXT",
        rdata: format!("\"n-{number}\""),
    }
}

/// A set that creates a zone with some records.
pub fn zone(origin: &str, records: u32) -> Set {
    let data = |rtype, rdata| Line { owner: origin.to_owned(), ttl: 60, rtype, rdata };
    let soa = data("SOA", format!("ns.{origin} h.{origin} 1 7200 900 1209600 300"));
    let ns = data("NS", format!("ns.{origin}"));
    let more = (0..records).map(|n| line(&format!("n{n}.{origin}"), 0));
    let lines = [soa, ns].into_iter().chain(more).map(Change::Create);
    Set {
        zone: origin.to_owned(),
        changes: std::iter::once(Change::ZoneCreate).chain(lines).collect(),
    }
}

fn slot(owners: u32, number: u32) -> Set {
    let changes = (0..owners).map(|n| {
        let owner = format!("m{n}-{owners}.{ZONE}");
        match number {
            0 => Change::Create(line(&owner, 0)),
            _ => Change::Replace(line(&owner, number - 1), line(&owner, number)),
        }
    });
    Set { zone: ZONE.to_owned(), changes: changes.collect() }
}

impl Script {
    /// The script.
    pub fn new() -> Self {
        Self::of(LARGE)
    }

    /// The script with so many records in what is large.
    pub fn of(large: u32) -> Self {
        let gone = || Set { zone: "large.example.".to_owned(), changes: vec![Change::ZoneDelete] };
        let mut sets = vec![zone(ZONE, 0), slot(4, 0), slot(large, 0), slot(4, 1)];
        sets.push(zone("large.example.", large));
        sets.extend((2..6).map(|number| slot(4, number)));
        sets.extend([slot(large, 1), gone(), zone("small.example.", 10)]);
        sets.extend((6..10).map(|number| slot(4, number)));
        sets.extend([slot(large, 2), zone("large.example.", large), slot(4, 10), gone()]);
        Self { sets }
    }
}
