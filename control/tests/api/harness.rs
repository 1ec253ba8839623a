//! A control plane within the test's process, on ports of the host's choice.

use std::{path::Path, sync::OnceLock, time::Duration};

use edgesync_control::{
    config::Config,
    metrics::describe,
    run::{Addresses, ControlPlane, RunError},
};
use edgesync_host::metrics::Metrics;
use edgesync_proto::v1::{
    self, fleet_service_client::FleetServiceClient, record_service_client::RecordServiceClient,
    sync_service_client::SyncServiceClient, zone_service_client::ZoneServiceClient,
};
use tempfile::TempDir;
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::JoinHandle,
    time::timeout,
};
use tokio_stream::{StreamExt, wrappers::UnboundedReceiverStream};
use tonic::{Code, Status, Streaming, transport::Channel};

/// The zone that most tests use.
pub const ZONE: &str = "example.com";

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// Bounds a loop over messages, of which each may come in time and the wanted one never.
pub async fn within<T>(wanted: impl Future<Output = T>) -> T {
    timeout(3 * PATIENCE, wanted).await.unwrap()
}

/// A control plane that serves.
pub struct Control {
    pub addresses: Addresses,
    pub channel: Channel,
    pub config: watch::Sender<Config>,
    dir: TempDir,
    stop: oneshot::Sender<()>,
    served: JoinHandle<Result<(), RunError>>,
}

pub fn recorder() -> Metrics {
    static RECORDER: OnceLock<Metrics> = OnceLock::new();
    let install = || {
        let metrics = Metrics::install("test").unwrap();
        describe();
        metrics
    };
    RECORDER.get_or_init(install).clone()
}

pub fn config_in(dir: &Path) -> Config {
    let mut config = Config { data_dir: dir.to_owned(), insecure: true, ..Config::default() };
    config.listen.set_port(0);
    config.metrics_listen.set_port(0);
    config
}

impl Control {
    pub async fn start() -> Self {
        Self::start_in(tempfile::tempdir().unwrap()).await
    }

    pub async fn start_in(dir: TempDir) -> Self {
        Self::start_with(dir, |_| {}).await
    }

    /// With a configuration that is another one than the default.
    pub async fn start_with(dir: TempDir, change: impl FnOnce(&mut Config)) -> Self {
        let mut config = config_in(dir.path());
        change(&mut config);
        let control = ControlPlane::start(config, recorder()).await.unwrap();
        let (addresses, config) = (control.addresses(), control.config());
        let (stop, stopped) = oneshot::channel::<()>();
        let served = tokio::spawn(control.serve(async {
            let _ = stopped.await;
        }));
        let endpoint = Channel::from_shared(format!("http://{}", addresses.listen)).unwrap();
        let channel = endpoint.connect().await.unwrap();
        Self { addresses, channel, config, dir, stop, served }
    }

    /// With the zone, which has a SOA of serial 1 and an NS record.
    pub async fn with_zone() -> Self {
        let control = Self::start().await;
        control.create_zone(ZONE).await.unwrap();
        control
    }

    pub async fn create_zone(&self, origin: &str) -> Result<v1::CreateZoneResponse, Status> {
        let records = vec![soa(1), data("@", "NS", "ns1")];
        let origin = origin.to_owned();
        let request = v1::CreateZoneRequest { origin, records, ..Default::default() };
        self.zones().create_zone(request).await.map(tonic::Response::into_inner)
    }

    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub fn records(&self) -> RecordServiceClient<Channel> {
        RecordServiceClient::new(self.channel.clone())
    }

    pub fn zones(&self) -> ZoneServiceClient<Channel> {
        ZoneServiceClient::new(self.channel.clone())
    }

    pub fn fleet(&self) -> FleetServiceClient<Channel> {
        FleetServiceClient::new(self.channel.clone())
    }

    /// Stops it in order.
    pub async fn stop(self) -> TempDir {
        let Self { dir, stop, served, channel, config, .. } = self;
        drop((channel, config));
        stop.send(()).unwrap();
        timeout(PATIENCE, served).await.unwrap().unwrap().unwrap();
        dir
    }

    /// Waits for its end, which it finds by itself.
    pub async fn ended(self) -> Result<(), RunError> {
        let Self { served, dir: _dir, stop: _stop, .. } = self;
        timeout(PATIENCE, served).await.unwrap().unwrap()
    }

    /// Stops it and starts it on the same log.
    pub async fn restart(self) -> Self {
        Self::start_in(self.stop().await).await
    }

    pub async fn create(
        &self,
        owner: &str,
        rtype: &str,
        rdata: &str,
    ) -> Result<v1::CreateRecordResponse, Status> {
        self.create_keyed(data(owner, rtype, rdata), "").await
    }

    pub async fn create_keyed(
        &self,
        record: v1::RecordData,
        key: &str,
    ) -> Result<v1::CreateRecordResponse, Status> {
        let request = v1::CreateRecordRequest {
            zone: ZONE.to_owned(),
            record: Some(record),
            idempotency_key: key.to_owned(),
        };
        self.records().create_record(request).await.map(tonic::Response::into_inner)
    }

    /// The lines of the zone, in the order in which they are listed.
    pub async fn lines(&self, origin: &str) -> Vec<String> {
        let request = v1::ListRecordsRequest { zone: origin.to_owned(), ..Default::default() };
        self.list(request).await.unwrap().iter().map(line).collect()
    }

