//! Station 4 over TCP: HTTP/2, with TLS or on this host without, set so that a dead connection is found in 15 s also when
//! nothing is sent, and that many small acks do not close it.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::Duration,
};

use edgesync_host::tls::ServerName;
use hyper_util::{client::legacy::connect::HttpConnector, rt::TokioIo};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::client::TlsStream;
use tonic::transport::{Channel, Endpoint, Uri};
use tower::{BoxError, Service, service_fn};

use super::{Dial, LinkError};

/// HTTP/2 flow-control window, in octets, of a stream and of a connection.
const WINDOW_OCTETS: u32 = 4 * 1024 * 1024;
/// Time without a frame after which the other side is asked for a sign of life.
const KEEPALIVE: Duration = Duration::from_secs(10);
/// How long it has to give one.
const KEEPALIVE_ANSWER: Duration = Duration::from_secs(5);
/// How long a connection may take to be made, with the look-up of the name.
const CONNECT: Duration = Duration::from_secs(5);
/// Octets of all headers of a response.
const HEADER_OCTETS: u32 = 16 * 1024;

/// Number of octets that have come on a connection.
#[derive(Debug, Clone, Default)]
pub(super) struct Heard(Arc<AtomicU64>);

impl Heard {
    /// So many up to now.
    pub(super) fn octets(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// Connects to a control plane.
pub(super) async fn connect(
    endpoint: super::Endpoint,
    dial: Dial,
    heard: Heard,
) -> Result<Channel, LinkError> {
    let Dial { names, tls, server_name } = dial;
    let (uri, tls) = match endpoint {
        super::Endpoint::Plain(uri) => (uri, None),
        super::Endpoint::Tls(uri) => {
            let none =
                || LinkError::Tls("tls.ca is not set: name the control plane's CA".to_owned());
            let side = tls.ok_or_else(none)?.get().map_err(LinkError::Tls)?;
            let name = server_name.map_or_else(|| name_of(&uri), Ok)?;
            (uri, Some((side.connector(), name)))
        }
    };
    let resolver = service_fn(move |name: hyper_util::client::legacy::connect::dns::Name| {
        let names = names.clone();
        Box::pin(async move { names.resolve(name.as_str()).await.map(Vec::into_iter) })
    });
    let mut http = HttpConnector::new_with_resolver(resolver);
    http.set_nodelay(true);
    http.set_keepalive(Some(KEEPALIVE));
    http.set_connect_timeout(Some(CONNECT));
    http.enforce_http(false);
    let connector = service_fn(move |uri: Uri| {
        let (connecting, heard, tls) = (http.call(uri), heard.clone(), tls.clone());
        async move {
            let stream = connecting.await?.into_inner();
            let stream = match tls {
                None => Stream::Plain(stream),
                Some((tls, name)) => Stream::Tls(Box::new(tls.connect(name, stream).await?)),
            };
            Ok::<_, BoxError>(TokioIo::new(Counted { stream, heard }))
        }
    });
    let endpoint = Endpoint::from(uri)
        .user_agent(concat!("edgesyncd/", env!("CARGO_PKG_VERSION")))?
        .initial_stream_window_size(WINDOW_OCTETS)
        .initial_connection_window_size(WINDOW_OCTETS)
        .http2_keep_alive_interval(KEEPALIVE)
        .keep_alive_timeout(KEEPALIVE_ANSWER)
        .keep_alive_while_idle(true)
        .http2_max_header_list_size(HEADER_OCTETS)
        .connect_timeout(CONNECT);
    Ok(endpoint.connect_with_connector(connector).await?)
}

/// The name that the certificate of who answers there has to be for.
fn name_of(uri: &Uri) -> Result<ServerName<'static>, LinkError> {
    let host = uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
    let wrong = |_| LinkError::Tls(format!("`{host}` is no name that a certificate can be for"));
    ServerName::try_from(host.to_owned()).map_err(wrong)
}

/// What is under the messages.
enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// Calls a method of the stream that is there.
macro_rules! on_stream {
    ($of:expr, $stream:ident => $call:expr) => {
        match &mut $of.stream {
            Stream::Plain($stream) => $call,
            Stream::Tls($stream) => $call,
        }
    };
}

/// A connection that counts what comes on it.
struct Counted {
    stream: Stream,
    heard: Heard,
}

impl AsyncRead for Counted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = on_stream!(self, stream => Pin::new(stream).poll_read(context, buffer));
        let more = buffer.filled().len().saturating_sub(before) as u64;
        self.heard.0.fetch_add(more, Relaxed);
        read
    }
}

impl AsyncWrite for Counted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        octets: &[u8],
    ) -> Poll<io::Result<usize>> {
        on_stream!(self, stream => Pin::new(stream).poll_write(context, octets))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        on_stream!(self, stream => Pin::new(stream).poll_write_vectored(context, slices))
    }

    fn is_write_vectored(&self) -> bool {
        match &self.stream {
            Stream::Plain(stream) => stream.is_write_vectored(),
            Stream::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        on_stream!(self, stream => Pin::new(stream).poll_flush(context))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        on_stream!(self, stream => Pin::new(stream).poll_shutdown(context))
    }
}
