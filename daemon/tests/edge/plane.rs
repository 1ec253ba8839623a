//! A control plane for tests: a log in memory and the core's sender behind a real server; it can
//! cut streams, be stopped, and write down what edges say.

use std::{
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use edgesync_core::{
    Rtype,
    change::{Change, ChangeSet, Generation},
    fold::ZoneStates,
    name::Name,
    position::{LogId, Offset, Position},
    record::RecordId,
    sample::{Sample, Sweep, ZoneDigest},
    session::{
        Ack, CommittedSet, Filter, GoodbyeReason, Halt, Hello, Pause, Sender, SenderConfig,
        SenderInput, SenderOutput, ToControl, ToEdge,
    },
    snapshot::{Chunk, Manifest, Scope, SnapshotId, Staged},
};
use edgesync_proto::{
    convert::{decode_set, encode_set},
    v1::{
        self,
        sync_service_server::{SyncService, SyncServiceServer},
    },
};
use tokio::{
    net::TcpListener,
    sync::{mpsc, oneshot, watch},
};
use tokio_stream::{
    Stream, StreamExt,
    wrappers::{TcpListenerStream, UnboundedReceiverStream},
};
use tonic::{Request, Response, Status, Streaming, transport::Server};

use crate::snapshot::Folded;

/// Rows of one chunk.
const CHUNK_ROWS: usize = 100;

/// What is done to a chunk before it is sent.
type Forge = Box<dyn FnMut(Chunk) -> Chunk + Send>;

/// What edges have said.
#[derive(Default)]
pub struct Heard {
    pub hellos: Vec<Hello>,
    pub acks: Vec<Ack>,
    pub nacks: Vec<Halt>,
    pub paused: Vec<Pause>,
    /// What was said to be durable of snapshots, and the repairs that were asked for.
    pub staged: Vec<Staged>,
    pub repairs: Vec<Name>,
    /// Chunks that were sent.
    pub chunks: usize,
    /// Offsets of the sets that were sent, also those sent again.
    pub sent: Vec<(Offset, Offset)>,
}

struct Inner {
    log: Mutex<(Vec<CommittedSet>, Position)>,
    head: watch::Sender<Position>,
    heard: Mutex<Heard>,
    heard_more: watch::Sender<()>,
    killed: watch::Sender<u32>,
    /// Sets that are still sent before the stream is cut.
    cut_after: Mutex<Option<usize>>,
    /// The log begins after this offset.
    floor: Mutex<Offset>,
    snapshots: Mutex<Vec<(Manifest, Vec<Chunk>)>>,
    /// How long each chunk takes to be read.
    chunk_pause: Mutex<Duration>,
    /// Zones below these are all that the edge may have.
    allowed: Mutex<Vec<Name>>,
    /// Which zones the session is for.
    filter: Mutex<Filter>,
    /// What is done to each chunk before it is sent.
    forge: Mutex<Option<Forge>>,
    /// More is sent than edges say that they take.
    ignores_windows: AtomicBool,
    /// What is said instead of a session.
    goodbye: Mutex<Option<(GoodbyeReason, Duration)>>,
    /// What sessions have panicked with: a task's panic is nobody's else.
    failures: Mutex<Vec<String>>,
}

/// A control plane.
#[derive(Clone)]
pub struct Plane {
    inner: Arc<Inner>,
}

/// A server of a control plane; stops when it is dropped.
pub struct Serving {
    pub address: SocketAddr,
    _stop: oneshot::Sender<()>,
    server: tokio::task::JoinHandle<()>,
    plane: Plane,
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.server.abort();
        self.plane.inner.killed.send_modify(|times| *times += 1);
        let failures = self.plane.inner.failures.lock().unwrap_or_else(PoisonError::into_inner);
        assert!(failures.is_empty() || std::thread::panicking(), "{failures:?}");
    }
}

impl Plane {
    pub fn new(log: u8) -> Self {
        let start = Position::genesis(LogId([log; 16]));
        let inner = Inner {
            log: Mutex::new((Vec::new(), start)),
            head: watch::channel(start).0,
            heard: Mutex::default(),
            heard_more: watch::channel(()).0,
            killed: watch::channel(0).0,
            cut_after: Mutex::default(),
            floor: Mutex::default(),
            snapshots: Mutex::default(),
            chunk_pause: Mutex::default(),
            allowed: Mutex::new(vec![Name::root()]),
            filter: Mutex::new(Filter::All),
            forge: Mutex::default(),
            ignores_windows: AtomicBool::default(),
            goodbye: Mutex::default(),
            failures: Mutex::default(),
        };
        Self { inner: Arc::new(inner) }
    }

    pub fn head(&self) -> Position {
        *self.inner.head.borrow()
    }

