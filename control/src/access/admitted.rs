//! What was let through: an [`Admitted`] goes with a call, and is asked where the zone is known. It alone
//! makes the [`Authorized`] of a write.

use std::{
    net::IpAddr,
    sync::Arc,
    time::{Duration, SystemTime},
};

use edgesync_core::{edge_id::EdgeId, name::Name};
use edgesync_host::{credential::KeptToken, peer::Peer};
use tonic::Status;

use super::{
    Access, Line, authorized::Authorized, denied::Denied, function::Function, policy::Principal,
    role::Rights, zones::Zones,
};
use crate::log::Caller;

/// The principal of a call where nothing is asked.
pub(super) const ANONYMOUS: &str = "anonymous";
/// The longest time between two looks at the clock for a credential that ends.
const LOOK: Duration = Duration::from_secs(2);

/// How a principal has proved who it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Proof {
    /// Not at all: nothing is asked, or nothing of this function.
    None,
    /// By the token of a login.
    Login(KeptToken),
    /// By its token.
    Machine(KeptToken),
    /// By the key of its connection's certificate.
    Certificate,
}

/// A call that was let through.
#[derive(Clone, Debug)]
pub struct Admitted(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    access: Access,
    function: Function,
    name: Arc<str>,
    proof: Proof,
    peer: Peer,
    /// What the principal was when the call began.
    principal: Arc<Principal>,
}

impl Admitted {
    pub(super) fn new(
        access: Access,
        function: Function,
        (name, proof): (Arc<str>, Proof),
        peer: Peer,
        principal: Arc<Principal>,
    ) -> Self {
        Self(Arc::new(Inner { access, function, name, proof, peer, principal }))
    }

    /// A call of anybody where nothing is asked.
    #[cfg(test)]
    pub(crate) fn unrestricted() -> Self {
        let peer = Peer::new(None, edgesync_host::peer::Transport::Unix, None);
        let known = (ANONYMOUS.into(), Proof::None);
        let everybody = Arc::new(Principal::everybody());
        let function = Function::Rpc(edgesync_proto::Rpc::ImportZone);
        Self::new(Access::unrestricted(), function, known, peer, everybody)
    }

    /// The call that a request is.
    ///
    /// # Errors
    /// If nobody has let it through: a defect, and no way past it.
    pub fn of<T>(request: &tonic::Request<T>) -> Result<Self, Status> {
        let admitted = request.extensions().get::<Self>().cloned();
        admitted.ok_or_else(|| Status::internal("the call came past the check of access"))
    }

    /// Who calls.
    #[must_use]
    pub fn principal(&self) -> &str {
        &self.0.name
    }

    /// What it may do, as far as it is known.
    #[must_use]
    pub fn grants(&self) -> &Principal {
        &self.0.principal
    }

    pub(super) fn name(&self) -> &Arc<str> {
        &self.0.name
    }

    /// True if the caller has proved who it is.
    pub(super) fn is_proved(&self) -> bool {
        self.0.proof != Proof::None
    }

    pub(super) fn function(&self) -> Function {
        self.0.function
    }

    pub(super) fn address(&self) -> Option<IpAddr> {
        self.0.peer.address.map(|address| address.ip())
    }

    /// Where the call comes from.
    #[must_use]
    pub fn socket_address(&self) -> Option<std::net::SocketAddr> {
        self.0.peer.address
    }

    /// Who calls, as the log keeps it.
    #[must_use]
    pub fn caller(&self, method: &'static str) -> Caller {
        let (principal, peer) = (self.0.name.to_string(), self.0.peer.to_string());
        Caller { principal, peer, method }
    }

    /// A line of the audit about the call.
    #[must_use]
    pub fn line(&self, detail: &str) -> Line {
        Line {
            who: self.0.name.to_string(),
            peer: self.0.peer.to_string(),
            what: self.0.function.name(),
            detail: detail.to_owned(),
            ..Line::default()
        }
    }

