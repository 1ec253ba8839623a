//! Station 1, the API: counts and times every call of every service, at its end: that is where its
//! code is, in the trailers for all but a call that was refused at once.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::Instant,
};

use hyper::{
    Request, Response,
    body::{Body as HttpBody, Bytes, Frame, SizeHint},
    http::HeaderMap,
};
use tonic::{Code, Status, body::Body};
use tower::{Layer, Service};

use super::methods::{self, Kind, Method};

/// Wraps all services of a server.
#[derive(Clone, Copy, Debug, Default)]
pub struct MeasureLayer;

impl<S> Layer<S> for MeasureLayer {
    type Service = Measure<S>;

    fn layer(&self, inner: S) -> Measure<S> {
        Measure { inner }
    }
}

/// A service whose calls are measured.
#[derive(Clone, Debug)]
pub struct Measure<S> {
    inner: S,
}

impl<S, B> Service<Request<B>> for Measure<S>
where
    S: Service<Request<B>, Response = Response<Body>>,
    S::Future: Send + 'static,
{
    type Response = Response<Measured>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let mut record = Record::begin(methods::of_path(request.uri().path()));
        let response = self.inner.call(request);
        Box::pin(async move {
            let response = response.await?;
            record.look_at(response.headers());
            Ok(response.map(|inner| Measured { inner, record }))
        })
    }
}

/// What is written down of one call when it ends, whichever way.
struct Record {
    method: Method,
    began: Instant,
    code: Option<Code>,
}

impl Record {
    fn begin(method: Method) -> Self {
        Self { method, began: Instant::now(), code: None }
    }

    fn look_at(&mut self, headers: &HeaderMap) {
        let code = headers.get(Status::GRPC_STATUS).map(|code| Code::from_bytes(code.as_bytes()));
        self.code = code.or(self.code);
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        // A call without a code was given up by its caller.
        let code = self.code.unwrap_or(Code::Cancelled);
        let method = self.method.name;
        let code = format!("{code:?}");
        metrics::counter!("edgesync_control_requests_total", "method" => method, "code" => code)
            .increment(1);
        if self.method.kind == Kind::Work {
            metrics::histogram!("edgesync_control_request_seconds", "method" => method)
                .record(self.began.elapsed());
        }
    }
}

/// The body of a measured call.
pub struct Measured {
    inner: Body,
    record: Record,
}

impl fmt::Debug for Measured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Measured").field("method", &self.record.method).finish_non_exhaustive()
    }
}

impl HttpBody for Measured {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let polled = Pin::new(&mut self.inner).poll_frame(context);
        if let Poll::Ready(Some(Ok(frame))) = &polled
            && let Some(trailers) = frame.trailers_ref()
        {
            self.record.look_at(trailers);
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
