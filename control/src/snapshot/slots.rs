//! Who takes a snapshot now: so many edges at once. A turn is for who makes something of it. An edge that has
//! not come further for a while gives its turn to another one that asks, and who had a turn and has not
//! come to the end of it, for whatever reason, comes after those who wait. Its part of the snapshot is not lost:
//! it goes on from there. Nobody loses a turn that nobody wants.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use edgesync_core::edge_id::EdgeId;
use tokio::sync::Notify;

/// An edge that has not come further for so long may lose its turn.
const STALLED: Duration = Duration::from_secs(30);
/// Who was sent away waits for so long: then it has come back, or is gone. Who has had a turn and not
/// finished lets others go first for as long.
const REMEMBERED: Duration = Duration::from_secs(15);

/// All turns.
#[derive(Debug)]
pub(super) struct Slots {
    most: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    taken: Vec<Place>,
    /// Who was sent away, and when.
    waiting: Vec<(EdgeId, Instant)>,
    /// Who has not finished, and when it had its turn.
    unfinished: Vec<(EdgeId, Instant)>,
}

/// A turn that is taken.
#[derive(Debug)]
struct Place {
    /// When its edge came further; none while its snapshot is being made.
    moved: Option<Instant>,
    /// Also what it is known by.
    lost: Arc<Notify>,
}

/// A turn, given back when this is dropped.
#[derive(Debug)]
pub(super) struct Slot {
    edge: EdgeId,
    lost: Arc<Notify>,
    slots: Arc<Slots>,
    is_finished: bool,
}

/// Writes down that an edge was seen now; who was not seen for a while is forgotten.
fn remember(edges: &mut Vec<(EdgeId, Instant)>, edge: &EdgeId, now: Instant) {
    edges.retain(|(known, _)| known != edge);
    edges.push((edge.clone(), now));
}

impl State {
    fn forget(&mut self, now: Instant) {
        for edges in [&mut self.waiting, &mut self.unfinished] {
            edges.retain(|(_, at)| now.saturating_duration_since(*at) < REMEMBERED);
        }
    }

    /// True if an edge has to let others go first.
    fn is_behind(&self, edge: &EdgeId) -> bool {
        self.unfinished.iter().any(|(known, _)| known == edge)
            && self.waiting.iter().any(|(other, _)| other != edge)
    }

    /// Makes room by the turn that has stood still for longest, if one has for too long.
    fn displace(&mut self, now: Instant) -> bool {
        let still = |place: &Place| place.moved.map(|moved| now.saturating_duration_since(moved));
        let longest = self.taken.iter().enumerate().map(|(at, place)| (still(place), at)).max();
        let Some((_, at)) = longest.filter(|(still, _)| *still >= Some(STALLED)) else {
            return false;
        };
        self.taken.swap_remove(at).lost.notify_one();
        metrics::counter!("edgesync_control_snapshots_displaced_total").increment(1);
        true
    }
}

impl Slots {
    pub(super) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self { most, state: Mutex::default() })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A turn for an edge, if there is one.
    pub(super) fn take(self: &Arc<Self>, edge: &EdgeId, now: Instant) -> Option<Slot> {
        let mut state = self.state();
        state.forget(now);
        if state.is_behind(edge) || (state.taken.len() >= self.most && !state.displace(now)) {
            remember(&mut state.waiting, edge, now);
            return None;
        }
        state.waiting.retain(|(known, _)| known != edge);
        let lost = Arc::<Notify>::default();
        state.taken.push(Place { moved: None, lost: Arc::clone(&lost) });
        drop(state);
        Some(Slot { edge: edge.clone(), lost, slots: Arc::clone(self), is_finished: false })
    }
}

impl Slot {
    /// The edge has come further, or may begin.
    pub(super) fn moves(&self, now: Instant) {
        let mut state = self.slots.state();
        let mut taken = state.taken.iter_mut();
        if let Some(place) = taken.find(|place| Arc::ptr_eq(&place.lost, &self.lost)) {
            place.moved = Some(now);
        }
    }

    /// The edge has all that it was given the turn for.
    pub(super) fn finish(mut self) {
        self.is_finished = true;
    }

    /// Notified when another edge has got the turn.
    pub(super) fn lost(&self) -> Arc<Notify> {
        Arc::clone(&self.lost)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut state = self.slots.state();
        state.taken.retain(|place| !Arc::ptr_eq(&place.lost, &self.lost));
        if !self.is_finished {
            remember(&mut state.unfinished, &self.edge, Instant::now());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn is_lost(slot: &Slot) -> bool {
        tokio::time::timeout(Duration::ZERO, slot.lost().notified()).await.is_ok()
    }

    fn edge(name: &str) -> EdgeId {
        name.parse().unwrap()
    }

    #[test]
    fn so_many_turns_are_there_and_each_comes_back() {
        let (slots, now) = (Slots::new(2), Instant::now());
        let [first, second] = ["a", "b"].map(|name| slots.take(&edge(name), now).unwrap());
        assert!(slots.take(&edge("c"), now).is_none());
        first.finish();
        let third = slots.take(&edge("c"), now).unwrap();
        assert!(slots.take(&edge("d"), now).is_none());
        drop((second, third));
        assert!(slots.state().taken.is_empty());
    }

    #[tokio::test]
    async fn who_stands_still_longest_loses_its_turn_to_who_asks_and_nobody_else_does() {
        let (slots, begin) = (Slots::new(3), Instant::now());
        let [stalled, longer, making] =
            ["a", "b", "c"].map(|name| slots.take(&edge(name), begin).unwrap());
        longer.moves(begin);
        stalled.moves(begin + Duration::from_secs(1));
        let early = begin + STALLED - Duration::from_secs(1);
        assert!(slots.take(&edge("d"), early).is_none(), "it has its time");
        let late = begin + STALLED + Duration::from_secs(5);
        let other = slots.take(&edge("d"), late).unwrap();
        assert!(is_lost(&longer).await);
        assert!(!is_lost(&stalled).await && !is_lost(&making).await);
        stalled.moves(late);
        let none = slots.take(&edge("e"), late).is_none();
        assert!(none, "it has come further, and one that is made cannot");
        drop(longer);
        assert!(slots.take(&edge("e"), late).is_none(), "what was lost is not given back");
        drop((stalled, making, other));
        assert!(slots.state().taken.is_empty());
    }

    #[test]
    fn who_has_not_finished_lets_those_go_first_who_wait_and_does_not_wait_for_ever() {
        let (slots, now) = (Slots::new(1), Instant::now());
        let turn = slots.take(&edge("slow"), now).unwrap();
        drop(turn);
        let turn = slots.take(&edge("slow"), now).expect("nobody else wants it");
        assert!(slots.take(&edge("a"), now).is_none());
        drop(turn);
        assert!(slots.take(&edge("slow"), now).is_none());
        slots.take(&edge("a"), now).expect("its turn").finish();
        let turn = slots.take(&edge("slow"), now).expect("nobody waits any more");
        assert!(slots.take(&edge("b"), now).is_none());
        drop(turn);
        let later = Instant::now() + REMEMBERED;
        assert!(slots.take(&edge("slow"), later).is_some(), "who waited has not come back");
    }
}
