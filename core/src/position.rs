//! Where in a log's history something stands: offsets, and the hash that chains them (rules 11, 12).

use std::fmt;

/// A place in the log: the number of a change, from 1 on without gaps; 0 is before the first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Offset(pub u64);

impl Offset {
    /// Before the first change.
    pub const ZERO: Self = Self(0);

    /// The offset `count` changes on; stays at the largest number there is.
    #[must_use]
    pub const fn plus(self, count: u64) -> Self {
        Self(self.0.saturating_add(count))
    }

    /// The next offset.
    #[must_use]
    pub const fn next(self) -> Self {
        self.plus(1)
    }

    /// The offset before; 0 stays 0.
    #[must_use]
    pub const fn before(self) -> Self {
        Self(self.0.saturating_sub(1))
    }

    /// Number of changes after `earlier`, up to this one.
    #[must_use]
    pub const fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl fmt::Display for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Identity of a log, drawn at random when it is created.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct LogId(pub [u8; 16]);

/// Hash over all change sets up to an offset.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct HistoryHash(pub [u8; 32]);

impl HistoryHash {
    /// The hash before the first change of a log.
    #[must_use]
    pub fn genesis(log: LogId) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(b"edgesync log history");
        hasher.update(&log.0);
        Self(*hasher.finalize().as_bytes())
    }

    /// The hash after a change set of the offsets `first..=last`, encoded as `body`.
    #[must_use]
    pub fn chain(self, first: Offset, last: Offset, body: &[u8]) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.0);
        hasher.update(&first.0.to_be_bytes());
        hasher.update(&last.0.to_be_bytes());
        hasher.update(body);
        Self(*hasher.finalize().as_bytes())
    }
}

/// A place in one log's history. Two positions are the same history only if all three parts agree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Position {
    /// Which log.
    pub log: LogId,
    /// How far.
    pub offset: Offset,
    /// By which way.
    pub hash: HistoryHash,
}

impl Position {
    /// The position before the first change of a log.
    #[must_use]
    pub fn genesis(log: LogId) -> Self {
        Self { log, offset: Offset::ZERO, hash: HistoryHash::genesis(log) }
    }

    /// The position after a change set that follows this one.
    #[must_use]
    pub fn after(self, last: Offset, body: &[u8]) -> Self {
        Self { log: self.log, offset: last, hash: self.hash.chain(self.offset.next(), last, body) }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.offset, self.log)
    }
}

/// Writes octets as lower-case hexadecimal digits.
pub(crate) fn hex(f: &mut fmt::Formatter<'_>, octets: &[u8]) -> fmt::Result {
    octets.iter().try_for_each(|octet| write!(f, "{octet:02x}"))
}

impl fmt::Display for LogId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hex(f, &self.0)
    }
}

impl fmt::Debug for LogId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hex(f, &self.0)
    }
}

impl fmt::Display for HistoryHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hex(f, &self.0)
    }
}

impl fmt::Debug for HistoryHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hex(f, &self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_part_of_a_set_and_of_its_past_changes_the_hash() {
        let start = HistoryHash::genesis(LogId([1; 16]));
        let after = start.chain(Offset(1), Offset(2), b"body");
        assert_ne!(
            after,
            HistoryHash::genesis(LogId([2; 16])).chain(Offset(1), Offset(2), b"body")
        );
        assert_ne!(after, start.chain(Offset(1), Offset(3), b"body"));
        assert_ne!(after, start.chain(Offset(2), Offset(2), b"body"));
        assert_ne!(after, start.chain(Offset(1), Offset(2), b"bodz"));
        assert_eq!(after, start.chain(Offset(1), Offset(2), b"body"));
    }
}
