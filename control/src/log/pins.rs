//! Pins: what a snapshot on its way will need of the log is not compacted away meanwhile (rule 18).

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use edgesync_core::position::Offset;

/// The offsets whose successors are needed, each with the number of those who need them.
#[derive(Clone, Default)]
pub(super) struct Pins(Arc<Mutex<BTreeMap<Offset, usize>>>);

/// Keeps what follows an offset, until it is dropped.
pub struct Pin {
    pins: Pins,
    offset: Offset,
}

impl Pins {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<Offset, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps what follows an offset.
    pub(super) fn pin(&self, offset: Offset) -> Pin {
        *self.lock().entry(offset).or_default() += 1;
        Pin { pins: self.clone(), offset }
    }

    /// The lowest offset that is pinned.
    pub(super) fn lowest(&self) -> Option<Offset> {
        self.lock().first_key_value().map(|(offset, _)| *offset)
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        let mut pins = self.pins.lock();
        if let Some(count) = pins.get_mut(&self.offset) {
            *count -= 1;
            if *count == 0 {
                pins.remove(&self.offset);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_pin_counts_until_the_last_of_it_is_gone() {
        let pins = Pins::default();
        let (a, b, c) = (pins.pin(Offset(5)), pins.pin(Offset(5)), pins.pin(Offset(9)));
        drop(a);
        assert_eq!(pins.lowest(), Some(Offset(5)));
        drop(b);
        assert_eq!(pins.lowest(), Some(Offset(9)));
        drop(c);
        assert_eq!(pins.lowest(), None);
    }
}
