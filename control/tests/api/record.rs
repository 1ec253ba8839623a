//! One record at a time, and lists.

use edgesync_control::config::SoaSerial;
use edgesync_proto::v1;
use tonic::Code;

use crate::harness::{Control, ZONE, data, line, refused};

async fn edit(
    control: &Control,
    request: v1::EditRecordRequest,
) -> Result<v1::EditRecordResponse, tonic::Status> {
    control.records().edit_record(request).await.map(tonic::Response::into_inner)
}

async fn delete(
    control: &Control,
    id: u64,
    if_version: u64,
    key: &str,
) -> Result<v1::DeleteRecordResponse, tonic::Status> {
    let idempotency_key = key.to_owned();
    let request = v1::DeleteRecordRequest { id, if_version, idempotency_key, ..Default::default() };
    control.records().delete_record(request).await.map(tonic::Response::into_inner)
}

async fn get(control: &Control, id: u64) -> Result<v1::Record, tonic::Status> {
    let answer = control.records().get_record(v1::GetRecordRequest { id }).await?;
    Ok(answer.into_inner().record.unwrap())
}

async fn serial(control: &Control) -> u32 {
    let request = v1::GetZoneRequest { origin: ZONE.to_owned() };
    control.zones().get_zone(request).await.unwrap().into_inner().zone.unwrap().serial
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_is_created_edited_and_deleted_with_receipts_in_order() {
    let control = Control::with_zone().await;
    let made = control.create("WWW", "A", "192.0.2.1").await.unwrap();
    let (record, receipt) = (made.record.unwrap(), made.receipt.unwrap());
    assert_eq!(line(&record), "www.example.com. 300 A 192.0.2.1");
    assert_eq!((record.id, record.version), (receipt.first, receipt.first));
    assert_eq!(record.zone, "example.com.");
    // The record, and the SOA that was raised with it.
    assert_eq!(receipt.position.unwrap().offset, receipt.first + 1);
    assert_eq!(serial(&control).await, 2);
    assert_eq!(get(&control, record.id).await.unwrap(), record);

    let rdata = Some("192.0.2.9".to_owned());
    let request = v1::EditRecordRequest {
        id: record.id,
        rdata,
        if_version: record.version,
        ..Default::default()
    };
    let edited = edit(&control, request).await.unwrap().record.unwrap();
    assert_eq!(line(&edited), "www.example.com. 300 A 192.0.2.9");
    assert!(edited.id == record.id && edited.version > record.version);
    assert_eq!(get(&control, record.id).await.unwrap(), edited);

    let receipt = delete(&control, record.id, edited.version, "").await.unwrap().receipt.unwrap();
    assert!(receipt.first > edited.version);
    let told = refused(Code::NotFound, get(&control, record.id).await);
    assert!(told.contains(&record.id.to_string()), "{told}");
    refused(Code::NotFound, delete(&control, record.id, 0, "").await);
    assert_eq!(serial(&control).await, 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_ttl_goes_to_the_whole_rrset_in_one_set() {
    let control = Control::with_zone().await;
    let one = control.create("www", "A", "192.0.2.1").await.unwrap().record.unwrap();
    let other = control.create("www", "A", "192.0.2.2").await.unwrap().record.unwrap();
    let request = v1::EditRecordRequest { id: one.id, ttl: Some(60), ..Default::default() };
    let edited = edit(&control, request).await.unwrap().record.unwrap();
    assert_eq!(edited.ttl, 60);
    assert_eq!(get(&control, other.id).await.unwrap().ttl, 60);
}

#[tokio::test(flavor = "multi_thread")]
async fn each_wrong_record_is_refused_with_its_code_and_changes_nothing() {
    let control = Control::with_zone().await;
    control.create("www", "A", "192.0.2.1").await.unwrap();
    let head = control.head().await;
    let ttl = |ttl, record| v1::RecordData { ttl, ..record };
    for (record, code, part) in [
        (data("www.example.net.", "A", "192.0.2.1"), Code::InvalidArgument, "outside the zone"),
        (data("x", "A", "192.0.2.300"), Code::InvalidArgument, "192.0.2.300"),
        (data("x", "NOTYPE", "1"), Code::InvalidArgument, "NOTYPE"),
        (data("x", "ANY", "\\# 0"), Code::InvalidArgument, "ANY"),
        (data("a..b", "A", "192.0.2.1"), Code::InvalidArgument, "a..b"),
        (ttl(1 << 31, data("x", "A", "192.0.2.1")), Code::InvalidArgument, "2147483648"),
        (data("www", "A", "192.0.2.1"), Code::AlreadyExists, "already"),
        (data("www", "CNAME", "ns1"), Code::FailedPrecondition, "CNAME"),
        (ttl(60, data("www", "A", "192.0.2.2")), Code::FailedPrecondition, "TTL"),
        (data("www", "SOA", "a b 1 2 3 4 5"), Code::FailedPrecondition, "SOA"),
        (data("@", "SOA", "a b 1 2 3 4 5"), Code::FailedPrecondition, "SOA"),
    ] {
        let told = refused(code, control.create_keyed(record, "").await);
        assert!(told.contains(part), "{told}");
    }
    let no_record = v1::CreateRecordRequest { zone: ZONE.to_owned(), ..Default::default() };
    refused(Code::InvalidArgument, control.records().create_record(no_record).await);
    let elsewhere = v1::CreateRecordRequest {
        zone: "example.org".to_owned(),
        record: Some(data("x", "A", "192.0.2.1")),
        ..Default::default()
    };
    refused(Code::NotFound, control.records().create_record(elsewhere).await);
    assert_eq!(control.head().await, head);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edit_needs_the_version_that_was_read() {
    let control = Control::with_zone().await;
    let record = control.create("www", "A", "192.0.2.1").await.unwrap().record.unwrap();
    let request = |if_version, rdata: &str| v1::EditRecordRequest {
        id: record.id,
        rdata: Some(rdata.to_owned()),
        if_version,
        ..Default::default()
    };
    edit(&control, request(record.version, "192.0.2.2")).await.unwrap();
    refused(Code::Aborted, edit(&control, request(record.version, "192.0.2.3")).await);
    refused(Code::Aborted, delete(&control, record.id, record.version, "").await);
    refused(Code::InvalidArgument, edit(&control, request(0, "x")).await);
    let nothing = v1::EditRecordRequest { id: record.id, ..Default::default() };
    refused(Code::InvalidArgument, edit(&control, nothing).await);
    let gone = v1::EditRecordRequest { id: 999, ttl: Some(1), ..Default::default() };
    refused(Code::NotFound, edit(&control, gone).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_call_gets_the_first_answer_even_when_the_record_has_gone_since() {
    let control = Control::with_zone().await;
    let first = control.create_keyed(data("www", "A", "192.0.2.1"), "c").await.unwrap();
    let id = first.record.as_ref().unwrap().id;
    let request = v1::EditRecordRequest {
        id,
        ttl: Some(60),
        idempotency_key: "e".to_owned(),
        ..Default::default()
    };
    let edited = edit(&control, request.clone()).await.unwrap();
    let deleted = delete(&control, id, 0, "d").await.unwrap();
    let head = control.head().await;

    let again = control.create_keyed(data("www", "A", "192.0.2.1"), "c").await.unwrap();
    assert_eq!(again.record, first.record);
    let edited_again = edit(&control, request).await.unwrap();
    assert_eq!(edited_again.record, edited.record);
    let deleted_again = delete(&control, id, 0, "d").await.unwrap();
    for (again, first) in [
        (again.receipt, first.receipt),
        (edited_again.receipt, edited.receipt),
        (deleted_again.receipt, deleted.receipt),
    ] {
        let again = again.unwrap();
        assert!(again.replayed);
        assert_eq!(v1::Receipt { replayed: false, ..again }, first.unwrap());
    }
    let other = control.create_keyed(data("www", "A", "192.0.2.2"), "c").await;
    let told = refused(Code::FailedPrecondition, other);
    assert!(told.contains("key"), "{told}");
    refused(Code::FailedPrecondition, delete(&control, id + 1, 0, "d").await);
    refused(Code::NotFound, delete(&control, id, 0, "another").await);
    let long = "k".repeat(129);
    let told = control.create_keyed(data("y", "A", "192.0.2.1"), &long).await;
    refused(Code::InvalidArgument, told);
    assert_eq!(control.head().await, head);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_keyed_answer_is_kept_over_a_restart_from_the_store() {
    let control = Control::with_zone().await;
    let first = control.create_keyed(data("www", "A", "192.0.2.1"), "c").await.unwrap();
    let control = control.restart().await;
    let again = control.create_keyed(data("www", "A", "192.0.2.1"), "c").await.unwrap();
    assert!(again.receipt.unwrap().replayed);
    assert_eq!(again.record, first.record);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_zone_is_listed_in_canonical_order_whole_or_in_part() {
    let control = Control::with_zone().await;
    for n in (0..1_100).rev() {
        let owner = format!("n{:04}", n / 2);
        let rtype = if n % 2 == 0 { "A" } else { "AAAA" };
        let rdata = if n % 2 == 0 { "192.0.2.1" } else { "2001:db8::1" };
        if n < 1_000 || n % 50 == 0 {
            control.create(&owner, rtype, rdata).await.unwrap();
        }
    }
    let all = control.lines(ZONE).await;
    assert_eq!(all.len(), 2 + 1_000 + 2);
    assert!(all[0].contains(" SOA ") || all[0].contains(" NS "));
    let owners: Vec<_> = all[2..].iter().map(|line| line.split(' ').next().unwrap()).collect();
    assert!(owners.is_sorted());
    let part = |owner: &str, rtype: &str| v1::ListRecordsRequest {
        zone: ZONE.to_owned(),
        owner: owner.to_owned(),
        r#type: rtype.to_owned(),
    };
    assert_eq!(control.list(part("n0007", "")).await.unwrap().len(), 2);
    assert_eq!(control.list(part("n0007.example.com.", "AAAA")).await.unwrap().len(), 1);
    assert_eq!(control.list(part("", "AAAA")).await.unwrap().len(), 500);
    assert_eq!(control.list(part("nobody", "")).await.unwrap(), []);
    assert_eq!(control.list(part("", "MX")).await.unwrap(), []);
    refused(Code::InvalidArgument, control.list(part("a..b", "")).await);
    refused(Code::InvalidArgument, control.list(part("", "NOTYPE")).await);
    let nowhere = v1::ListRecordsRequest { zone: "example.org".to_owned(), ..part("", "") };
    refused(Code::NotFound, control.list(nowhere).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn large_records_are_listed_in_messages_that_clients_take() {
    let control = Control::with_zone().await;
    let text = format!("\"{}\" ", "\\200".repeat(255)).repeat(250);
    for n in 0..24 {
        control.create(&format!("t{n}"), "TXT", text.trim_end()).await.unwrap();
    }
    // tonic's client, as others, takes 4 MiB; this zone is more than that.
    let request = v1::ListRecordsRequest { zone: ZONE.to_owned(), ..Default::default() };
    let records = control.list(request).await.unwrap();
    assert_eq!(records.len(), 26);
    let octets: usize = records.iter().map(|record| record.rdata.len()).sum();
    assert!(octets > 4 << 20, "{octets}");
}

#[tokio::test(flavor = "multi_thread")]
async fn serials_stay_when_the_configuration_says_so() {
    let control = Control::with_zone().await;
    control.create("a", "A", "192.0.2.1").await.unwrap();
    assert_eq!(serial(&control).await, 2);
    control.config.send_modify(|config| config.soa_serial = SoaSerial::Keep);
    control.create("b", "A", "192.0.2.1").await.unwrap();
    assert_eq!(serial(&control).await, 2);
}
