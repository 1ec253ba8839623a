//! The past: what a zone was at an earlier offset, from what is and what was taken away since. It goes
//! back to the log's floor (rule 24).

use std::collections::BTreeMap;

use edgesync_core::{
    change::{Change, Generation},
    key,
    name::Name,
    position::Offset,
    record::Record,
};
use edgesync_proto::convert::{ConvertError, decode_set, zone_of_set};

use super::{
    ReadError, View,
    corrupt::malformed,
    schema::{self, GARBAGE, GENERATIONS, HISTORY, RECORDS},
};

/// Octets of the log that are read at a time.
const READ_OCTETS: usize = 1024 * 1024;

/// Why the past of a zone is not told.
#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    /// The store cannot be read.
    #[error("the store failed: {0}")]
    Store(redb::Error),
    /// The log does not reach back so far.
    #[error(
        "the log reaches back to offset {floor}, not to {offset}: what is older was compacted away"
    )]
    Compacted {
        /// What was asked for.
        offset: Offset,
        /// How far it reaches back.
        floor: Offset,
    },
    /// The offset is yet to come.
    #[error("the offset {offset} is beyond the head, which is {head}")]
    BeyondHead {
        /// What was asked for.
        offset: Offset,
        /// The head.
        head: Offset,
    },
    /// The zone was not there.
    #[error("there was no zone {zone} at offset {offset}")]
    NoZone {
        /// Its origin.
        zone: Name,
        /// When.
        offset: Offset,
    },
    /// The log cannot be read.
    #[error("the change set at offset {0} cannot be read: {1}")]
    Malformed(Offset, String),
}

impl<E: Into<redb::Error>> From<E> for HistoryError {
    fn from(error: E) -> Self {
        Self::Store(error.into())
    }
}

impl View {
    /// The records that a zone had when an offset was the last, in the order of their keys.
    ///
    /// # Errors
    /// If the log does not reach back so far, or there was no such zone then.
    pub fn zone_at(&self, zone: &Name, offset: Offset) -> Result<Vec<Record>, HistoryError> {
        let (floor, head) = (self.floor()?.offset, self.position()?.offset);
        if offset < floor {
            return Err(HistoryError::Compacted { offset, floor });
        }
        if offset > head {
            return Err(HistoryError::BeyondHead { offset, head });
        }
        let generation = self.generation_at(zone, offset)?;
        let generation = generation.ok_or(HistoryError::NoZone { zone: zone.clone(), offset })?;
        self.records_at(zone, generation, offset)
    }

    /// The generation that was visible: the one that the first switch since has replaced, or the
    /// present one if there was none.
    fn generation_at(
        &self,
        zone: &Name,
        offset: Offset,
    ) -> Result<Option<Generation>, HistoryError> {
        let mut after = offset;
        loop {
            let entries = self.entries(after, READ_OCTETS).map_err(|error| match error {
                ReadError::Store(error) => HistoryError::Store(error),
                ReadError::Compacted { floor, .. } => HistoryError::Compacted { offset, floor },
            })?;
            let Some(last) = entries.last() else { break };
            after = last.last;
            for entry in entries {
                let malformed =
                    |error: ConvertError| HistoryError::Malformed(entry.first, error.to_string());
                // Most are of other zones, and need not be read for that.
                if zone_of_set(entry.body.clone()).map_err(malformed)? != *zone {
                    continue;
                }
                let set = decode_set(entry.body.clone()).map_err(malformed)?;
                // The set that holds the offset itself counts as after it: it is all or nothing.
                let switches = |change: &Change| {
                    matches!(change, Change::ZoneCreate | Change::ZonePublish | Change::ZoneDelete)
                };
                if set.changes.iter().any(switches) {
                    return Ok(self.replaced_at(zone, entry.last)?);
                }
            }
        }
        Ok(self.zone(zone)?.map(|state| state.generation))
    }

    /// The generation of a zone that a change set has replaced or ended, if there was one.
    fn replaced_at(&self, zone: &Name, last: Offset) -> Result<Option<Generation>, redb::Error> {
        let garbage = self.transaction.open_table(GARBAGE)?;
        let generations = self.transaction.open_table(GENERATIONS)?;
        for row in garbage.range((last.0, 0)..=(last.0, u64::MAX))? {
            let (_, generation) = row?.0.value();
            let origin = generations.get(generation)?;
            let origin = origin.map(|origin| schema::read_origin(generation, origin.value()));
            if origin.transpose()?.is_some_and(|origin| origin == *zone) {
                return Ok(Some(Generation(generation)));
            }
        }
        Ok(None)
    }

    /// The records of a generation, with all that came after an offset undone, the last first.
    fn records_at(
        &self,
        zone: &Name,
        generation: Generation,
        offset: Offset,
    ) -> Result<Vec<Record>, HistoryError> {
        let prefix = key::generation_prefix(generation);
        let mut records = BTreeMap::new();
        let table = self.transaction.open_table(RECORDS)?;
        for row in table.range(prefix.as_slice()..)? {
            let (key, value) = row?;
            if !key.value().starts_with(&prefix) {
                break;
            }
            let value = schema::record_value(key.value(), value.value())?;
            records.insert(key.value().to_vec(), value.to_vec());
        }
        let history = self.transaction.open_table(HISTORY)?;
        for row in history.range((offset.next().0, [].as_slice())..)?.rev() {
            let (place, before) = row?;
            let (last, key) = place.value();
            if key.starts_with(&prefix) {
                let before = schema::read_history(last, key, before.value())?;
                records.insert(key.to_vec(), before.to_vec());
            }
        }
        let mut past = Vec::with_capacity(records.len());
        for (key, value) in records {
            let record = key::read_record(zone, &key, &value).map_err(malformed)?;
            if record.id.0 <= offset.0 {
                past.push(record);
            }
        }
        Ok(past)
    }
}
