//! Records that have rotted in the store, and an edge that stands still: found, told, and mended.

use std::{fs, path::Path};

use edgesync_proto::v1;

use crate::{
    daemon::{Daemon, config, offset},
    plane::{self, Plane, name},
};

fn url(serving: &plane::Serving) -> String {
    format!("http://{}", serving.address)
}

/// Takes one record out of a closed store, of which nothing else there tells.
fn rot(data_dir: &Path) {
    let config = sled::Config::new().path(data_dir.join("store")).segment_size(8 << 20);
    let store = config.flush_every_ms(None).open().unwrap();
    let (key, _) = store.scan_prefix(b"r").next().unwrap().unwrap();
    store.remove(key).unwrap();
    store.flush().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_verification_finds_while_nobody_is_there_is_mended_when_somebody_is() {
    let dir = tempfile::tempdir().unwrap();
    let plane = Plane::new(1);
    plane.zone(&name("a.example"), 20);
    plane.zone(&name("b.example"), 5);
    let serving = plane.serve().await;
    let (control, address) = ([url(&serving)], serving.address);
    let daemon = Daemon::start(&config(dir.path(), &control)).await;
    plane.until_acked().await;
    daemon.stop().await;
    drop(serving);
    rot(&dir.path().join("data"));
    let daemon = Daemon::start(&config(dir.path(), &control)).await;
    for _ in 0..2 {
        let verified = daemon.verify().await;
        let [found] = &verified.mismatches[..] else { panic!("{verified:?}") };
        assert_eq!(
            (&*found.origin, found.expected_records, found.found_records),
            ("a.example.", 20, 19)
        );
    }
    assert_eq!(daemon.status().await.drifts, 1, "it is one drift, found twice");
    let _serving = plane.serve_at(address).await;
    let status = daemon.until("it is mended", |s| s.repairs == 1).await;
    assert_eq!((status.records, status.drifts), (25, 1));
    assert!(daemon.verify().await.mismatches.is_empty());
    assert_eq!(plane.heard(|heard| heard.repairs.clone()), [name("a.example")]);
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_edge_tells_the_control_plane_and_whoever_resumes_it() {
    let dir = tempfile::tempdir().unwrap();
    let plane = Plane::new(1);
    plane.zone(&name("a.example"), 5);
    let serving = plane.serve().await;
    let daemon = Daemon::start(&config(dir.path(), &[url(&serving)])).await;
    plane.until_acked().await;
    fs::write(dir.path().join("data/freeze"), "").unwrap();
    let is_told = |heard: &plane::Heard| {
        heard.paused.iter().any(|pause| pause.is_frozen && pause.why.contains("frozen by"))
    };
    plane.until("it says that it is paused", is_told).await;
    assert_eq!(offset(&daemon.status().await), 6);
    let request = v1::ResumeEdgeRequest { principal: "anna".to_owned() };
    let refused = daemon.client().await.resume_edge(request).await.unwrap_err();
    assert!(refused.message().contains("frozen by"), "{refused}");
    daemon.stop().await;
}
