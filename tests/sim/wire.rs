//! tonic over the simulated network.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tonic::transport::{Channel, Endpoint, server::Connected};
use turmoil::net::TcpStream;

pub const PORT: u16 = 7353;

/// A simulated connection, as tonic's server wants it.
pub struct Connection(pub TcpStream);

impl Connected for Connection {
    type ConnectInfo = ();

    fn connect_info(&self) {}
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, buffer)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}

/// A channel to the control plane.
pub async fn connect() -> Result<Channel, tonic::transport::Error> {
    let connector = tower::service_fn(|_| async {
        Ok::<_, io::Error>(TokioIo::new(TcpStream::connect(("control", PORT)).await?))
    });
    let endpoint = Endpoint::from_static("http://control:7353");
    let wait = std::time::Duration::from_secs(2);
    endpoint.connect_timeout(wait).connect_with_connector(connector).await
}
