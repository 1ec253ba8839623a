//! Zones.

use edgesync_proto::v1;
use tonic::Code;

use crate::harness::{Control, ZONE, all, data, refused, soa};

async fn get(control: &Control, origin: &str) -> Result<v1::Zone, tonic::Status> {
    let request = v1::GetZoneRequest { origin: origin.to_owned() };
    Ok(control.zones().get_zone(request).await?.into_inner().zone.unwrap())
}

fn delete(origin: &str, if_version: u64, key: &str) -> v1::DeleteZoneRequest {
    let (origin, idempotency_key) = (origin.to_owned(), key.to_owned());
    v1::DeleteZoneRequest { origin, if_version, idempotency_key, ..Default::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_zone_is_created_read_and_deleted() {
    let control = Control::start().await;
    let created = control.create_zone("Example.COM").await.unwrap();
    let zone = created.zone.unwrap();
    assert_eq!((zone.origin.as_str(), zone.records, zone.serial), ("example.com.", 2, 1));
    // What is told from the request is what the store has, the digest included.
    assert_eq!(get(&control, ZONE).await.unwrap(), zone);
    refused(Code::AlreadyExists, control.create_zone(ZONE).await);

    let stale = control.zones().delete_zone(delete(ZONE, zone.version + 7, "")).await;
    refused(Code::Aborted, stale);
    let request = delete(ZONE, zone.version, "once");
    let deleted = control.zones().delete_zone(request.clone()).await.unwrap().into_inner();
    assert_eq!(deleted.records, 2);
    refused(Code::NotFound, get(&control, ZONE).await);
    let again = control.zones().delete_zone(request).await.unwrap().into_inner();
    assert!(again.receipt.unwrap().replayed);
    refused(Code::NotFound, control.zones().delete_zone(delete(ZONE, 0, "")).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_zone_is_refused_and_names_the_record() {
    let control = Control::start().await;
    let create =
        |records| v1::CreateZoneRequest { origin: ZONE.to_owned(), records, ..Default::default() };
    for (records, code, part) in [
        (vec![], Code::FailedPrecondition, "SOA"),
        (vec![soa(1), soa(2)], Code::FailedPrecondition, "SOA"),
        (vec![soa(1), data("x", "A", "1")], Code::InvalidArgument, "record 2"),
        (vec![soa(1), data("x.org.", "A", "192.0.2.1")], Code::InvalidArgument, "outside"),
    ] {
        let told = refused(code, control.zones().create_zone(create(records)).await);
        assert!(told.contains(part), "{told}");
    }
    let nameless = v1::CreateZoneRequest { records: vec![soa(1)], ..Default::default() };
    refused(Code::InvalidArgument, control.zones().create_zone(nameless).await);
    assert_eq!(control.head().await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn zones_are_listed_in_canonical_order() {
    let control = Control::start().await;
    let list = async || {
        let pages = control.zones().list_zones(v1::ListZonesRequest {}).await.unwrap();
        let pages = all(pages.into_inner()).await.unwrap();
        let zones = pages.into_iter().flat_map(|page| page.zones);
        zones.map(|zone| zone.origin).collect::<Vec<_>>()
    };
    assert_eq!(list().await, Vec::<String>::new());
    for origin in ["b.example", "example", "a.example", "b.org"] {
        control.create_zone(origin).await.unwrap();
    }
    assert_eq!(list().await, ["example.", "a.example.", "b.example.", "b.org."]);
}
