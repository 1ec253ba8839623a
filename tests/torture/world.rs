//! A control plane, edges, load, readers and the oracle, and the moment when all of them have to
//! agree.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use edgesync_proto::v1::LinkState;
use edgesync_tests::{Stack, eventually};
use serde_json::Value;

use crate::{
    load::{Load, runtime},
    oracle::{History, Model, Resolved},
    watch::{self, Watcher},
};

/// Writers of a load.
const WRITERS: u64 = 4;
/// A restarted daemon answers within this (F-01): 19 of 20 times here, where other tests run beside.
const RESTART: Duration = Duration::from_secs(2);
/// And within this always.
const RESTART_MOST: Duration = Duration::from_secs(15);

/// Everything that one run of torture has.
pub struct World {
    /// The processes.
    pub stack: Stack,
    /// What was answered and seen.
    pub history: Arc<History>,
    /// The test has made stores that are put aside.
    pub stores_put_aside: bool,
    /// The edge has found the log compacted beyond what it had, and takes a snapshot.
    pub behind_the_log: bool,
    /// The control plane was killed or asked to end: answers were cut short.
    control_ended: bool,
    load: Option<Load>,
    watchers: Vec<Watcher>,
    /// Times from start to the first answer.
    restarts: Vec<Duration>,
}

/// What a run has shown when it was judged.
#[derive(Debug, Default, Clone, Copy)]
pub struct Verdict {
    /// Writes that got OK.
    pub writes: u64,
    /// Writes whose answer did not come.
    pub resolved: Resolved,
    /// Offset of the head.
    pub head: u64,
    /// Exports of edges compared with the model at their offset.
    pub exports: usize,
    /// Lookups.
    pub lookups: u64,
    /// Restarts after which an edge showed a lower offset than before.
    pub stepped_back: u64,
}

impl World {
    /// Starts everything but the load.
    pub fn start(edges: usize) -> Self {
        let mut stack = Stack::prepare(edges);
        stack.edge_environment.push(("EDGESYNC_EDGE_RECONNECT__MAX", "300ms"));
        Self::start_on(stack)
    }

    /// Starts everything but the load, in places that were chosen before.
    pub fn start_on(mut stack: Stack) -> Self {
        let history = Arc::new(History::begin(&stack.dir().join("answers")));
        stack.start_control();
        Load::make_zone(&stack.url(), &history);
        for edge in 0..stack.edges.len() {
            stack.start_edge(edge);
        }
        eventually("the edges register", || stack.fleet().len() >= stack.edges.len());
        let (watchers, restarts) = (Vec::new(), Vec::new());
        Self {
            stack,
            history,
            stores_put_aside: false,
            behind_the_log: false,
            control_ended: false,
            load: None,
            watchers,
            restarts,
        }
    }

    /// Begins to write, and to read all edges.
    pub fn storm(&mut self, seed: u64, pace: Duration) {
        let load = Load::start(&self.stack.url(), &self.history, WRITERS, seed, pace);
        self.load = Some(load);
        for edge in 0..self.stack.edges.len() {
            let socket = self.stack.socket(edge);
            self.watchers.push(Watcher::start(edge, socket, &self.history, seed ^ 77));
        }
    }

    /// Does what a person has to do whose edge holds a snapshot because it takes too much away: looks,
    /// and lets it pass. True if one was held.
    pub fn let_pass(&self, edge: usize) -> bool {
        let held = watch::status(&self.stack.socket(edge))
            .is_some_and(|edge| edge.link() == LinkState::Held);
        // The edge may have gone on by itself since.
        held && self.stack.run_edge(edge, &["resume"]).code == 0
    }

    /// Stops writing and reading, waits until the head is everywhere, and compares everything with
    /// the model: invariants 1, 2, 4, 5, 7, 8.
    pub fn judge(&mut self) -> (Model, Verdict) {
        self.load.take().into_iter().for_each(Load::stop);
        let head = self.head();
        if self.behind_the_log {
            eventually("what is held is let pass", || {
                let edges = 0..self.stack.edges.len();
                edges.filter(|edge| self.let_pass(*edge) || self.acked(*edge) < head).count() == 0
            });
        }
        self.stack.settle();
        let mut verdict = Verdict::default();
        for seen in self.watchers.drain(..).map(Watcher::stop) {
            verdict.lookups += seen.lookups;
            verdict.stepped_back += seen.stepped_back;
        }
        let head = self.head();
        let judged = self.history.judge(head);
        let (model, exports) = judged.unwrap_or_else(|wrong| {
            panic!(
                "{} violations, the first ones: {:#?}",
                wrong.len(),
                &wrong[..wrong.len().min(5)]
            )
        });
        (verdict.head, verdict.exports) = (head, exports);
        let broken = self.history.all_broken();
        assert!(self.control_ended || broken.is_empty(), "it was never ended: {broken:#?}");
        (verdict.writes, verdict.resolved) = (self.history.count(), self.history.all_resolved());
        self.compare(&model);
        self.restarts.sort_unstable();
        // Of fewer there is no such part.
        let usual = self.restarts.get(self.restarts.len() * 19 / 20);
        let usual = usual.filter(|_| self.restarts.len() >= 20);
        assert!(usual.is_none_or(|usual| *usual < RESTART), "restarts took {:?}", self.restarts);
        (model, verdict)
    }

