//! The processes that are measured: the real edge daemon, or the empty stream.

use std::{
    fs::File,
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command},
    time::Duration,
};

use crate::{Failure, source::Source};

/// What is measured, and where.
pub struct Bench {
    /// The edge daemon.
    pub edgesyncd: PathBuf,
    /// The control plane.
    pub control: PathBuf,
    /// Where stores are made.
    pub dir: PathBuf,
    /// Runs of each.
    pub runs: usize,
}

/// A process that is ended with its handle.
pub struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Process {
    /// Starts a command.
    pub fn spawn(command: &mut Command) -> Result<Self, Failure> {
        let name = command.get_program().display().to_string();
        let build = "build it with `cargo build --release --workspace`";
        Ok(Self(command.spawn().map_err(|error| format!("{name}: {error}; {build}"))?))
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.0.id()
    }

    /// What it prints, if that was to be read.
    pub fn stdout(&mut self) -> Result<ChildStdout, Failure> {
        self.0.stdout.take().ok_or_else(|| "its output is not to be read".into())
    }

    /// Sends it a signal by its name.
    pub fn signal(&self, name: &str) -> Result<(), Failure> {
        let pid = self.id().to_string();
        let sent = Command::new("kill").arg(format!("-{name}")).arg(pid).status()?;
        if sent.success() { Ok(()) } else { Err(format!("SIG{name} cannot be sent").into()) }
    }

    /// Processor time that it has had, itself and the kernel for it.
    pub fn cpu(&self) -> Result<Duration, Failure> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.0.id()))?;
        // Behind the name, which may have spaces: state is the third field, utime the 14th.
        let (_, fields) = stat.rsplit_once(')').ok_or("no stat")?;
        let ticks = fields.split_whitespace().skip(11).take(2).map(str::parse::<u64>);
        let ticks = ticks.sum::<Result<u64, _>>()?;
        Ok(Duration::from_millis(ticks * 10))
    }

    /// The most memory that was ever resident, in octets.
    pub fn peak(&self) -> Result<u64, Failure> {
        self.octets("VmHWM:")
    }

    /// Resident memory, in octets.
    pub fn resident(&self) -> Result<u64, Failure> {
        self.octets("VmRSS:")
    }

    fn octets(&self, name: &str) -> Result<u64, Failure> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.0.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let kib = line.and_then(|line| line.split_whitespace().next()).ok_or("no such line")?;
        Ok(kib.parse::<u64>()? * 1_024)
    }
}

impl Bench {
    /// A fresh directory, removed when it is dropped.
    pub fn fresh(&self) -> Result<tempfile::TempDir, Failure> {
        Ok(tempfile::tempdir_in(&self.dir)?)
    }

    /// Starts an edge daemon on a store, connected to a source.
    pub fn edge(&self, dir: &Path, source: &Source) -> Result<Process, Failure> {
        self.daemon(dir, "bench", &format!("http://{}", source.address))
    }

    /// Starts an edge daemon on a store.
    pub fn daemon(&self, dir: &Path, id: &str, control: &str) -> Result<Process, Failure> {
        let log = File::create(dir.join("edgesyncd.log"))?;
        let mut command = Command::new(&self.edgesyncd);
        command.args(["--edge-id", id, "--metrics-listen", "127.0.0.1:0", "--control", control]);
        command.arg("--data-dir").arg(dir.join("data"));
        command.arg("--socket").arg(dir.join("edge.sock"));
        Process::spawn(command.stderr(log))
    }

    /// Starts an edge that acks at once.
    pub fn echo(&self, source: &Source) -> Result<Process, Failure> {
        let url = format!("http://{}", source.address);
        let child = Command::new(std::env::current_exe()?).args(["echo", &url]).spawn()?;
        Ok(Process(child))
    }
}
