//! Certificates for tests, of an authority of their own: good ones, and each kind that has to be refused;
//! and a client that shows any of them, whatever the daemons would say to it.

use std::{
    fs,
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    ops::Range,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use edgesync_host::pki::{Authority, Issued, Pair, Purpose, Revocations, Revoked, Subject};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned,
    crypto::ring::default_provider,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
    version::TLS13,
};

/// An authority and the files of those who trust it.
pub struct Certs {
    dir: PathBuf,
    authority: Authority,
}

/// From so many seconds before now to so many after.
#[must_use]
pub fn around_now(before: u64, after: u64) -> Range<SystemTime> {
    let now = SystemTime::now();
    now - Duration::from_secs(before)..now + Duration::from_secs(after)
}

impl Certs {
    /// A new authority, whose files are in a directory.
    ///
    /// # Panics
    /// If it cannot be made.
    #[must_use]
    pub fn new(dir: &Path, name: &str) -> Self {
        let authority = Authority::create(name, 30).expect("an authority");
        fs::create_dir_all(dir).expect("a directory");
        let certs = Self { dir: dir.to_owned(), authority };
        certs.replace("ca.pem", certs.authority.certificate());
        certs.revoke(&[]);
        certs
    }

    /// A file of the directory.
    #[must_use]
    pub fn file(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// The authority's own certificate.
    #[must_use]
    pub fn authority(&self) -> &str {
        self.authority.certificate()
    }

    /// A certificate of any kind.
    ///
    /// # Panics
    /// If it cannot be made.
    #[must_use]
    pub fn issue(&self, subject: &Subject, purpose: Purpose, valid: &Range<SystemTime>) -> Pair {
        self.authority.issue(subject, purpose, valid).expect("a certificate")
    }

    /// A good one for an edge.
    ///
    /// # Panics
    /// If it cannot be made.
    #[must_use]
    pub fn edge(&self, id: &str) -> Pair {
        let subject = Subject::edge(id).expect("a name");
        self.issue(&subject, Purpose::Client, &around_now(300, 86_400))
    }

    /// A good one for the control plane of a test.
    ///
    /// # Panics
    /// If it cannot be made.
    #[must_use]
    pub fn server(&self) -> Pair {
        let subject = Subject::server(&["127.0.0.1", "localhost"]).expect("names");
        self.issue(&subject, Purpose::Server, &around_now(300, 86_400))
    }

    /// Puts a pair in place of another: the key first, as `edgesync pki renew` does.
    ///
    /// # Panics
    /// If the files cannot be written.
    pub fn put(&self, name: &str, pair: &Pair) {
        self.replace(&format!("{name}.key"), pair.key.expose());
        self.replace(&format!("{name}.pem"), &pair.certificate);
    }

    /// Replaces a file at once, closed to others.
    ///
    /// # Panics
    /// If it cannot be written.
    pub fn replace(&self, name: &str, text: &str) {
        let (file, new) = (self.file(name), self.file(&format!("{name}.new")));
        fs::write(&new, text).expect("it is written");
        fs::set_permissions(&new, fs::Permissions::from_mode(0o600)).expect("it is closed");
        fs::rename(new, file).expect("it is put in place");
    }

    /// Revokes these, and no others.
    ///
    /// # Panics
    /// If the list cannot be made.
    pub fn revoke(&self, pairs: &[&Pair]) {
        let at = SystemTime::now();
        let of = |pair: &&Pair| Issued::read(&pair.certificate, &self.authority).expect("ours");
        let revoked = pairs.iter().map(|pair| Revoked { serial: of(pair).serial, at });
        let mut list = Revocations { revoked: revoked.collect(), ..Revocations::default() };
        list.raise(at);
        let text = self.authority.revocations(&list, &around_now(300, 86_400));
        self.replace("crl.pem", &text.expect("a list"));
    }

    /// Connects with a certificate, or with none. TLS 1.3 tells a client whose certificate is refused only
    /// when it reads (RFC 8446 section 4.4.2.4).
    ///
    /// # Panics
    /// If nobody listens there, or the files are none.
    #[must_use]
    pub fn connect(
        &self,
        address: SocketAddr,
        pair: Option<&Pair>,
    ) -> StreamOwned<ClientConnection, TcpStream> {
        let stream = TcpStream::connect(address).expect("somebody listens");
        stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a time-out");
        StreamOwned::new(begin(&self.client(pair)), stream)
    }

    /// What a client connects with that takes the authority's word.
    ///
    /// # Panics
    /// If the files are none.
    #[must_use]
    pub fn client(&self, pair: Option<&Pair>) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        let own = CertificateDer::from_pem_slice(self.authority().as_bytes()).expect("PEM");
        roots.add(own).expect("a CA");
        let builder = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_protocol_versions(&[&TLS13])
            .expect("TLS 1.3")
            .with_root_certificates(roots);
        let mut config = match pair {
            None => builder.with_no_client_auth(),
            Some(pair) => {
                let chain = CertificateDer::from_pem_slice(pair.certificate.as_bytes());
                let key = PrivateKeyDer::from_pem_slice(pair.key.expose().as_bytes());
                let chain = vec![chain.expect("PEM")];
                builder.with_client_auth_cert(chain, key.expect("PEM")).expect("a pair")
            }
        };
        config.alpn_protocols = vec![b"h2".to_vec()];
        Arc::new(config)
    }
}

/// A connection that begins.
///
/// # Panics
/// If the configuration is none.
#[must_use]
pub fn begin(client: &Arc<ClientConfig>) -> ClientConnection {
    let name = ServerName::try_from("localhost").expect("a name");
    ClientConnection::new(Arc::clone(client), name).expect("a client")
}

/// What comes of a connection that says hello in HTTP/2 and then reads.
///
/// # Errors
/// If it is refused.
pub fn greet(mut stream: StreamOwned<ClientConnection, TcpStream>) -> io::Result<()> {
    // The preface and empty SETTINGS (RFC 9113 section 3.4).
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0")?;
    stream.read_exact(&mut [0; 9])
}
