//! A session in which the edge takes a snapshot: found or made beside it, sent chunk by chunk, and told to the
//! fleet as it comes along.

use std::{future::Future, pin::Pin};

use edgesync_core::{
    session::{GoodbyeReason, SenderInput},
    snapshot::{Manifest, Scope, Staged},
};

use super::Session;
use crate::{
    fleet::{Progress, Seat},
    snapshot::{BUSY_RETRY, Busy, Lease},
};

/// A snapshot that is being looked for, or made.
pub(super) type Making = Pin<Box<dyn Future<Output = Result<Lease, Busy>> + Send>>;

impl Session {
    /// Has a snapshot looked for or made, while the session goes on.
    pub(super) fn look_for_snapshot(&mut self, scope: Scope, staged: Option<Staged>) {
        let (Some(edge), Some(filter)) = (self.edge.clone(), self.filter.clone()) else { return };
        let (snapshots, from) = (self.api.snapshots.clone(), self.from);
        self.lease = None;
        self.making =
            Some(Box::pin(async move { snapshots.get(&edge, scope, filter, from, staged).await }));
    }

    /// A snapshot is there, or cannot be had.
    pub(super) fn made(&mut self, made: Result<Lease, Busy>) {
        match made {
            Ok(lease) => {
                let (manifest, next) = (lease.manifest().clone(), lease.next);
                let edge = self.seat.as_ref().map(Seat::to_string).unwrap_or_default();
                let Manifest { scope, position, records, .. } = &manifest;
                tracing::info!(edge, %scope, at = %position.offset, records, next, "snapshot begins");
                // Told where the edge is given a snapshot, and not at each of its tries to get one. It may be the
                // control plane that has lost something (invariant 12).
                if let Some(reason) = self.diverged.take() {
                    tracing::warn!(edge, reason, "the history of an edge is not this log's");
                    metrics::counter!("edgesync_control_diverged_edges_total").increment(1);
                }
                self.progress(&manifest, next);
                self.lease = Some(lease);
                self.feed(SenderInput::Snapshot { manifest, next });
            }
            Err(busy) => {
                let (retry_after, message) = (busy.retry_after(), busy.to_string());
                metrics::counter!("edgesync_control_snapshots_refused_total").increment(1);
                self.feed(SenderInput::SnapshotBusy { retry_after, message });
            }
        }
    }

    pub(super) async fn chunk(&mut self, index: u32) {
        let Some(lease) = &self.lease else { return };
        match lease.chunk(index).await {
            Ok(chunk) => {
                let octets = chunk.body.len() as u64;
                metrics::counter!("edgesync_control_snapshot_sent_bytes_total").increment(octets);
                self.feed(SenderInput::Chunk(chunk));
            }
            Err(error) => {
                tracing::error!(%error, "a snapshot cannot be read");
                self.over = Some("snapshot_failed");
            }
        }
    }

    /// The edge has a part of the snapshot.
    pub(super) fn staged(&mut self, staged: Staged) {
        let Some(lease) = self.lease.as_mut().filter(|l| l.manifest().id == staged.id) else {
            return;
        };
        lease.has_come_to(staged.next);
        let manifest = lease.manifest().clone();
        self.progress(&manifest, staged.next);
        if staged.next >= manifest.chunks && manifest.scope != Scope::Store {
            self.end_snapshot();
        }
    }

    /// Another edge has the place, and the snapshot is there when this one comes back for the rest.
    pub(super) fn displaced(&mut self) {
        let edge = self.seat.as_ref().map(Seat::to_string).unwrap_or_default();
        let message =
            "another edge waits for a snapshot, and this one has not come further for a while";
        tracing::warn!(edge, message, "snapshot is put off");
        self.goodbye(GoodbyeReason::Busy, BUSY_RETRY, message.to_owned());
    }

    fn progress(&self, manifest: &Manifest, done: u32) {
        if let Some(seat) = &self.seat {
            let (offset, chunks) = (manifest.position.offset, manifest.chunks);
            let repair = manifest.scope != Scope::Store;
            self.api.fleet.snapshot(seat, Progress { offset, done, chunks, repair });
        }
    }

    pub(super) fn end_snapshot(&mut self) {
        if self.lease.take().is_some()
            && let Some(seat) = &self.seat
        {
            self.api.fleet.snapshot_ended(seat);
        }
    }
}

/// Ready when a snapshot is there or cannot be had; never, if none is looked for.
pub(super) async fn made(making: &mut Option<Making>) -> Result<Lease, Busy> {
    let Some(running) = making else { return std::future::pending().await };
    let made = running.await;
    *making = None;
    made
}
