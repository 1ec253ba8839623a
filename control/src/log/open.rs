//! Opening the log: what is there is checked before anything is written.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use edgesync_core::position::{LogId, Offset, Position};
use redb::{Database, ReadableDatabase};
use tokio::sync::watch;

use super::{
    Freeze, Heard, Shared, View,
    pins::Pins,
    recent::Recent,
    schema::{
        AUDIT, FLEET, FORMAT, GARBAGE, GENERATIONS, HISTORY, IDS, KEYS, KEYS_BY_TIME, LOG, META,
        META_FORMAT, META_HEAD, RECORDS, Reader, ZONES, push_position,
    },
    sequencer::{Queue, Sequencer, Told},
    view::malformed,
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

/// Opens the store, and starts the sequencer on a thread of its own.
pub(super) fn open(options: &Options) -> Result<Shared, OpenError> {
    let path = options.dir.join("log.redb");
    let database = Database::builder().set_cache_size(options.cache_bytes).create(&path);
    let database = database.map_err(|error| match error {
        redb::DatabaseError::DatabaseAlreadyOpen => OpenError::Locked(path.clone()),
        redb::DatabaseError::UpgradeRequired(version) => {
            OpenError::Format { path: path.clone(), found: format!("redb {version}") }
        }
        other => OpenError::Store { path: path.clone(), source: other.into() },
    })?;
    let io = |source| OpenError::Io { path: path.clone(), source };
    // The file's name is durable before anything in it is promised (invariant 1).
    fs::File::open(&options.dir).and_then(|dir| dir.sync_all()).map_err(io)?;
    let head = match read_head(&database, &path)? {
        Some(head) => head,
        None => {
            create(&database).map_err(|source| OpenError::Store { path: path.clone(), source })?
        }
    };
    let database = Arc::new(database);
    let recent = Arc::new(Recent::new(options.recent_bytes));
    let store = |source| OpenError::Store { path: path.clone(), source };
    let (freeze, floor) = read_release(&database).map_err(store)?;
    let (told, shared) = tell(head, freeze, floor);
    let (queue, jobs) = Queue::new(options.queue_bytes);
    let pins = Pins::default();
    let sequencer = Sequencer::new(Arc::clone(&database), Arc::clone(&recent), pins.clone(), told);
    let thread = std::thread::Builder::new().name("sequencer".to_owned());
    thread.spawn(move || sequencer.run(&jobs)).map_err(io)?;
    Ok(Shared { path, database, queue, recent, pins, heard: shared })
}

/// The channels from the sequencer to everybody else.
fn tell(head: Position, freeze: Option<Freeze>, floor: Offset) -> (Told, Heard) {
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
    let store = |source: redb::Error| OpenError::Store { path: path.to_owned(), source };
    let transaction = database.begin_read().map_err(|e| store(e.into()))?;
    let meta = match transaction.open_table(META) {
        Ok(meta) => meta,
        Err(redb::TableError::TableDoesNotExist(_)) => {
            let foreign = transaction.list_tables().map_err(|e| store(e.into()))?.next().is_some();
            let found = "of another program".to_owned();
            return if foreign {
                Err(OpenError::Format { path: path.into(), found })
            } else {
                Ok(None)
            };
        }
        Err(error) => return Err(store(error.into())),
    };
    let value = |name| {
        let value = meta.get(name).map_err(|e| store(e.into()))?;
        Ok(value.map(|value| value.value().to_vec()).unwrap_or_default())
    };
    let format = value(META_FORMAT)?;
    if format != FORMAT.to_be_bytes() {
        let number =
            Reader(&format).number().map_or_else(|_| "unknown".to_owned(), |n| n.to_string());
        return Err(OpenError::Format { path: path.into(), found: number });
    }
    let head = Reader(&value(META_HEAD)?).position().map_err(|e| store(malformed(e)))?;
    Ok(Some(head))
}

/// Writes the first state of a new log.
fn create(database: &Database) -> Result<Position, redb::Error> {
    let head = Position::genesis(LogId(rand::random()));
    let transaction = database.begin_write()?;
    {
        let mut meta = transaction.open_table(META)?;
        let mut value = Vec::new();
        push_position(&mut value, &head);
        meta.insert(META_HEAD, value.as_slice())?;
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
