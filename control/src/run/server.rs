//! The gRPC server: all services on one port, with a bound on everything that a client can make it
//! keep.

use std::time::Duration;

use edgesync_core::limits::{MESSAGE_OCTETS, SET_OCTETS};
use edgesync_host::{
    accept::{Acceptor, Limits},
    pace::Pace,
    tls::{Current, ServerSide},
};
use edgesync_proto::{
    DESCRIPTORS,
    v1::{
        access_service_server::AccessServiceServer, fleet_service_server::FleetServiceServer,
        record_service_server::RecordServiceServer, sync_service_server::SyncServiceServer,
        zone_service_server::ZoneServiceServer,
    },
};
use tokio::{net::TcpListener, sync::watch};
use tonic::{server::NamedService, service::Routes, transport};
use tonic_health::{ServingStatus, server::HealthReporter};
use tonic_reflection::server::Builder as Reflection;

use crate::{
    access::{Access, AccessLayer},
    api::{Api, MeasureLayer},
    sync::SyncApi,
};

/// Flow-control window of a stream. With h2's default of 64 KiB the many small acks of a session
/// run into its guard against floods of small frames.
const STREAM_WINDOW: u32 = 4 * 1024 * 1024;
/// Flow-control window of a connection.
const CONNECTION_WINDOW: u32 = 16 * 1024 * 1024;
/// Streams of a connection at a time.
const STREAMS: u32 = 256;
/// Octets of a request's headers.
const HEADER_OCTETS: u32 = 16 * 1024;
/// Time between pings to a silent peer.
const KEEPALIVE: Duration = Duration::from_secs(10);
/// Time that such a peer has to answer.
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(5);
/// Time that a stranger has for a handshake, and then for the first call: slow clients are gone after
/// both.
const STRANGER: Duration = Duration::from_secs(5);
/// Time that a stranger's connection has until one of its calls is let through.
const UNKNOWN: Duration = Duration::from_secs(60);
/// Strangers' connections at a time: they take no place of those who are known.
const STRANGERS: usize = 1_000;
/// Handshakes on their way: what 64 of them a core cost is less than a tenth of a second.
const HANDSHAKES: usize = 256;
/// Connections that come to nothing in a second, for each core: a tenth of it goes into their handshakes.
const VAIN: usize = 250;
/// Connections beside those of the edges: of callers, and of strangers.
const CALLERS: usize = 2_000;
/// What a connection may have looked at in a second: a few calls of a stranger, those of the fastest callers
/// of somebody who is known, and no flood.
const PACE: Pace = Pace { strangers: 200, known: 2_000, first_call: STRANGER, stranger: UNKNOWN };

const RECORDS: &str = RecordServiceServer::<Api>::NAME;
const ZONES: &str = ZoneServiceServer::<Api>::NAME;
const FLEET: &str = FleetServiceServer::<Api>::NAME;
const SYNC: &str = SyncServiceServer::<SyncApi>::NAME;
const ACCESS: &str = AccessServiceServer::<Api>::NAME;

/// The services, and the name for all of them together.
const SERVICES: [&str; 6] = ["", RECORDS, ZONES, FLEET, SYNC, ACCESS];

/// Why the server does not serve.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The descriptors in this program cannot be read: a defect.
    #[error("the protocol's own description cannot be read: {0}")]
    Reflection(#[from] tonic_reflection::server::Error),
    /// The server has ended.
    #[error("the gRPC server has ended: {0}")]
    Transport(#[from] transport::Error),
}

/// A server that is put together.
pub(super) struct Server {
    routes: Routes,
    health: Health,
    access: Access,
}

/// What grpc.health.v1 tells.
#[derive(Clone)]
pub(super) struct Health(HealthReporter);

impl Health {
    async fn set(&self, status: ServingStatus) {
        for service in SERVICES {
            self.0.set_service_status(service, status).await;
        }
    }

    /// No service takes anything more.
    pub(super) async fn stopping(&self) {
        self.set(ServingStatus::NotServing).await;
    }
}

impl Server {
    pub(super) async fn new(api: Api, sync: SyncApi, access: Access) -> Self {
        let (reporter, health_service) = tonic_health::server::health_reporter();
        let health = Health(reporter);
        health.set(ServingStatus::Serving).await;
        // A change set has more octets than other messages may.
        let records = RecordServiceServer::new(api.clone()).max_decoding_message_size(SET_OCTETS);
        let zones = ZoneServiceServer::new(api.clone()).max_decoding_message_size(SET_OCTETS);
        let fleet = FleetServiceServer::new(api.clone()).max_decoding_message_size(MESSAGE_OCTETS);
        let principals = AccessServiceServer::new(api).max_decoding_message_size(MESSAGE_OCTETS);
        let sync = SyncServiceServer::new(sync).max_decoding_message_size(MESSAGE_OCTETS);
        let mut routes = Routes::builder();
        routes.add_service(records).add_service(zones).add_service(fleet).add_service(sync);
        routes.add_service(principals).add_service(health_service);
        Self { routes: routes.routes(), health, access }
    }

    pub(super) fn health(&self) -> Health {
        self.health.clone()
    }

    /// Serves until `draining` turns true and all that is open has ended.
    pub(super) async fn serve(
        self,
        listener: TcpListener,
        tls: Option<Current<ServerSide>>,
        max_sessions: usize,
        mut draining: watch::Receiver<bool>,
    ) -> Result<(), ServeError> {
        let drained = async move {
            let _ = draining.wait_for(|draining| *draining).await;
        };
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let limits = Limits {
            connections: max_sessions.saturating_add(CALLERS),
            vain_per_second: u32::try_from(VAIN * cores).unwrap_or(u32::MAX),
            strangers: STRANGERS,
            handshakes: HANDSHAKES,
            handshake: STRANGER,
            pace: PACE,
        };
        let incoming = Acceptor::new(listener, tls, limits, super::METRICS).incoming();
        let server = transport::Server::builder()
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_concurrent_streams(STREAMS)
            .http2_max_header_list_size(HEADER_OCTETS)
            .http2_keepalive_interval(Some(KEEPALIVE))
            .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
            .layer(MeasureLayer)
            .layer(AccessLayer(self.access))
            .add_routes(self.routes)
            .add_service(reflection().build_v1()?)
            .add_service(reflection().build_v1alpha()?);
        Ok(server.serve_with_incoming_shutdown(incoming, drained).await?)
    }
}

/// Reflection of what is served here; the descriptors have the edges' own service as well.
fn reflection() -> Reflection<'static> {
    let described = Reflection::configure()
        .register_encoded_file_descriptor_set(DESCRIPTORS)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET);
    let served = [RECORDS, ZONES, FLEET, SYNC, ACCESS, "grpc.health.v1.Health"];
    served.into_iter().fold(described, Reflection::with_service_name)
}
