//! The one writer. It takes all writes that are waiting (and never waits for more), commits them as
//! one group, then releases them to the sessions, then answers the callers: in this order, so that
//! nothing undurable is ever seen (invariant 3).

use std::{
    collections::BTreeMap,
    mem,
    sync::{Arc, mpsc::RecvTimeoutError},
    time::{Duration, Instant, SystemTime},
};

use edgesync_core::{
    limits::IDEMPOTENCY_KEPT,
    position::{Offset, Position},
};
use redb::Database;
use tokio::sync::{oneshot, watch};

use super::{
    Clock, Compaction, FleetRow, Freeze, KeptBy, Released, Sampled, View, WriteError, access,
    commit::{self, Admission, Context, Outcome},
    corrupt::guarded,
    guards::Guards,
    pins::Pins,
    queue::{FreezeOrder, Jobs, Order, Taken},
    recent::Recent,
    room::LogRoom,
    sampler::Sampler,
    schema::{META, META_RELEASE},
    tidy,
};

/// How long the sequencer is idle before it goes on tidying up.
const IDLE: Duration = Duration::from_millis(20);
/// How long tidying up is put off if it is never idle.
const BUSY: Duration = Duration::from_millis(250);

/// Where it is never idle, a step of compaction is followed by so many times its own length without one:
/// a write waits for few, and it still comes to its end.
const COMPACT_REST: u32 = 4;

/// What the sequencer tells the rest of the control plane.
pub(super) struct Told {
    /// What is durable.
    pub(super) head: watch::Sender<Position>,
    /// What edges may have of it.
    pub(super) released: watch::Sender<Position>,
    /// Why that is not all, if it is not.
    pub(super) freeze: watch::Sender<Option<Freeze>>,
    /// What the log begins after.
    pub(super) floor: watch::Sender<Offset>,
    /// What some zones are at an offset.
    pub(super) sample: watch::Sender<Option<Arc<Sampled>>>,
    /// Why the store has failed, if it has.
    pub(super) failed: watch::Sender<Option<String>>,
}

/// The one writer of the log.
pub(super) struct Sequencer {
    database: Arc<Database>,
    recent: Arc<Recent>,
    pins: Pins,
    told: Told,
    room: LogRoom,
    guards: Guards,
    clock: Clock,
    sampler: Sampler,
    compacting: Option<Compacting>,
    /// What is to be kept of the fleet, and waits for room.
    fleet: BTreeMap<String, FleetRow>,
}

/// A compaction that is under way.
#[derive(Default)]
struct Compacting {
    upto: Offset,
    /// When the next step may be taken while writes go on.
    rests_until: Option<Instant>,
    /// Who has asked for it, or for as much of it.
    answers: Vec<oneshot::Sender<Result<Compaction, WriteError>>>,
    sets: u64,
}

impl Compacting {
    fn has_rested(&self) -> bool {
        self.rests_until.is_none_or(|until| Instant::now() >= until)
    }

    fn answer(self, result: &Result<Compaction, WriteError>) {
        for answer in self.answers {
            let _ = answer.send(result.clone());
        }
    }
}

impl Sequencer {
    pub(super) fn new(
        database: Arc<Database>,
        recent: Arc<Recent>,
        pins: Pins,
        told: Told,
        room: LogRoom,
    ) -> Self {
        let (guards, clock, sampler) = (Guards::default(), Clock::start(), Sampler::new());
        let (compacting, fleet) = (None, BTreeMap::new());
        Self { database, recent, pins, told, room, guards, clock, sampler, compacting, fleet }
    }

    /// Works until the queue is closed or the store fails. A failed store is not tried again: what
    /// it has kept is known only after a restart.
    pub(super) fn run(mut self, jobs: &Jobs) {
        let mut taken = Taken::default();
        if let Err(error) = guarded(|| self.work(jobs, &mut taken)) {
            // Said before `taken` goes, so that the callers in it learn the reason.
            self.told.failed.send_replace(Some(error.to_string()));
        }
    }

