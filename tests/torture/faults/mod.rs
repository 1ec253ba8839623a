//! F-09, F-10, F-12 to F-16, F-18 to F-20: what the machine under the real daemons can do to them.

mod full;
mod host;
mod io;
mod slow;

use std::{
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use edgesync_tests::{Process, eventually};

/// A strace that is attached to a daemon, and injects a fault into it.
struct Injected {
    strace: Process,
    trace: PathBuf,
}

impl Injected {
    /// Attaches to a process. `fault` is an injection in strace's words.
    fn into(pid: u32, calls: &str, fault: &str, place: &Path) -> Self {
        Self::into_files(pid, &[], calls, fault, place)
    }

    /// The same, for calls on some files alone.
    fn into_files(pid: u32, files: &[PathBuf], calls: &str, fault: &str, place: &Path) -> Self {
        let trace = place.join(format!("trace-{pid}"));
        let mut command = Command::new("strace");
        command.args(["-f", "-y", "-p", &pid.to_string(), "-o"]).arg(&trace);
        command.args(["-e", &format!("trace={calls}"), "-e", &format!("inject={fault}")]);
        command.args(files.iter().flat_map(|file| [OsStr::new("-P"), file.as_os_str()]));
        let strace = Process::start(&mut command, &place.join("strace.log"));
        let tasks = format!("/proc/{pid}/task");
        eventually("strace is attached", || {
            fs::read_dir(&tasks).expect("its threads").filter_map(Result::ok).all(|task| {
                let status = fs::read_to_string(task.path().join("status")).unwrap_or_default();
                !status.contains("TracerPid:\t0\n")
            })
        });
        Self { strace, trace }
    }

    /// Detaches, if the daemon is still there; the trace.
    fn end(mut self) -> String {
        self.strace.stop();
        fs::read_to_string(&self.trace).expect("the trace")
    }
}
