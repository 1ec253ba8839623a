//! The edge's end of a session, where it takes snapshots. The store stages them beside what it
//! serves; until it says that one is installed, nothing of it is acked (invariants 6, 11).

use std::time::{Duration, Instant};

use super::{Receiver, ReceiverOutput};
use crate::{
    position::{Offset, Position},
    session::ToControl,
    snapshot::{Chunk, Manifest, Scope, SnapshotId, Staged},
};

/// A snapshot that is coming.
#[derive(Debug)]
pub(super) struct Incoming {
    manifest: Manifest,
    /// The chunk that has to come next.
    next: u32,
}

/// A snapshot that the store has all of, to put it in place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct HandedOut {
    id: SnapshotId,
    position: Position,
    /// Of everything, and not of one zone.
    of_all: bool,
}

impl Receiver {
    /// The edge begins with a snapshot: what it has is not acked any more, and a set that it has
    /// halted before is in the snapshot.
    pub(super) fn await_snapshot(&mut self) {
        (self.seen, self.acked) = (Offset::ZERO, Offset::ZERO);
        (self.replacing, self.set_aside) = (true, self.halted.take());
    }

    /// True if the store holds a snapshot of everything that would take the place of what it has.
    pub(super) fn holds_snapshot(&self) -> bool {
        let Some(halt) = self.halted.as_ref().filter(|halt| halt.held) else { return false };
        self.handed_out.is_some_and(|HandedOut { position, of_all, .. }| {
            of_all && (halt.first, halt.last) == (position.offset, position.offset)
        })
    }

    pub(super) fn begin_snapshot(&mut self, manifest: Manifest, next: u32) {
        let ours = self.staged.filter(|staged| staged.id == manifest.id);
        let fits = match manifest.scope {
            Scope::Store => self.replacing && manifest.filter == self.filter.hash(),
            // A repair is a barrier: it stands where the edge stands (rule 16).
            Scope::Zone(_) => !self.replacing && self.received == Some(manifest.position),
        };
        if !fits || next > manifest.chunks || next > ours.map_or(0, |staged| staged.next) {
            return self.broken("a snapshot begins where none can");
        }
        if let Some(HandedOut { id, position, .. }) =
            self.handed_out.filter(|handed_out| handed_out.id == manifest.id)
        {
            if position != manifest.position {
                return self.broken(&format!("the snapshot {id} is another one than before"));
            }
            // An earlier stream has brought all of it. The store is about to put it in place, or holds it.
            self.incoming = Some(Incoming { manifest, next });
            if let Some(halt) = self.set_aside.take() {
                self.halted = Some(halt);
                self.nack();
            }
            return self.install_if_whole();
        }
        // With this the store throws away what it has of another one.
        let id = manifest.id;
        self.staged = Some(ours.unwrap_or(Staged { id, next: 0 }));
        let stage = ReceiverOutput::Stage {
            manifest: manifest.clone(),
            next,
            filter: self.filter.clone(),
            may_be_older: self.replacing && self.diverged,
        };
        self.outputs.push_back(stage);
        self.incoming = Some(Incoming { manifest, next });
        self.install_if_whole();
    }

    pub(super) fn take_chunk(&mut self, chunk: Chunk) {
        let Some(incoming) = &mut self.incoming else {
            return self.broken("a snapshot's chunk came without its snapshot");
        };
        if chunk.snapshot != incoming.manifest.id || chunk.index != incoming.next {
            return self.broken("a snapshot's chunk is out of place");
        }
        incoming.next += 1;
        if self.handed_out.is_none_or(|handed_out| handed_out.id != chunk.snapshot) {
            self.outputs.push_back(ReceiverOutput::StageChunk(chunk));
        }
        self.install_if_whole();
    }

    fn install_if_whole(&mut self) {
        let Some(incoming) = self.incoming.take_if(|i| i.next >= i.manifest.chunks) else { return };
        let Manifest { id, position, scope, .. } = incoming.manifest;
        let handed_out = HandedOut { id, position, of_all: scope == Scope::Store };
        let is_new = self.handed_out.replace(handed_out) != Some(handed_out);
        if scope == Scope::Store {
            self.seen = position.offset;
            self.head = self.head.max(position.offset);
            if is_new {
                self.received = Some(position);
            }
        }
        if is_new {
            self.set_aside = None;
            self.outputs.push_back(ReceiverOutput::Install(id));
        }
    }

    /// The store has made chunks durable; of a snapshot that another one has taken the place of since,
    /// nothing is said.
    pub(super) fn chunks_durable(&mut self, staged: Staged) {
        if self.staged.is_some_and(|known| known.id == staged.id) {
            self.staged = Some(staged);
            if self.is_live() {
                self.send(ToControl::SnapshotAck(staged));
            }
        }
    }

    /// The store has put a snapshot in the place of what it had.
    pub(super) fn installed(
        &mut self,
        position: Position,
        scope: Scope,
        filter: [u8; 32],
        now: Instant,
    ) {
        match scope {
            Scope::Store => {
                self.identity.stored_filter = filter;
                self.repairs.replaced();
            }
            Scope::Zone(zone) => self.repairs.mended(zone, now),
        }
        (self.staged, self.handed_out, self.durable) = (None, None, Some(position));
        let resumed = self.halted.take().is_some();
        let replaced = std::mem::take(&mut self.replacing);
        if resumed {
            self.restart(Duration::ZERO, "a snapshot was put in place by hand");
        } else if self.is_greeting()
            || (replaced && (self.incoming.is_some() || self.seen < position.offset))
        {
            // It is of an earlier stream, and this one was told of what was there before.
            self.reconnect(Duration::ZERO, "a snapshot was put in place".to_owned());
        }
        self.ack(Duration::ZERO);
        self.ask_for_repair(now);
    }

    /// The store has refused a snapshot: what it had before stays, and another one is fetched.
    pub(super) fn rejected(&mut self, reason: &str, now: Instant) {
        self.staged = None;
        self.repairs.refused(now);
        self.restart(Duration::from_secs(1), &format!("a snapshot was not taken: {reason}"));
    }
}
