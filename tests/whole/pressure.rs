//! Many edges at once: a fleet that comes back as one, an edge that hardly reads, and a fleet that needs
//! snapshots. Bounded forms of what `edgesync-bench storm`, `slow-reader` and `bootstrap` measure.

use std::time::{Duration, Instant};

use edgesync_tests::{Crowd, CrowdConfig, Proxy, Stack, Way, Weather, eventually};
use tokio::runtime::Runtime;

const REFUSED: &str = "edgesync_control_sessions_refused_total{reason=\"rate\"}";
const SNAPSHOTS_REFUSED: &str = "edgesync_control_snapshots_refused_total";

fn crowd_of(stack: &Stack, edges: usize) -> CrowdConfig {
    CrowdConfig {
        url: stack.url(),
        first: 0,
        edges,
        per_second: 1_000,
        longest_wait: Duration::from_secs(1),
        timed: false,
    }
}

fn start(stack: &Stack, edges: usize) -> (Runtime, Crowd) {
    let runtime = Runtime::new().expect("a runtime");
    let entered = runtime.enter();
    let crowd = Crowd::start(&crowd_of(stack, edges));
    drop(entered);
    (runtime, crowd)
}

/// A zone of so many TXT records of 1,000 octets.
fn bulk(records: usize) -> String {
    let lines = (0..records).map(|n| {
        let text = format!("\"{n:x<250}\" ").repeat(4);
        format!("host-{n} 300 TXT {text}\n")
    });
    "@ 300 SOA ns1 root 1 2 3 4 5\n@ 300 NS ns1\n".to_owned() + &lines.collect::<String>()
}

/// A zone of so many TXT records of digits that do not compress well.
fn noise(records: usize) -> String {
    let mut random = 1u64;
    let mut digits = || {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        format!("{random:016x}")
    };
    let lines = (0..records).map(|n| {
        let text: String = (0..12).map(|_| digits()).collect();
        format!("host-{n} 300 TXT \"{text}\"\n")
    });
    "@ 300 SOA ns1 root 1 2 3 4 5\n@ 300 NS ns1\n".to_owned() + &lines.collect::<String>()
}

fn import(stack: &Stack, origin: &str, text: &str) {
    drop(stack.run_with(&["zone", "import", "-", "--origin", origin], text).good());
}

/// Compacts the log up to its head; what the command says of it.
fn compact(stack: &Stack) -> String {
    let head = stack.run(&["release", "--output", "json"]).json()["head"].to_string();
    stack.run(&["log", "compact", "--upto", &head]).good()
}

/// Starts the first edge behind a proxy, and waits until it takes a snapshot.
fn begin_slowly(stack: &mut Stack, proxy: &Proxy) {
    stack.lead_edge(0, proxy);
    stack.begin_edge(0, &[]);
    eventually("it takes a snapshot", || {
        stack.fleet().iter().any(|row| row["state"] == "snapshot" && !row["snapshot"].is_null())
    });
}

fn resident(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("its status");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("VmRSS");
    line.split_whitespace().next().and_then(|kib| kib.parse::<u64>().ok()).expect("KiB") * 1_024
}

/// F-42: they are let in at a steady rate, each is told a time of its own, and nobody hammers.
#[test]
fn a_fleet_that_has_lost_its_control_plane_comes_back_at_the_rate_that_it_is_let_in() {
    const EDGES: usize = 200;
    let mut stack = Stack::prepare(0);
    stack.control_environment.push(("EDGESYNC_CONTROL_SESSIONS__ADMIT_PER_SECOND", "100"));
    stack.control_environment.push(("EDGESYNC_CONTROL_SESSIONS__ADMIT_BURST", "20"));
    stack.start_control();
    import(&stack, "example.com", &bulk(10));
    let (_runtime, crowd) = start(&stack, EDGES);
    eventually("all are there", || crowd.counts().live == EDGES);
    stack.settle();
    stack.control().kill();
    eventually("all have noticed", || crowd.counts().live == 0);
    let tries = crowd.counts().tries;
    stack.start_control();
    let begin = Instant::now();
    eventually("all are back", || crowd.counts().live == EDGES);
    let (took, tries) = (begin.elapsed(), crowd.counts().tries - tries);
    let sent_away = stack.control_metric(REFUSED).unwrap_or(0.0);
    println!("{EDGES} edges back after {took:?}, {tries} tries, {sent_away} of them too early");
    assert!(took < Duration::from_secs(30), "{took:?}");
    assert!(tries < 10 * EDGES as u64, "{tries} tries");
    assert!(sent_away > 0.0, "200 are more than come in at once");
    drop(stack.run(&["record", "create", "example.com", "after", "A", "60", "192.0.2.1"]).good());
    stack.settle();
}

