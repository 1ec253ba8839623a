//! Station 1, the API: what is kept of the log and how far it is released to edges.

use edgesync_core::position::Offset;
use edgesync_proto::v1;
use tonic::Status;

use super::{Api, status};
use crate::{
    fleet::WaitError,
    log::{Caller, Compaction, KeptBy},
};

/// Characters of a reason.
const REASON_CHARS: usize = 200;

impl Api {
    /// Forgets the oldest change sets.
    pub(super) async fn compact(&self, upto: u64) -> Result<v1::CompactLogResponse, Status> {
        let (upto, head) = (Offset(upto), self.log.head().borrow().offset);
        if upto > head {
            return Err(status::wait(&WaitError::BeyondHead { head }));
        }
        let done = self.log.compact(upto).await.map_err(|error| status::refused(&error))?;
        let Compaction { floor, sets, kept } = done;
        let kept = match kept {
            // It may be that some was forgotten before the freeze; most often none was.
            Some(KeptBy::Freeze) => {
                return Err(Status::failed_precondition(
                    "the release is frozen, and edges could get no snapshot in place of what is \
                     forgotten: `edgesync unfreeze` first",
                ));
            }
            Some(KeptBy::Snapshot(at)) => format!(
                "what follows offset {at} is kept: a snapshot that edges take begins there, or one is \
                 being made; try again when they have it, or 10 minutes after they stop to take it"
            ),
            None => String::new(),
        };
        tracing::info!(%upto, %floor, sets, kept, "log compacted");
        Ok(v1::CompactLogResponse { floor: floor.0, change_sets: sets, kept })
    }

    /// Keeps all that follows from the edges.
    pub(super) async fn freeze_release(
        &self,
        caller: Caller,
        reason: &str,
    ) -> Result<v1::Release, Status> {
        let line = reason.chars().map(|c| if c.is_control() { ' ' } else { c });
        let reason: String = line.take(REASON_CHARS).collect();
        let Caller { principal, peer, .. } = caller;
        if self.log.frozen().is_some() {
            return Err(Status::failed_precondition(
                "the release is frozen already: `edgesync unfreeze` first",
            ));
        }
        let view = self.log.freeze(principal.clone(), reason.clone()).await;
        let view = view.map_err(|error| status::refused(&error))?;
        let at = self.log.released().borrow().offset;
        tracing::warn!(principal, peer, reason, %at, "the release is frozen");
        // Edges that need one meanwhile get it: no other can be made of what is released.
        let snapshots = self.snapshots.clone();
        tokio::spawn(async move { snapshots.prepare(view).await });
        Ok(self.release_now())
    }

    /// Lets the edges have all.
    pub(super) async fn unfreeze_release(&self, caller: Caller) -> Result<v1::Release, Status> {
        if self.log.frozen().is_none() {
            return Err(Status::failed_precondition("the release is not frozen"));
        }
        self.log.unfreeze().await.map_err(|error| status::refused(&error))?;
        let Caller { principal, peer, .. } = caller;
        tracing::warn!(principal, peer, "the release goes on");
        Ok(self.release_now())
    }

    /// How the release stands.
    pub(super) fn release_now(&self) -> v1::Release {
        let freeze = self.log.frozen();
        let (frozen, since) = (freeze.is_some(), freeze.as_ref().map(|f| f.since.into()));
        let (reason, principal) = freeze.map(|f| (f.reason, f.principal)).unwrap_or_default();
        v1::Release {
            released: Some((*self.log.released().borrow()).into()),
            head: Some((*self.log.head().borrow()).into()),
            floor: self.log.floor().0,
            frozen,
            reason,
            principal,
            since,
        }
    }
}
