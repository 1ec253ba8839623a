//! Takes the TCP addresses that a daemon listens on, and says in one line why it cannot.

use std::{fmt, io};

use tokio::net::{TcpListener, ToSocketAddrs};

/// Why an address cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {}", reason(source, flag))]
pub struct ListenError {
    /// The address.
    pub address: String,
    /// The flag that chooses it, such as `--listen`.
    pub flag: &'static str,
    /// What went wrong.
    pub source: io::Error,
}

/// Listens on a TCP address; `flag` is the one that chooses it, such as `--listen`.
///
/// # Errors
/// If the address is taken, not one of this host's, or not allowed.
pub async fn bind<A>(address: A, flag: &'static str) -> Result<TcpListener, ListenError>
where
    A: ToSocketAddrs + fmt::Display,
{
    let shown = address.to_string();
    let bound = TcpListener::bind(address).await;
    bound.map_err(|source| ListenError { address: shown, flag, source })
}

fn reason(error: &io::Error, flag: &str) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => format!(
            "address in use; another process has it — choose another with {flag} or stop it"
        ),
        io::ErrorKind::AddrNotAvailable => {
            format!("this host has no such address — choose one of its own with {flag}")
        }
        io::ErrorKind::PermissionDenied => {
            format!("permission denied — choose a port from 1024 on with {flag}")
        }
        _ => format!("{error} — choose another with {flag}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_taken_address_is_named_with_the_way_out() {
        let first = bind("127.0.0.1:0", "--listen").await.unwrap();
        let address = first.local_addr().unwrap();
        let refused = bind(address, "--metrics-listen").await.unwrap_err();
        assert_eq!(
            refused.to_string(),
            format!(
                "cannot listen on {address}: address in use; another process has it — choose \
                 another with --metrics-listen or stop it"
            )
        );
    }

    #[tokio::test]
    async fn an_address_that_is_not_this_hosts_is_named() {
        let refused = bind("192.0.2.1:9000", "--listen").await.unwrap_err().to_string();
        assert!(refused.contains("192.0.2.1:9000") && refused.contains("no such address"));
    }
}
