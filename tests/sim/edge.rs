//! The edge's side: the real receiver in a small shell over the model disk.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use edgesync_core::{
    position::{LogId, Position},
    session::{
        Filter, Hello, InstanceId, PROTOCOL, Receiver, ReceiverInput, ReceiverOutput, ToEdge,
    },
};
use edgesync_proto::v1::{self, sync_service_client::SyncServiceClient};
use tokio::sync::mpsc;
use tokio_stream::{StreamExt, wrappers::UnboundedReceiverStream};
use tonic::Streaming;

use crate::{model::Disk, wire};

type SharedDisk = Arc<Mutex<Disk>>;

fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// Runs the edge for ever, over whatever the disk has.
pub async fn live(name: &'static str, disk: SharedDisk) -> turmoil::Result {
    let position = disk.lock().unwrap().durable();
    let mut edge = Edge {
        receiver: Receiver::new(Hello {
            edge: name.parse()?,
            instance: InstanceId([0; 16]),
            boot_epoch: 1,
            position,
            filter: Filter::All,
            protocol: PROTOCOL,
            version: "sim".to_owned(),
            window: 0,
        }),
        log: position.map(|position| position.log),
        disk,
        sync_at: None,
    };
    loop {
        if let Ok(channel) = wire::connect().await {
            let (outbound, requests) = mpsc::unbounded_channel();
            let mut client = SyncServiceClient::new(channel);
            let answer = client.sync(UnboundedReceiverStream::new(requests));
            // A handshake through a partition never answers.
            edge.step(ReceiverInput::Connected, &outbound);
            if let Ok(Ok(stream)) = tokio::time::timeout(Duration::from_secs(3), answer).await {
                edge.disk.lock().unwrap().sessions += 1;
                edge.session(stream.into_inner(), &outbound).await;
            }
            edge.step(ReceiverInput::Disconnected, &outbound);
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
}

type Outbound = mpsc::UnboundedSender<v1::SyncRequest>;

struct Edge {
    receiver: Receiver,
    disk: SharedDisk,
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
            let input = tokio::select! {
                message = stream.next() => {
                    let Some(Ok(message)) = message else { return };
                    ReceiverInput::Message(ToEdge::try_from(message).unwrap())
                }
                () = tokio::time::sleep_until(sync_at) => match self.sync() {
                    Some(durable) => durable,
                    None => continue,
                },
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

    fn sync(&mut self) -> Option<ReceiverInput> {
        self.sync_at = None;
        let position: Position = self.disk.lock().unwrap().sync()?;
        Some(ReceiverInput::Durable { position, apply: Duration::from_millis(1) })
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
                    let soon = tokio::time::Instant::now() + Duration::from_millis(60);
                    self.sync_at.get_or_insert(soon);
                }
                ReceiverOutput::Progress(_) => {}
                ReceiverOutput::Rebuild { reason } => panic!("one log, one history: {reason}"),
                ReceiverOutput::Reconnect { .. } => over = true,
            }
        }
        self.disk.lock().unwrap().duplicates += self.receiver.duplicates() - before;
        over
    }
}
