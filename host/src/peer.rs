//! Who is at the other end of a connection, as the transport knows it: the listener writes it down once,
//! and each request on the connection carries it (invariant 18: nobody is who he says he is, but who
//! his connection proves him to be).

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::SystemTime,
};

use tokio::sync::OwnedSemaphorePermit;

/// What edges' names begin with in a certificate: `spiffe://TRUST-DOMAIN/edge/ID`.
const SPIFFE: &str = "spiffe://";
/// The path before an edge's id in such a name.
const EDGE_PATH: &str = "edge/";

/// The other end of a connection.
#[derive(Clone, Debug)]
pub struct Peer {
    /// Its address; none on a unix socket.
    pub address: Option<SocketAddr>,
    /// What carries the connection.
    pub transport: Transport,
    /// The certificate that it has proved to own the key of, if it has.
    pub certificate: Option<Arc<Certificate>>,
    /// What it has come to since.
    pub standing: Standing,
}

impl Peer {
    /// The other end of a connection that has just begun.
    #[must_use]
    pub fn new(
        address: Option<SocketAddr>,
        transport: Transport,
        certificate: Option<Arc<Certificate>>,
    ) -> Self {
        Self { address, transport, certificate, standing: Standing::default() }
    }
}

/// What a connection has come to: it begins as a stranger's, and is known when it has shown a certificate or
/// one of its calls was let through. Clones are of the same connection.
#[derive(Clone, Debug, Default)]
pub struct Standing(Arc<Known>);

#[derive(Debug, Default)]
struct Known {
    is_known: AtomicBool,
    /// A place among the strangers.
    place: Mutex<Option<OwnedSemaphorePermit>>,
}

impl Standing {
    /// Of a stranger, who takes a place among those.
    #[must_use]
    pub fn stranger(place: OwnedSemaphorePermit) -> Self {
        let (is_known, place) = (AtomicBool::new(false), Mutex::new(Some(place)));
        Self(Arc::new(Known { is_known, place }))
    }

    /// A certificate was verified, or a call was let through.
    pub fn becomes_known(&self) {
        if !self.0.is_known.swap(true, Ordering::Relaxed) {
            drop(self.0.place.lock().unwrap_or_else(PoisonError::into_inner).take());
        }
    }

    /// True if it has become known.
    #[must_use]
    pub fn is_known(&self) -> bool {
        self.0.is_known.load(Ordering::Relaxed)
    }
}

/// What carries a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// TCP, as it is.
    Plain,
    /// TLS 1.3 over TCP.
    Tls,
    /// A unix socket.
    Unix,
}

/// A certificate that was verified when the connection began.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// URIs of its subject alternative names.
    pub uris: Vec<String>,
    /// DNS names of its subject alternative names.
    pub dns_names: Vec<String>,
    /// SHA-256 of its DER form.
    pub fingerprint: [u8; 32],
    /// When it ends, and its connections with it.
    pub not_after: SystemTime,
}

impl Certificate {
    /// The edge that it is for: by the one URI `spiffe://…/edge/ID`, or else by its one DNS name. None
    /// if it names none, or several.
    #[must_use]
    pub fn edge_id(&self) -> Option<&str> {
        let of_uri = |uri: &'_ str| {
            let (_, path) = uri.strip_prefix(SPIFFE)?.split_once('/')?;
            path.strip_prefix(EDGE_PATH).map(str::len).map(|octets| uri.len() - octets)
        };
        let mut edges = self.uris.iter().filter_map(|uri| uri.get(of_uri(uri)?..));
        match (edges.next(), edges.next()) {
            (Some(edge), None) => Some(edge),
            (None, None) if self.uris.is_empty() => match &*self.dns_names {
                [name] => Some(name),
                _ => None,
            },
            _ => None,
        }
    }
}

impl std::fmt::Display for Peer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.address {
            Some(address) => address.fmt(f),
            None => f.write_str("unix"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn certificate(uris: &[&str], dns_names: &[&str]) -> Certificate {
        let owned = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
        let (uris, dns_names) = (owned(uris), owned(dns_names));
        Certificate { uris, dns_names, fingerprint: [0; 32], not_after: SystemTime::UNIX_EPOCH }
    }

    #[test]
    fn an_edge_is_named_by_one_name_or_not_at_all() {
        let edge =
            |uris: &[&str], dns: &[&str]| certificate(uris, dns).edge_id().map(str::to_owned);
        assert_eq!(edge(&["spiffe://edgesync/edge/fra-1"], &["a"]).as_deref(), Some("fra-1"));
        assert_eq!(edge(&[], &["fra-1.edge.example"]).as_deref(), Some("fra-1.edge.example"));
        for (uris, dns) in [
            (&[][..], &[][..]),
            (&[], &["a", "b"]),
            (&["spiffe://edgesync/edge/a", "spiffe://edgesync/edge/b"], &[]),
            (&["spiffe://edgesync/user/a"], &["fra-1"]),
            (&["https://edgesync/edge/a"], &[]),
            (&["spiffe://edge/a"], &[]),
        ] {
            assert_eq!(edge(uris, dns), None, "{uris:?} {dns:?}");
        }
    }
}
