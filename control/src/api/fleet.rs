//! Station 1, the API: `FleetService`. What the edges have, waiting for them, and who changed what.

use std::time::Duration;

use edgesync_core::{
    edge_id::EdgeId,
    position::{HistoryHash, LogId, Offset, Position},
};
use edgesync_proto::v1::{
    self, fleet_service_server::FleetService, wait_for_offset_request::Edges as Which,
};
use tokio::{sync::mpsc, time::sleep};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::{
    Api, blocking, log_pages, methods,
    pages::{self, PageStream},
    status,
};
use crate::{
    access::Admitted,
    fleet::{EdgeState, EdgeView, WaitEnd, WaitError, Waited, Wanted},
};

/// Time between two messages of `WatchEdges`, at the least.
const WATCH_PAUSE: Duration = Duration::from_millis(100);
/// How long a receipt is waited for, unless the caller says otherwise.
const WAIT: Duration = Duration::from_secs(5);
/// How long a receipt is waited for at the most.
const WAIT_MOST: Duration = Duration::from_secs(3_600);

#[tonic::async_trait]
impl FleetService for Api {
    type WatchEdgesStream = PageStream<v1::WatchEdgesResponse>;
    type ListLogStream = PageStream<v1::ListLogResponse>;

    async fn list_edges(
        &self,
        _request: Request<v1::ListEdgesRequest>,
    ) -> Result<Response<v1::ListEdgesResponse>, Status> {
        let (edges, head) = self.fleet_now().await?;
        Ok(Response::new(v1::ListEdgesResponse { edges, head }))
    }

    async fn watch_edges(
        &self,
        _request: Request<v1::WatchEdgesRequest>,
    ) -> Result<Response<Self::WatchEdgesStream>, Status> {
        let (sender, receiver) = mpsc::channel(1);
        tokio::spawn(self.clone().watch(sender));
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    async fn wait_for_offset(
        &self,
        request: Request<v1::WaitForOffsetRequest>,
    ) -> Result<Response<v1::WaitForOffsetResponse>, Status> {
        let message = request.into_inner();
        let timeout = timeout(message.timeout)?;
        let wanted = wanted(message.edges)?;
        let position = self.position(message.position).await?;
        let mut drain = self.drain.clone();
        let waited = tokio::select! {
            waited = self.fleet.wait(Offset(position.offset), wanted, timeout) => waited,
            _ = drain.wait_for(|drain| *drain) => return Err(status::stopping()),
        };
        let done = waited.map_err(|error| status::wait(&error))?;
        let reached = done.reached();
        let Waited { end, waited, have, missing } = done;
        Ok(Response::new(v1::WaitForOffsetResponse {
            reached,
            end: wait_end(end).into(),
            position: Some(position),
            waited: Some(duration(waited)),
            have: have.iter().map(EdgeId::to_string).collect(),
            missing: missing.iter().map(missing_edge).collect(),
        }))
    }

    async fn forget_edge(
        &self,
        request: Request<v1::ForgetEdgeRequest>,
    ) -> Result<Response<v1::ForgetEdgeResponse>, Status> {
        let admitted = Admitted::of(&request)?;
        let id = edge_id(&request.into_inner().id)?;
        let (fleet, detail) = (self.fleet.clone(), format!("edge {id}"));
        let forget = async move { fleet.forget(&id).map_err(|error| status::forget(&error)) };
        admitted.around(&detail, forget).await?;
        Ok(Response::new(v1::ForgetEdgeResponse {}))
    }

    async fn compact_log(
        &self,
        request: Request<v1::CompactLogRequest>,
    ) -> Result<Response<v1::CompactLogResponse>, Status> {
        let admitted = Admitted::of(&request)?;
        let upto = request.into_inner().upto;
        let api = self.clone();
        let compact = async move { api.compact(upto).await };
        admitted.around(&format!("up to offset {upto}"), compact).await.map(Response::new)
    }

    async fn freeze(
        &self,
        request: Request<v1::FreezeRequest>,
    ) -> Result<Response<v1::FreezeResponse>, Status> {
        let admitted = Admitted::of(&request)?;
        let (api, caller) = (self.clone(), admitted.caller(methods::FREEZE.name));
        let reason = request.into_inner().reason;
        let detail = reason.clone();
        let freeze = async move { api.freeze_release(caller, &reason).await };
        let release = admitted.around(&detail, freeze).await?;
        Ok(Response::new(v1::FreezeResponse { release: Some(release) }))
    }

    async fn unfreeze(
        &self,
        request: Request<v1::UnfreezeRequest>,
    ) -> Result<Response<v1::UnfreezeResponse>, Status> {
        let admitted = Admitted::of(&request)?;
        let (api, caller) = (self.clone(), admitted.caller(methods::UNFREEZE.name));
        let unfreeze = async move { api.unfreeze_release(caller).await };
        let release = admitted.around("", unfreeze).await?;
        Ok(Response::new(v1::UnfreezeResponse { release: Some(release) }))
    }

    async fn get_release(
        &self,
        _request: Request<v1::GetReleaseRequest>,
    ) -> Result<Response<v1::GetReleaseResponse>, Status> {
        Ok(Response::new(v1::GetReleaseResponse { release: Some(self.release_now()) }))
    }

    async fn list_log(
        &self,
        request: Request<v1::ListLogRequest>,
    ) -> Result<Response<Self::ListLogStream>, Status> {
        let admitted = Admitted::of(&request)?;
        let pages = log_pages::open(self, admitted, &request.into_inner()).await?;
        Ok(Response::new(pages::stream(pages)))
    }
}

impl Api {
    /// The fleet and the head, as messages.
    async fn fleet_now(&self) -> Result<(Vec<v1::Edge>, Option<v1::Position>), Status> {
        let (fleet, head) = (self.fleet.clone(), self.log.head());
        // The age of what an edge lacks may have to be read from the store.
        let edges = blocking(move || fleet.edges()).await?;
        let head = *head.borrow();
        Ok((edges.into_iter().map(edge).collect(), Some(head.into())))
    }

