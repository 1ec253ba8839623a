//! The limit: sled alone, with the keys, order, old-value reads, batches and syncs that the edge
//! has, on one thread, from change sets that are decoded beforehand.

use std::{
    collections::{BTreeMap, HashMap},
    fs::File,
    path::Path,
    sync::mpsc::Receiver,
    time::{Duration, Instant},
};

use edgesync_core::{
    change::ChangeSet,
    fold::{self, Records, ZoneStates},
    key,
    limits::BATCH_RECORDS,
    name::Name,
};

use crate::{Failure, stats::Latencies};

/// Octets of a segment, as the edge's store has them: of smaller ones sled puts large pages into files that it never syncs.
const SEGMENT_OCTETS: usize = 8 << 20;

/// A bare store.
pub struct Bare {
    tree: sled::Db,
    file: File,
    zones: HashMap<Name, ZoneStates>,
    batch: Batch,
}

/// Writes that wait for one batch.
struct Batch {
    tree: sled::Db,
    writes: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
}

impl Records for Batch {
    type Error = sled::Error;
    type Value = Vec<u8>;

    fn get(&self, key: &[u8]) -> sled::Result<Option<Vec<u8>>> {
        match self.writes.get(key) {
            Some(waiting) => Ok(waiting.clone()),
            None => Ok(self.tree.get(key)?.map(|value| value.to_vec())),
        }
    }

    fn put(&mut self, key: Vec<u8>, value: Vec<u8>) -> sled::Result<()> {
        self.writes.insert(key, Some(value));
        Ok(())
    }

    fn remove(&mut self, key: Vec<u8>) -> sled::Result<()> {
        self.writes.insert(key, None);
        Ok(())
    }
}

impl Bare {
    /// An empty store, set as the edge sets its own.
    pub fn open(dir: &Path) -> Result<Self, Failure> {
        let config = sled::Config::new().path(dir).cache_capacity(64 << 20).flush_every_ms(None);
        let tree = config.segment_size(SEGMENT_OCTETS).open()?;
        tree.flush()?;
        let file = File::open(dir.join("db"))?;
        let batch = Batch { tree: tree.clone(), writes: BTreeMap::new() };
        Ok(Self { tree, file, zones: HashMap::new(), batch })
    }

    fn add(&mut self, set: &ChangeSet) -> Result<(), Failure> {
        let states = self.zones.entry(set.zone.clone()).or_default();
        fold::fold(set, states, &mut self.batch).map_err(|error| format!("{error:?}"))?;
        let value = key::zone_value(&set.zone, states);
        self.batch
            .writes
            .insert([b"z".as_slice(), &key::zone_key(&set.zone)].concat(), Some(value));
        Ok(())
    }

    /// Writes what waits, with a position, as one batch.
    fn write(&mut self, position: &[u8]) -> Result<(), Failure> {
        let mut batch = sled::Batch::default();
        for (key, value) in std::mem::take(&mut self.batch.writes) {
            match value {
                Some(value) => batch.insert(key, value),
                None => batch.remove(key),
            }
        }
        batch.insert(b"m", position);
        self.tree.apply_batch(batch)?;
        Ok(())
    }

    /// Makes what is written durable, as sled.md says.
    fn sync(&self) -> Result<(), Failure> {
        self.tree.flush()?;
        self.file.sync_data()?;
        Ok(())
    }

    /// Applies sets in batches, one sync for so many changes; changes a second.
    pub fn catch_up(&mut self, sets: &[ChangeSet], sync_changes: usize) -> Result<f64, Failure> {
        let started = Instant::now();
        let (mut waiting, mut unsynced, mut changes) = (0, 0, 0u32);
        for set in sets {
            if waiting > 0 && waiting + set.changes.len() > 2 * BATCH_RECORDS {
                self.write(&set.first.0.to_be_bytes())?;
                unsynced += std::mem::take(&mut waiting);
            }
            self.add(set)?;
            waiting += set.changes.len();
            changes += u32::try_from(set.changes.len())?;
            if waiting >= BATCH_RECORDS {
                self.write(&set.first.0.to_be_bytes())?;
                unsynced += std::mem::take(&mut waiting);
            }
            if unsynced >= sync_changes {
                self.sync()?;
                unsynced = 0;
            }
        }
        self.write(b"end")?;
        self.sync()?;
        Ok(f64::from(changes) / started.elapsed().as_secs_f64())
    }

    /// Applies sets as they arrive, all that wait in one durable batch; from arrival to durable.
    pub fn live(
        &mut self,
        arrivals: &Receiver<(Instant, ChangeSet)>,
    ) -> Result<Latencies, Failure> {
        let mut latencies = Latencies::new();
        while let Ok((at, set)) = arrivals.recv() {
            let mut group = vec![at];
            self.add(&set)?;
            while group.len() < BATCH_RECORDS
                && let Ok((at, set)) = arrivals.try_recv()
            {
                self.add(&set)?;
                group.push(at);
            }
            self.write(b"position")?;
            self.sync()?;
            let now = Instant::now();
            group.into_iter().for_each(|at| latencies.record(now - at));
        }
        Ok(latencies)
    }
}

/// One fdatasync after four octets written: what the disk asks for, beside which all else is seen.
pub fn raw_sync(dir: &Path, times: u32) -> Result<Duration, Failure> {
    use std::io::Write;
    let mut file = File::create(dir.join("raw"))?;
    let mut took = Vec::new();
    for number in 0..times {
        let started = Instant::now();
        file.write_all(&number.to_be_bytes())?;
        file.sync_data()?;
        took.push(started.elapsed());
    }
    took.sort_unstable();
    took.get(took.len() / 2).copied().ok_or_else(|| "no times".into())
}
