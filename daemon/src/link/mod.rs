//! Station 4, the link: carries one session's messages between a control plane and the session's
//! shell. Wire messages become core types here; what they mean is not looked at.

mod names;
mod tcp;

use std::{fmt, str::FromStr, time::Duration};

use edgesync_core::{
    limits::MESSAGE_OCTETS,
    session::{ToControl, ToEdge},
};
use edgesync_host::tls::{ClientSide, Current, ServerName, is_this_host};
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
    /// HTTP/2 over TCP as it is, on this host.
    Plain(Uri),
    /// HTTP/2 over TLS.
    Tls(Uri),
}

/// Why text is no endpoint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EndpointError {
    /// It is no URL.
    #[error("`{0}` is no URL of a control plane: write https://HOST:PORT")]
    Url(String),
    /// It has no port.
    #[error("`{0}` names no port: write https://HOST:PORT (a control plane's is 7353)")]
    Port(String),
    /// It would go over the network unencrypted.
    #[error("`{0}` is not encrypted, and not of this host: write https://HOST:PORT")]
    Plain(String),
}

impl FromStr for Endpoint {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Self, EndpointError> {
        let shown = || text.chars().take(200).collect::<String>();
        let uri: Uri = text.parse().map_err(|_| EndpointError::Url(shown()))?;
        let plain = matches!(uri.path(), "" | "/") && uri.query().is_none();
        let Some(host) = uri.host().filter(|host| plain && !host.is_empty()) else {
            return Err(EndpointError::Url(shown()));
        };
        match (uri.scheme_str(), uri.port()) {
            (Some("http" | "https"), None) => Err(EndpointError::Port(shown())),
            (Some("https"), Some(_)) => Ok(Self::Tls(uri)),
            (Some("http"), Some(_)) if is_this_host(host) => Ok(Self::Plain(uri)),
            (Some("http"), Some(_)) => Err(EndpointError::Plain(shown())),
            _ => Err(EndpointError::Url(shown())),
        }
    }
}

/// What connections are made with.
#[derive(Debug, Clone, Default)]
pub struct Dial {
    /// What the names of control planes have meant before.
    pub names: Names,
    /// TLS, where it is configured.
    pub tls: Option<Current<ClientSide>>,
    /// The name that the control plane's certificate has to be for; none: the one in its URL.
    pub server_name: Option<ServerName<'static>>,
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Plain(uri) | Self::Tls(uri)) = self;
        f.write_str(uri.to_string().trim_end_matches('/'))
    }
}

/// Why a link has ended. All are worth another try: also code Unknown, which is what a transport
/// that broke ends with.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// There is no connection.
    #[error("cannot connect: {0}")]
    Connect(#[from] tonic::transport::Error),
    /// There is nothing to encrypt with.
    #[error("cannot connect by TLS: {0}")]
    Tls(String),
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
            Self::Connect(_) | Self::Tls(_) => "connect",
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
    /// Begins to connect.
    #[must_use]
    pub fn open(endpoint: Endpoint, dial: Dial) -> Self {
        let (outgoing, messages) = mpsc::channel(OUTGOING_MESSAGES);
        let (happened, events) = mpsc::channel(INCOMING_MESSAGES);
        let carrier = tokio::spawn(async move {
            if let Err(error) = carry(endpoint, dial, messages, &happened).await {
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
    dial: Dial,
    messages: mpsc::Receiver<SyncRequest>,
    happened: &mpsc::Sender<Event>,
) -> Result<(), LinkError> {
    let heard = Heard::default();
    let channel = tcp::connect(endpoint, dial, heard.clone()).await?;
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
    fn an_endpoint_is_a_url_with_a_port_and_plain_on_this_host_alone() {
        for good in ["http://127.0.0.1:7353", "http://[::1]:7353/", "http://localhost:80"] {
            let endpoint: Endpoint = good.parse().unwrap();
            assert!(matches!(endpoint, Endpoint::Plain(_)));
            assert_eq!(endpoint.to_string(), good.trim_end_matches('/'));
        }
        for good in ["https://cp.example:7353", "https://[2001:db8::1]:7353", "https://127.0.0.1:1"]
        {
            assert!(matches!(good.parse(), Ok(Endpoint::Tls(_))), "{good}");
        }
        let refused = |text: &str| text.parse::<Endpoint>().unwrap_err().to_string();
        assert!(refused("http://cp.example:7353").contains("not encrypted"));
        assert!(refused("http://192.0.2.1:7353").contains("not encrypted"));
        assert!(refused("https://cp.example").contains("port"));
        for bad in
            ["", "cp.example:7353", "http://", "ftp://a:1", "https://a:1/path", "https://a:1?x=y"]
        {
            assert!(refused(bad).contains("https://HOST:PORT"), "{bad}");
        }
    }
}
