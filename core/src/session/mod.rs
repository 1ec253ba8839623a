//! One session of one edge, as two state machines that never wait: [`Sender`] at the control plane,
//! [`Receiver`] at the edge. Both take an input and the time, and are then asked for outputs; the
//! shells around them carry values and decide nothing.
//!
//! ```text
//!   Sender                                Receiver
//!     | <------------ Hello -------------- |   who, and what is durable
//!     | ------------ Welcome ------------> |   resume, or a snapshot first
//!     | ----- SnapshotBegin, Chunks -----> |   staged beside what is served, then put in its place
//!     | <---------- SnapshotAck ---------- |   only for what the store has made durable
//!     | ----- Frame / Heartbeat (prev) --> |   taken if prev is the edge's position
//!     | <-------------- Ack -------------- |   only for what the store has made durable
//!     | <------------- Repair ------------ |   a zone differs from a heartbeat's sample
//! ```

mod assembly;
mod filter;
mod receiver;
mod sender;

use std::time::Duration;

use bytes::Bytes;
pub use filter::Filter;
pub use receiver::{Receiver, ReceiverInput, ReceiverOutput};
pub use sender::{Sender, SenderConfig, SenderInput, SenderOutput};

use crate::{
    edge_id::EdgeId,
    limits::SET_OVERHEAD_OCTETS,
    name::Name,
    position::{HistoryHash, Offset, Position},
    sample::Sample,
    snapshot::{Chunk, Manifest, Staged},
};

/// Version of the protocol that this crate speaks.
pub const PROTOCOL: u32 = 1;
/// The oldest version that it still speaks. Of two that meet, the lower of their highest is spoken.
pub const PROTOCOL_OLDEST: u32 = 1;

/// Identity of a running process, drawn at random when it starts (rule 22).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct InstanceId(pub [u8; 16]);

/// What an edge says first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// Its id.
    pub edge: EdgeId,
    /// Its process.
    pub instance: InstanceId,
    /// How often its store has been opened.
    pub boot_epoch: u64,
    /// What is durable in its store; none for an empty one.
    pub position: Option<Position>,
    /// Which zones it wants.
    pub filter: Filter,
    /// Hash of the filter that its records are the fold of (rule 13).
    pub stored_filter: [u8; 32],
    /// A snapshot that it has begun to take.
    pub staged: Option<Staged>,
    /// Highest version of the protocol that it speaks.
    pub protocol: u32,
    /// Version of its software.
    pub version: String,
    /// Octets of change sets that it takes ahead of its acks.
    pub window: u32,
}

/// How a session goes on after Welcome.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Start {
    /// From the edge's position.
    Resume,
    /// With a snapshot, which takes the place of all that the edge has, and from its position.
    Snapshot {
        /// Why: one line.
        reason: String,
        /// True if the edge's history is not this log's: to be alarmed (invariant 12).
        diverged: bool,
        /// The position that Hello had, as it came: what was turned on the way is no reason. None also if the
        /// control plane does not say it.
        of: Option<Position>,
    },
}

/// The control plane's answer to [`Hello`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Welcome {
    /// How the session goes on.
    pub start: Start,
    /// Head of the log.
    pub head: Position,
    /// Time between heartbeats.
    pub heartbeat: Duration,
    /// Version of the protocol for this session.
    pub protocol: u32,
    /// Which zones the session is for: what the edge asked for, or what it may have of that.
    pub filter: Filter,
}

/// A committed change set, whole, as it travels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommittedSet {
    /// The position before it in this session (rule 11).
    pub prev: Offset,
    /// Offset of its first change.
    pub first: Offset,
    /// Offset of its last change.
    pub last: Offset,
    /// History hash after it.
    pub hash: HistoryHash,
    /// Its bytes, as the log has them.
    pub body: Bytes,
}

impl CommittedSet {
    /// What it costs of a window while it is unacknowledged: its octets, and what is kept beside them.
    #[must_use]
    pub fn credit(&self) -> usize {
        self.body.len().saturating_add(SET_OVERHEAD_OCTETS)
    }
}

/// A committed change set, or a part of one that is larger than a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetPart {
    /// The set; its body is the part.
    pub set: CommittedSet,
    /// Octets of the whole body.
    pub size: usize,
    /// Where the part begins in it.
    pub from: usize,
}

/// Why a session ends by the control plane's word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GoodbyeReason {
    /// The control plane stops.
    Draining,
    /// A newer process has this edge id.
    Fenced,
    /// The edge broke the protocol, or its Hello was wrong.
    Refused,
    /// The edge was silent for too long.
    Timeout,
    /// There are as many sessions as may be.
    Busy,
}

/// Messages to an edge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ToEdge {
    /// The first.
    Welcome(Welcome),
    /// Change sets, in order.
    Frame(Vec<SetPart>),
    /// A sign of life, in order with the frames.
    Heartbeat {
        /// The position before it in this session.
        prev: Offset,
        /// The position that the edge has with all that came before.
        progress: Position,
        /// Offset of the log's head.
        head: Offset,
        /// What some zones are at `progress`.
        sample: Option<Sample>,
    },
    /// A snapshot begins; one of a zone, at the edge's very position.
    SnapshotBegin {
        /// What it has.
        manifest: Manifest,
        /// The first chunk that will come; those before it are at the edge.
        next: u32,
    },
    /// The next chunk of the snapshot.
    SnapshotChunk(Chunk),
    /// The last.
    Goodbye {
        /// Why.
        reason: GoodbyeReason,
        /// How long to wait before the next try, at the least.
        retry_after: Duration,
        /// One line for people.
        message: String,
    },
}

/// Why an edge applies nothing for now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pause {
    /// Why: one line.
    pub why: String,
    /// True if a person wants it so; else it goes on by itself, once there is room.
    pub is_frozen: bool,
}

impl Pause {
    /// It goes on by itself.
    #[must_use]
    pub const fn of_itself(why: String) -> Self {
        Self { why, is_frozen: false }
    }
}

/// Messages to the control plane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ToControl {
    /// The first.
    Hello(Hello),
    /// All up to an offset is durable.
    Ack(Ack),
    /// An answer to a heartbeat, by an edge that applies nothing for now.
    Paused {
        /// The answer.
        ack: Ack,
        /// Why.
        pause: Pause,
    },
    /// A set, or the snapshot of an offset, is not applied.
    Nack(Halt),
    /// All chunks before one are durable, and not yet visible.
    SnapshotAck(Staged),
    /// A zone is not what a sample says that it is.
    Repair {
        /// Its origin.
        zone: Name,
    },
}

/// What an edge waits for a person with; it goes on serving what it has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Halt {
    /// Offset of the set's first change.
    pub first: Offset,
    /// Offset of its last change.
    pub last: Offset,
    /// True if it could be applied, but a guard wants a person's word first; else it cannot.
    pub held: bool,
    /// Why: one line.
    pub reason: String,
}

/// An edge's word that all up to an offset is durable in its store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ack {
    /// First offset that it is new for; above `last` if it only answers a heartbeat.
    pub first: Offset,
    /// The durable offset.
    pub last: Offset,
    /// From receipt to durable, by the edge's clock.
    pub apply: Duration,
}

#[cfg(test)]
mod tests;
