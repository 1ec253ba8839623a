//! From what a caller asks to the changes that the log will hold: addresses are resolved and the DNS
//! rules are checked, on the state after the whole set (rules 2 to 5). The sequencer does this at
//! commit, so what is checked is what is changed.

mod owner;
mod refusal;

use std::collections::HashMap;

use bytes::Bytes;
pub use refusal::{Refusal, Refused};

use self::owner::OwnerState;
use crate::{
    Rtype,
    change::Change,
    limits,
    name::Name,
    position::Offset,
    rdata,
    record::{Record, RecordId},
};

/// The records of a generation of a zone, as they were before the set.
pub trait View {
    /// What can go wrong in it.
    type Error;

    /// The records at an owner name.
    ///
    /// # Errors
    /// If they cannot be read.
    fn at_owner(&self, owner: &Name) -> Result<Vec<Record>, Self::Error>;
}

/// What a record is to be, or what it is held to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordData {
    /// Owner name.
    pub owner: Name,
    /// Type.
    pub rtype: Rtype,
    /// Time to live, in seconds.
    pub ttl: u32,
    /// RDATA in wire form, checked.
    pub rdata: Bytes,
}

/// Which record an operation means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// The one with this id, which is known to be at this owner.
    Id {
        /// Its id.
        id: RecordId,
        /// Its owner name.
        owner: Name,
        /// The version that it must have, if any.
        if_version: Option<Offset>,
    },
    /// The one with exactly this content.
    Exact(RecordData),
}

/// One wish of a caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation {
    /// A record more.
    Create(RecordData),
    /// A record changed.
    Edit {
        /// Which one.
        target: Target,
        /// New TTL in seconds, if it changes.
        ttl: Option<u32>,
        /// New RDATA, checked, if it changes.
        rdata: Option<Bytes>,
        /// True: a new TTL goes to all records of the RRset.
        whole_rrset: bool,
    },
    /// A record less.
    Delete(Target),
}

/// What happens to the SOA's serial (rule 3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Serial {
    /// It is raised by one, unless the set touches the SOA or the zone is signed.
    Raise,
    /// It stays as the set writes it.
    AsWritten,
}

/// Why a set was not staged: refused, or the view failed.
#[derive(Debug, thiserror::Error)]
pub enum StageError<E> {
    /// The set breaks a rule.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// The records could not be read.
    #[error("the store failed: {0}")]
    View(E),
}

/// Turns operations into changes of the zone `origin`, the first of which gets the offset `first`.
///
/// # Errors
/// If an operation or the state after all of them breaks a rule, or the view cannot be read.
pub fn stage<V: View>(
    view: &V,
    origin: &Name,
    operations: Vec<Operation>,
    first: Offset,
    serial: Serial,
) -> Result<Vec<Change>, StageError<V::Error>> {
    let mut staging =
        Staging { view, origin, first, owners: HashMap::new(), changes: Vec::new(), octets: 0 };
    for (index, operation) in operations.into_iter().enumerate() {
        staging.take(operation).map_err(|error| match error {
            StageError::Refused(refused) => StageError::Refused(refused.at(index)),
            view => view,
        })?;
    }
    staging.finish(serial)
}

/// A set on its way from operations to changes.
struct Staging<'a, V> {
    view: &'a V,
    origin: &'a Name,
    first: Offset,
    owners: HashMap<Name, OwnerState>,
    changes: Vec<Change>,
    /// What the changes will take in the encoding, at the most.
    octets: usize,
}

