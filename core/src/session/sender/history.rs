//! Whether an edge goes on in this log's history, or has to take a snapshot first (invariant 12).

use super::super::{Filter, Hello, Start};
use crate::position::{HistoryHash, Offset, Position};

/// What the log says of an edge's position.
pub(super) struct History {
    pub(super) ours: Option<HistoryHash>,
    pub(super) floor: Offset,
    pub(super) head: Position,
}

impl History {
    /// Whether the edge's position is in this log's history, and what follows it still there
    /// (rules 12, 13).
    pub(super) fn judge(&self, hello: &Hello, filter: &Filter) -> Start {
        let (floor, head) = (self.floor, self.head);
        let of = hello.position;
        let snapshot = |diverged, reason| Start::Snapshot { reason, diverged, of };
        // An empty store is the fold of the filter that it asks for, and no other.
        let is_of_filter = hello.stored_filter == filter.hash();
        match hello.position {
            None if floor == Offset::ZERO && is_of_filter => Start::Resume,
            None => snapshot(false, "the edge is empty".to_owned()),
            Some(theirs) if theirs.log != head.log => snapshot(
                true,
                format!("the edge has a position in log {}, this is log {}", theirs.log, head.log),
            ),
            Some(theirs) if theirs.offset > head.offset => snapshot(
                true,
                format!(
                    "the edge is at offset {}, beyond this log's {}: the log was restored from a backup",
                    theirs.offset, head.offset
                ),
            ),
            Some(theirs) if theirs.offset < floor => snapshot(
                false,
                format!("what follows offset {} was compacted away, up to {floor}", theirs.offset),
            ),
            Some(theirs) if self.ours != Some(theirs.hash) => snapshot(
                true,
                format!(
                    "the edge's history differs from this log's at offset {}: the log was restored and written anew",
                    theirs.offset
                ),
            ),
            Some(_) if !is_of_filter => {
                snapshot(false, "the zones that the edge is for have changed".to_owned())
            }
            Some(_) => Start::Resume,
        }
    }
}
