//! Change sets larger than a frame: cut into parts at the sender, put together at the receiver.

use bytes::{Bytes, BytesMut};

use super::{CommittedSet, SetPart};
use crate::limits::{FRAME_OCTETS, SET_OCTETS};

/// A part that does not continue what came before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Misplaced;

/// A set as parts, none larger than a frame.
pub(super) fn parts(set: CommittedSet) -> impl Iterator<Item = SetPart> {
    let size = set.body.len();
    (0..size.max(1)).step_by(FRAME_OCTETS).map(move |from| {
        let body = set.body.slice(from..size.min(from + FRAME_OCTETS));
        SetPart { set: CommittedSet { body, ..set.clone() }, size, from }
    })
}

/// A set whose parts are coming.
#[derive(Debug, Default)]
pub(super) struct Assembly {
    open: Option<(CommittedSet, BytesMut)>,
}

impl Assembly {
    /// Takes a part; gives the set back when it is whole.
    pub(super) fn take(&mut self, part: SetPart) -> Result<Option<CommittedSet>, Misplaced> {
        let SetPart { set, size, from } = part;
        let end = from + set.body.len();
        if size > SET_OCTETS || end > size || (set.body.is_empty() && size > 0) {
            return Err(Misplaced);
        }
        if from == 0 {
            if self.open.is_some() {
                return Err(Misplaced);
            }
            if end == size {
                return Ok(Some(set));
            }
            self.open = Some((CommittedSet { body: Bytes::new(), ..set }, set.body.into()));
            return Ok(None);
        }
        let (head, body) = self.open.as_mut().ok_or(Misplaced)?;
        let same = (head.prev, head.first, head.last) == (set.prev, set.first, set.last);
        if !same || head.hash != set.hash || body.len() != from {
            return Err(Misplaced);
        }
        body.extend_from_slice(&set.body);
        if end < size {
            return Ok(None);
        }
        Ok(self.open.take().map(|(head, body)| CommittedSet { body: body.freeze(), ..head }))
    }
}
