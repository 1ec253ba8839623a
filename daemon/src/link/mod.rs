//! Station 4, the link: carries one session's messages between a control plane and the session's
//! shell. Wire messages become core types here; what they mean is not looked at.

mod names;
mod tcp;

use std::{fmt, str::FromStr, time::Duration};

use edgesync_core::{
    limits::MESSAGE_OCTETS,
    session::{ToControl, ToEdge},
};
use edgesync_proto::{
    convert::ConvertError,
    v1::{SyncRequest, SyncResponse, sync_service_client::SyncServiceClient},
};
pub use names::Names;
use tokio::{
    sync::mpsc,
    task::JoinHandle,
    time::{sleep, timeout},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming, transport::Uri};

use self::tcp::Heard;

use crate::limits::{INCOMING_MESSAGES, LAST_WORDS, OUTGOING_MESSAGES};

/// Octets that are taken for a part of a message: more than an idle connection's own in a minute.
const PART_OCTETS: u64 = 4 * 1024;
/// How often it is looked whether a part has come.
const PART_LOOK: Duration = Duration::from_millis(250);

/// Where a control plane is, and by what it is reached. QUIC will be another variant here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// HTTP/2 over TCP.
    Tcp(Uri),
}

/// Why text is no endpoint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EndpointError {
    /// It is no URL.
    #[error("`{0}` is no URL of a control plane: write http://HOST:PORT")]
    Url(String),
    /// It has no port.
    #[error("`{0}` names no port: write http://HOST:PORT (a control plane's is 7353)")]
    Port(String),
    /// TLS.
    #[error("`{0}`: https is not supported by this build: write http://HOST:PORT")]
    Tls(String),
}

