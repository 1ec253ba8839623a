//! Station 5 to 6, applying: one thread has the store. It takes all that is waiting, writes it in
//! groups, makes it durable together, and only then says so to the session, which may ack it
//! (invariant 6).

mod applier;
mod halt;
mod pause;
mod snapshots;

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::AtomicBool,
        mpsc::{Sender, channel},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use edgesync_core::{
    change::ChangeSet,
    name::Name,
    position::{Offset, Position},
    sample::{Drift, Sample},
    session::{Filter, Halt, Pause},
    snapshot::{Chunk, Manifest, Scope, SnapshotId, Staged},
};
pub use pause::PauseConfig;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use self::applier::Applier;
use crate::store::{Attempt, Store};

/// A change set to be applied.
#[derive(Debug)]
pub struct Arrived {
    /// The set, or why its bytes are none: one line.
    pub set: Result<ChangeSet, String>,
    /// Origin of its zone, if that could be read.
    pub zone: Option<Name>,
    /// The offset that it follows.
    pub prev: Offset,
    /// Offset of its first change.
    pub first: Offset,
    /// The position after it.
    pub position: Position,
    /// When the last of its bytes came.
    pub received: Instant,
}

/// What the apply thread has to do, in this order.
#[derive(Debug)]
pub enum Work {
    /// Apply a change set.
    Set(Arrived),
    /// Move on to a position that has no set for this edge (rule 14).
    Pass(Position),
    /// Compare zones with what they should be at a position.
    Compare {
        /// The position.
        position: Position,
        /// The zones.
        sample: Sample,
    },
    /// Make ready for a snapshot.
    Stage {
        /// What it has.
        manifest: Manifest,
        /// Which zones the session is for.
        filter: Filter,
        /// False: not if it is of before what the store has (invariant 8).
        may_be_older: bool,
    },
    /// Stage a chunk of it.
    Chunk(Chunk),
    /// Put it in place.
    Install(SnapshotId),
    /// What was not applied before this is void; what comes follows what is durable.
    Restart,
    /// Go on after a halt, by the word of a person.
    Resume,
    /// Go on behind the set that was halted before, by the word of a person.
    Skip,
}

/// What the apply thread has done.
#[derive(Debug)]
pub enum Report {
    /// So many works are done or dropped, in order.
    Done(usize),
    /// All up to a position is durable.
    Durable {
        /// The position.
        position: Position,
        /// From the receipt of the last set to now.
        apply: Duration,
        /// Number of changes that are new in it.
        changes: u64,
    },
    /// So much of a snapshot is durable.
    Staged {
        /// What.
        staged: Staged,
        /// Of this one.
        manifest: Manifest,
    },
    /// A snapshot is in place, and durable.
    Installed {
        /// The position.
        position: Position,
        /// What it has taken the place of.
        scope: Scope,
        /// Hash of the filter that a whole store is of with it.
        filter: [u8; 32],
    },
    /// A snapshot was thrown away.
    Rejected {
        /// Why: one line.
        reason: String,
    },
    /// Nothing more is applied until a person has looked (rule 23).
    Halted(Halt),
    /// A person has looked.
    Resumed,
    /// A zone is not what it should be.
    Drifted(Drift),
    /// A set of a zone was skipped: the zone is not what it should be (rule 23).
    Skipped {
        /// Its origin.
        zone: Name,
    },
    /// Nothing is applied for a while, or it goes on.
    Paused(Option<Pause>),
    /// The store begins again from what is durable: it was opened again after a failure that has lost nothing
    /// of that, or what came does not follow.
    Reopened {
        /// What is durable.
        position: Option<Position>,
        /// What is there of a snapshot.
        staged: Option<Staged>,
        /// How often a store has been opened here.
        epoch: u64,
    },
    /// The store has failed. What it has is served on, nothing more is applied.
    Failed {
        /// Why: one line.
        reason: String,
    },
}

/// The ends that the session has of the apply thread. When `works` is dropped, the thread finishes
/// what is waiting, and ends.
#[derive(Debug)]
pub struct Applying {
    /// What is to be done. The session bounds what waits here.
    pub works: Sender<Work>,
    /// What was done; never more than a few for each work.
    pub reports: UnboundedReceiver<Report>,
    /// Set when the thread is to end: it does not wait any more for what it waits for.
    pub ending: Arc<AtomicBool>,
    /// The thread.
    pub thread: JoinHandle<()>,
}

/// Begins to apply to a store.
///
/// # Errors
/// If the host has no thread to give.
pub fn start(store: Store, pauses: PauseConfig) -> std::io::Result<Applying> {
    let (works, incoming) = channel();
    let (outgoing, reports) = unbounded_channel();
    let failed = outgoing.clone();
    let ending = Arc::new(AtomicBool::new(false));
    let end = Arc::clone(&ending);
    let attempt = Attempt::read(&pauses.data_dir);
    let run = move || {
        let mut applier = Applier::new(store, incoming, outgoing, pauses, attempt, end);
        // A panic in the store must not end what is served, nor be taken for an end in order.
        if catch_unwind(AssertUnwindSafe(|| applier.run())).is_err() {
            let reason = "the apply thread has panicked; restart the daemon".to_owned();
            let _ = failed.send(Report::Failed { reason });
        }
    };
    let thread = thread::Builder::new().name("apply".to_owned()).spawn(run)?;
    Ok(Applying { works, reports, ending, thread })
}

#[cfg(test)]
mod tests;
