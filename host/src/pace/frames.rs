//! Where the frames of HTTP/2 are in the octets of a connection (RFC 9113 sections 3.4 and 4.1). Nothing of
//! them is understood but their length and kind: what is wrong with them is for others to say.

/// What a client's connection begins with.
pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Octets of a frame's header.
const HEADER: usize = 9;
/// The kind that carries data.
const DATA: u8 = 0;
/// The kind that begins a call.
const HEADERS: u8 = 1;
/// The kind that goes on with a header block.
const CONTINUATION: u8 = 9;
/// Octets of a payload that take about as long to look at as a frame: headers are many small things.
const WORTH_A_FRAME: u32 = 256;

/// What there is in some octets.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Seen {
    /// Frames without data, the long ones as several.
    pub cost: u64,
    /// A header block goes on in a second frame.
    pub is_split: bool,
}

/// Counts frames that carry no data.
#[derive(Debug)]
pub(super) struct Frames {
    /// Octets to pass by: the preface, or what is left of a payload.
    skip: usize,
    header: [u8; HEADER],
    /// Octets of the header that have come.
    have: usize,
    /// A call was begun.
    has_called: bool,
}

impl Default for Frames {
    fn default() -> Self {
        Self { skip: PREFACE.len(), header: [0; HEADER], have: 0, has_called: false }
    }
}

impl Frames {
    /// True if a call was begun.
    pub(super) const fn has_called(&self) -> bool {
        self.has_called
    }

    /// The frames whose own headers end in these octets, which follow the last ones.
    pub(super) fn count(&mut self, mut octets: &[u8]) -> Seen {
        let mut seen = Seen::default();
        loop {
            let skipped = self.skip.min(octets.len());
            self.skip -= skipped;
            octets = octets.get(skipped..).unwrap_or_default();
            if octets.is_empty() {
                return seen;
            }
            let taken = octets.len().min(HEADER - self.have);
            let (head, rest) = octets.split_at(taken);
            for (to, from) in self.header.iter_mut().skip(self.have).zip(head) {
                *to = *from;
            }
            self.have += taken;
            octets = rest;
            if self.have == HEADER {
                let [high, middle, low, kind, ..] = self.header;
                let length = u32::from_be_bytes([0, high, middle, low]);
                self.skip = usize::try_from(length).unwrap_or(usize::MAX);
                self.have = 0;
                self.has_called |= kind == HEADERS;
                seen.is_split |= kind == CONTINUATION;
                if kind != DATA || length == 0 {
                    seen.cost += u64::from(1 + length / WORTH_A_FRAME);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_counted_however_they_are_cut() {
        let mut octets = PREFACE.to_vec();
        for (kind, length) in [(4, 6_u16), (6, 8), (0, 5), (0, 0), (1, 600), (0, 999), (9, 0)] {
            let [high, low] = length.to_be_bytes();
            octets.extend_from_slice(&[0, high, low, kind, 0, 0, 0, 0, 1]);
            octets.extend(std::iter::repeat_n(kind, usize::from(length)));
        }
        for piece in 1..=octets.len() {
            let mut frames = Frames::default();
            let seen: Vec<_> = octets.chunks(piece).map(|piece| frames.count(piece)).collect();
            let cost: u64 = seen.iter().map(|seen| seen.cost).sum();
            assert_eq!(cost, 7, "in pieces of {piece}: one of 600 octets is three");
            assert_eq!(seen.iter().filter(|seen| seen.is_split).count(), 1, "{piece}");
            assert!(frames.has_called());
        }
    }
}
