//! Retention: how much of the log is kept, by age and by size. What an edge that is away longer needs
//! then is a snapshot (invariants 9, 10).

use std::time::{Duration, SystemTime};

use edgesync_core::position::Offset;

use super::{Log, ReadError};

/// Octets of change sets that are looked at in one go.
const LOOK_OCTETS: usize = 4 * 1024 * 1024;
/// Goes of one look.
const LOOKS: usize = 64;

/// How much of the log is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Change sets that are older go.
    pub age: Duration,
    /// The oldest go while all have more octets.
    pub octets: u64,
}

impl Log {
    /// The offset up to which the log is to be compacted now; none if nothing is to go. A set that is
    /// dated after `now` is not old, and neither is what follows it.
    ///
    /// # Errors
    /// If the log cannot be read.
    pub fn expired(&self, keep: Retention, now: SystemTime) -> Result<Option<Offset>, ReadError> {
        let view = self.view()?;
        let mut surplus = view.log_octets()?.saturating_sub(keep.octets);
        let oldest = now.checked_sub(keep.age).unwrap_or(SystemTime::UNIX_EPOCH);
        let (mut after, mut expired) = (view.floor()?.offset, None);
        for _ in 0..LOOKS {
            let entries = view.entries(after, LOOK_OCTETS)?;
            let Some(last) = entries.last() else { return Ok(expired) };
            after = last.last;
            for entry in entries {
                if surplus == 0 && entry.committed >= oldest {
                    return Ok(expired);
                }
                surplus = surplus.saturating_sub(entry.body.len() as u64);
                expired = Some(entry.last);
            }
        }
        Ok(expired)
    }
}
