//! The control plane's end of a session, where it sends snapshots: of all that the edge has, at the
//! beginning; and of single zones that have drifted, each at a barrier in the stream (rule 16).

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use super::{InFlight, Sender, SenderOutput};
use crate::{
    limits::{REPAIR_LAG_CHANGES, REPAIRS_KEPT},
    name::Name,
    position::{Offset, Position},
    session::{GoodbyeReason, ToEdge},
    snapshot::{Chunk, Manifest, Scope, Staged},
};

/// What is being done about snapshots.
#[derive(Debug, Default)]
pub(super) struct Snapshots {
    /// Zones that the edge has asked for.
    repairs: VecDeque<Name>,
    /// One was asked for and is not there yet.
    asked: Option<Scope>,
    /// The last repair came too late: the log waits for the next, so that it cannot.
    missed: bool,
    /// No repair could be had: none is asked for before.
    not_before: Option<Instant>,
    /// A repair that waits until the edge stands where it was made.
    barrier: Option<Manifest>,
    /// One that is being sent: the next chunk, and the chunks on the way.
    sending: Option<(Manifest, u32)>,
    in_flight: VecDeque<(u32, usize)>,
}

impl Snapshots {
    /// True while the log has to wait for a snapshot.
    pub(super) fn holds_log(&self) -> bool {
        let waits = self.asked.as_ref().is_some_and(|asked| self.missed || *asked == Scope::Store);
        self.sending.is_some() || waits
    }

    /// Where the log has to wait for a repair.
    pub(super) fn barrier(&self) -> Option<Offset> {
        self.barrier.as_ref().map(|manifest| manifest.position.offset)
    }
}

impl Sender {
    pub(super) fn ask_for_snapshot(&mut self, scope: Scope, staged: Option<Staged>) {
        self.snapshots.asked = Some(scope.clone());
        self.outputs.push_back(SenderOutput::Snapshot { scope, staged });
    }

    /// Keeps what the edge wants mended.
    pub(super) fn repair(&mut self, zone: Name, now: Instant) {
        let repairs = &mut self.snapshots.repairs;
        if repairs.len() < REPAIRS_KEPT && !repairs.contains(&zone) {
            repairs.push_back(zone);
        }
        self.next_repair(now);
    }

    /// Asks for the next repair, if none is under way, and the edge is nearly where it will be made: it would
    /// hold a turn for all of a catch-up.
    pub(super) fn next_repair(&mut self, now: Instant) {
        let snapshots = &self.snapshots;
        let is_far = self.head.offset.since(self.read.offset) > REPAIR_LAG_CHANGES;
        let too_early = snapshots.not_before.is_some_and(|not_before| now < not_before);
        if is_far
            || too_early
            || snapshots.asked.is_some()
            || snapshots.barrier.is_some()
            || snapshots.sending.is_some()
        {
            return;
        }
        if let Some(zone) = self.snapshots.repairs.pop_front() {
            self.ask_for_snapshot(Scope::Zone(zone), None);
        }
    }

    /// A snapshot is there, to be sent from a chunk on.
    pub(super) fn snapshot_ready(&mut self, manifest: Manifest, next: u32, now: Instant) {
        if self.snapshots.asked.take().is_none_or(|asked| asked != manifest.scope) {
            return;
        }
        match &manifest.scope {
            Scope::Store => self.begin_snapshot(manifest, next, now),
            // The edge is beyond it already: another one is to be made.
            Scope::Zone(zone) if manifest.position.offset < self.read.offset => {
                self.snapshots.missed = true;
                self.snapshots.repairs.push_front(zone.clone());
                self.next_repair(now);
            }
            Scope::Zone(_) => {
                self.snapshots.missed = false;
                self.snapshots.barrier = Some(manifest);
            }
        }
        self.advance(now);
    }

    /// There is no room for another snapshot now. The log does not wait for one that is not being made.
    pub(super) fn snapshot_busy(&mut self, retry_after: Duration, message: String, now: Instant) {
        match self.snapshots.asked.take() {
            Some(Scope::Zone(zone)) => {
                self.snapshots.repairs.push_back(zone);
                self.snapshots.missed = false;
                self.snapshots.not_before = Some(now + retry_after);
                self.advance(now);
            }
            Some(Scope::Store) => self.goodbye(GoodbyeReason::Busy, retry_after, message),
            None => {}
        }
    }

    /// Begins the repair whose barrier the edge has been sent to.
    pub(super) fn begin_repair(&mut self, now: Instant) {
        if let Some(manifest) = self.snapshots.barrier.take() {
            if self.read.offset > self.sent {
                self.heartbeat(None, now);
            }
            self.begin_snapshot(manifest, 0, now);
        }
    }

    fn begin_snapshot(&mut self, manifest: Manifest, next: u32, now: Instant) {
        self.send(ToEdge::SnapshotBegin { manifest: manifest.clone(), next });
        self.snapshots.sending = Some((manifest, next));
        self.end_if_sent(now);
    }

    /// Asks for the next chunk, if one is to be sent and there is room for it.
    pub(super) fn next_chunk(&mut self) {
        if let Some((manifest, next)) = &self.snapshots.sending {
            self.fetching = true;
            self.outputs.push_back(SenderOutput::FetchChunk { id: manifest.id, index: *next });
        }
    }

    pub(super) fn chunk_fetched(&mut self, chunk: Chunk, now: Instant) {
        self.fetching = false;
        let Some((manifest, next)) = &mut self.snapshots.sending else { return };
        if chunk.snapshot != manifest.id || chunk.index != *next {
            return;
        }
        let octets = chunk.body.len();
        self.snapshots.in_flight.push_back((*next, octets));
        *next += 1;
        self.in_flight_octets = self.in_flight_octets.saturating_add(octets);
        self.send(ToEdge::SnapshotChunk(chunk));
        self.end_if_sent(now);
        self.advance(now);
    }

    /// After the last chunk the log goes on, from the snapshot's position.
    fn end_if_sent(&mut self, now: Instant) {
        let sent = self.snapshots.sending.take_if(|(manifest, next)| *next >= manifest.chunks);
        let Some((manifest, _)) = sent else { return };
        if manifest.scope == Scope::Store {
            let position: Position = manifest.position;
            (self.sent, self.read) = (position.offset, position);
            self.in_flight.push_back(InFlight { position, octets: 0 });
        } else {
            self.next_repair(now);
        }
    }

    pub(super) fn chunks_acked(&mut self, staged: Staged, now: Instant) {
        let Snapshots { in_flight, .. } = &mut self.snapshots;
        while let Some((_, octets)) = in_flight.pop_front_if(|(index, _)| *index < staged.next) {
            self.in_flight_octets = self.in_flight_octets.saturating_sub(octets);
        }
        self.outputs.push_back(SenderOutput::Staged(staged));
        self.advance(now);
    }
}
