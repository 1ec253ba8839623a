//! The processes that are measured: the real edge daemon, or the empty stream.

use std::{
    fs::File,
    path::{Path, PathBuf},
    process::{Child, Command},
};

use crate::{Failure, source::Source};

/// What is measured, and where.
pub struct Bench {
    /// The edge daemon.
    pub edgesyncd: PathBuf,
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
    /// Resident memory, in octets.
    pub fn resident(&self) -> Result<u64, Failure> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.0.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|line| line.split_whitespace().next()).ok_or("no VmRSS")?;
        Ok(kib.parse::<u64>()? * 1_024)
    }
}

impl Bench {
    /// A fresh directory, removed when it is dropped.
    pub fn fresh(&self) -> Result<tempfile::TempDir, Failure> {
        Ok(tempfile::tempdir_in(&self.dir)?)
    }

    /// Starts an edge daemon on a store.
    pub fn edge(&self, dir: &Path, source: &Source) -> Result<Process, Failure> {
        let log = File::create(dir.join("edgesyncd.log"))?;
        let child = Command::new(&self.edgesyncd)
            .args(["--edge-id", "bench", "--metrics-listen", "127.0.0.1:0"])
            .args(["--control", &format!("http://{}", source.address)])
            .arg("--data-dir")
            .arg(dir.join("data"))
            .arg("--socket")
            .arg(dir.join("edge.sock"))
            .stderr(log)
            .spawn()
            .map_err(|e| {
                format!("{}: {e}; build it with `cargo build --release`", self.edgesyncd.display())
            })?;
        Ok(Process(child))
    }

    /// Starts an edge that acks at once.
    pub fn echo(&self, source: &Source) -> Result<Process, Failure> {
        let url = format!("http://{}", source.address);
        let child = Command::new(std::env::current_exe()?).args(["echo", &url]).spawn()?;
        Ok(Process(child))
    }
}
