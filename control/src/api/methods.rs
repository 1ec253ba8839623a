//! Station 1, the API: the names of its methods, as the audit and the metrics write them. What is
//! not named here is measured as one, so that a caller cannot make up labels.

/// The method of a path that no service here has.
const OTHER: &str = "other";

macro_rules! methods {
    ($($(#[$doc:meta])* $name:ident = $service:literal / $method:literal $kind:ident;)*) => {
        $($(#[$doc])* pub const $name: Method = Method {
            name: concat!($service, "/", $method),
            kind: Kind::$kind,
        };)*

        /// All of them.
        const ALL: &[Method] = &[$($name),*];
    };
}

/// A method of the API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Method {
    /// Its name, such as `edgesync.v1.RecordService/CreateRecord`.
    pub name: &'static str,
    /// Whether the time that it takes says something.
    pub kind: Kind,
}

/// How long a call of a method takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// As long as its work takes.
    Work,
    /// As long as the caller likes.
    Open,
}

methods! {
    /// Adds one record.
    CREATE_RECORD = "edgesync.v1.RecordService" / "CreateRecord" Work;
    /// Changes one record.
    EDIT_RECORD = "edgesync.v1.RecordService" / "EditRecord" Work;
    /// Takes one record out.
    DELETE_RECORD = "edgesync.v1.RecordService" / "DeleteRecord" Work;
    /// Reads one record.
    GET_RECORD = "edgesync.v1.RecordService" / "GetRecord" Work;
    /// Reads a zone's records.
    LIST_RECORDS = "edgesync.v1.RecordService" / "ListRecords" Work;
    /// Makes a zone equal to a zone file.
    IMPORT_ZONE = "edgesync.v1.RecordService" / "ImportZone" Work;
    /// Commits change sets as they come.
    APPLY_CHANGE_SETS = "edgesync.v1.RecordService" / "ApplyChangeSets" Open;
    /// Begins a zone.
    CREATE_ZONE = "edgesync.v1.ZoneService" / "CreateZone" Work;
    /// Ends a zone.
    DELETE_ZONE = "edgesync.v1.ZoneService" / "DeleteZone" Work;
    /// Makes a zone what it was.
    RESTORE_ZONE = "edgesync.v1.ZoneService" / "RestoreZone" Work;
    /// Reads a zone.
    GET_ZONE = "edgesync.v1.ZoneService" / "GetZone" Work;
    /// Reads all zones.
    LIST_ZONES = "edgesync.v1.ZoneService" / "ListZones" Work;
    /// Reads the fleet.
    LIST_EDGES = "edgesync.v1.FleetService" / "ListEdges" Work;
    /// Follows the fleet.
    WATCH_EDGES = "edgesync.v1.FleetService" / "WatchEdges" Open;
    /// Waits for edges.
    WAIT_FOR_OFFSET = "edgesync.v1.FleetService" / "WaitForOffset" Open;
    /// Takes an edge out of the fleet.
    FORGET_EDGE = "edgesync.v1.FleetService" / "ForgetEdge" Work;
    /// Reads who changed what.
    LIST_LOG = "edgesync.v1.FleetService" / "ListLog" Work;
    /// Forgets the oldest of the log.
    COMPACT_LOG = "edgesync.v1.FleetService" / "CompactLog" Work;
    /// Keeps changes from the edges.
    FREEZE = "edgesync.v1.FleetService" / "Freeze" Work;
    /// Lets the edges have all.
    UNFREEZE = "edgesync.v1.FleetService" / "Unfreeze" Work;
    /// Reads how far the log is released.
    GET_RELEASE = "edgesync.v1.FleetService" / "GetRelease" Work;
    /// Gives a token for a password.
    LOGIN = "edgesync.v1.AccessService" / "Login" Work;
    /// Ends a login.
    LOGOUT = "edgesync.v1.AccessService" / "Logout" Work;
    /// Tells who calls.
    WHO_AM_I = "edgesync.v1.AccessService" / "WhoAmI" Work;
    /// Reads who may do what.
    LIST_PRINCIPALS = "edgesync.v1.AccessService" / "ListPrincipals" Work;
    /// Gives a principal a password.
    SET_PASSWORD = "edgesync.v1.AccessService" / "SetPassword" Work;
    /// Takes a principal out.
    REMOVE_PRINCIPAL = "edgesync.v1.AccessService" / "RemovePrincipal" Work;
    /// Gives a principal a token.
    CREATE_TOKEN = "edgesync.v1.AccessService" / "CreateToken" Work;
    /// Ends a token.
    REVOKE_TOKEN = "edgesync.v1.AccessService" / "RevokeToken" Work;
    /// Gives a principal a role.
    GRANT_ROLE = "edgesync.v1.AccessService" / "GrantRole" Work;
    /// Takes a role away.
    REVOKE_ROLE = "edgesync.v1.AccessService" / "RevokeRole" Work;
    /// A session.
    SYNC = "edgesync.v1.SyncService" / "Sync" Open;
    /// Asks for health.
    HEALTH_CHECK = "grpc.health.v1.Health" / "Check" Work;
    /// Follows health.
    HEALTH_WATCH = "grpc.health.v1.Health" / "Watch" Open;
    /// Asks what services there are.
    REFLECTION = "grpc.reflection.v1.ServerReflection" / "ServerReflectionInfo" Open;
    /// Asks the same in the older form.
    REFLECTION_ALPHA = "grpc.reflection.v1alpha.ServerReflection" / "ServerReflectionInfo" Open;
}

/// The method of a request's path.
#[must_use]
pub fn of_path(path: &str) -> Method {
    let name = path.strip_prefix('/').unwrap_or(path);
    let known = ALL.iter().find(|method| method.name == name).copied();
    known.unwrap_or(Method { name: OTHER, kind: Kind::Open })
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use edgesync_proto::DESCRIPTORS;
    use prost::Message;

    use super::*;

    #[test]
    fn every_method_of_the_protocol_that_is_served_here_is_named() {
        let files = prost_types::FileDescriptorSet::decode(DESCRIPTORS).unwrap();
        let mut wanted = HashSet::new();
        for file in files.file {
            for service in &file.service {
                let service_name = format!("{}.{}", file.package(), service.name());
                let names = service.method.iter().map(|m| format!("{service_name}/{}", m.name()));
                wanted.extend(names.filter(|_| service.name() != "EdgeService"));
            }
        }
        let named: HashSet<_> = ALL.iter().map(|method| method.name.to_owned()).collect();
        assert!(wanted.is_subset(&named), "{:?}", wanted.difference(&named));
        assert_eq!(named.len(), ALL.len());
    }

    #[test]
    fn a_made_up_path_makes_no_label() {
        assert_eq!(of_path("/edgesync.v1.SyncService/Sync"), SYNC);
        assert_eq!(of_path("/edgesync.v1.SyncService/Sink").name, OTHER);
    }
}
