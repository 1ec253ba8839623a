//! The files of TLS, good and bad, and two sides that meet.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    time::{Duration, SystemTime},
};

use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::pki::{Authority, Purpose, Subject};

const DAY: Duration = Duration::from_secs(86_400);

/// A directory with a CA, a server's pair and an edge's.
struct Dir {
    dir: TempDir,
    authority: Authority,
}

impl Dir {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::create("test", 30).unwrap();
        let this = Self { dir, authority };
        this.write("ca.pem", this.authority.certificate(), 0o644);
        this.issue("server", &Subject::server(&["localhost"]).unwrap(), Purpose::Server);
        this.issue("edge", &Subject::edge("fra-1").unwrap(), Purpose::Client);
        this
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn write(&self, name: &str, text: &str, mode: u32) {
        let new = self.path(&format!("{name}.new"));
        fs::write(&new, text).unwrap();
        fs::set_permissions(&new, fs::Permissions::from_mode(mode)).unwrap();
        fs::rename(new, self.path(name)).unwrap();
    }

    fn issue(&self, name: &str, subject: &Subject, purpose: Purpose) {
        let now = SystemTime::now();
        let pair = self.authority.issue(subject, purpose, &(now - DAY..now + DAY)).unwrap();
        self.write(&format!("{name}.pem"), &pair.certificate, 0o644);
        self.write(&format!("{name}.key"), pair.key.expose(), 0o600);
    }

    fn files(&self, name: &str) -> TlsFiles {
        TlsFiles {
            cert: self.path(&format!("{name}.pem")),
            key: self.path(&format!("{name}.key")),
            ca: self.path("ca.pem"),
            crl: PathBuf::new(),
        }
    }
}

fn refused<T: Side>(files: &TlsFiles) -> String {
    let told = Material::load(files).and_then(T::make).err().expect("it is refused").to_string();
    assert_eq!(told.lines().count(), 1, "{told}");
    told
}

#[test]
fn each_file_that_cannot_be_used_is_named_and_nothing_of_a_key_is_said() {
    let dir = Dir::new();
    let good = dir.files("server");
    assert!(Material::load(&good).and_then(ServerSide::make).is_ok());
    let said = |change: &dyn Fn(&mut TlsFiles)| {
        let mut files = good.clone();
        change(&mut files);
        refused::<ServerSide>(&files)
    };
    assert!(said(&|files| files.cert = PathBuf::new()).contains("tls.cert is not set"));
    assert!(said(&|files| files.key = PathBuf::new()).contains("tls.key is not set"));
    assert!(said(&|files| files.ca = "/nowhere".into()).contains("/nowhere"));
    let edge = dir.path("edge.key");
    let mixed = said(&|files| files.key.clone_from(&edge));
    assert!(mixed.contains("edge.key") && mixed.contains("cannot be used"), "{mixed}");
    let no_key = said(&|files| files.key.clone_from(&good.cert));
    assert!(no_key.contains("mode") || no_key.contains("no private key"), "{no_key}");
    let secret = fs::read_to_string(&good.key).unwrap();
    dir.write("open.key", &secret, 0o640);
    let open = said(&|files| files.key = dir.path("open.key"));
    assert!(open.contains("640") && open.contains("chmod 600"), "{open}");
    // A key that was cut off: what is left of it is not told.
    let (half, _) = secret.split_at(secret.len() / 2);
    dir.write("half.key", half, 0o600);
    let half_told = said(&|files| files.key = dir.path("half.key"));
    let line = secret.lines().nth(1).unwrap();
    assert!(half_told.contains("half.key") && !half_told.contains(&line[..8]), "{half_told}");
    let empty = said(&|files| files.crl.clone_from(&good.cert));
    assert!(empty.contains("X509 CRL"), "{empty}");
    let client = TlsFiles { ca: PathBuf::new(), ..dir.files("edge") };
    assert!(refused::<ClientSide>(&client).contains("tls.ca is not set"));
}