    /// The principal as it is now, if what it has proved itself with is still good.
    pub(super) fn now(&self) -> Result<Arc<Principal>, Denied> {
        let Some(kept) = &self.0.access.kept else { return Ok(Arc::clone(&self.0.principal)) };
        let policy = kept.policy().ok_or(Denied::NotLoaded)?;
        let now = SystemTime::now();
        let known = || policy.principal(&self.0.name).cloned();
        match &self.0.proof {
            Proof::None => Ok(Arc::clone(&self.0.principal)),
            Proof::Certificate => {
                let id = self.0.name.strip_prefix("edge/").and_then(|id| id.parse().ok());
                let edge = id.and_then(|id: EdgeId| policy.edge(&id).cloned());
                Ok(edge.unwrap_or_default())
            }
            Proof::Machine(token) => {
                let owner = policy.of_token(token, now).map(|(name, _)| name);
                let same = owner.is_some_and(|owner| owner == self.0.name);
                known().filter(|_| same).ok_or(Denied::BadToken)
            }
            Proof::Login(token) => {
                let login = kept.logins.of(token, now).ok_or(Denied::BadToken)?;
                let by = |principal: &Arc<Principal>| login.is_by(principal.password.as_ref());
                known().filter(by).ok_or(Denied::BadToken)
            }
        }
    }

    /// True if what it has proved itself with can end by itself.
    pub(super) fn ends(&self) -> bool {
        matches!(self.0.proof, Proof::Login(_) | Proof::Machine(_))
    }

    pub(super) fn no_right(&self, zone: Option<&Name>) -> Denied {
        let (principal, function) = (self.0.name.to_string(), self.0.function.name());
        Denied::NoRight { principal, function, zone: zone.cloned() }
    }

    /// Writes a denial down.
    fn deny(&self, denied: Denied, zone: Option<&Name>) -> Denied {
        if let Some(kept) = &self.0.access.kept {
            let zone = zone.map(Name::to_string).unwrap_or_default();
            let result = format!("{:?}", denied.code());
            kept.trail.denied(Line { zone, result, ..self.line("") });
            count(&denied);
        }
        denied
    }

    /// Asks whether the call may go on, whatever it is about.
    ///
    /// # Errors
    /// If it may not, or not any more.
    pub fn goes_on(&self) -> Result<(), Denied> {
        let may = self.now().and_then(|principal| match principal.may_call(self.0.function) {
            true => Ok(()),
            false => Err(self.no_right(None)),
        });
        may.map_err(|denied| self.deny(denied, None))
    }

    /// Asks whether the call may be about a zone that the caller has named.
    ///
    /// # Errors
    /// If it may not, or not any more.
    pub fn may(&self, zone: &Name) -> Result<(), Denied> {
        self.may_with(zone, Some(zone))
    }

    /// Asks the same of a zone that the caller may not know the name of.
    ///
    /// # Errors
    /// If it may not; the zone is not named.
    pub fn may_unnamed(&self, zone: &Name) -> Result<(), Denied> {
        self.may_with(zone, None)
    }

    fn may_with(&self, zone: &Name, named: Option<&Name>) -> Result<(), Denied> {
        let may = self.now().and_then(|principal| match principal.may_in(self.0.function, zone) {
            true => Ok(()),
            false => Err(self.no_right(named)),
        });
        may.map_err(|denied| self.deny(denied, Some(zone)))
    }

    /// True if a list may show a zone; what it may not is left out, and is no denial.
    #[must_use]
    pub fn sees(&self, zone: &Name) -> bool {
        self.now().is_ok_and(|principal| principal.may_in(self.0.function, zone))
    }

    /// The proof that a write to a zone may be.
    ///
    /// # Errors
    /// If it may not.
    pub fn write(&self, zone: Name, caller: Caller) -> Result<Authorized, Denied> {
        self.may(&zone)?;
        self.proof(zone, caller)
    }

    /// The same for a zone that the caller may not know the name of.
    ///
    /// # Errors
    /// If it may not.
    pub fn write_unnamed(&self, zone: Name, caller: Caller) -> Result<Authorized, Denied> {
        self.may_unnamed(&zone)?;
        self.proof(zone, caller)
    }

    fn proof(&self, zone: Name, caller: Caller) -> Result<Authorized, Denied> {
        // First the version: what changes in between is found by the sequencer.
        let version = self.0.access.version();
        let rights = self.now()?.rights_in(self.0.function, &zone);
        let admitted = Some(self.clone());
        Ok(Authorized { admitted, zone, caller, rights, version, only_asks: false })
    }

