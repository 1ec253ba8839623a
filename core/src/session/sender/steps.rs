//! What goes into the control plane's end of a session, and what comes out of it.

use std::time::Duration;

use super::super::{Ack, CommittedSet, Filter, Halt, Hello, Pause, ToControl, ToEdge};
use crate::{
    position::{HistoryHash, Offset, Position},
    sample::Sample,
    snapshot::{Chunk, Manifest, Scope, SnapshotId, Staged},
};

/// What happens to a sender.
#[derive(Debug)]
pub enum SenderInput {
    /// The edge's first message, with the history hash that the log has at its offset, if it has.
    Hello {
        /// The message.
        hello: Hello,
        /// What it asks for, or what it may have of that (rule 13).
        filter: Filter,
        /// The log's own hash there.
        ours: Option<HistoryHash>,
        /// The position that the log begins after.
        floor: Offset,
        /// The position up to which changes are released.
        head: Position,
    },
    /// A later message of the edge.
    Message(ToControl),
    /// More is released.
    Head(Position),
    /// What some zones are at a position; later than what was sampled before.
    Sample(Position, Sample),
    /// The snapshot that [`SenderOutput::Snapshot`] has asked for.
    Snapshot {
        /// What it has.
        manifest: Manifest,
        /// The first chunk that the edge has not.
        next: u32,
    },
    /// The snapshot cannot be had now.
    SnapshotBusy {
        /// When to ask again.
        retry_after: Duration,
        /// Why: one line.
        message: String,
    },
    /// The answer to [`SenderOutput::FetchChunk`].
    Chunk(Chunk),
    /// The answer to [`SenderOutput::Fetch`]: the sets for this edge, in order, and up to where
    /// the log was read for them.
    Fetched {
        /// The sets; their `prev` is not looked at.
        sets: Vec<CommittedSet>,
        /// Up to where there is nothing else for this edge.
        read_to: Position,
    },
    /// Another process has taken this edge id.
    Fence,
    /// The control plane stops.
    Drain {
        /// How long the edge is to wait.
        retry_after: Duration,
    },
}

/// What a sender wants done.
#[derive(Debug, PartialEq, Eq)]
pub enum SenderOutput {
    /// Send a message.
    Send(ToEdge),
    /// Read the log after an offset, up to so many octets as [`CommittedSet::credit`] counts them, but
    /// at least one set; answer with [`SenderInput::Fetched`].
    Fetch {
        /// After this offset.
        after: Offset,
        /// Not beyond this one.
        upto: Offset,
        /// Up to so many octets of sets.
        octets: usize,
    },
    /// The edge has made everything up to a position durable; also said once when it resumes.
    Acked {
        /// The ack.
        ack: Ack,
        /// The position that it is for.
        durable: Position,
    },
    /// Have a snapshot ready at what is released, or begin with the one that the edge has a part of;
    /// answer with [`SenderInput::Snapshot`] or [`SenderInput::SnapshotBusy`].
    Snapshot {
        /// What it takes the place of.
        scope: Scope,
        /// What the edge has of one.
        staged: Option<Staged>,
    },
    /// Read a chunk of the snapshot; answer with [`SenderInput::Chunk`].
    FetchChunk {
        /// Which snapshot.
        id: SnapshotId,
        /// Which chunk.
        index: u32,
    },
    /// The edge has so much of a snapshot.
    Staged(Staged),
    /// The edge has not applied a set, and halts.
    Nacked(Halt),
    /// The edge applies nothing for now, and why; or it goes on.
    Paused(Option<Pause>),
    /// The session is over once what came before is sent.
    Close,
}
