//! Imports with limits so small that they take several change sets, over a real log.

use edgesync_core::{
    change::{Change, ChangeSet},
    record::Record,
};
use edgesync_proto::convert::decode_set;
use tokio::sync::watch;
use tonic::Code;

use super::*;
use crate::{
    config::Config,
    fleet::{AdmissionConfig, Fleet},
    log::{Caller, IdempotencyKey, Log, Options},
    snapshot::Snapshots,
};

struct Bench {
    _dir: tempfile::TempDir,
    api: Api,
}

fn bench(changes: usize) -> Bench {
    let dir = tempfile::tempdir().unwrap();
    let options = Options::of_a_test(dir.path());
    let log = Log::open(&options).unwrap();
    let admission = AdmissionConfig { max_sessions: 1, per_second: 1, burst: 1 };
    let fleet = Fleet::open(log.clone(), admission).unwrap();
    let (config, drain) = (watch::channel(Config::default()).1, watch::channel(false).1);
    let snapshots = Snapshots::open(log.clone(), dir.path().join("snapshots"), 1).unwrap();
    let mut api = Api::new(log, fleet, snapshots, config, drain);
    api.limits = SetLimits { changes, ..SetLimits::default() };
    Bench { _dir: dir, api }
}

fn origin() -> Name {
    Name::parse_origin("example.com").unwrap()
}

/// A zone file with a SOA, so many other owners, and a rest.
fn file(serial: u32, owners: std::ops::Range<u32>, rest: &str) -> String {
    let owners = owners.map(|n| format!("n{n:03} 60 A 192.0.2.{}\n", n % 250));
    let soa = format!("{rest}\n@ 60 SOA ns root {serial} 1 2 3 4\n");
    // The SOA last: it has to be in the first set all the same.
    owners.collect::<String>() + &soa
}

impl Bench {
    async fn start(&self, key: Option<&str>) -> Import {
        let caller = Caller {
            principal: "tester".to_owned(),
            peer: "unix".to_owned(),
            method: methods::IMPORT_ZONE.name,
        };
        let idempotency = key.map(|key| IdempotencyKey { key: key.to_owned(), request: [1; 32] });
        let permit = self.api.imports.clone().acquire_owned().await.unwrap();
        let call = Call { admitted: Admitted::unrestricted(), caller, idempotency };
        let (api, zone) = (self.api.clone(), origin());
        // What the tests import is small, and replaces much of it.
        Import { api, zone, call, override_guard: true, _permit: permit }
    }

    async fn import(&self, text: &str) -> Result<v1::ImportZoneResponse, Status> {
        self.start(None).await.run(text.as_bytes().to_vec()).await
    }

    fn records(&self) -> Vec<Record> {
        let view = self.api.log.view().unwrap();
        let Some(zone) = view.zone(&origin()).unwrap() else { return Vec::new() };
        view.records(&origin(), zone.generation, None, usize::MAX).unwrap().0
    }

    /// The change sets after an offset.
    fn sets(&self, after: Offset) -> Vec<ChangeSet> {
        let entries = self.api.log.view().unwrap().entries(after, usize::MAX).unwrap();
        entries.into_iter().map(|entry| decode_set(entry.body).unwrap()).collect()
    }

