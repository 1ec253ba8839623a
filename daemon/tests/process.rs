//! `edgesyncd` as a process: exit codes and the one line that they come with, what Prometheus reads,
//! reload and end by signals.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

fn command(dir: &Path, metrics: SocketAddr) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_edgesyncd"));
    command
        .args(["--edge-id", "edge-1", "--metrics-listen", &metrics.to_string()])
        .arg("--data-dir")
        .arg(dir.join("data"))
        .arg("--socket")
        .arg(dir.join("edge.sock"))
        .stderr(Stdio::piped())
        .stdout(Stdio::piped());
    command
}

/// An address that nobody has; another process may take it, but hardly.
fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// Text of a page, and its status line.
fn get(address: SocketAddr, path: &str) -> Option<(String, String)> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.write_all(format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n").as_bytes()).ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    let (head, body) = text.split_once("\r\n\r\n")?;
    Some((head.lines().next()?.to_owned(), body.to_owned()))
}

fn until(what: &str, mut wanted: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !wanted() {
        assert!(begin.elapsed() < Duration::from_secs(10), "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A daemon that does not outlive its test.
struct Daemon(Option<Child>);

impl Drop for Daemon {
    fn drop(&mut self) {
        if let Some(mut child) = self.0.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Daemon {
    fn start(command: &mut Command) -> Self {
        Self(Some(command.spawn().unwrap()))
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(self.0.as_ref().unwrap()), signal).unwrap();
    }

    fn has_ended(&mut self) -> bool {
        self.0.as_mut().unwrap().try_wait().unwrap().is_some()
    }

    /// What it said, when it has ended; it has to end, and says less than a pipe takes.
    fn output(mut self) -> Output {
        until("it ends", || self.has_ended());
        self.0.take().unwrap().wait_with_output().unwrap()
    }
}

fn refused(output: &Output, code: i32, parts: &[&str]) {
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{text}");
    let line = text.lines().last().unwrap();
    for part in parts {
        assert!(line.contains(part), "{part} is not in: {line}");
    }
}

/// Metrics that are there from the start.
const METRICS: &[&str] = &[
    "head",
    "position",
    "lag_changes",
    "lag_seconds",
    "session_state",
    "reconnects_total",
    "received_changes_total",
    "applied_changes_total",
    "duplicate_changes_total",
    "applied_change_sets_total",
    "resumed_from_offset",
    "receive_to_durable_seconds",
    "receive_to_durable_spikes_total",
    "receive_to_durable_worst_seconds",
    "store_write_seconds",
    "store_sync_seconds",
    "group_changes",
    "store_bytes",
    "zones",
    "records",
    "quarantines_total",
    "diverged_total",
    "digest_mismatches_total",
    "snapshots_total",
    "snapshots_rejected_total",
    "repairs_total",
    "snapshot_chunks_done",
    "snapshot_chunks",
    "halted",
    "held",
    "paused",
    "frozen",
    "read_failures_total",
    "zones_to_be_mended",
    "boot_epoch",
    "config_reloads_total",
];

#[test]
fn a_daemon_without_a_control_plane_is_ready_tells_how_it_stands_and_ends_in_order() {
    let (dir, address) = (tempfile::tempdir().unwrap(), free_address());
    let file = dir.path().join("edgesyncd.toml");
    fs::write(&file, "control = ['http://127.0.0.1:9']\n[reconnect]\ninitial = '10ms'").unwrap();
    let daemon = Daemon::start(command(dir.path(), address).arg("--config").arg(&file));
    until("it is ready", || get(address, "/readyz").is_some_and(|(line, _)| line.contains("200")));
    let metric = |line: &str| {
        get(address, "/metrics").is_some_and(|(_, text)| text.lines().any(|found| found == line))
    };
    until("it has tried", || !metric("edgesync_edge_reconnects_total{reason=\"connect\"} 0"));
    let tries = || {
        let text = get(address, "/metrics").map(|(_, text)| text).unwrap_or_default();
        let name = "edgesync_edge_reconnects_total{reason=\"connect\"} ";
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.parse::<u64>().ok());
        value.unwrap_or(0)
    };
    let (_, text) = get(address, "/metrics").unwrap();
    for name in METRICS {
        assert!(text.contains(&format!("# HELP edgesync_edge_{name} ")), "{name}");
    }
    for line in text.lines().filter(|line| line.starts_with("edgesync_edge_")) {
        let labels = line.split_once('{').map_or("", |(_, labels)| labels);
        let known = ["state=", "reason=", "result=", "le=", ""];
        assert!(known.iter().any(|label| labels.starts_with(label)), "{line}");
    }
    // A bad file keeps the old configuration, and is counted.
    fs::write(&file, "contorl = []").unwrap();
    daemon.signal(Signal::HUP);
    until("it was read", || metric("edgesync_edge_config_reloads_total{result=\"error\"} 1"));
    fs::write(&file, "control = ['http://127.0.0.1:10']").unwrap();
    daemon.signal(Signal::HUP);
    until("it was read", || metric("edgesync_edge_config_reloads_total{result=\"ok\"} 1"));
    let (before, begin) = (tries(), Instant::now());
    until("it has tried again", || tries() > before + 1);
    assert!(begin.elapsed() < Duration::from_secs(5));
    daemon.signal(Signal::TERM);
    let output = daemon.output();
    let log = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{log}");
    assert!(log.contains("nearest known one is `control`"), "{log}");
    assert!(log.contains("http://127.0.0.1:10"), "{log}");
    assert!(!dir.path().join("edge.sock").exists());
}

#[test]
fn while_the_store_opens_the_page_answers_that_it_is_not_ready() {
    let (dir, address) = (tempfile::tempdir().unwrap(), free_address());
    fs::create_dir(dir.path().join("data")).unwrap();
    // The witness is read first: what cannot be read yet is waited for.
    let witness = dir.path().join("data/store.witness");
    assert!(Command::new("mkfifo").arg(&witness).status().unwrap().success());
    let mut daemon = Daemon::start(&mut command(dir.path(), address));
    let (line, body) = loop {
        match get(address, "/readyz") {
            Some(found) => break found,
            None => assert!(!daemon.has_ended(), "it has ended"),
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    assert!(line.contains("503") && body.contains("being opened"), "{line}: {body}");
    assert!(get(address, "/healthz").unwrap().0.contains("200"));
    assert!(get(address, "/metrics").unwrap().1.contains("edgesync_edge_quarantines_total"));
    drop(fs::OpenOptions::new().write(true).open(&witness).unwrap());
    until("it is ready", || get(address, "/readyz").is_some_and(|(line, _)| line.contains("200")));
    daemon.signal(Signal::TERM);
    assert!(daemon.output().status.success());
}

#[test]
fn what_is_wrong_is_one_line_and_a_code() {
    let (dir, address) = (tempfile::tempdir().unwrap(), free_address());
    let run = |extra: &[&str]| Daemon::start(command(dir.path(), address).args(extra)).output();
    refused(&run(&["--control", "https://cp:1"]), 64, &["tls.ca is not set"]);
    refused(&run(&["--config", "/nowhere.toml"]), 64, &["/nowhere.toml"]);
    assert_eq!(run(&["--no-such-flag"]).status.code(), Some(64));
    let taken = TcpListener::bind(address).unwrap();
    refused(&run(&[]), 1, &[&address.to_string(), "--metrics-listen"]);
    drop(taken);
    let example = concat!(env!("CARGO_MANIFEST_DIR"), "/../config/edgesyncd.toml");
    let checked = run(&["--config", example, "--check-config"]);
    assert!(checked.status.success());
    assert!(!dir.path().join("data/store").exists(), "nothing was changed");
}

#[test]
fn a_second_process_on_the_same_directory_is_refused_by_name() {
    let (dir, address) = (tempfile::tempdir().unwrap(), free_address());
    let first = Daemon::start(&mut command(dir.path(), address));
    until("it is ready", || get(address, "/readyz").is_some());
    let second = Daemon::start(&mut command(dir.path(), free_address()));
    refused(&second.output(), 1, &["in use by process", "--data-dir"]);
    drop(first);
    // Killed, its socket is left; the next one takes its place.
    let third = Daemon::start(&mut command(dir.path(), address));
    until("it is ready", || get(address, "/readyz").is_some());
    third.signal(Signal::TERM);
    assert!(third.output().status.success());
}
