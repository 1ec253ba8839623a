//! Receipts and fencing, over a real log.

use edgesync_core::{
    change::Generation,
    name::Name,
    rdata,
    session::{Filter, InstanceId, Pause},
    stage::RecordData,
};

use super::*;
use crate::{
    access::Access,
    log::{Action, Caller, Options, Write},
};

struct Bench {
    _dir: tempfile::TempDir,
    log: Log,
    fleet: Fleet,
}

/// A fleet over a log with one zone: head 2.
async fn bench() -> Bench {
    bench_for(10).await
}

async fn bench_for(max_sessions: usize) -> Bench {
    let dir = tempfile::tempdir().unwrap();
    let options = Options::of_a_test(dir.path());
    let log = Log::open(&options).unwrap();
    create_zone(&log, "example.com").await;
    let fleet = Fleet::open(log.clone(), admission(max_sessions)).unwrap();
    Bench { _dir: dir, fleet, log }
}

/// Two changes: a zone and its SOA.
async fn create_zone(log: &Log, origin: &str) {
    let zone = Name::parse_origin(origin).unwrap();
    let rtype = edgesync_core::Rtype::SOA;
    let rdata = rdata::parse(rtype, "ns root 1 2 3 4 5", &zone).unwrap();
    let soa = RecordData { owner: zone.clone(), rtype, ttl: 60, rdata };
    let caller = Caller { principal: String::new(), peer: String::new(), method: "test" };
    let action = Action::CreateZone(vec![soa]);
    let head = log.head().borrow().offset;
    let generation = Generation(head.next().0);
    let write = Write::new(Access::unrestricted().trust(caller, zone).unwrap(), action);
    let committed = log.commit(write).await.unwrap();
    assert_eq!(committed.generation, generation);
}

const fn admission(max_sessions: usize) -> AdmissionConfig {
    AdmissionConfig { max_sessions, per_second: 1_000, burst: 100 }
}

fn hello(edge: &str, instance: u8) -> Hello {
    Hello {
        edge: edge.parse().unwrap(),
        instance: InstanceId([instance; 16]),
        boot_epoch: 1,
        position: None,
        filter: Filter::All,
        stored_filter: Filter::All.hash(),
        staged: None,
        protocol: 1,
        version: "test".to_owned(),
        window: 0,
    }
}

impl Bench {
    fn admit(&self, edge: &str, instance: u8) -> Result<Seat, NotAdmitted> {
        self.fleet.admit(&hello(edge, instance), None, Instant::now())
    }

    fn ack(&self, seat: &Seat) {
        let head = *self.log.head().borrow();
        let ack = Ack { first: Offset(1), last: head.offset, apply: Duration::ZERO };
        self.fleet.acked(seat, &ack, head, &[Duration::from_millis(2)]);
    }

