//! The control plane's side: the real sender in a small shell over the model log.

use std::{
    pin::Pin,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use edgesync_core::{
    position::{Offset, Position},
    session::{Sender, SenderConfig, SenderInput, SenderOutput, ToControl},
    snapshot::{Chunk, Scope, Staged},
};
use edgesync_proto::v1::{
    self,
    sync_service_server::{SyncService, SyncServiceServer},
};
use tokio::sync::{mpsc, watch};
use tokio_stream::{Stream, StreamExt, wrappers::UnboundedReceiverStream};
use tonic::{Request, Response, Status, Streaming, transport::Server};
use turmoil::net::TcpListener;

use crate::{
    model::SimLog,
    wire::{Connection, PORT},
};

type SharedLog = Arc<Mutex<SimLog>>;

/// Runs something beside, and has the log keep what it panics with: a task's panic is nobody's else.
fn beside(log: &SharedLog, task: impl Future<Output = ()> + Send + 'static) {
    let (log, task) = (Arc::clone(log), tokio::spawn(task));
    tokio::spawn(async move {
        let Err(ended) = task.await else { return };
        // One that is only cancelled went with its host.
        let Ok(panic) = ended.try_into_panic() else { return };
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref().copied()).unwrap_or("a panic");
        log.lock().unwrap().failures.push(text.to_owned());
    });
}

/// Runs the control plane, and writes until the storm is over, once in a pace.
pub async fn serve(log: SharedLog, storm: Duration, pace: Duration) -> turmoil::Result {
    let listener = TcpListener::bind(("0.0.0.0", PORT)).await?;
    let (head, heads) = watch::channel(log.lock().unwrap().head());
    let api = Api { log: Arc::clone(&log), head: heads };
    let written = Arc::clone(&log);
    beside(&log, async move {
        for n in 0u64.. {
            if turmoil::sim_elapsed().is_none_or(|elapsed| elapsed >= storm) {
                // The sender is kept: a closed head would end the sessions.
                std::future::pending::<()>().await;
            }
            tokio::time::sleep(pace).await;
            if n % 97 == 96 {
                written.lock().unwrap().compact();
            }
            let large = n % 150 == 149;
            let octets = if large { 600_000 } else { 200 };
            let mut log = written.lock().unwrap();
            log.append(n % 4 + 1, octets);
            head.send_replace(log.head());
        }
    });
    let incoming = async_stream(listener);
    Server::builder()
        .add_service(SyncServiceServer::new(api))
        .serve_with_incoming(incoming)
        .await?;
    Ok(())
}

fn async_stream(
    listener: TcpListener,
) -> Pin<Box<dyn Stream<Item = std::io::Result<Connection>> + Send>> {
    let (sender, connections) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            if sender.send(Ok(Connection(stream))).is_err() {
                break;
            }
        }
    });
    Box::pin(UnboundedReceiverStream::new(connections))
}

struct Api {
    log: SharedLog,
    head: watch::Receiver<Position>,
}

type Outbound = mpsc::UnboundedSender<Result<v1::SyncResponse, Status>>;

#[tonic::async_trait]
impl SyncService for Api {
    type SyncStream = UnboundedReceiverStream<Result<v1::SyncResponse, Status>>;

    async fn sync(
        &self,
        request: Request<Streaming<v1::SyncRequest>>,
    ) -> Result<Response<Self::SyncStream>, Status> {
        let (outbound, responses) = mpsc::unbounded_channel();
        let (log, head) = (Arc::clone(&self.log), self.head.clone());
        beside(&self.log, session(log, head, request.into_inner(), outbound));
        Ok(Response::new(UnboundedReceiverStream::new(responses)))
    }
}

fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

async fn session(
    log: SharedLog,
    mut head: watch::Receiver<Position>,
    mut inbound: Streaming<v1::SyncRequest>,
    outbound: Outbound,
) {
    let config = SenderConfig { heartbeat: Duration::from_secs(1) };
    let first = *head.borrow();
    let mut sender = Sender::new(config, first, now());
    let mut samples = tokio::time::interval(Duration::from_millis(900));
    let mut edge = None;
    loop {
        let Some(due) = sender.poll_timeout() else { return };
        tokio::select! {
            // In this order: a choice at random would not be replayed by the seed.
            biased;
            message = inbound.next() => {
                let Some(Ok(message)) = message else { return };
                let message = ToControl::try_from(message).expect("an edge sends what can be read");
                if let ToControl::Hello(hello) = &message {
                    edge = Some(hello.edge.to_string());
                }
                sender.handle(input(&log, message), now());
            }
            _ = samples.tick() => {
                let (position, sample) = {
                    let log = log.lock().unwrap();
                    (log.head(), log.sample())
                };
                sender.handle(SenderInput::Sample(position, sample), now());
            }
            moved = head.changed() => {
                if moved.is_err() {
                    return;
                }
                let head = *head.borrow_and_update();
                sender.handle(SenderInput::Head(head), now());
            }
            () = tokio::time::sleep_until(due.into()) => sender.handle_timeout(now()),
        }
        while let Some(output) = sender.poll() {
            match output {
                SenderOutput::Send(message) => drop(outbound.send(Ok(message.into()))),
                SenderOutput::Fetch { after, upto, octets } => {
                    let fetched = log.lock().unwrap().fetch(after, upto, octets);
                    // Compacted meanwhile: the edge comes back for a snapshot.
                    let Some((sets, read_to)) = fetched else { return };
                    sender.handle(SenderInput::Fetched { sets, read_to }, now());
                }
                SenderOutput::Acked { durable, .. } => {
                    let ours = log.lock().unwrap().hash_at(durable.offset);
                    assert_eq!(ours, Some(durable.hash), "an ack is for a position of this log");
                    let edge = edge.clone().expect("an edge says who it is first");
                    log.lock().unwrap().acked(edge, durable.offset);
                }
                SenderOutput::Snapshot { scope, staged } => {
                    sender.handle(snapshot(&log, scope, staged), now());
                }
                SenderOutput::FetchChunk { id, index } => {
                    let (hash, body) = ([0; 32], vec![0; 30_000].into());
                    let chunk = Chunk { snapshot: id, index, hash, body };
                    sender.handle(SenderInput::Chunk(chunk), now());
                }
                SenderOutput::Staged(_) | SenderOutput::Paused(_) => {}
                SenderOutput::Nacked(halt) => panic!("no set is poison here: {halt:?}"),
                SenderOutput::Close => return,
            }
        }
    }
}

/// The snapshot that the edge has a part of, or a new one.
fn snapshot(log: &SharedLog, scope: Scope, staged: Option<Staged>) -> SenderInput {
    let mut log = log.lock().unwrap();
    let begun = staged.and_then(|staged| {
        let manifest = log.made(staged.id).filter(|manifest| manifest.scope == scope)?.clone();
        Some(SenderInput::Snapshot { manifest, next: staged.next })
    });
    begun.unwrap_or_else(|| SenderInput::Snapshot { manifest: log.snapshot(scope), next: 0 })
}

fn input(log: &SharedLog, message: ToControl) -> SenderInput {
    let log = log.lock().unwrap();
    match message {
        ToControl::Hello(hello) => {
            let offset = hello.position.map_or(Offset::ZERO, |position| position.offset);
            let (ours, floor) = (log.hash_at(offset), log.floor());
            let filter = hello.filter.clone();
            SenderInput::Hello { hello, filter, ours, floor, head: log.head() }
        }
        other => SenderInput::Message(other),
    }
}