#[tokio::test]
async fn new_files_are_used_when_they_are_good_and_else_the_old_ones_stay() {
    let dir = Dir::new();
    let files = dir.files("server");
    let (mut current, keeper) = Current::<ServerSide>::load(files.clone(), "test").unwrap();
    let keeping = tokio::spawn(keeper.keep());
    let first = current.get_and_follow().unwrap();
    // A pair that does not match, as between two renames.
    dir.issue("other", &Subject::server(&["localhost"]).unwrap(), Purpose::Server);
    fs::copy(dir.path("other.key"), &files.key).unwrap();
    assert!(tokio::time::timeout(Duration::from_millis(2_500), current.changed()).await.is_err());
    assert!(std::sync::Arc::ptr_eq(&first, &current.get().unwrap()), "the old one stays");
    fs::copy(dir.path("other.pem"), &files.cert).unwrap();
    tokio::time::timeout(Duration::from_secs(10), current.changed()).await.unwrap();
    assert!(!std::sync::Arc::ptr_eq(&first, &current.get_and_follow().unwrap()));
    keeping.abort();
}

#[tokio::test]
async fn who_has_nothing_good_yet_waits_for_it() {
    let dir = Dir::new();
    let mut files = dir.files("edge");
    files.ca = dir.path("later.pem");
    assert!(Current::<ClientSide>::load(files.clone(), "test").is_err());
    let (mut current, keeper) = Current::<ClientSide>::load_or_wait(files, "test");
    assert!(current.get_and_follow().unwrap_err().contains("later.pem"));
    let keeping = tokio::spawn(keeper.keep());
    dir.write("later.pem", dir.authority.certificate(), 0o644);
    tokio::time::timeout(Duration::from_secs(10), current.changed()).await.unwrap();
    assert!(current.get().is_ok());
    keeping.abort();
}

#[test]
fn what_is_told_of_the_files_is_described() {
    use crate::metrics::tests::{rendered, undescribed};
    let page = rendered(|| {
        let dir = Dir::new();
        Current::<ServerSide>::load(dir.files("server"), "test").unwrap();
    });
    for name in ["test_tls_reloads_total", "test_certificate_ends_seconds"] {
        assert!(page.contains(&format!("# HELP {name} ")), "{page}");
    }
    assert_eq!(undescribed(&page), [""; 0], "{page}");
}

/// What both sides come to: the client's word, and the certificate that the server has seen.
async fn meet(server: &TlsFiles, client: &TlsFiles, name: &str) -> Result<Option<String>, String> {
    let server = Material::load(server).and_then(ServerSide::make).unwrap();
    let client = Material::load(client).and_then(ClientSide::make).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let serving = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let acceptor = TlsAcceptor::from(std::sync::Arc::clone(&server.config));
        let mut stream = acceptor.accept(stream).await.map_err(|error| error.to_string())?;
        let _ = stream.write_all(b"x").await;
        let _ = stream.shutdown().await;
        let (_, connection) = stream.get_ref();
        assert_eq!(connection.protocol_version(), Some(rustls::ProtocolVersion::TLSv1_3));
        let seen = connection.peer_certificates().and_then(<[_]>::first);
        Ok::<_, String>(seen.map(|der| certificate(der).unwrap()))
    });
    let stream = TcpStream::connect(address).await.unwrap();
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let connected = client.connector().connect(name, stream).await;
    let read = match connected {
        Err(error) => Err(error.to_string()),
        Ok(mut stream) => {
            let mut octets = Vec::new();
            let read = stream.read_to_end(&mut octets).await;
            read.map(drop).map_err(|error| error.to_string())
        }
    };
    let seen = serving.await.unwrap();
    read.and(seen).map(|seen| seen.and_then(|seen| seen.edge_id().map(str::to_owned)))
}

#[tokio::test]
async fn each_side_shows_who_it_is_and_takes_nobody_else() {
    let (ours, theirs) = (Dir::new(), Dir::new());
    let (server, edge) = (ours.files("server"), ours.files("edge"));
    assert_eq!(meet(&server, &edge, "localhost").await, Ok(Some("fra-1".to_owned())));
    let anonymous = TlsFiles { cert: PathBuf::new(), key: PathBuf::new(), ..edge.clone() };
    assert_eq!(meet(&server, &anonymous, "localhost").await, Ok(None));
    assert!(meet(&server, &edge, "other.example").await.unwrap_err().contains("name"));
    let stranger = TlsFiles { ca: ours.path("ca.pem"), ..theirs.files("edge") };
    assert!(meet(&server, &stranger, "localhost").await.is_err(), "of another CA");
    assert!(meet(&server, &theirs.files("edge"), "localhost").await.is_err(), "another server");
    // A server's certificate is none for an edge, and the other way round.
    assert!(meet(&server, &server, "localhost").await.is_err());
    assert!(meet(&edge, &edge, "localhost").await.is_err());
}
