//! What of the log is kept, released, guarded and restored.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant, SystemTime},
};

use edgesync_core::{limits::IDEMPOTENCY_KEPT, record::Record};

use super::{commit::Context, guards::Guards, *};

/// A zone of the SOA and so many addresses, `n0` on.
async fn zone_of(log: &Log, addresses: u8) {
    let addresses = (0..addresses).map(|n| a(&format!("n{n}"), n));
    let records = std::iter::once(soa(1)).chain(addresses).collect();
    log.commit(write(Action::CreateZone(records))).await.unwrap();
}

fn delete(owner: &str, last: u8) -> Operation {
    Operation::Delete(Target::Exact(a(owner, last)))
}

fn texts(records: &[Record]) -> Vec<String> {
    let mut lines: Vec<_> = records.iter().map(Record::zone_file_line).collect();
    lines.sort();
    lines
}

fn now(log: &Log) -> Vec<String> {
    let view = log.view().unwrap();
    let Some(state) = view.zone(&origin()).unwrap() else { return Vec::new() };
    texts(&view.records(&origin(), state.generation, None, 1_000).unwrap().0)
}

fn at(log: &Log, offset: Offset) -> Result<Vec<String>, HistoryError> {
    log.view().unwrap().zone_at(&origin(), offset).map(|records| texts(&records))
}

