//! The change sets that are measured: the same for the edge and for the bare store.

use bytes::Bytes;
use edgesync_core::{
    Rtype,
    change::{Change, ChangeSet, Generation},
    name::Name,
    position::{LogId, Offset, Position},
    rdata,
    record::RecordId,
    session::CommittedSet,
};
use edgesync_proto::convert::encode_set;

use crate::Failure;

/// Changes of one zone's set in the catch-up load.
pub const ZONE_CHANGES: u32 = 100;

/// A log in memory.
pub struct Load {
    /// The committed sets, as they travel.
    pub sets: Vec<CommittedSet>,
    /// Position after the last.
    pub head: Position,
    /// Number of changes.
    pub changes: u64,
}

impl Load {
    /// A log without changes.
    pub fn empty() -> Self {
        Self { sets: Vec::new(), head: Position::genesis(LogId([42; 16])), changes: 0 }
    }

    /// Adds a set at the head.
    pub fn push(&mut self, set: &ChangeSet) {
        let (prev, first, last) = (self.head.offset, set.first, set.last());
        let body = encode_set(set);
        self.head = self.head.after(last, &body);
        self.changes += set.changes.len() as u64;
        self.sets.push(CommittedSet { prev, first, last, hash: self.head.hash, body });
    }

    /// Zones of a hundred changes each, one set a zone: what an edge that has nothing takes.
    pub fn zones(zones: u32) -> Result<Self, Failure> {
        let mut load = Self::empty();
        for number in 0..zones {
            let origin = Name::parse_origin(&format!("zone-{number}.example"))?;
            let first = load.head.offset.next();
            let mut changes = vec![Change::ZoneCreate, soa(&origin)?];
            for host in 2..ZONE_CHANGES {
                changes.push(address(&origin, host, number)?);
            }
            let generation = Generation(first.0);
            load.push(&ChangeSet {
                zone: origin,
                generation,
                first,
                changes,
                override_guard: false,
            });
        }
        Ok(load)
    }

    /// One edit of a record in one of so many zones, as a set of its own, for each number: the live
    /// load, on top of [`Load::zones`].
    pub fn edit(&self, zones: u32, number: u32) -> Result<ChangeSet, Failure> {
        let zone = number.wrapping_mul(7_919) % zones;
        let host = 2 + number % (ZONE_CHANGES - 2);
        let origin = Name::parse_origin(&format!("zone-{zone}.example"))?;
        let generation = u64::from(zone) * u64::from(ZONE_CHANGES) + 1;
        let Change::RecordCreate { owner, rtype, .. } = address(&origin, host, zone)? else {
            return Err("an address is a create".into());
        };
        let id = RecordId(generation + u64::from(host));
        let rdata = Bytes::copy_from_slice(&number.to_be_bytes());
        let edit = Change::RecordEdit { id, owner, rtype, ttl: 60, rdata };
        let first = self.head.offset.next();
        Ok(ChangeSet {
            zone: origin,
            generation: Generation(generation),
            first,
            changes: vec![edit],
            override_guard: false,
        })
    }
}

fn soa(origin: &Name) -> Result<Change, Failure> {
    let rdata = rdata::parse(Rtype::SOA, "ns1 hostmaster 1 1800 900 604800 86400", origin)?;
    Ok(Change::RecordCreate { owner: origin.clone(), rtype: Rtype::SOA, ttl: 3_600, rdata })
}

fn address(origin: &Name, host: u32, zone: u32) -> Result<Change, Failure> {
    let owner = Name::parse(&format!("host-{host}"), origin)?;
    let rdata = Bytes::copy_from_slice(&(0xc612_0000 | zone << 4 | host & 15).to_be_bytes());
    Ok(Change::RecordCreate { owner, rtype: Rtype::A, ttl: 300, rdata })
}

/// The sets after an offset, up to so many octets but at least one.
pub fn after(sets: &[CommittedSet], after: Offset, octets: usize) -> Vec<CommittedSet> {
    let start = sets.partition_point(|set| set.first <= after);
    let mut left = octets;
    let fits = |set: &&CommittedSet| {
        let fits = left > 0;
        left = left.saturating_sub(set.credit());
        fits
    };
    sets.iter().skip(start).take_while(fits).cloned().collect()
}