    fn head(&self) -> Offset {
        self.api.log.head().borrow().offset
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_zone_larger_than_a_set_is_published_whole_with_the_last() {
    let bench = bench(10);
    let done = bench.import(&file(1, 0..34, "")).await.unwrap();
    assert_eq!((done.created, done.change_sets, done.zone_created), (35, 4, true));
    assert_eq!(bench.records().len(), 35);
    let sets = bench.sets(Offset::ZERO);
    assert_eq!(sets.len(), 4);
    assert!(sets.iter().all(|set| set.changes.len() <= 10 + 1), "a set stays in its limits");
    assert_eq!(sets[0].changes[0], Change::GenerationOpen);
    assert!(sets[..3].iter().all(|set| !set.changes.contains(&Change::ZonePublish)));
    assert_eq!(sets[3].changes.last(), Some(&Change::ZonePublish));
    assert_eq!(done.receipt.unwrap().position.unwrap().offset, bench.head().0);

    // What differs little is one set, however large the zone is.
    let done = bench.import(&file(2, 0..35, "")).await.unwrap();
    assert_eq!((done.created, done.edited, done.change_sets), (1, 1, 1));
    // What differs much replaces the zone, by a rising serial only.
    let done = bench.import(&file(3, 100..150, "")).await.unwrap();
    assert_eq!((done.created, done.deleted, done.change_sets), (51, 36, 6));
    assert!(!done.zone_created);
    let owners: Vec<_> = bench.records().iter().map(|record| record.owner.to_string()).collect();
    assert_eq!((owners.len(), owners[1].as_str()), (51, "n100.example.com."));
    // Little that replaces much is one chunk, and begins and is published all the same.
    let done = bench.import(&file(4, 0..2, "")).await.unwrap();
    assert_eq!((done.created, done.deleted, done.change_sets), (3, 51, 2));
    assert_eq!(bench.records().len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_zone_is_not_replaced_by_another_one_as_large_without_a_word() {
    let bench = bench(10);
    bench.import(&file(1, 0..40, "")).await.unwrap();
    let before = bench.records();
    let unasked = async |owners, serial| {
        let mut import = bench.start(None).await;
        import.override_guard = false;
        import.run(file(serial, owners, "").into_bytes()).await
    };
    let refused = unasked(100..140, 2).await.unwrap_err();
    assert!(refused.message().contains("has 41 records, and 40 of them"), "{refused}");
    assert!(refused.message().contains("--override-guard"), "{refused}");
    assert_eq!(bench.records(), before);
    let states = bench.api.log.view().unwrap().zone_states(&origin()).unwrap();
    assert_eq!(states.hidden, None, "what was written of it is given up");
    // What leaves most as it is passes, however much is new.
    let done = unasked(0..70, 2).await.unwrap();
    assert_eq!((done.created, done.deleted), (71, 41), "by a new generation");
    assert!(unasked(0..70, 3).await.is_ok(), "the SOA alone");
    bench.import(&file(4, 100..140, "")).await.expect("with a word");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_import_that_fails_on_its_way_leaves_the_zone_and_no_generation() {
    let bench = bench(10);
    bench.import(&file(5, 0..20, "")).await.unwrap();
    let before = bench.records();
    let wrong = [
        // The two are cut into different sets, and found all the same.
        (file(6, 100..150, "n100 60 CNAME x\n"), "CNAME"),
        (file(6, 100..150, "n149 60 CNAME x\n"), "CNAME"),
        (file(6, 100..150, "n149 99 A 192.0.2.250\n"), "TTL"),
        (file(4, 100..150, ""), "from 5 to 4"),
    ];
    for (text, part) in wrong {
        let (at, refused) = (bench.head(), bench.import(&text).await.unwrap_err());
        assert_eq!(refused.code(), Code::FailedPrecondition);
        assert!(refused.message().contains(part), "{refused}");
        assert_eq!(bench.records(), before);
        let states = bench.api.log.view().unwrap().zone_states(&origin()).unwrap();
        assert_eq!(states.hidden, None, "{part}");
        let dropped =
            bench.sets(at).last().is_none_or(|set| set.changes == [Change::GenerationDrop]);
        assert!(dropped, "{part}");
    }
    let at = bench.head();
    let stays = bench.import(&file(5, 100..150, "")).await.unwrap_err();
    assert!(stays.message().contains("serial 5"), "{stays}");
    assert_eq!(bench.head(), at, "nothing was begun");
    assert!(bench.import(&file(6, 100..150, "")).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_key_of_a_large_import_is_kept_with_what_publishes_it() {
    let bench = bench(10);
    let text = file(1, 0..30, "").into_bytes();
    let first = bench.start(Some("k")).await.run(text.clone()).await.unwrap().receipt.unwrap();
    let head = bench.head();
    let again = bench.start(Some("k")).await.run(text.clone()).await.unwrap().receipt.unwrap();
    assert!(again.replayed && again.position == first.position);
    let mut other = bench.start(Some("k")).await;
    other.call.idempotency = Some(IdempotencyKey { key: "k".to_owned(), request: [2; 32] });
    assert_eq!(other.run(text).await.unwrap_err().code(), Code::FailedPrecondition);
    assert_eq!(bench.head(), head);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_that_was_overtaken_by_an_edit_changes_nothing() {
    for next in [file(2, 0..6, ""), file(2, 100..150, "")] {
        let bench = bench(10);
        bench.import(&file(1, 0..5, "")).await.unwrap();
        let import = bench.start(None).await;
        let wanted = read(next.as_bytes(), &origin()).unwrap();
        let (plan, wanted) = import.plan(wanted).await.unwrap();
        let edit =
            RecordData { owner: Name::parse("edit", &origin()).unwrap(), ..wanted[0].clone() };
        let edit = change(vec![Operation::Create(edit)], Serial::AsWritten);
        import.visible(edit, None, 0).await.unwrap();
        let (before, at) = (bench.records(), bench.head());
        let overtaken = import.carry_out(plan).await.unwrap_err();
        assert!(was_overtaken(&overtaken), "{overtaken}");
        assert_eq!((bench.records(), bench.head()), (before, at));
        // A new plan takes the edit into account.
        import.run(next.into_bytes()).await.unwrap();
        assert_eq!(
            bench.records().iter().filter(|r| r.owner.to_string().starts_with("edit")).count(),
            0
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_octets_of_a_set_bound_an_import_too() {
    let mut bench = bench(100_000);
    bench.api.limits.octets = 600;
    let done = bench.import(&file(1, 0..34, "")).await.unwrap();
    assert!(done.change_sets >= 4, "{done:?}");
    let sets = bench.sets(Offset::ZERO);
    assert!(sets.iter().all(|set| edgesync_proto::convert::encode_set(set).len() <= 600));
    assert_eq!(bench.records().len(), 35);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_soa_is_in_the_first_set_although_the_origin_has_more_than_a_set_holds() {
    let bench = bench(10);
    let servers: String = (0..25).map(|n| format!("@ 60 NS ns{n}\n")).collect();
    let done = bench.import(&file(1, 0..5, &servers)).await.unwrap();
    assert_eq!((done.created, done.change_sets), (31, 4));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_outside_the_zone_is_found_before_anything_is_begun() {
    let bench = bench(10);
    let refused = bench.import(&file(1, 0..50, "example.org. 60 NS ns\n")).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert!(refused.message().contains("outside the zone"), "{refused}");
    assert_eq!(bench.head(), Offset::ZERO);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_stands_twice_is_taken_once() {
    for changes in [10, 100] {
        let bench = bench(changes);
        let twice = file(1, 0..20, "n000 60 A 192.0.2.0\n");
        assert_eq!(bench.import(&twice).await.unwrap().created, 21);
        assert_eq!(bench.records().len(), 21);
        assert_eq!(bench.import(&twice).await.unwrap(), v1::ImportZoneResponse::default());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_does_not_wait_for_imports() {
    let bench = bench(10);
    bench.import(&file(1, 0..5, "")).await.unwrap();
    let then = bench.head();
    bench.import(&file(2, 0..6, "")).await.unwrap();
    let running = [bench.start(None).await, bench.start(None).await];
    let call = running[0].call.clone();
    let restored = bench.api.restore(call, origin(), then, true);
    let restored = timeout(TURN / 2, restored).await.expect("imports keep none waiting");
    assert_eq!(restored.unwrap().deleted, 1);
    drop(running);
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_a_turn_is_told_after_a_while_to_come_back() {
    let places = Arc::new(Semaphore::new(1));
    let first = permit(&places, IMPORTS_RUN).await.unwrap();
    let begun = tokio::time::Instant::now();
    let told = permit(&places, IMPORTS_RUN).await.unwrap_err();
    assert_eq!((told.code(), told.message()), (Code::ResourceExhausted, IMPORTS_RUN));
    assert_eq!(begun.elapsed(), TURN);
    drop(first);
    assert!(permit(&places, IMPORTS_RUN).await.is_ok());
}