    fn work(&mut self, jobs: &Jobs, taken: &mut Taken) -> Result<(), redb::Error> {
        let (mut garbage, mut may_tidy, mut purged) = (true, true, Instant::now());
        loop {
            *taken = Taken::default();
            let busy = (garbage || self.compacting.is_some()) && may_tidy;
            let wait = if busy { IDLE } else { self.sampler.due() };
            match jobs.0.recv_timeout(wait) {
                Ok(job) => taken.add(job),
                Err(RecvTimeoutError::Timeout) => {
                    // Looked at without a write too: who waits for room is told that it is there.
                    may_tidy = self.room.look().little().is_ok();
                    let floor = *self.told.floor.borrow();
                    garbage = garbage && (!may_tidy || tidy::purge(&self.database, floor)?);
                    purged = Instant::now();
                    garbage |= self.compact()?;
                    self.sample()?;
                    continue;
                }
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
            }
            while !taken.is_full()
                && let Ok(job) = jobs.0.try_recv()
            {
                taken.add(job);
            }
            garbage |= self.commit(taken)?;
            if let Some(order) = taken.order.take() {
                self.carry_out(order)?;
            }
            if self.compacting.as_ref().is_some_and(|compacting| compacting.has_rested()) {
                garbage |= self.compact()?;
            }
            if garbage && purged.elapsed() >= BUSY && self.room.look().little().is_ok() {
                garbage = tidy::purge(&self.database, *self.told.floor.borrow())?;
                purged = Instant::now();
            }
            if taken.close {
                return Ok(());
            }
        }
    }

    fn carry_out(&mut self, order: Order) -> Result<(), redb::Error> {
        match order {
            Order::Release { freeze, answer } => {
                let released = match self.room.look().little() {
                    Ok(()) => Ok(self.release(freeze)?),
                    Err(full) => Err(full),
                };
                let _ = answer.send(released);
            }
            Order::Compact { upto, answer } => {
                let compacting = self.compacting.get_or_insert_default();
                compacting.upto = compacting.upto.max(upto);
                compacting.answers.push(answer);
            }
            Order::SaveAccess { name, row, answer } => {
                let saved = match self.room.look().little() {
                    Ok(()) => Ok(access::save(&self.database, &name, row)?),
                    Err(full) => Err(full),
                };
                let _ = answer.send(saved);
            }
        }
        Ok(())
    }

    /// Makes what was taken durable, releases it, answers. True if there is something to tidy up.
    fn commit(&mut self, taken: &mut Taken) -> Result<bool, redb::Error> {
        let started = Instant::now();
        let before = *self.told.head.borrow();
        let rows = taken.fleet.drain(..).map(|row| (row.edge.clone(), row));
        self.fleet.extend(rows);
        let mut budget = self.room.look();
        let admit = |write| Admission { room: budget.take(&write), write };
        let writes: Vec<_> = taken.writes.drain(..).map(admit).collect();
        // They are not waited for; an edge has one, so they are few.
        let fleet = budget.little().map(|()| mem::take(&mut self.fleet)).unwrap_or_default();
        self.clock.believe_after(IDEMPOTENCY_KEPT, SystemTime::now(), Instant::now());
        let context = Context { now: self.clock.now(), guards: &mut self.guards };
        let group = commit::group(&self.database, before, writes, &fleet, context)?;
        let at = Instant::now();
        let (mut answers, mut released) = (Vec::with_capacity(group.outcomes.len()), Vec::new());
        for Outcome { authorized, answer, sets } in group.outcomes {
            authorized.note(&answer);
            answers.push(answer);
            released
                .extend(sets.into_iter().map(|(zone, set)| Arc::new(Released { set, zone, at })));
        }
        record_metrics(&released, at - started, group.head);
        released.iter().for_each(|set| self.sampler.note(set));
        self.recent.release(released);
        self.told.head.send_if_modified(|head| mem::replace(head, group.head) != group.head);
        self.sample()?;
        if self.told.freeze.borrow().is_none() {
            let moved = |released: &mut _| mem::replace(released, group.head) != group.head;
            self.told.released.send_if_modified(moved);
        }
        for ((answer, room), outcome) in taken.answers.drain(..).zip(answers) {
            drop(room);
            // A caller that has gone away learns by its idempotency key, or by reading.
            let _ = answer.send(outcome);
        }
        Ok(group.garbage)
    }

