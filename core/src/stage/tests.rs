//! Each rule with a set that breaks it and one that does not, on the state after the set.

use std::convert::Infallible;

use super::*;

/// A zone in memory.
struct Zone(Vec<Record>);

impl View for Zone {
    type Error = Infallible;

    fn at_owner(&self, owner: &Name) -> Result<Vec<Record>, Infallible> {
        Ok(self.0.iter().filter(|record| record.owner == *owner).cloned().collect())
    }
}

fn origin() -> Name {
    Name::parse_origin("example.com").unwrap()
}

/// `owner ttl type rdata`.
fn data(line: &str) -> RecordData {
    let mut words = line.splitn(4, ' ');
    let mut word = || words.next().unwrap();
    let owner = Name::parse(word(), &origin()).unwrap();
    let ttl = word().parse().unwrap();
    let rtype = rdata::parse_type(word()).unwrap();
    let rdata = rdata::parse(rtype, word(), &origin()).unwrap();
    RecordData { owner, rtype, ttl, rdata }
}

/// A zone of the lines, with the ids 1, 2, 3 …
fn zone(lines: &[&str]) -> Zone {
    let numbered = lines.iter().map(|line| data(line)).zip(1..);
    Zone(numbered.map(|(d, id)| record(d, id)).collect())
}

fn record(data: RecordData, id: u64) -> Record {
    let RecordData { owner, rtype, ttl, rdata } = data;
    Record { id: RecordId(id), version: Offset(id), owner, rtype, ttl, rdata }
}

const SOA: &str = "@ 60 SOA ns root 7 1 2 3 4";

fn plain() -> Zone {
    zone(&[SOA, "www 60 A 192.0.2.1", "www 60 A 192.0.2.2", "alias 60 CNAME www"])
}

fn create(line: &str) -> Operation {
    Operation::Create(data(line))
}

fn by_id(zone: &Zone, id: u64) -> Target {
    let record = zone.0.iter().find(|record| record.id.0 == id);
    let owner = record.map_or_else(origin, |record| record.owner.clone());
    Target::Id { id: RecordId(id), owner, if_version: None }
}

fn edit(target: Target, ttl: Option<u32>, line: Option<&str>) -> Operation {
    let rdata = line.map(|line| data(line).rdata);
    Operation::Edit { target, ttl, rdata, whole_rrset: false }
}

fn staged(zone: &Zone, operations: Vec<Operation>) -> Result<Vec<Change>, Refused> {
    stage(zone, &origin(), operations, Offset(100), Serial::Raise).map_err(|error| match error {
        StageError::Refused(refused) => refused,
        StageError::View(never) => match never {},
    })
}

fn refusal(zone: &Zone, operations: Vec<Operation>) -> Refusal {
    staged(zone, operations).unwrap_err().reason
}

#[test]
fn an_owner_outside_the_zone_is_refused_and_named_with_its_operation() {
    let mut stray = data("www 60 A 192.0.2.3");
    stray.owner = Name::parse_origin("www.evilexample.com").unwrap();
    let refused =
        staged(&plain(), vec![create("a 60 A 192.0.2.3"), Operation::Create(stray)]).unwrap_err();
    assert_eq!(refused.operation, Some(1));
    assert!(matches!(refused.reason, Refusal::OutsideZone { .. }));
}

#[test]
fn a_cname_stands_alone_but_for_rrsig_and_nsec() {
    let zone = plain();
    assert!(matches!(
        refusal(&zone, vec![create("alias 60 A 192.0.2.3")]),
        Refusal::CnameNotAlone(_)
    ));
    assert!(matches!(refusal(&zone, vec![create("www 60 CNAME x")]), Refusal::CnameNotAlone(_)));
    assert!(matches!(refusal(&zone, vec![create("alias 60 CNAME x")]), Refusal::NotSingle { .. }));
    assert!(staged(&zone, vec![create("alias 60 NSEC www CNAME")]).is_ok());
    let swap = vec![Operation::Delete(by_id(&zone, 4)), create("alias 60 A 192.0.2.3")];
    assert!(staged(&zone, swap).is_ok(), "rule 2: the state after the set counts");
}

