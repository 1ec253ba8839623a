//! Opening the log: what is there is checked before anything is written.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use edgesync_core::position::{LogId, Offset, Position};
use edgesync_host::reserve::Reserve;
use redb::{Builder, Database, ReadableDatabase, StorageBackend};
use tokio::sync::watch;

use super::{
    Freeze, Heard, Shared,
    backend::{LogFile, RESERVE},
    corrupt::guarded,
    pins::Pins,
    queue::Queue,
    recent::Recent,
    room::{self, Disk, LogRoom},
    schema::{
        self, AUDIT, FLEET, FORMAT, GARBAGE, GENERATIONS, HISTORY, IDS, KEYS, KEYS_BY_TIME, LOG,
        META, META_FORMAT, META_HEAD, RECORDS, Reader, ZONES,
    },
    sequencer::{Sequencer, Told},
    view::View,
};

/// How a log is opened.
#[derive(Clone, Debug)]
pub struct Options {
    /// Directory of the store; has to be there, and locked by the caller.
    pub dir: PathBuf,
    /// Octets of the store's page cache.
    pub cache_bytes: usize,
    /// Octets of the change sets kept in memory for sessions that are nearly up to date.
    pub recent_bytes: usize,
    /// Octets of the writes that wait for the sequencer; further callers wait before it.
    pub queue_bytes: usize,
    /// Octets that have to stay free on the directory's disk; below that writes are refused.
    pub min_free_bytes: u64,
}

#[cfg(test)]
impl Options {
    /// Those of a small log, for a test.
    pub fn of_a_test(dir: &std::path::Path) -> Self {
        let (cache_bytes, recent_bytes, queue_bytes) = (8 << 20, 1 << 20, 1 << 20);
        Self { dir: dir.to_owned(), cache_bytes, recent_bytes, queue_bytes, min_free_bytes: 0 }
    }
}

/// Why a log cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it.
    #[error("the log {0} is open in another process: stop that one, or use another data directory")]
    Locked(PathBuf),
    /// It was written by another version.
    #[error(
        "the log {path} has the format {found}, this version reads {FORMAT}: run the version that \
         wrote it, or use another data directory"
    )]
    Format {
        /// The file.
        path: PathBuf,
        /// What it says.
        found: String,
    },
    /// The store failed.
    #[error("the log {path} cannot be opened: {source}; if it is damaged, restore a backup")]
    Store {
        /// The file.
        path: PathBuf,
        /// What went wrong.
        source: redb::Error,
    },
    /// The file system failed.
    #[error("the log {path} cannot be opened: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What went wrong.
        source: io::Error,
    },
}

/// Name of the store's file.
const FILE: &str = "log.redb";

/// Opens the store in the options' directory, and starts its sequencer.
pub(super) fn open(options: &Options) -> Result<Shared, OpenError> {
    let path = options.dir.join(FILE);
    let io = |source| OpenError::Io { path: path.clone(), source };
    let sync_dir = || fs::File::open(&options.dir).and_then(|dir| dir.sync_all()).map_err(io);
    if !path.try_exists().map_err(io)? {
        // Under another name until it is whole: a crash in between leaves no file that is neither
        // empty nor a store, which redb would refuse for ever.
        let new = options.dir.join(format!("{FILE}.new"));
        fs::remove_file(&new).or_else(ignore_missing).map_err(io)?;
        let created = guarded(|| create(&Builder::new().create(&new)?));
        created.map_err(|error| refused(&path, error))?;
        fs::rename(&new, &path).map_err(io)?;
    }
    // The file's name is durable before anything in it is promised (invariant 1).
    let reserved = room::reserved(options.min_free_bytes);
    let reserve = Reserve::open(&options.dir, RESERVE, reserved);
    let reserve = Arc::new(reserve.map_err(io)?);
    sync_dir()?;
    let opened = guarded(|| Ok(LogFile::open(&path, Arc::clone(&reserve))?));
    let log_file = opened.map_err(|error| refused(&path, error))?;
    let place = log_file.place();
    let (dir, min_free) = (options.dir.clone(), options.min_free_bytes);
    let disk = Disk { dir, file: path.clone(), min_free, reserve };
    let shared =
        start(&path, options, Some(disk), |builder| builder.create_with_backend(log_file))?;
    Ok(Shared { place: Some(place), ..shared })
}

/// Opens the log on a backend of the caller's, and starts its sequencer.
pub(super) fn open_on(
    backend: impl StorageBackend,
    options: &Options,
) -> Result<Shared, OpenError> {
    let path = options.dir.join(FILE);
    start(&path, options, None, |builder| builder.create_with_backend(backend))
}

fn ignore_missing(error: io::Error) -> Result<(), io::Error> {
    if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) }
}

/// Why redb does not open a file.
fn refused(path: &Path, error: redb::Error) -> OpenError {
    let path = path.to_owned();
    match error {
        redb::Error::DatabaseAlreadyOpen => OpenError::Locked(path),
        redb::Error::UpgradeRequired(version) => {
            OpenError::Format { path, found: format!("redb {version}") }
        }
        source => OpenError::Store { path, source },
    }
}

