//! A control plane that sends more than it may (invariant 15): what the edge cannot apply yet stays in
//! the network.

use std::{
    sync::{Arc, mpsc::Receiver},
    time::{Duration, Instant},
};

use edgesync_core::{
    Rtype,
    change::Change,
    limits::SET_OCTETS,
    session::{Filter, Hello, InstanceId, PROTOCOL},
};
use edgesync_daemon::{
    apply::{Applying, Work},
    link::Dial,
    metrics::StateMetrics,
    reconnect::ReconnectConfig,
    session::{Session, SessionParts},
    status::Status,
};
use tokio::sync::{mpsc, oneshot, watch};

use crate::plane::{Plane, name, owner};

/// What the edge says that it takes ahead of its acks.
const WINDOW: u32 = 64 * 1024;
/// Octets of one record, records of one set, sets.
const FLOOD: (usize, u64, u64) = (50_000, 20, 40);

/// A session over an apply thread that never comes to anything; what is handed to that.
fn session(url: &str, stopped: oneshot::Receiver<()>) -> Receiver<Work> {
    let (works, handed_over) = std::sync::mpsc::channel();
    let (reporter, reports) = mpsc::unbounded_channel();
    let applying =
        Applying { works, reports, ending: Arc::default(), thread: std::thread::spawn(|| {}) };
    let hello = Hello {
        edge: "edge-1".parse().unwrap(),
        instance: InstanceId([1; 16]),
        boot_epoch: 1,
        position: None,
        filter: Filter::All,
        stored_filter: Filter::All.hash(),
        staged: None,
        protocol: PROTOCOL,
        version: "test".to_owned(),
        window: WINDOW,
    };
    let endpoints = vec![url.parse().unwrap()];
    let (initial, max) = (Duration::from_millis(20), Duration::from_millis(200));
    let config = ReconnectConfig { endpoints, initial, max };
    let (commander, commands) = mpsc::channel(1);
    let (settings, reconnect) = watch::channel(config);
    let dial = Dial::default();
    let (status, watched) = watch::channel(Status::default());
    let metrics = Arc::new(StateMetrics::new());
    let session =
        Session::new(SessionParts { hello, applying, commands, dial, reconnect, status, metrics });
    tokio::spawn(async move {
        session.run(async { drop(stopped.await) }).await;
        drop((reporter, commander, settings, watched));
    });
    handed_over
}

/// Octets of RDATA in the sets that were handed over.
fn taken(handed_over: &Receiver<Work>) -> usize {
    let octets = |work| match work {
        Work::Set(arrived) => {
            let changes = arrived.set.unwrap().changes;
            changes
                .iter()
                .map(|change| match change {
                    Change::RecordCreate { rdata, .. } => rdata.len(),
                    _ => 0,
                })
                .sum()
        }
        _ => 0,
    };
    handed_over.try_iter().map(octets).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_control_plane_that_ignores_the_window_does_not_fill_the_memory() {
    let (plane, zone) = (Plane::new(1), name("a.example"));
    plane.ignore_windows();
    let generation = plane.zone(&zone, 1);
    let (octets, records, sets) = FLOOD;
    for set in 0..sets {
        let create = |n| Change::RecordCreate {
            owner: owner(&zone, 100 + set * records + n),
            rtype: Rtype::TXT,
            ttl: 60,
            rdata: vec![1; octets].into(),
        };
        plane.commit(&zone, Some(generation), (0..records).map(create).collect());
    }
    let serving = plane.serve().await;
    let (stop, stopped) = oneshot::channel();
    let handed_over = session(&format!("http://{}", serving.address), stopped);
    let (mut all, mut quiet, begin) = (0, 0, Instant::now());
    while all == 0 || quiet < 5 {
        assert!(begin.elapsed() < Duration::from_secs(60), "it does not come to rest: {all}");
        tokio::time::sleep(Duration::from_millis(200)).await;
        let more = taken(&handed_over);
        (all, quiet) = (all + more, if more == 0 { quiet + 1 } else { 0 });
    }
    let window = usize::try_from(WINDOW).unwrap();
    let set = octets * usize::try_from(records).unwrap();
    assert!(all > window, "it was no flood: {all}");
    // A set that was begun may come to its end, and no more.
    let bound = 2 * window + SET_OCTETS + set;
    assert!(all <= bound, "{all} octets are in hand, of which {bound} may be");
    drop(stop);
}
