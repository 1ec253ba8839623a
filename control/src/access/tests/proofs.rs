//! What a proof is worth: the sequencer asks again if the policy has changed since (rule 25), looks at what
//! a write does, and has it written down.

use std::{sync::Arc, time::SystemTime};

use edgesync_core::{
    Rtype,
    name::Name,
    rdata,
    stage::{Operation, RecordData, Serial, Target},
};
use edgesync_host::{
    audit::verify,
    peer::{Certificate, Peer, Transport},
};

use super::*;
use crate::log::{Action, Write, WriteError};

fn zone() -> Name {
    Name::parse_origin("example.com").unwrap()
}

fn data(owner: &str, rtype: Rtype, text: &str) -> RecordData {
    let owner = Name::parse(owner, &zone()).unwrap();
    RecordData { owner, rtype, ttl: 60, rdata: rdata::parse(rtype, text, &zone()).unwrap() }
}

async fn create_zone(log: &Log) {
    let soa = data("@", Rtype::SOA, "ns root 1 2 3 4 5");
    let authorized = Authorized::by_the_control_plane(zone(), "test");
    log.commit(Write::new(authorized, Action::CreateZone(vec![soa]))).await.unwrap();
}

fn create(owner: &str) -> Operation {
    Operation::Create(data(owner, Rtype::A, "192.0.2.1"))
}

fn delete(owner: &str) -> Operation {
    Operation::Delete(Target::Exact(data(owner, Rtype::A, "192.0.2.1")))
}

const APPLY: &str = "edgesync.v1.RecordService/ApplyChangeSets";

fn admitted(access: &Access, token: &Secret) -> Admitted {
    access.admit(&call(&format!("/{APPLY}"), Some(token))).unwrap()
}

fn write(admitted: &Admitted, operations: Vec<Operation>) -> Write {
    let authorized = admitted.write(zone(), admitted.caller(APPLY)).unwrap();
    Write::new(authorized, Action::Change { operations, serial: Serial::AsWritten })
}

