//! What a session reads of the log: from memory where it is, else from the store.

use std::time::Instant;

use edgesync_core::{
    position::{HistoryHash, Offset, Position},
    session::{CommittedSet, SenderInput},
};

use super::{super::filter, Session};
use crate::log::{Log, LogEntry, ReadError};

impl Session {
    /// Reads what follows an offset, up to another one: from memory if it is there, else from the log.
    pub(super) async fn fetch(&mut self, after: Offset, upto: Offset, octets: usize) {
        let Some(filter) = &self.filter else { return };
        let log_id = self.api.log.head().borrow().log;
        let position =
            |set: &CommittedSet| Position { log: log_id, offset: set.last, hash: set.hash };
        let (mut sets, read_to);
        if let Some(mut recent) = self.api.log.recent(after, octets) {
            recent.retain(|released| released.set.last <= upto);
            let now = Instant::now();
            read_to = recent.last().map(|released| position(&released.set));
            sets = Vec::new();
            for released in recent.iter().filter(|released| filter.wants(&released.zone)) {
                self.journey.sent(released.set.last, released.at, now);
                sets.push(released.set.clone());
            }
        } else {
            let mut stored = match read_log(&self.api.log, after, octets).await {
                Ok(stored) => stored,
                Err(failed) => return self.over = Some(failed.label()),
            };
            stored.retain(|set| set.last <= upto);
            read_to = stored.last().map(position);
            sets = match filter::wanted(stored, filter) {
                Ok(wanted) => wanted,
                Err(error) => {
                    // Never skipped (rule 23): who cannot be told whose set it is gets nothing behind it.
                    tracing::error!(%error, "the zone of a change set in the log cannot be read");
                    return self.over = Some("log_failed");
                }
            };
        }
        match read_to {
            Some(read_to) => self.feed(SenderInput::Fetched { sets, read_to }),
            None => self.over = Some("log_failed"),
        }
    }
}

/// What the log begins after, and its hash at an offset: at one moment, since what is compacted between the
/// two would look like another history.
pub(super) async fn floor_and_hash(
    log: &Log,
    offset: Offset,
) -> Result<(Offset, Option<HistoryHash>), ReadFailed> {
    let log = log.clone();
    let read = tokio::task::spawn_blocking(move || {
        let view = log.view()?;
        Ok((view.floor()?.offset, view.hash_at(offset)?))
    });
    let read = read.await.map_err(|_| ReadFailed::Store)?;
    read.map_err(|error| ReadFailed::from(ReadError::Store(error)))
}

/// The sets after an offset, from the log's store.
async fn read_log(
    log: &Log,
    after: Offset,
    octets: usize,
) -> Result<Vec<CommittedSet>, ReadFailed> {
    let log = log.clone();
    let read = tokio::task::spawn_blocking(move || log.view()?.entries(after, octets)).await;
    let entries = read.map_err(|_| ReadFailed::Store)?.map_err(ReadFailed::from)?;
    let set = |entry: LogEntry| CommittedSet {
        prev: entry.first.before(),
        first: entry.first,
        last: entry.last,
        hash: entry.hash,
        body: entry.body,
    };
    Ok(entries.into_iter().map(set).collect())
}

/// Why a part of the log could not be read; what went wrong is logged.
pub(super) enum ReadFailed {
    /// The store has failed.
    Store,
    /// It was compacted away since the session began: the edge comes back for a snapshot.
    Compacted,
}

impl ReadFailed {
    const fn label(&self) -> &'static str {
        match self {
            Self::Store => "log_failed",
            Self::Compacted => "compacted",
        }
    }
}

impl From<ReadError> for ReadFailed {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Store(error) => {
                tracing::error!(%error, "the log cannot be read");
                Self::Store
            }
            ReadError::Compacted { after, floor } => {
                tracing::info!(%after, %floor, "the log was compacted before an edge had read it");
                Self::Compacted
            }
        }
    }
}