impl FromStr for Endpoint {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Self, EndpointError> {
        let shown = || text.chars().take(200).collect::<String>();
        let uri: Uri = text.parse().map_err(|_| EndpointError::Url(shown()))?;
        let plain = matches!(uri.path(), "" | "/") && uri.query().is_none();
        match (uri.scheme_str(), uri.port()) {
            (Some("https"), _) => Err(EndpointError::Tls(shown())),
            (Some("http"), Some(_)) if plain && uri.host().is_some_and(|host| !host.is_empty()) => {
                Ok(Self::Tcp(uri))
            }
            (Some("http"), None) if plain => Err(EndpointError::Port(shown())),
            _ => Err(EndpointError::Url(shown())),
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::Tcp(uri) = self;
        f.write_str(uri.to_string().trim_end_matches('/'))
    }
}

/// Why a link has ended. All are worth another try: also code Unknown, which is what a transport
/// that broke ends with.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// There is no connection.
    #[error("cannot connect: {0}")]
    Connect(#[source] tonic::transport::Error),
    /// The stream ended with an error.
    #[error("the stream broke: {} ({:?})", .0.message(), .0.code())]
    Stream(#[source] Box<Status>),
    /// The stream was ended by the control plane.
    #[error("the control plane ended the stream")]
    Ended,
    /// A message has not its form.
    #[error("a message of the control plane is not right: {0}")]
    Message(#[from] ConvertError),
    /// The network takes nothing any more.
    #[error("the control plane takes no more acks")]
    Stuck,
}

impl LinkError {
    /// Where it ended: one word for metrics.
    #[must_use]
    pub const fn label(&self) -> &'static str {
        match self {
            Self::Connect(_) => "connect",
            _ => "stream",
        }
    }

    /// The error with what caused it, in one line.
    #[must_use]
    pub fn line(&self) -> String {
        edgesync_host::exit::one_line(self)
    }
}

/// What happens on a link.
#[derive(Debug)]
pub enum Event {
    /// There is a connection, and a stream on it.
    Open,
    /// A message has come.
    Message(Box<ToEdge>),
    /// A good part of a message has come.
    Part,
    /// It has ended.
    Closed(LinkError),
}

/// One connection with one session stream. Dropping it cuts it.
#[derive(Debug)]
pub struct Link {
    outgoing: mpsc::Sender<SyncRequest>,
    events: mpsc::Receiver<Event>,
    carrier: JoinHandle<()>,
}

impl Link {
    /// Begins to connect. `names` is what the names of control planes have meant before.
    #[must_use]
    pub fn open(endpoint: Endpoint, names: Names) -> Self {
        let (outgoing, messages) = mpsc::channel(OUTGOING_MESSAGES);
        let (happened, events) = mpsc::channel(INCOMING_MESSAGES);
        let carrier = tokio::spawn(async move {
            if let Err(error) = carry(endpoint, names, messages, &happened).await {
                // Who has dropped the link does not want to know.
                let _ = happened.send(Event::Closed(error)).await;
            }
        });
        Self { outgoing, events, carrier }
    }

    /// Sends a message.
    ///
    /// # Errors
    /// If the network has not taken the last few thousand.
    pub fn send(&self, message: ToControl) -> Result<(), LinkError> {
        match self.outgoing.try_send(message.into()) {
            // The end of the link is told by an event.
            Ok(()) | Err(mpsc::error::TrySendError::Closed(_)) => Ok(()),
            Err(mpsc::error::TrySendError::Full(_)) => Err(LinkError::Stuck),
        }
    }

    /// What happens next. May be dropped and called again without a loss.
    pub async fn event(&mut self) -> Event {
        self.events.recv().await.unwrap_or(Event::Closed(LinkError::Ended))
    }

    /// Lets what was sent go out, ends the stream, and waits a little for the other side to end it.
    pub async fn finish(mut self) {
        let (closed, _) = mpsc::channel(1);
        self.outgoing = closed;
        let ended = async { while !matches!(self.event().await, Event::Closed(_)) {} };
        let _ = timeout(LAST_WORDS, ended).await;
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.carrier.abort();
    }
}

/// Connects and carries messages until the stream ends.
async fn carry(
    endpoint: Endpoint,
    names: Names,
    messages: mpsc::Receiver<SyncRequest>,
    happened: &mpsc::Sender<Event>,
) -> Result<(), LinkError> {
    let Endpoint::Tcp(uri) = endpoint;
    let heard = Heard::default();
    let channel = tcp::connect(uri, names, heard.clone()).await.map_err(LinkError::Connect)?;
    let mut client = SyncServiceClient::new(channel).max_decoding_message_size(MESSAGE_OCTETS);
    // Hello is sent on this: the other side may want to see it before it opens its own direction.
    if happened.send(Event::Open).await.is_err() {
        return Ok(());
    }
    let broken = |status| LinkError::Stream(Box::new(status));
    let mut stream = client.sync(ReceiverStream::new(messages)).await.map_err(broken)?.into_inner();
    loop {
        let event = match next(&mut stream, &heard).await.map_err(broken)? {
            Next::Message(message) => Event::Message(Box::new((*message).try_into()?)),
            Next::Part => Event::Part,
            Next::End => return Err(LinkError::Ended),
        };
        if happened.send(event).await.is_err() {
            return Ok(());
        }
    }
}

/// What a stream brings.
enum Next {
    Message(Box<SyncResponse>),
    Part,
    End,
}

/// Waits for a message, or a good part of one: what the transport says by itself is less.
async fn next(stream: &mut Streaming<SyncResponse>, heard: &Heard) -> Result<Next, Status> {
    let before = heard.octets();
    let message = stream.message();
    tokio::pin!(message);
    loop {
        tokio::select! {
            message = &mut message => {
                return Ok(message?.map_or(Next::End, |message| Next::Message(Box::new(message))));
            }
            () = sleep(PART_LOOK) => {
                if heard.octets().saturating_sub(before) >= PART_OCTETS {
                    return Ok(Next::Part);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_a_url_with_a_port_and_without_tls() {
        for good in ["http://127.0.0.1:7353", "http://[::1]:7353/", "http://cp.example:80"] {
            let endpoint: Endpoint = good.parse().unwrap();
            assert_eq!(endpoint.to_string(), good.trim_end_matches('/'));
        }
        let refused = |text: &str| text.parse::<Endpoint>().unwrap_err().to_string();
        assert!(
            refused("https://cp.example:7353").contains("https is not supported by this build")
        );
        assert!(refused("http://cp.example").contains("port"));
        for bad in
            ["", "cp.example:7353", "http://", "ftp://a:1", "http://a:1/path", "http://a:1?x=y"]
        {
            assert!(refused(bad).contains("http://HOST:PORT"), "{bad}");
        }
    }
}
