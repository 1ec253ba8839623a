//! Station 1, the API: the log for people, oldest change set first: what changed, when, and who did
//! it.

use edgesync_core::{change::Change, name::Name, position::Offset};
use edgesync_proto::{
    convert::{decode_set, zone_of_set},
    v1,
};
use tonic::Status;

use super::{
    Api, blocking, origin,
    pages::{self, Pages},
    status,
};
use crate::{
    access::Admitted,
    log::{LogEntry, View},
};

/// Change sets that are shown when the caller says neither from where on nor how many.
const LAST: usize = 100;
/// Change sets before the end of the log that a caller may ask for without saying from where on: their
/// places are looked for before anything is sent.
const LAST_MOST: usize = 100_000;
/// Octets of change sets that are read at a time.
const READ_OCTETS: usize = 256 * 1024;
/// Lines of one message at the most.
const LINES: usize = 10_000;

/// The change sets that are still to be sent.
pub(super) struct LogPages {
    view: View,
    /// Shown are the zones that the caller may see.
    admitted: Admitted,
    zone: Option<Name>,
    after: Offset,
    left: usize,
}

/// Opens the part of the log that a caller asks for.
pub(super) async fn open(
    api: &Api,
    admitted: Admitted,
    message: &v1::ListLogRequest,
) -> Result<LogPages, Status> {
    let zone = Some(message.zone.as_str()).filter(|text| !text.is_empty());
    let zone = zone.map(origin).transpose()?;
    zone.as_ref().map_or(Ok(()), |zone| admitted.may(zone))?;
    let limit = usize::try_from(message.limit).ok().filter(|limit| *limit > 0);
    let view = api.view().await?;
    let from = message.from;
    blocking(move || {
        let after = match from {
            0 => before_last(&view, zone.as_ref(), limit.unwrap_or(LAST).min(LAST_MOST))?,
            from => Offset(from).before(),
        };
        // What is compacted is told before anything is sent.
        view.entries(after, 0).map_err(|error| status::read(&error))?;
        Ok(LogPages { view, admitted, zone, after, left: limit.unwrap_or(usize::MAX) })
    })
    .await?
}

/// The offset before the last `count` change sets of a zone, or of all. The log is searched from its
/// end in steps that grow, since nothing says where a zone's sets are.
fn before_last(view: &View, zone: Option<&Name>, count: usize) -> Result<Offset, Status> {
    let error = |error| status::store(&error);
    let Some(zone) = zone else { return view.before_last(count).map_err(error) };
    let floor = view.floor().map_err(error)?.offset;
    let mut sets = count;
    loop {
        let start = view.before_last(sets).map_err(error)?;
        let (mut found, mut after) = (Vec::new(), start);
        loop {
            let entries = view.entries(after, READ_OCTETS).map_err(|error| status::read(&error))?;
            let Some(last) = entries.last() else { break };
            after = last.last;
            for entry in entries {
                if zone_of(&entry)? == *zone {
                    found.push(entry.first.before());
                }
            }
        }
        match found.len().checked_sub(count).and_then(|index| found.get(index)) {
            Some(before) => return Ok(*before),
            None if start <= floor => return Ok(floor),
            None => sets = sets.saturating_mul(10),
        }
    }
}

fn unreadable(entry: &LogEntry, error: &impl std::fmt::Display) -> Status {
    Status::data_loss(format!("the change set at offset {} cannot be read: {error}", entry.first))
}

fn zone_of(entry: &LogEntry) -> Result<Name, Status> {
    zone_of_set(entry.body.clone()).map_err(|error| unreadable(entry, &error))
}

impl LogPages {
    /// The messages for a change set; none if it is of another zone. One with many changes comes
    /// in several messages of the same offsets.
    fn messages(&self, entry: &LogEntry) -> Result<Vec<v1::ListLogResponse>, Status> {
        // A set may have 100,000 changes; whose it is can be told without them.
        let zone = zone_of(entry)?;
        if self.zone.as_ref().is_some_and(|wanted| *wanted != zone) || !self.admitted.sees(&zone) {
            return Ok(Vec::new());
        }
        let set = decode_set(entry.body.clone()).map_err(|error| unreadable(entry, &error))?;
        let audit = self.view.audit(entry.last).map_err(|error| status::store(&error))?;
        let (principal, peer, method) =
            audit.map(|who| (who.principal, who.peer, who.method)).unwrap_or_default();
        let lines: Vec<_> = set.changes.iter().map(Change::to_string).collect();
        let message = |changes| v1::ListLogResponse {
            first: entry.first.0,
            last: entry.last.0,
            committed: Some(entry.committed.into()),
            zone: set.zone.to_string(),
            principal: principal.clone(),
            peer: peer.clone(),
            method: method.clone(),
            changes,
            size: u32::try_from(entry.body.len()).unwrap_or(u32::MAX),
        };
        let parts = pages::divide(lines, LINES, |line: &String| line.len() + 4);
        Ok(parts.into_iter().map(message).collect())
    }
}

impl Pages for LogPages {
    type Page = v1::ListLogResponse;

    fn next(&mut self) -> Result<Vec<Self::Page>, Status> {
        while self.left > 0 {
            let entries = self.view.entries(self.after, READ_OCTETS);
            let entries = entries.map_err(|error| status::read(&error))?;
            let Some(last) = entries.last() else { break };
            self.after = last.last;
            let mut found = Vec::new();
            for entry in entries {
                let messages = self.messages(&entry)?;
                if !messages.is_empty() && self.left > 0 {
                    self.left -= 1;
                    found.extend(messages);
                }
            }
            if !found.is_empty() {
                return Ok(found);
            }
        }
        Ok(Vec::new())
    }
}
