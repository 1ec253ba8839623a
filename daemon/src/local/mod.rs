//! The local API (`edgesync.v1.EdgeService`) on a unix socket: answers from the store, whatever the
//! state of the control plane (invariant 14). Reads happen on threads that may wait for the disk.

mod audit;
mod socket;
mod wire;

use std::{path::PathBuf, sync::Arc, time::Duration};

use edgesync_core::{edge_id::EdgeId, name::Name, position::Offset, rdata, session::Halt};
use edgesync_proto::{
    DESCRIPTORS, convert,
    v1::{
        self,
        edge_service_server::{EdgeService, EdgeServiceServer},
    },
};
pub use socket::{Socket, SocketError};
use tokio::{
    net::UnixListener,
    runtime::Handle,
    sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch},
    task::spawn_blocking,
    time::{sleep, timeout},
};
use tokio_stream::wrappers::{ReceiverStream, UnixListenerStream};
use tonic::{Request, Response, Status, transport::Server};

use self::audit::{Asked, EdgeAudit};
use crate::{
    limits::{LIST_ZONES, LONG_READS, WATCH_PERIOD},
    session::{Command, Resumed},
    status::Status as EdgeStatus,
    store::{Reader, StoreError},
};

/// What the audit calls a halted edge that is to go on.
const RESUME_EDGE: &str = "edgesync.v1.EdgeService/ResumeEdge";
/// What the audit calls a set that is to be skipped.
const SKIP_CHANGE_SET: &str = "edgesync.v1.EdgeService/SkipChangeSet";
/// Why there is nothing to resume.
const NOT_HALTED: &str = "the edge is not halted: it applies what comes";
/// How long a client may take to take a part of an answer, before its answer is given up.
const STALL: Duration = Duration::from_secs(30);
/// Parts of an answer that wait for a client.
const PARTS: usize = 4;

/// The local API.
#[derive(Debug, Clone)]
pub struct Local {
    edge: EdgeId,
    reader: Reader,
    status: watch::Receiver<EdgeStatus>,
    commands: mpsc::Sender<Command>,
    long_reads: Arc<Semaphore>,
    audit: EdgeAudit,
}

/// Why the local API ended.
#[derive(Debug, thiserror::Error)]
pub enum LocalError {
    /// The descriptions of the services cannot be read: a defect.
    #[error("reflection: {0}")]
    Reflection(#[from] tonic_reflection::server::Error),
    /// The server failed.
    #[error("the local API: {0}")]
    Serve(#[from] tonic::transport::Error),
}

impl Local {
    /// An API for an edge; what people have it do is written to the file `audit`.
    #[must_use]
    pub fn new(
        edge: EdgeId,
        reader: Reader,
        status: watch::Receiver<EdgeStatus>,
        commands: mpsc::Sender<Command>,
        audit: PathBuf,
    ) -> Self {
        let long_reads = Arc::new(Semaphore::new(LONG_READS));
        Self { edge, reader, status, commands, long_reads, audit: EdgeAudit::new(audit) }
    }

    /// Serves until `shutdown` is done and what was begun is answered.
    ///
    /// # Errors
    /// If the server fails.
    pub async fn serve(
        self,
        listener: UnixListener,
        shutdown: impl Future<Output = ()>,
    ) -> Result<(), LocalError> {
        let reflection = || {
            let builder = tonic_reflection::server::Builder::configure();
            builder
                .register_encoded_file_descriptor_set(DESCRIPTORS)
                .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        };
        let (health, health_service) = tonic_health::server::health_reporter();
        health.set_serving::<EdgeServiceServer<Self>>().await;
        Server::builder()
            .add_service(health_service)
            .add_service(reflection().build_v1()?)
            .add_service(reflection().build_v1alpha()?)
            .add_service(EdgeServiceServer::new(self))
            .serve_with_incoming_shutdown(UnixListenerStream::new(listener), shutdown)
            .await?;
        Ok(())
    }

    fn status_now(&mut self) -> v1::EdgeStatus {
        let status = self.status.borrow_and_update();
        wire::status(&self.edge, &status, self.reader.totals())
    }

    /// Asks the session for something.
    async fn ask<T>(&self, command: Command, answered: oneshot::Receiver<T>) -> Result<T, Status> {
        let ends = || Status::unavailable("the daemon ends");
        self.commands.send(command).await.map_err(|_| ends())?;
        answered.await.map_err(|_| ends())
    }

    async fn long_read(&self) -> Result<OwnedSemaphorePermit, Status> {
        let permit = Arc::clone(&self.long_reads).acquire_owned().await;
        permit.map_err(|_| Status::unavailable("the daemon ends"))
    }
}

/// Reads on a thread that may wait for the disk.
async fn read<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, Status> {
    match spawn_blocking(work).await {
        Ok(done) => done.map_err(|error| failure(&error)),
        Err(_) => Err(Status::internal("the store could not be read: it panicked")),
    }
}

fn failure(error: &StoreError) -> Status {
    match error {
        StoreError::Closed => Status::unavailable(error.to_string()),
        _ => Status::internal(format!("the store could not be read: {error}")),
    }
}

/// A name that a caller gives.
fn name(field: &str, text: &str) -> Result<Name, Status> {
    let wrong = |error| Status::invalid_argument(format!("{field}: {error}"));
    Name::parse_origin(text).map_err(wrong)
}

/// Parts of an answer, made on a thread that may wait for the disk and for the client.
fn streamed<T: Send + 'static>(
    parts: impl Iterator<Item = Result<T, Status>> + Send + 'static,
    permit: Option<OwnedSemaphorePermit>,
) -> Response<ReceiverStream<Result<T, Status>>> {
    let (sender, receiver) = mpsc::channel(PARTS);
    let handle = Handle::current();
    spawn_blocking(move || {
        let _permit = permit;
        for part in parts {
            if !matches!(handle.block_on(timeout(STALL, sender.send(part))), Ok(Ok(()))) {
                return;
            }
        }
    });
    Response::new(ReceiverStream::new(receiver))
}

#[tonic::async_trait]
impl EdgeService for Local {
    type WatchStatusStream = ReceiverStream<Result<v1::WatchStatusResponse, Status>>;
    type ListEdgeZonesStream = ReceiverStream<Result<v1::ListEdgeZonesResponse, Status>>;
    type ExportZoneStream = ReceiverStream<Result<v1::ExportZoneResponse, Status>>;

