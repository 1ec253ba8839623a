//! The empty stream: the core's receiver over the same transport, acking what it gets at once.

use std::time::{Duration, Instant};

use edgesync_core::session::{
    Filter, Hello, InstanceId, PROTOCOL, Receiver, ReceiverInput, ReceiverOutput, ToEdge,
};
use edgesync_proto::v1::sync_service_client::SyncServiceClient;
use tokio::sync::mpsc;
use tokio_stream::{StreamExt, wrappers::UnboundedReceiverStream};
use tonic::transport::Endpoint;

use crate::Failure;

/// Runs until the stream ends.
pub async fn run(url: String) -> Result<(), Failure> {
    let channel = Endpoint::from_shared(url)?
        .tcp_nodelay(true)
        .initial_stream_window_size(4 << 20)
        .initial_connection_window_size(16 << 20)
        .connect()
        .await?;
    let (outbound, requests) = mpsc::unbounded_channel();
    let mut receiver = Receiver::new(Hello {
        edge: "echo".parse()?,
        instance: InstanceId([0; 16]),
        boot_epoch: 1,
        position: None,
        filter: Filter::All,
        stored_filter: Filter::All.hash(),
        staged: None,
        protocol: PROTOCOL,
        version: "bench".to_owned(),
        window: 0,
    });
    receiver.handle(ReceiverInput::Connected, Instant::now());
    let mut log = None;
    let mut client = SyncServiceClient::new(channel);
    if let Some(ReceiverOutput::Send(hello)) = receiver.poll() {
        outbound.send(hello.into())?;
    }
    let mut stream = client.sync(UnboundedReceiverStream::new(requests)).await?.into_inner();
    while let Some(message) = stream.next().await {
        let message = ToEdge::try_from(message?)?;
        if let ToEdge::Welcome(welcome) = &message {
            log = Some(welcome.head);
        }
        receiver.handle(ReceiverInput::Message(message), Instant::now());
        let mut last = None;
        while let Some(output) = receiver.poll() {
            match output {
                ReceiverOutput::Send(message) => outbound.send(message.into())?,
                ReceiverOutput::Apply(set) => last = Some(set),
                _ => {}
            }
        }
        if let (Some(set), Some(head)) = (last, log) {
            let position = edgesync_core::position::Position {
                offset: set.last,
                hash: set.hash,
                log: head.log,
            };
            let durable = ReceiverInput::Durable { position, apply: Duration::ZERO };
            receiver.handle(durable, Instant::now());
            while let Some(ReceiverOutput::Send(message)) = receiver.poll() {
                outbound.send(message.into())?;
            }
        }
    }
    Ok(())
}
