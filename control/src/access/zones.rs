//! The zones that a role is given in: those at or below some names, by whole labels, so that
//! `evilexample.com` is not in `example.com`. All of them is said, as ".", never meant by an empty list.

use std::fmt;

use edgesync_core::name::Name;

/// Names of one grant at the most.
pub const ZONES_MAX: usize = 1_000;

/// Zones at or below some names; at least one name, sorted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Zones(Vec<Name>);

/// Why zones are not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ZonesError {
    /// There is none.
    #[error("no zone is named: name those that are meant, or \".\" for all")]
    Empty,
    /// There are too many.
    #[error("more than {ZONES_MAX} zones are named in one grant: name what they are below")]
    Many,
    /// One is no name.
    #[error(transparent)]
    Name(#[from] edgesync_core::name::NameError),
}

impl Zones {
    /// All zones.
    #[must_use]
    pub fn all() -> Self {
        Self(vec![Name::root()])
    }

    /// Reads names in presentation form.
    ///
    /// # Errors
    /// If there is none, one is no name, or there are too many.
    pub fn parse<T: AsRef<str>>(texts: &[T]) -> Result<Self, ZonesError> {
        if texts.len() > ZONES_MAX {
            return Err(ZonesError::Many);
        }
        let mut names = Vec::with_capacity(texts.len());
        for text in texts {
            names.push(Name::parse_origin(text.as_ref())?);
        }
        names.sort_unstable();
        names.dedup();
        if names.is_empty() { Err(ZonesError::Empty) } else { Ok(Self(names)) }
    }

    /// True if a zone is one of them.
    #[must_use]
    pub fn cover(&self, zone: &Name) -> bool {
        self.0.iter().any(|name| zone.is_within(name))
    }

    /// True if they are all zones.
    #[must_use]
    pub fn are_all(&self) -> bool {
        self.cover(&Name::root())
    }

    /// The names.
    #[must_use]
    pub fn names(&self) -> &[Name] {
        &self.0
    }

    /// These and others.
    #[must_use]
    pub fn with(&self, others: &Self) -> Self {
        let mut names = [self.0.as_slice(), &others.0].concat();
        names.sort_unstable();
        names.dedup();
        Self(names)
    }

    /// These without others, by name; none if nothing is left.
    #[must_use]
    pub fn without(&self, others: &Self) -> Option<Self> {
        let left: Vec<_> = self.0.iter().filter(|name| !others.0.contains(name)).cloned().collect();
        (!left.is_empty()).then_some(Self(left))
    }

    /// The names in presentation form.
    #[must_use]
    pub fn texts(&self) -> Vec<String> {
        self.0.iter().map(Name::to_string).collect()
    }
}

impl fmt::Display for Zones {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.texts().join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zones_are_those_at_or_below_a_name_by_whole_labels() {
        let zones = Zones::parse(&["example.com", "NET."]).unwrap();
        for (zone, covered) in [
            ("example.com", true),
            ("a.b.EXAMPLE.com", true),
            ("evilexample.com", false),
            ("com", false),
            (".", false),
            ("example.net", true),
        ] {
            assert_eq!(zones.cover(&Name::parse_origin(zone).unwrap()), covered, "{zone}");
        }
        assert!(!zones.are_all() && Zones::all().are_all());
    }

    #[test]
    fn all_is_said_and_never_meant_by_an_empty_list() {
        assert_eq!(Zones::parse::<&str>(&[]), Err(ZonesError::Empty));
        assert!(Zones::parse(&["."]).unwrap().are_all());
        assert!(Zones::parse(&["a..b"]).is_err() && Zones::parse(&[""]).is_err());
        assert_eq!(Zones::parse(&vec!["a"; ZONES_MAX + 1]), Err(ZonesError::Many));
    }
}
