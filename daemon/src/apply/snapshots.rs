//! Snapshots on the apply thread: staged in line with everything else, and put in place when all of
//! one is there, unless the guard wants a person first.

use std::time::Instant;

use edgesync_core::{
    guard::StoreGuard,
    snapshot::{Chunk, Manifest, Scope, SnapshotId},
};

use super::{
    Report,
    applier::Applier,
    halt::{Halted, Mode, guarded},
};
use crate::store::{InstallError, Store, StoreError};

impl Applier {
    /// Makes ready for a snapshot, once there is room for all of it (F-11): one that ends in a full disk
    /// would have taken the room of the changes that come after it.
    pub(super) fn stage(&mut self, manifest: Manifest, may_be_older: bool) {
        self.make_durable();
        let here = self.store.as_ref().and_then(Store::durable);
        let position = manifest.position;
        if let Some(here) = here.filter(|here| here.log == position.log && !may_be_older)
            && here.offset > position.offset
        {
            let (offset, here) = (position.offset, here.offset);
            self.reject::<()>(format!("it is of offset {offset}, and the store is at {here}"));
            return;
        }
        self.pauses.expect_rows(self.to_come(&manifest));
        let may_begin = self.wait_for_pause();
        self.pauses.expect_rows(0);
        if !may_begin {
            // The daemon ends: what stands behind the snapshot in the line follows nothing now.
            self.void();
            return;
        }
        tracing::info!(
            scope = %manifest.scope, at = %manifest.position.offset, records = manifest.records,
            chunks = manifest.chunks, "taking a snapshot"
        );
        let begun = self.store.as_mut().map_or(Ok(()), |store| store.begin_staging(manifest));
        self.note_staged();
        self.give_up_on(begun);
    }

    /// Octets of rows that are still to come of a snapshot.
    fn to_come(&self, manifest: &Manifest) -> u64 {
        let staged = self.store.as_ref().and_then(Store::staged);
        let done = staged.filter(|staged| staged.id == manifest.id).map_or(0, |staged| staged.next);
        let left = u64::from(manifest.chunks.saturating_sub(done));
        manifest.octets / u64::from(manifest.chunks.max(1)) * left
    }

    pub(super) fn stage_chunk(&mut self, chunk: &Chunk) {
        let staged = self.store.as_mut().map_or(Ok(()), |store| store.stage(chunk));
        self.note_staged();
        self.settle_install(staged);
    }

    /// Puts a snapshot in place; `confirmed` by a person if the guard has held it before.
    pub(super) fn install(&mut self, id: SnapshotId, confirmed: bool) {
        self.make_durable();
        let Some(store) = &self.store else { return };
        let staged = store.staged_manifest().filter(|manifest| manifest.id == id);
        let Some(manifest) = staged.cloned() else {
            self.reject::<()>("it is not here".to_owned());
            return;
        };
        if let Err(exceeded) = self.guard_install(&manifest, confirmed) {
            let reason = guarded(&format!("the snapshot of {}", manifest.scope), exceeded);
            let (position, of_all) = (manifest.position, manifest.scope == Scope::Store);
            return self.halt(Halted::Snapshot { id, position, of_all }, reason);
        }
        let begin = Instant::now();
        // A repair changes how many records there are where the store stands, which the witness knows.
        self.testify_anew();
        let installed = self.store.as_mut().map_or(Ok(None), |store| store.install(id));
        let Some(installed) = self.settle_install(installed) else { return };
        let Some(position) = installed else {
            self.reject::<()>("not all of it is here".to_owned());
            return;
        };
        let synced = self.store.as_mut().map_or(Ok(None), |store| store.sync());
        if self.give_up_on(synced).is_none() {
            return;
        }
        let Manifest { scope, filter, .. } = manifest;
        tracing::info!(%scope, at = %position.offset, took = ?begin.elapsed(), "snapshot in place");
        if scope == Scope::Store {
            self.guard.clear();
            self.confirmed = None;
        }
        // What was halted before is in it.
        if scope == Scope::Store || confirmed {
            self.mode = Mode::Going;
        }
        self.testify();
        self.report(Report::Installed { position, scope, filter });
    }

    fn guard_install(
        &mut self,
        manifest: &Manifest,
        confirmed: bool,
    ) -> Result<(), edgesync_core::guard::Exceeded> {
        let Some(store) = &self.store else { return Ok(()) };
        let before = store.records();
        match &manifest.scope {
            Scope::Store if confirmed => Ok(()),
            // A zone that the edge is not to have any more was taken away on purpose, at the control plane (rule 13).
            Scope::Store if manifest.filter != store.filter() => {
                let before = store.records_within(&self.filter);
                StoreGuard::replace(before, manifest.records)
            }
            Scope::Store => StoreGuard::replace(before, manifest.records),
            Scope::Zone(zone) => {
                let has = store.reader().zone(zone).map_or(0, |zone| zone.state.records);
                let after = before.saturating_sub(has).saturating_add(manifest.records);
                self.guard.take(before, after, confirmed, Instant::now())
            }
        }
    }

    /// What is not what it says is thrown away, and fetched again.
    fn settle_install<T>(&mut self, done: Result<T, InstallError>) -> Option<T> {
        match done {
            Ok(done) => Some(done),
            Err(InstallError::Store(StoreError::TooLarge(octets))) => {
                self.reject(format!("a value of it has {octets} octets"))
            }
            Err(InstallError::Store(error)) => self.give_up_on(Err(error)),
            Err(error) => self.reject(error.to_string()),
        }
    }

    fn reject<T>(&mut self, reason: String) -> Option<T> {
        tracing::error!(%reason, "a snapshot is thrown away");
        self.void();
        let dropped = self.store.as_mut().map_or(Ok(()), |store| store.drop_staging());
        self.give_up_on(dropped);
        self.report(Report::Rejected { reason });
        None
    }
}
