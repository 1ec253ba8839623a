//! A control plane and its edges, and the operator's command that talks to them.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use serde_json::Value;
use tempfile::TempDir;

use crate::{Certs, Process, Proxy, eventually, output_of, program};

/// A control plane and some edges in one directory.
pub struct Stack {
    /// The control plane, unless the test has taken it.
    pub control: Option<Process>,
    /// The edges, unless the test has taken one.
    pub edges: Vec<Option<Process>>,
    dir: TempDir,
    control_address: SocketAddr,
    control_metrics: SocketAddr,
    edge_metrics: Vec<SocketAddr>,
    control_dir: PathBuf,
    edge_dirs: Vec<PathBuf>,
    /// Environment variables that the control plane is started with.
    pub control_environment: Vec<(&'static str, &'static str)>,
    /// Where each edge connects to.
    edge_urls: Vec<String>,
    /// Configuration file of the control plane, if it has one.
    pub control_config: Option<PathBuf>,
    /// File with the token of the operator's command, if it has one.
    pub token_file: Option<PathBuf>,
    /// Environment variables that edges are started with.
    pub edge_environment: Vec<(&'static str, &'static str)>,
    /// The certificates of all, if there is TLS.
    certs: Option<Certs>,
}

/// What came of a command.
#[derive(Debug)]
pub struct Ran {
    /// Its exit code.
    pub code: i32,
    /// What it printed.
    pub stdout: String,
    /// What it complained of.
    pub stderr: String,
}

impl Ran {
    /// Takes what was printed, if the command did what it was asked for.
    ///
    /// # Panics
    /// If it did not.
    #[must_use]
    pub fn good(self) -> String {
        assert_eq!(self.code, 0, "{}", self.stderr);
        self.stdout
    }

    /// The JSON that was printed.
    ///
    /// # Panics
    /// If the command failed, or printed something else.
    #[must_use]
    pub fn json(self) -> Value {
        serde_json::from_str(&self.good()).expect("JSON")
    }

    /// The one line of complaint of a command that failed with a code.
    ///
    /// # Panics
    /// If it did not fail so, or said more.
    #[must_use]
    pub fn refused(self, code: i32) -> String {
        assert_eq!(self.code, code, "{self:?}");
        assert_eq!(self.stderr.trim_end().lines().count(), 1, "one line: {}", self.stderr);
        self.stderr.trim_end().to_owned()
    }
}

fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a free port")
}

impl Stack {
    /// Starts a control plane and so many edges, which have registered when this returns.
    ///
    /// # Panics
    /// If they do not start.
    #[must_use]
    pub fn start(edges: usize) -> Self {
        let mut stack = Self::prepare(edges);
        stack.start_control();
        for number in 0..edges {
            stack.start_edge(number);
        }
        eventually("the edges register", || stack.fleet().len() >= edges);
        stack
    }

