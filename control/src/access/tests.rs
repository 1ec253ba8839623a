//! Who may do what, against a model of twenty lines; what a proof is worth when the policy changes; and
//! what is written down of it.

mod matrix;
mod proofs;

use std::{path::Path, time::Duration};

use edgesync_host::peer::{Peer, Transport};
use hyper::{Request, http::request::Parts};

use super::*;
use crate::log::Options;

pub(super) fn log(dir: &Path) -> Log {
    Log::open(&Options::of_a_test(dir)).unwrap()
}

/// Access in a directory, with a policy.
pub(super) fn access(dir: &Path, policy: &str) -> (Access, Log) {
    let log = log(dir);
    let options = AccessOptions {
        policy: dir.join("policy.toml"),
        audit: dir.join("audit.log"),
        login_lifetime: Duration::from_secs(60),
        logins_per_minute: 10,
        writes_per_second: 100,
        bytes_per_second: 1 << 20,
    };
    let access = Access::open(options, log.clone()).unwrap();
    set(&access, policy);
    (access, log)
}

/// Changes the policy, as another file does.
pub(super) fn set(access: &Access, policy: &str) {
    let principals = text::read_file(policy).unwrap();
    access.kept.as_ref().unwrap().update(|sources| sources.file = Some(principals));
}

/// A token, and what the policy says of it.
pub(super) fn token() -> (Secret, String) {
    use edgesync_host::credential::{KeptToken, TokenKind, new_token};
    let token = new_token(TokenKind::Machine);
    let kept = KeptToken::of(&token).unwrap().1.to_hex();
    (token, format!("[[principal.token]]\nsha256 = \"{kept}\"\n"))
}

pub(super) fn grant(role: &str, zones: &[&str]) -> String {
    format!("[[principal.grant]]\nrole = \"{role}\"\nzones = {zones:?}\n")
}

/// The head of a call from this host.
pub(super) fn call(path: &str, token: Option<&Secret>) -> Parts {
    let mut request = Request::builder().uri(path);
    if let Some(token) = token {
        request = request.header("authorization", format!("Bearer {}", token.expose()));
    }
    let (mut parts, ()) = request.body(()).unwrap().into_parts();
    let address = Some("127.0.0.1:9".parse().unwrap());
    parts.extensions.insert(Peer::new(address, Transport::Plain, None));
    parts
}

#[tokio::test]
async fn before_the_policy_is_there_nobody_may_do_anything_and_health_tells_all_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let options = AccessOptions {
        policy: dir.path().join("policy.toml"),
        audit: dir.path().join("audit.log"),
        login_lifetime: Duration::from_secs(60),
        logins_per_minute: 10,
        writes_per_second: 1,
        bytes_per_second: 1,
    };
    let access = Access::open(options, log(dir.path())).unwrap();
    for rpc in edgesync_proto::Rpc::ALL {
        let (token, _) = token();
        for token in [None, Some(&token)] {
            let denied = access.admit(&call(&format!("/{}", rpc.name()), token)).unwrap_err();
            assert_eq!(denied.status().code(), tonic::Code::Unavailable, "{}", rpc.name());
        }
    }
    assert!(access.admit(&call("/grpc.health.v1.Health/Check", None)).is_ok());
    let watching = tokio::spawn(access.clone().watch());
    std::fs::write(dir.path().join("policy.toml"), "").unwrap();
    let path = "/edgesync.v1.AccessService/WhoAmI";
    let deadline = Instant::now() + Duration::from_secs(10);
    while access.admit(&call(path, None)).unwrap_err() == Denied::NotLoaded {
        assert!(Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    watching.abort();
}

#[tokio::test]
async fn a_bad_policy_file_is_refused_and_the_old_one_stays() {
    let dir = tempfile::tempdir().unwrap();
    let (token, line) = token();
    let policy = format!("[[principal]]\nname = \"anna\"\n{line}");
    let (access, _log) = access(dir.path(), &policy);
    let file = dir.path().join("policy.toml");
    std::fs::write(&file, &policy).unwrap();
    let watching = tokio::spawn(access.clone().watch());
    let knows = || access.admit(&call("/edgesync.v1.AccessService/WhoAmI", Some(&token))).is_ok();
    for bad in ["[[principal]]\nname = 7\n", "", "[[principal]]\nname = \"bert\"\n"] {
        std::fs::write(&file, bad).unwrap();
        tokio::time::sleep(Duration::from_millis(1_300)).await;
        assert_eq!(
            knows(),
            bad.contains('7'),
            "{bad}: what is right is taken, if it says less too"
        );
        std::fs::write(&file, &policy).unwrap();
        tokio::time::sleep(Duration::from_millis(1_300)).await;
        assert!(knows());
    }
    std::fs::remove_file(&file).unwrap();
    tokio::time::sleep(Duration::from_millis(1_300)).await;
    assert!(knows());
    watching.abort();
}

#[tokio::test]
async fn what_was_made_by_calls_is_there_after_a_restart_and_the_file_goes_before_it() {
    let dir = tempfile::tempdir().unwrap();
    let (access, log) = access(dir.path(), "[[principal]]\nname = \"anna\"\n");
    let zones = ["example.com".to_owned()];
    access.grant("bert", "reader", &zones).await.unwrap();
    let made = access.create_token("bert", "ci\n", None).await.unwrap();
    assert_eq!(
        access.grant("anna", "reader", &zones).await,
        Err(ManageError::InFile("anna".to_owned()))
    );
    assert!(access.grant("bert", "root", &zones).await.is_err());
    assert!(access.grant("b c", "reader", &zones).await.is_err());
    assert!(access.revoke("nobody", "reader", &[]).await.is_err());
    access.close();
    log.close().await;
    drop((access, log));
    let (access, _log) = self::access(dir.path(), "");
    let path = "/edgesync.v1.RecordService/GetRecord";
    assert!(access.admit(&call(path, Some(&made.token))).is_ok());
    set(&access, "[[principal]]\nname = \"bert\"\n");
    assert!(
        access.admit(&call(path, Some(&made.token))).is_err(),
        "the file says that he has none"
    );
    set(&access, "");
    access.revoke_token(&made.id).await.unwrap();
    assert_eq!(access.admit(&call(path, Some(&made.token))).unwrap_err(), Denied::BadToken);
    access.remove("bert").await.unwrap();
    assert!(access.principals().unwrap().is_empty());
}
