//! Principals × functions × zones, all of them, against a model of twenty lines that knows nothing of the
//! code.

use edgesync_core::name::Name;
use edgesync_proto::Rpc;

use super::*;

/// Which letters of a role's word may call a function; the word of a function: letters, then how far.
/// r reader, e editor, d deleter, z zone_admin, g edge, o operator, a auditor.
fn model(function: &str, role: char, granted: &str, zone: &str) -> bool {
    let (letters, far) = match function {
        "GetRecord" | "ListRecords" | "GetZone" | "ListZones" => ("redzoa", "zone"),
        "CreateRecord" | "EditRecord" | "ImportZone" => ("ez", "zone"),
        "DeleteRecord" => ("dz", "zone"),
        "ApplyChangeSets" => ("edz", "zone"),
        "CreateZone" | "DeleteZone" => ("z", "zone"),
        "RestoreZone" => ("o", "zone"),
        "ListLog" => ("azo", "zone"),
        "ListEdges" | "WatchEdges" | "WaitForOffset" | "GetRelease" => ("redzoa", "any"),
        "ListPrincipals" => ("ao", "all"),
        "ForgetEdge" | "CompactLog" | "Freeze" | "Unfreeze" | "SetPassword" | "RemovePrincipal"
        | "CreateToken" | "RevokeToken" | "GrantRole" | "RevokeRole" => ("o", "all"),
        "Logout" | "WhoAmI" => return true,
        _ => return false,
    };
    let within = granted == "." || zone == granted || zone.ends_with(&format!(".{granted}"));
    letters.contains(role)
        && (far == "any" || (far == "all" && granted == ".") || (far == "zone" && within))
}

const ROLES: [(char, &str); 7] = [
    ('r', "reader"),
    ('e', "editor"),
    ('d', "deleter"),
    ('z', "zone_admin"),
    ('g', "edge"),
    ('o', "operator"),
    ('a', "auditor"),
];
const ZONES: [&str; 6] = [
    "example.com.",
    "sub.example.com.",
    "evilexample.com.",
    "com.",
    "example.net.",
    "com.example.com.",
];

#[tokio::test]
async fn principals_functions_and_zones_are_as_the_model_says() {
    let dir = tempfile::tempdir().unwrap();
    let granted = [".", "example.com.", "com."];
    let (mut policy, mut principals) = (String::new(), Vec::new());
    for (letter, role) in ROLES {
        for zone in granted {
            let (token, line) = token();
            let name = format!("{role}-{}", principals.len());
            policy += &format!("[[principal]]\nname = {name:?}\n{line}{}", grant(role, &[zone]));
            principals.push((letter, zone, token));
        }
    }
    let (access, _log) = access(dir.path(), &policy);
    let (mut cells, mut allowed) = (0, 0);
    for (letter, granted, token) in &principals {
        for rpc in Rpc::ALL.iter().filter(|rpc| **rpc != Rpc::Login && **rpc != Rpc::Sync) {
            let short = rpc.name().split_once('/').unwrap().1;
            let admitted = access.admit(&call(&format!("/{}", rpc.name()), Some(token)));
            let is_zoned = Function::Rpc(*rpc).need().scope == Scope::Zone;
            for zone in ZONES {
                let name = Name::parse_origin(zone).unwrap();
                let may = match &admitted {
                    Ok(admitted) if is_zoned => admitted.may(&name).is_ok(),
                    Ok(_) => true,
                    Err(denied) => {
                        let status = denied.status();
                        assert_eq!(status.code(), tonic::Code::PermissionDenied);
                        assert!(status.message().contains(rpc.name()), "{status}");
                        false
                    }
                };
                assert_eq!(
                    may,
                    model(short, *letter, granted, zone),
                    "{letter} {granted} {short} {zone}"
                );
                cells += 1;
                allowed += u32::from(may);
            }
        }
    }
    println!("{cells} cells, {allowed} allowed");
    assert!(cells > 4_000 && allowed > 500);
}

#[tokio::test]
async fn without_credentials_or_with_bad_ones_every_function_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (access, _log) = access(dir.path(), "");
    let (stranger, _) = token();
    let odd = Secret::new("hunter2".to_owned());
    for rpc in Rpc::ALL {
        let path = format!("/{}", rpc.name());
        for token in [None, Some(&stranger), Some(&odd)] {
            let admitted = access.admit(&call(&path, token));
            // Login looks at its credentials itself; an edge on this host says who it is in its Hello.
            if *rpc == Rpc::Login || (*rpc == Rpc::Sync && token.is_none()) {
                assert!(admitted.is_ok());
                continue;
            }
            let status = admitted.unwrap_err().status();
            assert_eq!(status.code(), tonic::Code::Unauthenticated, "{path} {status}");
            assert!(!status.message().contains("hunter2"));
        }
    }
    for path in ["/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", "/x/y", "/"] {
        let status = access.admit(&call(path, None)).unwrap_err().status();
        assert_eq!(status.code(), tonic::Code::Unauthenticated, "{path}");
    }
}

#[tokio::test]
async fn credentials_over_a_plain_connection_of_another_host_are_refused_whoever_sends_them() {
    let dir = tempfile::tempdir().unwrap();
    let (token, line) = token();
    let policy = format!("[[principal]]\nname = \"anna\"\n{line}{}", grant("operator", &["."]));
    let (access, _log) = access(dir.path(), &policy);
    for path in ["/edgesync.v1.RecordService/GetRecord", "/edgesync.v1.AccessService/Login"] {
        let mut parts = call(path, Some(&token));
        assert!(access.admit(&parts).is_ok());
        let address = Some("192.0.2.1:9".parse().unwrap());
        parts.extensions.insert(Peer::new(address, Transport::Plain, None));
        assert_eq!(access.admit(&parts).unwrap_err(), Denied::Unencrypted);
    }
}

#[tokio::test]
async fn a_connection_is_known_when_one_of_its_calls_was_let_through_and_not_before() {
    let dir = tempfile::tempdir().unwrap();
    let (token, line) = token();
    let policy = format!("[[principal]]\nname = \"anna\"\n{line}{}", grant("reader", &["."]));
    let (access, _log) = access(dir.path(), &policy);
    for (path, token, known) in [
        ("/grpc.health.v1.Health/Check", None, false),
        ("/edgesync.v1.AccessService/Login", None, false),
        ("/edgesync.v1.RecordService/GetRecord", None, false),
        ("/edgesync.v1.FleetService/Freeze", Some(&token), false),
        ("/edgesync.v1.RecordService/GetRecord", Some(&token), true),
    ] {
        let parts = call(path, token);
        let _ = access.admit(&parts);
        let peer = parts.extensions.get::<Peer>().unwrap();
        assert_eq!(peer.standing.is_known(), known, "{path}");
    }
}
