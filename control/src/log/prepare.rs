//! From a write to the change sets that it will be: refused here, or not at all. Nothing is written.

use edgesync_core::{
    Rtype,
    change::{Change, ChangeSet, Generation},
    fold::ZoneStates,
    name::Name,
    position::Offset,
    rdata,
    stage::{self, Operation, RecordData, Refusal, Refused, Serial, StageError},
};

use super::{
    Action, Write, WriteError,
    commit::{Interrupted, version},
    tables::GenerationView,
};

/// What a write will be in the log.
pub(super) struct Prepared {
    /// The change sets, in order; never none.
    pub(super) sets: Vec<ChangeSet>,
    /// The generation that they write to.
    pub(super) generation: Generation,
}

impl From<WriteError> for Interrupted {
    fn from(error: WriteError) -> Self {
        Self::Write(error)
    }
}

impl From<StageError<redb::Error>> for Interrupted {
    fn from(error: StageError<redb::Error>) -> Self {
        match error {
            StageError::Refused(refused) => Self::Write(refused.into()),
            StageError::View(error) => Self::Store(error),
        }
    }
}

/// Checks a write against the state that it meets; its first change gets the offset `first`.
pub(super) fn prepare(
    view: &GenerationView<'_, '_>,
    write: &Write,
    states: &ZoneStates,
    first: Offset,
) -> Result<Prepared, Interrupted> {
    if let (Some(wanted), Some(has)) = (write.if_zone_version, version(states))
        && wanted != has
    {
        return Err(WriteError::ZoneVersion { zone: write.zone().clone(), has, wanted }.into());
    }
    let zone = write.zone();
    let draft = Draft { view, zone, states, first, override_guard: write.override_guard };
    match &write.action {
        Action::CreateZone(_) if states.visible.is_some() => {
            Err(WriteError::ZoneExists(zone.clone()).into())
        }
        Action::CreateZone(records) => draft.begin(Change::ZoneCreate, records, Vec::new()),
        Action::DeleteZone => Ok(draft.bare(draft.visible()?, Change::ZoneDelete)),
        Action::Change { operations, .. } if operations.is_empty() => Err(WriteError::Empty.into()),
        Action::Change { operations, serial } => draft.change(operations.clone(), *serial),
        Action::OpenGeneration(records) => {
            let mut sets = Vec::new();
            if let Some(hidden) = states.hidden {
                sets.extend(draft.bare(hidden.generation, Change::GenerationDrop).sets);
            }
            draft.begin(Change::GenerationOpen, records, sets)
        }
        Action::ExtendGeneration(generation, records) => draft.extend(*generation, records),
        Action::PublishGeneration(generation, records) => draft.publish(*generation, records),
        Action::DropGeneration(generation) => {
            draft.hidden(*generation)?;
            Ok(draft.bare(*generation, Change::GenerationDrop))
        }
    }
}

fn creates(records: &[RecordData]) -> Vec<Operation> {
    records.iter().cloned().map(Operation::Create).collect()
}

/// A write that is being prepared.
struct Draft<'a> {
    view: &'a GenerationView<'a, 'a>,
    zone: &'a Name,
    states: &'a ZoneStates,
    first: Offset,
    override_guard: bool,
}