#[test]
fn an_rrset_has_one_ttl() {
    let zone = plain();
    assert!(matches!(refusal(&zone, vec![create("www 90 A 192.0.2.3")]), Refusal::MixedTtl { .. }));
    let one = vec![edit(by_id(&zone, 2), Some(90), None)];
    assert!(matches!(refusal(&zone, one), Refusal::MixedTtl { .. }));
    let both = vec![edit(by_id(&zone, 2), Some(90), None), edit(by_id(&zone, 3), Some(90), None)];
    assert!(staged(&zone, both).is_ok());
}

#[test]
fn a_new_ttl_can_go_to_the_whole_rrset() {
    let zone = plain();
    let (target, ttl) = (by_id(&zone, 2), Some(90));
    let operation = Operation::Edit { target, ttl, rdata: None, whole_rrset: true };
    let changes = staged(&zone, vec![operation]).unwrap();
    let ttls: Vec<_> = changes
        .iter()
        .filter_map(|change| match change {
            Change::RecordEdit { id, ttl, rtype: Rtype::A, .. } => Some((id.0, *ttl)),
            _ => None,
        })
        .collect();
    assert_eq!(ttls, [(3, 90), (2, 90)]);
}

#[test]
fn signatures_have_the_ttl_of_what_they_cover() {
    let sig = |covered: &str, ttl| {
        format!("@ {ttl} RRSIG {covered} 8 2 60 20300101000000 20200101000000 1 @ AAAA")
    };
    let zone = zone(&[SOA]);
    assert!(staged(&zone, vec![create(&sig("SOA", 60)), create(&sig("NS", 90))]).is_ok());
    let other = sig("SOA", 90).replace(" 1 @", " 2 @");
    let mixed = vec![create(&sig("SOA", 60)), create(&other)];
    assert!(matches!(refusal(&zone, mixed), Refusal::MixedTtl { .. }));
}

#[test]
fn the_origin_has_exactly_one_soa_and_no_other_name_has_one() {
    let zone = plain();
    let delete = vec![Operation::Delete(by_id(&zone, 1))];
    assert!(matches!(refusal(&zone, delete), Refusal::SoaCount { count: 0, .. }));
    let second = vec![create("@ 60 SOA ns2 root 8 1 2 3 4")];
    assert!(matches!(refusal(&zone, second), Refusal::SoaCount { count: 2, .. }));
    let below = vec![create("www 60 SOA ns root 8 1 2 3 4")];
    assert!(matches!(refusal(&zone, below), Refusal::SoaNotAtOrigin(_)));
}

#[test]
fn the_serial_rises_by_itself_unless_the_set_writes_it_or_the_zone_is_signed() {
    let zone_plain = plain();
    let serial = |changes: &[Change]| {
        changes.iter().find_map(|change| match change {
            Change::RecordEdit { rtype: Rtype::SOA, rdata, .. } => rdata::soa_serial(rdata),
            _ => None,
        })
    };
    let new = || create("new 60 A 192.0.2.9");
    let changes = staged(&zone_plain, vec![new()]).unwrap();
    assert_eq!((changes.len(), serial(&changes)), (2, Some(8)), "what it adds counts in the set");
    let written = edit(by_id(&zone_plain, 1), None, Some("@ 60 SOA ns root 20 1 2 3 4"));
    let changes = staged(&zone_plain, vec![new(), written]).unwrap();
    assert_eq!((changes.len(), serial(&changes)), (2, Some(20)));
    let lower = edit(by_id(&zone_plain, 1), None, Some("@ 60 SOA ns root 6 1 2 3 4"));
    assert!(matches!(
        refusal(&zone_plain, vec![lower]),
        Refusal::SerialDoesNotRise { before: 7, after: 6 }
    ));
    let signed = zone(&[
        SOA,
        "@ 60 ZONEMD 7 1 1 00000000000000000000000000000000 00000000000000000000000000000000 00000000000000000000000000000000",
    ]);
    assert_eq!(serial(&staged(&signed, vec![new()]).unwrap()), None);
    let kept = stage(&zone_plain, &origin(), vec![new()], Offset(100), Serial::AsWritten).unwrap();
    assert_eq!(serial(&kept), None);
}

