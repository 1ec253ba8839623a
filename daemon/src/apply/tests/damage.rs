//! Damage that nobody but a reader has seen: it is served to nobody, and the store is not opened again as good
//! (invariant 17).

use super::*;
use crate::store::Distrust;

/// Records of a store whose first segments are full: what stands there is not looked at when sled opens it again.
const RECORDS: usize = 3_000;
/// Octets of each.
const RDATA: usize = 6_000;

/// A record's owner and text, of which there is one.
fn host(number: usize) -> (Name, String) {
    (Name::parse(&format!("host-{number:06}"), &zone()).unwrap(), format!("needle-{number:06}"))
}

/// A closed store with records of which nothing has to be looked at when it is opened.
fn filled(dir: &Path) {
    let (mut applying, _) = begin(dir);
    let mut log = Log::new();
    send(&applying, [log.next(vec![Change::ZoneCreate])]);
    for from in (0..RECORDS).step_by(100) {
        let create = |number| {
            let (owner, text) = host(number);
            let rdata = [text.as_bytes(), &[7; RDATA]].concat().into();
            Change::RecordCreate { owner, rtype: Rtype::NULL, ttl: 1, rdata }
        };
        send(&applying, [log.next((from..from + 100).map(create).collect())]);
    }
    while !matches!(next(&mut applying), Report::Durable { position, .. } if position == log.0) {}
    drop(applying.works);
    applying.thread.join().unwrap();
    // sled's own snapshot is made when it is opened: what stands before it is read when it is asked for.
    drop(open(dir));
}

/// Turns a bit in each place of sled's file where a text stands.
fn damage(dir: &Path, text: &str) -> usize {
    let file = dir.join("store/db");
    let mut octets = fs::read(&file).unwrap();
    let places = octets.windows(text.len()).enumerate();
    let places: Vec<_> =
        places.filter(|(_, found)| *found == text.as_bytes()).map(|(place, _)| place).collect();
    places.iter().for_each(|place| octets[*place] ^= 1);
    fs::write(&file, octets).unwrap();
    places.len()
}

#[test]
fn what_cannot_be_read_is_told_and_has_the_store_put_aside_at_the_next_start() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path());
    let (owner, text) = host(100);
    assert!(damage(dir.path(), &text) > 0);
    let (mut applying, reader) = begin(dir.path());
    assert_eq!(reader.totals().records, RECORDS as u64, "it opens as if all was well");
    let failed = reader.lookup(&owner, None).unwrap_err();
    assert!(failed.is_damage(), "{failed}");
    let marked = dir.path().join("store.distrusted");
    for _ in (0..100).take_while(|_| !marked.exists()) {
        std::thread::sleep(Duration::from_millis(100));
    }
    assert!(marked.exists(), "nobody has told the apply thread");
    let Report::Failed { reason } = next(&mut applying) else { panic!() };
    assert!(reason.contains("cannot be read"), "{reason}");
    assert_eq!(reader.lookup(&host(2_900).0, None).unwrap().records.len(), 1, "the rest is served");
    drop(applying.works);
    applying.thread.join().unwrap();
    drop(reader);
    let again = open(dir.path());
    assert_eq!(again.distrusted().map(Distrust::label), Some("disk_failed"));
    assert_eq!(again.durable(), None, "it is filled anew");
}

#[test]
fn a_verification_names_the_zone_that_cannot_be_read_and_reads_the_others() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path());
    damage(dir.path(), &host(100).1);
    let (mut applying, reader) = begin(dir.path());
    let verified = reader.verify().unwrap();
    let named: Vec<_> = verified.mismatches.iter().map(|m| (m.origin.clone(), m.found.0)).collect();
    assert_eq!((verified.zones, named), (1, vec![(zone(), 0)]));
    assert!(matches!(next(&mut applying), Report::Failed { .. }));
}

#[test]
fn what_a_failed_write_has_left_unreadable_is_no_damage() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path());
    let store = open(dir.path());
    store.full_after(0);
    let reader = store.reader();
    let mut applying = start(store, pauses(dir.path())).unwrap();
    let mut log = Log(reader.position().unwrap());
    // Somebody has found it before the write was seen to fail.
    reader.finds_damage();
    send(&applying, [log.create()]);
    loop {
        match next(&mut applying) {
            Report::Failed { reason } => panic!("{reason}"),
            Report::Reopened { .. } => break,
            _ => {}
        }
    }
    std::thread::sleep(crate::limits::FILES_PERIOD * 2);
    send(&applying, [Work::Restart]);
    drop(applying.works);
    while let Some(report) = applying.reports.blocking_recv() {
        assert!(!matches!(report, Report::Failed { .. }));
    }
    assert!(!dir.path().join("store.distrusted").exists());
}
