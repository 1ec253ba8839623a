//! Callers that write as fast as they are let, and note what got OK. An outcome that is not known is
//! found out by reading, and then by the same idempotency key: both have to say the same.

mod caller;
mod script;
mod writer;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use self::writer::Writer;
pub use self::{caller::Caller, script::Script};
use crate::oracle::{Change, History, Line, Set};

/// Origin of the zone that all writers share.
pub const ZONE: &str = "torture.example.";

/// Running writers.
pub struct Load {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Load {
    /// Makes the zone that all share.
    pub fn make_zone(url: &str, history: &History) {
        let soa = format!("ns.{ZONE} hostmaster.{ZONE} 1 7200 900 1209600 300");
        let line = |rtype, rdata| Line { owner: ZONE.to_owned(), ttl: 3600, rtype, rdata };
        let changes = vec![
            Change::ZoneCreate,
            Change::Create(line("SOA", soa)),
            Change::Create(line("NS", format!("ns.{ZONE}"))),
        ];
        let set = Set { zone: ZONE.to_owned(), changes };
        runtime().block_on(async { Caller::new(url).commit("zone", set, history).await });
    }

    /// Begins to write. Each writer waits up to twice `pace` between an answer and the next write.
    pub fn start(
        url: &str,
        history: &Arc<History>,
        writers: u64,
        seed: u64,
        pace: Duration,
    ) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let threads = (0..writers).map(|number| {
            let (history, stop) = (Arc::clone(history), Arc::clone(&stop));
            let url = url.to_owned();
            std::thread::spawn(move || {
                runtime().block_on(async {
                    Writer::new(number, seed ^ number, &url).write(&history, &stop, pace).await;
                });
            })
        });
        let threads = threads.collect();
        Self { stop, threads }
    }

    /// Stops; each write that was begun has its answer when this returns.
    pub fn stop(mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in std::mem::take(&mut self.threads) {
            thread.join().expect("a writer has panicked");
        }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// A runtime for one thread.
pub fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}