    /// Commits a set; gives back its first offset.
    pub fn commit(&self, zone: &Name, generation: Option<u64>, changes: Vec<Change>) -> u64 {
        let first = self.head().offset.next();
        let generation = Generation(generation.unwrap_or(first.0));
        let set =
            ChangeSet { zone: zone.clone(), generation, first, changes, override_guard: false };
        self.commit_bytes(first, set.last(), encode_set(&set));
        first.0
    }

    /// Commits bytes as they are.
    pub fn commit_bytes(&self, first: Offset, last: Offset, body: Bytes) {
        let mut log = self.inner.log.lock().unwrap();
        let prev = log.1.offset;
        log.1 = log.1.after(last, &body);
        let hash = log.1.hash;
        log.0.push(CommittedSet { prev, first, last, hash, body });
        self.inner.head.send_replace(log.1);
    }

    /// A zone with so many records; gives back its generation.
    pub fn zone(&self, zone: &Name, records: u64) -> u64 {
        let creates = (1..=records).map(|n| Change::RecordCreate {
            owner: owner(zone, n),
            rtype: Rtype::A,
            ttl: 60,
            rdata: address(0),
        });
        self.commit(zone, None, [Change::ZoneCreate].into_iter().chain(creates).collect())
    }

    /// An edit of the `n`th record of a zone.
    pub fn edit(&self, zone: &Name, generation: u64, n: u64, value: u32) {
        let (id, rtype, rdata) = (RecordId(generation + n), Rtype::A, address(value));
        let edit = Change::RecordEdit { id, owner: owner(zone, n), rtype, ttl: 60, rdata };
        self.commit(zone, Some(generation), vec![edit]);
    }

    /// Cuts the stream after so many sets more, once.
    pub fn cut_after(&self, sets: usize) {
        *self.inner.cut_after.lock().unwrap() = Some(sets);
    }

    /// Sends as much as any edge could want, whatever this one says.
    pub fn ignore_windows(&self) {
        self.inner.ignores_windows.store(true, Relaxed);
    }

    /// Says goodbye to every Hello from now on.
    pub fn refuse(&self, reason: GoodbyeReason, wait: Duration) {
        *self.inner.goodbye.lock().unwrap() = Some((reason, wait));
    }

    pub fn heard<T>(&self, read: impl FnOnce(&Heard) -> T) -> T {
        read(&self.inner.heard.lock().unwrap())
    }

    /// Waits until what was heard is as wanted.
    pub async fn until(&self, what: &str, wanted: impl Fn(&Heard) -> bool) {
        let mut more = self.inner.heard_more.subscribe();
        let heard = async {
            while !self.heard(&wanted) {
                more.changed().await.unwrap();
            }
        };
        let heard = tokio::time::timeout(Duration::from_secs(30), heard).await;
        assert!(heard.is_ok(), "waited 30 s in vain until {what}");
    }

    /// Waits until the head is acked.
    pub async fn until_acked(&self) {
        let head = self.head().offset;
        let acked = |heard: &Heard| heard.acks.iter().any(|ack| ack.last >= head);
        self.until("all is acked", acked).await;
    }

    pub async fn serve(&self) -> Serving {
        self.serve_at("127.0.0.1:0".parse().unwrap()).await
    }

    pub async fn serve_at(&self, address: SocketAddr) -> Serving {
        let mut listener = TcpListener::bind(address).await;
        for _ in 0..200 {
            if listener.is_err() {
                tokio::time::sleep(Duration::from_millis(10)).await;
                listener = TcpListener::bind(address).await;
            }
        }
        let listener = listener.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let service = SyncServiceServer::new(self.clone());
        let server = Server::builder()
            .initial_stream_window_size(4 << 20)
            .initial_connection_window_size(4 << 20)
            .add_service(service)
            .serve_with_incoming_shutdown(TcpListenerStream::new(listener), async {
                let _ = stopped.await;
            });
        let server = tokio::spawn(async { server.await.unwrap() });
        Serving { address, _stop: stop, server, plane: self.clone() }
    }

