//! Station 1, the API: how a zone becomes what a zone file says, from one view of it: by nothing, by
//! one change set, or by a hidden generation in chunks.

use edgesync_core::{
    Rtype,
    fold::ZoneState,
    limits::{CHANGE_OVERHEAD_OCTETS, SET_CHANGES, SET_OCTETS},
    name::Name,
    position::Offset,
    rdata,
    record::Record,
    stage::{Operation, RecordData, Target},
    zone_file,
};

use crate::log::View;

/// Changes that are kept free in a set: the beginning and the publication of a generation.
const SPARE_CHANGES: usize = 2;
/// Records of the zone that are read at a time.
const PAGE_RECORDS: usize = 10_000;

/// How large a change set may be.
#[derive(Clone, Copy, Debug)]
pub(in crate::api) struct SetLimits {
    pub(in crate::api) changes: usize,
    pub(in crate::api) octets: usize,
}

impl Default for SetLimits {
    fn default() -> Self {
        let spare_octets = SPARE_CHANGES * CHANGE_OVERHEAD_OCTETS;
        Self { changes: SET_CHANGES - SPARE_CHANGES, octets: SET_OCTETS - spare_octets }
    }
}

/// How a zone becomes what a file says.
#[derive(Debug)]
pub(super) enum Plan {
    /// It is so already.
    Nothing,
    /// There is no such zone, and it fits one set.
    Create(Vec<RecordData>),
    /// By the difference, which fits one set, to the zone's version that was seen.
    Change { operations: Vec<Operation>, seen: Offset },
    /// By a hidden generation, if the zone has still the version that was seen, 0 for none.
    Replace {
        /// What each set of it has.
        chunks: Vec<Vec<RecordData>>,
        /// The version that was seen.
        seen: Offset,
        /// What goes, if there is such a zone.
        replaced: Option<Replaced>,
    },
}

/// What a zone loses that is replaced.
#[derive(Clone, Copy, Debug)]
pub(super) struct Replaced {
    /// Number of its records; all of them go.
    pub(super) records: u64,
    /// Records that are not again in what takes its place, without the SOA.
    pub(super) differ: u64,
}

/// Why there is no plan.
#[derive(Debug, thiserror::Error)]
pub(super) enum PlanError {
    /// The zone cannot be read.
    #[error("the store failed: {0}")]
    Store(#[from] redb::Error),
    /// Rule 3: an import's serial has to rise.
    #[error("the file changes records but not the SOA's serial {0}: raise it")]
    SerialStays(u32),
}

/// Plans how the zone becomes what is wanted.
pub(super) fn plan(
    view: &View,
    zone: &Name,
    wanted: &[RecordData],
    limits: SetLimits,
) -> Result<Plan, PlanError> {
    let Some(state) = view.zone(zone)? else {
        let records = distinct(wanted);
        return Ok(if limits.hold(records.iter().map(of_data)) {
            Plan::Create(records)
        } else {
            Plan::Replace { chunks: limits.chunks(records), seen: Offset::ZERO, replaced: None }
        });
    };
    let now = read_zone(view, zone, &state)?;
    let soa = now.iter().find(|record| record.rtype == Rtype::SOA).cloned();
    let operations = zone_file::difference(now, wanted.to_vec());
    if operations.is_empty() {
        return Ok(Plan::Nothing);
    }
    let changes_soa = |soa: &&Record| operations.iter().any(|op| is_about(op, soa));
    if let Some(soa) = soa.as_ref().filter(|soa| !changes_soa(soa)) {
        return Err(PlanError::SerialStays(rdata::soa_serial(&soa.rdata).unwrap_or(0)));
    }
    let seen = state.version;
    Ok(if limits.hold(operations.iter().map(of_operation)) {
        Plan::Change { operations, seen }
    } else {
        let chunks = limits.chunks(distinct(wanted));
        let is_soa = |op: &Operation| soa.as_ref().is_some_and(|soa| is_about(op, soa));
        let goes = |op: &&Operation| !matches!(op, Operation::Create(_)) && !is_soa(op);
        let differ = operations.iter().filter(goes).count() as u64;
        Plan::Replace { chunks, seen, replaced: Some(Replaced { records: state.records, differ }) }
    })
}

fn read_zone(view: &View, zone: &Name, state: &ZoneState) -> Result<Vec<Record>, redb::Error> {
    let (mut records, mut after) = (Vec::new(), None::<Vec<u8>>);
    loop {
        let (page, last) = view.records(zone, state.generation, after.as_deref(), PAGE_RECORDS)?;
        let is_last = page.len() < PAGE_RECORDS;
        records.extend(page);
        if is_last {
            return Ok(records);
        }
        after = last;
    }
}

/// The records, each once.
fn distinct(wanted: &[RecordData]) -> Vec<RecordData> {
    let creates = zone_file::difference(Vec::new(), wanted.to_vec()).into_iter();
    let record = |operation| match operation {
        Operation::Create(data) => Some(data),
        _ => None,
    };
    creates.filter_map(record).collect()
}

fn is_about(operation: &Operation, record: &Record) -> bool {
    match operation {
        Operation::Edit { target: Target::Id { id, .. }, .. }
        | Operation::Delete(Target::Id { id, .. }) => *id == record.id,
        _ => false,
    }
}

/// What a change takes of a set, as the stage counts it.
const fn of_data(data: &RecordData) -> usize {
    octets(&data.owner, data.rdata.len())
}

fn of_operation(operation: &Operation) -> usize {
    match operation {
        Operation::Create(data) | Operation::Delete(Target::Exact(data)) => of_data(data),
        Operation::Edit { target: Target::Exact(data), rdata, .. } => {
            octets(&data.owner, rdata.as_ref().unwrap_or(&data.rdata).len())
        }
        // The difference gives an edit all of its RDATA.
        Operation::Edit { target: Target::Id { owner, .. }, rdata, .. } => {
            octets(owner, rdata.as_ref().map_or(0, bytes::Bytes::len))
        }
        Operation::Delete(Target::Id { owner, .. }) => octets(owner, 0),
    }
}

const fn octets(owner: &Name, rdata: usize) -> usize {
    owner.wire().len() + rdata + CHANGE_OVERHEAD_OCTETS
}

impl SetLimits {
    /// True if changes of these sizes fit one set.
    fn hold(self, sizes: impl ExactSizeIterator<Item = usize>) -> bool {
        sizes.len() <= self.changes && sizes.sum::<usize>() <= self.octets
    }

    /// Divides the records of a zone among sets, in canonical order of the owners: the SOA is in the
    /// first, which every set's check wants there. They may be cut anywhere, since each set is
    /// checked on what those before it have written.
    fn chunks(self, mut records: Vec<RecordData>) -> Vec<Vec<RecordData>> {
        records.sort_by(|a, b| {
            let key = |data: &RecordData| data.rtype != Rtype::SOA;
            a.owner.cmp(&b.owner).then_with(|| key(a).cmp(&key(b)))
        });
        let (mut chunks, mut chunk, mut used) = (Vec::new(), Vec::new(), 0_usize);
        for data in records {
            let size = of_data(&data);
            let full = chunk.len() >= self.changes || used.saturating_add(size) > self.octets;
            if full && !chunk.is_empty() {
                chunks.push(std::mem::take(&mut chunk));
                used = 0;
            }
            used = used.saturating_add(size);
            chunk.push(data);
        }
        chunks.push(chunk);
        // One set begins a generation, another one publishes it.
        if chunks.len() == 1 {
            chunks.push(Vec::new());
        }
        chunks
    }
}
