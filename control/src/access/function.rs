//! What can be called, and what each call needs: one table over all RPCs of the protocol. It is a `match`
//! over an enum that is made from the protocol's own description, so an RPC that is not in it does not
//! build. What is not known here needs a principal, and then is not there.

use std::time::Duration;

use edgesync_core::limits::SET_OCTETS;
use edgesync_proto::Rpc;

use super::{body::Bounds, role::Role};

/// What a stranger may send: a user's name and password have less.
const OPEN: Bounds = Bounds { octets: 16 * 1024, time: Duration::from_secs(5) };
/// What somebody who is known may send where no change set is sent.
const MESSAGE: Bounds = Bounds { octets: 1024 * 1024, time: Duration::from_secs(30) };
/// A zone with its records is one message.
const ZONE: Bounds = Bounds { octets: SET_OCTETS, time: Duration::from_secs(30) };

/// Something that can be called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Function {
    /// An RPC of the protocol.
    Rpc(Rpc),
    /// grpc.health.v1: what load balancers and supervisors ask, without credentials.
    Health,
    /// grpc.reflection: what the protocol is.
    Reflection,
    /// Something that is not served here.
    Unknown,
}

/// Where a role has to be held for a function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Nowhere: it needs no credentials.
    Open,
    /// Nowhere: it needs a principal, whoever that is.
    Known,
    /// In some zone: it is about none.
    Somewhere,
    /// In the zone that it is about.
    Zone,
    /// In all zones: what it does concerns all.
    Everywhere,
    /// It is an edge's session: the edge's own grants say which zones it gets.
    Edge,
}

/// What a function needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Need {
    /// Where.
    pub scope: Scope,
    /// One of these roles.
    pub roles: &'static [Role],
}

const NOBODY: &[Role] = &[];
const READERS: &[Role] =
    &[Role::Reader, Role::Editor, Role::Deleter, Role::ZoneAdmin, Role::Operator, Role::Auditor];
const EDITORS: &[Role] = &[Role::Editor, Role::ZoneAdmin];
const DELETERS: &[Role] = &[Role::Deleter, Role::ZoneAdmin];
const WRITERS: &[Role] = &[Role::Editor, Role::Deleter, Role::ZoneAdmin];
const ZONE_ADMINS: &[Role] = &[Role::ZoneAdmin];
const OPERATORS: &[Role] = &[Role::Operator];
const AUDITORS: &[Role] = &[Role::Auditor, Role::Operator];
const HISTORIANS: &[Role] = &[Role::Auditor, Role::ZoneAdmin, Role::Operator];
const EDGES: &[Role] = &[Role::Edge];

impl Function {
    /// The function of a request's path.
    #[must_use]
    pub fn of_path(path: &str) -> Self {
        if let Some(rpc) = Rpc::of_path(path) {
            return Self::Rpc(rpc);
        }
        let service = path.strip_prefix('/').and_then(|path| path.split_once('/'));
        match service.map(|(service, _)| service) {
            Some("grpc.health.v1.Health") => Self::Health,
            Some(
                "grpc.reflection.v1.ServerReflection" | "grpc.reflection.v1alpha.ServerReflection",
            ) => Self::Reflection,
            _ => Self::Unknown,
        }
    }

    /// Its name, as refusals and the audit write it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Rpc(rpc) => rpc.name(),
            Self::Health => "grpc.health.v1.Health",
            Self::Reflection => "grpc.reflection",
            Self::Unknown => "an unknown function",
        }
    }

    /// What it needs.
    #[must_use]
    pub const fn need(self) -> Need {
        match self {
            Self::Rpc(rpc) => need(rpc),
            Self::Health => Need { scope: Scope::Open, roles: NOBODY },
            Self::Reflection | Self::Unknown => Need { scope: Scope::Known, roles: NOBODY },
        }
    }
}

