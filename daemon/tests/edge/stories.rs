//! What is to happen when all goes well, and when streams are cut or processes end.

use std::collections::BTreeMap;

use edgesync_core::position::Offset;
use edgesync_proto::v1::{self, LinkState};

use crate::{
    daemon::{Daemon, config, offset},
    plane::{Plane, name},
};

fn url(serving: &crate::plane::Serving) -> Vec<String> {
    vec![format!("http://{}", serving.address)]
}

/// The addresses that an export has, as the numbers that they were made of.
fn values(export: &str) -> Vec<u32> {
    let address = |line: &str| line.rsplit('\t').next().unwrap().parse::<std::net::Ipv4Addr>();
    export.lines().map(|line| u32::from(address(line).unwrap())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_are_applied_acked_once_and_served() {
    let (plane, dir, zone) = (Plane::new(1), tempfile::tempdir().unwrap(), name("a.example"));
    let generation = plane.zone(&zone, 30);
    let serving = plane.serve().await;
    let daemon = Daemon::start(&config(dir.path(), &url(&serving))).await;
    for value in 1..=200 {
        plane.edit(&zone, generation, u64::from(value % 30 + 1), value);
    }
    plane.until_acked().await;
    let head = plane.head();
    let status = daemon.until("the head is heard", |s| s.head == head.offset.0).await;
    assert_eq!(status.link, i32::from(LinkState::Connected));
    assert_eq!((offset(&status), status.applied_changes, status.duplicate_changes), (231, 231, 0));
    assert_eq!(
        (status.zones, status.records, status.resumed_from, status.boot_epoch),
        (1, 30, 0, 1)
    );
    assert_eq!(status.durable.as_ref().unwrap().history_hash, head.hash.0.as_slice());
    // Each offset is acked once, without gaps.
    plane.heard(|heard| {
        let mut acked = 0;
        for ack in heard.acks.iter().filter(|ack| ack.first <= ack.last) {
            assert_eq!(ack.first.0, acked + 1);
            acked = ack.last.0;
        }
        assert_eq!(acked, 231);
    });
    assert_eq!(values(&daemon.export("A.example").await.unwrap()).len(), 30);
    let found = daemon.lookup("host-0011.a.example", "A").await.unwrap();
    assert_eq!((found.len(), found[0].rdata.as_str()), (1, "0.0.0.190"));
    assert_eq!(daemon.lookup("host-0011.a.example", "TXT").await.unwrap(), []);
    let verified = daemon.verify().await;
    assert_eq!((verified.records, verified.mismatches.len()), (30, 0));
    daemon.stop().await;
    assert!(!dir.path().join("edge.sock").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_cut_anywhere_resumes_at_the_durable_offset_and_applies_all_once() {
    let (plane, dir, zone) = (Plane::new(1), tempfile::tempdir().unwrap(), name("a.example"));
    let serving = plane.serve().await;
    let daemon = Daemon::start(&config(dir.path(), &url(&serving))).await;
    let generation = plane.zone(&zone, 50);
    let mut value = 0;
    for cut in [0, 1, 2, 3, 5, 8, 13, 21] {
        plane.cut_after(cut);
        for _ in 0..40 {
            value += 1;
            plane.edit(&zone, generation, u64::from(value % 50 + 1), value);
        }
        plane.until_acked().await;
    }
    let status = daemon.status().await;
    assert_eq!(
        (offset(&status), status.applied_changes),
        (51 + u64::from(value), 51 + u64::from(value))
    );
    // By the effects, not by counts: each record has its last value.
    let mut wanted = values(&daemon.export("a.example").await.unwrap());
    wanted.sort_unstable();
    assert_eq!(wanted, (value - 49..=value).collect::<Vec<_>>());
    plane.heard(|heard| {
        assert!(heard.hellos.len() > 8, "{} hellos", heard.hellos.len());
        // Nothing that was acked is asked for again, and no Hello goes back.
        let mut before = Offset::ZERO;
        for hello in &heard.hellos {
            let offset = hello.position.map_or(Offset::ZERO, |position| position.offset);
            assert!(offset >= before);
            before = offset;
        }
        let mut times = BTreeMap::new();
        heard.sent.iter().for_each(|set| *times.entry(*set).or_insert(0) += 1);
        assert!(times.values().all(|times| *times <= 9));
    });
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_daemon_serves_at_once_and_resumes_when_the_control_plane_is_back() {
    let (plane, dir, zone) = (Plane::new(1), tempfile::tempdir().unwrap(), name("a.example"));
    let generation = plane.zone(&zone, 10);
    let serving = plane.serve().await;
    let (address, config) = (serving.address, config(dir.path(), &url(&serving)));
    let daemon = Daemon::start(&config).await;
    plane.until_acked().await;
    daemon.stop().await;
    drop(serving);
    // The control plane is down: what is there is served, and it says that it is not connected.
    let daemon = Daemon::start(&config).await;
    assert_eq!(values(&daemon.export("a.example").await.unwrap()), [0; 10]);
    let status = daemon.until("a try has failed", |s| s.reason.contains("cannot connect")).await;
    assert_ne!(status.link, i32::from(LinkState::Connected));
    assert_eq!((offset(&status), status.resumed_from, status.boot_epoch), (11, 11, 2));
    plane.edit(&zone, generation, 1, 7);
    let _serving = plane.serve_at(address).await;
    plane.until_acked().await;
    let status = daemon.status().await;
    assert_eq!((offset(&status), status.applied_changes, status.duplicate_changes), (12, 1, 0));
    plane.heard(|heard| {
        let hello = heard.hellos.last().unwrap();
        assert_eq!((hello.position.unwrap().offset, hello.boot_epoch), (Offset(11), 2));
        assert_ne!(hello.instance, heard.hellos[0].instance);
        assert_eq!(heard.sent.last(), Some(&(Offset(12), Offset(12))));
        assert_eq!(heard.sent.len(), 2, "nothing is sent twice");
    });
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_that_is_stopped_under_load_has_acked_what_it_has() {
    let (plane, dir, zone) = (Plane::new(1), tempfile::tempdir().unwrap(), name("a.example"));
    let generation = plane.zone(&zone, 50);
    let serving = plane.serve().await;
    let config = config(dir.path(), &url(&serving));
    let writer = {
        let (plane, zone) = (plane.clone(), zone.clone());
        tokio::spawn(async move {
            for value in 1..=3_000u32 {
                plane.edit(&zone, generation, u64::from(value % 50 + 1), value);
                if value % 20 == 0 {
                    tokio::time::sleep(std::time::Duration::from_millis(2)).await;
                }
            }
        })
    };
    let mut resumed = Vec::new();
    for _ in 0..4 {
        let daemon = Daemon::start(&config).await;
        resumed.push(offset(&daemon.status().await));
        tokio::time::sleep(std::time::Duration::from_millis(40)).await;
        daemon.stop().await;
        let acked = plane.heard(|heard| heard.acks.iter().map(|ack| ack.last).max());
        let daemon = Daemon::start(&config).await;
        let found = Offset(daemon.status().await.resumed_from);
        assert!(Some(found) >= acked, "acked {acked:?}, found {found}");
        daemon.stop().await;
    }
    assert!(resumed.is_sorted());
    writer.await.unwrap();
    let daemon = Daemon::start(&config).await;
    plane.until_acked().await;
    let mut wanted = values(&daemon.export("a.example").await.unwrap());
    wanted.sort_unstable();
    assert_eq!(wanted, (2_951..=3_000).collect::<Vec<_>>());
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn large_sets_arrive_in_parts_and_are_applied_whole() {
    let (plane, dir, zone) = (Plane::new(1), tempfile::tempdir().unwrap(), name("large.example"));
    let serving = plane.serve().await;
    let daemon = Daemon::start(&config(dir.path(), &url(&serving))).await;
    let generation = plane.zone(&zone, 20_000);
    let edits = (1..=20_000).map(|n| edgesync_core::change::Change::RecordEdit {
        id: edgesync_core::record::RecordId(generation + n),
        owner: crate::plane::owner(&zone, n),
        rtype: edgesync_core::Rtype::A,
        ttl: 60,
        rdata: crate::plane::address(9),
    });
    plane.commit(&zone, Some(generation), edits.collect());
    let reads = std::cell::Cell::new(0);
    let reading = async {
        loop {
            if let Ok(text) = daemon.export("large.example").await {
                reads.set(reads.get() + 1);
                let mut found = values(&text);
                assert_eq!(found.len(), 20_000);
                found.dedup();
                assert_eq!(found.len(), 1, "a part of a set was served");
            }
        }
    };
    tokio::select! {
        () = plane.until_acked() => {}
        () = reading => {}
    }
    assert!(reads.get() > 0, "nothing was read meanwhile");
    assert_eq!(values(&daemon.export("large.example").await.unwrap()), vec![9; 20_000]);
    assert_eq!(daemon.verify().await.mismatches, []);
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_status_can_be_watched() {
    let (plane, dir, zone) = (Plane::new(1), tempfile::tempdir().unwrap(), name("a.example"));
    let generation = plane.zone(&zone, 5);
    let serving = plane.serve().await;
    let daemon = Daemon::start(&config(dir.path(), &url(&serving))).await;
    let begin = std::time::Instant::now();
    let watch = daemon.client().await.watch_status(v1::WatchStatusRequest {}).await;
    let mut watch = watch.unwrap().into_inner();
    let (mut seen, mut last) = (0u32, 0);
    for value in 1..=100 {
        plane.edit(&zone, generation, 1, value);
    }
    while last < 106 {
        assert!(begin.elapsed() < std::time::Duration::from_secs(30), "at {last}");
        let message = tokio::time::timeout(std::time::Duration::from_secs(30), watch.message());
        let status = message.await.unwrap().unwrap().unwrap().status.unwrap();
        last = offset(&status);
        seen += 1;
    }
    assert!(
        begin.elapsed() >= (seen - 1) * std::time::Duration::from_millis(95),
        "at most ten a second"
    );
    daemon.stop().await;
    // The end of the daemon is the end of the watch.
    let ended = async { while let Ok(Some(_)) = watch.message().await {} };
    tokio::time::timeout(std::time::Duration::from_secs(30), ended).await.unwrap();
}
