//! `edgesync apply`: a file of changes, one change set a block, pipelined. Blocks are committed in
//! order, so that what was not answered begins where the answers end.

use std::{path::PathBuf, sync::Arc, time::Instant};

use clap::Args;
use edgesync_core::{
    change_file::{self, Block},
    name::Name,
};
use edgesync_proto::v1::{self, apply_change_sets_response::Result as Applied};
use indicatif::ProgressBar;
use serde::Serialize;
use tokio::sync::{Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Code;

use crate::{
    args::GuardArgs,
    connect::{Server, Target},
    failure::{Failure, Outcome},
    format,
    output::{Printer, Show},
    progress,
    zone::Source,
};

mod request;

/// What follows the options in the help.
const FORMAT: &str = "\
The file:
  ; serial 2025010101
  - www.example.com.  300 IN A 192.0.2.1
  + www.example.com.  300 IN A 192.0.2.2

`; serial N` opens a block, `-` takes a record out, `+` puts one in. To apply a file again is safe:
within 24 hours the blocks that are committed are not repeated.";

/// Arguments of `apply`.
#[derive(Debug, Args)]
#[command(after_help = FORMAT)]
pub struct ApplyArgs {
    /// File of changes; `-` is stdin.
    pub file: PathBuf,
    /// Origin of the zone.
    #[arg(long)]
    pub origin: String,
    /// Blocks that may be sent ahead of the server's answers.
    #[arg(long, value_name = "N", default_value_t = 64,
          value_parser = clap::value_parser!(u16).range(1..=4096))]
    pub in_flight: u16,
    /// The guard.
    #[command(flatten)]
    pub guard: GuardArgs,
}

/// What came of a file that was applied.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
struct Summary {
    origin: String,
    blocks: usize,
    changes: u64,
    /// Blocks that an earlier call had committed.
    replayed: usize,
    seconds: f64,
    last_offset: u64,
}

impl Show for Summary {
    fn show(&self) -> String {
        let blocks = format::count(self.blocks as u64, "block");
        let changes = format::count(self.changes, "change");
        let again = match self.replayed {
            0 => String::new(),
            replayed => format!(" ({replayed} of the blocks had been committed before)"),
        };
        let seconds = format::seconds_text(self.seconds);
        format!("{blocks}, {changes} in {seconds}, last offset {}{again}", self.last_offset)
    }
}

/// Applies a file.
///
/// # Errors
/// If the file cannot be read, the server cannot be reached, or it refuses a block.
pub async fn run(
    args: ApplyArgs,
    control: &Target,
    printer: &mut Printer,
) -> Result<Outcome, Failure> {
    let origin = Name::parse_origin(&args.origin).map_err(|e| Failure::Usage(e.to_string()))?;
    let source = Source::open(&args.file)?;
    let file = source.shown();
    let blocks = parse(&source.read_text()?, &origin, &file)?;
    let server = Server::control(control).await?;
    let bar = progress::things(blocks.len(), "blocks");
    let begun = Instant::now();
    let guard = args.guard.override_guard;
    let applying =
        Applying { blocks: blocks.into(), origin: &origin, file: &file, override_guard: guard };
    let applied = applying.apply(&server, usize::from(args.in_flight), &bar).await;
    bar.finish_and_clear();
    let summary = applied?;
    let seconds = begun.elapsed().as_secs_f64();
    printer.value(&Summary { seconds, origin: origin.to_string(), ..summary })?;
    Ok(Outcome::Done)
}

fn parse(text: &str, origin: &Name, file: &str) -> Result<Vec<Block>, Failure> {
    change_file::parse(text, origin).map_err(|error| Failure::InFile {
        file: file.to_owned(),
        position: error.line.to_string(),
        message: error.reason,
    })
}

/// A file that is being applied.
struct Applying<'a> {
    blocks: Arc<[Block]>,
    origin: &'a Name,
    file: &'a str,
    override_guard: bool,
}

