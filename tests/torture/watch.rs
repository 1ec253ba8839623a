//! A reader of an edge's local API that never stops: what it sees has to be whole at any moment, and
//! the state of the offset that the edge says it is.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use edgesync_proto::v1::{self, edge_service_client::EdgeServiceClient};
use hyper_util::rt::TokioIo;
use rand::{RngExt, SeedableRng, rngs::StdRng};
use tokio::net::UnixStream;
use tonic::{
    Code, Status,
    transport::{Channel, Endpoint, Uri},
};

use crate::{
    load::{ZONE, runtime},
    oracle::History,
};

/// Calls to an edge.
pub type Edge = EdgeServiceClient<Channel>;

/// Connects to an edge's socket.
pub async fn connect(socket: &Path) -> Result<Edge, tonic::transport::Error> {
    let path: PathBuf = socket.to_owned();
    let connector = tower::service_fn(move |_: Uri| {
        let path = path.clone();
        async move { UnixStream::connect(path).await.map(TokioIo::new) }
    });
    let endpoint = Endpoint::from_static("http://edgesyncd").timeout(Duration::from_secs(5));
    endpoint.connect_with_connector(connector).await.map(EdgeServiceClient::new)
}

/// The status of an edge; none if it does not answer.
pub fn status(socket: &Path) -> Option<v1::EdgeStatus> {
    runtime().block_on(async {
        let mut edge = connect(socket).await.ok()?;
        edge.get_status(v1::GetStatusRequest {}).await.ok()?.into_inner().status
    })
}

/// The text of a zone and the offset that it stands for; no text if there is no such zone.
pub async fn export(edge: &mut Edge, zone: &str) -> Result<(u64, Option<String>), Status> {
    let request = v1::ExportZoneRequest { origin: zone.to_owned() };
    let mut parts = match edge.export_zone(request).await {
        Ok(parts) => parts.into_inner(),
        Err(status) if status.code() == Code::NotFound => return Ok((0, None)),
        Err(status) => return Err(status),
    };
    let (mut text, mut offset) = (String::new(), 0);
    while let Some(part) = parts.message().await? {
        text += &part.text;
        offset = part.position.map_or(0, |position| position.offset);
    }
    Ok((offset, Some(text)))
}

/// The origins of an edge's zones.
pub async fn zones(edge: &mut Edge) -> Result<Vec<String>, Status> {
    let mut pages = edge.list_edge_zones(v1::ListEdgeZonesRequest {}).await?.into_inner();
    let mut origins = Vec::new();
    while let Some(page) = pages.message().await? {
        origins.extend(page.zones.into_iter().map(|zone| zone.origin));
    }
    Ok(origins)
}

/// How often a store has been opened at an edge.
async fn epoch(edge: &mut Edge) -> Result<u64, Status> {
    let answer = edge.get_status(v1::GetStatusRequest {}).await?.into_inner();
    Ok(answer.status.unwrap_or_default().boot_epoch)
}

/// What a watcher has seen.
#[derive(Debug, Default, Clone)]
pub struct Seen {
    /// Owners looked up.
    pub lookups: u64,
    /// Zones exported.
    pub exports: u64,
    /// Times that a restarted edge showed a lower offset than the process before it.
    pub stepped_back: u64,
    /// Highest durable offset that the edge told.
    durable: u64,
    /// Highest offset that the edge showed.
    shown: u64,
    /// The zone that all writers share has been there.
    zone: bool,
}

/// What an edge says of a store that it cannot read, and of a disk that fails it must not either (invariant 14).
const UNREADABLE: &str = "could not be read";

/// A reader of one edge.
pub struct Watcher {
    stop: Arc<AtomicBool>,
    seen: Arc<Mutex<Seen>>,
    thread: Option<JoinHandle<()>>,
}

