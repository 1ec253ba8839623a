//! What comes to the session from people at this host, by the local API.

use edgesync_core::{position::Offset, session::Halt};
use tokio::sync::oneshot;

use crate::store::Mismatch;

/// A wish.
#[derive(Debug)]
pub enum Command {
    /// Go on after a halt.
    Resume {
        /// What was halted before; none if nothing was.
        answer: oneshot::Sender<Option<Halt>>,
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
