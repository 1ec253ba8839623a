//! Which zones an edge has: what it asks for, and what it may have of that (rule 13).

use crate::name::Name;

/// Which zones an edge wants, or has. "All" is said, never meant by an empty list (rule 13).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Filter {
    /// All zones.
    All,
    /// These, sorted; at least one.
    Zones(Vec<Name>),
    /// All that are one of these names or below it, sorted; at least one. No edge asks for it: it is
    /// what is left of all zones where an edge may not have all.
    Below(Vec<Name>),
}

impl Filter {
    /// True if a zone is wanted.
    #[must_use]
    pub fn wants(&self, zone: &Name) -> bool {
        match self {
            Self::All => true,
            Self::Zones(zones) => zones.binary_search(zone).is_ok(),
            Self::Below(names) => is_below(zone, names),
        }
    }

    /// What is left of it where only zones at or below some names are allowed. None if nothing is.
    #[must_use]
    pub fn within(&self, allowed: &[Name]) -> Option<Self> {
        let mut allowed = allowed.to_vec();
        allowed.sort_unstable();
        allowed.dedup();
        let left = match self {
            _ if allowed.binary_search(&Name::root()).is_ok() => self.clone(),
            Self::All => Self::Below(allowed),
            Self::Zones(zones) => {
                let may = |zone: &&Name| is_below(zone, &allowed);
                Self::Zones(zones.iter().filter(may).cloned().collect())
            }
            Self::Below(names) => {
                // Of two names of which one is below the other, the lower one is in both.
                let both = |ours: &[Name], theirs: &[Name]| {
                    ours.iter().filter(|name| is_below(name, theirs)).cloned().collect::<Vec<_>>()
                };
                let mut names = [both(names, &allowed), both(&allowed, names)].concat();
                names.sort_unstable();
                names.dedup();
                Self::Below(names)
            }
        };
        let is_empty = matches!(&left, Self::Zones(names) | Self::Below(names) if names.is_empty());
        (!is_empty).then_some(left)
    }

    /// Hash of the filter, which a store keeps beside its position.
    #[must_use]
    pub fn hash(&self) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new();
        let (kind, names): (&[u8], &[Name]) = match self {
            Self::All => (b"all", &[]),
            Self::Zones(zones) => (b"zones", zones),
            Self::Below(names) => (b"below", names),
        };
        hasher.update(kind);
        let hasher = names.iter().fold(&mut hasher, |hasher, name| hasher.update(name.wire()));
        *hasher.finalize().as_bytes()
    }
}

/// True if a name is one of sorted names, or below one.
fn is_below(name: &Name, names: &[Name]) -> bool {
    let mut at = Some(name.clone());
    while let Some(name) = at {
        if names.binary_search(&name).is_ok() {
            return true;
        }
        at = name.parent();
    }
    names.binary_search(&Name::root()).is_ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn names(texts: &[&str]) -> Vec<Name> {
        let mut names: Vec<_> =
            texts.iter().map(|text| Name::parse_origin(text).unwrap()).collect();
        names.sort_unstable();
        names
    }

    #[test]
    fn what_is_below_a_name_is_so_by_whole_labels() {
        let filter = Filter::All.within(&names(&["example.com", "net"])).unwrap();
        for (zone, wanted) in [
            ("example.com", true),
            ("a.b.example.com", true),
            ("evilexample.com", false),
            ("com", false),
            (".", false),
            ("example.net", true),
        ] {
            assert_eq!(filter.wants(&Name::parse_origin(zone).unwrap()), wanted, "{zone}");
        }
    }

    #[test]
    fn nothing_allowed_is_no_filter_and_the_root_allows_what_is_asked() {
        let zones = Filter::Zones(names(&["example.com", "example.net"]));
        assert_eq!(zones.within(&[]), None);
        assert_eq!(Filter::All.within(&[]), None);
        assert_eq!(zones.within(&names(&["org"])), None);
        assert_eq!(zones.within(&names(&["."])), Some(zones.clone()));
        assert_eq!(Filter::All.within(&names(&["com", "."])), Some(Filter::All));
        assert_eq!(zones.within(&names(&["com"])), Some(Filter::Zones(names(&["example.com"]))));
    }

    fn some_names() -> impl Strategy<Value = Vec<Name>> {
        let label = prop_oneof!["a", "b"];
        let name = prop::collection::vec(label, 0..4)
            .prop_map(|labels| Name::parse_origin(&(labels.join(".") + ".")).unwrap());
        prop::collection::vec(name, 0..4).prop_map(|mut names| {
            names.sort_unstable();
            names.dedup();
            names
        })
    }

    proptest! {
        #[test]
        fn what_is_left_is_what_is_asked_for_and_allowed(
            asked in some_names(), below in some_names(), allowed in some_names(),
            zones in some_names(),
        ) {
            for filter in [Filter::All, Filter::Zones(asked), Filter::Below(below)] {
                let left = filter.within(&allowed);
                for zone in &zones {
                    let may = allowed.iter().any(|name| zone.is_within(name));
                    let wanted = left.as_ref().is_some_and(|left| left.wants(zone));
                    prop_assert_eq!(wanted, may && filter.wants(zone), "{} {:?}", zone, left);
                }
            }
        }
    }
}
