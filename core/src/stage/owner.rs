//! The records of one owner name while a set is staged, and the rules that hold at one name.

use std::collections::HashMap;

use bytes::Bytes;

use super::{RecordData, Refusal};
use crate::{
    Rtype,
    limits::RRSET_RECORDS,
    name::Name,
    rdata,
    record::{Record, RecordId},
};

/// Types that may stand beside a CNAME (RFC 4035 section 2.5).
const BESIDE_CNAME: [Rtype; 3] = [Rtype::CNAME, Rtype::RRSIG, Rtype::NSEC];

/// The records of one owner name, before the set and after the operations so far.
pub(super) struct OwnerState {
    before: Vec<Record>,
    /// By type and canonical RDATA, because that is what is equal (rule 5).
    after: HashMap<(Rtype, Bytes), Record>,
}

fn content(rtype: Rtype, rdata: &Bytes) -> (Rtype, Bytes) {
    (rtype, rdata::canonical(rtype, rdata))
}

impl OwnerState {
    pub(super) fn new(before: Vec<Record>) -> Self {
        let keyed = before.iter().map(|record| (content(record.rtype, &record.rdata), record));
        let after = keyed.map(|(key, record)| (key, record.clone())).collect();
        Self { before, after }
    }

    pub(super) fn by_id(&self, id: RecordId) -> Option<Record> {
        self.after.values().find(|record| record.id == id).cloned()
    }

    pub(super) fn by_content(&self, data: &RecordData) -> Option<Record> {
        let found = self.after.get(&content(data.rtype, &data.rdata));
        found.filter(|record| record.ttl == data.ttl).cloned()
    }

    /// The other records of a record's RRset.
    pub(super) fn others_of_rrset(&self, one: &Record) -> Vec<Record> {
        let mut others: Vec<_> = self.after.values().filter(|r| r.rrset() == one.rrset()).collect();
        others.retain(|record| record.id != one.id);
        others.sort_unstable_by_key(|record| record.id);
        others.into_iter().cloned().collect()
    }

    pub(super) fn remove(&mut self, id: RecordId) {
        self.after.retain(|_, record| record.id != id);
    }

    pub(super) fn insert(&mut self, record: Record) -> Result<(), Refusal> {
        let (owner, rtype) = (record.owner.clone(), record.rtype);
        match self.after.insert(content(rtype, &record.rdata), record) {
            Some(there) => Err(Refusal::Duplicate { owner, rtype, id: there.id }),
            None => Ok(()),
        }
    }

    /// Checks the rules that hold at one name.
    pub(super) fn check(&self, owner: &Name, is_origin: bool) -> Result<(), Refusal> {
        let mut rrsets: HashMap<(Rtype, Rtype), (u32, usize)> = HashMap::new();
        let mut types: HashMap<Rtype, usize> = HashMap::new();
        for record in self.after.values() {
            *types.entry(record.rtype).or_default() += 1;
            let (ttl, count) = rrsets.entry(record.rrset()).or_insert((record.ttl, 0));
            *count += 1;
            let (owner, rtype) = (owner.clone(), record.rtype);
            if *ttl != record.ttl {
                let (ttl, other) = (record.ttl.min(*ttl), record.ttl.max(*ttl));
                return Err(Refusal::MixedTtl { owner, rtype, ttl, other });
            }
            if *count > RRSET_RECORDS {
                return Err(Refusal::RrsetTooLarge { owner, rtype, count: *count });
            }
        }
        let has_cname = types.contains_key(&Rtype::CNAME);
        if has_cname && types.keys().any(|rtype| !BESIDE_CNAME.contains(rtype)) {
            return Err(Refusal::CnameNotAlone(owner.clone()));
        }
        let single = [Rtype::CNAME, Rtype::DNAME].into_iter();
        if let Some((rtype, &count)) =
            single.filter_map(|rtype| types.get_key_value(&rtype)).find(|(_, count)| **count > 1)
        {
            return Err(Refusal::NotSingle { owner: owner.clone(), rtype: *rtype, count });
        }
        match (is_origin, types.get(&Rtype::SOA).copied().unwrap_or(0)) {
            (true, 1) | (false, 0) => Ok(()),
            (true, count) => Err(Refusal::SoaCount { zone: owner.clone(), count }),
            (false, _) => Err(Refusal::SoaNotAtOrigin(owner.clone())),
        }
    }

    /// The SOA as the operations so far have left it.
    pub(super) fn soa(&self) -> Option<Record> {
        self.after.values().find(|record| record.rtype == Rtype::SOA).cloned()
    }

    fn soa_before(&self) -> Option<&Record> {
        self.before.iter().find(|record| record.rtype == Rtype::SOA)
    }

    /// True if the set changes the SOA.
    pub(super) fn soa_touched(&self) -> bool {
        self.soa_before() != self.soa().as_ref()
    }

    /// The serials before and after, if there was a SOA and is one.
    pub(super) fn serials(&self) -> Option<(u32, u32)> {
        let before = rdata::soa_serial(&self.soa_before()?.rdata)?;
        Some((before, rdata::soa_serial(&self.soa()?.rdata)?))
    }

    /// True if the origin has ZONEMD or RRSIG: a raised serial would break them (rule 3).
    pub(super) fn signed(&self) -> bool {
        self.after.values().any(|r| matches!(r.rtype, Rtype::ZONEMD | Rtype::RRSIG))
    }
}
