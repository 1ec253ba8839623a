//! Station 4 over TCP: HTTP/2 without TLS, set so that a dead connection is found in 15 s also when
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

use hyper_util::{client::legacy::connect::HttpConnector, rt::TokioIo};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tonic::transport::{Channel, Endpoint, Error, Uri};
use tower::{Service, service_fn};

use super::names::Names;

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
pub(super) async fn connect(uri: Uri, names: Names, heard: Heard) -> Result<Channel, Error> {
    let resolver = service_fn(move |name: hyper_util::client::legacy::connect::dns::Name| {
        let names = names.clone();
        Box::pin(async move { names.resolve(name.as_str()).await.map(Vec::into_iter) })
    });
    let mut http = HttpConnector::new_with_resolver(resolver);
    http.set_nodelay(true);
    http.set_keepalive(Some(KEEPALIVE));
    http.set_connect_timeout(Some(CONNECT));
    let connector = service_fn(move |uri: Uri| {
        let (connecting, heard) = (http.call(uri), heard.clone());
        async move {
            let stream = connecting.await?.into_inner();
            Ok::<_, <HttpConnector as Service<Uri>>::Error>(TokioIo::new(Counted { stream, heard }))
        }
    });
    Endpoint::from(uri)
        .user_agent(concat!("edgesyncd/", env!("CARGO_PKG_VERSION")))?
        .initial_stream_window_size(WINDOW_OCTETS)
        .initial_connection_window_size(WINDOW_OCTETS)
        .http2_keep_alive_interval(KEEPALIVE)
        .keep_alive_timeout(KEEPALIVE_ANSWER)
        .keep_alive_while_idle(true)
        .http2_max_header_list_size(HEADER_OCTETS)
        .connect_timeout(CONNECT)
        .connect_with_connector(connector)
        .await
}

/// A connection that counts what comes on it.
struct Counted {
    stream: TcpStream,
    heard: Heard,
}

impl AsyncRead for Counted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
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
        Pin::new(&mut self.stream).poll_write(context, octets)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
