//! What the daemon does when others do wrong.

use std::{fs, time::Duration};

use edgesync_core::{
    Rtype,
    change::{Change, ChangeSet, Generation},
    position::Offset,
    record::RecordId,
    session::GoodbyeReason,
};
use edgesync_daemon::{
    config::Zones,
    run::{RunError, Surroundings, run},
};
use edgesync_proto::{convert::encode_set, v1::LinkState};

use crate::{
    daemon::{Daemon, config, offset},
    plane::{Plane, name},
};

fn quarantines(dir: &std::path::Path) -> usize {
    let names = fs::read_dir(dir.join("data")).unwrap().map(|entry| entry.unwrap().file_name());
    names.filter(|name| name.to_string_lossy().starts_with("store.quarantine-")).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_set_that_cannot_be_applied_is_nacked_and_the_edge_halts_and_serves() {
    let (plane, dir, zone) = (Plane::new(1), tempfile::tempdir().unwrap(), name("a.example"));
    let serving = plane.serve().await;
    let daemon = Daemon::start(&config(dir.path(), &[format!("http://{}", serving.address)])).await;
    let generation = plane.zone(&zone, 5);
    plane.until_acked().await;
    let ghost = Change::RecordDelete { id: RecordId(999), owner: zone.clone(), rtype: Rtype::A };
    let bad = plane.commit(&zone, Some(generation), vec![ghost]);
    plane.edit(&zone, generation, 1, 7);
    plane.until("the set is nacked", |heard| !heard.nacks.is_empty()).await;
    plane.heard(|heard| {
        assert_eq!(heard.nacks[0].first, Offset(bad));
        assert!(heard.nacks[0].reason.contains("no record 999"), "{}", heard.nacks[0].reason);
        assert!(heard.acks.iter().all(|ack| ack.last < Offset(bad)));
    });
    let status = daemon.until("it has halted", |s| s.link == i32::from(LinkState::Halted)).await;
    assert_eq!(offset(&status), bad - 1);
    assert!(status.reason.contains("999"), "{}", status.reason);
    assert_eq!(daemon.export("a.example").await.unwrap().lines().count(), 5);
    assert_eq!(daemon.verify().await.mismatches, []);
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_that_are_no_change_set_halt_the_edge_before_them() {
    let (plane, dir, zone) = (Plane::new(1), tempfile::tempdir().unwrap(), name("a.example"));
    let serving = plane.serve().await;
    let daemon = Daemon::start(&config(dir.path(), &[format!("http://{}", serving.address)])).await;
    plane.zone(&zone, 5);
    plane.commit_bytes(Offset(7), Offset(7), b"\xff\xff\xff".as_slice().into());
    plane.until("the set is nacked", |heard| !heard.nacks.is_empty()).await;
    let status = daemon.until("it has halted", |s| s.link == i32::from(LinkState::Halted)).await;
    assert_eq!(offset(&status), 6);
    // A restart finds the same: it halts there again.
    daemon.stop().await;
    let daemon = Daemon::start(&config(dir.path(), &[format!("http://{}", serving.address)])).await;
    plane.until("the set is nacked again", |heard| heard.nacks.len() >= 2).await;
    assert_eq!(daemon.export("a.example").await.unwrap().lines().count(), 5);
    daemon.stop().await;
}

/// F-45: what a newer control plane sends. A type without a name is carried as it is; a change of an
/// unknown kind is told as that, and never passed by.
#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_type_is_carried_and_an_unknown_change_is_nacked_as_that() {
    let (plane, dir, zone) = (Plane::new(1), tempfile::tempdir().unwrap(), name("a.example"));
    let serving = plane.serve().await;
    let daemon = Daemon::start(&config(dir.path(), &[format!("http://{}", serving.address)])).await;
    let generation = plane.zone(&zone, 5);
    let (rtype, rdata) = (Rtype::from_int(65_280), vec![0xab, 0xcd].into());
    let create = Change::RecordCreate { owner: zone.clone(), rtype, ttl: 60, rdata };
    let created = plane.commit(&zone, Some(generation), vec![create]);
    plane.until_acked().await;
    let export = daemon.export("a.example").await.unwrap();
    assert!(export.contains("TYPE65280\t\\# 2 abcd"), "{export}");
    // Field 2000 of a change's oneof, in a set that is right but for it.
    let bad = Offset(created).next();
    let set = ChangeSet {
        zone: zone.clone(),
        generation: Generation(generation),
        first: bad,
        changes: vec![Change::ZoneDelete],
        override_guard: false,
    };
    let mut body = encode_set(&set).to_vec();
    body.extend_from_slice(&[0x22, 3, 0x82, 0x7d, 0]);
    plane.commit_bytes(bad, bad.next(), body.into());
    plane.until("the set is nacked", |heard| !heard.nacks.is_empty()).await;
    plane.heard(|heard| {
        assert_eq!((heard.nacks[0].first, heard.nacks[0].held), (bad, false));
        assert!(heard.nacks[0].reason.contains("does not know"), "{}", heard.nacks[0].reason);
    });
    assert_eq!(daemon.export("a.example").await.unwrap(), export, "it serves, and skips nothing");
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_log_is_never_applied_as_a_difference() {
    let (first, dir, zone) = (Plane::new(1), tempfile::tempdir().unwrap(), name("a.example"));
    first.zone(&zone, 5);
    let serving = first.serve().await;
    let address = serving.address;
    let config = config(dir.path(), &[format!("http://{address}")]);
    let daemon = Daemon::start(&config).await;
    first.until_acked().await;
    drop(serving);
    // A control plane that was lost and made anew: another log, with another zone in it.
    let second = Plane::new(2);
    second.zone(&name("b.example"), 700);
    second.edit(&name("b.example"), 1, 3, 3);
    let _serving = second.serve_at(address).await;
    second.until_acked().await;
    assert!(daemon.export("a.example").await.is_err());
    assert_eq!(daemon.export("b.example").await.unwrap().lines().count(), 700);
    let status = daemon.status().await;
    assert_eq!(status.durable.as_ref().unwrap().log_id, [2; 16].as_slice());
    assert_eq!((offset(&status), status.boot_epoch), (702, 1));
    assert_eq!(second.heard(|heard| heard.chunks), 7, "a snapshot, and no difference");
    daemon.stop().await;
    // The next start trusts what it finds.
    let daemon = Daemon::start(&config).await;
    assert_eq!(daemon.status().await.resumed_from, 702);
    assert_eq!(quarantines(dir.path()), 0);
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn other_zones_in_the_configuration_come_by_a_snapshot() {
    let (plane, dir, zone) = (Plane::new(1), tempfile::tempdir().unwrap(), name("a.example"));
    plane.zone(&zone, 5);
    let serving = plane.serve().await;
    let mut config = config(dir.path(), &[format!("http://{}", serving.address)]);
    let daemon = Daemon::start(&config).await;
    plane.until_acked().await;
    daemon.stop().await;
    config.zones = Zones::List(vec!["a.example".to_owned()]);
    let daemon = Daemon::start(&config).await;
    let acked_anew = |heard: &crate::plane::Heard| {
        heard.acks.iter().filter(|ack| (ack.first.0, ack.last.0) == (1, 6)).count() == 2
    };
    plane.until("a snapshot is taken", acked_anew).await;
    let status = daemon.status().await;
    assert_eq!((offset(&status), status.resumed_from, status.boot_epoch), (6, 6, 2));
    assert_eq!(quarantines(dir.path()), 0);
    daemon.stop().await;
    let daemon = Daemon::start(&config).await;
    plane.until("it comes again", |heard| heard.hellos.len() == 3).await;
    daemon.until("it is in session", |s| s.link() == LinkState::Connected).await;
    assert_eq!(plane.heard(|heard| heard.chunks), 1, "the store is for these zones now");
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edge_has_the_zones_that_it_may_have_and_all_of_them_when_it_may() {
    let (plane, dir) = (Plane::new(1), tempfile::tempdir().unwrap());
    let (ours, theirs) = (name("a.example"), name("a.test"));
    plane.zone(&ours, 5);
    let generation = plane.zone(&theirs, 7);
    plane.allow(&["example"]);
    let serving = plane.serve().await;
    let config = config(dir.path(), &[format!("http://{}", serving.address)]);
    let daemon = Daemon::start(&config).await;
    plane.until_acked().await;
    let status = daemon.until("it has what it may have", |s| s.records == 5).await;
    assert_eq!((status.zones, offset(&status)), (1, 14), "its position is that of all zones");
    // It is led past what it may not have.
    plane.edit(&theirs, generation, 1, 1);
    plane.until_acked().await;
    plane.zone(&name("b.example"), 2);
    plane.until_acked().await;
    assert_eq!(plane.heard(|heard| heard.hellos.len()), 1);
    daemon.until("a zone that is new below what it may have", |s| s.records == 7).await;
    daemon.stop().await;
    // The same again: it goes on where it was.
    let daemon = Daemon::start(&config).await;
    plane.until("it is back", |heard| heard.hellos.len() == 2).await;
    plane.zone(&name("c.example"), 1);
    plane.until_acked().await;
    assert_eq!(plane.heard(|heard| heard.chunks), 1, "but for the first there was no snapshot");
    daemon.stop().await;
    plane.allow(&["."]);
    let daemon = Daemon::start(&config).await;
    let status = daemon.until("it has all", |s| s.records == 15).await;
    assert_eq!(status.zones, 4);
    assert!(daemon.verify().await.mismatches.is_empty());
    assert!(plane.heard(|heard| heard.nacks.is_empty() && heard.repairs.is_empty()));
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_endpoint_is_passed_by_and_a_goodbye_is_heeded() {
    let (plane, dir) = (Plane::new(1), tempfile::tempdir().unwrap());
    plane.zone(&name("a.example"), 5);
    let serving = plane.serve().await;
    let urls = ["http://127.0.0.1:9".to_owned(), format!("http://{}", serving.address)];
    let daemon = Daemon::start(&config(dir.path(), &urls)).await;
    plane.until_acked().await;
    daemon.stop().await;
    plane.refuse(GoodbyeReason::Fenced, Duration::ZERO);
    let daemon = Daemon::start(&config(dir.path(), &urls)).await;
    let fenced = |s: &edgesync_proto::v1::EdgeStatus| s.reason.contains("goodbye");
    let status = daemon.until("it was fenced", fenced).await;
    assert_eq!(status.link, i32::from(LinkState::Disconnected));
    assert!(status.next_try.unwrap().seconds >= 28, "{:?}", status.next_try);
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_questions_are_answered_by_what_is_wrong() {
    let (plane, dir, zone) = (Plane::new(1), tempfile::tempdir().unwrap(), name("a.example"));
    plane.zone(&zone, 2);
    let serving = plane.serve().await;
    let daemon = Daemon::start(&config(dir.path(), &[format!("http://{}", serving.address)])).await;
    plane.until_acked().await;
    for (owner, rtype) in [("a..b", ""), ("", ""), ("a.example", "NOTYPE"), ("a.example", "ANY")] {
        let status = daemon.lookup(owner, rtype).await.unwrap_err();
        assert_eq!(status.code(), tonic::Code::InvalidArgument, "{owner} {rtype}");
    }
    let status = daemon.export("other.example").await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::NotFound);
    assert!(status.message().contains("other.example."));
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_daemon_on_the_directory_or_the_socket_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let nowhere = ["http://127.0.0.1:9".to_owned()];
    let first = config(dir.path(), &nowhere);
    let daemon = Daemon::start(&first).await;
    let start = |config: edgesync_daemon::config::Config| async move {
        run(config.settings().unwrap(), Surroundings::default(), async {}).await.unwrap_err()
    };
    let refused = start(first.clone()).await;
    assert!(matches!(refused, RunError::Lock(_)), "{refused}");
    let mut other = config(&dir.path().join("other"), &nowhere);
    other.socket = first.socket.clone();
    let refused = start(other).await;
    assert!(matches!(refused, RunError::Socket(_)), "{refused}");
    assert_eq!(daemon.status().await.edge_id, "edge-1");
    daemon.stop().await;
}
