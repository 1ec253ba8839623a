//! Accepts connections, with a bound on all that a stranger can make the server keep or do: connections at a
//! time, and in a second those that come to nothing, handshakes on the way, the time for a handshake and for
//! the first call, and the pace of frames.

mod conn;
mod sparing;
mod vain;

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use rustls::pki_types::CertificateDer;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Semaphore, mpsc},
    time::{sleep, timeout},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_stream::{Stream, StreamExt, wrappers::ReceiverStream};

pub use self::conn::Conn;
use self::{conn::Open, sparing::Sparing, vain::Vain};
use crate::{
    pace::{Pace, Paced},
    peer::{Peer, Standing, Transport},
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
    /// Connections in a second that come to nothing; with more, the next ones wait in the kernel.
    pub vain_per_second: u32,
    /// Those of them at a time that are not known: without a certificate, and no call was let through.
    pub strangers: usize,
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
    strangers: Arc<Semaphore>,
    vain: Arc<Vain>,
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
        describe(prefix);
        let (ready, connections) = mpsc::channel(WAITING);
        let handshakes = Arc::new(Semaphore::new(limits.handshakes));
        let strangers = Arc::new(Semaphore::new(limits.strangers));
        let lines = Sparing::default();
        let vain = Arc::new(Vain::new(limits.vain_per_second));
        let shared = Shared { tls, limits, handshakes, strangers, vain, prefix, lines, ready };
        let shared = Arc::new(shared);
        tokio::spawn(accept(listener, shared));
        ReceiverStream::new(connections).map(move |conn| {
            let standing = conn.peer().standing.clone();
            Ok(Paced::new(conn, limits.pace, standing))
        })
    }
}

/// Tells the recorder what the metrics of connections are.
fn describe(prefix: &str) {
    metrics::describe_gauge!(
        format!("{prefix}_connections"),
        metrics::Unit::Count,
        "Connections that are open and whose handshake is done."
    );
    metrics::describe_counter!(
        format!("{prefix}_connections_refused_total"),
        metrics::Unit::Count,
        "Connections that were refused, by reason; the log has a line for some of them."
    );
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let places = Arc::new(Semaphore::new(shared.limits.connections));
    loop {
        shared.vain.wait().await;
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
        let open = Open::new(place, Arc::clone(&shared.vain), shared.prefix);
        match shared.tls.clone() {
            None => {
                let peer = Peer::new(Some(address), Transport::Plain, None);
                match shared.seat(peer) {
                    Ok(peer) => drop(shared.ready.send(Conn::plain(stream, peer, open)).await),
                    Err(why) => shared.refuse(address, "strangers", why),
                }
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
            Ok(Ok(stream)) => shown(&stream, address).map(|(peer, chain)| (stream, peer, chain)),
        };
        let (stream, peer, chain) = match conn {
            Ok(shown) => shown,
            Err(why) => return shared.refuse(address, "handshake", &why),
        };
        match shared.seat(peer) {
            Ok(peer) => drop(shared.ready.send(Conn::tls(stream, peer, chain, tls, open)).await),
            Err(why) => shared.refuse(address, "strangers", why),
        }
    });
}

/// The peer of a connection, who has shown who it is, or that it does not want to; and what it has shown.
fn shown(
    stream: &TlsStream<TcpStream>,
    address: SocketAddr,
) -> Result<(Peer, Vec<CertificateDer<'static>>), String> {
    let chain = stream.get_ref().1.peer_certificates().unwrap_or_default();
    let chain: Vec<_> = chain.iter().map(|der| der.clone().into_owned()).collect();
    let certificate = chain.first().map(certificate).transpose()?.map(Arc::new);
    Ok((Peer::new(Some(address), Transport::Tls, certificate), chain))
}

impl Shared {
    /// Gives a peer without a certificate a place among the strangers, if there is one.
    fn seat(&self, peer: Peer) -> Result<Peer, &'static str> {
        if peer.certificate.is_some() {
            peer.standing.becomes_known();
            return Ok(peer);
        }
        match Arc::clone(&self.strangers).try_acquire_owned() {
            Ok(place) => Ok(Peer { standing: Standing::stranger(place), ..peer }),
            Err(_) => Err("there are as many connections of strangers as may be"),
        }
    }

    fn refuse(&self, address: SocketAddr, reason: &'static str, why: &str) {
        self.vain.one_more();
        let name = format!("{}_connections_refused_total", self.prefix);
        metrics::counter!(name, "reason" => reason).increment(1);
        if self.lines.one_more() {
            tracing::warn!(%address, why, "a connection is refused");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use tokio::io::AsyncReadExt;
    use tonic::transport::server::Connected;

    use super::*;

    #[tokio::test]
    async fn strangers_take_no_place_of_those_who_are_known() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let day = Duration::from_secs(86_400);
        let pace = Pace { strangers: 100, known: 100, first_call: day, stranger: day };
        let limits = Limits {
            connections: 3,
            vain_per_second: 1_000,
            strangers: 1,
            handshakes: 1,
            handshake: day,
            pace,
        };
        let mut incoming = pin!(Acceptor::new(listener, None, limits, "test").incoming());
        let connect = || TcpStream::connect(address);
        let is_closed = async |mut stream: TcpStream| {
            timeout(Duration::from_secs(10), stream.read(&mut [0])).await.is_ok()
        };
        let _first = connect().await.unwrap();
        let known = incoming.next().await.unwrap().unwrap();
        assert!(is_closed(connect().await.unwrap()).await, "there is one stranger already");
        known.connect_info().standing.becomes_known();
        let _second = connect().await.unwrap();
        let stranger = incoming.next().await.unwrap().unwrap();
        assert!(is_closed(connect().await.unwrap()).await);
        drop(stranger);
        let _third = connect().await.unwrap();
        let _back = incoming.next().await.unwrap().unwrap();
    }
}
