//! Zone import, through the stream; what takes several sets is tested beside the code, with small
//! limits.

use edgesync_proto::v1;
use tonic::{Code, Status};

use crate::harness::{Control, ZONE, refused};

const FILE: &str =
    "$TTL 300\n@ SOA ns1 hostmaster 1 1800 900 604800 300\n@ NS ns1\nwww A 192.0.2.1\n";

fn messages(text: &str, key: &str, chunk: usize) -> Vec<v1::ImportZoneRequest> {
    let chunks = text.as_bytes().chunks(chunk);
    let message = |text: &[u8]| v1::ImportZoneRequest {
        text: bytes::Bytes::copy_from_slice(text),
        ..Default::default()
    };
    let mut messages: Vec<_> = chunks.map(message).collect();
    messages.insert(
        0,
        v1::ImportZoneRequest {
            zone: ZONE.to_owned(),
            idempotency_key: key.to_owned(),
            ..Default::default()
        },
    );
    messages.last_mut().unwrap().last = true;
    messages
}

async fn send(
    control: &Control,
    messages: Vec<v1::ImportZoneRequest>,
) -> Result<v1::ImportZoneResponse, Status> {
    let answer = control.records().import_zone(tokio_stream::iter(messages)).await;
    answer.map(tonic::Response::into_inner)
}

async fn import(control: &Control, text: &str) -> Result<v1::ImportZoneResponse, Status> {
    send(control, messages(text, "", 7)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_creates_its_zone_and_then_changes_it_by_the_difference() {
    let control = Control::start().await;
    let made = import(&control, FILE).await.unwrap();
    assert_eq!((made.created, made.change_sets, made.zone_created), (3, 1, true));
    let lines = control.lines(ZONE).await;
    assert_eq!(lines.len(), 3);

    let same = import(&control, FILE).await.unwrap();
    assert_eq!(same, v1::ImportZoneResponse::default(), "nothing differs, nothing is written");

    let next = FILE.replace("hostmaster 1 ", "hostmaster 2 ").replace("192.0.2.1", "192.0.2.2")
        + "mail A 192.0.2.3\n";
    let changed = import(&control, &next).await.unwrap();
    assert_eq!((changed.created, changed.edited, changed.deleted), (1, 2, 0));
    assert!(!changed.zone_created);
    let receipt = changed.receipt.unwrap();
    assert_eq!(receipt.position.unwrap().offset, receipt.first + 2, "one set");
    let lines = control.lines(ZONE).await;
    assert!(lines.contains(&"www.example.com. 300 A 192.0.2.2".to_owned()), "{lines:?}");

    let fewer = FILE.replace("hostmaster 1 ", "hostmaster 3 ");
    let changed = import(&control, &fewer).await.unwrap();
    assert_eq!((changed.created, changed.edited, changed.deleted), (0, 2, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_serial_that_does_not_rise_is_refused() {
    let control = Control::start().await;
    import(&control, &FILE.replace("hostmaster 1 ", "hostmaster 5 ")).await.unwrap();
    let head = control.head().await;
    let stays = FILE.replace("hostmaster 1 ", "hostmaster 5 ") + "more A 192.0.2.9\n";
    let told = refused(Code::FailedPrecondition, import(&control, &stays).await);
    assert!(told.contains("serial 5") && told.contains("raise"), "{told}");
    let falls = FILE.replace("hostmaster 1 ", "hostmaster 4 ");
    let told = refused(Code::FailedPrecondition, import(&control, &falls).await);
    assert!(told.contains("from 5 to 4"), "{told}");
    assert_eq!(control.head().await, head);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_file_is_refused_and_changes_nothing() {
    let control = Control::start().await;
    for (text, code, part) in [
        (FILE.to_owned() + "x A 192.0.2\n", Code::InvalidArgument, "5:"),
        (FILE.to_owned() + "x.org. A 192.0.2.1\n", Code::InvalidArgument, "outside the zone"),
        (FILE.to_owned() + "www CNAME x\n", Code::FailedPrecondition, "CNAME"),
        ("@ 60 NS ns1\n".to_owned(), Code::FailedPrecondition, "SOA"),
        ("; nothing\n".to_owned(), Code::InvalidArgument, "no record"),
        (String::new(), Code::InvalidArgument, "no record"),
        ("$INCLUDE other\n".to_owned(), Code::InvalidArgument, "INCLUDE"),
    ] {
        let told = refused(code, import(&control, &text).await);
        assert!(told.contains(part), "{told}");
    }
    let told =
        refused(Code::InvalidArgument, import(&control, &(FILE.to_owned() + "x A 1\n")).await);
    assert!(told.starts_with("5:"), "a client puts the file's name before it: {told}");
    assert_eq!(control.head().await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_was_broken_on_the_way_imports_nothing() {
    let control = Control::start().await;
    let mut broken = messages(FILE, "", 20);
    broken.pop();
    let told = refused(Code::InvalidArgument, send(&control, broken).await);
    assert!(told.contains("last"), "{told}");
    let mut more = messages(FILE, "", 20);
    more.push(v1::ImportZoneRequest::default());
    refused(Code::InvalidArgument, send(&control, more).await);
    refused(Code::InvalidArgument, send(&control, Vec::new()).await);
    let mut two = messages(FILE, "", 20);
    two[1].zone = "example.org".to_owned();
    refused(Code::InvalidArgument, send(&control, two).await);
    assert_eq!(control.head().await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_import_does_not_undo_what_came_after_the_first() {
    let control = Control::start().await;
    let first = send(&control, messages(FILE, "once", 20)).await.unwrap().receipt.unwrap();
    control.create("later", "A", "192.0.2.1").await.unwrap();
    let head = control.head().await;
    let again = send(&control, messages(FILE, "once", 9)).await.unwrap().receipt.unwrap();
    assert!(again.replayed);
    assert_eq!(v1::Receipt { replayed: false, ..again }, first);
    let other = FILE.replace("hostmaster 1 ", "hostmaster 9 ");
    refused(Code::FailedPrecondition, send(&control, messages(&other, "once", 20)).await);
    assert_eq!(control.head().await, head);
}