    async fn wait(&self, wanted: Wanted) -> Result<Waited, WaitError> {
        self.fleet.wait(Offset(2), wanted, Duration::from_millis(300)).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wait_for_what_cannot_come_is_an_error_at_once() {
    let bench = bench().await;
    assert_eq!(bench.wait(Wanted::All).await.unwrap_err(), WaitError::NoEdges);
    bench.admit("a", 1).unwrap();
    let few = bench.wait(Wanted::Count(2)).await.unwrap_err();
    assert_eq!(few, WaitError::TooFew { registered: 1, wanted: 2 });
    let ids = vec!["b".parse().unwrap()];
    assert_eq!(bench.wait(Wanted::Ids(ids.clone())).await.unwrap_err(), WaitError::Unknown(ids));
    let beyond = bench.fleet.wait(Offset(3), Wanted::All, Duration::ZERO).await.unwrap_err();
    assert_eq!(beyond, WaitError::BeyondHead { head: Offset(2) });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receipt_comes_with_the_last_ack_and_names_who_is_missing() {
    let bench = bench().await;
    let (a, b) = (bench.admit("a", 1).unwrap(), bench.admit("b", 2).unwrap());
    bench.ack(&a);
    let waited = bench.wait(Wanted::All).await.unwrap();
    assert!(!waited.reached() && waited.waited >= Duration::from_millis(300));
    assert_eq!((waited.have.len(), waited.missing[0].id.as_str()), (1, "b"));
    assert!(bench.wait(Wanted::Count(1)).await.unwrap().reached());
    let fleet = bench.fleet.clone();
    let later = tokio::spawn(async move {
        fleet.wait(Offset(2), Wanted::All, Duration::from_secs(10)).await.unwrap()
    });
    tokio::time::sleep(Duration::from_millis(50)).await;
    bench.ack(&b);
    let latency = bench.fleet.edges()[1].latency;
    assert!((1_980..=2_020).contains(&latency.p50) && latency.count == 1, "{latency:?}");
    let waited = later.await.unwrap();
    assert!(waited.reached() && waited.waited < Duration::from_secs(5), "woken by the ack");
    bench.fleet.leave(&b);
    assert!(bench.wait(Wanted::All).await.unwrap().reached(), "away, but it has it");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edge_that_comes_back_without_what_it_had_is_waited_for_again() {
    let bench = bench().await;
    let (a, b) = (bench.admit("a", 1).unwrap(), bench.admit("b", 2).unwrap());
    let fleet = bench.fleet.clone();
    let waiting = tokio::spawn(async move {
        fleet.wait(Offset(2), Wanted::All, Duration::from_secs(10)).await.unwrap()
    });
    tokio::time::sleep(Duration::from_millis(50)).await;
    bench.ack(&a);
    let again = bench.admit("a", 3).unwrap();
    bench.ack(&b);
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(!waiting.is_finished(), "what it had before says nothing of what it has now");
    bench.ack(&again);
    assert!(waiting.await.unwrap().reached());
}

#[tokio::test(flavor = "multi_thread")]
async fn of_very_many_that_are_behind_none_is_said_to_be_less_so_than_it_is() {
    let bench = bench().await;
    let sets = LAGS_READ * 2;
    for number in 0..sets {
        create_zone(&bench.log, &format!("zone-{number}.example")).await;
    }
    let head = *bench.log.head().borrow();
    let mut known = bench.fleet.lock();
    for number in 0..=sets {
        let offset = Offset(2 * u64::try_from(number).unwrap());
        let id = format!("edge-{number:03}").parse().unwrap();
        known.by_id.insert(id, Edge::remembered(Some(Position { offset, ..head })));
    }
    drop(known);
    let ages: Vec<_> =
        (0..sets).map(|set| bench.fleet.age_of_next(Offset(2 * set as u64))).collect();
    let lags: Vec<_> = bench.fleet.edges().iter().map(|view| view.lag).collect();
    assert!(lags.iter().zip(ages).all(|(lag, age)| *lag >= age), "{lags:?}");
    assert!(lags.windows(2).all(|pair| pair[0] >= pair[1]), "who is further behind lacks older");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_halted_edge_is_named_at_once() {
    let bench = bench().await;
    let seat = bench.admit("a", 1).unwrap();
    let (first, reason) = (Offset(1), "no such record".to_owned());
    bench.fleet.halted(&seat, Halt { first, last: first, held: false, reason });
    let waited = bench.fleet.wait(Offset(2), Wanted::All, Duration::from_secs(60)).await.unwrap();
    assert!(!waited.reached() && waited.waited < Duration::from_secs(5));
    assert_eq!((waited.missing[0].state, waited.end), (EdgeState::Halted, WaitEnd::Halted));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_release_is_told_at_once_and_only_for_what_it_keeps() {
    let bench = bench().await;
    let seat = bench.admit("a", 1).unwrap();
    let wait = async |offset| {
        let patience = Duration::from_millis(100);
        bench.fleet.wait(Offset(offset), Wanted::All, patience).await.unwrap()
    };
    bench.log.freeze("anna".to_owned(), String::new()).await.unwrap();
    create_zone(&bench.log, "example.org").await;
    let begun = Instant::now();
    assert_eq!((wait(4).await.end, wait(3).await.end), (WaitEnd::Frozen, WaitEnd::Frozen));
    assert!(begun.elapsed() < Duration::from_millis(100));
    assert!(
        !receipt::is_frozen(None, Offset(4)),
        "it is only that the head is told before it is released"
    );
    let released = wait(2).await;
    assert_eq!(released.end, WaitEnd::Timeout, "it is on its way");
    assert!(released.waited >= Duration::from_millis(100));
    bench.ack(&seat);
    assert!(wait(2).await.reached());
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_for_all_does_not_wait_for_one_that_is_forgotten_meanwhile() {
    let bench = bench().await;
    let (a, b) = (bench.admit("a", 1).unwrap(), bench.admit("b", 2).unwrap());
    bench.ack(&a);
    bench.fleet.leave(&b);
    let fleet = bench.fleet.clone();
    let waiting = tokio::spawn(async move {
        fleet.wait(Offset(2), Wanted::All, Duration::from_secs(60)).await.unwrap()
    });
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(!waiting.is_finished());
    bench.fleet.forget(&"b".parse().unwrap()).unwrap();
    let waited = tokio::time::timeout(Duration::from_secs(5), waiting).await.unwrap().unwrap();
    assert!(waited.reached() && waited.missing.is_empty(), "{waited:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_edge_is_named_at_once_and_waited_for_again_when_it_goes_on() {
    let bench = bench().await;
    let seat = bench.admit("a", 1).unwrap();
    let fleet = bench.fleet.clone();
    let waiting = tokio::spawn(async move {
        fleet.wait(Offset(2), Wanted::All, Duration::from_secs(60)).await.unwrap()
    });
    tokio::time::sleep(Duration::from_millis(50)).await;
    let frozen = Pause { why: "frozen by a file".to_owned(), is_frozen: true };
    let full = Pause::of_itself("the disk is full".to_owned());
    // It goes on by itself, and is waited for.
    bench.fleet.paused(&seat, Some(full.clone()));
    let waited = bench.wait(Wanted::All).await.unwrap();
    assert_eq!(
        (waited.end, &*waited.missing[0].reason),
        (WaitEnd::Timeout, "paused: the disk is full")
    );
    bench.fleet.paused(&seat, Some(frozen));
    let waited = tokio::time::timeout(Duration::from_secs(5), waiting).await.unwrap().unwrap();
    let [missing] = &waited.missing[..] else { panic!("{waited:?}") };
    assert_eq!((waited.end, &*missing.reason), (WaitEnd::Halted, "paused: frozen by a file"));
    assert_eq!(bench.fleet.states()[0].reason, "paused: frozen by a file");
    bench.fleet.paused(&seat, None);
    assert!(bench.wait(Wanted::All).await.unwrap().waited >= Duration::from_millis(300));
    // What a session has said goes with it.
    bench.fleet.paused(&seat, Some(full));
    bench.fleet.leave(&seat);
    assert_eq!(bench.fleet.states()[0].reason, "");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_newer_process_wins_once_and_the_zombies_acks_do_not_count() {
    let bench = bench().await;
    let old = bench.admit("a", 1).unwrap();
    let new = bench.admit("a", 2).unwrap();
    tokio::time::timeout(Duration::from_secs(5), old.fenced.notified()).await.unwrap();
    bench.ack(&old);
    assert!(!bench.wait(Wanted::All).await.unwrap().reached(), "invariant 13");
    assert_eq!(bench.admit("a", 1).unwrap_err(), NotAdmitted::Fenced, "while the winner lives");
    bench.fleet.leave(&old);
    bench.ack(&new);
    assert!(bench.wait(Wanted::All).await.unwrap().reached());
    bench.fleet.leave(&new);
    assert!(bench.admit("a", 1).is_ok(), "the winner is gone");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_process_takes_its_own_seat_again() {
    let bench = bench().await;
    bench.admit("a", 1).unwrap();
    bench.admit("a", 1).unwrap();
    assert!(bench.admit("a", 1).is_ok());
    assert_eq!(bench.fleet.edges()[0].sessions, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_are_bounded_and_seats_come_free() {
    let bench = bench_for(1).await;
    let one = bench.admit("a", 1).unwrap();
    assert!(matches!(bench.admit("b", 2), Err(NotAdmitted::Full { .. })));
    assert_eq!(bench.fleet.edges().len(), 1, "who is sent away is not registered");
    assert!(bench.admit("a", 1).is_ok(), "an edge takes its own seat in a full house");
    bench.fleet.leave(&one);
    assert!(matches!(bench.admit("b", 2), Err(NotAdmitted::Full { .. })), "it was not its seat");
    let one = bench.admit("a", 3).unwrap();
    bench.fleet.leave(&one);
    bench.fleet.leave(&one);
    assert!(bench.admit("b", 2).is_ok());
    assert!(matches!(bench.admit("a", 1), Err(NotAdmitted::Full { .. })));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_comes_too_fast_is_sent_away_and_takes_no_seat() {
    let bench = bench_for(1_000).await;
    let now = Instant::now();
    let admit = |n: u32| bench.fleet.admit(&hello(&format!("e{n}"), 1), None, now);
    assert!((0..100).all(|n| admit(n).is_ok()));
    let away: Vec<_> = (100..103).map(|n| admit(n).unwrap_err()).collect();
    let millis = |millis| NotAdmitted::Rate { retry_after: Duration::from_millis(millis) };
    assert_eq!(away, [millis(1), millis(2), millis(3)]);
    assert_eq!(bench.fleet.send_away(now), Duration::from_millis(4));
    assert_eq!(bench.fleet.edges().len(), 100, "who is sent away is not registered");
    let later = now + Duration::from_millis(1);
    assert!(bench.fleet.admit(&hello("e100", 1), None, later).is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_was_fenced_is_told_so_also_when_many_come() {
    let bench = bench_for(1_000).await;
    let now = Instant::now();
    let admit = |edge: &str, instance| bench.fleet.admit(&hello(edge, instance), None, now);
    admit("a", 1).unwrap();
    admit("a", 2).unwrap();
    assert_eq!((0..200).filter(|n| admit(&format!("e{n}"), 1).is_ok()).count(), 98);
    assert_eq!(admit("a", 1).unwrap_err(), NotAdmitted::Fenced);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edge_that_is_away_is_remembered_over_a_restart_until_it_is_forgotten() {
    let bench = bench().await;
    let seat = bench.admit("a", 1).unwrap();
    let id = "a".parse().unwrap();
    assert_eq!(bench.fleet.forget(&id), Err(ForgetError::Connected(id.clone())));
    bench.fleet.leave(&seat);
    bench.log.close().await;
    let restarted = Fleet::open(bench.log.clone(), admission(10)).unwrap();
    assert_eq!(restarted.edges()[0].id, id);
    assert_eq!(restarted.edges()[0].state, EdgeState::Disconnected);
    restarted.forget(&id).unwrap();
    assert!(restarted.edges().is_empty());
    assert_eq!(restarted.forget(&id), Err(ForgetError::Unknown(id)));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_edge_says_it_has_does_not_count_before_the_log_has_found_it() {
    let bench = bench().await;
    let mut stranger = hello("a", 1);
    stranger.position = Some(*bench.log.head().borrow());
    bench.fleet.admit(&stranger, None, Instant::now()).unwrap();
    assert!(!bench.wait(Wanted::All).await.unwrap().reached());
}
