//! What comes to the session from people at this host, by the local API.

use edgesync_core::{position::Offset, session::Halt};
use tokio::sync::oneshot;

use crate::store::Mismatch;

/// What there was to be resumed, and what keeps the edge from going on all the same.
#[derive(Debug)]
pub struct Resumed {
    /// What was halted before; none if nothing was.
    pub halted: Option<Halt>,
    /// The store has failed: nothing is resumed before a restart.
    pub failed: Option<String>,
    /// Nothing is applied for now.
    pub paused: Option<String>,
}

/// A wish.
#[derive(Debug)]
pub enum Command {
    /// Go on after a halt.
    Resume {
        /// What there was to be resumed.
        answer: oneshot::Sender<Resumed>,
    },
    /// Go on behind the set that was halted before.
    Skip {
        /// First offset of the set, so that no other is skipped.
        first: Offset,
        /// What is skipped, or what is halted before instead.
        answer: oneshot::Sender<Result<Halt, Option<Halt>>>,
    },
    /// Zones whose records are not what the store says of them.
    Damaged(Vec<Mismatch>),
}
