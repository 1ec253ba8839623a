//! How the edge stands, for the control plane: a sign of life, with why nothing is applied for now if nothing is, and
//! that the store has failed (rule 21).

use std::time::{Duration, Instant};

use super::Receiver;
use crate::{
    position::Offset,
    session::{Ack, Halt, ToControl},
};

impl Receiver {
    /// Gives the control plane a sign of life.
    pub(super) fn sign(&mut self, now: Instant) {
        let (first, last) = (self.acked.next(), self.acked);
        let ack = Ack { first, last, apply: Duration::ZERO };
        self.send(match self.paused.clone() {
            Some(pause) => ToControl::Paused { ack, pause },
            None => ToControl::Ack(ack),
        });
        self.said = Some(now);
    }

    /// Says at once that nothing is applied for now, or that it goes on: whoever waits for this edge is told
    /// (rule 21).
    pub(super) fn say_paused(&mut self, now: Instant) {
        if self.is_live() {
            self.sign(now);
        }
    }

    /// The store has failed: the edge is halted before all that follows what is durable (rule 21).
    pub(super) fn fail(&mut self, reason: String) {
        let next = self.durable.map_or(Offset::ZERO, |durable| durable.offset).next();
        self.failed = true;
        self.set_aside = None;
        self.halted = Some(Halt { first: next, last: next, held: false, reason });
        self.nack();
    }
}
