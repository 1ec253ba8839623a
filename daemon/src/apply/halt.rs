//! What the edge does not apply without a person: a set that does not fit what is there, one that takes
//! too much away, one that has ended the daemon again and again (rules 10, 23). It goes on serving.

use std::time::Instant;

use edgesync_core::{
    change::ChangeSet,
    guard::Exceeded,
    limits::GUARD_PERCENT,
    name::Name,
    position::{Offset, Position},
    session::Halt,
    snapshot::SnapshotId,
};

use super::{Report, applier::Applier};
use crate::limits::STRIKES;

/// Whether works are done.
#[derive(Debug, Default)]
pub(super) enum Mode {
    /// They are.
    #[default]
    Going,
    /// Sets are not, until a person has looked, or a snapshot has come.
    Halted(Halted),
    /// None is: what they follow is lost. Until the session begins again from what is durable.
    Void,
}

impl Mode {
    pub(super) const fn is_void(&self) -> bool {
        matches!(self, Self::Void)
    }

    pub(super) const fn is_halted(&self) -> bool {
        matches!(self, Self::Halted(_))
    }

    /// The session has begun again. A held snapshot of everything is let go: should it come again, it is held again.
    pub(super) fn restarted(self) -> Self {
        match self {
            Self::Void | Self::Halted(Halted::Snapshot { of_all: true, .. }) => Self::Going,
            other => other,
        }
    }
}

/// What the edge has halted before.
#[derive(Debug)]
pub(super) enum Halted {
    /// A set, by its first offset and the position after it; held if it could be applied. Its zone, if it is known.
    Set { first: Offset, position: Position, held: bool, zone: Option<Name> },
    /// A snapshot that takes too much away; of everything, or of one zone.
    Snapshot { id: SnapshotId, position: Position, of_all: bool },
}

impl Halted {
    pub(super) const fn poison(first: Offset, position: Position, zone: Option<Name>) -> Self {
        Self::Set { first, position, held: false, zone }
    }

    fn halt(&self, reason: String) -> Halt {
        match self {
            Self::Set { first, position, held, .. } => {
                Halt { first: *first, last: position.offset, held: *held, reason }
            }
            Self::Snapshot { position, .. } => {
                Halt { first: position.offset, last: position.offset, held: true, reason }
            }
        }
    }
}

/// Why the guard has stopped something: one line.
pub(super) fn guarded(what: &str, exceeded: Exceeded) -> String {
    let Exceeded { touched, of } = exceeded;
    format!(
        "{what} takes {touched} of {of} records away, more than {GUARD_PERCENT} %: look, and let it \
         pass with `edgesync edge resume`"
    )
}

impl Applier {
    /// Whether a set may be applied without a person.
    pub(super) fn may_apply(
        &mut self,
        set: &ChangeSet,
        position: Position,
    ) -> Result<(), Box<(Halted, String)>> {
        let Some(store) = &self.store else { return Ok(()) };
        let (first, at) = (set.first, store.applied());
        if self.attempt.is_out(at) {
            let reason = format!(
                "applying what follows offset {at} has ended the daemon {STRIKES} times: look, and try \
                 again with `edgesync edge resume` or go on behind it with `edgesync edge skip`"
            );
            let halted = Halted::poison(first, position, Some(set.zone.clone()));
            return Err(Box::new((halted, reason)));
        }
        if let Err(error) = self.attempt.begin(at) {
            tracing::warn!(%error, "cannot write down what is about to be applied");
        }
        let (before, after) = (store.records(), store.records_with(set));
        let allowed = set.override_guard || self.confirmed == Some(first);
        let guarded_by = self.guard.take(before, after, allowed, Instant::now());
        guarded_by.map_err(|exceeded| {
            // It does not end the daemon.
            self.attempt.clear();
            let reason = guarded("a change set", exceeded);
            let zone = Some(set.zone.clone());
            Box::new((Halted::Set { first, position, held: true, zone }, reason))
        })
    }

    /// Halts before something. What came before it is good, and is made durable first.
    pub(super) fn halt(&mut self, halted: Halted, reason: String) {
        self.make_durable();
        if self.store.is_none() {
            // It could not be, which has been said: what comes is tried again, or never.
            return;
        }
        let halt = halted.halt(reason);
        let Halt { first, last, held, reason } = &halt;
        tracing::error!(%first, %last, held, %reason, "halted; what is there is served");
        self.mode = Mode::Halted(halted);
        self.report(Report::Halted(halt));
    }

    /// A person lets the edge go on: what was held is confirmed, what did not fit is tried again.
    pub(super) fn resume(&mut self) {
        self.attempt.clear();
        match &self.mode {
            Mode::Halted(Halted::Snapshot { id, .. }) if self.store.is_some() => {
                let id = *id;
                self.mode = Mode::Going;
                return self.install(id, true);
            }
            Mode::Halted(Halted::Set { first, .. }) => self.confirmed = Some(*first),
            // There is nothing to be confirmed any more: what comes is tried.
            Mode::Halted(Halted::Snapshot { .. }) | Mode::Going | Mode::Void => {}
        }
        if self.mode.is_halted() {
            self.mode = Mode::Going;
        }
        self.report(Report::Resumed);
    }

    /// A person lets the edge go on behind a set. Its zone has drifted from then on, and is repaired as
    /// any that has.
    pub(super) fn skip(&mut self) {
        let Mode::Halted(Halted::Set { first, position, zone, .. }) = &self.mode else {
            // There is nothing to be skipped any more: what comes is tried.
            return self.report(Report::Resumed);
        };
        let (first, position, zone) = (*first, *position, zone.clone());
        tracing::warn!(%first, last = %position.offset, "a change set is skipped by hand");
        self.attempt.clear();
        let passed = self.store.as_mut().map_or(Ok(()), |store| store.pass(position));
        let synced = passed.and_then(|()| self.store.as_mut().map_or(Ok(None), |s| s.sync()));
        if let Some(Some(position)) = self.give_up_on(synced) {
            let apply = std::time::Duration::ZERO;
            self.report(Report::Durable { position, apply, changes: 0 });
            self.mode = Mode::Going;
            // Before the session begins again, which asks for what is to be mended.
            zone.into_iter().for_each(|zone| self.report(Report::Skipped { zone }));
            self.report(Report::Resumed);
        }
    }
}
