//! The demo's processes: found beside this one, or built by the cargo that runs it; ended with it.

use std::{
    env, fs,
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

use super::{PATIENCE, secure::Secure};
use crate::{connect::Server, failure::Failure};

/// How long a process has to drain.
const GRACE: Duration = Duration::from_secs(15);
/// Lines of a log that are shown when something fails.
const LOG_LINES: usize = 12;

/// The control plane and its edges.
pub struct Cluster {
    dir: Option<tempfile::TempDir>,
    root: PathBuf,
    programs: PathBuf,
    secure: Secure,
    control: Process,
    control_address: SocketAddr,
    edges: Vec<Option<Process>>,
}

/// A process that does not outlive its handle.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Process {
    fn start(command: &mut Command, log: &Path) -> Result<Self, Failure> {
        let file = |source| Failure::File { file: log.to_owned(), source };
        let log = fs::File::options().create(true).append(true).open(log).map_err(file)?;
        let program = PathBuf::from(command.get_program());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let child = command.spawn().map_err(|source| Failure::File { file: program, source })?;
        Ok(Self(child))
    }

    /// Asks it to stop, and waits.
    async fn stop(mut self) {
        let id = i32::try_from(self.0.id()).ok().and_then(Pid::from_raw);
        let _ = id.map(|id| kill_process(id, Signal::TERM));
        let deadline = Instant::now() + GRACE;
        while matches!(self.0.try_wait(), Ok(None)) && Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

impl Cluster {
    /// Starts everything.
    pub async fn start(programs: PathBuf, edges: u8, keep: bool) -> Result<Self, Failure> {
        let made = tempfile::Builder::new().prefix("edgesync-demo-").tempdir();
        let made = made.map_err(|source| Failure::File { file: env::temp_dir(), source })?;
        let root = made.path().to_owned();
        let dir = if keep {
            eprintln!("stores and logs stay in {}", made.keep().display());
            None
        } else {
            Some(made)
        };
        let secure = Secure::make(&root, edges)?;
        let control_address = free_address()?;
        let mut command = Command::new(programs.join("edgesync-control"));
        command.arg("--data-dir").arg(root.join("control"));
        command.args(["--listen", &control_address.to_string()]);
        command.args(["--metrics-listen", "127.0.0.1:0", "--config"]).arg(secure.config());
        let control = Process::start(&mut command, &root.join("control.log"))?;

        let mut cluster =
            Self { dir, root, programs, secure, control, control_address, edges: Vec::new() };
        cluster.control().await.inspect_err(|_| cluster.show_logs())?;
        for number in 0..usize::from(edges) {
            cluster.edges.push(None);
            cluster.start_edge(number)?;
        }
        Ok(cluster)
    }

    /// The control plane, once it answers.
    pub async fn control(&self) -> Result<Server, Failure> {
        let target = self.secure.target(format!("https://{}", self.control_address));
        until_there(|| Server::control(&target)).await
    }

    /// An edge, once it answers on its socket.
    pub async fn edge(&self, number: usize) -> Result<Server, Failure> {
        let socket = self.socket(number);
        until_there(|| Server::edge(&socket)).await
    }

    /// Number of edges.
    pub fn edges(&self) -> usize {
        self.edges.len()
    }

    fn socket(&self, number: usize) -> PathBuf {
        self.root.join(format!("edge-{number}.sock"))
    }

    /// Starts an edge on the store that it had, if it had one.
    pub fn start_edge(&mut self, number: usize) -> Result<(), Failure> {
        let mut command = Command::new(self.programs.join("edgesyncd"));
        command.args(["--edge-id", &format!("edge-{number}")]);
        command.arg("--data-dir").arg(self.root.join(format!("edge-{number}")));
        command.args(["--control", &format!("https://{}", self.control_address)]);
        let files = self.secure.files(&format!("edge-{number}"));
        command.env("EDGESYNC_EDGE_TLS__CERT", files.cert);
        command.env("EDGESYNC_EDGE_TLS__KEY", files.key).env("EDGESYNC_EDGE_TLS__CA", files.ca);
        command.args(["--metrics-listen", "127.0.0.1:0"]);
        command.arg("--socket").arg(self.socket(number));
        let log = self.root.join(format!("edge-{number}.log"));
        let process = Process::start(&mut command, &log)?;
        if let Some(place) = self.edges.get_mut(number) {
            *place = Some(process);
        }
        Ok(())
    }

    /// Kills an edge with SIGKILL.
    pub fn kill_edge(&mut self, number: usize) -> Result<(), Failure> {
        if let Some(Process(child)) = self.edges.get_mut(number).and_then(Option::as_mut) {
            let killed = child.kill().and_then(|()| child.wait());
            killed.map_err(|source| Failure::File { file: "edgesyncd".into(), source })?;
        }
        Ok(())
    }

    /// Stops everything in order.
    pub async fn stop(mut self) {
        for edge in self.edges.drain(..).flatten() {
            edge.stop().await;
        }
        self.control.stop().await;
        drop(self.dir);
    }

    /// Shows the ends of the logs.
    pub fn show_logs(&self) {
        let edges = (0..self.edges.len()).map(|number| format!("edge-{number}.log"));
        for name in std::iter::once("control.log".to_owned()).chain(edges) {
            let text = fs::read_to_string(self.root.join(&name)).unwrap_or_default();
            let lines: Vec<_> = text.lines().collect();
            let last = lines.len().saturating_sub(LOG_LINES);
            lines.iter().skip(last).for_each(|line| eprintln!("{name}: {line}"));
        }
    }
}

/// Tries until something answers.
async fn until_there<F: Future<Output = Result<Server, Failure>>>(
    connect: impl Fn() -> F,
) -> Result<Server, Failure> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match connect().await {
            Err(_) if Instant::now() < deadline => {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            answer => return answer,
        }
    }
}

/// The folder that has the daemons: this program's own. Under `cargo run`, which builds this program
/// alone, they are built first.
pub fn programs() -> Result<PathBuf, Failure> {
    let own =
        env::current_exe().map_err(|source| Failure::File { file: "edgesync".into(), source })?;
    let folder = own.parent().map(Path::to_owned).unwrap_or_default();
    // `cargo run` tells where the package is now, which a moved checkout's binary would not know.
    let package = env::var_os("CARGO_MANIFEST_DIR");
    if let (Some(cargo), Some(package)) = (env::var_os("CARGO"), package) {
        eprintln!("building edgesync-control and edgesyncd, unless they are there");
        let mut build = Command::new(cargo);
        build.args(["build", "--quiet", "-p", "edgesync-control", "-p", "edgesync-daemon"]);
        build.args(["--bins", "--locked"]);
        if folder.ends_with("release") {
            build.arg("--release");
        }
        build.current_dir(package);
        let built = build.status().is_ok_and(|status| status.success());
        if !built {
            return Err(Failure::Usage("cargo could not build the daemons".to_owned()));
        }
    }
    for name in ["edgesync-control", "edgesyncd"] {
        if !folder.join(name).is_file() {
            let folder = folder.display();
            return Err(Failure::Usage(format!(
                "there is no {name} in {folder}: install it beside edgesync, or run `cargo build --release`"
            )));
        }
    }
    Ok(folder)
}

/// An address of loopback that is free now.
fn free_address() -> Result<SocketAddr, Failure> {
    let listener = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
    listener.map_err(|source| Failure::File { file: "127.0.0.1".into(), source })
}
