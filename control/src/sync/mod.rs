//! Station 3, the sessions: carries to each edge what the core's sender permits. One task a session;
//! its memory is the window that the edge has asked for, and a frame.

mod filter;
mod latency;
mod session;

use std::{pin::Pin, time::Duration};

use edgesync_proto::v1::{self, sync_service_server::SyncService};
use tokio::sync::{mpsc, watch};
use tokio_stream::{Stream, wrappers::UnboundedReceiverStream};
use tonic::{Request, Response, Status, Streaming};

use self::{latency::Spikes, session::Session};
use crate::{fleet::Fleet, log::Log, snapshot::Snapshots};

/// What the sessions are set to.
#[derive(Clone, Debug)]
pub struct SyncConfig {
    /// Time between heartbeats.
    pub heartbeat: Duration,
    /// Sessions at the most.
    pub max_sessions: usize,
}

/// The `SyncService`.
#[derive(Clone)]
pub struct SyncApi {
    log: Log,
    fleet: Fleet,
    snapshots: Snapshots,
    config: SyncConfig,
    drain: watch::Receiver<bool>,
    spikes: Spikes,
}

impl SyncApi {
    /// A service over a log and a fleet; sessions say goodbye when `drain` turns true.
    #[must_use]
    pub fn new(
        log: Log,
        fleet: Fleet,
        snapshots: Snapshots,
        config: SyncConfig,
        drain: watch::Receiver<bool>,
    ) -> Self {
        Self { log, fleet, snapshots, config, drain, spikes: Spikes::new() }
    }
}

#[tonic::async_trait]
impl SyncService for SyncApi {
    type SyncStream = Pin<Box<dyn Stream<Item = Result<v1::SyncResponse, Status>> + Send>>;

    async fn sync(
        &self,
        request: Request<Streaming<v1::SyncRequest>>,
    ) -> Result<Response<Self::SyncStream>, Status> {
        let address = request.remote_addr();
        // Not bounded by number: the sender's credit bounds it in octets.
        let (outbound, responses) = mpsc::unbounded_channel();
        let session = Session::new(self, address, outbound);
        tokio::spawn(session.run(request.into_inner()));
        Ok(Response::new(Box::pin(UnboundedReceiverStream::new(responses))))
    }
}
