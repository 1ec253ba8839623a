//! What passes in one direction of one connection: read in packets, each with the time at which it is
//! due, and written in that order.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use rand::{RngExt, rngs::StdRng};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::tcp::{OwnedReadHalf, OwnedWriteHalf},
    sync::{mpsc, watch},
    time::{Instant, sleep_until},
};

use super::{Cut, End, Weather};

/// Octets of a packet.
const PACKET: usize = 1_460;
/// Packets on the way at a time; then the sender waits.
const ON_THE_WAY: usize = 64;
/// When a lost packet comes: Linux waits so long at the least before it sends again.
const SENT_AGAIN: Duration = Duration::from_millis(200);

/// A packet on its way.
struct Packet {
    due: Instant,
    octets: Vec<u8>,
}

/// One direction of a connection.
pub(super) struct Pump<'a> {
    pub(super) weather: watch::Receiver<Weather>,
    pub(super) cut: Option<Cut>,
    pub(super) random: StdRng,
    pub(super) turned: &'a AtomicU64,
}

impl Pump<'_> {
    /// Carries until the sender has ended this direction (none), or the connection is to end.
    pub(super) async fn run(
        self,
        from: &mut OwnedReadHalf,
        to: &mut OwnedWriteHalf,
    ) -> Option<End> {
        let (queue, packets) = mpsc::channel(ON_THE_WAY);
        let weather = self.weather.clone();
        let cut = self.cut;
        let (whole, ()) = tokio::join!(self.read(from, queue), write(to, packets, weather));
        if whole {
            // Also how a half-open connection ends: the sender has gone meanwhile.
            let _ = to.shutdown().await;
            return None;
        }
        match cut.map(|cut| cut.how) {
            Some(End::Half) => {
                let _ = to.shutdown().await;
                // The other direction goes on; what comes here is for nobody.
                let _ = tokio::io::copy(from, &mut tokio::io::sink()).await;
                None
            }
            how => how,
        }
    }

    /// Reads to the end, or to the cut. True for the end.
    async fn read(mut self, from: &mut OwnedReadHalf, queue: mpsc::Sender<Packet>) -> bool {
        let mut buffer = [0; PACKET];
        let mut left = self.cut.map(|cut| cut.after);
        let (mut free, mut before) = (Instant::now(), Instant::now());
        loop {
            until_clear(&mut self.weather).await;
            let most =
                left.map_or(PACKET, |left| usize::try_from(left).map_or(PACKET, |l| l.min(PACKET)));
            if most == 0 {
                return false;
            }
            let count = tokio::select! {
                read = from.read(&mut buffer[..most]) => read.unwrap_or(0),
                _ = self.weather.changed() => continue,
            };
            if count == 0 {
                return true;
            }
            left = left.map(|left| left - count as u64);
            let mut octets = buffer[..count].to_vec();
            let weather = self.weather.borrow().clone();
            self.turn(&mut octets, weather.turned);
            let now = Instant::now();
            let sent = match weather.rate {
                Some(rate) => {
                    free =
                        free.max(now) + Duration::from_secs(1).mul_f64(count as f64 / rate as f64);
                    free
                }
                None => now,
            };
            // TCP keeps the order: what was lost holds up what follows.
            before = before.max(sent + self.late(&weather));
            if queue.send(Packet { due: before, octets }).await.is_err() {
                return true;
            }
        }
    }

    fn late(&mut self, weather: &Weather) -> Duration {
        let jitter = weather.jitter.mul_f64(self.random.random_range(0.0..1.0));
        let lost = weather.lost > 0 && self.random.random_ratio(weather.lost, 100);
        weather.delay + jitter + if lost { SENT_AGAIN } else { Duration::ZERO }
    }

    fn turn(&mut self, octets: &mut [u8], one_in: Option<u32>) {
        let Some(one_in) = one_in else { return };
        for octet in octets {
            if self.random.random_ratio(1, one_in) {
                *octet ^= 1 << self.random.random_range(0..8);
                self.turned.fetch_add(1, Relaxed);
            }
        }
    }
}

async fn write(
    to: &mut OwnedWriteHalf,
    mut packets: mpsc::Receiver<Packet>,
    mut weather: watch::Receiver<Weather>,
) {
    while let Some(Packet { due, octets }) = packets.recv().await {
        sleep_until(due).await;
        until_clear(&mut weather).await;
        if to.write_all(&octets).await.is_err() {
            return;
        }
    }
}

/// Waits while nothing passes.
async fn until_clear(weather: &mut watch::Receiver<Weather>) {
    // Who makes the weather outlives the connections.
    let _ = weather.wait_for(|weather| !weather.hold).await;
}
