//! Domain names: absolute, lower case, in wire form (RFC 1035 section 3.1), with the two orders that
//! matter: the canonical one of RFC 4034 section 6.1, and its image as bytes, the store key.

use std::{
    cmp::Ordering,
    fmt::{self, Write},
};

use bytes::Bytes;
use domain::base::name::UncertainName;

use crate::excerpt::excerpt;

/// Octets of the longest name (RFC 1035 section 2.3.4).
const NAME_OCTETS: usize = 255;
/// Octets of the longest label.
const LABEL_OCTETS: usize = 63;

/// Labels of a name at the most: 127 of one octet, and the root's.
pub(crate) const MAX_LABELS: usize = 128;

/// Why something is no name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// The text has no name's form.
    #[error("`{text}` is no domain name: {reason}")]
    Text {
        /// What was given.
        text: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The octets have no name's form.
    #[error("octets are no domain name in wire form")]
    Wire,
}

/// An absolute domain name. Letters are lower case; comparison is that of the octets.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Name(Bytes);

impl Name {
    /// The root.
    #[must_use]
    pub const fn root() -> Self {
        Self(Bytes::from_static(&[0]))
    }

    /// Reads a name in presentation form. `@` and names without a final dot are relative to
    /// `origin`.
    ///
    /// # Errors
    /// If the text is no name, or the name is longer than 255 octets.
    pub fn parse(text: &str, origin: &Self) -> Result<Self, NameError> {
        let error = |reason: &dyn fmt::Display| NameError::Text {
            text: excerpt(text, 300),
            reason: reason.to_string(),
        };
        if text == "@" {
            return Ok(origin.clone());
        }
        if text == "." {
            return Ok(Self::root());
        }
        if text.is_empty() {
            return Err(error(&"it is empty"));
        }
        let mut wire = match text.parse::<UncertainName<Vec<u8>>>().map_err(|e| error(&e))? {
            UncertainName::Absolute(name) => name.as_slice().to_vec(),
            UncertainName::Relative(name) => [name.as_slice(), &origin.0].concat(),
        };
        if wire.len() > NAME_OCTETS {
            return Err(error(&"it is longer than 255 octets"));
        }
        wire.make_ascii_lowercase();
        Ok(Self(wire.into()))
    }

    /// Reads an origin: absolute, with or without the final dot.
    ///
    /// # Errors
    /// As [`Name::parse`].
    pub fn parse_origin(text: &str) -> Result<Self, NameError> {
        Self::parse(text, &Self::root())
    }

    /// Takes a name in wire form; upper-case letters are made lower case.
    ///
    /// # Errors
    /// If the octets are not exactly one uncompressed name.
    pub fn from_wire(wire: Bytes) -> Result<Self, NameError> {
        let mut rest: &[u8] = &wire;
        loop {
            let (&length, after) = rest.split_first().ok_or(NameError::Wire)?;
            if length == 0 {
                let good = after.is_empty() && wire.len() <= NAME_OCTETS;
                return if good { Ok(Self(lower(wire))) } else { Err(NameError::Wire) };
            }
            let length = usize::from(length);
            if length > LABEL_OCTETS {
                return Err(NameError::Wire);
            }
            rest = after.get(length..).ok_or(NameError::Wire)?;
        }
    }

    /// The name in wire form.
    #[must_use]
    pub const fn wire(&self) -> &Bytes {
        &self.0
    }

    /// The labels from the leftmost on, without the root's.
    pub fn labels(&self) -> impl Iterator<Item = &[u8]> {
        let mut rest: &[u8] = &self.0;
        std::iter::from_fn(move || {
            let (&length, after) = rest.split_first()?;
            let (label, next) = after.split_at_checked(usize::from(length))?;
            rest = next;
            (!label.is_empty()).then_some(label)
        })
    }

    /// True if this is `zone` or below it, by whole labels: `evilexample.com` is not in
    /// `example.com`.
    #[must_use]
    pub fn is_within(&self, zone: &Self) -> bool {
        let (mine, its) = (self.labels().count(), zone.labels().count());
        mine >= its && self.labels().skip(mine - its).eq(zone.labels())
    }

    /// The labels from the rightmost on, laid out in `room`.
    pub(crate) fn labels_reversed<'a, 'room>(
        &'a self,
        room: &'room mut [&'a [u8]; MAX_LABELS],
    ) -> impl Iterator<Item = &'a [u8]> + use<'a, 'room> {
        let mut count = 0;
        for (place, label) in room.iter_mut().zip(self.labels()) {
            *place = label;
            count += 1;
        }
        room.iter().take(count).rev().copied()
    }

    /// The name without its leftmost label; the root has no parent.
    #[must_use]
    pub fn parent(&self) -> Option<Self> {
        let length = usize::from(*self.0.first()?);
        (length > 0 && self.0.len() > length + 1).then(|| Self(self.0.slice(length + 1..)))
    }
}

