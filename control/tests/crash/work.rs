//! Something for the log to do: zones, edits, imports, deletions, repeated calls, several writes at
//! a time; with the points in the disk's life at which each write was handed in and answered.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use edgesync_control::{
    access::Access,
    log::{Action, Caller, Committed, FleetRow, IdempotencyKey, Log, Write},
};
use edgesync_core::{
    Rtype,
    change::Generation,
    name::Name,
    position::{LogId, Position},
    stage::{Operation, RecordData, Serial, Target},
};

use crate::{
    Random,
    disk::{Disk, Op},
    model::{self, Model, Records},
};

/// Long enough for the sequencer to tidy up.
const IDLE: Duration = Duration::from_millis(45);

/// A write that was done, and what the log holds after it.
#[derive(Clone)]
pub struct Done {
    pub write: Write,
    pub committed: Committed,
    /// The disk's life when it was handed in, and when it had been answered.
    pub submitted: usize,
    pub answered: usize,
    pub model: Arc<Model>,
}

/// All that happened to a log.
pub struct History {
    pub log: LogId,
    pub done: Vec<Done>,
    pub ops: Vec<Op>,
    /// When the log had been created.
    pub created: usize,
}

pub fn origin(index: usize) -> Name {
    let zones = ["example", "a.example", "b.example", "xn--nxasmq6b.test"];
    Name::parse_origin(zones[index % zones.len()]).unwrap()
}

pub fn write(zone: Name, action: Action, index: usize) -> Write {
    let peer = format!("192.0.2.1:{index}");
    let caller = Caller { principal: "torturer".to_owned(), peer, method: "test/Write" };
    // The work load takes away as much as it likes.
    let authorized = Access::unrestricted().trust(caller, zone).expect("nothing is asked");
    Write::new(authorized, action).overriding(true)
}

/// A record of which an owner name may have several, or one that is alone at its own.
pub fn record(zone: &Name, random: &mut Random) -> RecordData {
    if random.one_in(2) {
        let owner = Name::parse(&format!("h{}", random.below(12)), zone).unwrap();
        let rdata = vec![192, 0, 2, u8::try_from(random.below(8)).unwrap()];
        return RecordData { owner, rtype: Rtype::A, ttl: 300, rdata: rdata.into() };
    }
    let owner = Name::parse(&format!("t{}", random.any()), zone).unwrap();
    let strings = if random.one_in(20) { 16 } else { 1 };
    RecordData { owner, rtype: Rtype::TXT, ttl: 300, rdata: text(strings, random).into() }
}

/// RDATA of a TXT record.
fn text(strings: usize, random: &mut Random) -> Vec<u8> {
    let mut rdata = Vec::new();
    for _ in 0..strings {
        let length = random.below(256);
        rdata.push(u8::try_from(length).unwrap());
        rdata.extend((0..length).map(|_| random.any().to_be_bytes()[0]));
    }
    rdata
}

/// Different records, the SOA first.
pub fn zone_file(zone: &Name, serial: u32, count: usize, random: &mut Random) -> Vec<RecordData> {
    let mut records = vec![model::soa(zone, serial)];
    records.extend(different(zone, count, &Records::new(), random));
    records
}

/// Records that are not among some.
fn different(zone: &Name, count: usize, among: &Records, random: &mut Random) -> Vec<RecordData> {
    let mut seen = among.clone();
    let mut found: Vec<RecordData> = (0..count).map(|_| record(zone, random)).collect();
    let key = |data: &RecordData| (data.owner.clone(), data.rtype.to_int(), data.rdata.to_vec());
    found.retain(|data| seen.insert(key(data), 0).is_none());
    found
}

/// The one who does the work.
struct Worker {
    random: Random,
    disk: Disk,
    log: Log,
    model: Model,
    generations: BTreeMap<Name, Generation>,
    done: Vec<Done>,
    count: usize,
}

/// Runs a log through its life. The same seed does the same work; which writes share a group is up
/// to the threads.
pub async fn history(seed: u64, writes: usize) -> History {
    let disk = Disk::default();
    let log = crate::open(&disk).unwrap();
    let (id, created) = (log.head().borrow().log, disk.now());
    let (model, generations, done) = Default::default();
    let random = Random(seed);
    let mut worker = Worker { random, disk, log, model, generations, done, count: 0 };
    while worker.count < writes {
        worker.batch().await;
    }
    let Worker { disk, log, done, .. } = worker;
    log.close().await;
    drop(log);
    History { log: id, done, ops: disk.ops(), created }
}