/// F-26: what an edge does not read waits for it alone, and is bounded.
#[test]
fn an_edge_that_hardly_reads_holds_up_nobody_and_fills_no_memory() {
    const GOOD: usize = 5;
    let mut stack = Stack::prepare(1);
    // So that it reads the log's store, and not what is in memory.
    stack.control_environment.push(("EDGESYNC_CONTROL_LOG__RECENT", "1MiB"));
    stack.start_control();
    let (_runtime, crowd) = start(&stack, GOOD);
    eventually("the good are there", || crowd.counts().live == GOOD);
    import(&stack, "bulk.example", &bulk(8_000));
    let good = "crowd-0,crowd-1,crowd-2,crowd-3,crowd-4";
    let wait = |stack: &Stack| stack.run(&["wait", "--edges", good, "--timeout", "30s"]).good();
    drop(wait(&stack));
    let before = resident(stack.control().id());
    let proxy = Proxy::start(stack.control_address(), 1);
    proxy.set(Way::Down, Weather { rate: Some(1_024), ..Weather::default() });
    stack.lead_edge(0, &proxy);
    stack.begin_edge(0, &[]);
    eventually("it has a session", || stack.fleet().iter().any(|row| row["id"] == "edge-0"));
    for number in 0..20 {
        let owner = format!("beside-{number}");
        let create = ["record", "create", "bulk.example", &owner, "A", "60", "192.0.2.1"];
        let begin = Instant::now();
        drop(stack.run(&create).good());
        drop(wait(&stack));
        let took = begin.elapsed();
        assert!(took < Duration::from_secs(5), "a change took {took:?} to the good edges");
    }
    let grown = resident(stack.control().id()).saturating_sub(before);
    println!("the control plane has grown by {grown} octets");
    assert!(grown < 64 << 20, "a session keeps its window, and not the log: {grown}");
    let slow = ["wait", "--edges", "edge-0", "--timeout", "100ms"];
    assert_ne!(stack.run(&slow).code, 0, "it is still behind");
    assert_eq!(crowd.counts().welcomes, GOOD as u64, "no good session has ended");
    // F-27: the log is compacted beyond what it is reading: it is told so, and takes a snapshot.
    drop(compact(&stack));
    proxy.set(Way::Down, Weather::default());
    stack.settle();
    assert_eq!(stack.edge_metric(0, "edgesync_edge_snapshots_total"), Some(1.0));
    let wanted = stack.run(&["zone", "export", "bulk.example"]).good();
    assert!(stack.run_edge(0, &["export", "bulk.example"]).good() == wanted);
}

/// F-43: only so many take a snapshot at once, the others are told when to come back, and all get one.
#[test]
fn of_a_fleet_that_needs_snapshots_all_get_one_and_few_at_a_time() {
    const EDGES: usize = 24;
    let mut stack = Stack::prepare(0);
    stack.control_environment.push(("EDGESYNC_CONTROL_SNAPSHOTS__AT_ONCE", "2"));
    stack.start_control();
    import(&stack, "bulk.example", &bulk(1_000));
    drop(compact(&stack));
    let (_runtime, crowd) = start(&stack, EDGES);
    let begin = Instant::now();
    let mut written = 0;
    eventually("all have a snapshot", || {
        written += 1;
        let owner = format!("meanwhile-{written}");
        let create = ["record", "create", "bulk.example", &owner, "A", "60", "192.0.2.1"];
        drop(stack.run(&create).good());
        let taking = stack.fleet().iter().filter(|row| !row["snapshot"].is_null()).count();
        assert!(taking <= 2, "{taking} take a snapshot at once");
        crowd.counts().snapshots >= EDGES as u64
    });
    let refused = stack.control_metric(SNAPSHOTS_REFUSED).unwrap_or(0.0);
    println!("{EDGES} snapshots after {:?}; {refused} were told to come back", begin.elapsed());
    assert!(refused > 0.0);
    stack.settle();
    assert_eq!(crowd.counts().snapshots, EDGES as u64, "each took one");
}

