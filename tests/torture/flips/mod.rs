//! F-07: single bits of an edge's files flip while it is off. What it then says is right, or it says
//! that something is wrong: invariant 17. Most flips are tried on the store itself, in a process of
//! its own, because a damaged store may do anything to the process that opens it.

mod base;
mod worker;

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader},
    path::Path,
    process::{Command, Stdio},
    sync::mpsc::{RecvTimeoutError, channel},
    time::{Duration, Instant},
};

use edgesync_tests::{Stack, eventually, have};
use rand::{RngExt, SeedableRng, rngs::StdRng};

use self::base::{Base, End};
use crate::{oracle::Model, plan, watch};

/// A trial that takes longer hangs.
const TRIAL: Duration = Duration::from_secs(30);
/// Octets of memory that the process may map: a damaged length must not take all there is.
const MEMORY: &str = "--as=4294967296";
/// What a trial must not come to.
const WRONG: [&str; 4] = ["served wrong, unnoticed", "died", "hung", PANICKED];
/// A panic came out of the store where the daemon does not look for one.
const PANICKED: &str = "panicked";
/// One came out of a read, which the daemon makes an error of.
const READ_PANICKED: &str = "reading panicked, which is told";

/// The store is that of an offset before the last one, and does not know it.
const OLDER: &str = "an older state, read right";

/// What trials came to, and examples.
#[derive(Default)]
struct Tally {
    counts: BTreeMap<String, u64>,
    examples: Vec<String>,
}

impl Tally {
    fn add(&mut self, trial: u64, class: &str, detail: &str) {
        let count = self.counts.entry(class.to_owned()).or_default();
        *count += 1;
        if *count <= 3 || WRONG.contains(&class) {
            self.examples.push(format!("trial {trial}: {class}: {detail}"));
        }
    }

    fn wrong(&self) -> u64 {
        WRONG.iter().filter_map(|class| self.counts.get(*class)).sum()
    }
}

/// Runs trials in a process of their own; the number of the first that it did not come to.
fn run_worker(base: &Path, seed: u64, from: u64, to: u64, tally: &mut Tally) -> u64 {
    let own = std::env::current_exe().expect("this test has a path");
    let mut command = Command::new("prlimit");
    command.arg(MEMORY).arg(own).args(["--exact", "flips::worker::trials", "--ignored"]);
    command.args(["--nocapture", "--test-threads=1"]);
    command.env("EDGESYNC_FLIPS_BASE", base).env("EDGESYNC_FLIPS_SEED", seed.to_string());
    command.env("EDGESYNC_FLIPS_FROM", from.to_string());
    command.env("EDGESYNC_FLIPS_TO", to.to_string());
    command.stdout(Stdio::piped()).stderr(Stdio::null()).stdin(Stdio::null());
    let mut child = command.spawn().expect("prlimit runs");
    let output = BufReader::new(child.stdout.take().expect("a pipe"));
    let (sender, lines) = channel();
    let reading = std::thread::spawn(move || {
        for line in output.lines().map_while(Result::ok) {
            let _ = sender.send(line);
        }
    });
    let mut next = from;
    let fate = loop {
        match lines.recv_timeout(TRIAL) {
            Ok(line) => {
                let mut fields = line.split('\t');
                let (Some("trial"), Some(trial), Some(class), Some(detail)) =
                    (fields.next(), fields.next(), fields.next(), fields.next())
                else {
                    continue;
                };
                let trial = trial.parse().expect("a number");
                tally.add(trial, class, detail);
                next = trial + 1;
            }
            Err(RecvTimeoutError::Disconnected) => break "died",
            Err(RecvTimeoutError::Timeout) => break "hung",
        }
    };
    child.kill().expect("it can be killed");
    let status = child.wait().expect("it ends");
    reading.join().expect("the reader has panicked");
    if next < to {
        tally.add(next, fate, &status.to_string());
        next += 1;
    }
    next
}