#[test]
fn records_are_addressed_by_id_and_version_or_by_exact_content() {
    let zone = plain();
    let target = |if_version| Target::Id {
        id: RecordId(2),
        owner: data("www 60 A 192.0.2.1").owner,
        if_version,
    };
    assert!(staged(&zone, vec![Operation::Delete(target(Some(Offset(2))))]).is_ok());
    let other = vec![Operation::Delete(target(Some(Offset(9))))];
    assert!(matches!(refusal(&zone, other), Refusal::OtherVersion { .. }));
    assert!(matches!(
        refusal(&zone, vec![Operation::Delete(by_id(&zone, 77))]),
        Refusal::NoRecord(RecordId(77))
    ));
    let exact = |line| vec![Operation::Delete(Target::Exact(data(line)))];
    let changes = staged(&zone, exact("www 60 A 192.0.2.2")).unwrap();
    assert!(matches!(changes[0], Change::RecordDelete { id: RecordId(3), .. }));
    assert!(matches!(refusal(&zone, exact("www 61 A 192.0.2.2")), Refusal::NoSuchContent(_)));
    assert!(matches!(refusal(&zone, exact("www 60 A 192.0.2.7")), Refusal::NoSuchContent(_)));
}

#[test]
fn equality_is_by_canonical_rdata_and_duplicates_are_refused() {
    let zone = plain();
    assert!(matches!(
        refusal(&zone, vec![create("www 60 A 192.0.2.1")]),
        Refusal::Duplicate { id: RecordId(2), .. }
    ));
    let twice = vec![create("x 60 NS a.example."), create("x 60 NS A.Example.")];
    assert!(matches!(refusal(&zone, twice), Refusal::Duplicate { .. }));
    let lower_case = Operation::Delete(Target::Exact(data("alias 60 CNAME WWW")));
    assert!(staged(&zone, vec![lower_case]).is_ok());
}

#[test]
fn a_set_sees_what_its_own_operations_did() {
    let zone = plain();
    let create_and_edit = vec![
        create("new 60 A 192.0.2.9"),
        edit(Target::Exact(data("new 60 A 192.0.2.9")), None, Some("new 60 A 192.0.2.10")),
    ];
    let changes = staged(&zone, create_and_edit).unwrap();
    assert!(
        matches!(changes[1], Change::RecordEdit { id: RecordId(100), .. }),
        "the id of its create"
    );
    let twice = vec![Operation::Delete(by_id(&zone, 2)), Operation::Delete(by_id(&zone, 2))];
    assert!(matches!(refusal(&zone, twice), Refusal::NoRecord(_)));
}

#[test]
fn limits_hold_in_number_and_in_octets() {
    let zone = zone(&[SOA]);
    let many = |count: u32| {
        (0..count).map(|n| create(&format!("x 60 A 10.{}.{}.{}", n >> 16, n >> 8 & 255, n & 255)))
    };
    assert!(staged(&zone, many(1_000).collect()).is_ok());
    assert!(matches!(refusal(&zone, many(1_001).collect()), Refusal::RrsetTooLarge { .. }));
    assert!(matches!(
        refusal(&zone, vec![create("x 2147483648 A 192.0.2.1")]),
        Refusal::TtlTooLarge(_)
    ));
    let large = |n: usize| {
        let owner = Name::parse(&format!("n{n}"), &origin()).unwrap();
        let rdata = vec![0; 60_000].into();
        Operation::Create(RecordData { owner, rtype: Rtype::from_int(65280), ttl: 60, rdata })
    };
    assert!(staged(&zone, (0..270).map(large).collect()).is_ok());
    assert_eq!(refusal(&zone, (0..290).map(large).collect()), Refusal::TooManyChanges);
    let small = |n: u32| create(&format!("n{n} 60 A 192.0.2.1"));
    assert_eq!(refusal(&zone, (0..100_001).map(small).collect()), Refusal::TooManyChanges);
}
