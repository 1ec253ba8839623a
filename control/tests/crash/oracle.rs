//! Says whether a log holds what it has to hold. Hashes are computed here, records compared with the
//! model; the product's own checks are asked only whether they raise a false alarm.

use std::collections::BTreeMap;

use edgesync_control::log::{Action, Log, Scrub, View};
use edgesync_core::{
    change::Generation,
    name::Name,
    position::Offset,
    record::Record,
    stage::{Operation, Serial},
};
use edgesync_proto::convert::decode_set;

use crate::{
    Random,
    disk::Disk,
    model::{self, Model, Records},
    work::{self, Done, History},
};

/// Checks that the log holds exactly the first so many writes, between two numbers; says how many.
pub fn check(log: &Log, history: &History, must: usize, may: usize) -> usize {
    let head = *log.head().borrow();
    let view = log.view().unwrap();
    assert_eq!(view.position().unwrap(), head);
    let whole = |writes: &usize| history.position(*writes) == head;
    let writes = (0..=history.done.len()).find(whole);
    let writes = writes.unwrap_or_else(|| panic!("{head} is not after a write"));
    assert!(must <= writes, "invariant 1: {must} writes were answered, {writes} are there");
    assert!(writes <= may, "{may} writes were handed in, {writes} are there");
    check_log(&view, history, writes);
    let nothing = Model::default();
    let model = writes.checked_sub(1).map_or(&nothing, |last| &history.done[last].model);
    check_zones(&view, model);
    let mut scrub = Scrub::default();
    while scrub.step(log) {}
    assert_eq!(scrub.faults, 0, "the scrub found faults where there are none");
    writes
}

/// Invariant 2 and rule 12: offsets without gaps, hashes that chain, each write's sets and audit.
fn check_log(view: &View, history: &History, writes: usize) {
    let genesis = [&b"edgesync log history"[..], &history.log.0].concat();
    let (mut hash, mut at) = (*blake3::hash(&genesis).as_bytes(), 0);
    let mut done = history.done[..writes].iter().peekable();
    while let entries = view.entries(Offset(at), 20_000).unwrap()
        && !entries.is_empty()
    {
        for entry in entries {
            assert_eq!(entry.first.0, at + 1, "invariant 2");
            let numbers = [entry.first.0.to_be_bytes(), entry.last.0.to_be_bytes()].concat();
            hash = *blake3::hash(&[&hash[..], &numbers, &entry.body].concat()).as_bytes();
            assert_eq!(entry.hash.0, hash, "rule 12");
            let set = decode_set(entry.body).unwrap();
            assert_eq!(set.first, entry.first);
            assert_eq!(set.changes.len() as u64, entry.last.0 - at, "no part of a set");
            let write = *done.peek().expect("no set is of no write");
            assert_eq!(set.zone, *write.write.zone());
            let audit = view.audit(entry.last).unwrap().unwrap();
            assert_eq!(audit.peer, write.write.caller().peer);
            let end = write.committed.position;
            assert!(entry.last <= end.offset, "no set is of two writes");
            if entry.last == end.offset {
                assert_eq!(entry.hash, end.hash);
                done.next();
            }
            at = entry.last.0;
        }
    }
    assert!(done.next().is_none(), "all writes are in the log");
}

/// Invariant 4: what is seen is what the writes say.
fn check_zones(view: &View, model: &Model) {
    let visible = |(zone, state): (&Name, &model::Zone)| {
        let content = state.visible.as_ref()?;
        Some((zone.clone(), model::with_soa(zone, content.serial, &content.records)))
    };
    let wanted: BTreeMap<_, _> = model.zones.iter().filter_map(visible).collect();
    let mut found = BTreeMap::new();
    for (zone, state) in view.zones(None, usize::MAX).unwrap() {
        let (records, items) = read(view, &zone, state.generation);
        assert_eq!(records.len() as u64, state.records);
        for record in records.into_iter().step_by(17) {
            let by_id = view.record(record.id).unwrap();
            assert_eq!(by_id, Some((zone.clone(), record)));
        }
        found.insert(zone, items);
    }
    assert!(found == wanted, "the zones are not those that the writes made");

    let hidden = |(zone, state): (&Name, &model::Zone)| {
        let hidden = state.hidden.as_ref()?;
        Some((zone.clone(), model::with_soa(zone, hidden.serial, &hidden.records)))
    };
    let wanted: BTreeMap<_, _> = model.zones.iter().filter_map(hidden).collect();
    let found = view.hidden_generations().unwrap().into_iter();
    let found: BTreeMap<_, _> =
        found.map(|(zone, generation)| (zone.clone(), read(view, &zone, generation).1)).collect();
    assert!(found == wanted, "the imports are not those that the writes began");
}

/// The records of a generation, read in pages.
fn read(view: &View, zone: &Name, generation: Generation) -> (Vec<Record>, Records) {
    let (mut records, mut after) = (Vec::new(), None);
    loop {
        let (page, last) = view.records(zone, generation, after.as_deref(), 100).unwrap();
        if page.is_empty() {
            break;
        }
        (after, _) = (last, records.extend(page));
    }
    let items: Records = records
        .iter()
        .map(|r| ((r.owner.clone(), r.rtype.to_int(), r.rdata.to_vec()), r.ttl))
        .collect();
    assert_eq!(items.len(), records.len(), "no record stands twice");
    (records, items)
}

/// A log that was opened again takes a write, and still knows the keys of what it holds. Gives back
/// the history that it has now; all but the last write of it is of before.
pub async fn go_on(
    log: &Log,
    disk: &Disk,
    before: &History,
    writes: usize,
    random: &mut Random,
) -> History {
    let keyed = before.done[..writes].iter().rfind(|done| done.write.idempotency.is_some());
    if let Some(done) = keyed {
        let again = log.commit(done.write.clone()).await.unwrap();
        assert!(again.replayed && again.first == done.committed.first, "rule 9");
    }
    let last = writes.checked_sub(1).map(|index| &before.done[index]);
    let mut model = last.map_or_else(Model::default, |done| (*done.model).clone());
    let visible = model.zones.iter().find(|(_, zone)| zone.visible.is_some());
    let (zone, action) = match visible {
        Some((zone, _)) => {
            let owner = Name::parse("after", zone).unwrap();
            let more = edgesync_core::stage::RecordData {
                owner,
                rtype: edgesync_core::Rtype::TXT,
                ttl: 1,
                rdata: random.any().to_be_bytes()[..].to_vec().into(),
            };
            let (operations, serial) = (vec![Operation::Create(more)], Serial::AsWritten);
            (zone.clone(), Action::Change { operations, serial })
        }
        None => {
            let zone = work::origin(0);
            let records = work::zone_file(&zone, 1, 3, random);
            (zone, Action::CreateZone(records))
        }
    };
    assert!(model.apply(&zone, &action, None));
    let write = work::write(zone, action, usize::MAX);
    let submitted = disk.now();
    let committed = log.commit(write.clone()).await.expect("the log takes a write again");
    let answered = disk.now();
    assert_eq!(committed.first, before.position(writes).offset.next());
    let mut done = before.done[..writes].to_vec();
    done.push(Done { write, committed, submitted, answered, model: model.into() });
    History { log: before.log, done, ops: Vec::new(), created: 0 }
}
