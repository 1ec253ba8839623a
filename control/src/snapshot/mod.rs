//! Snapshots for edges whose next change is gone from the log, and for zones that have drifted. Each
//! is a file, made once from one consistent view, and read by all who need it (rule 18). Of those who
//! need one only so many are served at once; the others are told when to come back.

mod file;
mod make;
mod slots;

use std::{
    io,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use edgesync_core::{
    edge_id::EdgeId,
    position::Offset,
    session::Filter,
    snapshot::{Chunk, Manifest, Scope, Staged},
};
use edgesync_host::aside;
use tokio::{sync::Notify, task::spawn_blocking};

pub use self::make::MakeError;
use self::{
    file::SnapshotFile,
    slots::{Slot, Slots},
};
use crate::log::{Log, View};

/// How long a snapshot that nobody reads is kept: edges that were cut off come back for it.
const KEPT: Duration = Duration::from_secs(600);
/// Changes since a snapshot, for each of its records, with which making a new one is no gain.
const REUSED_PER_RECORD: u64 = 1;
/// Changes since a snapshot with which a new one is never made.
const REUSED: u64 = 10_000;
/// When to ask again if there is no slot.
pub const BUSY_RETRY: Duration = Duration::from_secs(5);
/// When to ask again if none can be made.
const FAILED_RETRY: Duration = Duration::from_secs(30);

/// A handle on the snapshots. Cheap to clone.
#[derive(Clone)]
pub struct Snapshots {
    shared: Arc<Shared>,
}

struct Shared {
    log: Log,
    dir: PathBuf,
    slots: Arc<Slots>,
    /// One is made at a time; who waits here may find it made.
    making: tokio::sync::Mutex<()>,
    files: Mutex<Vec<Kept>>,
}

/// A snapshot that is there, and when it was last asked for.
struct Kept {
    file: Arc<SnapshotFile>,
    filter: Filter,
    used: Instant,
}

/// A snapshot in use by one session.
pub struct Lease {
    file: Arc<SnapshotFile>,
    /// The first chunk that the edge has not.
    pub next: u32,
    /// None when the edge has all of it.
    slot: Option<Slot>,
}

impl Lease {
    /// What the snapshot has.
    #[must_use]
    pub fn manifest(&self) -> &Manifest {
        &self.file.manifest
    }

    /// The edge has all chunks before this one. One that has all of them takes no place any more, however
    /// long it looks at them.
    pub fn has_come_to(&mut self, next: u32) {
        if next < self.manifest().chunks {
            self.slot.iter().for_each(|slot| slot.moves(Instant::now()));
        } else if let Some(slot) = self.slot.take() {
            slot.finish();
        }
    }

    /// Notified when another edge has got the place, because this one has not come further for a while.
    #[must_use]
    pub fn lost(&self) -> Option<Arc<Notify>> {
        self.slot.as_ref().map(Slot::lost)
    }

    /// Reads a chunk.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub async fn chunk(&self, index: u32) -> io::Result<Chunk> {
        let file = Arc::clone(&self.file);
        let read = spawn_blocking(move || file.chunk(index)).await;
        read.unwrap_or_else(|error| Err(io::Error::other(error)))
    }
}

/// Why there is no snapshot now.
#[derive(Debug, thiserror::Error)]
pub enum Busy {
    /// As many are being sent as may be.
    #[error("as many snapshots are being sent as may be: this edge's turn comes")]
    Slots,
    /// The release is frozen, and there is none of what is released.
    #[error("the release is frozen, and no snapshot was made of it before")]
    Frozen,
    /// It could not be made.
    #[error("the snapshot could not be made: {0}")]
    Failed(#[from] MakeError),
}

impl Busy {
    /// When to ask again.
    #[must_use]
    pub const fn retry_after(&self) -> Duration {
        match self {
            Self::Slots => BUSY_RETRY,
            Self::Frozen | Self::Failed(_) => FAILED_RETRY,
        }
    }
}

impl Snapshots {
    /// Snapshots of a log, in a directory that is emptied first; so many are sent at once.
    ///
    /// # Errors
    /// If the directory cannot be used.
    pub fn open(log: Log, dir: PathBuf, at_once: usize) -> io::Result<Self> {
        // The directory itself stays: a full disk may have no room for a new one.
        std::fs::create_dir_all(&dir)?;
        for entry in std::fs::read_dir(&dir)? {
            std::fs::remove_file(entry?.path())?;
        }
        let slots = Slots::new(at_once);
        let (making, files) = (tokio::sync::Mutex::default(), Mutex::default());
        Ok(Self { shared: Arc::new(Shared { log, dir, slots, making, files }) })
    }