/// F-43: a turn for a snapshot is not kept by an edge that makes nothing of it.
#[test]
fn an_edge_that_does_not_come_on_with_its_snapshot_gives_its_turn_to_another() {
    let mut stack = Stack::prepare(2);
    stack.control_environment.push(("EDGESYNC_CONTROL_SNAPSHOTS__AT_ONCE", "1"));
    stack.start_control();
    import(&stack, "bulk.example", &noise(2_000));
    drop(compact(&stack));
    let proxy = Proxy::start(stack.control_address(), 1);
    proxy.set(Way::Down, Weather { rate: Some(1_024), ..Weather::default() });
    begin_slowly(&mut stack, &proxy);
    let begin = Instant::now();
    stack.begin_edge(1, &[]);
    eventually("the other has it", || {
        stack.run(&["wait", "--edges", "edge-1", "--timeout", "1s"]).code == 0
    });
    println!("it had its turn after {:?}", begin.elapsed());
    let slow = ["wait", "--edges", "edge-0", "--timeout", "100ms"];
    assert_ne!(stack.run(&slow).code, 0, "the slow one has not finished");
    proxy.set(Way::Down, Weather::default());
    stack.settle();
    let wanted = stack.run(&["zone", "export", "bulk.example"]).good();
    assert!(stack.run_edge(0, &["export", "bulk.example"]).good() == wanted);
}

/// F-32: what comes after a snapshot stays in the log until the edge that takes it has it.
#[test]
fn a_compaction_beside_a_snapshot_on_its_way_leaves_no_gap_behind_it() {
    let mut stack = Stack::prepare(1);
    stack.start_control();
    import(&stack, "bulk.example", &noise(2_000));
    drop(compact(&stack));
    let proxy = Proxy::start(stack.control_address(), 1);
    proxy.set(Way::Down, Weather { rate: Some(60_000), ..Weather::default() });
    begin_slowly(&mut stack, &proxy);
    let before = stack.run(&["release", "--output", "json"]).json()["head"].to_string();
    for number in 0..10 {
        let owner = format!("meanwhile-{number}");
        let create = ["record", "create", "bulk.example", &owner, "A", "60", "192.0.2.1"];
        drop(stack.run(&create).good());
    }
    let told = compact(&stack);
    assert!(told.contains(&format!("begins after offset {before}")), "it is pinned: {told}");
    assert_eq!(stack.fleet()[0]["state"], "snapshot", "it was still on its way");
    proxy.set(Way::Down, Weather::default());
    stack.settle();
    assert_eq!(stack.edge_metric(0, "edgesync_edge_snapshots_total"), Some(1.0), "one was enough");
    let wanted = stack.run(&["zone", "export", "bulk.example"]).good();
    assert!(stack.run_edge(0, &["export", "bulk.example"]).good() == wanted);
}

/// F-56: what callers and edges choose is never a label, but for the ids of edges that are registered.
#[test]
fn no_caller_can_make_labels_of_metrics() {
    let mut stack = Stack::start(1);
    for number in 0..20 {
        let origin = format!("flood-{number}.example");
        import(&stack, &origin, &bulk(1));
        let create = ["record", "create", &origin, "flood", "TYPE65281", "60", "\\# 1 00"];
        drop(stack.run(&create).good());
        let _ = stack.run(&["record", "create", "flood.invalid", "x", "NOTYPE", "1", "flood"]);
        let _ = stack.run_edge(0, &["lookup", &format!("flood.{origin}")]);
    }
    stack.settle();
    const KNOWN: [&str; 10] = [
        "code", "edge", "kind", "le", "method", "quantile", "reason", "result", "state", "version",
    ];
    for page in [stack.control_page("/metrics"), stack.edge_page(0, "/metrics")] {
        let page = page.expect("a page");
        assert!(!page.contains("flood"), "what callers wrote is in it");
        for line in page.lines().filter(|line| !line.starts_with('#')) {
            let labels = line.split_once('{').and_then(|(_, rest)| rest.rsplit_once('}'));
            let Some((labels, _)) = labels else { continue };
            for label in labels.split("\",").filter_map(|label| label.split_once("=\"")) {
                assert!(KNOWN.contains(&label.0), "the label {} in {line}", label.0);
            }
        }
        assert!(page.lines().count() < 2_500, "{} lines", page.lines().count());
    }
    assert!(!stack.edge(0).has_ended());
}
