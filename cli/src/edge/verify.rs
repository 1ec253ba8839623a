//! What a check of the whole store found, as the command prints it.

use edgesync_proto::v1;
use serde::Serialize;

use crate::{
    failure::Outcome,
    format,
    output::{Columns, Show},
};

/// What a check of the whole store found.
#[derive(Debug, Serialize)]
pub struct Verified {
    equal: bool,
    zones: u64,
    records: u64,
    offset: u64,
    mismatches: Vec<Mismatch>,
}

/// A zone whose records are not what the store says of it.
#[derive(Debug, Serialize)]
struct Mismatch {
    origin: String,
    expected_records: u64,
    found_records: u64,
    expected_digest: String,
    found_digest: String,
}

impl Verified {
    /// How the command ends.
    #[must_use]
    pub const fn outcome(&self) -> Outcome {
        if self.equal { Outcome::Done } else { Outcome::Differs }
    }
}

impl From<v1::VerifyStoreResponse> for Verified {
    fn from(answer: v1::VerifyStoreResponse) -> Self {
        let mismatches = answer.mismatches.into_iter().map(|zone| Mismatch {
            origin: zone.origin,
            expected_records: zone.expected_records,
            found_records: zone.found_records,
            expected_digest: format::hex(&zone.expected_digest),
            found_digest: format::hex(&zone.found_digest),
        });
        let mismatches: Vec<_> = mismatches.collect();
        Self {
            equal: mismatches.is_empty(),
            zones: answer.zones,
            records: answer.records,
            offset: answer.position.map_or(0, |position| position.offset),
            mismatches,
        }
    }
}

impl Show for Verified {
    fn show(&self) -> String {
        let zones = format::count(self.zones, "zone");
        let records = format::count(self.records, "record");
        let read = format!("{zones}, {records} read at offset {}", self.offset);
        if self.equal {
            return format!("{read}: all as they should be\n");
        }
        let differ = format::count(self.mismatches.len() as u64, "mismatch");
        let cells = |zone: &Mismatch| {
            let counts = [zone.expected_records, zone.found_records].map(|count| count.to_string());
            let [expected, found] = counts;
            let equal = zone.expected_digest == zone.found_digest;
            let digest = if equal { "equal" } else { "differs" };
            vec![zone.origin.clone(), expected, found, digest.to_owned()]
        };
        let rows = self.mismatches.iter().map(cells).collect();
        let header = ["ZONE", "EXPECTED", "FOUND", "DIGEST"];
        format!("{read}: {differ}\n{}", Columns::default().page(&header, rows))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_zone_that_differs_is_named_and_changes_the_exit_code() {
        let zone = v1::ZoneMismatch {
            origin: "example.com.".to_owned(),
            expected_records: 5,
            found_records: 5,
            expected_digest: vec![1].into(),
            found_digest: vec![2].into(),
        };
        let good = v1::VerifyStoreResponse { zones: 1, records: 5, ..Default::default() };
        let bad = v1::VerifyStoreResponse { mismatches: vec![zone], ..good.clone() };
        let (good, bad) = (Verified::from(good), Verified::from(bad));
        assert_eq!((good.outcome(), bad.outcome()), (Outcome::Done, Outcome::Differs));
        assert!(good.show().ends_with("all as they should be\n"));
        assert_eq!(bad.show().lines().last().unwrap(), "example.com.  5         5      differs");
    }
}
