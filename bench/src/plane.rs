//! A real control plane as a process of its own, and what the kernel says of it.

use std::{
    fs::File,
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    path::PathBuf,
    process::Command,
    time::{Duration, Instant},
};

use crate::{
    Failure,
    edge::{Bench, Process},
};

/// How long it may take to become ready.
const READY: Duration = Duration::from_secs(120);

/// A control plane, and where it keeps its log.
pub struct Plane {
    program: PathBuf,
    dir: tempfile::TempDir,
    listen: SocketAddr,
    metrics: SocketAddr,
    environment: Vec<(String, String)>,
    process: Option<Process>,
}

fn free_address() -> Result<SocketAddr, Failure> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

impl Plane {
    /// Starts one on an empty log.
    pub fn start(bench: &Bench, environment: &[(&str, String)]) -> Result<Self, Failure> {
        let environment = environment
            .iter()
            .map(|(key, value)| (format!("EDGESYNC_CONTROL_{key}"), value.clone()));
        let mut plane = Self {
            program: bench.control.clone(),
            dir: bench.fresh()?,
            listen: free_address()?,
            metrics: free_address()?,
            environment: environment.collect(),
            process: None,
        };
        plane.restart()?;
        Ok(plane)
    }

    /// Starts it on the log that it had, and waits until it is ready.
    pub fn restart(&mut self) -> Result<(), Failure> {
        let log =
            File::options().create(true).append(true).open(self.dir.path().join("log.txt"))?;
        let mut command = Command::new(&self.program);
        command.arg("--data-dir").arg(self.dir.path().join("data"));
        command.args(["--listen", &self.listen.to_string()]);
        command.args(["--metrics-listen", &self.metrics.to_string(), "--insecure"]);
        command.envs(self.environment.iter().map(|(key, value)| (key, value)));
        self.process = Some(Process::spawn(command.stderr(log))?);
        let started = Instant::now();
        while page(self.metrics, "/readyz").is_none() {
            if started.elapsed() > READY {
                return Err("the control plane does not become ready".into());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    /// Ends it as a crash does.
    pub fn kill(&mut self) {
        self.process = None;
    }

    /// Its process.
    pub fn process(&self) -> Result<&Process, Failure> {
        self.process.as_ref().ok_or_else(|| "the control plane does not run".into())
    }

    /// Its URL.
    pub fn url(&self) -> String {
        format!("http://{}", self.listen)
    }

    /// Where it listens.
    pub const fn address(&self) -> SocketAddr {
        self.listen
    }

    /// The value of a metric, by the beginning of its line; 0 if it is not there.
    pub fn metric(&self, name: &str) -> f64 {
        let page = page(self.metrics, "/metrics").unwrap_or_default();
        let line = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.and_then(|value| value.parse().ok()).unwrap_or(0.0)
    }
}

fn page(address: SocketAddr, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(10))).ok()?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    head.starts_with("HTTP/1.1 200").then(|| body.to_owned())
}
