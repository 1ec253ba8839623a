//! What was handed to the apply thread and is not done: how much memory it holds, and how long the
//! oldest change has been waiting.

use std::{collections::VecDeque, time::Instant};

use crate::limits::WAITING_OVERHEAD_OCTETS;

/// Works in hand, in order.
#[derive(Debug, Default)]
pub(super) struct InHand {
    works: VecDeque<(usize, Option<Instant>)>,
    octets: usize,
}

impl InHand {
    /// A work is handed over; `received` is none if it is no change set.
    pub fn push(&mut self, octets: usize, received: Option<Instant>) {
        let octets = octets.saturating_add(WAITING_OVERHEAD_OCTETS);
        self.octets = self.octets.saturating_add(octets);
        self.works.push_back((octets, received));
    }

    /// The oldest `works` are done.
    pub fn done(&mut self, works: usize) {
        for (octets, _) in self.works.drain(..works.min(self.works.len())) {
            self.octets = self.octets.saturating_sub(octets);
        }
    }

    /// Octets in hand.
    pub const fn octets(&self) -> usize {
        self.octets
    }

    /// Receipt of the oldest change set.
    pub fn oldest(&self) -> Option<Instant> {
        self.works.iter().find_map(|(_, received)| *received)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_done_frees_its_octets_and_the_oldest_moves_on() {
        let mut in_hand = InHand::default();
        let (early, late) = (Instant::now(), Instant::now());
        in_hand.push(100, Some(early));
        in_hand.push(0, None);
        in_hand.push(10, Some(late));
        assert_eq!((in_hand.octets(), in_hand.oldest()), (110 + 3 * 64, Some(early)));
        in_hand.done(1);
        assert_eq!((in_hand.octets(), in_hand.oldest()), (10 + 2 * 64, Some(late)));
        in_hand.done(9);
        assert_eq!((in_hand.octets(), in_hand.oldest()), (0, None));
    }
}
