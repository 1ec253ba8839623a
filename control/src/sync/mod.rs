//! Station 3, the sessions: carries to each edge what the core's sender permits. One task a session;
//! its memory is the window that the edge has asked for, a frame, and what `outbound` says.

mod filter;
mod latency;
mod outbound;
mod session;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use edgesync_core::session::{GoodbyeReason, ToEdge};
use edgesync_proto::v1::{self, sync_service_server::SyncService};
use tokio::{
    sync::{Semaphore, watch},
    time::interval,
};
use tonic::{Request, Response, Status, Streaming};

use self::{latency::Spikes, outbound::Responses, session::Session};
use crate::{access::Admitted, fleet::Fleet, log::Log, snapshot::Snapshots};

/// What the sessions are set to.
#[derive(Clone, Debug)]
pub struct SyncConfig {
    /// Time between heartbeats.
    pub heartbeat: Duration,
    /// Streams that have not yet said which edge they are of, at the most.
    pub max_greeting: usize,
}

/// The `SyncService`.
#[derive(Clone)]
pub struct SyncApi {
    log: Log,
    fleet: Fleet,
    snapshots: Snapshots,
    config: SyncConfig,
    drain: watch::Receiver<bool>,
    /// Room for streams that have not yet said which edge they are of.
    greeting: Arc<Semaphore>,
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
        let greeting = config.max_greeting.min(Semaphore::MAX_PERMITS);
        let greeting = Arc::new(Semaphore::new(greeting));
        Self { log, fleet, snapshots, config, drain, greeting, spikes: Spikes::new() }
    }

    /// Keeps the gauges of the sessions true, until it is dropped.
    pub async fn keep(self) {
        let mut ticks = interval(TELL);
        loop {
            ticks.tick().await;
            self.spikes.tell(Instant::now());
        }
    }
}

/// How often the gauges of the sessions are told.
const TELL: Duration = Duration::from_secs(1);

/// Counts a session that was not let in.
fn count_refused(reason: &'static str) {
    metrics::counter!("edgesync_control_sessions_refused_total", "reason" => reason).increment(1);
}

#[tonic::async_trait]
impl SyncService for SyncApi {
    type SyncStream = Responses;

    async fn sync(
        &self,
        request: Request<Streaming<v1::SyncRequest>>,
    ) -> Result<Response<Self::SyncStream>, Status> {
        let admitted = Admitted::of(&request)?;
        let (outbound, responses) = outbound::channel();
        if let Ok(place) = Arc::clone(&self.greeting).try_acquire_owned() {
            let session = Session::new(self, admitted, outbound, place);
            tokio::spawn(session.run(request.into_inner()));
        } else {
            count_refused("greeting");
            let retry_after = self.fleet.send_away(Instant::now());
            let message = "too many streams have not yet said which edge they are of".to_owned();
            let goodbye = ToEdge::Goodbye { reason: GoodbyeReason::Busy, retry_after, message };
            // The only message of a fresh stream has room.
            let _ = outbound.send(goodbye);
            tokio::spawn(outbound.finish(session::LAST_WORDS));
        }
        Ok(Response::new(responses))
    }
}
