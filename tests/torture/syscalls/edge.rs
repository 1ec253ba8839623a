//! The edge: opening, ordinary, large and hidden change sets, deletes, flushes, the end.

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
    process::Command,
};

use edgesync_tests::{Stack, eventually};

use super::{Sweep, points};
use crate::{
    load::{Caller, Script, ZONE, runtime},
    oracle::{History, Model},
    plan,
    trace::{Run, Tracer, can_trace},
    watch, world,
};

/// The edge that is killed.
const EDGE: usize = 0;

/// A control plane with a short log, and the states that an edge may have.
struct Place {
    stack: Stack,
    models: Vec<Model>,
    /// A store that has the first half of the log.
    half: PathBuf,
    /// The log is compacted: an edge takes a snapshot.
    compacted: bool,
    /// Times that a store was put aside that had not begun to be one.
    false_alarms: u64,
}

/// Copies a directory.
pub fn copy(from: &Path, to: &Path) {
    let copied = Command::new("cp").arg("-a").arg(from).arg(to).status();
    assert!(copied.expect("cp runs").success());
}

fn clear(dir: &Path) {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => panic!("{error}"),
        _ => {}
    }
}

impl Place {
    fn make() -> Self {
        let mut stack = Stack::prepare(1);
        stack.start_control();
        let history = History::begin(&stack.dir().join("answers"));
        let script = Script::new();
        let middle = script.sets.len() / 2;
        let half = stack.dir().join("half");
        let mut models = vec![Model::default()];
        let mut model = Model::default();
        for (number, set) in script.sets.into_iter().enumerate() {
            model.apply(&set);
            models.push(model.clone());
            let key = format!("set-{number}");
            let url = stack.url();
            runtime().block_on(async { Caller::new(&url).commit(&key, set, &history).await });
            if number == middle {
                stack.start_edge(EDGE);
                eventually("the edge registers", || !stack.fleet().is_empty());
                stack.settle();
                stack.edge(EDGE).kill();
                copy(stack.edge_dir(EDGE), &half);
            }
        }
        let head = model.offset;
        history.judge(head).expect("all is answered");
        Self { stack, models, half, compacted: false, false_alarms: 0 }
    }

    /// Forgets the whole log: what follows takes a snapshot, beside what it has.
    fn compact(&mut self) {
        let head = self.head().to_string();
        let _ = self.stack.run(&["log", "compact", "--upto", &head]).good();
        self.compacted = true;
    }

    fn head(&self) -> u64 {
        self.models.last().expect("a state").offset
    }

    fn acked(&self) -> u64 {
        self.stack.fleet().first().map_or(0, |row| row["durable_offset"].as_u64().unwrap())
    }

    /// One run with a kill after the `kill_at`th call.
    fn run(&mut self, base: Option<&Path>, kill_at: u64) -> Run {
        let dir = self.stack.edge_dir(EDGE).to_owned();
        clear(&dir);
        base.inspect(|base| copy(base, &dir));
        eventually("the edge is forgotten", || {
            self.stack.fleet().is_empty()
                || self.stack.run(&["fleet", "forget", "edge-0"]).code == 0
        });
        let tracer = Tracer::new(self.stack.dir(), &dir, kill_at);
        self.stack.begin_edge(EDGE, &tracer.command());
        tracer.set_process(self.stack.edge(EDGE).id());
        let head = self.head();
        eventually("the edge has all, or is killed", || {
            tracer.has_killed() || self.acked() == head
        });
        if !tracer.has_killed() {
            self.stack.edge(EDGE).signal("TERM");
        }
        self.stack.edge(EDGE).wait();
        let run = tracer.finish();
        println!("  {run}");
        self.check();
        run
    }

