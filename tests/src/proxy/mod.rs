//! A TCP proxy that does to a connection what networks do: delay, a narrow way, loss (which TCP shows
//! as a wait), silence, turned bits, an end after any octet. Needs no rights, and is repeated by a seed.

mod pump;

use std::{
    collections::VecDeque,
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use rand::{SeedableRng, rngs::StdRng};
use tokio::{
    net::{TcpListener, TcpStream, tcp::OwnedWriteHalf},
    runtime::Runtime,
    sync::watch,
};

use self::pump::Pump;

/// A direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// From who connects to who is connected to.
    Up,
    /// Back.
    Down,
}

impl Way {
    /// Both.
    pub const BOTH: [Self; 2] = [Self::Up, Self::Down];

    const fn place(self) -> usize {
        match self {
            Self::Up => 0,
            Self::Down => 1,
        }
    }
}

/// What happens to what passes in one direction.
#[derive(Clone, Debug, Default)]
pub struct Weather {
    /// Nothing passes, and nobody is told: a cable that was pulled. What was sent comes when it is over,
    /// as TCP sends it again.
    pub hold: bool,
    /// Each octet is so much later.
    pub delay: Duration,
    /// And up to so much more.
    pub jitter: Duration,
    /// Octets a second.
    pub rate: Option<u64>,
    /// Of a hundred packets so many are lost, and come when they are sent again.
    pub lost: u32,
    /// A bit turns in one of so many octets.
    pub turned: Option<u32>,
}

/// How a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Both sides are told that it is over.
    Close,
    /// Both sides are told that it is broken.
    Reset,
    /// One direction is over, the other goes on.
    Half,
}

/// The end of one connection.
#[derive(Clone, Copy, Debug)]
pub struct Cut {
    /// Whose octets are counted.
    pub way: Way,
    /// How many of them pass.
    pub after: u64,
    /// How it ends.
    pub how: End,
}

struct Shared {
    to: SocketAddr,
    seed: u64,
    weather: [watch::Sender<Weather>; 2],
    /// Ends of the connections to come, one each.
    cuts: Mutex<VecDeque<Cut>>,
    connections: AtomicU64,
    turned: AtomicU64,
    /// Changes when all connections are to end.
    breaks: watch::Sender<()>,
}

/// A running proxy; ends with its handle.
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    runtime: Option<Runtime>,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.runtime.take().into_iter().for_each(Runtime::shutdown_background);
    }
}

impl Proxy {
    /// A proxy to an address, which nobody has to listen on yet.
    ///
    /// # Panics
    /// If the host has no port or thread for it.
    #[must_use]
    pub fn start(to: SocketAddr, seed: u64) -> Self {
        let mut runtime = tokio::runtime::Builder::new_multi_thread();
        let runtime = runtime.worker_threads(1).enable_all().build().expect("a runtime");
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).expect("a port");
        let address = listener.local_addr().expect("an address");
        let shared = Arc::new(Shared {
            to,
            seed,
            weather: Way::BOTH.map(|_| watch::channel(Weather::default()).0),
            cuts: Mutex::default(),
            connections: AtomicU64::new(0),
            turned: AtomicU64::new(0),
            breaks: watch::channel(()).0,
        });
        runtime.spawn(accept(listener, Arc::clone(&shared)));
        Self { address, shared, runtime: Some(runtime) }
    }

    /// Its URL.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Makes the weather in one direction.
    pub fn set(&self, way: Way, weather: Weather) {
        self.shared.weather[way.place()].send_replace(weather);
    }

    /// Makes the weather in both.
    pub fn set_both(&self, weather: &Weather) {
        Way::BOTH.into_iter().for_each(|way| self.set(way, weather.clone()));
    }

    /// Ends each of the next connections.
    pub fn cut(&self, cuts: impl IntoIterator<Item = Cut>) {
        self.shared.cuts().extend(cuts);
    }

    /// Ends that have not found their connection yet.
    #[must_use]
    pub fn cuts_left(&self) -> usize {
        self.shared.cuts().len()
    }

    /// Breaks all connections.
    pub fn break_all(&self) {
        self.shared.breaks.send_replace(());
    }

    /// Connections that were made.
    #[must_use]
    pub fn connections(&self) -> u64 {
        self.shared.connections.load(Relaxed)
    }

    /// Bits that were turned.
    #[must_use]
    pub fn turned(&self) -> u64 {
        self.shared.turned.load(Relaxed)
    }
}

impl Shared {
    fn cuts(&self) -> MutexGuard<'_, VecDeque<Cut>> {
        self.cuts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn pump(&self, way: Way, number: u64, cut: Option<Cut>) -> Pump<'_> {
        let place = way.place();
        let seed = self.seed ^ (number << 1) ^ place as u64;
        Pump {
            weather: self.weather[place].subscribe(),
            cut: cut.filter(|cut| cut.way == way),
            random: StdRng::seed_from_u64(seed),
            turned: &self.turned,
        }
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    loop {
        if let Ok((client, _)) = listener.accept().await {
            let number = shared.connections.fetch_add(1, Relaxed);
            tokio::spawn(carry(Arc::clone(&shared), client, number));
        }
    }
}

/// One connection, to its end.
async fn carry(shared: Arc<Shared>, client: TcpStream, number: u64) {
    let mut breaks = shared.breaks.subscribe();
    let Ok(server) = TcpStream::connect(shared.to).await else { return };
    // What is to be delayed is delayed here.
    let _ = client.set_nodelay(true).and_then(|()| server.set_nodelay(true));
    let cut = shared.cuts().pop_front();
    let (mut client_read, mut client_write) = client.into_split();
    let (mut server_read, mut server_write) = server.into_split();
    let how = {
        let up = shared.pump(Way::Up, number, cut).run(&mut client_read, &mut server_write);
        let down = shared.pump(Way::Down, number, cut).run(&mut server_read, &mut client_write);
        tokio::pin!(up, down);
        let (mut up_ends, mut down_ends) = (false, false);
        loop {
            let ended = tokio::select! {
                ended = &mut up, if !up_ends => {
                    up_ends = true;
                    ended
                }
                ended = &mut down, if !down_ends => {
                    down_ends = true;
                    ended
                }
                _ = breaks.changed() => Some(End::Reset),
            };
            match ended {
                Some(how) => break how,
                None if up_ends && down_ends => break End::Close,
                None => {}
            }
        }
    };
    if how == End::Reset {
        reset(client_write);
        reset(server_write);
    }
}

/// Lets a connection end with RST, when its other half is dropped too.
fn reset(write: OwnedWriteHalf) {
    let _ = write.as_ref().set_zero_linger();
    write.forget();
}

#[cfg(test)]
mod tests;