    /// Tells what some zones are at the head, if it is time to. Before the head is released: a
    /// session that knows of the sample can stop there.
    fn sample(&mut self) -> Result<(), redb::Error> {
        if self.sampler.due().is_zero() {
            let sample = self.sampler.sample(&View::new(&self.database)?)?;
            let position = *self.told.head.borrow();
            self.told.sample.send_replace(Some(Arc::new(Sampled { position, sample })));
        }
        Ok(())
    }

    /// Freezes the release at the head, or lets all go; durable before it takes effect (rule 19).
    fn release(&mut self, order: Option<FreezeOrder>) -> Result<View, redb::Error> {
        let freeze = order.map(|FreezeOrder { principal, reason }| Freeze {
            released: *self.told.released.borrow(),
            since: SystemTime::now(),
            principal,
            reason,
        });
        let transaction = self.database.begin_write()?;
        {
            let mut meta = transaction.open_table(META)?;
            match &freeze {
                Some(freeze) => meta.insert(META_RELEASE, freeze.value().as_slice())?,
                None => meta.remove(META_RELEASE)?,
            };
        }
        transaction.commit()?;
        let released = freeze.as_ref().map_or(*self.told.head.borrow(), |freeze| freeze.released);
        self.told.freeze.send_replace(freeze);
        self.told.released.send_if_modified(|now| mem::replace(now, released) != released);
        View::new(&self.database)
    }

    /// Compacts a little, if there is something to be compacted. What is pinned stays, and so does
    /// all while the release is frozen: no snapshot could take the place of what is gone.
    fn compact(&mut self) -> Result<bool, redb::Error> {
        let Some(mut compacting) = self.compacting.take() else { return Ok(false) };
        if let Err(full) = self.room.look().little() {
            // What was done stays done; the retention asks again, and so may a person.
            let has_done_some = compacting.sets > 0;
            compacting.answer(&Err(full));
            return Ok(has_done_some);
        }
        let upto = compacting.upto;
        let pinned = self.pins.lowest().filter(|pinned| *pinned < upto);
        let (limit, kept) = match (self.told.freeze.borrow().is_some(), pinned) {
            (true, _) => (Offset::ZERO, Some(KeptBy::Freeze)),
            (false, Some(pinned)) => (pinned, Some(KeptBy::Snapshot(pinned))),
            (false, None) => (upto, None),
        };
        let began = Instant::now();
        let step = tidy::compact(&self.database, limit, tidy::COMPACT_OCTETS)?;
        compacting.rests_until = Some(Instant::now() + began.elapsed() * COMPACT_REST);
        compacting.sets += step.sets;
        if let Some(floor) = step.floor {
            self.told.floor.send_replace(floor.offset);
        }
        if step.more {
            self.compacting = Some(compacting);
        } else {
            let (floor, sets) = (*self.told.floor.borrow(), compacting.sets);
            compacting.answer(&Ok(Compaction { floor, sets, kept }));
        }
        Ok(true)
    }
}

fn record_metrics(released: &[Arc<Released>], took: Duration, head: Position) {
    if released.is_empty() {
        return;
    }
    let changes: u64 = released.iter().map(|r| r.set.last.since(r.set.first) + 1).sum();
    metrics::histogram!("edgesync_control_commit_seconds").record(took);
    metrics::histogram!("edgesync_control_commit_sets").record(count(released.len() as u64));
    metrics::histogram!("edgesync_control_commit_changes").record(count(changes));
    metrics::counter!("edgesync_control_changes_total").increment(changes);
    metrics::gauge!("edgesync_control_head_offset").set(count(head.offset.0));
}

/// A count as a metric's value; exact up to 2^53.
#[allow(clippy::cast_precision_loss)]
const fn count(number: u64) -> f64 {
    number as f64
}
