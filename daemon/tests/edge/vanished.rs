//! F-57: the store's files are removed or replaced while the daemon runs. It notices, acks nothing that
//! could not be found again, serves what it has, and begins anew at the next start.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use edgesync_proto::v1::LinkState;

use crate::{
    daemon::{Daemon, config, offset},
    plane::{Plane, name},
};

/// Copies a directory with all that is in it.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy(&entry.path(), &to),
            false => drop(fs::copy(entry.path(), to).unwrap()),
        }
    }
}

/// What is done to a running edge's data directory, given an older copy of it.
type Deed = fn(&Path, &Path);

const DEEDS: [(&str, Deed); 4] = [
    ("store removed", |data, _| fs::remove_dir_all(data.join("store")).unwrap()),
    ("all removed", |data, _| fs::remove_dir_all(data).unwrap()),
    ("store replaced", |data, older| {
        fs::remove_dir_all(data.join("store")).unwrap();
        copy(&older.join("store"), &data.join("store"));
    }),
    ("all replaced", |data, older| {
        fs::remove_dir_all(data).unwrap();
        copy(older, data);
    }),
];

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_vanishes_is_noticed_nothing_more_is_acked_and_what_there_was_is_served() {
    for (number, (what, deed)) in DEEDS.into_iter().enumerate() {
        let (plane, dir, zone) = (Plane::new(1), tempfile::tempdir().unwrap(), name("a.example"));
        let (data, older) = (dir.path().join("data"), dir.path().join("older"));
        let generation = plane.zone(&zone, 50);
        let serving = plane.serve().await;
        let config = config(dir.path(), &[format!("http://{}", serving.address)]);
        let daemon = Daemon::start(&config).await;
        plane.until_acked().await;
        daemon.stop().await;
        copy(&data, &older);
        let daemon = Daemon::start(&config).await;
        plane.edit(&zone, generation, 1, 7);
        plane.until_acked().await;
        let has = daemon.status().await;

        deed(&data, &older);
        // With something to apply at once, and without: it is noticed in any case.
        let acks = plane.heard(|heard| heard.acks.len());
        if number % 2 == 0 {
            plane.edit(&zone, generation, 2, 8);
        }
        let begin = Instant::now();
        let status = daemon.until("it has noticed", |s| s.link() == LinkState::Halted).await;
        assert!(begin.elapsed() < Duration::from_secs(5), "{what}: {:?}", begin.elapsed());
        assert!(status.reason.contains("store/db was re"), "{what}: {}", status.reason);
        assert!(status.reason.contains("restart"), "{what}: {}", status.reason);
        assert_eq!(offset(&status), offset(&has), "{what}");
        plane.edit(&zone, generation, 3, 9);
        tokio::time::sleep(Duration::from_millis(700)).await;
        plane.heard(|heard| {
            let past = |ack: &&edgesync_core::session::Ack| ack.last.0 > offset(&has);
            assert_eq!(heard.acks[acks..].iter().find(past), None, "{what}: acked into nowhere");
        });
        // What was applied when it was noticed may be seen; it was never acked.
        let served = daemon.export("a.example").await.unwrap();
        assert_eq!(served.lines().count(), 50, "{what}: it serves on");
        assert!(served.contains("0.0.0.7") && !served.contains("0.0.0.9"), "{what}");
        daemon.stop().await;

        // What stands there is judged by itself: nothing, or an older store that goes on from there.
        let daemon = Daemon::start(&config).await;
        let resumed = if what.ends_with("replaced") { 51 } else { 0 };
        assert_eq!(daemon.status().await.resumed_from, resumed, "{what}");
        plane
            .until("it is current", |heard| {
                heard.acks.iter().any(|a| a.last == plane.head().offset)
            })
            .await;
        assert_eq!(daemon.verify().await.mismatches, [], "{what}");
        daemon.stop().await;
    }
}
