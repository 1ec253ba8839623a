//! The edge's side: the real receiver in a small shell over the model disk.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use edgesync_core::{
    position::{LogId, Position},
    sample::Sample,
    session::{
        Filter, Hello, InstanceId, PROTOCOL, Receiver, ReceiverInput, ReceiverOutput, ToEdge,
    },
    snapshot::{Manifest, SnapshotId},
};
use edgesync_proto::v1::{self, sync_service_client::SyncServiceClient};
use tokio::sync::mpsc;
use tokio_stream::{StreamExt, wrappers::UnboundedReceiverStream};
use tonic::Streaming;

use crate::{
    model::{Disk, SimLog},
    wire,
};

type SharedDisk = Arc<Mutex<Disk>>;

fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// The wait before an edge comes again for the first time. It doubles up to the longest one; without jitter,
/// which a seed would not repeat.
const BACK: Duration = Duration::from_millis(300);

/// Runs the edge for ever, over whatever the disk has.
pub async fn live(
    name: &'static str,
    disk: SharedDisk,
    shelf: Arc<Mutex<SimLog>>,
    longest: Duration,
) -> turmoil::Result {
    let (position, staged) = {
        let disk = disk.lock().unwrap();
        (disk.durable(), disk.staged())
    };
    let mut edge = Edge {
        receiver: Receiver::new(Hello {
            edge: name.parse()?,
            instance: InstanceId([0; 16]),
            boot_epoch: 1,
            position,
            filter: Filter::All,
            stored_filter: Filter::All.hash(),
            staged,
            protocol: PROTOCOL,
            version: "sim".to_owned(),
            window: 0,
        }),
        log: position.map(|position| position.log),
        disk,
        shelf,
        told: VecDeque::new(),
        sync_at: None,
    };
    let mut back = BACK;
    loop {
        if let Ok(channel) = wire::connect().await {
            let (outbound, requests) = mpsc::unbounded_channel();
            let mut client = SyncServiceClient::new(channel);
            let answer = client.sync(UnboundedReceiverStream::new(requests));
            // A handshake through a partition never answers.
            edge.step(ReceiverInput::Connected, &outbound);
            if let Ok(Ok(stream)) = tokio::time::timeout(Duration::from_secs(3), answer).await {
                edge.disk.lock().unwrap().sessions += 1;
                back = BACK;
                edge.session(stream.into_inner(), &outbound).await;
            }
            edge.step(ReceiverInput::Disconnected, &outbound);
        }
        tokio::time::sleep(back).await;
        back = longest.min(2 * back);
    }
}

type Outbound = mpsc::UnboundedSender<v1::SyncRequest>;

struct Edge {
    receiver: Receiver,
    disk: SharedDisk,
    /// Where what a snapshot has is looked up: its chunks are empty.
    shelf: Arc<Mutex<SimLog>>,
    /// What the store has said and the receiver has not heard.
    told: VecDeque<ReceiverInput>,
    log: Option<LogId>,
    /// When what is written becomes durable.
    sync_at: Option<tokio::time::Instant>,
}

impl Edge {
    async fn session(&mut self, mut stream: Streaming<v1::SyncResponse>, outbound: &Outbound) {
        loop {
            let far = tokio::time::Instant::now() + Duration::from_secs(60);
            let due = self.receiver.poll_timeout().map_or(far, Into::into);
            let sync_at = self.sync_at.unwrap_or(far);
            if let Some(told) = self.told.pop_front() {
                if self.step(told, outbound) {
                    return;
                }
                continue;
            }
            let input = tokio::select! {
                // In this order: a choice at random would not be replayed by the seed.
                biased;
                message = stream.next() => {
                    let Some(Ok(message)) = message else { return };
                    ReceiverInput::Message(ToEdge::try_from(message).unwrap())
                }
                () = tokio::time::sleep_until(sync_at) => {
                    self.sync();
                    continue;
                }
                () = tokio::time::sleep_until(due) => {
                    self.receiver.handle_timeout(now());
                    return self.drain(outbound);
                }
            };
            if let ReceiverInput::Message(ToEdge::Welcome(welcome)) = &input {
                self.log = Some(welcome.head.log);
            }
            if self.step(input, outbound) {
                return;
            }
        }
    }

    fn sync(&mut self) {
        self.sync_at = None;
        let (position, staged) = self.disk.lock().unwrap().sync();
        let apply = Duration::from_millis(1);
        self.told.extend(position.map(|position| ReceiverInput::Durable { position, apply }));
        self.told.extend(staged.map(ReceiverInput::Staged));
    }

    fn sync_soon(&mut self) {
        let soon = tokio::time::Instant::now() + Duration::from_millis(60);
        self.sync_at.get_or_insert(soon);
    }

    fn compare(&mut self, position: Position, sample: &Sample) {
        let disk = self.disk.lock().unwrap();
        let here = disk.position().unwrap_or(Position::genesis(position.log));
        assert_eq!(here, position, "compared where it was taken");
        let drifted = sample.drifted(&*disk);
        let drifted = drifted.into_iter().map(|drift| drift.origin);
        self.told.extend(drifted.map(|zone| ReceiverInput::Drifted { zone }));
    }

    fn install(&mut self, id: SnapshotId) {
        // What is before it is durable, and said, first.
        self.sync();
        let shelf = self.shelf.lock().unwrap();
        let installed = self.disk.lock().unwrap().install(id, shelf.content(id));
        let Manifest { position, scope, filter, .. } = installed;
        self.told.push_back(ReceiverInput::Installed { position, scope, filter });
    }

    fn drain(&mut self, outbound: &Outbound) {
        while let Some(output) = self.receiver.poll() {
            if let ReceiverOutput::Send(message) = output {
                let _ = outbound.send(message.into());
            }
        }
    }

    /// Hands an input to the receiver and does what it says; true if the stream is to end.
    fn step(&mut self, input: ReceiverInput, outbound: &Outbound) -> bool {
        let before = self.receiver.duplicates();
        self.receiver.handle(input, now());
        let mut over = false;
        while let Some(output) = self.receiver.poll() {
            match output {
                ReceiverOutput::Send(message) => drop(outbound.send(message.into())),
                ReceiverOutput::Apply(set) => {
                    let log = self.log.expect("changes come after Welcome");
                    self.disk.lock().unwrap().write(log, set);
                    self.sync_soon();
                }
                ReceiverOutput::Progress(_) => {}
                ReceiverOutput::Replacing { diverged, reason } => {
                    assert!(!diverged, "one log, one history: {reason}");
                }
                ReceiverOutput::Compare { position, sample } => self.compare(position, &sample),
                ReceiverOutput::Stage { manifest, next, .. } => {
                    self.disk.lock().unwrap().begin_staging(manifest, next);
                    self.sync_soon();
                }
                ReceiverOutput::StageChunk(chunk) => {
                    self.disk.lock().unwrap().stage(chunk.snapshot, chunk.index);
                    self.sync_soon();
                }
                ReceiverOutput::Install(id) => self.install(id),
                ReceiverOutput::Restart => panic!("nothing is void here"),
                ReceiverOutput::Reconnect { .. } => over = true,
            }
        }
        self.disk.lock().unwrap().duplicates += self.receiver.duplicates() - before;
        over
    }
}
