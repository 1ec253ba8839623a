//! A log in which bits have turned while nobody looked (invariant 17): what is damaged is given to
//! nobody, and all else goes on.

use edgesync_proto::v1::{self, sync_response::Message};
use tonic::Code;

use crate::harness::{Control, Edge, ZONE, data, refused, within};

const NEEDLE: &str = "a-text-that-stands-nowhere-else";

/// Turns a bit wherever the text stands in the log's file: in the change set and in the record.
fn damage(dir: &std::path::Path) -> usize {
    let path = dir.join("log.redb");
    let mut file = std::fs::read(&path).unwrap();
    let found: Vec<_> =
        (0..file.len()).filter(|at| file[*at..].starts_with(NEEDLE.as_bytes())).collect();
    found.iter().for_each(|at| file[*at] ^= 1);
    std::fs::write(&path, file).unwrap();
    found.len()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_damaged_is_given_to_nobody_and_all_else_goes_on() {
    let control = Control::with_zone().await;
    control.create_zone("other.example").await.unwrap();
    let before = control.head().await;
    control.create("needle", "TXT", NEEDLE).await.unwrap();
    // More than is read at once: what comes before the head is proved by itself.
    let text = vec![format!("\"{}\"", "x".repeat(250)); 200].join(" ");
    for number in 0..30 {
        control.create(&format!("after-{number}"), "TXT", &text).await.unwrap();
    }
    let dir = control.stop().await;
    assert!(damage(dir.path()) >= 2);

    let control = Control::start_in(dir).await;
    let mut edge = Edge::connect(&control, "edge-of-damage").await;
    within(async {
        while let Some(message) = edge.next().await {
            if let Message::Frame(frame) = message {
                assert!(frame.sets.iter().all(|set| set.last <= before), "a damaged set was sent");
            }
        }
    })
    .await;
    let page = control.page("/metrics").await;
    assert!(page.contains("edgesync_control_session_ends_total{reason=\"log_failed\"}"), "{page}");
    assert!(!page.contains("edgesync_control_corrupt_reads_total 0"), "{page}");

    let list = v1::ListRecordsRequest { zone: ZONE.to_owned(), ..Default::default() };
    let told = refused(Code::DataLoss, control.list(list).await);
    assert!(told.contains("needle"), "{told}");
    let told = refused(Code::DataLoss, control.create("needle", "TXT", "more").await);
    assert!(told.contains("restore a backup"), "{told}");
    assert_eq!(control.lines("other.example").await.len(), 2);
    control.create_keyed(data("beside", "A", "192.0.2.2"), "").await.unwrap();
    control.stop().await;
}
