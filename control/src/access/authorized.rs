//! The proof that goes with a write to the sequencer. It is made of a call that was let through, or by the
//! control plane for itself, and of nothing else; the sequencer asks it again if anything has changed
//! since (rule 25), and has it write down what came of it.

use edgesync_core::name::Name;

use super::{Access, Line, admitted::Admitted, denied::Denied, role::Rights};
use crate::log::{Caller, Committed, WriteError};

/// The proof that a write to a zone was allowed; there is no other way to make a write.
#[derive(Clone, Debug)]
pub struct Authorized {
    /// None: the control plane itself.
    pub(super) admitted: Option<Admitted>,
    pub(super) zone: Name,
    pub(super) caller: Caller,
    pub(super) rights: Rights,
    /// Version of the policy that they are of.
    pub(super) version: u64,
    /// It changes nothing, and is about no zone: what is asked is what an earlier call was answered.
    pub(super) only_asks: bool,
}

impl Access {
    /// The proof for a write where nothing is asked of anybody.
    ///
    /// # Errors
    /// If something is: then only a call can be allowed.
    pub fn trust(&self, caller: Caller, zone: Name) -> Result<Authorized, Denied> {
        if self.is_kept() {
            return Err(Denied::NoCredentials { function: caller.method });
        }
        Ok(Authorized::unasked(zone, caller))
    }
}

impl Authorized {
    /// The proof for what the control plane does by itself.
    pub(crate) fn by_the_control_plane(zone: Name, method: &'static str) -> Self {
        let (principal, peer) = ("edgesync-control".to_owned(), "-".to_owned());
        let caller = Caller { principal, peer, method };
        Self::unasked(zone, caller)
    }

    const fn unasked(zone: Name, caller: Caller) -> Self {
        let (admitted, version, only_asks) = (None, 0, false);
        Self { admitted, zone, caller, rights: Rights::ALL, version, only_asks }
    }

    /// The zone.
    #[must_use]
    pub const fn zone(&self) -> &Name {
        &self.zone
    }

    /// Who writes.
    #[must_use]
    pub const fn caller(&self) -> &Caller {
        &self.caller
    }

    /// Asks whether the write may do what it needs; what has changed or ended since it was admitted counts.
    ///
    /// # Errors
    /// If it may not.
    pub(crate) fn check(&self, needed: Rights) -> Result<(), WriteError> {
        let refused = |why: String| Err(WriteError::NotAllowed(why));
        let rights = match &self.admitted {
            Some(admitted) if admitted.ends() || admitted.access().version() != self.version => {
                let function = admitted.function();
                match admitted.now() {
                    Ok(now) if self.only_asks && now.may_call(function) => Rights::NONE,
                    Ok(now) if now.may_in(function, &self.zone) => {
                        now.rights_in(function, &self.zone)
                    }
                    Ok(_) => return refused(admitted.no_right(Some(&self.zone)).to_string()),
                    Err(denied) => return refused(denied.to_string()),
                }
            }
            _ => self.rights,
        };
        rights.lacks(needed).map_or(Ok(()), |missing| {
            refused(format!(
                "{} may not do this in {} by {}: {missing}",
                self.caller.principal, self.zone, self.caller.method
            ))
        })
    }

    /// Takes the write off its principal's rates.
    pub(crate) fn spend(&self, octets: usize) -> Result<(), WriteError> {
        let Some(admitted) = &self.admitted else { return Ok(()) };
        let spent = admitted.access().spend(admitted.name(), octets);
        spent.map_err(|retry_after| WriteError::TooFast { retry_after })
    }

    /// Has what came of the write written down.
    pub(crate) fn note(&self, outcome: &Result<Committed, WriteError>) {
        let Some(admitted) = self.admitted.as_ref().filter(|_| !self.only_asks) else { return };
        let Some(kept) = &admitted.access().kept else { return };
        let zone = self.zone.to_string();
        let line = Line { zone, what: self.caller.method, ..admitted.line("") };
        match outcome {
            Ok(done) => {
                let (offset, result) = (done.first.0, "ok".to_owned());
                kept.trail.note(Line { offset, result, ..line });
            }
            Err(WriteError::NotAllowed(detail)) => {
                let (result, detail) = ("PermissionDenied".to_owned(), detail.clone());
                kept.trail.denied(Line { result, detail, ..line });
            }
            Err(error) => {
                let (result, detail) = ("refused".to_owned(), error.to_string());
                kept.trail.denied(Line { result, detail, ..line });
            }
        }
    }
}
