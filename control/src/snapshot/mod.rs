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

/// How long a snapshot is kept that nobody reads, since edges that were cut off come back for it; and how long the
/// log waits for those who have begun to read it and do not come further (rule 23).
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
    making: Arc<tokio::sync::Mutex<()>>,
    files: Mutex<Vec<Kept>>,
}

/// A snapshot that is there, and for which edges.
struct Kept {
    file: Arc<SnapshotFile>,
    filter: Filter,
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
        self.file.note_use();
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
        let (making, files) = (Arc::default(), Mutex::default());
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
        let making = Arc::clone(&self.shared.making).lock_owned().await;
        if let Some(file) = self.there(&scope, &filter, from) {
            return Ok(lease(file, 0));
        }
        // Whoever asked may go away meanwhile. What is begun is finished all the same, and found by who
        // comes next; else several would be made at once, each with a file and a pin, for nobody.
        let this = self.clone();
        let made = tokio::spawn(async move {
            let _making = making;
            this.make_for(scope, filter).await
        });
        let made = made.await.map_err(|error| MakeError::Panicked(error.to_string()))?;
        Ok(lease(made?, 0))
    }

    /// Makes a snapshot of what is released, and keeps it.
    async fn make_for(&self, scope: Scope, filter: Filter) -> Result<Arc<SnapshotFile>, Busy> {
        let head = *self.shared.log.head().borrow();
        if self.shared.log.frozen().is_some_and(|freeze| freeze.released != head) {
            return Err(Busy::Frozen);
        }
        let file = self.make(scope, &filter, None).await.inspect_err(|error| {
            tracing::error!(%error, "a snapshot could not be made");
        })?;
        // It was frozen meanwhile, at less than what is in it.
        let frozen = self.shared.log.frozen();
        if frozen.is_some_and(|freeze| freeze.released.offset < file.manifest.position.offset) {
            return Err(Busy::Frozen);
        }
        self.files().push(Kept { file: Arc::clone(&file), filter });
        Ok(file)
    }

    /// Makes a snapshot of all zones, as a view shows them, for those who will need one while the
    /// release is frozen.
    pub async fn prepare(&self, view: View) {
        let _making = self.shared.making.lock().await;
        match self.make(Scope::Store, &Filter::All, Some(view)).await {
            Ok(file) => self.files().push(Kept { file, filter: Filter::All }),
            Err(error) => {
                tracing::warn!(%error, "no snapshot of the frozen release could be made");
            }
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
        let files = self.files();
        let kept = files.iter().find(|kept| {
            let manifest = &kept.file.manifest;
            let is_it = manifest.id == staged.id && manifest.scope == *scope;
            let does = is_it && self.goes_on(&kept.file) && kept.filter == *filter;
            does && manifest.position.offset >= least
        })?;
        let next = staged.next.min(kept.file.manifest.chunks);
        Some((Arc::clone(&kept.file), next))
    }

    /// A snapshot that is there and does as well as a new one. A repair is always made anew: it has
    /// to stand where the edge's session is.
    fn there(&self, scope: &Scope, filter: &Filter, from: Offset) -> Option<Arc<SnapshotFile>> {
        let head = self.shared.log.released().borrow().offset;
        let does = |kept: &&Kept| {
            let Manifest { position, records, .. } = &kept.file.manifest;
            let worth = REUSED.max(records.saturating_mul(REUSED_PER_RECORD));
            let since = head.since(position.offset);
            let is_new_enough = position.offset >= from.min(head) && since <= worth;
            let is_for_it = self.goes_on(&kept.file) && kept.filter == *filter;
            position.offset <= head && is_new_enough && is_for_it
        };
        let files = self.files();
        let mut whole = files.iter().filter(|kept| kept.file.manifest.scope == Scope::Store);
        let kept = whole.rfind(does).filter(|_| *scope == Scope::Store)?;
        Some(Arc::clone(&kept.file))
    }

    /// True if the log goes on from a snapshot: who takes it need not come back for another one.
    fn goes_on(&self, file: &SnapshotFile) -> bool {
        file.is_pinned() && file.manifest.position.offset >= self.shared.log.floor()
    }

    async fn make(
        &self,
        scope: Scope,
        filter: &Filter,
        view: Option<View>,
    ) -> Result<Arc<SnapshotFile>, MakeError> {
        let (log, dir) = (self.shared.log.clone(), self.shared.dir.clone());
        let wanted = filter.clone();
        let make = move || make::make(&log, &dir, scope, &wanted, view);
        let made = aside::run("snapshot", make).await;
        Ok(Arc::new(made.map_err(|error| MakeError::Panicked(error.to_string()))??))
    }

    /// Lets go of the snapshots that nobody has asked for in a while, and of the log for those whose readers do
    /// not come further.
    pub fn tidy(&self, now: Instant) {
        let gone = |kept: &mut Kept| {
            let is_read = Arc::strong_count(&kept.file) > 1;
            let is_idle = kept.file.idle(now) >= KEPT;
            if is_idle {
                kept.file.unpin();
            }
            let is_repair = kept.file.manifest.scope != Scope::Store;
            !is_read && (is_repair || is_idle)
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
    use std::path::Path;

    use edgesync_core::{Rtype, name::Name, rdata, stage::RecordData};

    use super::*;
    use crate::{
        access::Authorized,
        log::{Action, Options, Write},
    };

    fn open(dir: &Path) -> (Log, Snapshots) {
        open_with(dir, 0)
    }

    fn open_with(dir: &Path, min_free_bytes: u64) -> (Log, Snapshots) {
        let options = Options { min_free_bytes, ..Options::of_a_test(dir) };
        let log = Log::open(&options).unwrap();
        let snapshots = Snapshots::open(log.clone(), dir.join("snapshots"), 1).unwrap();
        (log, snapshots)
    }

    /// A zone that is made anew; the head then.
    async fn write(log: &Log, origin: &str) -> Offset {
        let zone = Name::parse_origin(origin).unwrap();
        let soa = rdata::parse(Rtype::SOA, "ns root 1 2 3 4 5", &zone).unwrap();
        let soa = RecordData { owner: zone.clone(), rtype: Rtype::SOA, ttl: 60, rdata: soa };
        let authorized = Authorized::by_the_control_plane(zone, "test");
        let create = Write::new(authorized, Action::CreateZone(vec![soa]));
        log.commit(create).await.unwrap();
        log.head().borrow().offset
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn the_log_waits_for_who_takes_a_snapshot_and_not_for_who_has_stopped_to() {
        let dir = tempfile::tempdir().unwrap();
        let (log, snapshots) = open(dir.path());
        let made_at = write(&log, "example.com").await;
        let edge: EdgeId = "a".parse().unwrap();
        let get = async |staged| {
            snapshots.get(&edge, Scope::Store, Filter::All, Offset::ZERO, staged).await.unwrap()
        };
        let mut lease = get(None).await;
        let head = write(&log, "example.org").await;
        let now = Instant::now();
        for (after, floor) in [(KEPT / 2, made_at), (KEPT * 2, head)] {
            lease.has_come_to(0);
            snapshots.tidy(now + after);
            assert_eq!(log.compact(head).await.unwrap().floor, floor, "after {after:?}");
        }
        // Whoever comes for it is given one that the log goes on from.
        let staged = Some(Staged { id: lease.manifest().id, next: 0 });
        drop(lease);
        let again = get(staged).await;
        assert!(again.manifest().position.offset >= head);
        drop(again);
        snapshots.tidy(now + KEPT * 3);
        assert_eq!(snapshots.oldest(), None);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_snapshot_whose_session_has_ended_is_finished_and_found_by_the_next() {
        let dir = tempfile::tempdir().unwrap();
        let (log, snapshots) = open(dir.path());
        write(&log, "example.com").await;
        let edge: EdgeId = "a".parse().unwrap();
        let get = || snapshots.get(&edge, Scope::Store, Filter::All, Offset::ZERO, None);
        {
            let mut cut = std::pin::pin!(get());
            let begun = std::future::poll_fn(|context| {
                std::task::Poll::Ready(cut.as_mut().poll(context).is_pending())
            });
            assert!(begun.await, "it is being made");
        }
        // Until it is whole, no other one is begun.
        drop(snapshots.shared.making.lock().await);
        let made: Vec<_> = snapshots.files().iter().map(|kept| kept.file.manifest.id).collect();
        let lease = get().await.unwrap();
        assert_eq!(made, [lease.manifest().id]);
        assert_eq!(snapshots.files().len(), 1, "none was made beside it");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn without_room_no_snapshot_is_made_and_the_edge_comes_back() {
        let dir = tempfile::tempdir().unwrap();
        let (_log, snapshots) = open_with(dir.path(), u64::MAX);
        let edge: EdgeId = "a".parse().unwrap();
        let get = snapshots.get(&edge, Scope::Store, Filter::All, Offset::ZERO, None);
        let Err(busy) = get.await else { panic!("there is no room") };
        assert!(matches!(busy, Busy::Failed(MakeError::Space { .. })), "{busy}");
        assert_eq!(busy.retry_after(), FAILED_RETRY);
        let files = std::fs::read_dir(dir.path().join("snapshots")).unwrap();
        assert_eq!(files.count(), 0, "and nothing is left of it");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn an_edge_that_has_all_of_its_snapshot_takes_no_turn_any_more() {
        let dir = tempfile::tempdir().unwrap();
        let (_log, snapshots) = open(dir.path());
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