/// More sets than two steps of a compaction forget.
async fn many_sets(log: &Log) {
    let mut pending = Vec::new();
    for n in 0..2_500u16 {
        let [high, low] = n.to_be_bytes();
        let set = vec![Operation::Create(a(&format!("x{high}"), low))];
        pending.push(log.submit(change(set)).await.unwrap());
    }
    for pending in pending {
        pending.await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn compaction_forgets_up_to_an_offset_and_keeps_the_hash_there() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path()).unwrap();
    create_zone(&log).await;
    for n in 0..50 {
        log.commit(change(vec![Operation::Create(a("x", n))])).await.unwrap();
    }
    let entries = log.view().unwrap().entries(Offset::ZERO, usize::MAX).unwrap();
    let (kept, floor) = (&entries[20..], &entries[19]);
    let octets = log.view().unwrap().log_octets().unwrap();
    assert_eq!(octets, entries.iter().map(|entry| entry.body.len() as u64).sum::<u64>());
    let pin = log.pin(entries[9].last);
    let pinned = log.compact(floor.last).await.unwrap();
    assert_eq!(
        pinned,
        Compaction {
            floor: entries[9].last,
            sets: 10,
            kept: Some(KeptBy::Snapshot(entries[9].last))
        }
    );
    drop(pin);
    // An offset within a set keeps the set.
    let done = log.compact(floor.last.next()).await.unwrap();
    assert_eq!(done, Compaction { floor: floor.last, sets: 10, kept: None });
    for reopened in [false, true] {
        let log = if reopened {
            log.close().await;
            open(dir.path())
        } else {
            Ok(log.clone())
        };
        let Ok(log) = log else { continue };
        assert_eq!(log.floor(), floor.last);
        let view = log.view().unwrap();
        assert_eq!(view.entries(floor.last, usize::MAX).unwrap(), kept);
        assert!(matches!(
            view.entries(floor.last.before(), usize::MAX),
            Err(ReadError::Compacted { .. })
        ));
        assert_eq!(log.view().unwrap().hash_at(floor.last).unwrap(), Some(floor.hash));
        assert_eq!(log.view().unwrap().hash_at(entries[18].last).unwrap(), None);
        assert_eq!(log.view().unwrap().hash_at(kept[0].last).unwrap(), Some(kept[0].hash));
        assert_eq!(view.before_last(1_000).unwrap(), floor.last);
        let octets: u64 = kept.iter().map(|entry| entry.body.len() as u64).sum();
        assert_eq!(view.log_octets().unwrap(), octets);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn retention_is_by_age_and_by_size() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path()).unwrap();
    create_zone(&log).await;
    for n in 0..10 {
        log.commit(change(vec![Operation::Create(a("x", n))])).await.unwrap();
    }
    let (all, hour) = (u64::MAX, Duration::from_secs(3_600));
    let expired = |age, octets, later| {
        log.expired(Retention { age, octets }, SystemTime::now() + later).unwrap()
    };
    let head = log.head().borrow().offset;
    assert_eq!(expired(hour, all, Duration::ZERO), None);
    assert_eq!(expired(hour, all, hour * 2), Some(head));
    assert_eq!(expired(hour, 0, Duration::ZERO), Some(head));
    let octets = log.view().unwrap().log_octets().unwrap();
    let some = expired(hour, octets / 2, Duration::ZERO).unwrap();
    assert!(some > Offset::ZERO && some < head);
    log.compact(some).await.unwrap();
    assert_eq!(expired(hour, octets / 2, Duration::ZERO), None);
    assert!(log.view().unwrap().log_octets().unwrap() <= octets / 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_kept_for_a_day_and_not_for_less_when_the_wall_clock_jumps() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path()).unwrap();
    create_zone(&log).await;
    let write = keyed(change(vec![Operation::Create(a("x", 1))]), "key-1", 1);
    log.commit(write.clone()).await.unwrap();
    let (wall, steady) = (SystemTime::now(), Instant::now());
    let clock = Clock::new(wall, steady);
    let (day, years) = (IDEMPOTENCY_KEPT, IDEMPOTENCY_KEPT * 3_650);
    let (little, minute) = (Duration::from_secs(1), Duration::from_secs(60));
    let looks = [
        (clock.at(wall + years, steady + little), true, "a jump ahead"),
        (clock.at(wall, steady + day * 2), true, "a clock that was set back"),
        (clock.at(wall + day - minute, steady + day - minute), true, "not yet a day"),
        // Long ago by the clock of this start: the key was dated by one that was ahead.
        (Clock::new(wall - years, steady).at(wall - years, steady), true, "a start years before"),
        (
            Clock::new(wall - years, steady).at(wall - years + day + minute, steady + day + minute),
            false,
            "a day after it was dated anew",
        ),
    ];
    for (now, is_kept, when) in looks {
        let context = Context { now, guards: &mut Guards::default() };
        // A group that writes nothing but this forgets what has expired as well.
        let row = FleetRow { edge: "a".to_owned(), durable: None };
        let fleet = BTreeMap::from([(row.edge.clone(), row)]);
        let head = *log.head().borrow();
        commit::group(&log.shared.database, head, Vec::new(), &fleet, context).unwrap();
        let found = log.commit(write.clone()).await;
        assert_eq!(found.is_ok_and(|committed| committed.replayed), is_kept, "{when}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_dated_after_now_is_not_forgotten() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path()).unwrap();
    create_zone(&log).await;
    let keep = Retention { age: Duration::ZERO, octets: u64::MAX };
    let past = SystemTime::now() - Duration::from_secs(3_600);
    assert_eq!(log.expired(keep, past).unwrap(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_release_stays_where_it_is_over_a_restart_and_keeps_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path()).unwrap();
    create_zone(&log).await;
    let frozen = *log.head().borrow();
    log.freeze("anna".to_owned(), "an incident".to_owned()).await.unwrap();
    let after = log.commit(change(vec![Operation::Create(a("x", 1))])).await.unwrap();
    assert_eq!((*log.released().borrow(), *log.head().borrow()), (frozen, after.position));
    assert_eq!(
        log.compact(frozen.offset).await.unwrap(),
        Compaction { floor: Offset::ZERO, sets: 0, kept: Some(KeptBy::Freeze) }
    );
    log.close().await;
    drop(log);
    let log = open(dir.path()).unwrap();
    assert_eq!((*log.released().borrow(), *log.head().borrow()), (frozen, after.position));
    let freeze = log.frozen().unwrap();
    assert_eq!((freeze.principal.as_str(), freeze.reason.as_str()), ("anna", "an incident"));
    log.unfreeze().await.unwrap();
    assert_eq!(*log.released().borrow(), after.position);
    assert_eq!(log.frozen(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_takes_too_much_of_a_zone_away_is_asked_first() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path()).unwrap();
    zone_of(&log, 19).await;
    for n in 0..6 {
        log.commit(change(vec![delete(&format!("n{n}"), n)])).await.unwrap();
    }
    let one_more = change(vec![delete("n6", 6)]);
    let refused = log.commit(one_more.clone()).await.unwrap_err();
    assert_eq!(refused, WriteError::Guard { zone: origin(), touched: 7, of: 20 });
    assert!(refused.to_string().contains("--override-guard"));
    let mut other = one_more.clone();
    other.authorized = by("somebody else", origin());
    log.commit(other).await.unwrap();
    assert!(matches!(log.commit(write(Action::DeleteZone)).await, Err(WriteError::Guard { .. })));
    let meant = Write { override_guard: true, ..write(Action::DeleteZone) };
    let committed = log.commit(meant).await.unwrap();
    let entry = log.view().unwrap().entries(committed.first.before(), 1).unwrap().remove(0);
    assert!(decode_set(entry.body).unwrap().override_guard, "the edges have to know");
    check_whole(&log);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_for_a_compaction_while_another_goes_on_takes_nothing_from_it() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path()).unwrap();
    create_zone(&log).await;
    many_sets(&log).await;
    let head = log.head().borrow().offset;
    let (all, some) = tokio::join!(log.compact(head), log.compact(Offset(10)));
    assert_eq!((all.unwrap().floor, some.unwrap().floor), (head, head));
    assert_eq!(log.floor(), head);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_of_compaction_is_bounded_in_octets_as_well() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path()).unwrap();
    create_zone(&log).await;
    for n in 0..5 {
        log.commit(change(vec![Operation::Create(a("x", n))])).await.unwrap();
    }
    let entries = log.view().unwrap().entries(Offset::ZERO, usize::MAX).unwrap();
    let head = log.head().borrow().offset;
    let two: u64 = entries[..2].iter().map(|entry| entry.body.len() as u64).sum();
    let step = tidy::compact(&log.shared.database, head, two).unwrap();
    assert_eq!((step.sets, step.more), (2, true));
    assert_eq!(step.floor.unwrap().offset, entries[1].last);
    let left: u64 = entries[2..].iter().map(|entry| entry.body.len() as u64).sum();
    assert_eq!(log.view().unwrap().log_octets().unwrap(), left);
    let step = tidy::compact(&log.shared.database, head, u64::MAX).unwrap();
    assert_eq!((step.sets, step.more), (4, false));
    assert_eq!(log.view().unwrap().log_octets().unwrap(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_compaction_comes_to_its_end_while_writes_never_rest() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path()).unwrap();
    create_zone(&log).await;
    many_sets(&log).await;
    let (head, writer) = (log.head().borrow().offset, log.clone());
    let (stop, stopped) = watch::channel(false);
    let writes = tokio::spawn(async move {
        for n in 0..=u8::MAX {
            let [one, other] = ["y", "z"].map(|owner| change(vec![Operation::Create(a(owner, n))]));
            // The next is in line before the last is answered.
            let (one, other) =
                (writer.submit(one).await.unwrap(), writer.submit(other).await.unwrap());
            assert!(one.await.is_ok() && other.await.is_ok());
            if *stopped.borrow() {
                return true;
            }
        }
        false
    });
    assert_eq!(log.compact(head).await.unwrap().floor, head);
    stop.send_replace(true);
    assert!(writes.await.unwrap(), "it has not waited for a rest");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_past_of_a_zone_is_told_back_to_the_floor() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path()).unwrap();
    let mut past = Vec::new();
    let mut note = |log: &Log| past.push((log.head().borrow().offset, now(log)));
    note(&log);
    zone_of(&log, 5).await;
    note(&log);
    let edit = |from: u8, to: u8| Operation::Edit {
        target: Target::Exact(a("n1", from)),
        ttl: None,
        rdata: Some(a("n1", to).rdata),
        whole_rrset: false,
    };
    for set in
        [vec![edit(1, 7)], vec![edit(7, 8), delete("n2", 2)], vec![Operation::Create(a("x", 1))]]
    {
        log.commit(change(set)).await.unwrap();
        note(&log);
    }
    // Created and edited in one set, then gone again.
    log.commit(change(vec![delete("x", 1), Operation::Create(a("y", 1))])).await.unwrap();
    note(&log);
    // Replaced by an import, deleted, and made anew.
    let generation = write(Action::OpenGeneration(vec![soa(90), a("z", 1)]));
    let generation = log.commit(generation).await.unwrap().generation;
    log.commit(write(Action::PublishGeneration(generation, vec![a("zz", 2)]))).await.unwrap();
    note(&log);
    log.commit(change(vec![Operation::Create(a("zzz", 3))])).await.unwrap();
    note(&log);
    log.commit(write(Action::DeleteZone)).await.unwrap();
    note(&log);
    zone_of(&log, 2).await;
    note(&log);
    // The purge of what nobody reads has had its time, and had to leave what history needs.
    tokio::time::sleep(Duration::from_millis(200)).await;
    for (offset, lines) in &past {
        match at(&log, *offset) {
            Ok(then) => assert_eq!(&then, lines, "at offset {offset}"),
            Err(HistoryError::NoZone { .. }) => assert_eq!(lines, &[""; 0], "at offset {offset}"),
            Err(error) => panic!("{error}"),
        }
    }
    let head = log.head().borrow().offset;
    assert!(matches!(at(&log, head.next()), Err(HistoryError::BeyondHead { .. })));
    let (floor, _) = past[6];
    log.compact(floor).await.unwrap();
    assert!(matches!(at(&log, floor.before()), Err(HistoryError::Compacted { .. })));
    tokio::time::sleep(Duration::from_millis(200)).await;
    for (offset, lines) in
        past.iter().filter(|(offset, lines)| *offset >= floor && !lines.is_empty())
    {
        assert_eq!(&at(&log, *offset).unwrap(), lines, "at offset {offset}, after compaction");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn samples_say_what_zones_are_at_their_very_offset() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path()).unwrap();
    let mut samples = log.samples();
    create_zone(&log).await;
    for n in 0..4 {
        samples.changed().await.unwrap();
        let sampled = samples.borrow_and_update().clone().unwrap();
        let head = *log.head().borrow();
        if sampled.position == head {
            let zone = log.view().unwrap().zone(&origin()).unwrap();
            let content = zone.map(|state| (state.records, state.digest));
            let swept = sampled.sample.sweep.zones.first().and_then(|zone| zone.content);
            assert_eq!(swept, content);
            assert!(sampled.sample.sweep.to_end);
        }
        log.commit(change(vec![Operation::Create(a("x", n))])).await.unwrap();
    }
}
