//! What waits for an edge's stream. Change sets and chunks are bounded in octets by the sender's credit;
//! what has no credit (heartbeats above all) is bounded here, and all of it goes when the session ends:
//! an edge that does not read keeps nothing (invariant 16).

use std::{
    collections::VecDeque,
    future::poll_fn,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
    time::Duration,
};

use edgesync_core::{limits::UNCREDITED_MESSAGES, session::ToEdge};
use edgesync_proto::v1::{self, sync_response::Message};
use tokio::time::timeout;
use tokio_stream::Stream;
use tonic::Status;

/// Messages whose room is kept when the line is empty again.
const ROOM_KEPT: usize = 16;

/// A line of messages to one edge: the session's end, and the stream's.
pub(super) fn channel() -> (Outbound, Responses) {
    let line = Arc::new(Mutex::new(Line::default()));
    (Outbound(Arc::clone(&line)), Responses(line))
}

/// The edge takes nothing any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stuck;

/// What waits.
#[derive(Default)]
struct Line {
    messages: VecDeque<v1::SyncResponse>,
    /// Messages in it that no credit bounds.
    uncredited: usize,
    /// Nothing more comes.
    ended: bool,
    /// Nothing more is taken.
    gone: bool,
    /// Who waits for a message.
    reader: Option<Waker>,
    /// Who waits for the line to be empty, or gone.
    writer: Option<Waker>,
}

/// The session's end.
#[derive(Clone)]
pub(super) struct Outbound(Arc<Mutex<Line>>);

/// The stream's end.
pub struct Responses(Arc<Mutex<Line>>);

/// True if no credit bounds a message.
const fn is_uncredited(response: &v1::SyncResponse) -> bool {
    !matches!(response.message, Some(Message::Frame(_) | Message::SnapshotChunk(_)))
}

fn lock(line: &Mutex<Line>) -> MutexGuard<'_, Line> {
    line.lock().unwrap_or_else(PoisonError::into_inner)
}

fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}

impl Outbound {
    /// Puts a message in line. A stream that is gone is noticed by [`Outbound::closed`].
    pub(super) fn send(&self, message: ToEdge) -> Result<(), Stuck> {
        let message = v1::SyncResponse::from(message);
        let mut line = lock(&self.0);
        if line.ended || line.gone {
            return Ok(());
        }
        if is_uncredited(&message) {
            if line.uncredited >= UNCREDITED_MESSAGES {
                return Err(Stuck);
            }
            line.uncredited += 1;
        }
        line.messages.push_back(message);
        let reader = line.reader.take();
        drop(line);
        wake(reader);
        Ok(())
    }

    /// Ready when the stream is gone.
    pub(super) async fn closed(&self) {
        self.until(|line| line.gone).await;
    }

    /// Says that nothing more comes, lets what waits go out, and throws away what has not after a time.
    pub(super) async fn finish(self, grace: Duration) {
        wake(self.end());
        let _ = timeout(grace, self.until(|line| line.gone || line.messages.is_empty())).await;
        // The stream itself may be kept open by the other side for as long as it likes.
        let left = std::mem::take(&mut lock(&self.0).messages);
        drop(left);
    }

    fn end(&self) -> Option<Waker> {
        let mut line = lock(&self.0);
        line.ended = true;
        line.reader.take()
    }

    async fn until(&self, holds: impl Fn(&Line) -> bool) {
        poll_fn(|context| {
            let mut line = lock(&self.0);
            if holds(&line) {
                return Poll::Ready(());
            }
            line.writer = Some(context.waker().clone());
            Poll::Pending
        })
        .await;
    }
}

