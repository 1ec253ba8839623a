//! Which change sets of the log are for an edge that does not want all zones.

use edgesync_core::session::{CommittedSet, Filter};
use edgesync_proto::convert::{ConvertError, zone_of_set};

/// The sets that a filter wants, by their zone alone: a log may have changes that this version does
/// not know, and who gets them is to refuse them, not to go on without (rule 23).
pub(super) fn wanted(
    sets: Vec<CommittedSet>,
    filter: &Filter,
) -> Result<Vec<CommittedSet>, ConvertError> {
    let mut wanted = Vec::with_capacity(sets.len());
    for set in sets {
        if *filter == Filter::All || filter.wants(&zone_of_set(set.body.clone())?) {
            wanted.push(set);
        }
    }
    Ok(wanted)
}

#[cfg(test)]
mod tests {
    use edgesync_core::{
        name::Name,
        position::{HistoryHash, Offset},
    };

    use super::*;

    /// A set of a zone with a change of a later version: field 2000 of the oneof.
    fn newer(zone: &Name) -> CommittedSet {
        let length = u8::try_from(zone.wire().len()).unwrap();
        let zone = [&[0x0a, length], &zone.wire()[..]].concat();
        let body = [&zone[..], &[0x10, 7, 0x18, 7, 0x22, 3, 0x82, 0x7d, 0]].concat().into();
        let (prev, first, last) = (Offset(6), Offset(7), Offset(7));
        CommittedSet { prev, first, last, hash: HistoryHash([0; 32]), body }
    }

    #[test]
    fn a_change_that_is_not_known_goes_to_those_whose_zone_it_is_of() {
        let name = |text| Name::parse_origin(text).unwrap();
        let set = newer(&name("a.example"));
        assert!(edgesync_proto::convert::decode_set(set.body.clone()).is_err());
        let (a, b) =
            (Filter::Zones(vec![name("a.example")]), Filter::Zones(vec![name("b.example")]));
        for (filter, count) in [(Filter::All, 1), (a.clone(), 1), (b, 0)] {
            assert_eq!(wanted(vec![set.clone()], &filter).unwrap().len(), count, "{filter:?}");
        }
        let broken = CommittedSet { body: vec![0xff].into(), ..set };
        assert!(wanted(vec![broken], &a).is_err());
    }
}
