//! Reading the files. What is wrong is said with the file's name, and nothing of a key's content.

use std::{
    fs::{self, File},
    io::Read,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::{
    RootCertStore,
    pki_types::{
        CertificateDer, CertificateRevocationListDer, PrivateKeyDer,
        pem::{Error, PemObject},
    },
};

use super::{TlsError, TlsFiles, certificate, set};
use crate::{peer::Certificate, secret::is_open_to_others};

/// Octets of a file, at the most: thousands of revoked certificates, and no disk.
const FILE_OCTETS: u64 = 16 << 20;

/// What the files have.
pub struct Material {
    /// The own certificate and key.
    pub(super) pair: Option<Pair>,
    /// The CAs.
    pub(super) roots: Option<Arc<RootCertStore>>,
    /// What they have revoked.
    pub(super) revoked: Vec<CertificateRevocationListDer<'static>>,
    /// Hash of all of it.
    pub(super) hash: blake3::Hash,
}

/// A certificate and its key.
pub(super) struct Pair {
    pub(super) chain: Vec<CertificateDer<'static>>,
    pub(super) key: PrivateKeyDer<'static>,
    pub(super) own: Certificate,
    pub(super) files: (PathBuf, PathBuf),
}

impl Pair {
    /// Says why the pair is of no use.
    pub(super) fn refused(files: &(PathBuf, PathBuf), reason: &impl ToString) -> TlsError {
        let (cert, key) = files.clone();
        TlsError::Pair { cert, key, reason: reason.to_string() }
    }
}

impl Material {
    /// Reads the files that are named.
    ///
    /// # Errors
    /// With the name of the first file that cannot be used.
    pub fn load(files: &TlsFiles) -> Result<Self, TlsError> {
        let mut hasher = blake3::Hasher::new();
        let pair = match (set(&files.cert), set(&files.key)) {
            (None, None) => None,
            (Some(_), None) => return Err(TlsError::Missing("key")),
            (None, Some(_)) => return Err(TlsError::Missing("cert")),
            (Some(cert), Some(key)) => Some(pair(cert, key, &mut hasher)?),
        };
        let roots = set(&files.ca).map(|ca| roots(ca, &mut hasher)).transpose()?;
        let revoked = match set(&files.crl) {
            None => Vec::new(),
            Some(path) => {
                let text = read(path, false, &mut hasher)?;
                all(path, &text, "list of revoked certificates (X509 CRL)")?
            }
        };
        Ok(Self { pair, roots, revoked, hash: hasher.finalize() })
    }
}

fn pair(cert: &Path, key: &Path, hasher: &mut blake3::Hasher) -> Result<Pair, TlsError> {
    let files = (cert.to_owned(), key.to_owned());
    let text = read(cert, false, hasher)?;
    let chain: Vec<CertificateDer<'static>> = all(cert, &text, "certificate")?;
    let own = chain.first().map(certificate).unwrap_or_else(|| Err("it is empty".to_owned()));
    let own = own.map_err(|reason| TlsError::Content { path: cert.to_owned(), reason })?;
    let text = read(key, true, hasher)?;
    let key = PrivateKeyDer::from_pem_slice(&text).map_err(|error| TlsError::Content {
        path: key.to_owned(),
        reason: format!("no private key can be read from it: {}", told(&error)),
    })?;
    Ok(Pair { chain, key, own, files })
}

fn roots(path: &Path, hasher: &mut blake3::Hasher) -> Result<Arc<RootCertStore>, TlsError> {
    let text = read(path, false, hasher)?;
    let mut roots = RootCertStore::empty();
    for root in all::<CertificateDer<'static>>(path, &text, "certificate")? {
        roots.add(root).map_err(|error| TlsError::Content {
            path: path.to_owned(),
            reason: format!("a certificate in it cannot be a CA: {error}"),
        })?;
    }
    Ok(Arc::new(roots))
}

/// All objects of one kind in a file; one at the least.
fn all<T: PemObject>(path: &Path, text: &[u8], what: &str) -> Result<Vec<T>, TlsError> {
    let content = |reason| TlsError::Content { path: path.to_owned(), reason };
    let found = T::pem_slice_iter(text).collect::<Result<Vec<T>, _>>();
    let found = found.map_err(|error| content(format!("it is no PEM file: {}", told(&error))))?;
    if found.is_empty() {
        return Err(content(format!("there is no {what} in it")));
    }
    Ok(found)
}

/// The kind of an error. Its own text may have lines of the file.
const fn told(error: &Error) -> &'static str {
    match error {
        Error::MissingSectionEnd { .. } => "a section does not end",
        Error::IllegalSectionStart { .. } => "a section does not begin as it should",
        Error::Base64Decode(_) => "a section is not base64",
        Error::NoItemsFound => "there is none",
        _ => "it cannot be read",
    }
}

/// Reads a file; a secret one only if nobody else can.
fn read(path: &Path, is_secret: bool, hasher: &mut blake3::Hasher) -> Result<Vec<u8>, TlsError> {
    let error = |source| TlsError::Read { path: path.to_owned(), source };
    let file = File::open(path).map_err(error)?;
    let mode = file.metadata().map_err(error)?.permissions().mode() & 0o777;
    if is_secret && is_open_to_others(path, mode) {
        return Err(TlsError::Open { path: path.to_owned(), mode });
    }
    let mut octets = Vec::new();
    file.take(FILE_OCTETS).read_to_end(&mut octets).map_err(error)?;
    hasher.update(&(octets.len() as u64).to_be_bytes()).update(&octets);
    Ok(octets)
}

/// What the files are at the moment, so that it is seen when one of them changes: the times and sizes of
/// all that are named.
pub(super) fn state(files: &TlsFiles) -> Vec<Option<(std::time::SystemTime, u64)>> {
    let state = |path: &Path| {
        let metadata = fs::metadata(path).ok()?;
        Some((metadata.modified().ok()?, metadata.len()))
    };
    files.all().into_iter().filter_map(|path| set(path)).map(state).collect()
}
