//! Station 6, opening: what a crash left is taken back or finished, and what was found is compared
//! with what is known of it. What disagrees is put aside, and an empty store begins (rule 26).

use std::{
    collections::VecDeque,
    ffi::OsStr,
    fs, io,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::Arc,
};

use edgesync_core::position::{Offset, Position};
use edgesync_host::reserve::Reserve;
use sled::IVec;

use super::{
    Distrust, OpenError, Store, StoreConfig, StoreError,
    engine::{Batch, DATABASE_FILE, Engine},
    error::{EngineFault, is_damage},
    group::Group,
    layout::{self, Place, StoredPosition, StoredSnapshot},
    pending, quarantine, unseen,
    view::{Gate, View, Zone},
    witness::{Mark, Witness},
};
use crate::{limits::RESERVE_OCTETS, metrics::StoreMetrics};

/// Name of sled's directory in a data directory.
pub(super) const STORE: &str = "store";
/// Name of the file that keeps room for the next opening.
const RESERVE: &str = "store.reserve";

/// Where things are in a data directory.
#[derive(Debug, Clone)]
pub(super) struct Paths {
    /// The data directory.
    pub dir: PathBuf,
    /// sled's directory.
    pub store: PathBuf,
    /// How far the store is known to have been durable.
    pub witness: PathBuf,
    /// There if the store is not to be trusted.
    pub distrust: PathBuf,
}

impl Paths {
    fn of(dir: &Path) -> Self {
        Self {
            dir: dir.to_owned(),
            store: dir.join(STORE),
            witness: dir.join("store.witness"),
            distrust: dir.join("store.distrusted"),
        }
    }
}

/// The file in a data directory that grows.
#[must_use]
pub fn database_file(data_dir: &Path) -> PathBuf {
    Paths::of(data_dir).store.join(DATABASE_FILE)
}

/// An error of a file, for `map_err`.
pub(super) fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> OpenError {
    let path = path.to_owned();
    move |source| OpenError::Io { action, path, source }
}

/// Why one try to open a store ended.
enum Refusal {
    /// It is to be put aside.
    Distrusted(Distrust),
    /// It stays, and the daemon does not start.
    Error(OpenError),
}

impl From<OpenError> for Refusal {
    fn from(error: OpenError) -> Self {
        Self::Error(error)
    }
}

impl From<Distrust> for Refusal {
    fn from(distrust: Distrust) -> Self {
        Self::Distrusted(distrust)
    }
}

/// Opens a store for the readers behind `gate`; `durable` is what is known to be durable in it, beside what the
/// witness says. Nothing is, once it was put aside: the empty one that takes its place is not behind it.
pub(super) fn open(
    config: StoreConfig,
    gate: Arc<Gate>,
    durable: &mut Option<Position>,
) -> Result<Store, OpenError> {
    let paths = Paths::of(&config.data_dir);
    fs::create_dir_all(&paths.dir).map_err(io_error("create", &paths.dir))?;
    match open_caught(config.clone(), &paths, Arc::clone(&gate), *durable) {
        Ok(store) => Ok(store),
        Err(Refusal::Error(error)) => Err(error),
        Err(Refusal::Distrusted(distrust)) => {
            quarantine::put_aside(&paths, &distrust)?;
            *durable = None;
            match open_caught(config, &paths, gate, None) {
                Ok(store) => Ok(Store { distrusted: Some(distrust), ..store }),
                Err(Refusal::Error(error)) => Err(error),
                Err(Refusal::Distrusted(again)) => Err(OpenError::Write {
                    dir: paths.store,
                    source: StoreError::Unusable(again.to_string()),
                }),
            }
        }
    }
}

/// Opens a store. A damaged file can make sled panic: that is an answer, not the end of the daemon.
fn open_caught(
    config: StoreConfig,
    paths: &Paths,
    gate: Arc<Gate>,
    durable: Option<Position>,
) -> Result<Store, Refusal> {
    let opened = catch_unwind(AssertUnwindSafe(|| open_trusted(config, paths, gate, durable)));
    opened.unwrap_or_else(|_| Err(Distrust::Unreadable("it panicked".to_owned()).into()))
}

