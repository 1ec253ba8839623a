//! The demo's changes: creates, edits and deletes, each a change set of its own, pipelined at a
//! steady rate.

use std::time::Duration;

use edgesync_proto::v1::{
    self, apply_change_sets_response::Result as Answer, operation::Operation as Wish,
};
use tokio::{
    sync::mpsc,
    time::{MissedTickBehavior, interval},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use super::ORIGIN;
use crate::{connect::Server, failure::Failure};

/// Change sets that may wait in the channel.
const WAITING: usize = 256;
/// A create, an edit and a delete take turns.
const KINDS: u32 = 3;

/// A stream of changes on its way.
pub struct Changes {
    server: Server,
    answers: Streaming<v1::ApplyChangeSetsResponse>,
    head: u64,
}

/// Begins to send so many change sets.
pub async fn stream(server: &Server, count: u32, rate: u32) -> Result<Changes, Failure> {
    let (sender, requests) = mpsc::channel(WAITING);
    tokio::spawn(async move {
        let mut ticks = interval(Duration::from_secs(1) / rate);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
        for number in 0..count {
            ticks.tick().await;
            if sender.send(request(number)).await.is_err() {
                return;
            }
        }
    });
    let answers = server.records().apply_change_sets(ReceiverStream::new(requests)).await;
    let answers = answers.map_err(server.failure())?.into_inner();
    Ok(Changes { server: server.clone(), answers, head: 0 })
}

impl Changes {
    /// Waits for so many answers.
    pub async fn answers(&mut self, count: u32) -> Result<(), Failure> {
        for _ in 0..count {
            if !self.answer().await? {
                break;
            }
        }
        Ok(())
    }

    /// Waits for the rest; the last offset.
    pub async fn finish(mut self) -> Result<u64, Failure> {
        while self.answer().await? {}
        Ok(self.head)
    }

    /// Takes one answer; false at the end.
    async fn answer(&mut self) -> Result<bool, Failure> {
        let answer = self.answers.message().await.map_err(self.server.failure())?;
        let Some(answer) = answer else { return Ok(false) };
        match answer.result {
            Some(Answer::Receipt(receipt)) => {
                self.head = receipt.position.map_or(self.head, |position| position.offset);
                Ok(true)
            }
            Some(Answer::Refusal(refusal)) => Err(Failure::Usage(refusal.message)),
            None => Err(Failure::Usage("an answer without content".to_owned())),
        }
    }
}

/// The change set of a number: record `n` is created, edited, and two times in three deleted again.
fn request(number: u32) -> v1::ApplyChangeSetsRequest {
    let turn = number / KINDS;
    let record = |address: u32| v1::RecordData {
        owner: format!("live-{turn}"),
        r#type: "A".to_owned(),
        ttl: 60,
        rdata: format!("198.19.{}.{}", address >> 8 & 255, address & 255),
        ..Default::default()
    };
    let (before, after) = (record(turn), record(turn + 1));
    let wish = match number % KINDS {
        0 => Wish::Create(before),
        1 => Wish::Replace(v1::Replace { old: Some(before), new: Some(after) }),
        _ if !turn.is_multiple_of(KINDS) => Wish::Delete(after),
        _ => Wish::Replace(v1::Replace { old: Some(after), new: Some(record(turn + 2)) }),
    };
    v1::ApplyChangeSetsRequest {
        zone: ORIGIN.to_owned(),
        operations: vec![v1::Operation { operation: Some(wish) }],
        idempotency_key: format!("demo:{number}"),
        raise_serial: true,
        override_guard: false,
    }
}