/// Starts the sequencer on a thread of its own, over a store that `open` opens.
fn start(
    path: &Path,
    options: &Options,
    place: Option<Disk>,
    open: impl FnOnce(&Builder) -> Result<Database, redb::DatabaseError>,
) -> Result<Shared, OpenError> {
    let store = |source: redb::Error| refused(path, source);
    let mut builder = Builder::new();
    builder.set_cache_size(options.cache_bytes);
    let database = guarded(|| Ok(Arc::new(open(&builder)?))).map_err(store)?;
    let head = match read_head(&database, path)? {
        Some(head) => {
            View::new(&database).and_then(|view| view.check_ends()).map_err(store)?;
            head
        }
        None => guarded(|| create(&database)).map_err(store)?,
    };
    let recent = Arc::new(Recent::new(options.recent_bytes));
    let (freeze, floor) = read_release(&database).map_err(store)?;
    if let Some(Err(short)) = place.as_ref().map(|place| place.reserve.take()) {
        tracing::warn!(%short, "no room is kept for the log");
    }
    let (full, full_heard) = watch::channel(None);
    let room = LogRoom::new(place, full);
    let (told, shared) = tell(head, freeze, floor, full_heard);
    let (queue, jobs) = Queue::new(options.queue_bytes);
    let pins = Pins::default();
    let (database_kept, recent_kept) = (Arc::clone(&database), Arc::clone(&recent));
    let sequencer = Sequencer::new(database_kept, recent_kept, pins.clone(), told, room);
    let thread = std::thread::Builder::new().name("sequencer".to_owned());
    let started = thread.spawn(move || sequencer.run(&jobs));
    started.map_err(|source| OpenError::Io { path: path.to_owned(), source })?;
    let (path, min_free) = (path.to_owned(), options.min_free_bytes);
    let (place, heard) = (None, shared);
    Ok(Shared { path, min_free, place, database, queue, recent, pins, heard })
}

/// The channels from the sequencer to everybody else.
fn tell(
    head: Position,
    freeze: Option<Freeze>,
    floor: Offset,
    full: watch::Receiver<Option<String>>,
) -> (Told, Heard) {
    let released = freeze.as_ref().map_or(head, |freeze| freeze.released);
    let (head, head_heard) = watch::channel(head);
    let (released, released_heard) = watch::channel(released);
    let (freeze, freeze_heard) = watch::channel(freeze);
    let (floor, floor_heard) = watch::channel(floor);
    let (sample, sample_heard) = watch::channel(None);
    let (failed, failed_heard) = watch::channel(None);
    let heard = Heard {
        head: head_heard,
        released: released_heard,
        freeze: freeze_heard,
        full,
        floor: floor_heard,
        sample: sample_heard,
        failed: failed_heard,
    };
    (Told { head, released, freeze, floor, sample, failed }, heard)
}

/// How far the log is released, and where it begins.
fn read_release(database: &Arc<Database>) -> Result<(Option<Freeze>, Offset), redb::Error> {
    let view = View::new(database)?;
    Ok((view.freeze()?, view.floor()?.offset))
}

/// The head of a log that is there; none for a new file.
fn read_head(database: &Database, path: &Path) -> Result<Option<Position>, OpenError> {
    let mut found = None;
    let head = guarded(|| {
        let transaction = database.begin_read()?;
        let meta = match transaction.open_table(META) {
            Ok(meta) => meta,
            Err(redb::TableError::TableDoesNotExist(_)) => {
                let foreign = transaction.list_tables()?.next().is_some();
                found = foreign.then(|| "of another program".to_owned());
                return Ok(None);
            }
            Err(error) => return Err(error.into()),
        };
        let value = |name| -> Result<Vec<u8>, redb::Error> {
            Ok(meta.get(name)?.map(|value| value.value().to_vec()).unwrap_or_default())
        };
        let format = value(META_FORMAT)?;
        if format != FORMAT.to_be_bytes() {
            let number = Reader(&format).number();
            found = Some(number.map_or_else(|_| "unknown".to_owned(), |n| n.to_string()));
            return Ok(None);
        }
        schema::read_position(META_HEAD, &value(META_HEAD)?).map(Some)
    });
    match found {
        Some(found) => Err(OpenError::Format { path: path.to_owned(), found }),
        None => head.map_err(|source| refused(path, source)),
    }
}

/// Writes the first state of a new log.
fn create(database: &Database) -> Result<Position, redb::Error> {
    let head = Position::genesis(LogId(rand::random()));
    let transaction = database.begin_write()?;
    {
        let mut meta = transaction.open_table(META)?;
        meta.insert(META_HEAD, schema::position_value(META_HEAD, &head).as_slice())?;
        meta.insert(META_FORMAT, FORMAT.to_be_bytes().as_slice())?;
        transaction.open_table(LOG)?;
        transaction.open_table(AUDIT)?;
        transaction.open_table(ZONES)?;
        transaction.open_table(GENERATIONS)?;
        transaction.open_table(RECORDS)?;
        transaction.open_table(IDS)?;
        transaction.open_table(HISTORY)?;
        transaction.open_table(GARBAGE)?;
        transaction.open_table(KEYS)?;
        transaction.open_table(KEYS_BY_TIME)?;
        transaction.open_table(FLEET)?;
    }
    transaction.commit()?;
    Ok(head)
}