    pub async fn list(&self, request: v1::ListRecordsRequest) -> Result<Vec<v1::Record>, Status> {
        let pages = self.records().list_records(request).await?.into_inner();
        Ok(all(pages).await?.into_iter().flat_map(|page| page.records).collect())
    }

    pub async fn head(&self) -> u64 {
        let answer = self.fleet().list_edges(v1::ListEdgesRequest {}).await.unwrap().into_inner();
        answer.head.unwrap().offset
    }

    /// A page that is not gRPC.
    pub async fn page(&self, path: &str) -> String {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let mut stream = tokio::net::TcpStream::connect(self.addresses.metrics).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        text
    }
}

/// An edge that acknowledges what the test tells it to.
pub struct Edge {
    requests: mpsc::UnboundedSender<v1::SyncRequest>,
    replies: Streaming<v1::SyncResponse>,
}

impl Edge {
    pub async fn connect(control: &Control, id: &str) -> Self {
        let mut edge = Self::open(control).await;
        edge.hello(id);
        let welcome = edge.next().await.unwrap();
        assert!(matches!(welcome, v1::sync_response::Message::Welcome(_)), "{welcome:?}");
        edge
    }

    /// A stream that has not yet said which edge it is of.
    pub async fn open(control: &Control) -> Self {
        let (requests, receiver) = mpsc::unbounded_channel();
        let mut client = SyncServiceClient::new(control.channel.clone());
        let replies = client.sync(UnboundedReceiverStream::new(receiver)).await.unwrap();
        Self { requests, replies: replies.into_inner() }
    }

    pub fn hello(&self, id: &str) {
        self.hello_with(id, v1::Hello::default());
    }

    /// Says who it is, and what it has: its position, its stored filter and what it has of a snapshot.
    pub fn hello_with(&self, id: &str, has: v1::Hello) {
        use v1::sync_request::Message;
        let hello = v1::Hello {
            edge_id: id.to_owned(),
            instance_id: vec![7; 16].into(),
            boot_epoch: 1,
            filter: Some(v1::Filter { all_zones: true, ..v1::Filter::default() }),
            protocol: 1,
            version: "test".to_owned(),
            ..has
        };
        self.requests.send(v1::SyncRequest { message: Some(Message::Hello(hello)) }).unwrap();
    }

    /// The Goodbye that comes next, with the stream's end behind it: its reason, and when to come back.
    pub async fn goodbye(&mut self) -> (v1::GoodbyeReason, Duration) {
        let message = self.next().await.unwrap();
        let v1::sync_response::Message::Goodbye(goodbye) = message else { panic!("{message:?}") };
        assert_eq!(self.next().await, None, "nothing comes behind it");
        let retry_after = goodbye.retry_after.unwrap().try_into().unwrap();
        (goodbye.reason(), retry_after)
    }

    pub async fn next(&mut self) -> Option<v1::sync_response::Message> {
        let reply = timeout(PATIENCE, self.replies.next()).await.unwrap()?;
        reply.ok()?.message
    }

    /// Takes what comes up to an offset.
    pub async fn read_to(&mut self, offset: u64) {
        use v1::sync_response::Message;
        let mut at = 0;
        within(async {
            while at < offset {
                if let Message::Frame(frame) = self.next().await.unwrap() {
                    at = frame.sets.last().map_or(at, |set| set.last);
                }
            }
        })
        .await;
    }

    pub fn nack(&self, nack: v1::Nack) {
        let message = Some(v1::sync_request::Message::Nack(nack));
        self.requests.send(v1::SyncRequest { message }).unwrap();
    }

    pub fn ack(&self, first: u64, last: u64) {
        self.ack_paused(first, last, "");
    }

    /// An ack of an edge that applies nothing for now.
    pub fn ack_paused(&self, first: u64, last: u64, why: &str) {
        let ack =
            v1::Ack { first, last, apply_us: 10, paused: why.to_owned(), frozen: !why.is_empty() };
        let message = Some(v1::sync_request::Message::Ack(ack));
        self.requests.send(v1::SyncRequest { message }).unwrap();
    }
}

pub fn data(owner: &str, rtype: &str, rdata: &str) -> v1::RecordData {
    v1::RecordData {
        owner: owner.to_owned(),
        r#type: rtype.to_owned(),
        ttl: 300,
        rdata: rdata.to_owned(),
        ..Default::default()
    }
}

pub fn soa(serial: u32) -> v1::RecordData {
    data("@", "SOA", &format!("ns1 hostmaster {serial} 1800 900 604800 300"))
}

/// A record as a line.
pub fn line(record: &v1::Record) -> String {
    format!("{} {} {} {}", record.owner, record.ttl, record.r#type, record.rdata)
}

/// All messages of a stream.
pub async fn all<T>(mut stream: Streaming<T>) -> Result<Vec<T>, Status> {
    let mut messages = Vec::new();
    while let Some(message) = timeout(PATIENCE, stream.message()).await.unwrap()? {
        messages.push(message);
    }
    Ok(messages)
}

/// The one-line message with which a call was refused.
pub fn refused<T: std::fmt::Debug>(code: Code, result: Result<T, Status>) -> String {
    let status = result.unwrap_err();
    assert_eq!(status.code(), code, "{status}");
    assert_eq!(status.message().lines().count(), 1, "{status}");
    status.message().to_owned()
}
