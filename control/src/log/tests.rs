//! The log through its door: what is answered OK is there, in order, after any reopening.

use std::{
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
};

use edgesync_core::{
    Rtype,
    fold::{self, Records},
    name::Name,
    rdata,
    record::RecordId,
    stage::{Operation, RecordData, Serial, Target},
};
use edgesync_proto::convert::decode_set;

use super::*;
use crate::access::Access;

mod full;
mod golden;
mod keeping;
mod queue;

fn open(dir: &Path) -> Result<Log, OpenError> {
    Log::open(&Options::of_a_test(dir))
}

fn origin() -> Name {
    Name::parse_origin("example.com").unwrap()
}

fn data(owner: &str, rtype: Rtype, text: &str) -> RecordData {
    let owner = Name::parse(owner, &origin()).unwrap();
    let rdata = rdata::parse(rtype, text, &origin()).unwrap();
    RecordData { owner, rtype, ttl: 60, rdata }
}

fn soa(serial: u32) -> RecordData {
    data("@", Rtype::SOA, &format!("ns root {serial} 1 2 3 4"))
}

fn a(owner: &str, last: u8) -> RecordData {
    data(owner, Rtype::A, &format!("192.0.2.{last}"))
}

fn write(action: Action) -> Write {
    Write::new(by("tester", origin()), action)
}

/// The right of somebody to write to a zone.
fn by(principal: &str, zone: Name) -> Authorized {
    let (principal, peer) = (principal.to_owned(), "127.0.0.1:1".to_owned());
    let caller = Caller { principal, peer, method: "test/Write" };
    Access::unrestricted().trust(caller, zone).unwrap()
}

fn change(operations: Vec<Operation>) -> Write {
    write(Action::Change { operations, serial: Serial::Raise })
}

fn keyed(mut write: Write, key: &str, request: u8) -> Write {
    let request = [request; 32];
    write.idempotency = Some(IdempotencyKey { key: key.to_owned(), request });
    write
}

async fn create_zone(log: &Log) -> Committed {
    log.commit(write(Action::CreateZone(vec![soa(1), a("www", 1)]))).await.unwrap()
}

/// The zone's records by the index, as lines.
fn lines(log: &Log) -> Vec<String> {
    let view = log.view().unwrap();
    let Some(zone) = view.zone(&origin()).unwrap() else { return Vec::new() };
    let (records, _) = view.records(&origin(), zone.generation, None, usize::MAX).unwrap();
    assert_eq!(records.len() as u64, zone.records);
    records.iter().map(edgesync_core::record::Record::zone_file_line).collect()
}

#[derive(Default)]
struct Map(std::collections::BTreeMap<Vec<u8>, Vec<u8>>);

impl Records for Map {
    type Error = std::convert::Infallible;
    type Value = Vec<u8>;

    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Self::Error> {
        Ok(self.0.get(key).cloned())
    }

    fn put(&mut self, key: Vec<u8>, value: Vec<u8>) -> Result<(), Self::Error> {
        self.0.insert(key, value);
        Ok(())
    }

    fn remove(&mut self, key: Vec<u8>) -> Result<(), Self::Error> {
        self.0.remove(&key);
        Ok(())
    }
}

/// Invariants 2 and 4: the log is gapless, its hashes chain, and the zone is its fold.
fn check_whole(log: &Log) {
    let view = log.view().unwrap();
    let mut at = Position::genesis(view.position().unwrap().log);
    let (mut map, mut states) = (Map::default(), fold::ZoneStates::default());
    for entry in view.entries(Offset::ZERO, usize::MAX).unwrap() {
        assert_eq!(entry.first, at.offset.next());
        at = at.after(entry.last, &entry.body);
        assert_eq!(at.hash, entry.hash);
        let set = decode_set(entry.body).unwrap();
        assert_eq!((set.first, set.last()), (entry.first, entry.last));
        fold::fold(&set, &mut states, &mut map).unwrap();
        assert!(view.audit(entry.last).unwrap().is_some());
    }
    assert_eq!(at, view.position().unwrap());
    assert_eq!(states, view.zone_states(&origin()).unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_answered_is_there_after_reopening() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path()).unwrap();
    assert_eq!(create_zone(&log).await.first, Offset(1));
    let committed = log.commit(change(vec![Operation::Create(a("new", 2))])).await.unwrap();
    assert_eq!((committed.first, committed.position.offset), (Offset(4), Offset(5)));
    let before = lines(&log);
    assert_eq!(before.len(), 3);
    check_whole(&log);
    log.close().await;
    drop(log);
    let log = open(dir.path()).unwrap();
    assert_eq!(*log.head().borrow(), committed.position);
    assert_eq!(lines(&log), before);
    let next = log.commit(change(vec![Operation::Create(a("more", 3))])).await.unwrap();
    assert_eq!(next.first, Offset(6));
    check_whole(&log);
}

