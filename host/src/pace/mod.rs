//! The pace at which a peer may have frames of HTTP/2 looked at. Frames that carry no data cost a server as
//! much as others and the peer nothing: floods of PING, SETTINGS, WINDOW_UPDATE, RST_STREAM or HEADERS are
//! the cheapest attacks there are. Who sends more than anybody needs is not cut off: what he sends is read
//! later, until his own socket is full (CVE-2019-9512, CVE-2019-9515, CVE-2023-44487). Strangers, of whom no
//! call was let through, get less than others. And who is in a hurry gets little at a time: a hundred calls
//! out of one read would stand before the one call of somebody else.
//!
//! A header block in two frames ends a connection: all that the server takes fits into one, which has at
//! least 16 KiB (RFC 9113 section 6.5.2), so a CONTINUATION is only ever part of a flood (CVE-2024-27316).

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

use self::frames::{Frames, Seen};
use crate::peer::Standing;

/// What a connection may have looked at: frames without data in a second, and as many at once. Calls have one
/// or two of them each; one with a long payload counts as several.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// While no call of it was let through.
    pub strangers: u32,
    /// From then on.
    pub known: u32,
    /// Time for the first call to begin; a connection without one is closed then.
    pub first_call: Duration,
    /// Time to become known; a connection of which no call was let through is closed then.
    pub stranger: Duration,
}

/// What was not used of a pace is saved for so long.
const BURST: Duration = Duration::from_secs(1);
/// The same of a stranger.
const STRANGERS_BURST: Duration = Duration::from_millis(250);
/// Frames that anybody may send at once; who sends more is in a hurry.
const AT_ONCE: u64 = 8;
/// Octets that are read of one in a hurry before others have a turn: some calls.
const PIECE: usize = 1_024;

/// Ends a connection.
fn cut(reason: &'static str, why: &'static str) -> io::Error {
    metrics::counter!("edgesync_control_connections_cut_total", "reason" => reason).increment(1);
    io::Error::new(io::ErrorKind::ConnectionAborted, why)
}

/// A connection that is read at a pace.
#[derive(Debug)]
pub struct Paced<S> {
    stream: S,
    pace: Pace,
    standing: Standing,
    frames: Frames,
    /// When all frames that were read will have been due, one after the other; what was due long ago is past.
    due: Instant,
    waiting: Option<Pin<Box<Sleep>>>,
    /// Others have a turn before more is read.
    gives_way: bool,
    /// Until when the first call has to have begun, and then until when one has to have been let through.
    /// None since one was.
    until: Option<Pin<Box<Sleep>>>,
    began: Instant,
}

impl<S> Paced<S> {
    /// Reads a connection at a pace.
    #[must_use]
    pub fn new(stream: S, pace: Pace, standing: Standing) -> Self {
        let (frames, began) = (Frames::default(), Instant::now());
        let until = Some(Box::pin(sleep_until(began + pace.first_call)));
        let (due, waiting, gives_way) = (began, None, false);
        Self { stream, pace, standing, frames, due, waiting, gives_way, until, began }
    }

    fn time_for(&self, frames: u64) -> Duration {
        let pace = if self.standing.is_known() { self.pace.known } else { self.pace.strangers };
        Duration::from_nanos(frames.saturating_mul(1_000_000_000) / u64::from(pace.max(1)))
    }

    /// True if the peer has sent more than it should at once.
    fn hurries(&self, now: Instant) -> bool {
        self.due > now + self.time_for(AT_ONCE)
    }