impl<V: View> Staging<'_, V> {
    /// The offset that the next change will have.
    fn next(&self) -> Offset {
        self.first.plus(self.changes.len() as u64)
    }

    /// What is at an owner name, by the operations so far.
    fn owner(&mut self, owner: &Name) -> Result<&mut OwnerState, StageError<V::Error>> {
        if !owner.is_within(self.origin) {
            let (owner, zone) = (owner.clone(), self.origin.clone());
            return Err(Refusal::OutsideZone { owner, zone }.into());
        }
        if !self.owners.contains_key(owner) {
            let before = self.view.at_owner(owner).map_err(StageError::View)?;
            self.owners.insert(owner.clone(), OwnerState::new(before));
        }
        self.owners.get_mut(owner).ok_or_else(|| Refusal::TooManyChanges.into())
    }

    fn take(&mut self, operation: Operation) -> Result<(), StageError<V::Error>> {
        match operation {
            Operation::Create(data) => self.create(data),
            Operation::Edit { target, ttl, rdata, whole_rrset } => {
                let old = self.resolve(target)?;
                let ttl = ttl.unwrap_or(old.ttl);
                if whole_rrset && ttl != old.ttl {
                    let others = self.owner(&old.owner)?.others_of_rrset(&old);
                    others.into_iter().try_for_each(|other| self.edit(other, ttl, None))?;
                }
                self.edit(old, ttl, rdata)
            }
            Operation::Delete(target) => {
                let old = self.resolve(target)?;
                self.owner(&old.owner)?.remove(old.id);
                let Record { id, owner, rtype, .. } = old;
                self.push(owner.wire().len(), Change::RecordDelete { id, owner, rtype })
            }
        }
    }

    fn create(&mut self, data: RecordData) -> Result<(), StageError<V::Error>> {
        let RecordData { owner, rtype, ttl, rdata } = data;
        check_ttl(ttl)?;
        let version = self.next();
        let id = RecordId(version.0);
        let record = Record { id, version, owner: owner.clone(), rtype, ttl, rdata: rdata.clone() };
        self.owner(&owner)?.insert(record)?;
        let octets = owner.wire().len() + rdata.len();
        self.push(octets, Change::RecordCreate { owner, rtype, ttl, rdata })
    }

    fn edit(
        &mut self,
        old: Record,
        ttl: u32,
        rdata: Option<Bytes>,
    ) -> Result<(), StageError<V::Error>> {
        check_ttl(ttl)?;
        let new = Record {
            version: self.next(),
            ttl,
            rdata: rdata.unwrap_or_else(|| old.rdata.clone()),
            ..old
        };
        let owner = self.owner(&new.owner)?;
        owner.remove(new.id);
        owner.insert(new.clone())?;
        let Record { id, owner, rtype, ttl, rdata, .. } = new;
        let octets = owner.wire().len() + rdata.len();
        self.push(octets, Change::RecordEdit { id, owner, rtype, ttl, rdata })
    }

    /// The record that is meant, as the operations so far have left it.
    fn resolve(&mut self, target: Target) -> Result<Record, StageError<V::Error>> {
        match target {
            Target::Id { id, owner, if_version } => {
                let record = self.owner(&owner)?.by_id(id).ok_or(Refusal::NoRecord(id))?;
                match if_version {
                    Some(wanted) if wanted != record.version => {
                        Err(Refusal::OtherVersion { id, has: record.version, wanted }.into())
                    }
                    _ => Ok(record),
                }
            }
            Target::Exact(data) => {
                let found = self.owner(&data.owner)?.by_content(&data);
                found.ok_or_else(|| Refusal::NoSuchContent(Box::new(data)).into())
            }
        }
    }

    /// Adds a change, if there is room for it.
    fn push(&mut self, octets: usize, change: Change) -> Result<(), StageError<V::Error>> {
        self.octets = self.octets.saturating_add(octets + limits::CHANGE_OVERHEAD_OCTETS);
        if self.changes.len() >= limits::SET_CHANGES || self.octets > limits::SET_OCTETS {
            return Err(Refusal::TooManyChanges.into());
        }
        self.changes.push(change);
        Ok(())
    }

    /// Checks the state after the set, and raises the serial.
    fn finish(mut self, serial: Serial) -> Result<Vec<Change>, StageError<V::Error>> {
        let origin = self.origin;
        self.owner(origin)?;
        for (owner, state) in &self.owners {
            state.check(owner, owner == origin)?;
        }
        let apex = self.owner(origin)?;
        let touched = apex.soa_touched();
        if let Some((before, after)) = apex.serials().filter(|_| touched)
            && !rdata::serial_rises(before, after)
        {
            return Err(Refusal::SerialDoesNotRise { before, after }.into());
        }
        let raise = serial == Serial::Raise && !touched && !apex.signed();
        if let Some(soa) = apex.soa().filter(|_| raise && !self.changes.is_empty()) {
            let risen = rdata::soa_serial(&soa.rdata).map(|serial| serial.wrapping_add(1));
            let rdata = risen.and_then(|serial| rdata::with_soa_serial(&soa.rdata, serial));
            let ttl = soa.ttl;
            self.edit(soa, ttl, rdata)?;
        }
        Ok(self.changes)
    }
}

const fn check_ttl(ttl: u32) -> Result<(), Refusal> {
    if ttl > limits::TTL_SECONDS { Err(Refusal::TtlTooLarge(ttl)) } else { Ok(()) }
}

#[cfg(test)]
mod tests;