fn open_trusted(
    config: StoreConfig,
    paths: &Paths,
    gate: Arc<Gate>,
    durable: Option<Position>,
) -> Result<Store, Refusal> {
    let witness = Witness::read(&paths.witness).map_err(io_error("read", &paths.witness))?;
    let marked = quarantine::marked(paths).map_err(io_error("read", &paths.distrust))?;
    if let Some(why) = marked {
        return Err(Distrust::DiskFailed(why).into());
    }
    give_room(&paths.dir);
    let engine = open_engine(paths, config.cache_octets)?;
    let stored = check_meta(&engine, paths)?;
    let unusable = |error| match error {
        StoreError::Malformed(what) => Refusal::Distrusted(Distrust::Malformed(what)),
        StoreError::Engine(error) => refusal_of(error, paths),
        source => OpenError::Write { dir: paths.store.clone(), source }.into(),
    };
    unseen::take_back(&engine).and_then(|()| pending::recover(&engine)).map_err(unusable)?;
    let position = stored.map(|stored| stored.position);
    let mut view = load_view(&engine, position).map_err(unusable)?;
    check_witness(&view, &witness)?;
    check_durable(&view, durable)?;
    view.db = Some(engine.db().clone());
    let mut store = Store {
        paths: paths.clone(),
        // What is empty is the fold of any filter.
        filter: stored.map_or_else(|| config.filter.hash(), |stored| stored.filter),
        records: view.totals.records,
        snapshot: load_snapshot(&engine).map_err(unusable)?,
        garbage: load_garbage(&engine).map_err(unusable)?,
        epoch: stored_epoch(&engine).map_err(unusable)?.max(witness.epoch).saturating_add(1),
        engine,
        gate,
        group: Group::default(),
        folding: false,
        durable: None,
        distrusted: None,
        reserve: None,
        keeps_room: true,
        metrics: StoreMetrics::default(),
        config,
    };
    store.begin(view).map_err(unusable)?;
    Ok(store)
}

impl Store {
    /// Writes down that the store is open, and lets readers in.
    fn begin(&mut self, view: View) -> Result<(), StoreError> {
        let mut batch = Batch::default();
        batch.insert(layout::FORMAT_KEY, &layout::FORMAT.to_be_bytes());
        batch.insert(layout::EPOCH_KEY, &self.epoch.to_be_bytes());
        self.engine.write(batch)?;
        let mut gate = self.gate.write();
        *gate = view;
        self.gate.set_epoch(self.epoch);
        drop(gate);
        self.sync()?;
        let known = Witness { epoch: self.epoch, mark: None };
        let told =
            if self.durable.is_none() { known.write(&self.paths.witness) } else { self.testify() };
        told.map_err(StoreError::Sync)?;
        self.keep_room();
        Ok(())
    }

    /// Keeps room for the next opening, as far as the disk has it.
    pub fn keep_room(&mut self) {
        let kept = keep_room(&self.paths, &mut self.reserve);
        if let (Err(error), true) = (&kept, self.keeps_room) {
            tracing::warn!(error, "no room is kept for the store's next opening");
        }
        self.keeps_room = kept.is_ok();
    }
}

/// Gives up the room that the last process has kept, for what sled and this write at every opening.
fn give_room(dir: &Path) {
    let kept = fs::metadata(dir.join(RESERVE)).map_or(0, |file| file.len());
    let given = Reserve::open(dir, RESERVE, kept).map(|reserve| reserve.give());
    if let Err(error) = given {
        tracing::warn!(%error, "the room kept for the store's opening cannot be given up");
    }
}

/// Keeps room for the next opening: a snapshot as large as sled's last, twice, and the files beside the store.
/// Without it an edge that is started on a full disk would not answer (invariant 14).
fn keep_room(paths: &Paths, kept: &mut Option<Reserve>) -> Result<(), String> {
    let is_snapshot = |name: &OsStr| name.to_string_lossy().starts_with("snap.");
    let entries = fs::read_dir(&paths.store).into_iter().flatten().filter_map(Result::ok);
    let snapshots = entries.filter(|entry| is_snapshot(&entry.file_name()));
    let octets: u64 = snapshots.filter_map(|entry| Some(entry.metadata().ok()?.len())).sum();
    let octets = octets.saturating_mul(2).saturating_add(RESERVE_OCTETS);
    if kept.as_ref().is_some_and(|kept| kept.is_whole() && kept.octets() == octets) {
        return Ok(());
    }
    let reserve = Reserve::open(&paths.dir, RESERVE, octets).map_err(|error| error.to_string())?;
    let taken = if reserve.is_whole() { Ok(()) } else { reserve.take() };
    *kept = Some(reserve);
    taken.map_err(|short| short.to_string())
}

/// Opens sled.
fn open_engine(paths: &Paths, cache_octets: u64) -> Result<Engine, Refusal> {
    Engine::open(&paths.store, cache_octets).map_err(|fault| match fault {
        EngineFault::Segments(octets) => Distrust::Segments(octets).into(),
        EngineFault::Io(error) if !is_damage(&error) => {
            io_error("open the store in", &paths.store)(error).into()
        }
        EngineFault::Io(error) => Distrust::Unreadable(error.to_string()).into(),
        EngineFault::Sled(error) => refusal_of(error, paths),
    })
}

