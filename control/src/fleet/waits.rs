//! Who waits for whom. Each wait knows the edges that it still lacks, so an ack costs it one look at a
//! set: a change that ten thousand edges ack does not cost ten thousand looks at ten thousand edges.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
};

use edgesync_core::{edge_id::EdgeId, position::Offset};
use tokio::sync::Notify;

/// What one wait lacks.
#[derive(Debug)]
pub(super) struct Lack {
    /// What is waited for.
    pub(super) offset: Offset,
    /// How many edges have to have it; none if all of them, of which one that is forgotten is none
    /// any more (rule 21).
    pub(super) needed: Option<usize>,
    /// How many have it.
    pub(super) have: usize,
    /// Those that have it not.
    pub(super) missing: HashSet<EdgeId>,
    /// Those of them that stand still.
    pub(super) vain: HashSet<EdgeId>,
}

impl Lack {
    /// True if there is nothing more to wait for, be it reached or vain.
    pub(super) fn is_over(&self) -> bool {
        let may_come = self.have + self.missing.len();
        let needed = self.needed.unwrap_or(may_come);
        self.have >= needed || may_come.saturating_sub(self.vain.len()) < needed
    }
}

/// The waits that are running.
#[derive(Debug, Default)]
pub(super) struct Waits {
    running: BTreeMap<u64, (Lack, Arc<Notify>)>,
    next: u64,
}

impl Waits {
    /// Adds a wait: its number, and what tells it to look.
    pub(super) fn add(&mut self, lack: Lack) -> (u64, Arc<Notify>) {
        let (number, over) = (self.next, Arc::new(Notify::new()));
        self.next += 1;
        self.running.insert(number, (lack, Arc::clone(&over)));
        (number, over)
    }

    /// Takes a wait away.
    pub(super) fn remove(&mut self, number: u64) {
        self.running.remove(&number);
    }

    /// An edge has everything up to an offset.
    pub(super) fn acked(&mut self, edge: &EdgeId, durable: Offset) {
        self.each(|lack| {
            if durable >= lack.offset && lack.missing.remove(edge) {
                lack.vain.remove(edge);
                lack.have += 1;
            }
        });
    }

    /// An edge stands still.
    pub(super) fn halted(&mut self, edge: &EdgeId) {
        self.each(|lack| {
            if lack.missing.contains(edge) {
                lack.vain.insert(edge.clone());
            }
        });
    }

    /// An edge is none any more.
    pub(super) fn forgotten(&mut self, edge: &EdgeId) {
        self.each(|lack| {
            lack.missing.remove(edge);
            lack.vain.remove(edge);
        });
    }

    fn each(&mut self, change: impl Fn(&mut Lack)) {
        for (lack, over) in self.running.values_mut() {
            change(lack);
            if lack.is_over() {
                over.notify_one();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: usize) -> EdgeId {
        format!("edge-{number}").parse().unwrap()
    }

    async fn is_told(over: &Notify) -> bool {
        tokio::time::timeout(std::time::Duration::ZERO, over.notified()).await.is_ok()
    }

    fn lack(needed: usize, edges: usize) -> Lack {
        let missing = (0..edges).map(id).collect();
        let needed = (needed < edges).then_some(needed);
        Lack { offset: Offset(7), needed, have: 0, missing, vain: HashSet::new() }
    }

    #[tokio::test]
    async fn a_wait_is_told_by_the_ack_that_it_lacked_last_and_by_none_before() {
        let mut waits = Waits::default();
        let (_, all) = waits.add(lack(1_000, 1_000));
        let (_, some) = waits.add(lack(10, 1_000));
        let (gone, _) = waits.add(lack(1, 1_000));
        waits.remove(gone);
        for number in 0..1_000 {
            assert!(!is_told(&all).await, "after {number} acks");
            waits.acked(&id(number), Offset(6));
            waits.acked(&id(number), Offset(7 + number as u64));
            waits.acked(&id(number), Offset(8_000));
            assert_eq!(is_told(&some).await, number >= 9);
        }
        assert!(is_told(&all).await);
    }

    #[tokio::test]
    async fn a_wait_is_told_when_it_has_become_vain() {
        let mut waits = Waits::default();
        let (_, over) = waits.add(lack(2, 4));
        waits.acked(&id(0), Offset(7));
        waits.halted(&id(0));
        waits.halted(&id(1));
        waits.halted(&id(2));
        assert!(!is_told(&over).await, "one has it, and one may");
        waits.forgotten(&id(3));
        assert!(is_told(&over).await);
    }

    #[tokio::test]
    async fn who_waits_for_all_does_not_wait_for_one_that_is_forgotten() {
        let mut waits = Waits::default();
        let (_, over) = waits.add(lack(3, 3));
        waits.acked(&id(0), Offset(7));
        waits.forgotten(&id(1));
        assert!(!is_told(&over).await, "the third one has it not");
        waits.acked(&id(2), Offset(7));
        assert!(is_told(&over).await);
    }
}