    /// Sends the fleet after each change. A client that is slow gets fewer, and later, messages.
    async fn watch(self, sender: mpsc::Sender<Result<v1::WatchEdgesResponse, Status>>) {
        let (mut changed, mut head) = (self.fleet.changed(), self.log.head());
        let mut drain = self.drain.clone();
        loop {
            changed.borrow_and_update();
            head.borrow_and_update();
            let now = self.fleet_now().await;
            let is_over = now.is_err();
            let message = now.map(|(edges, head)| v1::WatchEdgesResponse { edges, head });
            if sender.send(message).await.is_err() || is_over {
                return;
            }
            let next = async {
                sleep(WATCH_PAUSE).await;
                tokio::select! {
                    ticked = changed.changed() => ticked.is_ok(),
                    moved = head.changed() => moved.is_ok(),
                }
            };
            let goes_on = tokio::select! {
                goes_on = next => goes_on,
                _ = drain.wait_for(|drain| *drain) => false,
                () = sender.closed() => return,
            };
            if !goes_on {
                let _ = sender.send(Err(status::stopping())).await;
                return;
            }
        }
    }

    /// The position that a caller means. Another log's, or another history's, is not waited for:
    /// the same offset means something else there (rule 20).
    async fn position(&self, given: Option<v1::Position>) -> Result<v1::Position, Status> {
        let head = *self.log.head().borrow();
        let Some(given) = given else { return Ok(head.into()) };
        let offset = Offset(given.offset);
        if !given.log_id.is_empty() {
            let id = <[u8; 16]>::try_from(&*given.log_id).map(LogId);
            let id = id.map_err(|_| Status::invalid_argument("log_id has 16 octets"))?;
            if id != head.log {
                return Err(Status::failed_precondition(format!(
                    "the position is of the log {id}, this is the log {}: use a receipt of this one",
                    head.log
                )));
            }
        }
        if offset > head.offset {
            return Err(status::wait(&WaitError::BeyondHead { head: head.offset }));
        }
        let has = self.read(move |view| view.hash_at(offset)).await?;
        if !given.history_hash.is_empty() {
            let hash = <[u8; 32]>::try_from(&*given.history_hash).map(HistoryHash);
            let hash = hash.map_err(|_| Status::invalid_argument("history_hash has 32 octets"))?;
            if has != Some(hash) {
                return Err(Status::failed_precondition(format!(
                    "offset {offset} has another history in this log than in the position given: \
                     the log was restored from a backup since; write again what is missing"
                )));
            }
        }
        Ok(match has {
            Some(hash) => Position { log: head.log, offset, hash }.into(),
            // Within a change set there is no hash.
            None => v1::Position {
                history_hash: given.history_hash,
                ..Position { offset, ..head }.into()
            },
        })
    }
}

fn timeout(given: Option<prost_types::Duration>) -> Result<Duration, Status> {
    let Some(given) = given else { return Ok(WAIT) };
    let timeout = Duration::try_from(given).ok().filter(|timeout| *timeout <= WAIT_MOST);
    timeout.ok_or_else(|| Status::invalid_argument("timeout is out of its range: 0 s to 1 h"))
}

fn wanted(given: Option<Which>) -> Result<Wanted, Status> {
    match given {
        Some(Which::All(true)) => Ok(Wanted::All),
        Some(Which::Count(count)) if count > 0 => {
            Ok(Wanted::Count(usize::try_from(count).unwrap_or(usize::MAX)))
        }
        Some(Which::Ids(v1::EdgeIds { ids })) if !ids.is_empty() => {
            let ids = ids.iter().map(|id| edge_id(id));
            Ok(Wanted::Ids(ids.collect::<Result<_, _>>()?))
        }
        _ => Err(Status::invalid_argument(
            "no edges to wait for: ask for all, for a count of at least 1, or for ids",
        )),
    }
}

fn edge_id(text: &str) -> Result<EdgeId, Status> {
    text.parse().map_err(|error| status::bad_input(&error))
}

fn duration(length: Duration) -> prost_types::Duration {
    length.try_into().unwrap_or(prost_types::Duration { seconds: i64::MAX, nanos: 0 })
}

const fn state(state: EdgeState) -> v1::EdgeState {
    match state {
        EdgeState::Disconnected => v1::EdgeState::Disconnected,
        EdgeState::CatchingUp => v1::EdgeState::CatchingUp,
        EdgeState::Current => v1::EdgeState::Current,
        EdgeState::Halted => v1::EdgeState::Halted,
        EdgeState::Held => v1::EdgeState::Held,
        EdgeState::Snapshot => v1::EdgeState::Snapshot,
    }
}

const fn wait_end(end: WaitEnd) -> v1::WaitEnd {
    match end {
        WaitEnd::Reached => v1::WaitEnd::Reached,
        WaitEnd::Timeout => v1::WaitEnd::Timeout,
        WaitEnd::Frozen => v1::WaitEnd::Frozen,
        WaitEnd::Halted => v1::WaitEnd::Halted,
    }
}

fn missing_edge(view: &EdgeView) -> v1::MissingEdge {
    v1::MissingEdge {
        id: view.id.to_string(),
        state: state(view.state).into(),
        durable_offset: view.durable.map_or(0, |durable| durable.offset.0),
        reason: view.reason.clone(),
    }
}

fn edge(view: EdgeView) -> v1::Edge {
    let latency = v1::Latency {
        count: view.latency.count,
        p50_us: view.latency.p50,
        p99_us: view.latency.p99,
        p999_us: view.latency.p999,
        max_us: view.latency.max,
    };
    v1::Edge {
        id: view.id.to_string(),
        state: state(view.state).into(),
        durable: view.durable.map(v1::Position::from),
        lag_changes: view.lag_changes,
        lag: Some(duration(view.lag)),
        acked_changes: view.acked_changes,
        resumed_from: view.resumed_from.0,
        sessions: view.sessions,
        since: Some(view.since.into()),
        version: view.version,
        address: view.address,
        reason: view.reason,
        latency: Some(latency),
        snapshot: view.snapshot.map(|snapshot| v1::SnapshotProgress {
            offset: snapshot.offset.0,
            chunks_done: snapshot.done,
            chunks: snapshot.chunks,
        }),
        repairs: view.repairs,
    }
}
