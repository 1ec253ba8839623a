//! The scrub: reads everything that the store holds and compares it with what proves it, so that
//! damage is found while there is still a backup without it (invariant 17). It runs in the
//! background, step by step; each step has a view of its own, so that none is held for longer than
//! it takes to read one zone.
//!
//! What proves what: the digest a zone's records, the records the index of ids, the list of
//! generations the zones, the history hash the log, and the log the audit.

use std::{
    collections::HashSet,
    fmt::{self, Display},
    time::{Duration, SystemTime},
};

use edgesync_core::{
    change::Generation,
    digest::Digest,
    fold::{ZoneState, ZoneStates},
    key,
    name::Name,
    position::Offset,
};
use redb::ReadableTable;
use tokio::{
    sync::watch,
    task::{JoinError, spawn_blocking},
    time::{Instant, timeout},
};

use super::{
    Log, View,
    corrupt::{corrupt, guarded, in_order},
    schema::{self, GARBAGE, GENERATIONS, IDS, RECORDS, ZONES, micros},
    seal::unseal,
    view::ReadError,
};

/// Time from the end of one scrub to the beginning of the next.
const EVERY: Duration = Duration::from_secs(24 * 3_600);
/// A pause is so many times what the step before it took: a tenth of one core, and of the disk.
const PAUSE: u32 = 9;
/// Octets of the log that one step reads, about.
const LOG_OCTETS: usize = 1024 * 1024;

const FAULTS: &str = "edgesync_control_scrub_faults";
const RECORDS_TOTAL: &str = "edgesync_control_scrub_records_total";
const LAST_END: &str = "edgesync_control_scrub_end_time_seconds";
const LAST_TOOK: &str = "edgesync_control_scrub_duration_seconds";

/// One reading of everything, on its way.
#[derive(Debug, Default)]
pub struct Scrub {
    next: Next,
    /// True when the process ends: a zone may take long to read, and nobody waits for it.
    stop: Option<watch::Receiver<bool>>,
    /// Zones read so far.
    pub zones: u64,
    /// Records read so far.
    pub records: u64,
    /// What was found that is not what was written; 0 is good.
    pub faults: u64,
}

/// Reads the next part; false if all is read.
type Step = fn(&mut Scrub, &Log) -> bool;

/// What the next step reads.
#[derive(Debug)]
enum Next {
    /// The zone after a key.
    Zone(Vec<u8>),
    /// The list of generations.
    Generations,
    /// The log after an offset.
    Log(Offset),
    /// Nothing: all is read.
    End,
}

impl Default for Next {
    fn default() -> Self {
        Self::Zone(Vec::new())
    }
}

/// What proves a generation's records.
#[derive(PartialEq, Eq)]
struct Sum {
    records: u64,
    digest: Digest,
}

impl Display for Sum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} records of digest {}", self.records, self.digest)
    }
}

impl Scrub {
    /// Reads the next part. False if all is read. What cannot be read is a fault like any other,
    /// and the scrub goes on with what can.
    pub fn step(&mut self, log: &Log) -> bool {
        let next = std::mem::replace(&mut self.next, Next::End);
        let read = log.view().and_then(|view| match &next {
            Next::Zone(after) => {
                let key = self.zone(&view, after)?;
                Ok(key.map_or(Next::Generations, Next::Zone))
            }
            Next::Generations => self.generations(&view).map(|()| Next::Log(Offset::ZERO)),
            Next::Log(after) => {
                // What was compacted away since the last step is nothing to be read.
                let after = (*after).max(view.floor()?.offset);
                let entries = match view.entries(after, LOG_OCTETS) {
                    Ok(entries) => entries,
                    Err(ReadError::Store(error)) => return Err(error),
                    Err(ReadError::Compacted { .. }) => Vec::new(),
                };
                entries.iter().try_for_each(|entry| view.audit(entry.last).map(drop))?;
                Ok(entries.last().map_or(Next::End, |entry| Next::Log(entry.last)))
            }
            Next::End => Ok(Next::End),
        });
        self.next = read.unwrap_or_else(|error| {
            self.fault(error);
            match next {
                Next::Zone(_) => Next::Generations,
                Next::Generations => Next::Log(Offset::ZERO),
                Next::Log(_) | Next::End => Next::End,
            }
        });
        !matches!(self.next, Next::End)
    }