    /// A place for a control plane and so many edges, of which none runs yet.
    ///
    /// # Panics
    /// If there is no place for a directory.
    #[must_use]
    pub fn prepare(edges: usize) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let control_address = free_address();
        Self {
            control: None,
            edges: (0..edges).map(|_| None).collect(),
            control_address,
            control_metrics: free_address(),
            edge_metrics: (0..edges).map(|_| free_address()).collect(),
            control_dir: dir.path().join("control"),
            edge_dirs: (0..edges).map(|n| dir.path().join(format!("edge-{n}"))).collect(),
            control_environment: Vec::new(),
            control_config: None,
            token_file: None,
            edge_urls: vec![format!("http://{control_address}"); edges],
            edge_environment: Vec::new(),
            certs: None,
            dir,
        }
    }

    /// The same with TLS between all, access for an operator and for every edge, and nothing running yet.
    /// Everybody's certificates are in `certs()`: `control`, `edge-0`, `edge-1` and so on.
    ///
    /// # Panics
    /// If there is no place for a directory.
    #[must_use]
    pub fn secured(edges: usize) -> Self {
        let mut stack = Self::prepare(edges);
        stack.secure("");
        stack
    }

    /// Has all speak TLS, and the control plane keep access, with what else a policy says.
    ///
    /// # Panics
    /// If it cannot be written.
    pub fn secure(&mut self, policy: &str) {
        let edges = self.edges.len();
        let stack = self;
        let every_edge = "[[principal]]\nname = \"edge/*\"\n[[principal.grant]]\nrole = \"edge\"\nzones = [\".\"]\n";
        stack.keep_access(&(policy.to_owned() + every_edge));
        let certs = Certs::new(&stack.dir().join("certs"), "the CA of a test");
        certs.put("control", &certs.server());
        for number in 0..edges {
            certs.put(&format!("edge-{number}"), &certs.edge(&format!("edge-{number}")));
        }
        let [cert, key, ca, crl] =
            ["control.pem", "control.key", "ca.pem", "crl.pem"].map(|name| certs.file(name));
        let table = format!("[tls]\ncert = {cert:?}\nkey = {key:?}\nca = {ca:?}\ncrl = {crl:?}\n");
        let file = stack.control_config.as_ref().expect("access is kept");
        let text = std::fs::read_to_string(file).expect("it was written") + &table;
        std::fs::write(file, text).expect("it is written");
        stack.edge_urls.fill(format!("https://{}", stack.control_address));
        stack.certs = Some(certs);
    }

    /// The certificates of all.
    ///
    /// # Panics
    /// If there is no TLS.
    #[must_use]
    pub const fn certs(&self) -> &Certs {
        self.certs.as_ref().expect("the stack is secured")
    }

    /// Has the control plane keep access: with an operator whose token the command sends, and what else a
    /// policy says.
    ///
    /// # Panics
    /// If the files cannot be written.
    pub fn keep_access(&mut self, policy: &str) {
        let (token, file) = (self.dir().join("operator.token"), self.dir().join("policy.toml"));
        let made = self.run(&["access", "new-token", token.to_str().expect("UTF-8")]).good();
        let grant = |role| format!("[[principal.grant]]\nrole = \"{role}\"\nzones = [\".\"]\n");
        let (operator, admin) = (grant("operator"), grant("zone_admin"));
        let root =
            format!("[[principal]]\nname = \"root\"\n[[principal.token]]\n{made}{operator}{admin}");
        std::fs::write(&file, root + policy).expect("the policy is written");
        let config = self.dir().join("control.toml");
        std::fs::write(&config, format!("[access]\npolicy = {file:?}\n")).expect("it is written");
        (self.control_config, self.token_file) = (Some(config), Some(token));
    }

    /// Has the control plane keep its log elsewhere, such as on a disk that will fail.
    pub fn place_control(&mut self, dir: &Path) {
        // The disks of tests are small.
        self.control_environment.push(("EDGESYNC_CONTROL_LOG__MIN_FREE", "1MiB"));
        dir.clone_into(&mut self.control_dir);
    }

    /// Has an edge keep its store elsewhere.
    pub fn place_edge(&mut self, number: usize, dir: &Path) {
        // The disks of tests are small.
        self.edge_environment.push(("EDGESYNC_EDGE_STORE__MIN_FREE", "1MiB"));
        dir.clone_into(&mut self.edge_dirs[number]);
    }

    /// Has an edge reach the control plane by a proxy; needs a restart of an edge that runs.
    pub fn lead_edge(&mut self, number: usize, proxy: &Proxy) {
        self.edge_urls[number] = proxy.url();
    }

    /// Where the control plane listens.
    #[must_use]
    pub const fn control_address(&self) -> SocketAddr {
        self.control_address
    }

    /// Directory of the log.
    #[must_use]
    pub fn control_dir(&self) -> &Path {
        &self.control_dir
    }

    /// Directory of an edge's store.
    #[must_use]
    pub fn edge_dir(&self, number: usize) -> &Path {
        &self.edge_dirs[number]
    }

    /// The directory of everything.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// URL of the control plane.
    #[must_use]
    pub fn url(&self) -> String {
        let scheme = if self.certs.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.control_address)
    }

    /// Starts the control plane on the log that it had, and waits until it is ready.
    ///
    /// # Panics
    /// If it does not become so.
    pub fn start_control(&mut self) {
        self.begin_control(&[]);
        eventually("the control plane is ready", || self.control_page("/readyz").is_some());
    }

    /// Starts the control plane by way of another command, such as `strace -D …`, whose process
    /// becomes the control plane; does not wait for it.
    pub fn begin_control(&mut self, by: &[&str]) {
        let mut command = by_way_of(by, "edgesync-control");
        command.arg("--data-dir").arg(&self.control_dir);
        command.args(["--listen", &self.control_address.to_string()]);
        command.args(["--metrics-listen", &self.control_metrics.to_string()]);
        if self.certs.is_none() {
            command.arg("--insecure");
        }
        if let Some(file) = &self.control_config {
            command.arg("--config").arg(file);
        }
        command.envs(self.control_environment.iter().copied());
        self.control = Some(Process::start(&mut command, &self.dir().join("control.log")));
    }

    /// The control plane's process.
    ///
    /// # Panics
    /// If it was taken.
    #[must_use]
    pub fn control(&mut self) -> &mut Process {
        self.control.as_mut().expect("the control plane is there")
    }

    /// Starts an edge on the store that it had, and waits until it is ready.
    ///
    /// # Panics
    /// If it does not become so.
    pub fn start_edge(&mut self, number: usize) {
        self.begin_edge(number, &[]);
        eventually("the edge is ready", || self.edge_page(number, "/readyz").is_some());
    }

    /// Starts an edge by way of another command, such as `strace -D …`, whose process becomes the
    /// edge; does not wait for it.
    pub fn begin_edge(&mut self, number: usize, by: &[&str]) {
        let mut command = by_way_of(by, "edgesyncd");
        let id = format!("edge-{number}");
        command.args(["--edge-id", &id, "--control", &self.edge_urls[number]]);
        command.arg("--data-dir").arg(&self.edge_dirs[number]);
        command.arg("--socket").arg(self.socket(number));
        command.args(["--metrics-listen", &self.edge_metrics[number].to_string()]);
        command.envs(self.edge_environment.iter().copied());
        if let Some(certs) = &self.certs {
            let files = [("CERT", &*format!("{id}.pem")), ("KEY", &*format!("{id}.key"))];
            for (key, name) in files.into_iter().chain([("CA", "ca.pem"), ("CRL", "crl.pem")]) {
                command.env(format!("EDGESYNC_EDGE_TLS__{key}"), certs.file(name));
            }
        }
        let log = self.dir().join(format!("edge-{number}.log"));
        self.edges[number] = Some(Process::start(&mut command, &log));
    }

    /// An edge's process.
    ///
    /// # Panics
    /// If it was taken.
    #[must_use]
    pub fn edge(&mut self, number: usize) -> &mut Process {
        self.edges[number].as_mut().expect("the edge is there")
    }

    /// An edge's socket.
    #[must_use]
    pub fn socket(&self, number: usize) -> PathBuf {
        self.dir().join(format!("edge-{number}.sock"))
    }

    /// Runs `edgesync` against the control plane.
    #[must_use]
    pub fn run(&self, arguments: &[&str]) -> Ran {
        self.run_with(arguments, "")
    }

    /// Runs `edgesync` with an input.
    ///
    /// # Panics
    /// If it cannot be run.
    #[must_use]
    pub fn run_with(&self, arguments: &[&str], input: &str) -> Ran {
        let mut command = Command::new(program("edgesync"));
        command.args(arguments).env("EDGESYNC_CONTROL", self.url());
        // Not the login of who runs the tests.
        command.env("XDG_STATE_HOME", self.dir()).env_remove("EDGESYNC_TOKEN");
        if let Some(certs) = &self.certs {
            command.env("EDGESYNC_CA", certs.file("ca.pem"));
        }
        match &self.token_file {
            Some(file) => command.env("EDGESYNC_TOKEN_FILE", file),
            None => command.env_remove("EDGESYNC_TOKEN_FILE"),
        };
        let output = output_of(&mut command, input);
        Ran {
            code: output.status.code().expect("edgesync is not killed"),
            stdout: String::from_utf8(output.stdout).expect("UTF-8"),
            stderr: String::from_utf8(output.stderr).expect("UTF-8"),
        }
    }

    /// Runs `edgesync edge …` against an edge.
    #[must_use]
    pub fn run_edge(&self, number: usize, arguments: &[&str]) -> Ran {
        let socket = self.socket(number);
        let socket = socket.to_str().expect("UTF-8");
        self.run(&[&["edge"], arguments, &["--socket", socket]].concat())
    }

    /// The status of an edge, as JSON; none while it does not answer.
    #[must_use]
    pub fn edge_status(&self, number: usize) -> Option<Value> {
        let ran = self.run_edge(number, &["status", "--output", "json"]);
        serde_json::from_str(&ran.stdout).ok().filter(|_| ran.code == 0)
    }

    /// The edges of `edgesync fleet`.
    ///
    /// # Panics
    /// If the control plane does not answer.
    #[must_use]
    pub fn fleet(&self) -> Vec<Value> {
        let fleet = self.run(&["fleet", "--output", "json"]).json();
        fleet["edges"].as_array().cloned().unwrap_or_default()
    }

    /// Waits until the head is durable on every edge.
    ///
    /// # Panics
    /// If it does not become so.
    pub fn settle(&self) {
        let ran = self.run(&["wait", "--edges", "all", "--timeout", "60s"]);
        assert_eq!(ran.code, 0, "{}{}", ran.stdout, ran.stderr);
    }

    /// A page of the control plane's metrics port, if it answers 200.
    #[must_use]
    pub fn control_page(&self, path: &str) -> Option<String> {
        page(self.control_metrics, path)
    }

    /// A page of an edge's metrics port, if it answers 200.
    #[must_use]
    pub fn edge_page(&self, number: usize, path: &str) -> Option<String> {
        page(self.edge_metrics[number], path)
    }

    /// The value of a metric of the control plane, by the beginning of its line.
    #[must_use]
    pub fn control_metric(&self, name: &str) -> Option<f64> {
        metric(&self.control_page("/metrics")?, name)
    }

    /// The value of an edge's metric, by the beginning of its line.
    #[must_use]
    pub fn edge_metric(&self, number: usize, name: &str) -> Option<f64> {
        metric(&self.edge_page(number, "/metrics")?, name)
    }
}

fn metric(page: &str, name: &str) -> Option<f64> {
    let line = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?;
    line.parse().ok()
}

/// The command that starts a program, itself or by way of another.
fn by_way_of(by: &[&str], name: &str) -> Command {
    let Some((first, rest)) = by.split_first() else { return Command::new(program(name)) };
    let mut command = Command::new(first);
    command.args(rest).arg(program(name));
    command
}

/// Fetches a page as a program without an HTTP library would.
fn page(address: SocketAddr, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    head.starts_with("HTTP/1.1 200").then(|| body.to_owned())
}
