//! F-47, F-48: one below a bound, at it, and one above it; and names that are none. What is refused is not in
//! the log.

use edgesync_core::limits::{
    IDEMPOTENCY_KEY_OCTETS, RDATA_OCTETS, RRSET_RECORDS, SET_OCTETS, TTL_SECONDS,
};
use edgesync_proto::v1::{self, operation::Operation as Wish};
use tonic::{Code, Status};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

use crate::harness::{Control, ZONE, data};

/// Whether something was taken; what is refused has changed nothing.
async fn is_taken<T>(
    control: &Control,
    call: impl Future<Output = Result<T, Status>>,
    code: Code,
) -> bool {
    let head = control.head().await;
    let Err(status) = call.await else { return true };
    assert_eq!(status.code(), code, "{status}");
    assert_eq!(control.head().await, head, "{status}");
    false
}

/// A label of so many octets.
fn label(octets: usize) -> String {
    "l".repeat(octets)
}

/// A name of so many octets in wire form.
fn name(octets: usize) -> String {
    // Each label has an octet for its length; the root has one.
    let mut left = octets - 1;
    let mut labels = Vec::new();
    while left > 0 {
        let take = if left == 65 { 62 } else { left.min(64) };
        labels.push(label(take - 1));
        left -= take;
    }
    labels.join(".")
}

#[tokio::test(flavor = "multi_thread")]
async fn names_are_taken_up_to_their_bounds_and_no_further() {
    let control = Control::with_zone().await;
    // `name` says how long a whole name is; relative ones end in the zone's, of 13 octets.
    for (owner, wanted) in [
        (label(62), true),
        (label(63), true),
        (label(64), false),
        (name(255 - 13 + 1 - 1), true),
        (name(255 - 13 + 1), true),
        (name(255 - 13 + 1 + 1), false),
    ] {
        let call = control.create(&owner, "A", "192.0.2.1");
        let taken = is_taken(&control, call, Code::InvalidArgument).await;
        assert_eq!(taken, wanted, "{} characters: {owner}", owner.len());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn names_that_are_none_are_refused_and_case_does_not_matter() {
    let control = Control::with_zone().await;
    for owner in ["a..b", ".a", "a\0b", "\\", "\\9", "\\256", "b\u{fc}cher", "\u{202e}x", "\n"] {
        let call = control.create(owner, "A", "192.0.2.1");
        assert!(!is_taken(&control, call, Code::InvalidArgument).await, "{owner:?}");
    }
    // What is written with an escape is an octet like any other; a space is one, as the field is one name.
    for owner in ["a\\000b", "\\@", "a\\.b", "a b", "xn--bcher-kva", "_tcp", "*"] {
        let call = control.create(owner, "A", "192.0.2.1");
        assert!(is_taken(&control, call, Code::InvalidArgument).await, "{owner:?}");
    }
    control.create("MiXeD", "A", "192.0.2.1").await.unwrap();
    let call = control.create("mixed", "A", "192.0.2.1");
    assert!(!is_taken(&control, call, Code::AlreadyExists).await, "it is the same owner");
    for origin in ["", "a..example", &label(64), &name(256)] {
        let call = control.create_zone(origin);
        assert!(!is_taken(&control, call, Code::InvalidArgument).await, "{origin:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn numbers_and_octets_are_taken_up_to_their_bounds_and_no_further() {
    let control = Control::with_zone().await;
    for (ttl, wanted) in
        [(TTL_SECONDS - 1, true), (TTL_SECONDS, true), (TTL_SECONDS + 1, false), (u32::MAX, false)]
    {
        let record = v1::RecordData { ttl, ..data(&format!("t-{ttl}"), "A", "192.0.2.1") };
        let call = control.create_keyed(record, "");
        assert_eq!(is_taken(&control, call, Code::InvalidArgument).await, wanted, "TTL {ttl}");
    }
    for (octets, wanted) in
        [(RDATA_OCTETS - 1, true), (RDATA_OCTETS, true), (RDATA_OCTETS + 1, false)]
    {
        let rdata_wire = vec![1; octets].into();
        let owner = format!("r-{octets}");
        let record = v1::RecordData { rdata_wire, ..data(&owner, "TYPE65280", "") };
        let call = control.create_keyed(record, "");
        assert_eq!(is_taken(&control, call, Code::InvalidArgument).await, wanted, "{octets}");
    }
    for (octets, wanted) in [
        (IDEMPOTENCY_KEY_OCTETS - 1, true),
        (IDEMPOTENCY_KEY_OCTETS, true),
        (IDEMPOTENCY_KEY_OCTETS + 1, false),
    ] {
        let key = "k".repeat(octets);
        let call = control.create_keyed(data(&format!("k-{octets}"), "A", "192.0.2.1"), &key);
        assert_eq!(is_taken(&control, call, Code::InvalidArgument).await, wanted, "{octets}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_rrset_and_a_message_have_bounds_too() {
    let control = Control::with_zone().await;
    let address = |n: usize| data("many", "A", &format!("198.18.{}.{}", n / 250, n % 250));
    let wishes =
        (0..RRSET_RECORDS - 1).map(|n| v1::Operation { operation: Some(Wish::Create(address(n))) });
    let set = v1::ApplyChangeSetsRequest {
        zone: ZONE.to_owned(),
        operations: wishes.collect(),
        ..Default::default()
    };
    let stream = tokio_stream::once(set.clone());
    let mut answers = control.records().apply_change_sets(stream).await.unwrap().into_inner();
    let answer = answers.message().await.unwrap().unwrap().result.unwrap();
    assert!(matches!(answer, v1::apply_change_sets_response::Result::Receipt(_)), "{answer:?}");
    for (n, wanted) in [(RRSET_RECORDS - 1, true), (RRSET_RECORDS, false)] {
        let call = control.create_keyed(address(n), "");
        assert_eq!(is_taken(&control, call, Code::FailedPrecondition).await, wanted, "{n}");
    }
    // A message that is larger than any may be is not even read.
    let idempotency_key = "k".repeat(SET_OCTETS + 1);
    let set = v1::ApplyChangeSetsRequest { idempotency_key, operations: vec![], ..set };
    let head = control.head().await;
    let stream = tokio_stream::once(set);
    let refused = match control.records().apply_change_sets(stream).await {
        Err(status) => status,
        Ok(answers) => answers.into_inner().message().await.unwrap_err(),
    };
    assert_eq!(refused.code(), Code::OutOfRange, "{refused}");
    assert_eq!(control.head().await, head);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_message_is_not_larger_than_such_a_message_is() {
    let control = Control::with_zone().await;
    // A stranger may ask for it.
    let mut health = HealthClient::new(control.channel.clone());
    for (octets, code) in [(15 * 1024, Code::NotFound), (17 * 1024, Code::ResourceExhausted)] {
        let request = HealthCheckRequest { service: "s".repeat(octets) };
        assert_eq!(health.check(request).await.unwrap_err().code(), code, "{octets}");
    }
    for (edges, code) in [(15_000, Code::InvalidArgument), (17_000, Code::ResourceExhausted)] {
        let ids = vec!["?".repeat(62); edges];
        let edges = Some(v1::wait_for_offset_request::Edges::Ids(v1::EdgeIds { ids }));
        let request = v1::WaitForOffsetRequest { edges, ..Default::default() };
        let refused = control.fleet().wait_for_offset(request).await.unwrap_err();
        assert_eq!(refused.code(), code, "{refused}");
    }
}
