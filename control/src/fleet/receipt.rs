//! The receipt: waits until an offset is durable on the edges that a caller names (rule 21). Woken
//! by acks, never by looking again and again.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use edgesync_core::{edge_id::EdgeId, position::Offset};

use super::{EdgeView, Fleet};

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

/// How a wait went.
#[derive(Clone, Debug)]
pub struct Waited {
    /// True if the offset is durable on all that were wanted.
    pub reached: bool,
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

impl Fleet {
    /// Waits until an offset is durable on the edges wanted. Comes back at once where a halted edge or
    /// a frozen release makes waiting vain.
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
        let mut changed = self.changed();
        let mut released = self.shared.log.released();
        let (ids, needed) = self.choose(wanted)?;
        let deadline = tokio::time::sleep(timeout);
        tokio::pin!(deadline);
        loop {
            changed.borrow_and_update();
            let (have, missing) = self.split(offset, &ids);
            let reached = have.len() >= needed;
            let vain = missing.iter().filter(|edge| edge.state.waits_for_a_person()).count();
            let frozen = offset > self.shared.log.released().borrow().offset;
            let vain = frozen || have.len() + missing.len() - vain < needed;
            let waited = Waited { reached, waited: started.elapsed(), have, missing };
            if reached || vain {
                return Ok(waited);
            }
            tokio::select! {
                _ = changed.changed() => {}
                _ = released.changed() => {}
                () = &mut deadline => return Ok(Waited { waited: started.elapsed(), ..waited }),
            }
        }
    }

    /// The edges to look at, and how many of them have to have the offset.
    fn choose(&self, wanted: Wanted) -> Result<(BTreeSet<EdgeId>, usize), WaitError> {
        let registered: BTreeSet<EdgeId> = self.lock().by_id.keys().cloned().collect();
        if registered.is_empty() {
            return Err(WaitError::NoEdges);
        }
        match wanted {
            Wanted::All => {
                let needed = registered.len();
                Ok((registered, needed))
            }
            Wanted::Count(wanted) if wanted > registered.len() => {
                Err(WaitError::TooFew { registered: registered.len(), wanted })
            }
            Wanted::Count(needed) => Ok((registered, needed)),
            Wanted::Ids(ids) => {
                let ids: BTreeSet<_> = ids.into_iter().collect();
                let unknown: Vec<_> = ids.difference(&registered).cloned().collect();
                let needed = ids.len();
                if unknown.is_empty() {
                    Ok((ids, needed))
                } else {
                    Err(WaitError::Unknown(unknown))
                }
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
            let durable = edge.durable.filter(|durable| durable.log == head.log);
            if durable.is_some_and(|durable| durable.offset >= offset) {
                have.push(id.clone());
            } else {
                missing.push(edge.view(id, head));
            }
        }
        (have, missing)
    }
}
