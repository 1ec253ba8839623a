//! Station 4, names: a control plane whose name cannot be looked up is where it was. An edge that
//! serves the zone in which that name stands has to come back without it.

use std::{
    collections::HashMap,
    future::Future,
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{net::lookup_host, time::timeout};

/// How long a look-up may take: the rest of the time to connect is for the connection.
const LOOK_UP: Duration = Duration::from_secs(3);
/// Addresses of one name that are remembered.
const ADDRESSES: usize = 16;

/// What the names of control planes have meant last. As many as are configured.
#[derive(Debug, Clone, Default)]
pub struct Names(Arc<Mutex<HashMap<String, Vec<SocketAddr>>>>);

impl Names {
    /// The addresses of a name; without a port. If they cannot be looked up, those of last time.
    ///
    /// # Errors
    /// If they cannot be looked up, and never could.
    pub(super) async fn resolve(&self, name: &str) -> io::Result<Vec<SocketAddr>> {
        self.resolve_by(name, async { Ok(lookup_host((name, 0)).await?.take(ADDRESSES).collect()) })
            .await
    }

    async fn resolve_by(
        &self,
        name: &str,
        look_up: impl Future<Output = io::Result<Vec<SocketAddr>>>,
    ) -> io::Result<Vec<SocketAddr>> {
        let found = timeout(LOOK_UP, look_up).await.unwrap_or_else(|_| {
            Err(io::Error::new(io::ErrorKind::TimedOut, format!("no answer in {LOOK_UP:?}")))
        });
        let none = || Err(io::Error::new(io::ErrorKind::NotFound, "it has no address"));
        let found = found.and_then(|found| if found.is_empty() { none() } else { Ok(found) });
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match found {
            Ok(addresses) => {
                known.insert(name.to_owned(), addresses.clone());
                Ok(addresses)
            }
            Err(error) => match known.get(name) {
                Some(addresses) => {
                    tracing::warn!(name, %error, "a control plane's name cannot be looked up; tried where it was last");
                    Ok(addresses.clone())
                }
                None => {
                    let told = format!("the name {name} cannot be looked up: {error}");
                    Err(io::Error::new(error.kind(), told))
                }
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fails() -> io::Result<Vec<SocketAddr>> {
        Err(io::Error::other("no such name"))
    }

    #[tokio::test(start_paused = true)]
    async fn a_name_that_cannot_be_looked_up_means_what_it_meant_last() {
        let names = Names::default();
        let told = names.resolve_by("cp.example", async { fails() }).await.unwrap_err().to_string();
        assert!(told.contains("cp.example") && told.contains("no such name"), "{told}");
        let addresses = vec!["192.0.2.1:0".parse().unwrap(), "[2001:db8::1]:0".parse().unwrap()];
        for _ in 0..2 {
            let there = async { Ok(addresses.clone()) };
            assert_eq!(names.resolve_by("cp.example", there).await.unwrap(), addresses);
            let lost = names.resolve_by("cp.example", async { fails() }).await;
            assert_eq!(lost.unwrap(), addresses);
            let empty = names.resolve_by("cp.example", async { Ok(Vec::new()) }).await;
            assert_eq!(empty.unwrap(), addresses);
            let hanging = names.resolve_by("cp.example", std::future::pending()).await;
            assert_eq!(hanging.unwrap(), addresses);
        }
        let moved = vec!["192.0.2.2:0".parse().unwrap()];
        let there = async { Ok(moved.clone()) };
        assert_eq!(names.resolve_by("cp.example", there).await.unwrap(), moved);
        let lost = names.resolve_by("cp.example", async { fails() }).await;
        assert_eq!(lost.unwrap(), moved, "the last counts");
        assert!(names.resolve_by("other.example", async { fails() }).await.is_err());
    }
}