    async fn get_status(
        &self,
        _: Request<v1::GetStatusRequest>,
    ) -> Result<Response<v1::GetStatusResponse>, Status> {
        let status = Some(self.clone().status_now());
        Ok(Response::new(v1::GetStatusResponse { status }))
    }

    async fn watch_status(
        &self,
        _: Request<v1::WatchStatusRequest>,
    ) -> Result<Response<Self::WatchStatusStream>, Status> {
        let (sender, receiver) = mpsc::channel(1);
        let mut local = self.clone();
        tokio::spawn(async move {
            loop {
                let status = Some(local.status_now());
                if sender.send(Ok(v1::WatchStatusResponse { status })).await.is_err() {
                    return;
                }
                sleep(WATCH_PERIOD).await;
                tokio::select! {
                    changed = local.status.changed() => if changed.is_err() { return },
                    () = sender.closed() => return,
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    async fn lookup_records(
        &self,
        request: Request<v1::LookupRecordsRequest>,
    ) -> Result<Response<v1::LookupRecordsResponse>, Status> {
        let v1::LookupRecordsRequest { owner, r#type } = request.into_inner();
        let owner = name("owner", &owner)?;
        let wrong = |error: rdata::RdataError| Status::invalid_argument(format!("type: {error}"));
        let rtype = (!r#type.is_empty()).then(|| rdata::parse_type(&r#type)).transpose();
        let (rtype, reader) = (rtype.map_err(wrong)?, self.reader.clone());
        let found = read(move || reader.lookup(&owner, rtype)).await?;
        let records = found.records.iter().map(|(zone, record)| convert::record(zone, record));
        let position = found.position.map(Into::into);
        Ok(Response::new(v1::LookupRecordsResponse { records: records.collect(), position }))
    }

    async fn list_edge_zones(
        &self,
        _: Request<v1::ListEdgeZonesRequest>,
    ) -> Result<Response<Self::ListEdgeZonesStream>, Status> {
        let reader = self.reader.clone();
        let mut last: Option<Name> = None;
        let parts = std::iter::from_fn(move || {
            let zones = reader.zones(last.as_ref(), LIST_ZONES);
            last = zones.last().map(|zone| zone.origin.clone());
            let zones: Vec<_> = zones.iter().map(wire::zone).collect();
            (!zones.is_empty()).then_some(Ok(v1::ListEdgeZonesResponse { zones }))
        });
        Ok(streamed(parts, None))
    }

    async fn export_zone(
        &self,
        request: Request<v1::ExportZoneRequest>,
    ) -> Result<Response<Self::ExportZoneStream>, Status> {
        let origin = name("origin", &request.into_inner().origin)?;
        let permit = self.long_read().await?;
        let (reader, zone) = (self.reader.clone(), origin.clone());
        let export = read(move || reader.export(&zone)).await?;
        let none = || Status::not_found(format!("this edge has no zone {origin}"));
        let export = export.ok_or_else(none)?;
        let position: Option<v1::Position> = export.position().map(Into::into);
        let parts = export.map(move |text| {
            let text = text.map_err(|error| failure(&error))?;
            Ok(v1::ExportZoneResponse { text, position: position.clone() })
        });
        Ok(streamed(parts, Some(permit)))
    }

    async fn verify_store(
        &self,
        _: Request<v1::VerifyStoreRequest>,
    ) -> Result<Response<v1::VerifyStoreResponse>, Status> {
        let permit = self.long_read().await?;
        let reader = self.reader.clone();
        let verified = read(move || {
            let _permit = permit;
            reader.verify()
        });
        let verified = verified.await?;
        let damaged = verified.mismatches.clone();
        if !damaged.is_empty() {
            // Mended by their snapshots; if the session is gone, so is the daemon.
            let _ = self.commands.send(Command::Damaged(damaged)).await;
        }
        Ok(Response::new(wire::verified(verified)))
    }

    async fn resume_edge(
        &self,
        request: Request<v1::ResumeEdgeRequest>,
    ) -> Result<Response<v1::ResumeEdgeResponse>, Status> {
        let asked = Asked::new(&request, &request.get_ref().principal, RESUME_EDGE, 0);
        let halted = self.audit.around(&asked, async {
            let (answer, answered) = oneshot::channel();
            let Resumed { halted, failed, paused } =
                self.ask(Command::Resume { answer }, answered).await?;
            match (failed, halted, &paused) {
                (Some(failed), ..) => Err(Status::failed_precondition(failed)),
                (None, Some(halted), _) => Ok((halted, paused.unwrap_or_default())),
                (None, None, Some(paused)) => Err(Status::failed_precondition(format!(
                    "the edge is not halted, but applies nothing for now: {paused}"
                ))),
                (None, None, None) => Err(Status::failed_precondition(NOT_HALTED)),
            }
        });
        let (halted, paused) = halted.await?;
        let (first, reason) = (halted.first, halted.reason);
        tracing::warn!(principal = asked.who, %first, reason, "resumed by hand");
        Ok(Response::new(v1::ResumeEdgeResponse { reason, paused }))
    }

    async fn skip_change_set(
        &self,
        request: Request<v1::SkipChangeSetRequest>,
    ) -> Result<Response<v1::SkipChangeSetResponse>, Status> {
        let v1::SkipChangeSetRequest { first, principal } = request.get_ref();
        let asked = Asked::new(&request, principal, SKIP_CHANGE_SET, *first);
        let first = Offset(*first);
        let skipped = self.audit.around(&asked, async {
            let (answer, answered) = oneshot::channel();
            let skipped = self.ask(Command::Skip { first, answer }, answered).await?;
            skipped.map_err(|halted| Status::failed_precondition(not_skipped(first, halted)))
        });
        let skipped = skipped.await?;
        let (principal, reason) = (asked.who, skipped.reason);
        tracing::warn!(principal, %first, reason, "a change set is skipped by hand");
        Ok(Response::new(v1::SkipChangeSetResponse { last: skipped.last.0 }))
    }
}

/// Why a set is not skipped.
fn not_skipped(first: Offset, halted: Option<Halt>) -> String {
    match halted {
        None => NOT_HALTED.to_owned(),
        Some(halt) if halt.held => format!(
            "what is held is not skipped: let it pass with `edgesync edge resume`, or wait for what \
             takes its place ({})",
            halt.reason
        ),
        // The store has failed: there is no set that could be skipped.
        Some(halt) if halt.first == first => format!("nothing is skipped: {}", halt.reason),
        Some(halt) => format!("the edge is halted before offset {}, not {first}", halt.first),
    }
}