    fn input(&self, message: ToControl) -> SenderInput {
        let mut heard = self.inner.heard.lock().unwrap();
        match &message {
            ToControl::Hello(hello) => heard.hellos.push(hello.clone()),
            ToControl::Ack(ack) => heard.acks.push(*ack),
            ToControl::Paused { ack, pause } => {
                heard.acks.push(*ack);
                heard.paused.push(pause.clone());
            }
            ToControl::Nack(halt) => heard.nacks.push(halt.clone()),
            ToControl::SnapshotAck(staged) => heard.staged.push(*staged),
            ToControl::Repair { zone } => heard.repairs.push(zone.clone()),
        }
        self.inner.heard_more.send_replace(());
        match message {
            ToControl::Hello(mut hello) => {
                if self.inner.ignores_windows.load(Relaxed) {
                    hello.window = u32::MAX;
                }
                let log = self.inner.log.lock().unwrap();
                let genesis = Position::genesis(log.1.log);
                let at = |offset| match offset {
                    Offset::ZERO => Some(genesis.hash),
                    _ => log.0.iter().find(|set| set.last == offset).map(|set| set.hash),
                };
                let ours = hello.position.and_then(|position| at(position.offset));
                let floor = *self.inner.floor.lock().unwrap();
                let filter = hello.filter.within(&self.inner.allowed.lock().unwrap()).unwrap();
                self.inner.filter.lock().unwrap().clone_from(&filter);
                SenderInput::Hello { hello, filter, ours, floor, head: log.1 }
            }
            other => SenderInput::Message(other),
        }
    }

    /// From the next session on the edge may have no other zones than those below some names.
    pub fn allow(&self, names: &[&str]) {
        *self.inner.allowed.lock().unwrap() = names.iter().map(|text| name(text)).collect();
    }

    /// Forgets all sets; who needs them gets a snapshot.
    pub fn compact(&self) {
        *self.inner.floor.lock().unwrap() = self.head().offset;
    }

    /// Lets each chunk take a while.
    pub fn pause_chunks(&self, pause: Duration) {
        *self.inner.chunk_pause.lock().unwrap() = pause;
    }

    /// Does something to each chunk before it is sent.
    pub fn forge(&self, forge: impl FnMut(Chunk) -> Chunk + Send + 'static) {
        *self.inner.forge.lock().unwrap() = Some(Box::new(forge));
    }

    fn folded(&self) -> Folded {
        Folded::of(&self.inner.log.lock().unwrap().0)
    }

    /// What all zones are at the head.
    fn sample(&self) -> SenderInput {
        let digest = |(origin, states): (Name, ZoneStates)| {
            let content = states.visible.map(|state| (state.records, state.digest));
            ZoneDigest { origin, content }
        };
        let zones = self.folded().zones.into_values().map(digest);
        let zones = zones.filter(|zone| zone.content.is_some()).collect();
        let sweep = Sweep { after: None, zones, to_end: true };
        let filter = self.inner.filter.lock().unwrap();
        let sample = Sample { changed: Vec::new(), sweep }.for_zones(|zone| filter.wants(zone));
        SenderInput::Sample(self.head(), sample)
    }

    fn snapshot(&self, scope: Scope, staged: Option<Staged>) -> SenderInput {
        let mut snapshots = self.inner.snapshots.lock().unwrap();
        let known = staged.and_then(|staged| {
            let found = snapshots.iter().find(|(manifest, _)| manifest.id == staged.id);
            let (manifest, _) = found.filter(|(manifest, _)| manifest.scope == scope)?;
            Some(SenderInput::Snapshot { manifest: manifest.clone(), next: staged.next })
        });
        known.unwrap_or_else(|| {
            let id = u8::try_from(snapshots.len()).unwrap();
            let filter = self.inner.filter.lock().unwrap().clone();
            let folded = self.folded();
            let (manifest, chunks) = folded.snapshot(id, self.head(), scope, &filter, CHUNK_ROWS);
            snapshots.push((manifest.clone(), chunks));
            SenderInput::Snapshot { manifest, next: 0 }
        })
    }

    fn chunk(&self, id: SnapshotId, index: u32) -> SenderInput {
        let snapshots = self.inner.snapshots.lock().unwrap();
        let (_, chunks) = snapshots.iter().find(|(manifest, _)| manifest.id == id).unwrap();
        let chunk = chunks[usize::try_from(index).unwrap()].clone();
        self.inner.heard.lock().unwrap().chunks += 1;
        let mut forge = self.inner.forge.lock().unwrap();
        SenderInput::Chunk(match forge.as_mut() {
            Some(forge) => forge(chunk),
            None => chunk,
        })
    }

    fn fetch(&self, after: Offset, upto: Offset) -> SenderInput {
        let log = self.inner.log.lock().unwrap();
        let within = |set: &&CommittedSet| set.first > after && set.last <= upto;
        let mut sets: Vec<_> = log.0.iter().filter(within).take(8).cloned().collect();
        let position = |set: &CommittedSet| Position { offset: set.last, hash: set.hash, ..log.1 };
        let read_to = sets.last().map_or(log.1, position);
        let filter = self.inner.filter.lock().unwrap();
        sets.retain(|set| decode_set(set.body.clone()).map_or(true, |set| filter.wants(&set.zone)));
        SenderInput::Fetched { sets, read_to }
    }