#[test]
fn a_flipped_bit_is_never_served_unnoticed() {
    if !have("prlimit") {
        return;
    }
    let trials = plan::number("EDGESYNC_TORTURE_FLIPS", 40);
    let seed: u64 = plan::random("flips").random();
    for end in [End::InOrder, End::Reopened, End::Killed] {
        let begin = Instant::now();
        let base = Base::make(end);
        let mut tally = Tally::default();
        let mut next = 0;
        while next < trials {
            next = run_worker(base.path(), seed, next, trials, &mut tally);
        }
        println!("flips: store that {end:?}: {trials} trials, {:?}", begin.elapsed());
        tally.counts.iter().for_each(|(class, count)| println!("  {count:6} {class}"));
        tally.examples.iter().for_each(|example| println!("    {example}"));
        assert_eq!(tally.wrong(), 0, "invariant 17");
        // Known: sled cuts its log at a damaged entry as if it were the last one, and what is written
        // down beside the store tells of the last five seconds only if it ended in order.
        let older = tally.counts.get(OLDER).copied().unwrap_or_default();
        assert!(older == 0 || end == End::Killed, "invariants 8 and 17: {older} older states");
        let told = tally.counts.iter().filter(|(class, _)| *class != "harmless");
        assert!(told.map(|(_, count)| count).sum::<u64>() > 0, "no flip has hit anything");
    }
}

#[test]
fn a_daemon_with_a_flipped_bit_serves_what_is_right_or_says_what_is_wrong() {
    let trials = plan::number("EDGESYNC_TORTURE_DAEMON_FLIPS", 3);
    let mut random = plan::random("flips under a daemon");
    let base = Base::make(End::Reopened);
    let model = base.last();
    let mut tally = Tally::default();
    for trial in 0..trials {
        let mut stack = Stack::prepare(1);
        let dir = stack.edge_dir(0).to_owned();
        let mut bits = StdRng::seed_from_u64(random.random());
        let what = base.flipped(&dir, &mut bits);
        let class = try_daemon(&mut stack, &model);
        tally.add(trial, &class, &what);
    }
    tally.examples.iter().for_each(|example| println!("  {example}"));
    println!("flips under a daemon: {:?}", tally.counts);
    assert_eq!(tally.wrong(), 0, "invariant 17");
}

/// Starts a daemon without a control plane, and reads all that it has.
fn try_daemon(stack: &mut Stack, model: &Model) -> String {
    stack.begin_edge(0, &[]);
    let socket = stack.socket(0);
    eventually("the daemon answers or ends", || {
        watch::status(&socket).is_some() || stack.edge(0).has_ended()
    });
    if stack.edge(0).has_ended() {
        let status = stack.edge(0).wait();
        let text = stack.edge(0).log_text();
        let last = text.lines().last().unwrap_or_default().to_owned();
        let clear = status.code() == Some(1) && last.starts_with("edgesyncd: ");
        return format!("{}: {last}", if clear { "refused" } else { "died" });
    }
    let page = stack.edge_page(0, "/metrics").expect("metrics");
    let mut aside = page.lines().filter(|line| line.starts_with("edgesync_edge_quarantines_total"));
    if let Some(line) = aside.find(|line| !line.ends_with(" 0")) {
        return format!("put aside: {line}");
    }
    let wrong = model.origins().into_iter().find_map(|zone| {
        let ran = stack.run_edge(0, &["export", &zone]);
        match ran.code {
            0 => model.difference(&zone, &ran.stdout),
            _ => Some(ran.stderr),
        }
    });
    let verified = stack.run_edge(0, &["verify"]);
    match (wrong, verified.code) {
        (None, 0) => "harmless".to_owned(),
        (None, _) => "found by verify, read right".to_owned(),
        (Some(what), 0) => {
            eprintln!("{what}");
            WRONG[0].to_owned()
        }
        (Some(what), _) => format!("found by verify, read wrong: {what}"),
    }
}
