//! The body of a call that is one message: not larger than such a message is, and there in time. A decoder
//! keeps what has come of a message, so that who sends all but the last octet of many would have them
//! kept for as long as he likes.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use hyper::body::{Body as HttpBody, Bytes, Frame, SizeHint};
use tokio::time::{Sleep, sleep};
use tonic::{Status, body::Body};

/// What a caller may send, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Octets of all that he sends.
    pub octets: usize,
    /// Until all of it has to be there.
    pub time: Duration,
}

/// A body within bounds.
pub(super) struct Bounded {
    inner: Body,
    left: usize,
    bounds: Bounds,
    late: Pin<Box<Sleep>>,
}

impl Bounded {
    pub(super) fn new(inner: Body, bounds: Bounds) -> Self {
        Self { inner, left: bounds.octets, bounds, late: Box::pin(sleep(bounds.time)) }
    }
}

impl HttpBody for Bounded {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let Poll::Ready(frame) = Pin::new(&mut self.inner).poll_frame(context) else {
            return self.late.as_mut().poll(context).map(|()| {
                let time = self.bounds.time;
                Some(Err(Status::deadline_exceeded(format!(
                    "the message did not come within {time:?}"
                ))))
            });
        };
        let octets = match &frame {
            Some(Ok(frame)) => frame.data_ref().map_or(0, Bytes::len),
            _ => 0,
        };
        let Some(left) = self.left.checked_sub(octets) else {
            let most = self.bounds.octets;
            return Poll::Ready(Some(Err(Status::resource_exhausted(format!(
                "the message has more than {most} octets, which is more than this call takes"
            )))));
        };
        self.left = left;
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use std::{future::poll_fn, time::Instant};

    use tonic::Code;

    use super::*;

    /// Octets, and then nothing more for ever.
    struct Stalls(Option<Bytes>);

    impl HttpBody for Stalls {
        type Data = Bytes;
        type Error = Status;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _context: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
            self.0.take().map_or(Poll::Pending, |octets| Poll::Ready(Some(Ok(Frame::data(octets)))))
        }
    }

    async fn next(body: &mut Bounded) -> Result<usize, Code> {
        let frame = poll_fn(|context| Pin::new(&mut *body).poll_frame(context)).await;
        let frame = frame.expect("a frame or an error").map_err(|status| status.code())?;
        Ok(frame.data_ref().map_or(0, Bytes::len))
    }

    #[tokio::test]
    async fn what_is_too_much_or_too_late_is_refused() {
        let bounds = Bounds { octets: 10, time: Duration::from_millis(50) };
        let body = |octets| Body::new(Stalls(Some(Bytes::from(vec![0; octets]))));
        let mut much = Bounded::new(body(11), bounds);
        assert_eq!(next(&mut much).await, Err(Code::ResourceExhausted));
        let (mut late, began) = (Bounded::new(body(10), bounds), Instant::now());
        assert_eq!(next(&mut late).await, Ok(10));
        assert_eq!(next(&mut late).await, Err(Code::DeadlineExceeded));
        assert!(began.elapsed() >= bounds.time);
    }
}