    /// Says how it went.
    fn tell(&self, took: Duration) {
        let Self { zones, records, faults, .. } = self;
        tracing::info!(zones, records, faults, ?took, "the log's store is scrubbed");
        metrics::gauge!(FAULTS).set(number(*faults));
        metrics::gauge!(LAST_TOOK).set(took);
        metrics::gauge!(LAST_END).set(Duration::from_micros(micros(SystemTime::now())));
    }

    /// Takes a fault down.
    fn fault(&mut self, what: impl Display) {
        self.faults = self.faults.saturating_add(1);
        tracing::error!("the log's store is damaged: {what}; restore a backup");
        metrics::gauge!(FAULTS).set(number(self.faults));
    }

    /// Reads the zone after a key; gives back its own key.
    fn zone(&mut self, view: &View, after: &[u8]) -> Result<Option<Vec<u8>>, redb::Error> {
        // One octet more than a key is the least key above it.
        let from = if after.is_empty() { Vec::new() } else { [after, &[0]].concat() };
        let row = guarded(|| {
            let zones = view.transaction.open_table(ZONES)?;
            let row = zones.range(from.as_slice()..)?.next().transpose()?;
            Ok(row.map(|(key, value)| (key.value().to_vec(), value.value().to_vec())))
        })?;
        let Some((key, value)) = row else { return Ok(None) };
        in_order(&key, &from)?;
        self.zones = self.zones.saturating_add(1);
        match schema::read_zone(&key, &value) {
            Ok((origin, states)) => self.records_of(view, &origin, &states),
            Err(error) => self.fault(error),
        }
        Ok(Some(key))
    }

    /// Compares the records of a zone with what is said of them.
    fn records_of(&mut self, view: &View, origin: &Name, states: &ZoneStates) {
        for state in states.visible.iter().chain(&states.hidden) {
            let ZoneState { generation, records, digest, .. } = *state;
            let said = Sum { records, digest };
            match self.sum(view, origin, generation) {
                Ok(None) => return,
                Ok(Some(found)) => {
                    self.records = self.records.saturating_add(found.records);
                    metrics::counter!(RECORDS_TOTAL).increment(found.records);
                    if found != said {
                        self.fault(format!("the zone {origin} has {found}, not {said}"));
                    }
                }
                Err(error) => self.fault(format!("the zone {origin}: {error}")),
            }
        }
    }

    /// Looks for zones that are lost: each generation is a zone's, or is being removed.
    fn generations(&mut self, view: &View) -> Result<(), redb::Error> {
        let mut lost = Vec::new();
        guarded(|| {
            let generations = view.transaction.open_table(GENERATIONS)?;
            let garbage = view.transaction.open_table(GARBAGE)?;
            let garbage = garbage.iter()?.map(|row| Ok(row?.0.value().1));
            let garbage = garbage.collect::<Result<HashSet<u64>, redb::StorageError>>()?;
            for row in generations.iter()? {
                let (generation, origin) = row?;
                let generation = Generation(generation.value());
                let origin = schema::read_origin(generation.0, origin.value())?;
                let known = view.zone_states(&origin)?.of(generation).is_some();
                if !known && !garbage.contains(&generation.0) {
                    lost.push((origin, generation));
                }
            }
            Ok(())
        })?;
        for (origin, Generation(generation)) in lost {
            self.fault(format!("the zone {origin} has lost its generation {generation}"));
        }
        Ok(())
    }

