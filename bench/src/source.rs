//! A control plane that is nothing but a log in memory and the core's sender, so that what is
//! measured is the edge. It times each set from sent to acked.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use edgesync_core::{
    position::{Offset, Position},
    session::{CommittedSet, Sender, SenderConfig, SenderInput, SenderOutput, ToControl, ToEdge},
};
use edgesync_proto::v1::{
    self,
    sync_service_server::{SyncService, SyncServiceServer},
};
use prost::Message;
use tokio::{
    net::TcpListener,
    sync::{mpsc, watch},
};
use tokio_stream::{
    StreamExt,
    wrappers::{TcpListenerStream, UnboundedReceiverStream},
};
use tonic::{Request, Response, Status, Streaming, transport::Server};

use crate::{Failure, load, load::Load};

/// The source, while it serves.
#[derive(Clone)]
pub struct Source {
    shared: Arc<Shared>,
    /// Where it listens.
    pub address: SocketAddr,
}

struct Shared {
    log: Mutex<Load>,
    head: watch::Sender<Position>,
    acked: watch::Sender<Offset>,
    seen: Mutex<Seen>,
}

/// What the source has seen of its edge.
#[derive(Default)]
pub struct Seen {
    /// When each live set was sent; its last offset.
    pub sent: Vec<(Offset, Instant)>,
    /// When each ack came, and up to where.
    pub acks: Vec<(Offset, Instant)>,
    /// When the first Hello came.
    pub hello: Option<Instant>,
    /// Octets of all frames, with gRPC's five each.
    pub octets: u64,
}

impl Source {
    /// Serves a log on a free port of loopback.
    pub async fn serve(log: Load) -> Result<Self, Failure> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let (head, _) = watch::channel(log.head);
        let (acked, _) = watch::channel(Offset::ZERO);
        let shared = Shared { log: Mutex::new(log), head, acked, seen: Mutex::default() };
        let source = Self { shared: Arc::new(shared), address };
        let service = SyncServiceServer::new(source.clone());
        let server = Server::builder()
            .initial_stream_window_size(4 << 20)
            .initial_connection_window_size(16 << 20)
            .tcp_nodelay(true)
            .add_service(service)
            .serve_with_incoming(TcpListenerStream::new(listener));
        tokio::spawn(server);
        Ok(source)
    }

    fn log(&self) -> std::sync::MutexGuard<'_, Load> {
        self.shared.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn seen(&self) -> std::sync::MutexGuard<'_, Seen> {
        self.shared.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds one edit to the log and releases it.
    pub fn edit(&self, zones: u32, number: u32) -> Result<(), Failure> {
        let mut log = self.log();
        let set = log.edit(zones, number)?;
        log.push(&set);
        self.shared.head.send_replace(log.head);
        Ok(())
    }

    /// Waits until everything is acked.
    pub async fn all_acked(&self, timeout: Duration) -> Result<(), Failure> {
        let head = self.shared.head.borrow().offset;
        let mut acked = self.shared.acked.subscribe();
        tokio::time::timeout(timeout, acked.wait_for(|acked| *acked >= head)).await??;
        Ok(())
    }

    /// What was seen since the last time.
    pub fn take_seen(&self) -> Seen {
        std::mem::take(&mut *self.seen())
    }

    /// Begins anew, for another edge.
    pub fn forget(&self) {
        self.shared.acked.send_replace(Offset::ZERO);
    }

    async fn session(
        self,
        mut inbound: Streaming<v1::SyncRequest>,
        outbound: mpsc::UnboundedSender<Result<v1::SyncResponse, Status>>,
    ) {
        let mut head = self.shared.head.subscribe();
        let first = *head.borrow_and_update();
        let config = SenderConfig { heartbeat: Duration::from_secs(1) };
        let mut sender = Sender::new(config, first, Instant::now());
        while let Some(due) = sender.poll_timeout() {
            tokio::select! {
                message = inbound.next() => {
                    let Some(Ok(message)) = message else { return };
                    let Ok(message) = ToControl::try_from(message) else { return };
                    sender.handle(self.input(message), Instant::now());
                }
                moved = head.changed() => {
                    if moved.is_err() {
                        return;
                    }
                    let head = *head.borrow_and_update();
                    sender.handle(SenderInput::Head(head), Instant::now());
                }
                () = tokio::time::sleep_until(due.into()) => sender.handle_timeout(Instant::now()),
            }
            while let Some(output) = sender.poll() {
                match output {
                    SenderOutput::Send(message) => {
                        if outbound.send(Ok(self.seen_sending(message))).is_err() {
                            return;
                        }
                    }
                    SenderOutput::Fetch { after, octets, .. } => {
                        let fetched = self.fetch(after, octets);
                        sender.handle(fetched, Instant::now());
                    }
                    SenderOutput::Acked { durable, .. } => {
                        self.seen().acks.push((durable.offset, Instant::now()));
                        self.shared.acked.send_replace(durable.offset);
                    }
                    SenderOutput::Nacked(halt) => eprintln!("the edge refused: {}", halt.reason),
                    // Its log begins at the first change: nobody needs a snapshot.
                    SenderOutput::Snapshot { .. }
                    | SenderOutput::FetchChunk { .. }
                    | SenderOutput::Paused(_)
                    | SenderOutput::Staged(_) => {}
                    SenderOutput::Close => return,
                }
            }
        }
    }

    fn input(&self, message: ToControl) -> SenderInput {
        match message {
            ToControl::Hello(hello) => {
                self.seen().hello.get_or_insert_with(Instant::now);
                let ours = hello.position.map(|position| position.hash);
                let (filter, floor) = (hello.filter.clone(), Offset::ZERO);
                SenderInput::Hello { hello, filter, ours, floor, head: self.log().head }
            }
            other => SenderInput::Message(other),
        }
    }

    fn seen_sending(&self, message: ToEdge) -> v1::SyncResponse {
        let lasts: Vec<Offset> = match &message {
            ToEdge::Frame(parts) => parts.iter().map(|part| part.set.last).collect(),
            _ => Vec::new(),
        };
        let message = v1::SyncResponse::from(message);
        if !lasts.is_empty() {
            let mut seen = self.seen();
            seen.octets += message.encoded_len() as u64 + 5;
            let now = Instant::now();
            seen.sent.extend(lasts.into_iter().map(|last| (last, now)));
        }
        message
    }

    fn fetch(&self, after: Offset, octets: usize) -> SenderInput {
        let log = self.log();
        let sets = load::after(&log.sets, after, octets);
        let position =
            |set: &CommittedSet| Position { offset: set.last, hash: set.hash, ..log.head };
        let read_to = sets.last().map_or(log.head, position);
        SenderInput::Fetched { sets, read_to }
    }
}

#[tonic::async_trait]
impl SyncService for Source {
    type SyncStream = UnboundedReceiverStream<Result<v1::SyncResponse, Status>>;

    async fn sync(
        &self,
        request: Request<Streaming<v1::SyncRequest>>,
    ) -> Result<Response<Self::SyncStream>, Status> {
        let (outbound, responses) = mpsc::unbounded_channel();
        tokio::spawn(self.clone().session(request.into_inner(), outbound));
        Ok(Response::new(UnboundedReceiverStream::new(responses)))
    }
}
