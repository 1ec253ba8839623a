//! What happens to a receiver, and what it wants done: all that passes between it and its shell.

use std::time::Duration;

use super::super::{CommittedSet, Filter, Halt, Pause, ToControl, ToEdge};
use crate::{
    name::Name,
    position::Position,
    sample::Sample,
    snapshot::{Chunk, Manifest, Scope, SnapshotId, Staged},
};

/// What happens to a receiver.
#[derive(Debug)]
pub enum ReceiverInput {
    /// A stream is open.
    Connected,
    /// A message has come.
    Message(ToEdge),
    /// A good part of a message has come, or it waits behind one: on a narrow link a whole one takes
    /// longer than the silence after which a stream is given up.
    Part,
    /// The store has made everything up to here durable; how long that took since its receipt.
    Durable {
        /// Up to where.
        position: Position,
        /// From receipt to durable.
        apply: Duration,
    },
    /// The store does not apply a set or a snapshot: halt before it (rule 23).
    Halted(Halt),
    /// The store has failed: nothing more is applied before a restart of the process.
    Failed {
        /// Why: one line.
        reason: String,
    },
    /// Nothing is applied for now, and why; or it goes on.
    Paused(Option<Pause>),
    /// A person has said that the edge is to go on: what it had halted before is tried again.
    Resumed,
    /// Chunks of a snapshot are durable, and not yet visible.
    Staged(Staged),
    /// A snapshot is in place, and durable.
    Installed {
        /// The store's position with it.
        position: Position,
        /// What it has taken the place of.
        scope: Scope,
        /// Hash of the filter that a whole store is of with it.
        filter: [u8; 32],
    },
    /// A snapshot is not what it said, and was thrown away.
    Rejected {
        /// Why: one line.
        reason: String,
    },
    /// A zone is not what it should be.
    Drifted {
        /// Its origin.
        zone: Name,
    },
    /// The store was closed and opened again: what it had not made durable is lost to it.
    Reopened {
        /// What is durable in it.
        position: Option<Position>,
        /// What it has of a snapshot.
        staged: Option<Staged>,
    },
    /// The stream is gone, by whatever cause.
    Disconnected,
}

/// What a receiver wants done.
#[derive(Debug, PartialEq, Eq)]
pub enum ReceiverOutput {
    /// Send a message.
    Send(ToControl),
    /// Apply a set after all before it.
    Apply(CommittedSet),
    /// Make a position durable that has no set for this edge, after all sets before it.
    Progress(Position),
    /// A snapshot will take the place of all there is: to be told, and to be alarmed if the history
    /// differs.
    Replacing {
        /// Why: one line.
        reason: String,
        /// True if what there is is not of the control plane's history (invariant 12).
        diverged: bool,
    },
    /// After all that was to be applied before it: compare these zones with the store.
    Compare {
        /// Where the sample stands.
        position: Position,
        /// The zones.
        sample: Sample,
    },
    /// After all that was to be applied before it: make ready for a snapshot's chunks, from one on.
    Stage {
        /// What the snapshot has.
        manifest: Manifest,
        /// The first chunk that will come.
        next: u32,
        /// Which zones it has.
        filter: Filter,
        /// True if the store's history is another one. Else no snapshot of before what the store has, of
        /// the same log, is taken (invariant 8): it was chosen before all in hand was applied.
        may_be_older: bool,
    },
    /// Stage the next chunk.
    StageChunk(Chunk),
    /// All chunks were handed out: put the snapshot in place, if it is what it says.
    Install(SnapshotId),
    /// What was handed out and is not durable is void: nothing of it may be applied any more. What
    /// is handed out from here on begins at what is durable.
    Restart,
    /// Close the stream and connect again, not before a time has gone by.
    Reconnect {
        /// The least wait before the next try; backoff comes on top.
        after: Duration,
        /// Why: one line.
        reason: String,
    },
}