    /// Notes how long a daemon took to answer.
    fn restarted(&mut self, took: Duration) {
        assert!(took < RESTART_MOST, "a restarted daemon answered after {took:?}");
        self.restarts.push(took);
    }

    /// Compares the control plane and all edges with a model.
    pub fn compare(&self, model: &Model) {
        assert_eq!(zones(&self.stack), model.origins(), "zones of the control plane");
        for zone in model.origins() {
            let text = self.stack.run(&["zone", "export", &zone]).good();
            assert_eq!(model.difference(&zone, &text), None, "control plane");
            for edge in 0..self.stack.edges.len() {
                let text = self.stack.run_edge(edge, &["export", &zone]).good();
                assert_eq!(model.difference(&zone, &text), None, "edge {edge}");
            }
        }
        for edge in 0..self.stack.edges.len() {
            let _ = self.stack.run_edge(edge, &["verify"]).good();
            let status = watch::status(&self.stack.socket(edge)).expect("status");
            assert_eq!(status.records, model.records(), "edge {edge} has more than its zones");
            assert_eq!(status.durable.unwrap_or_default().offset, model.offset, "edge {edge}");
            if !self.stores_put_aside {
                self.assert_nothing_put_aside(edge);
            }
        }
    }

    /// Has all zones of an edge judged at their offsets; the number of them.
    pub fn note_all(&self, edge: usize) -> usize {
        let socket = self.stack.socket(edge);
        runtime().block_on(async {
            let mut calls = watch::connect(&socket).await.expect("a connection");
            let zones = watch::zones(&mut calls).await.expect("the zones");
            for zone in &zones {
                let (offset, text) = watch::export(&mut calls, zone).await.expect("an export");
                // One that is listed may be gone when it is asked for.
                if text.is_some() {
                    self.history.seen(edge, offset, zone, text);
                }
            }
            zones.len()
        })
    }

    /// Offset of the control plane's head.
    pub fn head(&self) -> u64 {
        let fleet = self.stack.run(&["fleet", "--output", "json"]).json();
        fleet["head"].as_u64().expect("a head")
    }

    /// The offset that an edge has acknowledged, as the control plane says.
    pub fn acked(&self, edge: usize) -> u64 {
        self.acked_or_none(edge).expect("the control plane answers")
    }

    /// The same; none if the control plane does not answer.
    pub fn acked_or_none(&self, edge: usize) -> Option<u64> {
        let ran = self.stack.run(&["fleet", "--output", "json"]);
        let fleet: Value = serde_json::from_str(&ran.stdout).ok()?;
        let name = format!("edge-{edge}");
        let mut rows = fleet["edges"].as_array()?.iter();
        let row = rows.find(|row| row["id"] == name.as_str());
        row.map_or(Some(0), |row| row["durable_offset"].as_u64())
    }

    /// No store of an edge was put aside.
    pub fn assert_nothing_put_aside(&self, edge: usize) {
        assert_nothing_put_aside(&self.stack, edge, self.behind_the_log);
    }

    /// Forgets the log up to its head, which is returned.
    pub fn compact(&self) -> u64 {
        let head = self.head();
        let _ = self.stack.run(&["log", "compact", "--upto", &head.to_string()]).good();
        head
    }

    /// Starts an edge again, and waits until it answers, which may not take long. Its status then.
    pub fn restart_edge(&mut self, edge: usize) -> edgesync_proto::v1::EdgeStatus {
        let begin = Instant::now();
        self.stack.begin_edge(edge, &[]);
        let socket = self.stack.socket(edge);
        let mut answer = None;
        eventually("the edge answers", || {
            answer = watch::status(&socket);
            answer.is_some()
        });
        self.restarted(begin.elapsed());
        answer.expect("an answer")
    }

    /// Says that an edge's store will be put aside when it starts again, so that it begins anew. The
    /// edge has ended.
    pub fn put_aside(&mut self, edge: usize) {
        self.stores_put_aside = true;
        self.watchers[edge].forget();
    }

    /// Starts the control plane again, and waits until it is ready, which may not take long.
    pub fn restart_control(&mut self) -> Duration {
        let begin = Instant::now();
        self.control_ended = true;
        self.stack.start_control();
        let took = begin.elapsed();
        self.restarted(took);
        took
    }
}

/// The zones of the control plane, in order.
pub fn zones(stack: &Stack) -> Vec<String> {
    let zones = stack.run(&["zone", "list", "--output", "json"]).good();
    let zones = zones.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    let mut origins: Vec<_> =
        zones.map(|zone| zone["origin"].as_str().expect("an origin").to_owned()).collect();
    origins.sort_unstable();
    origins
}

/// No store of an edge was put aside as damaged, none of its zones was mended, and it took no snapshot,
/// unless that was to be expected.
pub fn assert_nothing_put_aside(stack: &Stack, edge: usize, may_take_snapshots: bool) {
    let page = stack.edge_page(edge, "/metrics").expect("metrics");
    for name in [
        "edgesync_edge_quarantines_total",
        "edgesync_edge_repairs_total",
        "edgesync_edge_snapshots_total",
    ] {
        if may_take_snapshots && name.contains("snapshots") {
            continue;
        }
        let values: Vec<_> = page.lines().filter(|line| line.starts_with(name)).collect();
        assert!(!values.is_empty(), "{name} is not there");
        assert!(values.iter().all(|line| line.ends_with(" 0")), "edge {edge}: {values:?}");
    }
}
