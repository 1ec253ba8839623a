//! Snapshots, drift and halts, as an edge lives through them.

use std::{
    fs,
    time::{Duration, Instant},
};

use edgesync_core::{change::Change, fold::ZoneStates, position::Offset, record::RecordId};
use edgesync_host::audit;
use edgesync_proto::v1;

use crate::{
    daemon::{Daemon, config, offset},
    plane::{self, Plane, name, owner},
    snapshot::forged,
};

fn url(serving: &plane::Serving) -> String {
    format!("http://{}", serving.address)
}

/// An edge with a zone of so many records that was away while the log was compacted.
async fn left_behind(records: u64) -> (tempfile::TempDir, Plane, u64) {
    let dir = tempfile::tempdir().unwrap();
    let plane = Plane::new(1);
    let generation = plane.zone(&name("a.example"), records);
    let serving = plane.serve().await;
    let daemon = Daemon::start(&config(dir.path(), &[url(&serving)])).await;
    plane.until_acked().await;
    daemon.stop().await;
    drop(serving);
    for n in 1..=records {
        plane.edit(&name("a.example"), generation, n, 7);
    }
    plane.compact();
    plane.zone(&name("b.example"), 3);
    (dir, plane, generation)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edge_behind_the_log_takes_a_snapshot_and_serves_the_old_until_it_is_whole() {
    let (dir, plane, _) = left_behind(950).await;
    let serving = plane.serve().await;
    // The stream is cut within the snapshot: what is there does not come again.
    plane.pause_chunks(Duration::from_millis(50));
    plane.cut_after(5);
    let daemon = Daemon::start(&config(dir.path(), &[url(&serving)])).await;
    plane.until("chunks are staged", |heard| heard.staged.iter().any(|s| s.next >= 2)).await;
    let status = daemon.status().await;
    assert_eq!((status.records, offset(&status)), (950, 951), "the old is served");
    plane.until_acked().await;
    let status = daemon.until("it is current", |s| s.records == 953).await;
    assert_eq!(status.zones, 2);
    assert!(status.snapshot.is_none());
    let (chunks, hellos) = plane.heard(|heard| (heard.chunks, heard.hellos.clone()));
    assert!((10..=14).contains(&chunks), "{chunks} chunks of 10: what was staged came again");
    assert!(hellos.iter().any(|hello| hello.staged.is_some_and(|staged| staged.next > 0)));
    assert!(daemon.verify().await.mismatches.is_empty());
    assert_eq!(
        fs::read_dir(dir.path().join("data"))
            .unwrap()
            .filter(|entry| {
                entry.as_ref().unwrap().file_name().to_string_lossy().contains("quarantine")
            })
            .count(),
        0
    );
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_log_is_taken_whole_behind_the_guard() {
    let dir = tempfile::tempdir().unwrap();
    let first = Plane::new(1);
    first.zone(&name("a.example"), 100);
    let serving = first.serve().await;
    let daemon = Daemon::start(&config(dir.path(), &[url(&serving)])).await;
    first.until_acked().await;
    daemon.stop().await;
    drop(serving);
    // A control plane of another log that has less than the edge: a person has to look.
    let other = Plane::new(2);
    other.zone(&name("b.example"), 20);
    let serving = other.serve().await;
    let daemon = Daemon::start(&config(dir.path(), &[url(&serving)])).await;
    let status = daemon.until("it is held", |s| s.link() == v1::LinkState::Held).await;
    assert!(status.reason.contains("80 of 100"), "{}", status.reason);
    assert_eq!((status.zones, status.records), (1, 100));
    assert!(daemon.export("a.example").await.is_ok(), "the old is served");
    let says_so = |times| {
        move |heard: &plane::Heard| heard.nacks.iter().filter(|halt| halt.held).count() >= times
    };
    other.until("it has said so", says_so(1)).await;
    // It is held over a reconnect, and says so again.
    let address = serving.address;
    drop(serving);
    let _serving = other.serve_at(address).await;
    other.until("it has said so again", says_so(2)).await;
    daemon.until("it is held", |s| s.link() == v1::LinkState::Held).await;
    let request = v1::ResumeEdgeRequest { principal: "anna".to_owned() };
    let resumed = daemon.client().await.resume_edge(request).await.unwrap().into_inner();
    assert!(resumed.reason.contains("80 of 100"));
    other.until_acked().await;
    let status = daemon.until("it is of the other log", |s| s.records == 20).await;
    assert_eq!(status.durable.unwrap().log_id, vec![2; 16]);
    assert!(daemon.export("a.example").await.is_err());
    let request = v1::ResumeEdgeRequest { principal: "anna".to_owned() };
    assert!(daemon.client().await.resume_edge(request).await.is_err(), "it is not halted");
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_that_is_not_what_it_says_is_fetched_anew() {
    let (dir, plane, _) = left_behind(300).await;
    let mut forgeries = 2;
    plane.forge(move |chunk| {
        if forgeries == 0 {
            return chunk;
        }
        forgeries -= 1;
        if forgeries == 1 {
            return edgesync_core::snapshot::Chunk { body: vec![0; 9].into(), ..chunk };
        }
        forged(&chunk, &name("c.example"), &ZoneStates::default())
    });
    let serving = plane.serve().await;
    let daemon = Daemon::start(&config(dir.path(), &[url(&serving)])).await;
    plane.until_acked().await;
    daemon.until("it is current", |s| s.records == 303).await;
    assert!(daemon.verify().await.mismatches.is_empty());
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_zone_that_has_drifted_is_repaired_by_its_own_snapshot() {
    let dir = tempfile::tempdir().unwrap();
    let plane = Plane::new(1);
    let (a, b) = (name("a.example"), name("b.example"));
    let generation = plane.zone(&a, 150);
    plane.zone(&b, 5);
    let serving = plane.serve().await;
    let daemon = Daemon::start(&config(dir.path(), &[url(&serving)])).await;
    plane.until_acked().await;
    // A set that this edge cannot apply, and skips: from then on its zone differs.
    let edit = Change::RecordEdit {
        id: RecordId(999_999),
        owner: owner(&a, 1),
        rtype: edgesync_core::Rtype::A,
        ttl: 1,
        rdata: plane::address(1),
    };
    let create = Change::RecordCreate {
        owner: owner(&a, 777),
        rtype: edgesync_core::Rtype::A,
        ttl: 60,
        rdata: plane::address(9),
    };
    plane.edit(&a, generation, 1, 5);
    let bad = plane.commit(&a, Some(generation), vec![create, edit]);
    let halted = daemon.until("it is halted", |s| s.link() == v1::LinkState::Halted).await;
    assert_eq!(offset(&halted), bad - 1);
    let skip = |first| v1::SkipChangeSetRequest { first, principal: "anna".to_owned() };
    let mut client = daemon.client().await;
    let wrong = client.skip_change_set(skip(bad - 1)).await.unwrap_err();
    assert!(wrong.message().contains(&format!("offset {bad}")), "{wrong}");
    let skipped = client.skip_change_set(skip(bad)).await.unwrap().into_inner();
    assert_eq!(skipped.last, bad + 1);
    let mut audited = Vec::new();
    audit::verify(&dir.path().join("data/audit.log"), |line| audited.push(line.to_owned()))
        .unwrap();
    for (line, result) in audited.iter().zip(["asked", "refused", "asked", "ok"]) {
        assert!(line.contains(&format!("\"result\":\"{result}\"")), "{line}");
        assert!(line.contains("\"who\":\"anna\",\"peer\":\"uid "), "{line}");
    }
    assert_eq!(audited.len(), 4);
    plane.until_acked().await;
    // The plane's own fold has the created record: the digests differ, and the zone is fetched.
    plane.until("a repair is asked for", |heard| !heard.repairs.is_empty()).await;
    let status = daemon.until("it is repaired", |s| s.repairs == 1).await;
    assert_eq!((status.records, status.drifts >= 1), (156, true));
    assert!(plane.heard(|heard| heard.repairs.iter().all(|zone| *zone == a)));
    assert!(daemon.verify().await.mismatches.is_empty());
    plane.edit(&a, generation, 2, 6);
    plane.until_acked().await;
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_edge_keeps_its_session_and_goes_on_when_the_file_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let plane = Plane::new(1);
    let a = name("a.example");
    let generation = plane.zone(&a, 5);
    let serving = plane.serve().await;
    let daemon = Daemon::start(&config(dir.path(), &[url(&serving)])).await;
    plane.until_acked().await;
    let freeze = dir.path().join("data/freeze");
    fs::write(&freeze, "").unwrap();
    daemon.until("it says so", |s| s.paused.contains("freeze")).await;
    plane.edit(&a, generation, 1, 1);
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(3) {
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert_eq!(offset(&daemon.status().await), 6);
    }
    assert_eq!(plane.heard(|heard| heard.hellos.len()), 1, "the session has lived on");
    assert!(plane.heard(|heard| heard.acks.iter().all(|ack| ack.last <= Offset(6))));
    fs::remove_file(freeze).unwrap();
    plane.until_acked().await;
    daemon.until("it goes on", |s| s.paused.is_empty() && offset(s) == 7).await;
    daemon.stop().await;
}
