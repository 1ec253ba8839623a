//! Station 6, what cannot be read: who reads finds damage that nobody else has looked at, and is not the one who may
//! do something about it. So it is noted beside the gate, where the apply thread finds it (invariant 17).

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Mutex, PoisonError},
};

use super::{Reader, Store, StoreError};
use crate::metrics;

/// What readers have found in the store of an epoch.
#[derive(Debug, Default)]
pub(super) struct Unread {
    found: Mutex<Option<(u64, String)>>,
}

impl Unread {
    /// Notes what was found. It is said of the store that was open when the read began: one that was opened since
    /// then reads its pages itself.
    fn note(&self, epoch: u64, error: &StoreError) {
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        if found.as_ref().is_none_or(|(of, _)| *of < epoch) {
            *found = Some((epoch, error.to_string()));
        }
    }

    fn of(&self, epoch: u64) -> Option<String> {
        let found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        found.as_ref().filter(|(of, _)| *of == epoch).map(|(_, text)| text.clone())
    }
}

impl Reader {
    /// Reads, and notes what cannot be read. sled may panic on a damaged page: that is an answer too
    /// (invariant 15).
    pub(super) fn watched<T>(
        &self,
        read: impl FnOnce() -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let epoch = self.gate.epoch();
        let done = catch_unwind(AssertUnwindSafe(read)).unwrap_or(Err(StoreError::Panicked));
        if let Err(error) = &done
            && !matches!(error, StoreError::Closed)
        {
            metrics::read_failed();
            if error.is_damage() {
                self.gate.unread.note(epoch, error);
            }
        }
        done
    }
}

#[cfg(test)]
impl Reader {
    /// As if a page could not be read.
    pub fn finds_damage(&self) {
        self.gate.unread.note(self.gate.epoch(), &StoreError::Panicked);
    }
}

impl Store {
    /// Looks whether somebody has found what cannot be read. Pages that a failed write has left so can be read when
    /// the store is open again, and a full disk is no damage: a sync, which fails then, tells these apart.
    ///
    /// # Errors
    /// If there is damage, or the sync fails.
    pub fn check_reads(&mut self) -> Result<(), StoreError> {
        let Some(found) = self.gate.unread.of(self.epoch) else { return Ok(()) };
        self.sync()?;
        Err(StoreError::Damaged(found))
    }
}