    /// Count and digest of a generation's records, read one by one; each is in the index of ids.
    /// None if the process ends.
    fn sum(
        &self,
        view: &View,
        origin: &Name,
        generation: Generation,
    ) -> Result<Option<Sum>, redb::Error> {
        guarded(|| {
            let records = view.transaction.open_table(RECORDS)?;
            let ids = view.transaction.open_table(IDS)?;
            let prefix = key::generation_prefix(generation);
            let mut sum = Sum { records: 0, digest: Digest::empty() };
            for row in records.range(prefix.as_slice()..)? {
                let (key, value) = row?;
                if !key.value().starts_with(&prefix) {
                    break;
                }
                if self.stopped() {
                    return Ok(None);
                }
                let record = schema::read_record(origin, key.value(), value.value())?;
                sum.records = sum.records.saturating_add(1);
                sum.digest = sum.digest.plus(&record);
                let id = record.id.0.to_be_bytes();
                let indexed = ids.get(record.id.0)?;
                let indexed = indexed.as_ref().map(|stem| unseal(&IDS, &id, stem.value()));
                if indexed.transpose()? != key.value().strip_suffix(&id) {
                    let what = format!("the index of ids has not the record {}", record.id);
                    return Err(corrupt(what));
                }
            }
            Ok(Some(sum))
        })
    }

    fn stopped(&self) -> bool {
        self.stop.as_ref().is_some_and(|stop| *stop.borrow())
    }
}

impl Log {
    /// Scrubs at once, and then once a day, until `stop` turns true. Nothing of it holds the log
    /// open after that.
    pub async fn keep_scrubbing(self, stop: watch::Receiver<bool>) {
        self.keep_stepping(Scrub::step, stop).await;
    }

    /// A scrub that fails ends the day's, and none of those after it.
    async fn keep_stepping(self, step: Step, mut stop: watch::Receiver<bool>) {
        loop {
            let started = Instant::now();
            match self.scrub(step, &mut stop).await {
                Ok(None) => return,
                Ok(Some(scrub)) => scrub.tell(started.elapsed()),
                Err(error) => {
                    tracing::error!(%error, "the scrub of the log's store has failed; it begins anew in a day");
                }
            }
            if pause(EVERY, &mut stop).await {
                return;
            }
        }
    }

    /// Scrubs once, slowly; none if it was stopped.
    async fn scrub(
        &self,
        step: Step,
        stop: &mut watch::Receiver<bool>,
    ) -> Result<Option<Scrub>, JoinError> {
        let mut scrub = Scrub { stop: Some(stop.clone()), ..Scrub::default() };
        loop {
            let (started, log) = (Instant::now(), self.clone());
            let stepped = spawn_blocking(move || {
                let more = step(&mut scrub, &log);
                (scrub, more)
            });
            let more;
            (scrub, more) = stepped.await?;
            if pause(started.elapsed().saturating_mul(PAUSE), stop).await {
                return Ok(None);
            }
            if !more {
                return Ok(Some(scrub));
            }
        }
    }
}

/// Waits; true if it was stopped.
async fn pause(time: Duration, stop: &mut watch::Receiver<bool>) -> bool {
    timeout(time, stop.wait_for(|stop| *stop)).await.is_ok()
}

/// A count as a metric's value; exact up to 2^53.
#[allow(clippy::cast_precision_loss)]
const fn number(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
#[allow(clippy::panic)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;
    use crate::log::Options;

    #[tokio::test(start_paused = true)]
    async fn a_scrub_that_panics_is_not_the_last() {
        static STEPS: AtomicU32 = AtomicU32::new(0);
        let dir = tempfile::tempdir().unwrap();
        let log = Log::open(&Options::of_a_test(dir.path()));
        let step: Step = |_, _| match STEPS.fetch_add(1, Ordering::Relaxed) {
            0 => panic!("a test's panic"),
            _ => false,
        };
        let (stop, stopped) = watch::channel(false);
        let scrubbing = tokio::spawn(log.unwrap().keep_stepping(step, stopped));
        tokio::time::sleep(EVERY * 2).await;
        stop.send_replace(true);
        scrubbing.await.unwrap();
        assert!(STEPS.load(Ordering::Relaxed) >= 2);
    }
}