    /// The proof for a question about an earlier call of the same caller, which changes nothing.
    #[must_use]
    pub fn question(&self, caller: Caller) -> Authorized {
        let (admitted, version) = (Some(self.clone()), self.0.access.version());
        let (zone, rights) = (Name::root(), Rights::NONE);
        Authorized { admitted, zone, caller, rights, version, only_asks: true }
    }

    /// The zones that an edge may receive, if it is the edge that it says.
    ///
    /// # Errors
    /// If it is another one, or may receive nothing.
    pub fn edge(&self, id: &EdgeId) -> Result<Zones, Denied> {
        let Some(kept) = &self.0.access.kept else { return Ok(Zones::all()) };
        let name = format!("edge/{id}");
        let allowed = || {
            if let Some(certificate) = &self.0.peer.certificate {
                let certificate = certificate.edge_id().unwrap_or("none").to_owned();
                if certificate != id.to_string() {
                    return Err(Denied::OtherEdge { certificate, hello: id.to_string() });
                }
            } else if self.0.proof != Proof::None && *self.0.name != *name {
                let (certificate, hello) = (self.0.name.to_string(), id.to_string());
                return Err(Denied::OtherEdge { certificate, hello });
            }
            self.now()?;
            let policy = kept.policy().ok_or(Denied::NotLoaded)?;
            let zones = policy.edge(id).and_then(|edge| edge.receives());
            let function = self.0.function.name();
            zones.ok_or(Denied::NoRight { principal: name.clone(), function, zone: None })
        };
        allowed().map_err(|denied| self.deny(denied, None))
    }

    /// Moves with each change of what anybody may do.
    #[must_use]
    pub fn versions(&self) -> Option<tokio::sync::watch::Receiver<u64>> {
        self.0.access.versions()
    }

    /// Resolves when the call may not go on; `strictly` also when the principal's rights are others than
    /// when it began, whatever they are now.
    pub async fn ended(&self, strictly: bool) -> Denied {
        let Some(mut versions) = self.versions() else { return std::future::pending().await };
        loop {
            versions.borrow_and_update();
            let now = self.now();
            match now {
                Err(denied) => return self.deny(denied, None),
                Ok(now) if !now.may_call(self.0.function) => {
                    return self.deny(self.no_right(None), None);
                }
                Ok(now) if strictly && now.grants != self.0.principal.grants => {
                    return Denied::Changed(self.0.name.to_string());
                }
                Ok(_) => {}
            }
            let look = async {
                if self.ends() {
                    tokio::time::sleep(LOOK).await;
                } else {
                    std::future::pending().await
                }
            };
            tokio::select! {
                changed = versions.changed() => if changed.is_err() {
                    std::future::pending::<()>().await;
                },
                () = look => {}
            }
        }
    }

    /// Does something that is written down before it is done, and what came of it after. It comes to its end also
    /// if the caller goes away: what is durable would else not be in force, nor written down.
    ///
    /// # Errors
    /// If it is refused, or cannot be written down.
    pub async fn around<T: Send + 'static>(
        &self,
        detail: &str,
        act: impl Future<Output = Result<T, Status>> + Send + 'static,
    ) -> Result<T, Status> {
        let (kept, line) = (self.0.access.kept.clone(), self.line(detail));
        let act = async move {
            let Some(kept) = kept else { return act.await };
            if !kept.trail.record(Line { result: "asked".to_owned(), ..line.clone() }).await {
                return Err(Status::internal("not done: the audit cannot be written"));
            }
            let done = act.await;
            let code = |error: &Status| format!("{:?}", error.code());
            let result = done.as_ref().map_or_else(code, |_| "ok".to_owned());
            kept.trail.note(Line { result, ..line });
            done
        };
        let ended = tokio::spawn(act).await;
        ended.unwrap_or_else(|error| {
            Err(Status::internal(format!("whether it was done is not known: {error}")))
        })
    }

    /// The access that has let it through.
    #[must_use]
    pub fn access(&self) -> &Access {
        &self.0.access
    }

    /// Ends the login of the call, if it is one.
    pub fn log_out(&self) {
        if let (Some(kept), Proof::Login(token)) = (&self.0.access.kept, &self.0.proof) {
            kept.logins.end(token);
            kept.version.send_modify(|version| *version += 1);
        }
    }
}

pub(super) fn count(denied: &Denied) {
    let code = format!("{:?}", denied.code());
    metrics::counter!("edgesync_control_access_denials_total", "code" => code).increment(1);
}