impl Watcher {
    /// Begins to read.
    pub fn start(number: usize, socket: PathBuf, history: &Arc<History>, seed: u64) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let seen = Arc::new(Mutex::new(Seen::default()));
        let mut reading = Reading {
            number,
            history: Arc::clone(history),
            random: StdRng::seed_from_u64(seed),
            seen: Arc::clone(&seen),
            shown: 0,
            epoch: 0,
        };
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            runtime().block_on(async {
                while !stopped.load(Ordering::Relaxed) {
                    if let Ok(mut edge) = connect(&socket).await {
                        let mut reads = reading.new_process(&mut edge).await;
                        // Until the edge is killed.
                        while !stopped.load(Ordering::Relaxed) && reads.is_ok() {
                            reads = reading.read(&mut edge).await;
                        }
                        reading.ended(reads);
                    }
                    tokio::time::sleep(Duration::from_millis(3)).await;
                }
            });
        });
        Self { stop, seen, thread: Some(thread) }
    }

    /// The edge's store is put aside while it is down: what it had durable is no promise any more.
    pub fn forget(&self) {
        let mut seen = self.seen.lock().unwrap();
        (seen.durable, seen.shown, seen.zone) = (0, 0, false);
    }

    /// Ends; what was seen.
    pub fn stop(mut self) -> Seen {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().expect("it runs").join().expect("the watcher has panicked");
        self.seen.lock().unwrap().clone()
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

struct Reading {
    number: usize,
    history: Arc<History>,
    random: StdRng,
    seen: Arc<Mutex<Seen>>,
    /// Highest offset that the present process showed.
    shown: u64,
    /// How often a store had been opened there when this was looked at.
    epoch: u64,
}

impl Reading {
    async fn new_process(&mut self, edge: &mut Edge) -> Result<(), Status> {
        self.shown = 0;
        self.epoch = epoch(edge).await?;
        Ok(())
    }

    /// Reads end because the edge is killed, and not because it cannot read what it has.
    fn ended(&self, reads: Result<(), Status>) {
        if let Err(status) = reads
            && status.message().contains(UNREADABLE)
        {
            self.history.violation(format!("edge {}: {status}", self.number));
        }
    }

    /// Whether the store has been opened again, as after a kill, without the end of the process. The
    /// edge says so a moment after readers are let in.
    async fn was_opened_again(&mut self, edge: &mut Edge) -> Result<bool, Status> {
        for _ in 0..50 {
            let epoch = epoch(edge).await?;
            if epoch != self.epoch {
                self.epoch = epoch;
                return Ok(true);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(false)
    }

    async fn read(&mut self, edge: &mut Edge) -> Result<(), Status> {
        match self.random.random_range(0..40) {
            0..6 => self.export(edge, ZONE).await?,
            6..8 => self.status(edge).await?,
            8 => self.export_another(edge).await?,
            _ => self.lookup(edge).await?,
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
        Ok(())
    }

    /// Invariant 8: while a store is open what is shown only moves forward.
    async fn shown(&mut self, edge: &mut Edge, offset: u64) -> Result<(), Status> {
        if offset < self.shown && self.was_opened_again(edge).await? {
            self.shown = 0;
        }
        let mut seen = self.seen.lock().unwrap();
        if self.shown == 0 && offset < seen.shown {
            seen.stepped_back += 1;
        }
        if offset < self.shown {
            let (edge, before) = (self.number, self.shown);
            self.history.violation(format!("edge {edge} showed {before} and then {offset}"));
        }
        self.shown = self.shown.max(offset);
        seen.shown = seen.shown.max(offset);
        Ok(())
    }

    async fn status(&mut self, edge: &mut Edge) -> Result<(), Status> {
        let answer = edge.get_status(v1::GetStatusRequest {}).await?.into_inner();
        let durable = answer.status.unwrap_or_default().durable.unwrap_or_default().offset;
        let mut seen = self.seen.lock().unwrap();
        if durable < seen.durable {
            let (edge, before) = (self.number, seen.durable);
            self.history.violation(format!("edge {edge} had {before} durable and then {durable}"));
        }
        seen.durable = seen.durable.max(durable);
        Ok(())
    }

    async fn lookup(&mut self, edge: &mut Edge) -> Result<(), Status> {
        let (slot, writer) = (self.random.random_range(0..4), self.random.random_range(0..4));
        let owner = format!("s{slot}-{writer}.{ZONE}");
        let request = v1::LookupRecordsRequest { owner: owner.clone(), r#type: String::new() };
        let answer = edge.lookup_records(request).await?.into_inner();
        let lines = answer.records.iter().map(|record| (record.owner.as_str(), &*record.rdata));
        self.whole(lines, "lookup");
        let offset = answer.position.unwrap_or_default().offset;
        self.shown(edge, offset).await?;
        let line = |r: v1::Record| format!("{}\t{}\tIN\t{}\t{}", r.owner, r.ttl, r.r#type, r.rdata);
        let lines = answer.records.into_iter().map(line).collect();
        self.history.seen_owner(self.number, offset, (ZONE, &owner), lines);
        self.seen.lock().unwrap().lookups += 1;
        Ok(())
    }

    /// Exports one of the zones that are listed, which may be gone again.
    async fn export_another(&mut self, edge: &mut Edge) -> Result<(), Status> {
        let mut listed = zones(edge).await?;
        listed.retain(|zone| zone != ZONE);
        if listed.is_empty() {
            return Ok(());
        }
        let chosen = listed.swap_remove(self.random.random_range(0..listed.len()));
        self.export(edge, &chosen).await
    }

    async fn export(&mut self, edge: &mut Edge, zone: &str) -> Result<(), Status> {
        let (offset, text) = export(edge, zone).await?;
        let Some(text) = text else {
            let had = zone == ZONE && self.seen.lock().unwrap().zone;
            if had {
                self.history.violation(format!("edge {}: {ZONE} is gone", self.number));
            }
            return Ok(());
        };
        self.whole(
            text.lines().filter_map(|line| {
                let mut fields = line.split('\t');
                Some((fields.next()?, fields.nth(3)?))
            }),
            "export",
        );
        self.shown(edge, offset).await?;
        self.history.seen(self.number, offset, zone, Some(text));
        let mut seen = self.seen.lock().unwrap();
        seen.exports += 1;
        seen.zone |= zone == ZONE;
        Ok(())
    }

    /// Invariant 4: all records of a slot carry the same number.
    fn whole<'a>(&self, lines: impl Iterator<Item = (&'a str, &'a str)>, by: &str) {
        let mut numbers: BTreeMap<&str, &str> = BTreeMap::new();
        for (owner, rdata) in lines {
            let Some(slot) = slot_of(owner) else { continue };
            let Some((_, number)) = rdata.rsplit_once('-') else { continue };
            let before = numbers.insert(slot, number);
            if before.is_some_and(|before| before != number) {
                let edge = self.number;
                let (one, two) = (before.unwrap_or_default(), number);
                let what = format!("edge {edge}, {by}: {slot} has the numbers {one} and {two}");
                self.history.violation(what);
            }
        }
    }
}

/// The slot that an owner belongs to: the last label before the zone, if it is one of a slot.
fn slot_of(owner: &str) -> Option<&str> {
    let (labels, _) = owner.split_once(ZONE).filter(|(_, rest)| rest.is_empty())?;
    let last = labels.strip_suffix('.')?.rsplit('.').next()?;
    last.starts_with('s').then_some(last)
}

#[test]
fn a_slot_is_the_last_label_before_the_zone() {
    assert_eq!(slot_of("m3.s1-2.torture.example."), Some("s1-2"));
    assert_eq!(slot_of("s1-2.torture.example."), Some("s1-2"));
    assert_eq!(slot_of("p9-1.torture.example."), None);
    assert_eq!(slot_of("torture.example."), None);
}