#[tokio::test(flavor = "multi_thread")]
async fn offsets_follow_the_order_in_which_writes_are_submitted() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path()).unwrap();
    create_zone(&log).await;
    let mut pending = Vec::new();
    for n in 0..200u8 {
        pending.push(
            log.submit(change(vec![Operation::Create(a(&format!("n{n}"), n))])).await.unwrap(),
        );
    }
    let mut last = Offset(3);
    for pending in pending {
        let committed = pending.await.unwrap();
        assert_eq!(committed.first, last.next());
        last = committed.position.offset;
    }
    check_whole(&log);
    let recent = log.recent(Offset(3), usize::MAX).unwrap();
    assert_eq!(recent.len(), 200);
    assert_eq!(recent.last().unwrap().set.last, last);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_write_changes_nothing_and_others_of_its_group_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path()).unwrap();
    create_zone(&log).await;
    let good = log.submit(change(vec![Operation::Create(a("x", 1))])).await.unwrap();
    let bad_operations = vec![Operation::Create(a("y", 1)), Operation::Create(a("www", 1))];
    let bad = log.submit(change(bad_operations)).await.unwrap();
    let after = log.submit(change(vec![Operation::Create(a("z", 1))])).await.unwrap();
    assert!(good.await.is_ok());
    let Err(WriteError::Refused(refused)) = bad.await else { panic!() };
    assert_eq!(refused.operation, Some(1));
    assert_eq!(after.await.unwrap().first, Offset(6));
    assert!(!lines(&log).iter().any(|line| line.starts_with("y.")));
    check_whole(&log);
    let empty = log.commit(change(Vec::new())).await;
    assert_eq!(empty, Err(WriteError::Empty));
    let mut elsewhere = change(vec![Operation::Create(a("x", 9))]);
    let zone = Name::parse_origin("example.net").unwrap();
    elsewhere.authorized = by("tester", zone.clone());
    assert_eq!(log.commit(elsewhere).await, Err(WriteError::NoZone(zone)));
}

#[tokio::test(flavor = "multi_thread")]
async fn after_one_refusal_the_rest_of_a_stream_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path()).unwrap();
    create_zone(&log).await;
    let stream = Arc::new(AtomicBool::new(false));
    let mut answers = Vec::new();
    for owner in ["one", "www", "two"] {
        let mut write = change(vec![Operation::Create(a(owner, 1))]);
        write.stream = Some(Arc::clone(&stream));
        answers.push(log.submit(write).await.unwrap());
    }
    let mut results = Vec::new();
    for answer in answers {
        results.push(answer.await);
    }
    assert!(results[0].is_ok());
    assert!(matches!(results[1], Err(WriteError::Refused(_))));
    assert_eq!(results[2], Err(WriteError::StreamRefused));
    assert!(stream.load(Ordering::Relaxed));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idempotency_key_gives_the_first_answer_again_and_only_to_the_same_request() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path()).unwrap();
    create_zone(&log).await;
    let write = |request| keyed(change(vec![Operation::Create(a("x", 1))]), "key-1", request);
    // Both in one group: the second finds what the first has not yet made durable.
    let (first, again) = (log.submit(write(1)).await.unwrap(), log.submit(write(1)).await.unwrap());
    let first = first.await.unwrap();
    assert_eq!(again.await.unwrap(), Committed { replayed: true, ..first });
    assert_eq!(log.commit(write(2)).await, Err(WriteError::KeyReused));
    let mut other = write(2);
    other.authorized = by("somebody else", origin());
    assert!(
        matches!(log.commit(other).await, Err(WriteError::Refused(_))),
        "keys are per principal"
    );
    log.close().await;
    drop(log);
    let log = open(dir.path()).unwrap();
    assert!(log.commit(write(1)).await.unwrap().replayed, "kept over a restart");
    check_whole(&log);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_zone_version_that_was_overtaken_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path()).unwrap();
    let created = create_zone(&log).await;
    let mut write = change(vec![Operation::Create(a("x", 1))]);
    write.if_zone_version = Some(created.position.offset);
    assert!(log.commit(write.clone()).await.is_ok());
    assert!(matches!(log.commit(write).await, Err(WriteError::ZoneVersion { .. })));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hidden_generation_is_seen_by_nobody_until_it_is_published_whole() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path()).unwrap();
    create_zone(&log).await;
    let before = lines(&log);
    let open_generation = write(Action::OpenGeneration(vec![soa(2), a("b", 1)]));
    let generation = log.commit(open_generation.clone()).await.unwrap().generation;
    log.commit(write(Action::ExtendGeneration(generation, vec![a("c", 2)]))).await.unwrap();
    assert_eq!(lines(&log), before);
    let hidden_id = RecordId(log.head().borrow().offset.0);
    assert_eq!(log.view().unwrap().record(hidden_id).unwrap(), None);
    let publish = |records| write(Action::PublishGeneration(generation, records));
    log.commit(publish(vec![a("d", 3)])).await.unwrap();
    assert_eq!(lines(&log).len(), 4);
    assert!(log.view().unwrap().record(hidden_id).unwrap().is_some());
    check_whole(&log);

    // An edit in between makes the publication fail, and a later import gives the earlier one up.
    let late = log.commit(write(Action::OpenGeneration(vec![soa(3)]))).await.unwrap().generation;
    log.commit(change(vec![Operation::Create(a("e", 4))])).await.unwrap();
    let publish_late = write(Action::PublishGeneration(late, Vec::new()));
    assert!(matches!(log.commit(publish_late.clone()).await, Err(WriteError::ZoneVersion { .. })));
    let newer = log.commit(write(Action::OpenGeneration(vec![soa(9)]))).await.unwrap().generation;
    assert!(matches!(log.commit(publish_late).await, Err(WriteError::NoGeneration(_))));
    assert_eq!(log.view().unwrap().hidden_generations().unwrap(), [(origin(), newer)]);
    log.drop_abandoned().await.unwrap();
    assert_eq!(log.view().unwrap().hidden_generations().unwrap(), []);
    let lower = log.commit(write(Action::OpenGeneration(vec![soa(2)]))).await.unwrap().generation;
    let published = log.commit(write(Action::PublishGeneration(lower, Vec::new()))).await;
    assert!(matches!(published, Err(WriteError::Refused(_))), "the serial has to rise");
    check_whole(&log);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_zone_is_gone_at_once_and_its_records_with_its_history() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path()).unwrap();
    let created = create_zone(&log).await;
    let again = log.commit(write(Action::CreateZone(vec![soa(1)]))).await;
    assert_eq!(again, Err(WriteError::ZoneExists(origin())));
    log.commit(write(Action::DeleteZone)).await.unwrap();
    assert_eq!(log.view().unwrap().zone(&origin()).unwrap(), None);
    assert_eq!(log.view().unwrap().record(RecordId(3)).unwrap(), None);
    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    let (left, _) = log.view().unwrap().records(&origin(), created.generation, None, 10).unwrap();
    assert!(!left.is_empty(), "history needs them");
    let head = log.head().borrow().offset;
    log.compact(head).await.unwrap();
    // There is always something else to do.
    for _ in 0..2_000 {
        let authorized = Authorized::by_the_control_plane(origin(), "test");
        let refused = log.commit(Write::new(authorized, Action::DeleteZone)).await;
        assert!(matches!(refused, Err(WriteError::NoZone(_))), "{refused:?}");
        let view = log.view().unwrap();
        let (left, _) = view.records(&origin(), created.generation, None, 10).unwrap();
        if left.is_empty() {
            assert_eq!(create_zone(&log).await.first, head.next());
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(3)).await;
    }
    panic!("the records of a deleted zone stay");
}