impl Stream for Responses {
    type Item = Result<v1::SyncResponse, Status>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let mut line = lock(&self.0);
        let Some(message) = line.messages.pop_front() else {
            if line.ended {
                return Poll::Ready(None);
            }
            line.reader = Some(context.waker().clone());
            return Poll::Pending;
        };
        line.uncredited -= usize::from(is_uncredited(&message));
        let mut writer = None;
        if line.messages.is_empty() {
            line.messages.shrink_to(ROOM_KEPT);
            // Before the end the session waits for the stream to be gone, not for an empty line.
            writer = if line.ended { line.writer.take() } else { None };
        }
        drop(line);
        wake(writer);
        Poll::Ready(Some(Ok(message)))
    }
}

impl Drop for Responses {
    fn drop(&mut self) {
        let mut line = lock(&self.0);
        line.gone = true;
        let (left, writer) = (std::mem::take(&mut line.messages), line.writer.take());
        drop(line);
        drop(left);
        wake(writer);
    }
}

#[cfg(test)]
mod tests {
    use edgesync_core::position::{LogId, Offset, Position};
    use tokio_stream::StreamExt;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(20);

    fn heartbeat() -> ToEdge {
        let (prev, progress) = (Offset::ZERO, Position::genesis(LogId([0; 16])));
        ToEdge::Heartbeat { prev, progress, head: Offset::ZERO, sample: None }
    }

    #[tokio::test]
    async fn messages_without_credit_are_bounded_while_the_edge_does_not_read() {
        let (outbound, mut responses) = channel();
        for _ in 0..UNCREDITED_MESSAGES {
            outbound.send(heartbeat()).unwrap();
        }
        assert_eq!(outbound.send(heartbeat()), Err(Stuck));
        outbound.send(ToEdge::Frame(Vec::new())).expect("what has credit has room");
        for _ in 0..UNCREDITED_MESSAGES {
            responses.next().await.unwrap().unwrap();
        }
        for _ in 0..UNCREDITED_MESSAGES {
            outbound.send(heartbeat()).expect("what was read makes room");
        }
        assert_eq!(outbound.send(heartbeat()), Err(Stuck));
    }

    #[tokio::test]
    async fn a_message_wakes_the_stream_and_the_end_of_the_stream_the_session() {
        let (outbound, mut responses) = channel();
        let reader = tokio::spawn(async move {
            responses.next().await.unwrap().unwrap();
        });
        tokio::task::yield_now().await;
        outbound.send(heartbeat()).unwrap();
        timeout(PATIENCE, reader).await.unwrap().unwrap();
        timeout(PATIENCE, outbound.closed()).await.unwrap();
        outbound.send(heartbeat()).expect("nobody takes it, nobody minds");
    }

    #[tokio::test]
    async fn a_session_whose_line_has_run_empty_is_still_told_that_the_stream_is_gone() {
        let (outbound, mut responses) = channel();
        let waiting = outbound.clone();
        let closed = tokio::spawn(async move { waiting.closed().await });
        tokio::task::yield_now().await;
        outbound.send(heartbeat()).unwrap();
        responses.next().await.unwrap().unwrap();
        tokio::task::yield_now().await;
        assert!(!closed.is_finished(), "the stream is there, and has read all");
        drop(responses);
        timeout(PATIENCE, closed).await.expect("it is woken").unwrap();
    }

    #[tokio::test]
    async fn the_last_words_go_out_and_what_is_not_read_is_thrown_away() {
        let (outbound, mut responses) = channel();
        outbound.send(heartbeat()).unwrap();
        let ending = tokio::spawn(outbound.finish(Duration::from_secs(3_600)));
        tokio::task::yield_now().await;
        assert!(responses.next().await.is_some());
        assert!(responses.next().await.is_none());
        timeout(PATIENCE, ending).await.unwrap().unwrap();

        let (outbound, mut responses) = channel();
        outbound.send(ToEdge::Frame(Vec::new())).unwrap();
        let line = Arc::clone(&outbound.0);
        outbound.finish(Duration::from_millis(1)).await;
        assert!(lock(&line).messages.is_empty(), "the stream is there, and holds nothing");
        assert!(responses.next().await.is_none());
    }
}
