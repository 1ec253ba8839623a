//! The receipt: waits until an offset is durable on the edges that a caller names (rule 21). Woken
//! by the ack that was the last to be waited for, never by looking again and again.

use std::{
    collections::{BTreeSet, HashSet},
    sync::Arc,
    time::{Duration, Instant},
};

use edgesync_core::{edge_id::EdgeId, position::Offset};
use tokio::sync::Notify;

use super::{EdgeView, Fleet, waits::Lack};
use crate::log::Freeze;

/// On which edges an offset is to be durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// On all that are registered now, disconnected ones included.
    All,
    /// On at least so many.
    Count(usize),
    /// On these.
    Ids(Vec<EdgeId>),
}

/// Why a wait came back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WaitEnd {
    /// The offset is durable on all that were wanted.
    Reached,
    /// The time was over.
    Timeout,
    /// The release is frozen before the offset.
    Frozen,
    /// So many edges stand still, or were forgotten, that it cannot come.
    Halted,
}

/// How a wait went.
#[derive(Clone, Debug)]
pub struct Waited {
    /// Why it came back.
    pub end: WaitEnd,
    /// How long it took.
    pub waited: Duration,
    /// Who has it.
    pub have: Vec<EdgeId>,
    /// Who has it not.
    pub missing: Vec<EdgeView>,
}

/// Why a wait makes no sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WaitError {
    /// There is no edge to wait for.
    #[error("no edge is registered: an edge registers when its daemon first connects")]
    NoEdges,
    /// There are fewer edges than were asked for.
    #[error("{wanted} edges were asked for, and only {registered} are registered")]
    TooFew {
        /// How many there are.
        registered: usize,
        /// How many were asked for.
        wanted: usize,
    },
    /// Edges that are not registered.
    #[error("not registered: {}; `edgesync fleet` lists the edges", .0.iter().map(EdgeId::as_str).collect::<Vec<_>>().join(", "))]
    Unknown(Vec<EdgeId>),
    /// An offset that no change has yet.
    #[error("the offset is beyond the head, which is {head}")]
    BeyondHead {
        /// The head.
        head: Offset,
    },
}

/// A wait in the fleet, until it is dropped.
struct Waiting<'a> {
    fleet: &'a Fleet,
    number: u64,
    over: Arc<Notify>,
}

impl Waited {
    /// True if the offset is durable on all that were wanted.
    #[must_use]
    pub fn reached(&self) -> bool {
        self.end == WaitEnd::Reached
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.fleet.lock().waits.remove(self.number);
    }
}

/// True if no edge gets an offset until a person lets go.
pub(super) fn is_frozen(freeze: Option<&Freeze>, offset: Offset) -> bool {
    freeze.is_some_and(|freeze| offset > freeze.released.offset)
}

impl Fleet {
    /// Waits until an offset is durable on the edges wanted. Comes back at once where a halted or frozen
    /// edge, or a frozen release, makes waiting vain; one whose disk is full goes on by itself.
    ///
    /// # Errors
    /// If there is nothing that could be waited for.
    pub async fn wait(
        &self,
        offset: Offset,
        wanted: Wanted,
        timeout: Duration,
    ) -> Result<Waited, WaitError> {
        let started = Instant::now();
        let head = self.head().offset;
        if offset > head {
            return Err(WaitError::BeyondHead { head });
        }
        let (ids, needed) = self.choose(wanted)?;
        // What is released never goes back: an offset that is not frozen now will not be. One that is
        // just about to be released, after it became the head, is not frozen.
        let frozen = is_frozen(self.shared.log.frozen().as_ref(), offset);
        let mut end = if frozen { WaitEnd::Frozen } else { WaitEnd::Halted };
        let deadline = tokio::time::sleep(timeout);
        tokio::pin!(deadline);
        while let Some(waiting) = self.begin_wait(offset, &ids, needed).filter(|_| !frozen) {
            tokio::select! {
                () = waiting.over.notified() => {}
                () = &mut deadline => {
                    end = WaitEnd::Timeout;
                    break;
                }
            }
        }
        let (have, missing) = self.split(offset, &ids);
        // Who was forgotten meanwhile is not waited for (rule 21); of nobody nothing is said.
        let needed = needed.unwrap_or(have.len() + missing.len());
        let end = if have.len() >= needed.max(1) { WaitEnd::Reached } else { end };
        Ok(Waited { end, waited: started.elapsed(), have, missing })
    }

    /// Begins to wait for what is missing; none if there is nothing to wait for.
    fn begin_wait(
        &self,
        offset: Offset,
        ids: &BTreeSet<EdgeId>,
        needed: Option<usize>,
    ) -> Option<Waiting<'_>> {
        let log = self.head().log;
        let (mut missing, mut vain, mut have) = (HashSet::new(), HashSet::new(), 0);
        let mut edges = self.lock();
        for id in ids {
            let Some(edge) = edges.by_id.get(id) else { continue };
            if edge.has(log, offset) {
                have += 1;
            } else {
                missing.insert(id.clone());
                if edge.stands_still() {
                    vain.insert(id.clone());
                }
            }
        }
        let lack = Lack { offset, needed, have, missing, vain };
        if lack.is_over() {
            return None;
        }
        let (number, over) = edges.waits.add(lack);
        Some(Waiting { fleet: self, number, over })
    }

    /// The edges to look at, and how many of them have to have the offset; none if all.
    fn choose(&self, wanted: Wanted) -> Result<(BTreeSet<EdgeId>, Option<usize>), WaitError> {
        let registered: BTreeSet<EdgeId> = self.lock().by_id.keys().cloned().collect();
        if registered.is_empty() {
            return Err(WaitError::NoEdges);
        }
        match wanted {
            Wanted::All => Ok((registered, None)),
            Wanted::Count(wanted) if wanted > registered.len() => {
                Err(WaitError::TooFew { registered: registered.len(), wanted })
            }
            Wanted::Count(needed) => Ok((registered, Some(needed))),
            Wanted::Ids(ids) => {
                let ids: BTreeSet<_> = ids.into_iter().collect();
                let unknown: Vec<_> = ids.difference(&registered).cloned().collect();
                if unknown.is_empty() { Ok((ids, None)) } else { Err(WaitError::Unknown(unknown)) }
            }
        }
    }

    /// Who has an offset, and who has not.
    fn split(&self, offset: Offset, ids: &BTreeSet<EdgeId>) -> (Vec<EdgeId>, Vec<EdgeView>) {
        let head = self.head();
        let edges = self.lock();
        let (mut have, mut missing) = (Vec::new(), Vec::new());
        for id in ids {
            let Some(edge) = edges.by_id.get(id) else { continue };
            if edge.has(head.log, offset) {
                have.push(id.clone());
            } else {
                missing.push(edge.view(id, head));
            }
        }
        (have, missing)
    }
}