    fn files(&self) -> MutexGuard<'_, Vec<Kept>> {
        self.shared.files.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A snapshot of what an edge with a filter is to have, and not of before what it has, as far as the log
    /// goes (invariant 8): the one that it has begun to take, if it is still there, else one that is or
    /// is made.
    ///
    /// # Errors
    /// If there is none for it now.
    pub async fn get(
        &self,
        edge: &EdgeId,
        scope: Scope,
        filter: Filter,
        from: Offset,
        staged: Option<Staged>,
    ) -> Result<Lease, Busy> {
        let slot = self.shared.slots.take(edge, Instant::now()).ok_or(Busy::Slots)?;
        let lease = |file: Arc<SnapshotFile>, next| {
            let mut lease = Lease { file, next, slot: Some(slot) };
            lease.has_come_to(next);
            lease
        };
        let begun = staged.and_then(|staged| self.begun(&scope, &filter, from, staged));
        if let Some((file, next)) = begun {
            return Ok(lease(file, next));
        }
        let _making = self.shared.making.lock().await;
        if let Some(file) = self.there(&scope, &filter, from) {
            return Ok(lease(file, 0));
        }
        let head = *self.shared.log.head().borrow();
        if self.shared.log.frozen().is_some_and(|freeze| freeze.released != head) {
            return Err(Busy::Frozen);
        }
        let file = self.make(scope, filter, None).await.inspect_err(|error| {
            tracing::error!(%error, "a snapshot could not be made");
        })?;
        Ok(lease(file, 0))
    }

    /// Makes a snapshot of all zones, as a view shows them, for those who will need one while the
    /// release is frozen.
    pub async fn prepare(&self, view: View) {
        let _making = self.shared.making.lock().await;
        if let Err(error) = self.make(Scope::Store, Filter::All, Some(view)).await {
            tracing::warn!(%error, "no snapshot of the frozen release could be made");
        }
    }

    /// The snapshot that an edge has a part of.
    fn begun(
        &self,
        scope: &Scope,
        filter: &Filter,
        from: Offset,
        staged: Staged,
    ) -> Option<(Arc<SnapshotFile>, u32)> {
        let least = from.min(self.shared.log.released().borrow().offset);
        let mut files = self.files();
        let kept = files.iter_mut().find(|kept| {
            let manifest = &kept.file.manifest;
            let is_it = manifest.id == staged.id && manifest.scope == *scope;
            is_it && manifest.position.offset >= least && kept.filter == *filter
        })?;
        kept.used = Instant::now();
        let next = staged.next.min(kept.file.manifest.chunks);
        Some((Arc::clone(&kept.file), next))
    }

    /// A snapshot that is there and does as well as a new one. A repair is always made anew: it has
    /// to stand where the edge's session is.
    fn there(&self, scope: &Scope, filter: &Filter, from: Offset) -> Option<Arc<SnapshotFile>> {
        let head = self.shared.log.released().borrow().offset;
        let does = |kept: &&mut Kept| {
            let Manifest { position, records, .. } = &kept.file.manifest;
            let worth = REUSED.max(records.saturating_mul(REUSED_PER_RECORD));
            let since = head.since(position.offset);
            let is_new_enough = position.offset >= from.min(head) && since <= worth;
            position.offset <= head && is_new_enough && kept.filter == *filter
        };
        let mut files = self.files();
        let mut whole = files.iter_mut().filter(|kept| kept.file.manifest.scope == Scope::Store);
        let kept = whole.rfind(does).filter(|_| *scope == Scope::Store)?;
        kept.used = Instant::now();
        Some(Arc::clone(&kept.file))
    }

