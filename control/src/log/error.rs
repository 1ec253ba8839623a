//! Why a write does not happen; the API makes a status of it.

use edgesync_core::{limits::GUARD_PERCENT, name::Name, position::Offset, stage::Refused};
use edgesync_host::room::Shortage;

/// Why a write did not happen. Nothing was changed; only of [`WriteError::Store`] that is not known before
/// a restart has recovered the store, since a failed sync may have kept the write.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    /// It breaks a rule.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// There is no such zone.
    #[error("there is no zone {0}: create it, or import it")]
    NoZone(Name),
    /// There is such a zone.
    #[error("the zone {0} exists already")]
    ZoneExists(Name),
    /// The zone was changed since the caller looked.
    #[error(
        "the zone {zone} has the version {has}, not {wanted}: it was changed meanwhile; read it again"
    )]
    ZoneVersion {
        /// The origin.
        zone: Name,
        /// What it has.
        has: Offset,
        /// What was asked for.
        wanted: Offset,
    },
    /// The hidden generation was given up, by a later import or after an edit.
    #[error("the import of the zone {0} was overtaken by another one: start it again")]
    NoGeneration(Name),
    /// The key was used for another request.
    #[error("the idempotency key was used for another request: use a new key")]
    KeyReused,
    /// Its caller may not do it, or may not any more (rule 25).
    #[error("{0}")]
    NotAllowed(String),
    /// Its caller writes more than it may in a second.
    #[error(
        "this principal writes more than it may: wait {} ms, or have limits.writes_per_second or \
         limits.bytes_per_second raised",
        retry_after.as_millis()
    )]
    TooFast {
        /// When there is room again.
        retry_after: std::time::Duration,
    },
    /// It takes more away than may go without a word (rule 10).
    #[error(
        "the zone {zone} has {of} records, and {touched} of them would be deleted or edited within a \
         minute: more than {GUARD_PERCENT} %; if that is meant, say so with --override-guard"
    )]
    Guard {
        /// The origin.
        zone: Name,
        /// Records that would be touched.
        touched: u64,
        /// Records that were there.
        of: u64,
    },
    /// A write before it in its stream was refused.
    #[error("a change set before this one was refused; nothing after it is committed")]
    StreamRefused,
    /// It changes nothing.
    #[error("the change set is empty: give at least one operation")]
    Empty,
    /// There is too little room for it; all that is there is read and streamed.
    #[error("nothing was written: {0}. Writes resume by themselves once there is room.")]
    DiskFull(#[from] Shortage),
    /// The control plane stops.
    #[error("the control plane is stopping: try again")]
    Stopping,
    /// What it is about is not what was written; other writes go on (invariant 17).
    #[error("the log's store is damaged where the write reads it: {0}; restore a backup")]
    Damaged(String),
    /// The store failed; nothing is accepted until a restart has recovered it.
    #[error(
        "the log's store failed: {0}; restart edgesync-control to recover, and only then is it known \
         whether this write was kept: read, or repeat it with the same idempotency key"
    )]
    Store(String),
}
