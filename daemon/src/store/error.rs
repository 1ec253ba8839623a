//! What can go wrong in the store, and which of it is a reason to put the store aside.

use std::{io, path::PathBuf};

use edgesync_core::{
    fold::Divergence,
    name::Name,
    position::{LogId, Offset, Position},
};
use edgesync_host::room::is_short;

use super::layout;

/// The store cannot do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The engine failed.
    #[error("sled: {0}")]
    Engine(#[source] sled::Error),
    /// The disk did not take what was written: nothing written since the last sync may be trusted.
    #[error("the disk did not take what was written (fdatasync: {0})")]
    Sync(#[source] io::Error),
    /// sled has put a page where a power cut may lose it.
    #[error("sled has put a page into a file of its own, which a power cut may lose: a defect")]
    Spilled,
    /// The files are not where they were.
    #[error("{0}; restart the daemon, which then fetches what is missing")]
    Gone(#[source] io::Error),
    /// A reader has found what cannot be read.
    #[error(
        "a part of the store cannot be read: {0}; a restart of the daemon has all fetched anew"
    )]
    Damaged(String),
    /// sled panicked over what it has read.
    #[error("it panicked")]
    Panicked,
    /// An earlier failure was final.
    #[error("the store has failed before; restart the daemon")]
    Failed,
    /// What is stored has not the form that this version writes.
    #[error("{0} in the store has not the form that this version writes")]
    Malformed(&'static str),
    /// The store is being opened again, or put aside.
    #[error("the store is being opened: ask again in a moment")]
    Closed,
    /// A value is larger than the engine takes safely.
    #[error("a value of {0} octets is more than the store takes")]
    TooLarge(usize),
    /// A new store cannot be used either.
    #[error("a new store cannot be used either: {0}")]
    Unusable(String),
    /// A planted stop.
    #[cfg(test)]
    #[error("stopped by the test")]
    Stopped,
}

impl StoreError {
    /// True if the disk may have lost what it had said to have, or the store is damaged: it cannot
    /// be trusted any more, not even after a restart. A disk that is full, or became read-only, is not
    /// of that kind, whether the write says so or the sync: it refuses what it has not taken.
    #[must_use]
    pub fn loses_trust(&self) -> bool {
        let lost = |error: &io::Error| {
            !is_short(error) && error.kind() != io::ErrorKind::ReadOnlyFilesystem
        };
        match self {
            Self::Sync(error) | Self::Engine(sled::Error::Io(error)) => lost(error),
            Self::Engine(_) | Self::Malformed(_) | Self::Gone(_) | Self::Spilled => true,
            Self::Damaged(_) | Self::Panicked => true,
            #[cfg(test)]
            Self::Stopped => true,
            _ => false,
        }
    }

    /// True if a read has failed by what is on the disk, and not because the disk is full, the store closed, or the
    /// process short of something.
    #[must_use]
    pub fn is_damage(&self) -> bool {
        match self {
            Self::Engine(sled::Error::Io(error)) => is_damage(error),
            Self::Engine(sled::Error::Corruption { .. } | sled::Error::ReportableBug(_)) => true,
            Self::Panicked | Self::Damaged(_) => true,
            _ => false,
        }
    }
}

/// True if an error is about what is on the disk.
pub(super) fn is_damage(error: &io::Error) -> bool {
    use io::ErrorKind::{InvalidData, InvalidInput, UnexpectedEof};
    matches!(error.kind(), InvalidData | InvalidInput | UnexpectedEof)
        || error.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error())
}

/// Why a change set was not applied.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// The set does not fit what is stored; nothing of it was written (rule 23).
    #[error("offset {offset}, zone {zone}: {what}")]
    Diverged {
        /// Offset of the change.
        offset: Offset,
        /// Origin of its zone.
        zone: Name,
        /// What was found.
        what: Divergence,
    },
    /// The set does not follow what is there.
    #[error("a set with the offset {first} does not follow the store's position {at}")]
    OutOfPlace {
        /// Offset of its first change.
        first: Offset,
        /// Where the store is.
        at: Position,
    },
    /// A record of the set is larger than the store takes safely.
    #[error("a record of {0} octets is more than the store takes")]
    TooLarge(usize),
    /// The store failed; nothing more can be written.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why a store cannot be opened, and has been left as it is.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A file or directory cannot be used.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What went wrong.
        source: io::Error,
    },
    /// sled cannot open it, by no fault of what is in it.
    #[error("cannot open the store in {}: {source}", dir.display())]
    Engine {
        /// The store's directory.
        dir: PathBuf,
        /// What sled said.
        source: sled::Error,
    },
    /// Another version wrote it.
    #[error(
        "the store in {} has format {found}, this version reads {}; run the version that wrote it, \
         or move that directory away: the edge then fetches everything again",
        dir.display(), layout::FORMAT
    )]
    Format {
        /// The store's directory.
        dir: PathBuf,
        /// The format found.
        found: u32,
    },
    /// It could not be written at opening.
    #[error("cannot write to the store in {}: {source}", dir.display())]
    Write {
        /// The store's directory.
        dir: PathBuf,
        /// What went wrong.
        source: StoreError,
    },
}

/// Why a store is put aside. It is never deleted, and never served.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Distrust {
    /// sled cannot read it.
    #[error("sled cannot read it: {0}")]
    Unreadable(String),
    /// An earlier version made it, with segments in which sled cannot keep all pages.
    #[error("its segments have {0} octets, so that a power cut may take from it what was acked")]
    Segments(usize),
    /// Something in it has not its form.
    #[error("{0} in it has not the form that this version writes")]
    Malformed(&'static str),
    /// It is behind what it is known to have had.
    #[error("it has offset {found}, and is known to have had {known} of log {log}")]
    Behind {
        /// What it has; 0 if nothing.
        found: Offset,
        /// What was written down beside it.
        known: Offset,
        /// The log of what was written down.
        log: LogId,
    },
    /// It has another log than is written down beside it.
    #[error("it is of log {found}, and is known to be of log {known}")]
    OtherLog {
        /// What it has.
        found: LogId,
        /// What was written down beside it.
        known: LogId,
    },
    /// It has not as many records as it is known to have.
    #[error("it has {found} records at offset {offset}, and is known to have {known}")]
    Count {
        /// What it has.
        found: u64,
        /// What was written down beside it.
        known: u64,
        /// Where.
        offset: Offset,
    },
    /// The disk had lost what it had said to have.
    #[error("the disk failed under it: {0}")]
    DiskFailed(String),
}

impl Distrust {
    /// All that [`Distrust::label`] can say.
    pub const LABELS: [&str; 5] =
        ["unreadable", "segments", "malformed", "disagrees", "disk_failed"];

    /// One word for metrics.
    #[must_use]
    pub const fn label(&self) -> &'static str {
        match self {
            Self::Unreadable(_) => "unreadable",
            Self::Segments(_) => "segments",
            Self::Malformed(_) => "malformed",
            Self::Behind { .. } | Self::OtherLog { .. } | Self::Count { .. } => "disagrees",
            Self::DiskFailed(_) => "disk_failed",
        }
    }
}

/// Why the engine does not open.
#[derive(Debug)]
pub(super) enum EngineFault {
    /// The database has segments of so many octets, which are not ours.
    Segments(usize),
    /// Around the database.
    Io(io::Error),
    /// In the database.
    Sled(sled::Error),
}

impl From<io::Error> for EngineFault {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<sled::Error> for EngineFault {
    fn from(error: sled::Error) -> Self {
        Self::Sled(error)
    }
}
