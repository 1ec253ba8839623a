//! What people at this host have the edge do is written to its audit: that it was asked for before it is
//! done, and what came of it after (invariant 18). What cannot be written down is not done.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use edgesync_host::audit::{Audit, AuditError, Entry};
use tokio::task::spawn_blocking;
use tonic::{Request, Status, transport::server::UdsConnectInfo};

/// Characters of a caller's name.
const PRINCIPAL_CHARS: usize = 64;

/// The audit of one edge. It is opened for each entry: they are few, and a file that a person has moved
/// away is begun anew.
#[derive(Clone, Debug)]
pub(super) struct EdgeAudit {
    path: PathBuf,
    writing: Arc<Mutex<()>>,
}

/// Something that a person asks for.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    /// What the caller says who he is.
    pub(super) who: String,
    /// What the host says who he is.
    peer: String,
    what: &'static str,
    offset: u64,
}

impl Asked {
    /// A request; `who` is what the caller says of himself.
    pub(super) fn new<T>(request: &Request<T>, who: &str, what: &'static str, offset: u64) -> Self {
        let known = request.extensions().get::<UdsConnectInfo>();
        let peer = match known.and_then(|info| info.peer_cred) {
            Some(peer) => format!("uid {} gid {}", peer.uid(), peer.gid()),
            None => "unknown".to_owned(),
        };
        let who = who.chars().filter(|c| !c.is_control()).take(PRINCIPAL_CHARS).collect();
        Self { who, peer, what, offset }
    }
}

impl EdgeAudit {
    /// The audit in a file.
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, writing: Arc::default() }
    }

    /// Does what was asked for, between two entries.
    pub(super) async fn around<T>(
        &self,
        asked: &Asked,
        act: impl Future<Output = Result<T, Status>>,
    ) -> Result<T, Status> {
        let refused = |error: AuditError| Status::internal(format!("not done: {error}"));
        self.add(asked, "asked", "").await.map_err(refused)?;
        let done = act.await;
        let noted = match &done {
            Ok(_) => self.add(asked, "ok", "").await,
            Err(status) => self.add(asked, "refused", status.message()).await,
        };
        if let Err(error) = noted {
            tracing::error!(%error, "what came of it is not in the audit");
        }
        done
    }

    async fn add(&self, asked: &Asked, result: &str, detail: &str) -> Result<(), AuditError> {
        let (audit, asked) = (self.clone(), asked.clone());
        let (result, detail) = (result.to_owned(), detail.to_owned());
        let (path, added) = (self.path.clone(), move || {
            let _one = audit.writing.lock().unwrap_or_else(PoisonError::into_inner);
            let Asked { who, peer, what, offset } = &asked;
            let (what, offset, zone) = (*what, *offset, "");
            let (result, detail) = (&*result, &*detail);
            let entry = Entry { who, peer, what, zone, offset, result, detail };
            Audit::open(&audit.path)?.add(&entry)
        });
        let panicked = |source| AuditError::Io { path, source: std::io::Error::other(source) };
        spawn_blocking(added).await.unwrap_or_else(|error| Err(panicked(error)))
    }
}
