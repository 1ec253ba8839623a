//! Samples of digests: what the control plane says of some zones at one offset, and what an edge
//! that stands at this offset has to say of them too. An edge that does not has drifted (rule 15).

use crate::{digest::Digest, name::Name};

/// Number and digest of a zone's visible records; none if there is no such zone.
pub type Content = Option<(u64, Digest)>;

/// What a zone is at an offset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ZoneDigest {
    /// Its origin.
    pub origin: Name,
    /// Its content.
    pub content: Content,
}

/// Some zones at one offset: those that were changed since the sample before, and the next ones of
/// a sweep that comes to every zone in turn.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sample {
    /// Zones that were changed.
    pub changed: Vec<ZoneDigest>,
    /// The sweep.
    pub sweep: Sweep,
}

/// All zones within a range of origins in canonical order: a zone that is not in it is not there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sweep {
    /// The range begins after this origin; none for the very beginning.
    pub after: Option<Name>,
    /// The zones in it, in canonical order.
    pub zones: Vec<ZoneDigest>,
    /// True if there is no zone behind the last of them; else the range ends with it.
    pub to_end: bool,
}

impl Sweep {
    /// The last origin of the range; none if it has no end, or is empty.
    #[must_use]
    pub fn last(&self) -> Option<&Name> {
        self.zones.last().map(|zone| &zone.origin).filter(|_| !self.to_end)
    }

    /// True if the range has no end, or has zones in it.
    #[must_use]
    pub const fn covers_something(&self) -> bool {
        self.to_end || !self.zones.is_empty()
    }
}

/// A zone that is not what it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drift {
    /// Its origin.
    pub origin: Name,
    /// What the control plane says.
    pub expected: Content,
    /// What the edge has.
    pub found: Content,
}

/// The zones of a store, as a sample is compared with them.
pub trait Zones {
    /// What the store has of a zone.
    fn content(&self, origin: &Name) -> Content;

    /// The visible zones after an origin, up to and including another one.
    fn between(&self, after: Option<&Name>, last: Option<&Name>) -> Vec<Name>;
}

impl Sample {
    /// What differs in a store that stands at the sample's offset, each zone once.
    #[must_use]
    pub fn drifted(&self, store: &impl Zones) -> Vec<Drift> {
        let mut drifted: Vec<Drift> = Vec::new();
        let mut compare = |origin: &Name, expected: Content| {
            let found = store.content(origin);
            if found != expected && !drifted.iter().any(|drift| drift.origin == *origin) {
                drifted.push(Drift { origin: origin.clone(), expected, found });
            }
        };
        for zone in self.changed.iter().chain(&self.sweep.zones) {
            compare(&zone.origin, zone.content);
        }
        if self.sweep.covers_something() {
            for origin in store.between(self.sweep.after.as_ref(), self.sweep.last()) {
                if !self.sweep.zones.iter().any(|zone| zone.origin == origin) {
                    compare(&origin, None);
                }
            }
        }
        drifted
    }

    /// About how many octets of memory it takes.
    #[must_use]
    pub fn octets(&self) -> usize {
        let zones = self.changed.iter().chain(&self.sweep.zones);
        zones.map(|zone| size_of::<ZoneDigest>() + zone.origin.wire().len()).sum()
    }

    /// The sample for an edge that wants some of the zones only.
    #[must_use]
    pub fn for_zones(&self, wants: impl Fn(&Name) -> bool) -> Self {
        let mut sample = self.clone();
        sample.changed.retain(|zone| wants(&zone.origin));
        // The range keeps its last origin: a zone that the edge does not want is one that it has not.
        let last = sample.sweep.last().cloned();
        sample
            .sweep
            .zones
            .retain(|zone| wants(&zone.origin) || last.as_ref() == Some(&zone.origin));
        for zone in sample.sweep.zones.iter_mut().filter(|zone| !wants(&zone.origin)) {
            zone.content = None;
        }
        sample
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::key;

    #[derive(Default)]
    struct Store(BTreeMap<Vec<u8>, (Name, u64)>);

    impl Store {
        fn of(zones: &[(&str, u64)]) -> Self {
            let entry = |(zone, records): &(&str, u64)| {
                (key::zone_key(&name(zone)), (name(zone), *records))
            };
            Self(zones.iter().map(entry).collect())
        }
    }

    impl Zones for Store {
        fn content(&self, origin: &Name) -> Content {
            self.0.get(&key::zone_key(origin)).map(|(_, records)| (*records, Digest::empty()))
        }

        fn between(&self, after: Option<&Name>, last: Option<&Name>) -> Vec<Name> {
            let (after, last) = (after.map(key::zone_key), last.map(key::zone_key));
            let within = |key: &Vec<u8>| {
                after.as_ref().is_none_or(|after| key > after)
                    && last.as_ref().is_none_or(|last| key <= last)
            };
            self.0
                .iter()
                .filter(|(key, _)| within(key))
                .map(|(_, (zone, _))| zone.clone())
                .collect()
        }
    }

    fn name(text: &str) -> Name {
        Name::parse_origin(text).unwrap()
    }

    fn digest(zone: &str, records: Option<u64>) -> ZoneDigest {
        let content = records.map(|records| (records, Digest::empty()));
        ZoneDigest { origin: name(zone), content }
    }

    fn origins(sample: &Sample, store: &Store) -> Vec<String> {
        sample.drifted(store).iter().map(|drift| drift.origin.to_string()).collect()
    }

    fn swept(after: Option<&str>, zones: &[(&str, u64)], to_end: bool) -> Sample {
        let zones = zones.iter().map(|(zone, records)| digest(zone, Some(*records))).collect();
        Sample { changed: Vec::new(), sweep: Sweep { after: after.map(name), zones, to_end } }
    }

    #[test]
    fn what_differs_is_missing_or_is_too_much_is_found() {
        let store = Store::of(&[("a", 1), ("b", 2), ("c", 3), ("d", 4)]);
        let all = [("a", 1), ("b", 2), ("c", 3), ("d", 4)];
        assert_eq!(origins(&swept(None, &all, true), &store), [""; 0]);
        assert_eq!(origins(&swept(None, &[("a", 1), ("c", 3)], false), &store), ["b."]);
        assert_eq!(origins(&swept(Some("a"), &[("c", 3)], true), &store), ["b.", "d."]);
        assert_eq!(
            origins(&swept(Some("b"), &[("c", 9), ("cc", 1)], false), &store),
            ["c.", "cc."]
        );
        assert_eq!(origins(&swept(None, &[], false), &store), [""; 0], "nothing was swept");
        assert_eq!(origins(&swept(Some("c"), &[], true), &store), ["d."]);
        let changed = vec![digest("a", Some(1)), digest("b", None), digest("x", Some(5))];
        let sample = Sample { changed, ..Sample::default() };
        assert_eq!(origins(&sample, &store), ["b.", "x."]);
        // As many records, and other ones.
        let content = Some((3, Digest::from_bytes([1; 32])));
        let changed = vec![ZoneDigest { origin: name("c"), content }];
        let sample = Sample { changed, ..Sample::default() };
        assert_eq!(origins(&sample, &store), ["c."]);
    }

    #[test]
    fn a_filtered_edge_is_asked_only_for_what_it_wants() {
        let store = Store::of(&[("b", 2)]);
        let sample = swept(None, &[("a", 1), ("b", 2), ("c", 3)], false);
        assert_eq!(origins(&sample.for_zones(|zone| *zone == name("b")), &store), [""; 0]);
        assert_eq!(origins(&sample.for_zones(|zone| *zone == name("a")), &store), ["a.", "b."]);
    }
}
