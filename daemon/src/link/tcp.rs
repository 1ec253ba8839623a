//! Station 4 over TCP: HTTP/2 without TLS, set so that a dead connection is found in 15 s also when
//! nothing is sent, and that many small acks do not close it.

use std::time::Duration;

use tonic::transport::{Channel, Endpoint, Error, Uri};

/// HTTP/2 flow-control window, in octets, of a stream and of a connection.
const WINDOW_OCTETS: u32 = 4 * 1024 * 1024;
/// Time without a frame after which the other side is asked for a sign of life.
const KEEPALIVE: Duration = Duration::from_secs(10);
/// How long it has to give one.
const KEEPALIVE_ANSWER: Duration = Duration::from_secs(5);
/// How long a connection may take to be made.
const CONNECT: Duration = Duration::from_secs(5);
/// Octets of all headers of a response.
const HEADER_OCTETS: u32 = 16 * 1024;

/// Connects to a control plane.
pub(super) async fn connect(uri: Uri) -> Result<Channel, Error> {
    Endpoint::from(uri)
        .user_agent(concat!("edgesyncd/", env!("CARGO_PKG_VERSION")))?
        .initial_stream_window_size(WINDOW_OCTETS)
        .initial_connection_window_size(WINDOW_OCTETS)
        .http2_keep_alive_interval(KEEPALIVE)
        .keep_alive_timeout(KEEPALIVE_ANSWER)
        .keep_alive_while_idle(true)
        .http2_max_header_list_size(HEADER_OCTETS)
        .tcp_nodelay(true)
        .tcp_keepalive(Some(KEEPALIVE))
        .connect_timeout(CONNECT)
        .connect()
        .await
}
