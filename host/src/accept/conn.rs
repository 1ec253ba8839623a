//! A connection that knows its peer, and ends when the peer's certificate does: rustls looks at it in the
//! handshake only, and sessions last for months.

use std::{
    future::Future,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, SystemTime},
};

use rustls::pki_types::CertificateDer;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    sync::OwnedSemaphorePermit,
    time::sleep,
};
use tokio_rustls::server::TlsStream;
use tonic::transport::server::Connected;

use super::vain::Vain;
use crate::{
    peer::Peer,
    tls::{Current, ServerSide},
};

/// The clock is looked at again after this: it may be set.
const CLOCK: Duration = Duration::from_secs(600);

/// When a connection is void, and why.
type Void = Pin<Box<dyn Future<Output = String> + Send>>;

/// A place among the connections, counted while it is taken.
#[derive(Debug)]
pub(super) struct Open {
    _place: OwnedSemaphorePermit,
    vain: Arc<Vain>,
    gauge: metrics::Gauge,
}

impl Open {
    pub(super) fn new(place: OwnedSemaphorePermit, vain: Arc<Vain>, prefix: &'static str) -> Self {
        let gauge = metrics::gauge!(format!("{prefix}_connections"));
        gauge.increment(1);
        Self { _place: place, vain, gauge }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.gauge.decrement(1);
    }
}

/// What is under a connection.
enum Io {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// A connection.
pub struct Conn {
    io: Io,
    peer: Peer,
    void: Option<Void>,
    open: Open,
}

impl Drop for Conn {
    fn drop(&mut self) {
        if !self.peer.standing.is_known() {
            self.open.vain.one_more();
        }
    }
}

impl Conn {
    pub(super) const fn peer(&self) -> &Peer {
        &self.peer
    }

    pub(super) fn plain(stream: TcpStream, peer: Peer, open: Open) -> Self {
        Self { io: Io::Plain(stream), peer, void: None, open }
    }

    pub(super) fn tls(
        stream: TlsStream<TcpStream>,
        peer: Peer,
        chain: Vec<CertificateDer<'static>>,
        tls: Current<ServerSide>,
        open: Open,
    ) -> Self {
        let not_after = peer.certificate.as_ref().map(|certificate| certificate.not_after);
        let void = not_after.map(|end| Box::pin(void(chain, end, tls)) as Void);
        Self { io: Io::Tls(Box::new(stream)), peer, void, open }
    }
}

/// Done when a certificate has ended, or is not taken any more: revoked, or of a CA that was removed.
async fn void(
    chain: Vec<CertificateDer<'static>>,
    end: SystemTime,
    mut tls: Current<ServerSide>,
) -> String {
    loop {
        let left = end.duration_since(SystemTime::now()).unwrap_or_default();
        if left.is_zero() {
            return "its certificate has ended".to_owned();
        }
        tokio::select! {
            () = sleep(left.min(CLOCK)) => {}
            () = tls.changed() => {
                if let Ok(side) = tls.get_and_follow()
                    && let Err(reason) = side.verify(&chain)
                {
                    return format!("its certificate is not taken any more: {reason}");
                }
            }
        }
    }
}

impl AsyncRead for Conn {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Some(void) = &mut self.void
            && let Poll::Ready(reason) = void.as_mut().poll(context)
        {
            let edge = self.peer.certificate.as_ref().and_then(|of| of.edge_id());
            tracing::warn!(peer = %self.peer, edge, reason, "a connection is ended");
            // Whoever reads on is told again.
            self.void = Some(Box::pin(std::future::ready(reason.clone())));
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::ConnectionAborted, reason)));
        }
        match &mut self.io {
            Io::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            Io::Tls(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Conn {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        octets: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut self.io {
            Io::Plain(stream) => Pin::new(stream).poll_write(context, octets),
            Io::Tls(stream) => Pin::new(stream).poll_write(context, octets),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.io {
            Io::Plain(stream) => Pin::new(stream).poll_flush(context),
            Io::Tls(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.io {
            Io::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Io::Tls(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.io {
            Io::Plain(stream) => Pin::new(stream).poll_write_vectored(context, slices),
            Io::Tls(stream) => Pin::new(stream).poll_write_vectored(context, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match &self.io {
            Io::Plain(stream) => stream.is_write_vectored(),
            Io::Tls(stream) => stream.is_write_vectored(),
        }
    }
}

impl Connected for Conn {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}
