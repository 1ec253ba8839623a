//! The page that Prometheus and Kubernetes read: `/metrics`, `/healthz` and `/readyz`, by HTTP/1.1.
//! One request a connection, 10 s for it, and 32 at a time: whoever is slow here harms nobody else.

use std::{fmt, io, sync::Arc, time::Duration};

use axum::{
    Router,
    http::{StatusCode, header::CONTENT_TYPE},
    response::IntoResponse,
    routing::get,
};
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::{sleep, timeout},
};

use crate::metrics::Metrics;

/// How long a connection may take, from its start to the end of its response.
const CONNECTION: Duration = Duration::from_secs(10);
/// Connections at a time.
const CONNECTIONS: u32 = 32;
/// Pause after a failed accept: the host is short of something.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Content type of the text form of Prometheus' metrics.
const METRICS_TYPE: &str = "text/plain; version=0.0.4";

/// Whether the program is ready; if not, why not, in one line.
type Ready = dyn Fn() -> Result<(), String> + Send + Sync;

/// What the page tells.
#[derive(Clone)]
pub struct Page {
    metrics: Metrics,
    ready: Arc<Ready>,
}

impl fmt::Debug for Page {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Page").field("metrics", &self.metrics).finish_non_exhaustive()
    }
}

impl Page {
    /// A page on `metrics`. `ready` says whether the program is ready, or why not, in one line; it
    /// must not block.
    pub fn new<R>(metrics: Metrics, ready: R) -> Self
    where
        R: Fn() -> Result<(), String> + Send + Sync + 'static,
    {
        Self { metrics, ready: Arc::new(ready) }
    }

    /// Serves the page until `shutdown` is done and the requests that were begun are answered.
    pub async fn serve(self, listener: TcpListener, shutdown: impl Future<Output = ()>) {
        let router = self.router();
        let free = Arc::new(Semaphore::new(CONNECTIONS as usize));
        tokio::pin!(shutdown);
        loop {
            // The permit comes first: a connection that must wait does so in the host's queue.
            let next = async { (Arc::clone(&free).acquire_owned().await, listener.accept().await) };
            let (permit, accepted) = tokio::select! {
                next = next => next,
                () = &mut shutdown => break,
            };
            match accepted {
                Ok((stream, _)) => {
                    let connection = answer(stream, router.clone());
                    tokio::spawn(async move {
                        let _permit = permit;
                        // What goes wrong here is the client's to see.
                        let _ = timeout(CONNECTION, connection).await;
                    });
                }
                Err(error) => pause(&error).await,
            }
        }
        drop(listener);
        // All permits at once: no connection is left.
        let _ = free.acquire_many(CONNECTIONS).await;
    }

    fn router(self) -> Router {
        let Self { metrics, ready } = self;
        let scrape = move || {
            let text = metrics.render();
            async move { ([(CONTENT_TYPE, METRICS_TYPE)], text) }
        };
        let readiness = move || {
            let answer = match ready() {
                Ok(()) => (StatusCode::OK, "ok\n".to_owned()),
                Err(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")),
            };
            async move { answer.into_response() }
        };
        Router::new()
            .route("/metrics", get(scrape))
            .route("/healthz", get(async || "ok\n"))
            .route("/readyz", get(readiness))
    }
}

async fn answer(stream: TcpStream, router: Router) -> hyper::Result<()> {
    let service = TowerToHyperService::new(router);
    let mut server = http1::Builder::new();
    server.timer(TokioTimer::new()).keep_alive(false);
    server.serve_connection(TokioIo::new(stream), service).await
}

async fn pause(error: &io::Error) {
    tracing::warn!(%error, "cannot accept a connection to the metrics page");
    sleep(ACCEPT_PAUSE).await;
}

#[cfg(test)]
mod tests;
