//! One writer: it owns some slots, which are change sets of several records that all carry the same
//! number, one large slot, some records that come and go, and a zone that does.

use std::{
    collections::VecDeque,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use rand::{RngExt, SeedableRng, rngs::StdRng};

use super::{Caller, ZONE};
use crate::oracle::{Change, History, Line, Set};

/// Slots of one writer.
const SLOTS: usize = 4;
/// Records of the large slot: more than the edge writes as one batch.
const LARGE: usize = 600;
/// Records that come and go, at the most.
const PASSING: usize = 20;

/// One in so many of them is large: a few that are neighbours at the edge are more than sled keeps in its
/// log, and go into files of their own.
const LARGE_ONE_IN: u32 = 4;
/// Character strings of a large one, and characters of each.
const LARGE_TEXT: (usize, usize) = (160, 250);

/// A writer, and what it has in the zone.
pub struct Writer {
    name: u64,
    random: StdRng,
    caller: Caller,
    /// Number that each slot carries; the last one is the large one.
    slots: [Option<u64>; SLOTS + 1],
    passing: VecDeque<Line>,
    zone: Option<String>,
    written: u64,
}

fn line(owner: String, number: u64, rdata: String) -> Line {
    let ttl = 60 + u32::try_from(number % 50).expect("a small number");
    Line { owner, ttl, rtype: "TXT", rdata }
}

/// RDATA of a large record.
fn large_text() -> String {
    let (strings, characters) = LARGE_TEXT;
    let text = format!("\"{}\"", "x".repeat(characters));
    vec![text; strings].join(" ")
}

impl Writer {
    pub fn new(name: u64, seed: u64, url: &str) -> Self {
        Self {
            name,
            random: StdRng::seed_from_u64(seed),
            caller: Caller::new(url),
            slots: [None; SLOTS + 1],
            passing: VecDeque::new(),
            zone: None,
            written: 0,
        }
    }

    /// Writes until it is to stop. An error that leaves the outcome unknown is asked after.
    pub async fn write(&mut self, history: &History, stop: &AtomicBool, pace: Duration) {
        while !stop.load(Ordering::Relaxed) {
            self.written += 1;
            let (key, set) = (format!("w{}-{}", self.name, self.written), self.next());
            self.caller.commit(&key, set, history).await;
            let pause = pace.mul_f64(self.random.random_range(0.0..2.0));
            if !pause.is_zero() {
                tokio::time::sleep(pause).await;
            }
        }
    }

    fn next(&mut self) -> Set {
        let changes = match self.random.random_range(0..100) {
            0..2 if self.name == 0 => self.slot(SLOTS),
            0..5 => return self.passing_zone(),
            5..20 => self.passing_record(),
            _ => {
                let slot = self.random.random_range(0..SLOTS);
                self.slot(slot)
            }
        };
        Set { zone: ZONE.to_owned(), changes }
    }

    /// Puts the next number into all records of a slot.
    fn slot(&mut self, slot: usize) -> Vec<Change> {
        let name = self.name;
        let lines = |number| {
            let owner = format!("s{slot}-{name}.{ZONE}");
            let mut lines = Vec::new();
            if slot < SLOTS {
                lines.push(line(owner.clone(), number, format!("\"one-{number}\"")));
                lines.push(line(owner.clone(), number, format!("\"two-{number}\"")));
            }
            let more = if slot < SLOTS { 3 } else { LARGE };
            lines.extend(
                (0..more).map(|m| line(format!("m{m}.{owner}"), number, format!("\"m-{number}\""))),
            );
            lines
        };
        let before = self.slots[slot].replace(self.written).map(lines);
        let after = lines(self.written);
        match before {
            None => after.into_iter().map(Change::Create).collect(),
            Some(before) => {
                before.into_iter().zip(after).map(|(old, new)| Change::Replace(old, new)).collect()
            }
        }
    }

    /// A record that comes, or one that goes.
    fn passing_record(&mut self) -> Vec<Change> {
        let number = self.written;
        let goes = self.passing.len() == PASSING || self.random.random_ratio(1, 3);
        if goes && let Some(line) = self.passing.pop_front() {
            return vec![Change::Delete(line)];
        }
        let owner = format!("p{number}-{}.{ZONE}", self.name);
        let text = match self.random.random_ratio(1, LARGE_ONE_IN) {
            true => large_text(),
            false => "\"passing\"".to_owned(),
        };
        let line = line(owner, number, text);
        self.passing.push_back(line.clone());
        vec![Change::Create(line)]
    }

    /// A zone that comes whole, or goes whole.
    fn passing_zone(&mut self) -> Set {
        if let Some(zone) = self.zone.take() {
            return Set { zone, changes: vec![Change::ZoneDelete] };
        }
        let number = self.written;
        let zone = format!("z{number}-{}.example.", self.name);
        self.zone = Some(zone.clone());
        let record = |rtype, rdata| Line { owner: zone.clone(), ttl: 60, rtype, rdata };
        let mut changes = vec![
            Change::ZoneCreate,
            Change::Create(record("SOA", format!("ns.{zone} h.{zone} 1 7200 900 1209600 300"))),
            Change::Create(record("NS", format!("ns.{zone}"))),
        ];
        let records = if self.random.random_ratio(1, 3) { 700 } else { 20 };
        let owner = |n| format!("n{n}.{zone}");
        changes.extend(
            (0..records).map(|n| Change::Create(line(owner(n), number, "\"zone\"".to_owned()))),
        );
        Set { zone, changes }
    }
}