/// What sled cannot read is distrusted; a disk that is full or not ours to use, or another version
/// of sled, is not the store's fault.
fn refusal_of(error: sled::Error, paths: &Paths) -> Refusal {
    match error {
        sled::Error::Io(error) if is_damage(&error) => {
            Distrust::Unreadable(error.to_string()).into()
        }
        source @ (sled::Error::Io(_) | sled::Error::Unsupported(_)) => {
            OpenError::Engine { dir: paths.store.clone(), source }.into()
        }
        error => Distrust::Unreadable(error.to_string()).into(),
    }
}

fn get(engine: &Engine, key: &[u8]) -> Result<Option<IVec>, Distrust> {
    engine.db().get(key).map_err(|error| Distrust::Unreadable(error.to_string()))
}

/// Format, position and filter of what was opened.
fn check_meta(engine: &Engine, paths: &Paths) -> Result<Option<StoredPosition>, Refusal> {
    match get(engine, layout::FORMAT_KEY)? {
        None if engine.db().is_empty() => return Ok(None),
        None => return Err(Distrust::Malformed("the version of the layout").into()),
        Some(found) => {
            let found = found.as_ref().try_into().map(u32::from_be_bytes);
            match found.map_err(|_| Distrust::Malformed("the version of the layout"))? {
                layout::FORMAT => {}
                found => return Err(OpenError::Format { dir: paths.store.clone(), found }.into()),
            }
        }
    }
    let Some(stored) = get(engine, layout::POSITION_KEY)? else { return Ok(None) };
    let stored = StoredPosition::decode(&stored).ok_or(Distrust::Malformed("the position"))?;
    Ok(Some(stored))
}

fn stored_epoch(engine: &Engine) -> Result<u64, StoreError> {
    let stored = engine.db().get(layout::EPOCH_KEY).map_err(StoreError::Engine)?;
    let Some(stored) = stored else { return Ok(0) };
    layout::number(&stored).ok_or(StoreError::Malformed("the boot epoch"))
}

fn load_view(engine: &Engine, position: Option<Position>) -> Result<View, StoreError> {
    let root = engine.db().get(layout::ROOT_KEY).map_err(StoreError::Engine)?;
    let root = root.map_or(Some(Place::default()), |root| Place::decode(&root));
    let root = root.ok_or(StoreError::Malformed("the root"))?;
    let mut view = View { position, root, ..View::default() };
    for found in engine.db().scan_prefix(root.prefix(layout::ZONE)).values() {
        let value = found.map_err(StoreError::Engine)?;
        let zone = layout::read_zone(&value);
        let (place, origin, states) = zone.ok_or(StoreError::Malformed("the state of a zone"))?;
        view.set(Zone { origin, place, states });
    }
    Ok(view)
}

/// Prefixes of what is garbage. One that is less than a place would take all with it.
fn load_garbage(engine: &Engine) -> Result<VecDeque<Vec<u8>>, StoreError> {
    let keys = engine.db().scan_prefix([layout::GARBAGE]).keys();
    keys.map(|key| {
        let key = key.map_err(StoreError::Engine)?;
        let prefix = key.get(1..).filter(|prefix| prefix.len() >= 5);
        prefix.map(<[u8]>::to_vec).ok_or(StoreError::Malformed("the prefix of garbage"))
    })
    .collect()
}

/// What was staged of a snapshot when the last process ended.
fn load_snapshot(engine: &Engine) -> Result<Option<StoredSnapshot>, StoreError> {
    let stored = engine.db().get(layout::SNAPSHOT_KEY).map_err(StoreError::Engine)?;
    let Some(stored) = stored else { return Ok(None) };
    let snapshot = StoredSnapshot::decode(&stored);
    snapshot.map(Some).ok_or(StoreError::Malformed("the mark of a snapshot"))
}

/// Compares what was found with what was durable before it was closed, which the witness may not say yet.
fn check_durable(view: &View, durable: Option<Position>) -> Result<(), Distrust> {
    let Some(Position { log, offset: known, .. }) = durable else { return Ok(()) };
    let found = view.position.filter(|found| found.log == log);
    let found = found.map_or(Offset::ZERO, |found| found.offset);
    if found < known { Err(Distrust::Behind { found, known, log }) } else { Ok(()) }
}

/// Compares what was found with what is known to have been durable.
fn check_witness(view: &View, witness: &Witness) -> Result<(), Distrust> {
    let Some(Mark { log, offset, records }) = witness.mark else { return Ok(()) };
    match view.position {
        None => Err(Distrust::Behind { found: Offset::ZERO, known: offset, log }),
        Some(found) if found.log != log => Err(Distrust::OtherLog { found: found.log, known: log }),
        Some(found) if found.offset < offset => {
            Err(Distrust::Behind { found: found.offset, known: offset, log })
        }
        Some(found) if found.offset == offset && view.totals.records != records => {
            Err(Distrust::Count { found: view.totals.records, known: records, offset })
        }
        Some(_) => Ok(()),
    }
}