impl Function {
    /// True for what changes who may do what: it is done at once, and not cut short, so that who ends his
    /// own right is told that it has ended.
    #[must_use]
    pub fn is_at_once(self) -> bool {
        self.name().starts_with("edgesync.v1.AccessService/")
    }

    /// What its caller may send; none for streams of change sets and for sessions, whose messages are bounded one
    /// by one.
    pub(super) fn bounds(self) -> Option<Bounds> {
        match self {
            Self::Rpc(Rpc::ApplyChangeSets | Rpc::ImportZone | Rpc::Sync) => None,
            Self::Rpc(Rpc::CreateZone) => Some(ZONE),
            _ if self.need().scope == Scope::Open => Some(OPEN),
            _ => Some(MESSAGE),
        }
    }
}

/// The table. No wildcard: who adds an RPC has to say here who may call it.
const fn need(rpc: Rpc) -> Need {
    let (scope, roles) = match rpc {
        Rpc::GetRecord | Rpc::ListRecords | Rpc::GetZone | Rpc::ListZones => (Scope::Zone, READERS),
        Rpc::CreateRecord | Rpc::EditRecord | Rpc::ImportZone => (Scope::Zone, EDITORS),
        Rpc::DeleteRecord => (Scope::Zone, DELETERS),
        // What each set does is looked at, operation by operation, by the sequencer.
        Rpc::ApplyChangeSets => (Scope::Zone, WRITERS),
        Rpc::CreateZone | Rpc::DeleteZone => (Scope::Zone, ZONE_ADMINS),
        Rpc::RestoreZone => (Scope::Zone, OPERATORS),
        Rpc::ListLog => (Scope::Zone, HISTORIANS),
        Rpc::ListEdges | Rpc::WatchEdges | Rpc::WaitForOffset | Rpc::GetRelease => {
            (Scope::Somewhere, READERS)
        }
        Rpc::ForgetEdge | Rpc::CompactLog | Rpc::Freeze | Rpc::Unfreeze => {
            (Scope::Everywhere, OPERATORS)
        }
        Rpc::Sync => (Scope::Edge, EDGES),
        // Its credentials are what it is about.
        Rpc::Login => (Scope::Open, NOBODY),
        Rpc::Logout | Rpc::WhoAmI => (Scope::Known, NOBODY),
        Rpc::ListPrincipals => (Scope::Everywhere, AUDITORS),
        Rpc::SetPassword
        | Rpc::RemovePrincipal
        | Rpc::CreateToken
        | Rpc::RevokeToken
        | Rpc::GrantRole
        | Rpc::RevokeRole => (Scope::Everywhere, OPERATORS),
        // An edge daemon's own service, on its unix socket; not served here.
        Rpc::GetStatus
        | Rpc::WatchStatus
        | Rpc::LookupRecords
        | Rpc::ListEdgeZones
        | Rpc::ExportZone
        | Rpc::VerifyStore
        | Rpc::ResumeEdge
        | Rpc::SkipChangeSet => (Scope::Everywhere, NOBODY),
    };
    Need { scope, roles }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_a_function_and_a_made_up_one_is_unknown() {
        for rpc in Rpc::ALL {
            assert_eq!(Function::of_path(&format!("/{}", rpc.name())), Function::Rpc(*rpc));
        }
        for path in ["/grpc.health.v1.Health/Check", "/grpc.health.v1.Health/Watch"] {
            assert_eq!(Function::of_path(path), Function::Health);
        }
        for path in ["", "/", "/x/y", "/edgesync.v1.RecordService/createrecord", "//Check"] {
            assert_eq!(Function::of_path(path).need().scope, Scope::Known, "{path}");
        }
    }

    #[test]
    fn only_health_and_login_are_open() {
        let open = |function: &Function| function.need().scope == Scope::Open;
        let open: Vec<_> = Rpc::ALL.iter().map(|rpc| Function::Rpc(*rpc)).filter(open).collect();
        assert_eq!(open, [Function::Rpc(Rpc::Login)]);
    }
}