impl Worker {
    /// Hands some writes in, and waits for their answers.
    async fn batch(&mut self) {
        if self.random.one_in(10) {
            tokio::time::sleep(IDLE).await;
        }
        if self.random.one_in(8) {
            let durable = self.done.last().map(|done| done.committed.position);
            self.log.save_fleet(vec![FleetRow { edge: "edge".to_owned(), durable }]);
        }
        if self.random.one_in(6) {
            self.repeat().await;
        }
        let mut pending = Vec::new();
        for _ in 0..=self.random.below(6) {
            let write = self.next();
            let current = self.generations.get(write.zone()).copied();
            let fits = self.model.apply(write.zone(), &write.action, current);
            let submitted = self.disk.now();
            let answer = self.log.submit(write.clone()).await.unwrap();
            let opens = matches!(write.action, Action::OpenGeneration(_));
            pending.push((write, fits, submitted, Arc::new(self.model.clone()), answer));
            if opens {
                break;
            }
        }
        for (write, fits, submitted, model, answer) in pending {
            let answer = answer.await;
            let answered = self.disk.now();
            assert_eq!(answer.is_ok(), fits, "{write:?}: {answer:?}");
            let Ok(committed) = answer else { continue };
            let before = self.done.last().map_or(0, |done| done.committed.position.offset.0);
            assert_eq!(committed.first.0, before + 1, "invariant 2");
            assert!(!committed.replayed);
            if matches!(write.action, Action::OpenGeneration(_)) {
                self.generations.insert(write.zone().clone(), committed.generation);
            }
            self.done.push(Done { write, committed, submitted, answered, model });
        }
    }

    /// Calls again what was answered: it gets the same answer, and nothing is done.
    async fn repeat(&mut self) {
        let keyed: Vec<_> = self.done.iter().filter(|d| d.write.idempotency.is_some()).collect();
        let Some(done) = keyed.get(self.random.below(keyed.len())) else { return };
        let again = self.log.commit(done.write.clone()).await.unwrap();
        assert_eq!(again, Committed { replayed: true, ..done.committed });
    }

    fn next(&mut self) -> Write {
        self.count += 1;
        let zone = origin(self.random.below(4));
        let action = self.action(&zone);
        let mut write = write(zone, action, self.count);
        if self.random.one_in(4) {
            let request = [u8::try_from(self.count % 256).unwrap(); 32];
            write.idempotency = Some(IdempotencyKey { key: format!("k{}", self.count), request });
        }
        write
    }

    fn action(&mut self, zone: &Name) -> Action {
        let state = self.model.zones.get(zone).cloned().unwrap_or_default();
        let random = &mut self.random;
        let serial = state.visible.as_ref().map_or(1, |visible| visible.serial + 10);
        let generation = self.generations.get(zone).copied().unwrap_or(Generation(1));
        let size = if random.one_in(50) { 1_500 } else { 1 + random.below(40) };
        match (random.below(24), &state.visible, &state.hidden) {
            (0, Some(_), _) => Action::DeleteZone,
            (1..=2, ..) => Action::OpenGeneration(zone_file(zone, serial, size, random)),
            (3..=9, _, Some(hidden)) => match random.below(4) {
                0 => Action::DropGeneration(generation),
                1 => Action::PublishGeneration(generation, Vec::new()),
                2 => {
                    let last = different(zone, 1 + size % 7, &hidden.records, random);
                    Action::PublishGeneration(generation, last)
                }
                _ => {
                    // At least one: an empty set is refused.
                    let mut more = different(zone, size, &hidden.records, random);
                    more.extend(unique(zone, random));
                    Action::ExtendGeneration(generation, more)
                }
            },
            // Refused, if nothing is being imported.
            (10, ..) => Action::PublishGeneration(generation, Vec::new()),
            (_, None, _) => Action::CreateZone(zone_file(zone, 1, size, random)),
            (_, Some(visible), _) => change(zone, &visible.records, random),
        }
    }
}

fn unique(zone: &Name, random: &mut Random) -> Option<RecordData> {
    let owner = Name::parse(&format!("u{}", random.any()), zone).unwrap();
    Some(RecordData { owner, rtype: Rtype::TXT, ttl: 60, rdata: text(1, random).into() })
}

/// A change set of creates, edits and deletes; now and then one that has to be refused.
fn change(zone: &Name, records: &Records, random: &mut Random) -> Action {
    let mut left = records.clone();
    let mut operations = Vec::new();
    for _ in 0..=random.below(8) {
        let old = left.iter().nth(random.below(left.len()));
        let old = old.map(|((owner, rtype, rdata), ttl)| RecordData {
            owner: owner.clone(),
            rtype: Rtype::from_int(*rtype),
            ttl: *ttl,
            rdata: rdata.clone().into(),
        });
        let Some(old) = old.filter(|_| !random.one_in(2)) else {
            operations.push(Operation::Create(record(zone, random)));
            continue;
        };
        left.remove(&(old.owner.clone(), old.rtype.to_int(), old.rdata.to_vec()));
        let is_text = old.rtype == Rtype::TXT;
        let ttl = is_text.then(|| u32::try_from(random.below(1_000)).unwrap());
        let rdata = random.one_in(2).then(|| text(1, random).into()).filter(|_| is_text);
        let target = Target::Exact(old);
        operations.push(match random.one_in(2) {
            true => Operation::Delete(target),
            false => Operation::Edit { target, ttl, rdata, whole_rrset: false },
        });
    }
    let serial = if random.one_in(3) { Serial::AsWritten } else { Serial::Raise };
    Action::Change { operations, serial }
}

impl History {
    /// The position after so many writes.
    pub fn position(&self, writes: usize) -> Position {
        let last = writes.checked_sub(1).map(|index| self.done[index].committed.position);
        last.unwrap_or_else(|| Position::genesis(self.log))
    }
}
