//! A write on its way to the sequencer: what is to be done, by whom, and the proof that it may be.

use std::sync::{Arc, atomic::AtomicBool};

use edgesync_core::{
    change::Generation,
    name::Name,
    position::Offset,
    stage::{Operation, RecordData, Serial},
};

use crate::access::{Authorized, Rights};

/// Who asks for a write, and how: kept beside the log, never streamed (rule 1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The principal's name.
    pub principal: String,
    /// Address that the call came from.
    pub peer: String,
    /// The RPC, such as `edgesync.v1.RecordService/CreateRecord`.
    pub method: &'static str,
}

/// A key under which a repeated call gives the first answer (rule 9).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdempotencyKey {
    /// The caller's key, not empty.
    pub key: String,
    /// Hash of the request, so that another request under the same key is found.
    pub request: [u8; 32],
}

/// A change set on its way in.
#[derive(Clone, Debug)]
pub struct Write {
    /// That it may be: in which zone, and who asks.
    pub(super) authorized: Authorized,
    /// What is to be done.
    pub action: Action,
    /// The idempotency key, if there is one.
    pub idempotency: Option<IdempotencyKey>,
    /// The zone's version that the caller has seen; another one makes the write fail.
    pub if_zone_version: Option<Offset>,
    /// True: the write may do more than the guard lets pass (rule 10).
    pub override_guard: bool,
    /// Records that a publication takes away or changes, for the guard (rule 10); the SOA is none.
    pub replaces: u64,
    /// Shared by the writes of one pipelined stream: set at the first refusal, after which the
    /// rest is refused too (rule 4).
    pub stream: Option<Arc<AtomicBool>>,
}

impl Write {
    /// A write that asks for nothing special.
    #[must_use]
    pub const fn new(authorized: Authorized, action: Action) -> Self {
        Self {
            authorized,
            action,
            idempotency: None,
            if_zone_version: None,
            override_guard: false,
            replaces: 0,
            stream: None,
        }
    }
}

impl Write {
    /// The write under an idempotency key.
    #[must_use]
    pub fn keyed(self, idempotency: Option<IdempotencyKey>) -> Self {
        Self { idempotency, ..self }
    }

    /// The write with the word whether it may do more than the guard lets pass.
    #[must_use]
    pub fn overriding(self, override_guard: bool) -> Self {
        Self { override_guard, ..self }
    }

    /// Origin of the zone.
    #[must_use]
    pub const fn zone(&self) -> &Name {
        self.authorized.zone()
    }

    /// Who asks.
    #[must_use]
    pub const fn caller(&self) -> &Caller {
        self.authorized.caller()
    }

    /// What it needs the right to do, in a zone that there is or is not.
    pub(super) fn needs(&self, is_there: bool) -> Rights {
        let records = match &self.action {
            Action::CreateZone(_) | Action::DeleteZone => Rights::ZONE,
            Action::Change { operations, .. } => {
                operations.iter().fold(Rights::NONE, |rights, operation| match operation {
                    Operation::Create(_) | Operation::Edit { .. } => rights.and(Rights::EDIT),
                    Operation::Delete(_) => rights.and(Rights::DELETE),
                })
            }
            // What is published takes the place of all that is there.
            Action::OpenGeneration(_)
            | Action::ExtendGeneration(..)
            | Action::PublishGeneration(..)
                if is_there =>
            {
                Rights::EDIT.and(Rights::DELETE)
            }
            Action::OpenGeneration(_)
            | Action::ExtendGeneration(..)
            | Action::PublishGeneration(..) => Rights::ZONE,
            Action::DropGeneration(_) => Rights::NONE,
        };
        if self.override_guard { records.and(Rights::OVERRIDE) } else { records }
    }
}

/// What a write does.
#[derive(Clone, Debug)]
pub enum Action {
    /// Begins a zone with these records.
    CreateZone(Vec<RecordData>),
    /// Ends a zone.
    DeleteZone,
    /// Changes records of a zone.
    Change {
        /// The operations, checked together.
        operations: Vec<Operation>,
        /// What happens to the serial.
        serial: Serial,
    },
    /// Begins a hidden generation with these records, giving up one that was never published.
    OpenGeneration(Vec<RecordData>),
    /// Adds records to a hidden generation.
    ExtendGeneration(Generation, Vec<RecordData>),
    /// Adds the last records to a hidden generation and makes it the zone.
    PublishGeneration(Generation, Vec<RecordData>),
    /// Gives a hidden generation up.
    DropGeneration(Generation),
}
