//! `edgesync zone import`: streams a zone file to the server as it is read. Only a file that was read
//! to its end has a last message, so the server never takes a part for the whole.

use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
    time::Duration,
};

use bytes::Bytes;
use clap::Args;
use edgesync_core::name::Name;
use edgesync_proto::v1;
use indicatif::ProgressBar;
use serde::Serialize;
use tokio::{sync::mpsc, task, time::timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Response};

use crate::{
    args::{GuardArgs, KeyArgs},
    connect::{Server, Target},
    failure::Failure,
    format,
    output::{Printer, Show},
    progress,
    record::Receipt,
};

/// Octets of text in one message.
const CHUNK_OCTETS: usize = 256 * 1024;
/// Messages that are read ahead.
const CHUNKS_AHEAD: usize = 4;
/// How long a reader may take to come to its end when the answer is there.
const READER_WAIT: Duration = Duration::from_millis(200);
/// What stdin is called in errors.
pub const STDIN: &str = "<stdin>";

/// Arguments of `zone import`.
#[derive(Debug, Args)]
pub struct ImportArgs {
    /// Zone file (RFC 1035 section 5); `-` is stdin.
    pub file: PathBuf,
    /// Origin of the zone.
    #[arg(long)]
    pub origin: String,
    /// The guard.
    #[command(flatten)]
    pub guard: GuardArgs,
    /// The idempotency key.
    #[command(flatten)]
    pub key: KeyArgs,
}

/// What an import changed.
#[derive(Debug, Serialize)]
struct Imported {
    origin: String,
    zone_created: bool,
    created: u64,
    edited: u64,
    deleted: u64,
    change_sets: u32,
    #[serde(flatten)]
    receipt: Option<Receipt>,
}

impl Show for Imported {
    fn show(&self) -> String {
        let Self { origin, created, edited, deleted, change_sets, .. } = self;
        let Some(receipt) = &self.receipt else {
            return format!("{origin}: nothing differs");
        };
        let new = if self.zone_created { "new zone, " } else { "" };
        let sets = format::count(u64::from(*change_sets), "change set");
        let offset = receipt.offset;
        format!(
            "{origin}: {new}{created} created, {edited} edited, {deleted} deleted in {sets}, \
             offset {offset}"
        )
    }
}

/// Imports a zone file.
///
/// # Errors
/// If the file cannot be read, the server cannot be reached, or it refuses; a fault in the file is
/// told with its place.
pub async fn run(args: ImportArgs, control: &Target, printer: &mut Printer) -> Result<(), Failure> {
    let name = Name::parse_origin(&args.origin).map_err(|e| Failure::Usage(e.to_string()))?;
    let source = Source::open(&args.file)?;
    let server = Server::control(control).await?;
    let bar = progress::octets(source.octets);
    let first = v1::ImportZoneRequest {
        zone: name.to_string(),
        idempotency_key: args.key.key,
        override_guard: args.guard.override_guard,
        ..Default::default()
    };
    let imported = send(source, first, &server, bar.clone()).await;
    bar.finish_and_clear();
    let answer = imported?;
    printer.value(&Imported {
        origin: name.to_string(),
        zone_created: answer.zone_created,
        created: answer.created,
        edited: answer.edited,
        deleted: answer.deleted,
        change_sets: answer.change_sets,
        receipt: answer.receipt.map(Receipt::from),
    })
}

/// Text to be read.
pub struct Source {
    path: PathBuf,
    reader: Box<dyn Read + Send>,
    octets: Option<u64>,
}

impl Source {
    /// Opens a file, or stdin for `-`.
    ///
    /// # Errors
    /// If the file cannot be opened.
    pub fn open(path: &Path) -> Result<Self, Failure> {
        if path == Path::new("-") {
            return Ok(Self { path: STDIN.into(), reader: Box::new(io::stdin()), octets: None });
        }
        let failed = |source| Failure::File { file: path.to_owned(), source };
        let file = File::open(path).map_err(failed)?;
        let found = file.metadata().map_err(failed)?;
        let octets = found.is_file().then_some(found.len());
        Ok(Self { path: path.to_owned(), reader: Box::new(file), octets })
    }

    /// The file as errors name it.
    #[must_use]
    pub fn shown(&self) -> String {
        self.path.display().to_string()
    }

    /// All of it as text.
    ///
    /// # Errors
    /// If it cannot be read, or is no UTF-8.
    pub fn read_text(mut self) -> Result<String, Failure> {
        let mut text = String::new();
        let read = self.reader.read_to_string(&mut text);
        read.map_err(|source| Failure::File { file: self.path, source })?;
        Ok(text)
    }

    /// The next octets; none at the end.
    fn chunk(&mut self) -> Result<Option<Bytes>, Failure> {
        let mut text = Vec::with_capacity(CHUNK_OCTETS);
        let mut part = self.reader.by_ref().take(CHUNK_OCTETS as u64);
        let read = part.read_to_end(&mut text);
        read.map_err(|source| Failure::File { file: self.path.clone(), source })?;
        Ok((!text.is_empty()).then(|| text.into()))
    }
}

/// Reads to the end, a message a chunk; the last one says that it is.
fn read(
    mut source: Source,
    first: v1::ImportZoneRequest,
    sender: &mpsc::Sender<v1::ImportZoneRequest>,
    bar: &ProgressBar,
) -> Result<(), Failure> {
    let mut message = first;
    while let Some(text) = source.chunk()? {
        bar.inc(text.len() as u64);
        message.text = text;
        // Where nobody listens any more, the answer is there.
        if sender.blocking_send(std::mem::take(&mut message)).is_err() {
            return Ok(());
        }
    }
    let _ = sender.blocking_send(v1::ImportZoneRequest { last: true, ..message });
    Ok(())
}

async fn send(
    source: Source,
    first: v1::ImportZoneRequest,
    server: &Server,
    bar: ProgressBar,
) -> Result<v1::ImportZoneResponse, Failure> {
    let file = source.shown();
    let (sender, receiver) = mpsc::channel(CHUNKS_AHEAD);
    let reader = task::spawn_blocking(move || read(source, first, &sender, &bar));
    let answer = server.records().import_zone(ReceiverStream::new(receiver)).await;
    // A file that broke off is the cause of what the server says of it. One that is still read is
    // not waited for: it may be a terminal.
    if let Ok(read) = timeout(READER_WAIT, reader).await {
        read.map_err(gone)??;
    }
    answer.map(Response::into_inner).map_err(|status| in_file(server.failure()(status), &file))
}

/// A task of ours that did not come to its end: a defect.
fn gone(error: task::JoinError) -> Failure {
    Failure::Runtime(io::Error::other(error))
}

/// Gives a fault in the text its place, if the server named it: `LINE:COLUMN: message`.
fn in_file(failure: Failure, file: &str) -> Failure {
    let Failure::Refused { code: code @ Code::InvalidArgument, message } = failure else {
        return failure;
    };
    match place(&message) {
        Some((position, rest)) => Failure::InFile {
            file: file.to_owned(),
            position: position.to_owned(),
            message: rest.to_owned(),
        },
        None => Failure::Refused { code, message: format!("{file}: {message}") },
    }
}

/// Parts `LINE:COLUMN: message`.
fn place(message: &str) -> Option<(&str, &str)> {
    let (line, rest) = message.split_once(':')?;
    let (column, text) = rest.split_once(':')?;
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|c| c.is_ascii_digit());
    let position = message.get(..line.len() + 1 + column.len())?;
    (is_number(line) && is_number(column)).then(|| (position, text.trim_start()))
}

#[cfg(test)]
mod tests;