/// Lower case, without a copy where nothing changes.
fn lower(wire: Bytes) -> Bytes {
    if wire.iter().any(u8::is_ascii_uppercase) { wire.to_ascii_lowercase().into() } else { wire }
}

impl PartialOrd for Name {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Name {
    /// The canonical order of RFC 4034 section 6.1.
    fn cmp(&self, other: &Self) -> Ordering {
        let (mut mine, mut its) = ([&[][..]; MAX_LABELS], [&[][..]; MAX_LABELS]);
        self.labels_reversed(&mut mine).cmp(other.labels_reversed(&mut its))
    }
}

impl fmt::Display for Name {
    /// Presentation form with the final dot (RFC 1035 section 5.1).
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for label in self.labels() {
            for octet in label {
                match octet {
                    // What a zone file would take for something else, wherever it stands.
                    b'.' | b'\\' | b'"' | b';' | b'(' | b')' | b'@' | b'$' => {
                        write!(f, "\\{}", char::from(*octet))?;
                    }
                    0x21..=0x7e => f.write_char(char::from(*octet))?,
                    other => write!(f, "\\{other:03}")?,
                }
            }
            f.write_char('.')?;
        }
        if self.0.len() == 1 { f.write_char('.') } else { Ok(()) }
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        Name::parse_origin(text).unwrap()
    }

    #[test]
    fn names_sort_as_in_rfc_4034_section_6_1() {
        let sorted = [
            "example",
            "a.example",
            "yljkjljk.a.example",
            "Z.a.example",
            "zABC.a.EXAMPLE",
            "z.example",
            "\\001.z.example",
            "*.z.example",
            "\\200.z.example",
        ];
        let names: Vec<_> = sorted.iter().map(|text| name(text)).collect();
        assert!(names.is_sorted(), "{names:?}");
    }

    #[test]
    fn a_zone_holds_names_by_whole_labels_only() {
        assert!(name("example.com").is_within(&name("example.com")));
        assert!(name("www.EXAMPLE.com").is_within(&name("example.com")));
        assert!(!name("evilexample.com").is_within(&name("example.com")));
        assert!(!name("com").is_within(&name("example.com")));
        assert!(name("com").is_within(&Name::root()));
    }

    #[test]
    fn relative_names_take_the_origin_and_bad_ones_are_refused() {
        let origin = name("example.com.");
        assert_eq!(Name::parse("www", &origin).unwrap(), name("www.example.com."));
        assert_eq!(Name::parse("@", &origin).unwrap(), origin);
        assert_eq!(Name::parse(".", &origin).unwrap(), Name::root());
        let long_label = "a".repeat(64);
        let long_name = "a.".repeat(128);
        for bad in ["", "a..b", &long_label, &long_name, "a\\300.b"] {
            assert!(Name::parse(bad, &origin).is_err(), "{bad}");
        }
    }

    #[test]
    fn every_octet_is_shown_so_that_it_reads_back_in_a_zone_file_too() {
        for octet in 0..=u8::MAX {
            let name = Name::from_wire(vec![2, octet, b'x', 0].into()).unwrap();
            let shown = name.to_string();
            assert!(shown.bytes().all(|c| c.is_ascii_graphic()), "{shown:?}");
            assert_eq!(Name::parse_origin(&shown).unwrap(), name, "{shown}");
            let line = format!("{shown} 60 IN A 192.0.2.1");
            let records = crate::zone_file::parse(line.as_bytes(), &Name::root()).unwrap();
            assert_eq!(records[0].owner, name, "{line}");
        }
        assert_eq!(name("a b\\.c.\\200").to_string(), "a\\032b\\.c.\\200.");
    }

    #[test]
    fn wire_form_is_checked_to_the_last_octet() {
        let good = name("www.example.com.").wire().clone();
        assert_eq!(Name::from_wire(good.clone()).unwrap(), name("www.example.com"));
        for cut in 0..good.len() {
            assert!(Name::from_wire(good.slice(..cut)).is_err());
        }
        assert!(Name::from_wire(Bytes::from_static(b"\x01a\0x")).is_err());
        assert!(Name::from_wire(Bytes::from_static(b"\xc0\x0c")).is_err());
    }
}