impl Draft<'_> {
    fn visible(&self) -> Result<Generation, WriteError> {
        let visible = self.states.visible.map(|visible| visible.generation);
        visible.ok_or_else(|| WriteError::NoZone(self.zone.clone()))
    }

    /// Checks that a generation is the one that is being written.
    fn hidden(&self, generation: Generation) -> Result<(), WriteError> {
        let hidden = self.states.hidden.is_some_and(|hidden| hidden.generation == generation);
        if hidden { Ok(()) } else { Err(WriteError::NoGeneration(self.zone.clone())) }
    }

    fn set(&self, generation: Generation, first: Offset, changes: Vec<Change>) -> ChangeSet {
        let (zone, override_guard) = (self.zone.clone(), self.override_guard);
        ChangeSet { zone, generation, first, changes, override_guard }
    }

    /// A set of one change that is about no record.
    fn bare(&self, generation: Generation, change: Change) -> Prepared {
        Prepared { sets: vec![self.set(generation, self.first, vec![change])], generation }
    }

    /// A new generation and its first records, after the sets that have to come before it.
    fn begin(
        &self,
        change: Change,
        records: &[RecordData],
        mut sets: Vec<ChangeSet>,
    ) -> Result<Prepared, Interrupted> {
        let first = sets.last().map_or(self.first, |set| set.last().next());
        let generation = Generation(first.0);
        let (view, operations) = (self.view.of(None), creates(records));
        let records = stage::stage(&view, self.zone, operations, first.next(), Serial::AsWritten)?;
        let changes = std::iter::once(change).chain(records).collect();
        sets.push(self.set(generation, first, changes));
        Ok(Prepared { sets, generation })
    }

    fn change(&self, operations: Vec<Operation>, serial: Serial) -> Result<Prepared, Interrupted> {
        let generation = self.visible()?;
        let view = self.view.of(Some(generation));
        let changes = stage::stage(&view, self.zone, operations, self.first, serial)?;
        Ok(Prepared { sets: vec![self.set(generation, self.first, changes)], generation })
    }

    fn extend(
        &self,
        generation: Generation,
        records: &[RecordData],
    ) -> Result<Prepared, Interrupted> {
        self.hidden(generation)?;
        if records.is_empty() {
            return Err(WriteError::Empty.into());
        }
        let (view, operations) = (self.view.of(Some(generation)), creates(records));
        let changes = stage::stage(&view, self.zone, operations, self.first, Serial::AsWritten)?;
        Ok(Prepared { sets: vec![self.set(generation, self.first, changes)], generation })
    }

    /// The last records, and the switch; an edit since the generation began prevents it (rule 7).
    fn publish(
        &self,
        generation: Generation,
        records: &[RecordData],
    ) -> Result<Prepared, Interrupted> {
        self.hidden(generation)?;
        let began = self.states.hidden.map_or(Offset::ZERO, |hidden| hidden.version);
        let has = version(self.states).unwrap_or(Offset::ZERO);
        if began != has {
            return Err(
                WriteError::ZoneVersion { zone: self.zone.clone(), has, wanted: began }.into()
            );
        }
        let (view, operations) = (self.view.of(Some(generation)), creates(records));
        let mut changes =
            stage::stage(&view, self.zone, operations, self.first, Serial::AsWritten)?;
        self.check_serial(generation, records)?;
        changes.push(Change::ZonePublish);
        Ok(Prepared { sets: vec![self.set(generation, self.first, changes)], generation })
    }

    /// The serial of what is published has to be after that of what it replaces (rule 3).
    fn check_serial(
        &self,
        generation: Generation,
        records: &[RecordData],
    ) -> Result<(), Interrupted> {
        let Some(visible) = self.states.visible else { return Ok(()) };
        let serial = |generation| -> Result<Option<u32>, redb::Error> {
            let apex = self.view.at_owner(generation, self.zone)?;
            let soa = apex.iter().find(|record| record.rtype == Rtype::SOA);
            Ok(soa.and_then(|soa| rdata::soa_serial(&soa.rdata)))
        };
        let last = records.iter().find(|data| data.rtype == Rtype::SOA);
        let after = match last {
            Some(soa) => rdata::soa_serial(&soa.rdata),
            None => serial(generation)?,
        };
        match (serial(visible.generation)?, after) {
            (Some(before), Some(after)) if !rdata::serial_rises(before, after) => {
                let refused = Refused::from(Refusal::SerialDoesNotRise { before, after });
                Err(WriteError::from(refused).into())
            }
            _ => Ok(()),
        }
    }
}
