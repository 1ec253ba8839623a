//! The pace at which a peer may have frames of HTTP/2 looked at. Frames that carry no data cost a server as
//! much as others and the peer nothing: floods of PING, SETTINGS, WINDOW_UPDATE, RST_STREAM or HEADERS are
//! the cheapest attacks there are. Who sends more than anybody needs is not cut off: what he sends is read
//! later, until his own socket is full (CVE-2019-9512, CVE-2019-9515, CVE-2023-44487).

mod frames;

use std::{
    future::Future,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep, sleep_until},
};
use tonic::transport::server::Connected;

use self::frames::Frames;

/// What a connection may have looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// Frames without data in a second. Calls have one or two of them each.
    pub frames_per_second: u32,
    /// Such frames at once.
    pub burst: u32,
    /// Time for the first call to begin; a connection without one is closed then.
    pub first_call: Duration,
}

/// A connection that is read at a pace.
#[derive(Debug)]
pub struct Paced<S> {
    stream: S,
    pace: Pace,
    frames: Frames,
    /// When all frames that were read will have been due: one each by the pace, never more than a burst behind.
    due: Instant,
    waiting: Option<Pin<Box<Sleep>>>,
    /// Until when the first call has to have begun; none since it has.
    first_call: Option<Pin<Box<Sleep>>>,
}

impl<S> Paced<S> {
    /// Reads a connection at a pace.
    #[must_use]
    pub fn new(stream: S, pace: Pace) -> Self {
        let (frames, due) = (Frames::default(), Instant::now());
        let first_call = Some(Box::pin(sleep_until(due + pace.first_call)));
        Self { stream, pace, frames, due, waiting: None, first_call }
    }

    fn burst(&self) -> Duration {
        self.time_for(u64::from(self.pace.burst))
    }

    fn time_for(&self, frames: u64) -> Duration {
        let nanoseconds = frames.saturating_mul(1_000_000_000);
        Duration::from_nanos(nanoseconds / u64::from(self.pace.frames_per_second.max(1)))
    }

    /// Counts what has come, and waits before more is read if that was too much.
    fn count(&mut self, octets: &[u8]) {
        let frames = self.frames.count(octets);
        if frames == 0 {
            return;
        }
        if self.frames.has_called() {
            self.first_call = None;
        }
        let now = Instant::now();
        self.due = self.due.max(now) + self.time_for(frames);
        let allowed = now + self.burst();
        if self.due > allowed {
            metrics::counter!("edgesync_control_connections_slowed_total").increment(1);
            self.waiting = Some(Box::pin(sleep_until(now + (self.due - allowed))));
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Paced<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Some(first_call) = &mut self.first_call
            && first_call.as_mut().poll(context).is_ready()
        {
            let why = "no call was made in time";
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, why)));
        }
        if let Some(waiting) = &mut self.waiting {
            ready!(waiting.as_mut().poll(context));
            self.waiting = None;
        }
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(context, buffer))?;
        self.count(buffer.filled().get(before..).unwrap_or_default());
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Paced<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        octets: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, octets)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

impl<S: Connected> Connected for Paced<S> {
    type ConnectInfo = S::ConnectInfo;

    fn connect_info(&self) -> Self::ConnectInfo {
        self.stream.connect_info()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    const PACE: Pace =
        Pace { frames_per_second: 100, burst: 50, first_call: Duration::from_secs(86_400) };

    /// Octets of a connection's beginning and so many frames of a kind.
    fn octets(kind: u8, frames: usize, payload: &[u8]) -> Vec<u8> {
        let mut octets = frames::PREFACE.to_vec();
        for _ in 0..frames {
            octets.extend_from_slice(&[0, 0, u8::try_from(payload.len()).unwrap(), kind, 0]);
            octets.extend_from_slice(&[0, 0, 0, 1]);
            octets.extend_from_slice(payload);
        }
        octets
    }

    /// How long it takes until all of a peer's octets were read, on a clock that jumps.
    async fn time_of(octets: Vec<u8>) -> Duration {
        let (mut peer, stream) = duplex(1 << 20);
        let mut paced = Paced::new(stream, PACE);
        peer.write_all(&octets).await.unwrap();
        drop(peer);
        let begin = Instant::now();
        let mut read = vec![0; 512];
        let mut all = 0;
        loop {
            let octets = paced.read(&mut read).await.unwrap();
            if octets == 0 {
                break;
            }
            all += octets;
        }
        assert_eq!(all, octets.len(), "nothing is lost");
        begin.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn frames_without_data_are_read_at_their_pace_and_data_at_any() {
        // 1,050 frames, 50 of them at once, 100 a second.
        let pings = time_of(octets(6, 1_050, &[0; 8])).await;
        let range = Duration::from_secs(9)..Duration::from_millis(10_500);
        assert!(range.contains(&pings), "{pings:?}");
        assert!(time_of(octets(0, 1_050, &[])).await > Duration::from_secs(9), "empty DATA");
        assert_eq!(time_of(octets(0, 10_000, &[1])).await, Duration::ZERO);
        assert_eq!(time_of(octets(6, 49, &[0; 8])).await, Duration::ZERO, "a burst");
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_not_used_is_saved_up_to_a_burst_and_no_more() {
        let (mut peer, stream) = duplex(1 << 20);
        let mut paced = Paced::new(stream, PACE);
        tokio::time::sleep(Duration::from_secs(3_600)).await;
        peer.write_all(&octets(6, 250, &[])).await.unwrap();
        drop(peer);
        let begin = Instant::now();
        let mut all = Vec::new();
        paced.read_to_end(&mut all).await.unwrap();
        let took = begin.elapsed();
        assert!(took >= Duration::from_millis(1_900), "{took:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_without_a_call_is_closed_and_one_with_a_call_is_not() {
        let first_call = Duration::from_secs(5);
        // PINGs are no call; HEADERS are.
        for (kind, closed) in [(6, true), (1, false)] {
            let (mut peer, stream) = duplex(1 << 20);
            let mut paced = Paced::new(stream, Pace { first_call, ..PACE });
            peer.write_all(&octets(kind, 1, &[0; 8])).await.unwrap();
            let mut all = Vec::new();
            let read = paced.read_to_end(&mut all);
            let read = tokio::time::timeout(Duration::from_secs(6), read).await;
            assert_eq!(read.is_ok_and(|read| read.is_err()), closed, "kind {kind}");
        }
    }
}
