//! Reading the log so that what is read is proved: each entry follows the one before it by offset
//! and by history hash, up to the head (rule 12). Nothing that does not is given to anybody
//! (invariant 17).

use edgesync_core::position::{Offset, Position};
use redb::ReadableTable;

use super::{corrupt::corrupt, schema::LogEntry};

/// The position that the entries read so far prove.
pub(super) struct Chain {
    at: Position,
}

impl Chain {
    /// Begins at the end of the last entry that ends at an offset or before it. The hash there is
    /// the one stored with that entry; before the first entry that is kept it is the `floor`'s.
    pub(super) fn begin(
        table: &impl ReadableTable<u64, &'static [u8]>,
        floor: Position,
        offset: Offset,
    ) -> Result<Self, redb::Error> {
        let Some(row) = table.range(..=offset.0)?.next_back() else {
            return Ok(Self { at: floor });
        };
        let (last, value) = row?;
        let LogEntry { last, hash, .. } = LogEntry::read_head(last.value(), value.value())?;
        Ok(Self { at: Position { log: floor.log, offset: last, hash } })
    }

    /// Takes the next entry, if it is the one that follows.
    pub(super) fn follow(&mut self, entry: &LogEntry) -> Result<(), redb::Error> {
        let LogEntry { first, last, .. } = entry;
        if *first != self.at.offset.next() || last < first {
            let at = self.at.offset;
            let what = format!("the log goes on with offsets {first}..={last} after offset {at}");
            return Err(corrupt(what));
        }
        let next = self.at.after(*last, &entry.body);
        if next.hash != entry.hash {
            return Err(corrupt(format!(
                "the change set at offsets {first}..={last} is not the one that its history hash \
                 was made of"
            )));
        }
        self.at = next;
        Ok(())
    }

    /// Checks that nothing is missing between the last entry and the head.
    pub(super) fn end(&self, head: Position) -> Result<(), redb::Error> {
        let at = self.at.offset;
        if self.at == head {
            return Ok(());
        }
        Err(corrupt(format!("the log ends at offset {at}, and its head says {}", head.offset)))
    }
}