impl Applying<'_> {
    /// Sends the blocks, at most `in_flight` ahead of the answers, and stops at the first refusal.
    async fn apply(
        &self,
        server: &Server,
        in_flight: usize,
        bar: &ProgressBar,
    ) -> Result<Summary, Failure> {
        let ahead = Arc::new(Semaphore::new(in_flight));
        let (sender, receiver) = mpsc::channel(1);
        tokio::spawn(feed(
            Arc::clone(&self.blocks),
            self.origin.clone(),
            self.override_guard,
            Arc::clone(&ahead),
            sender,
        ));
        let mut done = Summary::default();
        let lost = |status| self.broken_off(server.failure()(status), 0);
        let mut calls = server.records();
        let call = calls.apply_change_sets(ReceiverStream::new(receiver)).await;
        let mut answers = call.map_err(lost)?.into_inner();
        while done.blocks < self.blocks.len() {
            let lost = |status| self.broken_off(server.failure()(status), done.blocks);
            match answers.message().await.map_err(lost)?.and_then(|answer| answer.result) {
                Some(Applied::Receipt(receipt)) => done.take(&receipt),
                Some(Applied::Refusal(refusal)) => return Err(self.refused(&refusal, &done)),
                None => {
                    let reason = "the answers ended too early".to_owned();
                    let server = server.name().to_owned();
                    return Err(self.broken_off(Failure::Lost { server, reason }, done.blocks));
                }
            }
            ahead.add_permits(1);
            bar.inc(1);
        }
        Ok(done)
    }

    /// The refusal of the block after the last one that was committed, with its line.
    fn refused(&self, refusal: &v1::Refusal, done: &Summary) -> Failure {
        let block = self.blocks.get(done.blocks);
        let operation = refusal.operation.and_then(|index| usize::try_from(index).ok());
        let line = block.map_or(0, |block| {
            let operation = operation.and_then(|index| block.operations.get(index));
            operation.map_or(block.line, |operation| operation.line)
        });
        Failure::InFile {
            file: self.file.to_owned(),
            position: line.to_string(),
            message: format!("{} ({})", refusal.message, self.progress(done.blocks)),
        }
    }

    /// Adds to a failure of the whole call how far it got.
    fn broken_off(&self, failure: Failure, done: usize) -> Failure {
        let progress = self.progress(done);
        match failure {
            Failure::Lost { server, reason } => {
                Failure::Lost { server, reason: format!("{reason} ({progress})") }
            }
            // What was sent before it may have been on its way to be committed.
            Failure::NotNow { server, reason } => {
                let reason = format!(
                    "{reason} ({progress}); a block that was not answered may still have been done"
                );
                Failure::NotNow { server, reason }
            }
            Failure::Refused { code, message } if code != Code::NotFound => {
                Failure::Refused { code, message: format!("{message} ({progress})") }
            }
            other => other,
        }
    }

    fn progress(&self, done: usize) -> String {
        format!("{done} of {} were committed", format::count(self.blocks.len() as u64, "block"))
    }
}

impl Summary {
    fn take(&mut self, receipt: &v1::Receipt) {
        let last = receipt.position.as_ref().map_or(0, |position| position.offset);
        self.blocks += 1;
        self.changes += (last + 1).saturating_sub(receipt.first);
        self.replayed += usize::from(receipt.replayed);
        self.last_offset = last;
    }
}

/// Makes a request of each block when there is room for it. Ends when nobody wants them any more.
async fn feed(
    blocks: Arc<[Block]>,
    origin: Name,
    override_guard: bool,
    ahead: Arc<Semaphore>,
    sender: mpsc::Sender<v1::ApplyChangeSetsRequest>,
) {
    for block in blocks.iter() {
        let Ok(permit) = ahead.acquire().await else {
            return;
        };
        // The answer gives it back.
        permit.forget();
        if sender.send(request::of_block(block, &origin, override_guard)).await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests;