    /// The store opens, has all that was acked, is a state of the log, and goes on.
    fn check(&mut self) {
        let acked = self.acked();
        self.stack.begin_edge(EDGE, &[]);
        let socket = self.stack.socket(EDGE);
        let mut found = None;
        eventually("the edge answers", || {
            found = watch::status(&socket);
            found.is_some()
        });
        let found = found.expect("a status").resumed_from;
        assert!(found >= acked, "invariant 6: {acked} was acknowledged, {found} is there");
        assert!(self.models.iter().any(|model| model.offset == found), "no set ends at {found}");
        self.compare(found);
        eventually("the edge has all", || self.acked() == self.head());
        self.compare(found);
        self.compare_all();
        let _ = self.stack.run_edge(EDGE, &["verify"]).good();
        if !self.put_aside_before_its_first_byte(acked) {
            world::assert_nothing_put_aside(&self.stack, EDGE, self.compacted);
        }
        self.stack.edge(EDGE).kill();
    }

    /// Known and harmless, but a false alarm: killed between the two writes of sled's `conf`, before
    /// there is a database file, the store that never was is put aside.
    fn put_aside_before_its_first_byte(&mut self, acked: u64) -> bool {
        let entries = fs::read_dir(self.stack.edge_dir(EDGE)).expect("the directory");
        let paths = entries.map(|entry| entry.expect("an entry").path());
        let mut aside: Vec<_> =
            paths.filter(|path| path.to_string_lossy().contains(".quarantine-")).collect();
        let known = aside.len() == 1 && acked == 0 && !aside.remove(0).join("db").exists();
        self.false_alarms += u64::from(known);
        known
    }

    /// What the edge serves is the state of its offset, while it goes on from `found`: that is told with
    /// what a zone has, so that of a zone that is not there only one that never goes can be judged.
    fn compare(&self, found: u64) {
        let origins: BTreeSet<_> = self.models.iter().flat_map(Model::origins).collect();
        for zone in origins {
            let (offset, text) = self.export(&zone);
            let Some(text) = text else {
                assert!(zone != ZONE || found == 0, "{ZONE} was there at {found}, and is gone");
                continue;
            };
            let model = self.models.iter().find(|model| model.offset == offset);
            let model = model.unwrap_or_else(|| panic!("no set ends at {offset}"));
            assert_eq!(model.difference(&zone, &text), None, "at offset {offset}");
        }
    }

    /// What the edge serves is all of the last state, and nothing else.
    fn compare_all(&self) {
        let last = self.models.last().expect("a state");
        let socket = self.stack.socket(EDGE);
        let mut zones = runtime().block_on(async {
            let mut edge = watch::connect(&socket).await.expect("a connection");
            watch::zones(&mut edge).await.expect("the zones")
        });
        zones.sort_unstable();
        assert_eq!(zones, last.origins(), "the zones of the last state");
        for zone in zones {
            let (offset, text) = self.export(&zone);
            assert_eq!(offset, last.offset);
            assert_eq!(last.difference(&zone, &text.expect("a zone that is listed")), None);
        }
        let records = watch::status(&socket).expect("a status").records;
        assert_eq!(records, last.records(), "no record is of no zone");
    }

    fn export(&self, zone: &str) -> (u64, Option<String>) {
        let socket = self.stack.socket(EDGE);
        runtime().block_on(async {
            let mut edge = watch::connect(&socket).await.expect("a connection");
            watch::export(&mut edge, zone).await.expect("an export")
        })
    }
}

#[test]
fn an_edge_killed_after_any_system_call_opens_and_has_what_it_acknowledged() {
    if !can_trace() {
        return;
    }
    let mut random = plan::random("syscalls of the edge");
    let mut place = Place::make();
    let half = place.half.clone();
    let half = Some(half.as_path());
    for (name, base, compact) in
        [("a new store", None, false), ("half a store", half, false), ("a snapshot", half, true)]
    {
        if compact {
            place.compact();
        }
        let whole = place.run(base, u64::MAX);
        assert!(!whole.killed && whole.calls > 20, "{whole}");
        let log = place.stack.edge(EDGE).log_text();
        assert_eq!(log.contains("snapshot in place"), compact, "{log}");
        let sweep = Sweep::over(points(whole.calls, &mut random), |point| place.run(base, point));
        let (calls, alarms) = (whole.calls, place.false_alarms);
        println!("syscalls: edge, {name}: {calls} calls, {sweep}, {alarms} false alarms");
        sweep.check();
    }
}