    /// Counts what has come, and waits before more is read if that was too much.
    fn count(&mut self, octets: &[u8]) -> io::Result<()> {
        let Seen { cost, is_split } = self.frames.count(octets);
        if cost == 0 {
            return Ok(());
        }
        if is_split {
            return Err(cut("headers", "a header block goes on in a second frame"));
        }
        if self.standing.is_known() {
            self.until = None;
        } else if self.frames.has_called()
            && let Some(until) = &mut self.until
        {
            until.as_mut().reset(self.began + self.pace.stranger);
        }
        let now = Instant::now();
        self.due = self.due.max(now) + self.time_for(cost);
        let allowed = now + if self.standing.is_known() { BURST } else { STRANGERS_BURST };
        self.gives_way = self.hurries(now);
        if self.due > allowed {
            metrics::counter!("edgesync_control_connections_slowed_total").increment(1);
            self.waiting = Some(Box::pin(sleep_until(now + (self.due - allowed))));
        }
        Ok(())
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Paced<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Some(until) = &mut self.until
            && until.as_mut().poll(context).is_ready()
        {
            if !self.standing.is_known() {
                return Poll::Ready(Err(match self.frames.has_called() {
                    true => cut("stranger", "no call was let through in time"),
                    false => cut("silent", "no call was made in time"),
                }));
            }
            self.until = None;
        }
        if let Some(waiting) = &mut self.waiting {
            ready!(waiting.as_mut().poll(context));
            self.waiting = None;
        }
        if std::mem::take(&mut self.gives_way) {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        let before = buffer.filled().len();
        if self.standing.is_known() && !self.hurries(Instant::now()) {
            ready!(Pin::new(&mut self.stream).poll_read(context, buffer))?;
        } else {
            let mut octets = [0; PIECE];
            let piece = octets.get_mut(..buffer.remaining().min(PIECE)).unwrap_or_default();
            let mut piece = ReadBuf::new(piece);
            ready!(Pin::new(&mut self.stream).poll_read(context, &mut piece))?;
            buffer.put_slice(piece.filled());
        }
        let counted = self.count(buffer.filled().get(before..).unwrap_or_default());
        if counted.is_err() {
            // A read that fails has read nothing.
            buffer.set_filled(before);
        }
        Poll::Ready(counted)
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
    use std::task::Waker;

    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    const PACE: Pace = Pace {
        strangers: 100,
        known: 1_000,
        first_call: Duration::from_secs(86_400),
        stranger: Duration::from_secs(86_400),
    };

    /// Octets of a connection's beginning and so many frames of a kind.
    fn octets(kind: u8, frames: usize, payload: &[u8]) -> Vec<u8> {
        let mut octets = frames::PREFACE.to_vec();
        for _ in 0..frames {
            let [high, low] = u16::try_from(payload.len()).unwrap().to_be_bytes();
            octets.extend_from_slice(&[0, high, low, kind, 0]);
            octets.extend_from_slice(&[0, 0, 0, 1]);
            octets.extend_from_slice(payload);
        }
        octets
    }

    /// How long it takes until all of a peer's octets were read, on a clock that jumps.
    async fn time_of(octets: Vec<u8>) -> Duration {
        time_for(octets, Standing::default()).await
    }

    async fn time_for(octets: Vec<u8>, standing: Standing) -> Duration {
        let (mut peer, stream) = duplex(1 << 20);
        let mut paced = Paced::new(stream, PACE, standing);
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
        // 1,100 frames, 25 of them at once, 100 a second.
        let pings = time_of(octets(6, 1_100, &[0; 8])).await;
        let range = Duration::from_secs(10)..Duration::from_millis(11_500);
        assert!(range.contains(&pings), "{pings:?}");
        assert!(time_of(octets(0, 1_100, &[])).await > Duration::from_secs(9), "empty DATA");
        assert!(time_of(octets(1, 275, &[0; 255])).await < Duration::from_secs(3));
        assert!(time_of(octets(1, 275, &[0; 1_000])).await > Duration::from_secs(9), "long ones");
        assert_eq!(time_of(octets(0, 10_000, &[1])).await, Duration::ZERO);
        assert_eq!(time_of(octets(6, 24, &[0; 8])).await, Duration::ZERO, "a burst");
    }

    /// The most that is read of a peer in one turn, before others have one; all that it sends is there.
    async fn most_in_a_turn(octets: Vec<u8>, standing: Standing) -> usize {
        let (mut peer, stream) = duplex(1 << 20);
        let mut paced = Paced::new(stream, PACE, standing);
        peer.write_all(&octets).await.unwrap();
        let (mut most, mut all, mut read) = (0, 0, vec![0; 4 * PIECE]);
        while all < octets.len() {
            let mut turn = 0;
            let mut buffer = ReadBuf::new(&mut read);
            let mut context = Context::from_waker(Waker::noop());
            while Pin::new(&mut paced).poll_read(&mut context, &mut buffer).is_ready() {
                turn += buffer.filled().len();
                buffer.clear();
            }
            (most, all) = (most.max(turn), all + turn);
            tokio::time::advance(Duration::from_millis(10)).await;
        }
        most
    }

    #[tokio::test(start_paused = true)]
    async fn of_one_in_a_hurry_little_is_read_before_others_have_a_turn() {
        let known = Standing::default();
        known.becomes_known();
        let calls = || octets(1, 300, &[0; 100]);
        assert_eq!(most_in_a_turn(calls(), Standing::default()).await, PIECE);
        // Of one who is known the first read is any.
        assert_eq!(most_in_a_turn(calls(), known.clone()).await, 4 * PIECE);
        let data = octets(0, 300, &[0; 100]);
        assert_eq!(most_in_a_turn(data.clone(), known).await, data.len(), "data is no hurry");
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_known_may_send_more() {
        let known = Standing::default();
        known.becomes_known();
        let took = time_for(octets(6, 1_100, &[0; 8]), known).await;
        assert!(took < Duration::from_secs(1), "{took:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_header_block_that_goes_on_ends_the_connection() {
        let (mut peer, stream) = duplex(1 << 20);
        let mut paced = Paced::new(stream, PACE, Standing::default());
        peer.write_all(&octets(9, 1, &[])).await.unwrap();
        let error = paced.read_to_end(&mut Vec::new()).await.unwrap_err();
        assert!(error.to_string().contains("second frame"), "{error}");
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_not_used_is_saved_up_to_a_burst_and_no_more() {
        let (mut peer, stream) = duplex(1 << 20);
        let mut paced = Paced::new(stream, PACE, Standing::default());
        tokio::time::sleep(Duration::from_secs(3_600)).await;
        peer.write_all(&octets(6, 300, &[])).await.unwrap();
        drop(peer);
        let begin = Instant::now();
        let mut all = Vec::new();
        paced.read_to_end(&mut all).await.unwrap();
        let took = begin.elapsed();
        assert!(took >= Duration::from_millis(1_900), "{took:?}");
    }

    /// When a connection was closed on which something came, and then no more; none within a day.
    async fn closed(kind: u8, standing: Standing) -> Option<Duration> {
        let (first_call, stranger) = (Duration::from_secs(5), Duration::from_secs(60));
        let (mut peer, stream) = duplex(1 << 20);
        let mut paced = Paced::new(stream, Pace { first_call, stranger, ..PACE }, standing);
        peer.write_all(&octets(kind, 1, &[0; 8])).await.unwrap();
        let (begin, mut all) = (Instant::now(), Vec::new());
        let read = paced.read_to_end(&mut all);
        let read = tokio::time::timeout(Duration::from_secs(86_400), read).await;
        read.ok().map(|read| {
            read.unwrap_err();
            begin.elapsed()
        })
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_without_a_call_is_closed_and_one_without_a_call_that_was_let_through() {
        let seconds = |closed: Option<Duration>| closed.map(|after| after.as_secs());
        let known = Standing::default();
        known.becomes_known();
        // PINGs are no call; HEADERS are.
        assert_eq!(seconds(closed(6, Standing::default()).await), Some(5));
        assert_eq!(seconds(closed(1, Standing::default()).await), Some(60));
        assert_eq!(seconds(closed(1, known).await), None);
        let later = Standing::default();
        let becomes = later.clone();
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_secs(1)).await;
            becomes.becomes_known();
        });
        assert_eq!(seconds(closed(1, later).await), None, "known after its last frame");
    }
}