    /// Writes down what is sent. True if the stream is to be cut before it.
    fn sending(&self, message: &ToEdge) -> bool {
        if matches!(message, ToEdge::SnapshotChunk(_)) {
            return self.cuts(1);
        }
        let ToEdge::Frame(parts) = message else { return false };
        let sets =
            parts.iter().filter(|part| part.from == 0).map(|part| (part.set.first, part.set.last));
        self.inner.heard.lock().unwrap().sent.extend(sets);
        self.cuts(parts.len())
    }

    /// True if the stream is to be cut before so much more is sent.
    fn cuts(&self, count: usize) -> bool {
        let mut cut = self.inner.cut_after.lock().unwrap();
        match cut.as_mut().map(|left| left.checked_sub(count)) {
            None => false,
            Some(Some(left)) => {
                *cut = Some(left);
                false
            }
            Some(None) => {
                *cut = None;
                true
            }
        }
    }

    async fn session(
        self,
        mut inbound: Streaming<v1::SyncRequest>,
        outbound: mpsc::UnboundedSender<Result<v1::SyncResponse, Status>>,
    ) {
        let mut head = self.inner.head.subscribe();
        let first = *head.borrow_and_update();
        let config = SenderConfig { heartbeat: Duration::from_millis(500) };
        let mut sender = Sender::new(config, first, Instant::now());
        let mut killed = self.inner.killed.subscribe();
        let mut samples = tokio::time::interval(Duration::from_millis(200));
        while let Some(due) = sender.poll_timeout() {
            tokio::select! {
                _ = killed.changed() => return,
                message = inbound.next() => {
                    let Some(Ok(message)) = message else { return };
                    let input = self.input(message.try_into().unwrap());
                    if let Some((reason, retry_after)) = *self.inner.goodbye.lock().unwrap() {
                        let message = "not now".to_owned();
                        let goodbye = ToEdge::Goodbye { reason, retry_after, message };
                        let _ = outbound.send(Ok(goodbye.into()));
                        return;
                    }
                    sender.handle(input, Instant::now());
                }
                _ = samples.tick() => sender.handle(self.sample(), Instant::now()),
                _ = head.changed() => {
                    let head = *head.borrow_and_update();
                    sender.handle(SenderInput::Head(head), Instant::now());
                }
                () = tokio::time::sleep_until(due.into()) => sender.handle_timeout(Instant::now()),
            }
            while let Some(output) = sender.poll() {
                match output {
                    SenderOutput::Send(message) if self.sending(&message) => {
                        let _ = outbound.send(Err(Status::unknown("cut by the test")));
                        return;
                    }
                    SenderOutput::Send(message) => drop(outbound.send(Ok(message.into()))),
                    SenderOutput::Fetch { after, upto, .. } => {
                        sender.handle(self.fetch(after, upto), Instant::now());
                    }
                    SenderOutput::Snapshot { scope, staged } => {
                        sender.handle(self.snapshot(scope, staged), Instant::now());
                    }
                    SenderOutput::FetchChunk { id, index } => {
                        let pause = *self.inner.chunk_pause.lock().unwrap();
                        tokio::time::sleep(pause).await;
                        sender.handle(self.chunk(id, index), Instant::now());
                    }
                    SenderOutput::Acked { .. }
                    | SenderOutput::Nacked(_)
                    | SenderOutput::Paused(_)
                    | SenderOutput::Staged(_) => {}
                    SenderOutput::Close => return,
                }
            }
        }
    }
}

#[tonic::async_trait]
impl SyncService for Plane {
    type SyncStream = Pin<Box<dyn Stream<Item = Result<v1::SyncResponse, Status>> + Send>>;

    async fn sync(
        &self,
        request: Request<Streaming<v1::SyncRequest>>,
    ) -> Result<Response<Self::SyncStream>, Status> {
        let (outbound, responses) = mpsc::unbounded_channel();
        let (plane, inner) = (self.clone(), Arc::clone(&self.inner));
        let session = tokio::spawn(plane.session(request.into_inner(), outbound));
        tokio::spawn(async move {
            if let Err(ended) = session.await
                && ended.is_panic()
            {
                inner.failures.lock().unwrap().push(ended.to_string());
            }
        });
        Ok(Response::new(Box::pin(UnboundedReceiverStream::new(responses))))
    }
}

pub fn name(text: &str) -> Name {
    Name::parse_origin(text).unwrap()
}

pub fn owner(zone: &Name, n: u64) -> Name {
    Name::parse(&format!("host-{n:04}"), zone).unwrap()
}

pub fn address(value: u32) -> Bytes {
    Bytes::copy_from_slice(&value.to_be_bytes())
}