fn faults(log: &Log) -> u64 {
    let mut scrub = Scrub::default();
    while scrub.step(log) {}
    scrub.faults
}

/// Takes a row out of the store behind the log's back.
fn take_first(dir: &Path, table: redb::TableDefinition<'static, &[u8], &[u8]>) {
    let database = redb::Database::create(dir.join("log.redb")).unwrap();
    let transaction = database.begin_write().unwrap();
    transaction.open_table(table).unwrap().pop_first().unwrap().unwrap();
    transaction.commit().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_scrub_finds_a_record_and_a_zone_that_are_lost() {
    let dir = tempfile::tempdir().unwrap();
    for table in [schema::RECORDS, schema::ZONES] {
        let log = open(dir.path()).unwrap();
        if log.head().borrow().offset == Offset::ZERO {
            create_zone(&log).await;
            assert_eq!(faults(&log), 0);
        }
        log.close().await;
        drop(log);
        take_first(dir.path(), table);
        let log = open(dir.path()).unwrap();
        assert_eq!(faults(&log), 1);
        log.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_is_found_by_its_id() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path()).unwrap();
    create_zone(&log).await;
    let (zone, record) = log.view().unwrap().record(RecordId(3)).unwrap().unwrap();
    assert_eq!((zone, record.owner.to_string().as_str()), (origin(), "www.example.com."));
    let target = Target::Id { id: RecordId(3), owner: record.owner, if_version: None };
    log.commit(change(vec![Operation::Delete(target)])).await.unwrap();
    assert_eq!(log.view().unwrap().record(RecordId(3)).unwrap(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_of_another_program_or_process_is_refused_with_one_line() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path()).unwrap();
    assert!(matches!(open(dir.path()), Err(OpenError::Locked(_))));
    log.close().await;
    drop(log);
    let format = |value: &[u8]| {
        let database = redb::Database::create(dir.path().join("log.redb")).unwrap();
        let transaction = database.begin_write().unwrap();
        transaction.open_table(schema::META).unwrap().insert(schema::META_FORMAT, value).unwrap();
        transaction.commit().unwrap();
    };
    format(&99u64.to_be_bytes());
    let Err(error @ OpenError::Format { .. }) = open(dir.path()) else { panic!() };
    assert!(error.to_string().contains("99") && !error.to_string().contains('\n'));
    let text = tempfile::tempdir().unwrap();
    std::fs::write(
        text.path().join("log.redb"),
        "not a database, but long enough to be read".repeat(200),
    )
    .unwrap();
    assert!(matches!(open(text.path()), Err(OpenError::Store { .. })));
}
