//! What stands around the services: health, reflection, metrics, the start and the end.

use std::time::{Duration, Instant};

use edgesync_control::run::{ControlPlane, RunError, run};
use edgesync_proto::v1;
use tokio_stream::StreamExt;
use tonic::{Code, transport::Channel};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};
use tonic_reflection::pb::{v1 as reflection, v1alpha};

use crate::harness::{Control, Edge, config_in, recorder, refused};

const SERVICES: [&str; 5] = [
    "edgesync.v1.AccessService",
    "edgesync.v1.FleetService",
    "edgesync.v1.RecordService",
    "edgesync.v1.SyncService",
    "edgesync.v1.ZoneService",
];

#[tokio::test(flavor = "multi_thread")]
async fn health_tells_of_each_service() {
    let control = Control::start().await;
    let mut client = HealthClient::new(control.channel.clone());
    for service in SERVICES.iter().chain(&[""]) {
        let request = HealthCheckRequest { service: (*service).to_owned() };
        let answer = client.check(request).await.unwrap().into_inner();
        assert_eq!(answer.status(), ServingStatus::Serving, "{service}");
    }
    let unknown = HealthCheckRequest { service: "edgesync.v1.EdgeService".to_owned() };
    refused(Code::NotFound, client.check(unknown).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn reflection_tells_what_is_served_in_both_versions() {
    use reflection::{
        ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
        server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
    };
    let control = Control::start().await;
    let mut client = ServerReflectionClient::new(control.channel.clone());
    let ask = async |client: &mut ServerReflectionClient<Channel>, request| {
        let request =
            ServerReflectionRequest { message_request: Some(request), ..Default::default() };
        let answers = client.server_reflection_info(tokio_stream::once(request)).await.unwrap();
        answers.into_inner().next().await.unwrap().unwrap().message_response.unwrap()
    };
    let list = ask(&mut client, MessageRequest::ListServices(String::new())).await;
    let MessageResponse::ListServicesResponse(list) = list else { panic!("{list:?}") };
    let mut names: Vec<_> = list.service.into_iter().map(|service| service.name).collect();
    names.retain(|name| !name.starts_with("grpc."));
    names.sort();
    assert_eq!(names, SERVICES);
    for symbol in ["edgesync.v1.RecordService.CreateRecord", "google.protobuf.Duration"] {
        let file = ask(&mut client, MessageRequest::FileContainingSymbol(symbol.to_owned())).await;
        assert!(matches!(file, MessageResponse::FileDescriptorResponse(_)), "{file:?}");
    }

    let mut alpha =
        v1alpha::server_reflection_client::ServerReflectionClient::new(control.channel.clone());
    let list = v1alpha::server_reflection_request::MessageRequest::ListServices(String::new());
    let request =
        v1alpha::ServerReflectionRequest { message_request: Some(list), ..Default::default() };
    let answers = alpha.server_reflection_info(tokio_stream::once(request)).await.unwrap();
    assert!(answers.into_inner().next().await.unwrap().is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_are_counted_by_method_and_code_with_help() {
    let control = Control::with_zone().await;
    control.create("www", "A", "192.0.2.1").await.unwrap();
    refused(Code::AlreadyExists, control.create("www", "A", "192.0.2.1").await);
    refused(Code::NotFound, control.records().get_record(v1::GetRecordRequest { id: 99 }).await);
    control.lines("example.com").await;
    let mut watch =
        control.fleet().watch_edges(v1::WatchEdgesRequest {}).await.unwrap().into_inner();
    watch.next().await.unwrap().unwrap();
    drop(watch);
    let has = |page: &str, name: &str, labels: &[&str]| {
        let mut lines = page.lines().filter(|line| line.starts_with(name));
        lines.any(|line| labels.iter().all(|label| line.contains(label)))
    };
    let counted = [
        ("edgesync.v1.RecordService/CreateRecord", "Ok"),
        ("edgesync.v1.RecordService/CreateRecord", "AlreadyExists"),
        ("edgesync.v1.RecordService/GetRecord", "NotFound"),
        ("edgesync.v1.RecordService/ListRecords", "Ok"),
        ("edgesync.v1.FleetService/WatchEdges", "Cancelled"),
    ];
    let deadline = Instant::now() + Duration::from_secs(5);
    loop {
        let page = control.page("/metrics").await;
        let counts = counted.iter().all(|(method, code)| {
            let labels = [format!("method=\"{method}\""), format!("code=\"{code}\"")];
            has(&page, "edgesync_control_requests_total{", &labels.each_ref().map(String::as_str))
        });
        if counts {
            assert!(has(&page, "edgesync_control_request_seconds_count{", &["CreateRecord"]));
            assert!(!has(&page, "edgesync_control_request_seconds_count{", &["WatchEdges"]));
            assert!(has(&page, "edgesync_control_refusals_total{", &["reason=\"duplicate\""]));
            assert!(page.contains("# HELP edgesync_control_commit_seconds "));
            assert!(!page.contains("example.com"), "no label has a name of a zone or record");
            break;
        }
        assert!(Instant::now() < deadline, "{page}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(control.page("/healthz").await.contains("200"));
    assert!(control.page("/readyz").await.contains("200"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_is_soon_although_streams_are_open_and_loses_nothing() {
    let control = Control::with_zone().await;
    let mut edge = Edge::connect(&control, "fra-1").await;
    let mut watch =
        control.fleet().watch_edges(v1::WatchEdgesRequest {}).await.unwrap().into_inner();
    watch.next().await.unwrap().unwrap();
    let (sets, requests) = tokio::sync::mpsc::channel(1);
    let requests = tokio_stream::wrappers::ReceiverStream::new(requests);
    let operation = v1::operation::Operation::Create(crate::harness::data("x", "A", "192.0.2.1"));
    let set = v1::ApplyChangeSetsRequest {
        zone: "example.com".to_owned(),
        operations: vec![v1::Operation { operation: Some(operation) }],
        ..Default::default()
    };
    sets.send(set).await.unwrap();
    let mut answers = control.records().apply_change_sets(requests).await.unwrap().into_inner();
    answers.next().await.unwrap().unwrap();
    let mut fleet = control.fleet();
    let waiting = tokio::spawn(async move {
        let edges = Some(v1::wait_for_offset_request::Edges::All(true));
        let timeout = Some(prost_types::Duration { seconds: 3_600, nanos: 0 });
        fleet.wait_for_offset(v1::WaitForOffsetRequest { position: None, edges, timeout }).await
    });
    tokio::time::sleep(Duration::from_millis(100)).await;
    let before = Instant::now();
    let stopped = tokio::spawn(control.stop());
    let goodbye = loop {
        use v1::sync_response::Message;
        match edge.next().await {
            Some(Message::Goodbye(goodbye)) => break goodbye,
            Some(_) => {}
            None => panic!("the session ended without a goodbye"),
        }
    };
    assert_eq!(goodbye.reason(), v1::GoodbyeReason::Draining);
    refused(Code::Unavailable, waiting.await.unwrap());
    assert_eq!(answers.next().await.unwrap().unwrap_err().code(), Code::Unavailable);
    while watch.next().await.is_some_and(|message| message.is_ok()) {}
    let dir = stopped.await.unwrap();
    assert!(before.elapsed() < Duration::from_secs(5), "{:?}", before.elapsed());
    let control = ControlPlane::start(config_in(dir.path()), recorder()).await;
    assert!(control.is_ok(), "the log is closed and the directory let go");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_cannot_be_names_what_is_in_the_way() {
    let control = Control::start().await;
    let elsewhere = tempfile::tempdir().unwrap();
    let mut in_use = config_in(elsewhere.path());
    in_use.listen = control.addresses.listen;
    let error = run(in_use, recorder(), async {}).await.unwrap_err();
    assert!(matches!(error, RunError::Listen(_)));
    let line = error.to_string();
    assert!(line.contains(&control.addresses.listen.to_string()) && line.contains("--listen"));
    let mut in_use = config_in(elsewhere.path());
    in_use.metrics_listen = control.addresses.metrics;
    let error = run(in_use, recorder(), async {}).await.unwrap_err().to_string();
    assert!(error.contains("--metrics-listen"), "{error}");

    let error = run(config_in(control.dir()), recorder(), async {}).await.unwrap_err();
    assert!(matches!(error, RunError::Lock(_)));
    assert!(error.to_string().contains(&control.dir().display().to_string()));

    let foreign = tempfile::tempdir().unwrap();
    std::fs::write(foreign.path().join("log.redb"), vec![7; 40_000]).unwrap();
    let error = run(config_in(foreign.path()), recorder(), async {}).await.unwrap_err();
    assert!(matches!(error, RunError::Open(_)), "{error}");
    assert!(error.to_string().contains("log.redb"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_metric_of_a_running_control_plane_says_what_it_is() {
    let control = Control::with_zone().await;
    let _edge = Edge::connect(&control, "a").await;
    control.create("www", "A", "192.0.2.1").await.unwrap();
    let page = control.page("/metrics").await;
    let types = page.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    let names: Vec<_> = types.filter_map(|line| line.split(' ').next()).collect();
    assert!(names.contains(&"edgesync_control_connections"), "{page}");
    let silent: Vec<_> =
        names.iter().filter(|name| !page.contains(&format!("# HELP {name} "))).collect();
    assert_eq!(silent, [&""; 0], "{page}");
}
