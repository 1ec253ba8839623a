//! Accepts connections, with a bound on all that a stranger can make the server keep: connections,
//! handshakes on the way, the time for a handshake and for the first call, and the pace of frames.

mod conn;
mod sparing;

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Semaphore, mpsc},
    time::{sleep, timeout},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_stream::{Stream, StreamExt, wrappers::ReceiverStream};

pub use self::conn::Conn;
use self::{conn::Open, sparing::Sparing};
use crate::{
    pace::{Pace, Paced},
    peer::{Peer, Transport},
    tls::{Current, ServerSide, certificate},
};

/// Pause after a failed accept: the host is short of something.
const PAUSE: Duration = Duration::from_millis(100);
/// Connections that wait to be served.
const WAITING: usize = 64;

/// The bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections at a time.
    pub connections: usize,
    /// Handshakes of TLS at a time.
    pub handshakes: usize,
    /// Time for such a handshake.
    pub handshake: Duration,
    /// What is read of a connection, and when.
    pub pace: Pace,
}

/// Accepts connections.
#[derive(Debug)]
pub struct Acceptor {
    listener: TcpListener,
    /// None: nothing is encrypted.
    tls: Option<Current<ServerSide>>,
    limits: Limits,
    /// What the names of metrics begin with.
    prefix: &'static str,
}

/// What tasks share.
struct Shared {
    tls: Option<Current<ServerSide>>,
    limits: Limits,
    handshakes: Arc<Semaphore>,
    prefix: &'static str,
    lines: Sparing,
    ready: mpsc::Sender<Conn>,
}

impl Acceptor {
    /// Accepts on a listener, with TLS or as it is.
    #[must_use]
    pub const fn new(
        listener: TcpListener,
        tls: Option<Current<ServerSide>>,
        limits: Limits,
        prefix: &'static str,
    ) -> Self {
        Self { listener, tls, limits, prefix }
    }

    /// The connections whose peers are known, until the stream is dropped.
    pub fn incoming(self) -> impl Stream<Item = io::Result<Paced<Conn>>> {
        let Self { listener, tls, limits, prefix } = self;
        let (ready, connections) = mpsc::channel(WAITING);
        let handshakes = Arc::new(Semaphore::new(limits.handshakes));
        let lines = Sparing::default();
        let shared = Arc::new(Shared { tls, limits, handshakes, prefix, lines, ready });
        tokio::spawn(accept(listener, shared));
        ReceiverStream::new(connections).map(move |conn| {
            let standing = conn.peer().standing.clone();
            Ok(Paced::new(conn, limits.pace, standing))
        })
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let places = Arc::new(Semaphore::new(shared.limits.connections));
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = shared.ready.closed() => return,
        };
        let (stream, address) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                sleep(PAUSE).await;
                continue;
            }
        };
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
            shared.refuse(address, "full", "there are as many connections as may be");
            continue;
        };
        // A connection that is gone already says so when it is read.
        let _ = stream.set_nodelay(true);
        let open = Open::new(place, shared.prefix);
        match shared.tls.clone() {
            None => {
                let address = Some(address);
                let peer = Peer::new(address, Transport::Plain, None);
                let _ = shared.ready.send(Conn::plain(stream, peer, open)).await;
            }
            Some(tls) => shake_hands(&shared, tls, stream, address, open),
        }
    }
}

/// Begins a handshake, if not too many are on their way.
fn shake_hands(
    shared: &Arc<Shared>,
    mut tls: Current<ServerSide>,
    stream: TcpStream,
    address: SocketAddr,
    open: Open,
) {
    let Ok(shaking) = Arc::clone(&shared.handshakes).try_acquire_owned() else {
        return shared.refuse(address, "handshakes", "too many handshakes are on their way");
    };
    let shared = Arc::clone(shared);
    tokio::spawn(async move {
        let side = match tls.get_and_follow() {
            Ok(side) => side,
            Err(why) => return shared.refuse(address, "handshake", &why),
        };
        let acceptor = TlsAcceptor::from(Arc::clone(&side.config));
        let shaken = timeout(shared.limits.handshake, acceptor.accept(stream)).await;
        drop(shaking);
        let conn = match shaken {
            Err(_) => Err("it did not come to an end in time".to_owned()),
            Ok(Err(error)) => Err(error.to_string()),
            Ok(Ok(stream)) => known(stream, address, tls, open),
        };
        match conn {
            Ok(conn) => drop(shared.ready.send(conn).await),
            Err(why) => shared.refuse(address, "handshake", &why),
        }
    });
}

/// A connection whose peer has shown who it is, or that it does not want to.
fn known(
    stream: TlsStream<TcpStream>,
    address: SocketAddr,
    tls: Current<ServerSide>,
    open: Open,
) -> Result<Conn, String> {
    let chain = stream.get_ref().1.peer_certificates().unwrap_or_default();
    let chain: Vec<_> = chain.iter().map(|der| der.clone().into_owned()).collect();
    let certificate = chain.first().map(certificate).transpose()?.map(Arc::new);
    let peer = Peer::new(Some(address), Transport::Tls, certificate);
    Ok(Conn::tls(stream, peer, chain, tls, open))
}

impl Shared {
    fn refuse(&self, address: SocketAddr, reason: &'static str, why: &str) {
        let name = format!("{}_connections_refused_total", self.prefix);
        metrics::counter!(name, "reason" => reason).increment(1);
        if self.lines.one_more() {
            tracing::warn!(%address, why, "a connection is refused");
        }
    }
}
