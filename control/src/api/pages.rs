//! Station 1, the API: long lists, read page by page from one view of the log and sent as fast as
//! the client takes them. A view that a slow client holds would keep the store from reusing its
//! pages, so it is given up in time.

use std::time::Duration;

use prost::Message;
use tokio::sync::mpsc::{self, error::SendTimeoutError};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::blocking;

/// How long a client may take for one message.
const PATIENCE: Duration = Duration::from_secs(30);
/// Messages that are read ahead.
const AHEAD: usize = 2;
/// Octets of one message, about: what clients take by default is 4 MiB.
const MESSAGE_OCTETS: usize = 1024 * 1024;

/// A list that is read in pages.
pub(super) trait Pages: Send + 'static {
    /// A message.
    type Page: Send + 'static;

    /// The next messages; none at the end. May block.
    fn next(&mut self) -> Result<Vec<Self::Page>, Status>;
}

/// The messages of a list.
pub(super) type PageStream<T> = ReceiverStream<Result<T, Status>>;

/// Streams a list.
pub(super) fn stream<P: Pages>(pages: P) -> PageStream<P::Page> {
    stream_with(pages, PATIENCE)
}

fn stream_with<P: Pages>(pages: P, patience: Duration) -> PageStream<P::Page> {
    let (sender, receiver) = mpsc::channel(AHEAD);
    tokio::spawn(async move {
        if let Err(status) = send(pages, &sender, patience).await {
            // A list must not end as if it were whole: this waits for the client, without a view.
            let _ = sender.send(Err(status)).await;
        }
    });
    ReceiverStream::new(receiver)
}

async fn send<P: Pages>(
    mut pages: P,
    sender: &mpsc::Sender<Result<P::Page, Status>>,
    patience: Duration,
) -> Result<(), Status> {
    loop {
        let (back, messages) = blocking(move || {
            let messages = pages.next();
            (pages, messages)
        })
        .await?;
        pages = back;
        let messages = messages?;
        if messages.is_empty() {
            return Ok(());
        }
        for message in messages {
            match sender.send_timeout(Ok(message), patience).await {
                Ok(()) => {}
                Err(SendTimeoutError::Closed(_)) => return Ok(()),
                Err(SendTimeoutError::Timeout(_)) => {
                    return Err(Status::aborted(format!(
                        "no message was taken for {} s, and the list's view was given up: list again",
                        patience.as_secs()
                    )));
                }
            }
        }
    }
}

/// Divides items among messages of bounded size and number.
pub(super) fn divide<T>(
    items: Vec<T>,
    most: usize,
    octets_of: impl Fn(&T) -> usize,
) -> Vec<Vec<T>> {
    let (mut parts, mut part, mut octets) = (Vec::new(), Vec::new(), 0_usize);
    for item in items {
        let more = octets_of(&item);
        if !part.is_empty() && (part.len() >= most || octets.saturating_add(more) > MESSAGE_OCTETS)
        {
            parts.push(std::mem::take(&mut part));
            octets = 0;
        }
        octets = octets.saturating_add(more);
        part.push(item);
    }
    if !part.is_empty() {
        parts.push(part);
    }
    parts
}

/// What a message takes within another one, about.
pub(super) fn encoded(message: &impl Message) -> usize {
    message.encoded_len() + 8
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    };

    use tokio_stream::StreamExt;

    use super::*;

    struct Endless(Arc<AtomicBool>);

    impl Pages for Endless {
        type Page = u8;

        fn next(&mut self) -> Result<Vec<u8>, Status> {
            Ok(vec![1, 2, 3])
        }
    }

    impl Drop for Endless {
        fn drop(&mut self) {
            self.0.store(true, Ordering::SeqCst);
        }
    }

    #[tokio::test]
    async fn a_client_that_takes_nothing_loses_the_view_and_is_told() {
        let given_up = Arc::new(AtomicBool::new(false));
        let pages = Endless(Arc::clone(&given_up));
        let mut stream = stream_with(pages, Duration::from_millis(50));
        while !given_up.load(Ordering::SeqCst) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let mut taken = Vec::new();
        while let Some(message) = stream.next().await {
            taken.push(message);
        }
        let last = taken.pop().unwrap().unwrap_err();
        assert_eq!(last.code(), tonic::Code::Aborted);
        assert!(taken.len() >= AHEAD && taken.iter().all(Result::is_ok));
    }

    #[tokio::test]
    async fn a_client_that_goes_away_ends_the_reading() {
        let given_up = Arc::new(AtomicBool::new(false));
        let stream = stream(Endless(Arc::clone(&given_up)));
        drop(stream);
        while !given_up.load(Ordering::SeqCst) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    #[test]
    fn messages_are_bounded_in_number_and_in_octets() {
        let lengths = |items: Vec<usize>, most| {
            let parts = divide(items, most, |octets| *octets);
            parts.iter().map(Vec::len).collect::<Vec<_>>()
        };
        assert_eq!(lengths(vec![1; 7], 3), [3, 3, 1]);
        assert_eq!(lengths(vec![MESSAGE_OCTETS, 1, MESSAGE_OCTETS * 2, 1], 3), [1, 1, 1, 1]);
        assert!(lengths(Vec::new(), 3).is_empty());
    }
}
