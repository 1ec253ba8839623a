//! What heals and what holds back: snapshots after compaction, a control plane from a backup, freeze,
//! guard and restore, with the real programs.

use std::{fs, path::Path};

use edgesync_tests::{Stack, eventually};

/// A zone of so many addresses, as a file.
fn zone(serial: u32, addresses: std::ops::Range<u32>) -> String {
    let lines = addresses.map(|n| format!("host-{n} 300 A 192.0.2.{}\n", n % 250));
    format!("@ 300 SOA ns1 root {serial} 1 2 3 4\n@ 300 NS ns1\n") + &lines.collect::<String>()
}

fn import(stack: &Stack, text: &str, more: &[&str]) -> edgesync_tests::Ran {
    let words = ["zone", "import", "-", "--origin", "example.com"];
    stack.run_with(&[&words[..], more].concat(), text)
}

/// The control plane's zone and that of each edge, as text.
fn assert_equal_everywhere(stack: &Stack, edges: usize) {
    let wanted = stack.run(&["zone", "export", "example.com"]).good();
    for edge in 0..edges {
        let found = stack.run_edge(edge, &["export", "example.com"]).good();
        assert_eq!(found, wanted, "edge {edge}");
        assert_eq!(stack.run_edge(edge, &["verify"]).code, 0);
    }
}

fn head(stack: &Stack) -> u64 {
    stack.run(&["release", "--output", "json"]).json()["head"].as_u64().unwrap()
}

fn metric(stack: &Stack, edge: usize, name: &str) -> f64 {
    stack.edge_metric(edge, name).unwrap_or_else(|| panic!("no metric {name}"))
}

#[test]
fn an_edge_that_was_away_while_the_log_was_compacted_takes_a_snapshot() {
    let mut stack = Stack::start(2);
    drop(import(&stack, &zone(1, 0..6_000), &[]).good());
    stack.settle();
    stack.edge(1).kill();
    // What is deleted in the gap has to be gone with the snapshot.
    drop(import(&stack, &zone(2, 1_000..7_000), &[]).good());
    drop(stack.run(&["wait", "--edges", "edge-0", "--timeout", "30s"]).good());
    let upto = head(&stack).to_string();
    let compacted = stack.run(&["log", "compact", "--upto", &upto]).good();
    assert!(compacted.contains(&format!("begins after offset {upto}")), "{compacted}");
    let told = stack.run(&["log", "--from", "1"]).refused(1);
    assert!(told.contains("compacted"), "{told}");
    drop(stack.run(&["record", "create", "example.com", "late", "A", "60", "192.0.2.9"]).good());
    stack.start_edge(1);
    stack.settle();
    assert_equal_everywhere(&stack, 2);
    assert_eq!(metric(&stack, 1, "edgesync_edge_snapshots_total"), 1.0);
    assert_eq!(metric(&stack, 0, "edgesync_edge_snapshots_total"), 0.0);
    // After it the edge resumes like any other.
    stack.edge(1).kill();
    drop(stack.run(&["record", "create", "example.com", "later", "A", "60", "192.0.2.9"]).good());
    stack.start_edge(1);
    stack.settle();
    assert_eq!(metric(&stack, 1, "edgesync_edge_snapshots_total"), 0.0);
    assert_equal_everywhere(&stack, 2);
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_file() {
            fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    }
}

#[test]
fn a_control_plane_from_an_older_backup_is_recognised_and_edges_follow_it() {
    // Written on past the old head, and not.
    for writes_on in [true, false] {
        let mut stack = Stack::start(1);
        drop(import(&stack, &zone(1, 0..200), &[]).good());
        stack.settle();
        let (live, backup) = (stack.dir().join("control"), stack.dir().join("backup"));
        stack.control().stop();
        copy(&live, &backup);
        stack.start_control();
        for n in 0..20 {
            let owner = format!("lost-{n}");
            drop(
                stack
                    .run(&["record", "create", "example.com", &owner, "A", "60", "192.0.2.1"])
                    .good(),
            );
        }
        stack.settle();
        stack.edge(0).kill();
        stack.control().stop();
        fs::remove_dir_all(&live).unwrap();
        copy(&backup, &live);
        stack.start_control();
        if writes_on {
            for n in 0..25 {
                let owner = format!("other-{n}");
                let words = ["record", "create", "example.com", &owner, "A", "60", "192.0.2.2"];
                drop(stack.run(&words).good());
            }
        }
        stack.start_edge(0);
        stack.settle();
        assert_equal_everywhere(&stack, 1);
        assert_eq!(metric(&stack, 0, "edgesync_edge_diverged_total"), 1.0, "{writes_on}");
        let lost = stack.run_edge(0, &["get", "lost-1.example.com."]).good();
        assert!(!lost.contains("192.0.2.1"), "{lost}");
    }
}

#[test]
fn a_frozen_release_keeps_changes_from_edges_and_a_receipt_says_so_at_once() {
    let mut stack = Stack::start(1);
    drop(import(&stack, &zone(1, 0..20), &[]).good());
    stack.settle();
    let frozen = stack.run(&["freeze", "--reason", "an incident"]).good();
    assert!(frozen.contains("an incident"), "{frozen}");
    drop(stack.run(&["freeze"]).refused(1));
    drop(stack.run(&["record", "create", "example.com", "new", "A", "60", "192.0.2.9"]).good());
    let begun = std::time::Instant::now();
    assert_eq!(stack.run(&["wait", "--edges", "all", "--timeout", "30s"]).code, 3);
    assert!(begun.elapsed().as_secs() < 10, "it is of no use to wait");
    // A restart of either side changes nothing of it.
    stack.control().stop();
    stack.start_control();
    stack.edge(0).kill();
    stack.start_edge(0);
    eventually("the edge is back", || {
        stack.edge_status(0).is_some_and(|status| status["link"] == "connected")
    });
    assert!(!stack.run_edge(0, &["export", "example.com"]).good().contains("new.example.com."));
    drop(stack.run(&["unfreeze"]).good());
    stack.settle();
    assert_equal_everywhere(&stack, 1);
}

#[test]
fn a_mistake_is_asked_for_and_can_be_undone() {
    let stack = Stack::start(1);
    drop(import(&stack, &zone(1, 0..100), &[]).good());
    stack.settle();
    let good = head(&stack);
    let before = stack.run(&["zone", "export", "example.com"]).good();
    let refused = import(&stack, &zone(2, 0..50), &[]).refused(1);
    assert!(refused.contains("--override-guard") && refused.contains("50 of"), "{refused}");
    drop(stack.run(&["zone", "delete", "example.com"]).refused(1));
    // Said to be meant it passes, at the edges too.
    drop(import(&stack, &zone(2, 0..50), &["--override-guard"]).good());
    stack.settle();
    assert_equal_everywhere(&stack, 1);
    let to = good.to_string();
    let restored =
        stack.run(&["zone", "restore", "example.com", "--to", &to, "--override-guard"]).good();
    assert!(restored.contains("50 created"), "{restored}");
    stack.settle();
    assert_equal_everywhere(&stack, 1);
    let after = stack.run(&["zone", "export", "example.com"]).good();
    let without_soa = |text: &str| {
        text.lines().filter(|line| !line.contains("SOA")).map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(without_soa(&after), without_soa(&before));
    drop(stack.run(&["zone", "delete", "example.com", "--override-guard"]).good());
    let again = stack.run(&["zone", "restore", "example.com", "--to", &to]).good();
    assert!(again.contains("102 created"), "{again}");
    stack.settle();
    assert_equal_everywhere(&stack, 1);
}
