//! The file of a snapshot: chunk after chunk. Where each is stays in memory, so a file means nothing
//! to another process; it goes when nobody has it any more.

use std::{
    fs::File,
    io::{self, Write},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use bytes::Bytes;
use edgesync_core::snapshot::{Chunk, Manifest, SnapshotId};

use crate::log::Pin;

/// Where a chunk is in the file.
#[derive(Debug)]
struct Place {
    from: u64,
    octets: usize,
    hash: [u8; 32],
}

/// A snapshot that is whole.
pub(super) struct SnapshotFile {
    pub(super) manifest: Manifest,
    chunks: Chunks,
    usage: Mutex<Use>,
}

/// What is made of a snapshot.
struct Use {
    /// The log goes on from it.
    pin: Option<Pin>,
    /// When an edge last asked for it, or came further with it.
    last: Instant,
}

/// The chunks of a snapshot, in a file that is removed with it.
pub(super) struct Chunks {
    path: PathBuf,
    file: File,
    places: Vec<Place>,
    end: u64,
}

impl Chunks {
    pub(super) fn create(dir: &Path, id: SnapshotId) -> io::Result<Self> {
        let path = dir.join(format!("{id}.snapshot"));
        let file = File::options().read(true).write(true).create_new(true).open(&path)?;
        Ok(Self { path, file, places: Vec::new(), end: 0 })
    }

    pub(super) fn push(&mut self, chunk: &Chunk) -> io::Result<()> {
        self.file.write_all(&chunk.body)?;
        let octets = chunk.body.len();
        self.places.push(Place { from: self.end, octets, hash: chunk.hash });
        self.end += octets as u64;
        Ok(())
    }

    /// The index of the next chunk.
    pub(super) fn next(&self) -> u32 {
        u32::try_from(self.places.len()).unwrap_or(u32::MAX)
    }

    pub(super) fn finish(self, manifest: Manifest, pin: Pin) -> SnapshotFile {
        let usage = Mutex::new(Use { pin: Some(pin), last: Instant::now() });
        SnapshotFile { manifest, chunks: self, usage }
    }
}

impl Drop for Chunks {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.path) {
            tracing::warn!(file = %self.path.display(), %error, "cannot remove a snapshot");
        }
    }
}

impl SnapshotFile {
    fn lock(&self) -> MutexGuard<'_, Use> {
        self.usage.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An edge asks for it, or has come further with it.
    pub(super) fn note_use(&self) {
        self.lock().last = Instant::now();
    }

    /// How long nothing was made of it.
    pub(super) fn idle(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.lock().last)
    }

    /// Keeps the log no more. Who still takes it comes back for another one, if the log is compacted.
    pub(super) fn unpin(&self) {
        self.lock().pin = None;
    }

    /// True if the log goes on from it.
    pub(super) fn is_pinned(&self) -> bool {
        self.lock().pin.is_some()
    }

    /// Octets of the file.
    pub(super) const fn octets(&self) -> u64 {
        self.chunks.end
    }

    /// Reads a chunk. What the disk has made of it is found by the edge, by its hash.
    pub(super) fn chunk(&self, index: u32) -> io::Result<Chunk> {
        let place = usize::try_from(index).ok().and_then(|index| self.chunks.places.get(index));
        let place = place.ok_or(io::ErrorKind::InvalidInput)?;
        let mut body = vec![0; place.octets];
        self.chunks.file.read_exact_at(&mut body, place.from)?;
        Ok(Chunk { snapshot: self.manifest.id, index, hash: place.hash, body: Bytes::from(body) })
    }
}
