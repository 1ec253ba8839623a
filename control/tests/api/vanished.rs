//! F-57: the log's file is removed or replaced while the control plane runs. No write is answered that
//! could not be found again, and the process ends with a line that says what to do.

use std::{fs, path::Path};

use edgesync_control::run::RunError;

use crate::harness::Control;

/// What is done to a running control plane's data directory.
type Deed = fn(&Path);

const DEEDS: [(&str, Deed); 3] = [
    ("removed", |dir| fs::remove_file(dir.join("log.redb")).unwrap()),
    ("removed", |dir| fs::remove_dir_all(dir).unwrap()),
    ("replaced", |dir| {
        fs::copy(dir.join("log.redb"), dir.join("copy")).unwrap();
        fs::rename(dir.join("copy"), dir.join("log.redb")).unwrap();
    }),
];

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_vanishes_answers_no_write_and_ends_the_control_plane_with_a_line() {
    for (what, deed) in DEEDS {
        for writes in [true, false] {
            let control = Control::with_zone().await;
            control.create("before", "A", "192.0.2.1").await.unwrap();
            deed(control.dir());
            if writes {
                let answer = control.create("after", "A", "192.0.2.2").await;
                assert!(answer.is_err(), "{what}: acknowledged into a file that nobody can open");
            }
            let error = control.ended().await.unwrap_err();
            assert!(matches!(error, RunError::Gone(_)), "{error}");
            let line = error.to_string();
            for part in ["log.redb", what, "restore a backup"] {
                assert!(line.contains(part), "{line}");
            }
            assert_eq!(line.lines().count(), 1, "{line}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_of_snapshots_that_vanishes_is_made_again() {
    use edgesync_proto::v1::{CompactLogRequest, sync_response::Message};
    let control = Control::with_zone().await;
    fs::remove_dir_all(control.dir().join("snapshots")).unwrap();
    let upto = control.head().await;
    control.fleet().compact_log(CompactLogRequest { upto }).await.unwrap();
    let mut edge = crate::harness::Edge::connect(&control, "edge-of-snapshots").await;
    let next = edge.next().await;
    assert!(matches!(next, Some(Message::SnapshotBegin(_))), "{next:?}");
    control.stop().await;
}