fn policy(line: &str, grants: &str) -> String {
    format!("[[principal]]\nname = \"anna\"\n{line}{grants}")
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_allowed_when_it_was_asked_is_refused_if_it_is_not_any_more_when_it_is_committed()
{
    let dir = tempfile::tempdir().unwrap();
    let (token, line) = token();
    let editor = policy(&line, &grant("editor", &["example.com"]));
    let (access, log) = access(dir.path(), &editor);
    create_zone(&log).await;
    let call = admitted(&access, &token);
    let proven = || write(&call, vec![create("a")]);
    let (kept, gone, elsewhere) = (proven(), proven(), proven());
    set(&access, &(editor.clone() + &grant("reader", &["net"])));
    log.commit(kept).await.unwrap();
    set(&access, &policy(&line, &grant("editor", &["evilexample.com"])));
    let refused = log.commit(elsewhere).await.unwrap_err();
    assert!(matches!(&refused, WriteError::NotAllowed(why) if why.contains(APPLY)), "{refused}");
    set(&access, "");
    assert!(matches!(log.commit(gone).await, Err(WriteError::NotAllowed(_))));
    assert!(call.write(zone(), call.caller(APPLY)).is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waited_until_its_token_had_ended_is_not_committed() {
    let dir = tempfile::tempdir().unwrap();
    let (token, line) = token();
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    let ends = line + &format!("expires = {}\n", now + 2);
    let (access, log) = access(dir.path(), &policy(&ends, &grant("editor", &["example.com"])));
    create_zone(&log).await;
    let call = admitted(&access, &token);
    let late = write(&call, vec![create("late")]);
    log.commit(write(&call, vec![create("in-time")])).await.unwrap();
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert!(matches!(log.commit(late).await, Err(WriteError::NotAllowed(_))));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_begun_comes_to_its_end_though_its_caller_goes_away() {
    let dir = tempfile::tempdir().unwrap();
    let (token, line) = token();
    let (access, _log) = access(dir.path(), &policy(&line, &grant("editor", &["."])));
    let call = admitted(&access, &token);
    let ((begun, has_begun), (go, goes)) =
        (tokio::sync::oneshot::channel(), tokio::sync::oneshot::channel());
    let (done, is_done) = tokio::sync::oneshot::channel();
    let act = async move {
        begun.send(()).unwrap();
        goes.await.unwrap();
        done.send(()).unwrap();
        Ok(())
    };
    tokio::select! {
        _ = call.around("a freeze", act) => panic!("it waits"),
        begun = has_begun => begun.unwrap(),
    }
    go.send(()).unwrap();
    is_done.await.unwrap();
    let is_noted = || {
        let audit = std::fs::read_to_string(dir.path().join("audit.log")).unwrap();
        audit.contains("\"ok\"")
    };
    let deadline = Instant::now() + Duration::from_secs(10);
    while !is_noted() {
        assert!(Instant::now() < deadline, "what came of it is written down");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_write_does_is_looked_at_and_not_only_what_it_is_called_by() {
    let dir = tempfile::tempdir().unwrap();
    let ((editor, one), (deleter, other)) = (token(), token());
    let zones = &["example.com"][..];
    let policy = policy(&one, &grant("editor", zones))
        + &format!("[[principal]]\nname = \"bert\"\n{other}{}", grant("deleter", zones));
    let (access, log) = access(dir.path(), &policy);
    create_zone(&log).await;
    let (editor, deleter) = (admitted(&access, &editor), admitted(&access, &deleter));
    let refused = |said: &'static str| {
        move |done: Result<_, WriteError>| {
            let Err(WriteError::NotAllowed(why)) = done else { panic!("{said}: {done:?}") };
            assert!(why.contains(said), "{why}");
        }
    };
    refused("editor")(log.commit(write(&deleter, vec![create("a")])).await);
    log.commit(write(&editor, vec![create("a")])).await.unwrap();
    refused("deleter")(log.commit(write(&editor, vec![create("b"), delete("a")])).await);
    let forced = write(&editor, vec![create("b")]).overriding(true);
    refused("operator")(log.commit(forced).await);
    let authorized = || editor.write(zone(), editor.caller(APPLY)).unwrap();
    refused("zone_admin")(log.commit(Write::new(authorized(), Action::DeleteZone)).await);
    let hidden = Action::OpenGeneration(vec![data("@", Rtype::SOA, "ns root 9 2 3 4 5")]);
    refused("deleter")(log.commit(Write::new(authorized(), hidden)).await);
    log.commit(write(&deleter, vec![delete("a")])).await.unwrap();

    access.close();
    let mut lines = Vec::new();
    let audit = dir.path().join("audit.log");
    verify(&audit, |line| lines.push(serde_json::from_str::<serde_json::Value>(line).unwrap()))
        .unwrap();
    let count = |who: &str, result: &str| {
        lines.iter().filter(|line| line["who"] == who && line["result"] == result).count()
    };
    assert_eq!((count("anna", "ok"), count("bert", "ok")), (1, 1));
    // Two of hers are equal, and so one line.
    assert_eq!((count("anna", "PermissionDenied"), count("bert", "PermissionDenied")), (3, 1));
    let done = lines.iter().find(|line| line["who"] == "anna" && line["result"] == "ok").unwrap();
    assert_eq!((&done["zone"], &done["offset"]), (&"example.com.".into(), &3.into()));
    assert_eq!(done["what"], APPLY);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_writes_too_fast_is_told_when_to_come_back_and_others_are_not() {
    let dir = tempfile::tempdir().unwrap();
    let ((fast, one), (slow, other)) = (token(), token());
    let zones = &["example.com"][..];
    let policy = policy(&one, &grant("editor", zones))
        + &format!("[[principal]]\nname = \"bert\"\n{other}{}", grant("editor", zones));
    let (access, log) = access(dir.path(), &policy);
    create_zone(&log).await;
    let (fast, slow) = (admitted(&access, &fast), admitted(&access, &slow));
    let mut refused = None;
    for n in 0..300 {
        let one = write(&fast, vec![create(&format!("n{n}"))]);
        if let Err(error) = log.submit(one).await {
            refused.get_or_insert((n, error));
        }
    }
    let Some((first, WriteError::TooFast { retry_after })) = refused else { panic!("{refused:?}") };
    assert!(first >= 100 && retry_after <= Duration::from_millis(11), "{first} {retry_after:?}");
    log.commit(write(&slow, vec![create("slow")])).await.unwrap();
    log.submit_in_turn(write(&fast, vec![create("fast")])).await.unwrap().await.unwrap();
}

#[test]
fn an_edge_has_the_zones_that_it_may_and_is_who_its_certificate_says() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let edge = |id: &str, zones: &[&str]| {
        format!("[[principal]]\nname = \"edge/{id}\"\n{}", grant("edge", zones))
    };
    let policy = edge("fra-1", &["example.com"]) + &edge("fra-2", &["."]);
    let _in = runtime.enter();
    let (access, _log) = access(dir.path(), &policy);
    let mut parts = call("/edgesync.v1.SyncService/Sync", None);
    let id = |id: &str| id.parse::<edgesync_core::edge_id::EdgeId>().unwrap();
    let on_its_word = access.admit(&parts).unwrap();
    assert_eq!(on_its_word.edge(&id("fra-1")).unwrap(), Zones::parse(&["example.com"]).unwrap());
    assert!(on_its_word.edge(&id("fra-3")).is_err());
    let peer = |certificate: Option<&str>| {
        let certificate = certificate.map(|edge| {
            Arc::new(Certificate {
                uris: vec![format!("spiffe://test/edge/{edge}")],
                dns_names: Vec::new(),
                fingerprint: [0; 32],
                not_after: SystemTime::now(),
            })
        });
        Peer::new(Some("192.0.2.1:9".parse().unwrap()), Transport::Tls, certificate)
    };
    parts.extensions.insert(peer(None));
    assert!(access.admit(&parts).is_err(), "over the network nobody is who he says he is");
    parts.extensions.insert(peer(Some("fra-1")));
    let proven = access.admit(&parts).unwrap();
    assert!(proven.edge(&id("fra-1")).is_ok());
    let other = proven.edge(&id("fra-2")).unwrap_err().to_string();
    assert!(other.contains("fra-1") && other.contains("fra-2"), "{other}");
    parts.extensions.insert(peer(Some("fra-3")));
    assert!(access.admit(&parts).is_err());
    set(&access, &edge("*", &["net"]));
    let any = access.admit(&parts).unwrap();
    assert_eq!(any.edge(&id("fra-3")).unwrap(), Zones::parse(&["net"]).unwrap());
    set(&access, "");
    assert!(proven.edge(&id("fra-1")).is_err(), "a revoked edge is refused");
}