    async fn make(
        &self,
        scope: Scope,
        filter: Filter,
        view: Option<View>,
    ) -> Result<Arc<SnapshotFile>, MakeError> {
        let (log, dir) = (self.shared.log.clone(), self.shared.dir.clone());
        let wanted = filter.clone();
        let make = move || make::make(&log, &dir, scope, &wanted, view);
        let made = aside::run("snapshot", make).await;
        let file = Arc::new(made.map_err(|error| MakeError::Panicked(error.to_string()))??);
        let kept = Kept { file: Arc::clone(&file), filter, used: Instant::now() };
        self.files().push(kept);
        Ok(file)
    }

    /// Lets go of the snapshots that nobody has asked for in a while; with them go their pins.
    pub fn tidy(&self) {
        let gone = |kept: &mut Kept| {
            let idle = Arc::strong_count(&kept.file) == 1;
            let is_repair = kept.file.manifest.scope != Scope::Store;
            idle && (is_repair || kept.used.elapsed() >= KEPT)
        };
        let frozen = self.shared.log.frozen().is_some();
        let old: Vec<Kept> = {
            let mut files = self.files();
            files.extract_if(.., |kept| !frozen && gone(kept)).collect()
        };
        // Their files are removed here, without the lock.
        drop(old);
        let files = self.files();
        let octets: u64 = files.iter().map(|kept| kept.file.octets()).sum();
        metrics::gauge!("edgesync_control_snapshot_files").set(count(files.len() as u64));
        metrics::gauge!("edgesync_control_snapshot_bytes").set(count(octets));
    }

    /// The lowest offset that a snapshot still stands at, for people.
    #[must_use]
    pub fn oldest(&self) -> Option<Offset> {
        self.files().iter().map(|kept| kept.file.manifest.position.offset).min()
    }
}

/// A count as a metric's value; exact up to 2^53.
#[allow(clippy::cast_precision_loss)]
const fn count(number: u64) -> f64 {
    number as f64
}

#[cfg(test)]
mod tests {
    use edgesync_core::name::Name;

    use super::*;
    use crate::log::Options;

    #[tokio::test(flavor = "multi_thread")]
    async fn an_edge_that_has_all_of_its_snapshot_takes_no_turn_any_more() {
        let dir = tempfile::tempdir().unwrap();
        let options = Options {
            dir: dir.path().to_owned(),
            cache_bytes: 8 << 20,
            recent_bytes: 1 << 20,
            queue_bytes: 1 << 20,
            min_free_bytes: 0,
        };
        let log = Log::open(&options).unwrap();
        let snapshots = Snapshots::open(log, dir.path().join("snapshots"), 1).unwrap();
        let zone = || Scope::Zone(Name::parse_origin("example.com").unwrap());
        let get = async |edge: &str, scope| {
            snapshots.get(&edge.parse().unwrap(), scope, Filter::All, Offset::ZERO, None).await
        };
        let whole = get("a", zone()).await.unwrap();
        assert_eq!((whole.manifest().chunks, whole.next), (0, 0), "there is no such zone");
        let mut first = get("b", Scope::Store).await.expect("the other has all of it");
        assert!(first.lost().is_none(), "and so has this one, of an empty log");
        first.slot = snapshots.shared.slots.take(&"b".parse().unwrap(), Instant::now());
        assert!(matches!(get("c", Scope::Store).await, Err(Busy::Slots)));
        first.has_come_to(first.manifest().chunks);
        assert!(get("c", Scope::Store).await.is_ok(), "it looks at what it has, without a turn");
    }
}
