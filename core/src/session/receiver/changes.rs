//! Changes on a live stream: what is taken of them, and what is said of them back. An ack is made here
//! and nowhere else, of what the store has said to be durable.

use std::time::Duration;

use super::{
    super::{Ack, CommittedSet, Filter, ToControl},
    Phase, Receiver, ReceiverOutput,
};
use crate::{
    position::{Offset, Position},
    sample::Sample,
};

impl Receiver {
    /// Takes a whole set: the next one, or one that is there already (invariant 7).
    pub(super) fn receive(&mut self, set: CommittedSet) {
        if self.replacing && self.handed_out.is_none() {
            return self.broken("sets come before the snapshot that was announced");
        }
        let Some(received) = self.received.filter(|_| self.phase == Phase::Live) else { return };
        self.seen = self.seen.max(set.last);
        if set.last <= received.offset {
            self.duplicates =
                self.duplicates.saturating_add(set.last.since(set.first)).saturating_add(1);
            return;
        }
        if set.prev != received.offset || set.first <= set.prev || set.first > set.last {
            let (prev, ours) = (set.prev, received.offset);
            return self.broken(&format!("a set follows {prev}, where {ours} was the last"));
        }
        // A filtered edge has not all sets that the hash chains, and can only keep it (rule 12).
        let ours = received.hash.chain(set.first, set.last, &set.body);
        if self.filter == Filter::All && (set.hash != ours || set.first != set.prev.next()) {
            return self.broken(&format!("the history hash of the set {} differs", set.first));
        }
        self.received = Some(Position { offset: set.last, hash: set.hash, ..received });
        self.head = self.head.max(set.last);
        if self.halted.is_none() {
            self.outputs.push_back(ReceiverOutput::Apply(set));
        }
    }

    /// Takes the progress of a heartbeat: what lies between has nothing for this edge (rule 11).
    pub(super) fn progress(&mut self, prev: Offset, progress: Position) {
        let Some(received) = self.received.filter(|_| self.phase == Phase::Live) else { return };
        if progress.offset <= received.offset {
            self.seen = self.seen.max(progress.offset);
            return;
        }
        if prev != received.offset || progress.log != received.log {
            return self.broken("a heartbeat does not follow what came before it");
        }
        // There is no set that an edge with all zones would be led past.
        if self.filter == Filter::All {
            return self.broken("a heartbeat leads past sets that have not come");
        }
        self.seen = progress.offset;
        self.received = Some(progress);
        if self.halted.is_none() {
            self.outputs.push_back(ReceiverOutput::Progress(progress));
        }
    }

    /// Hands a sample on, if the store will stand where it was taken.
    pub(super) fn compare(&mut self, position: Position, sample: Option<Sample>) {
        let here = self.received == Some(position) && self.halted.is_none() && !self.replacing;
        let sample = sample.filter(|_| here && self.phase == Phase::Live);
        self.outputs.extend(sample.map(|sample| ReceiverOutput::Compare { position, sample }));
    }

    /// Acks what is durable by the store's own word, and nothing else (invariant 6).
    pub(super) fn ack(&mut self, apply: Duration) {
        if self.replacing || self.failed {
            return;
        }
        let durable = self.durable.map_or(Offset::ZERO, |durable| durable.offset);
        let last = durable.min(self.seen);
        if last > self.acked && self.phase == Phase::Live {
            let first = std::mem::replace(&mut self.acked, last).next();
            self.send(ToControl::Ack(Ack { first, last, apply }));
        }
    }

    /// Says that the store has halted, if it has.
    pub(super) fn nack(&mut self) {
        if let Some(halt) = self.halted.clone() {
            self.send(ToControl::Nack(halt));
        }
    }
}
