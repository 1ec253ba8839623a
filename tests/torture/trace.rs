//! A daemon under strace, and its kill right after its Nth system call on its own files. strace's
//! `signal=KILL:when=N` counts for each thread alone, and sled writes from a pool of threads: so each
//! of these calls is followed by a pause, strace's lines are counted here, and the kill comes within
//! the pause.

use std::{
    collections::BTreeMap,
    fmt,
    fs::File,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    },
    thread::JoinHandle,
};

use edgesync_tests::{have, not_checked};

/// What changes files or their names, or opens them.
const CALLS: &str = "write,pwrite64,openat,rename,unlink,rmdir,mkdir,fdatasync,ftruncate,fallocate,\
                     fsync,sync_file_range";
/// Microseconds of the pause after each of them.
const PAUSE: &str = "2000";

/// True if strace is there and may trace; says so if not.
pub fn can_trace() -> bool {
    if !have("strace") {
        return false;
    }
    let mut probe = Command::new("strace");
    probe.args(["-qq", "-o", "/dev/null", "-e", "inject=sync:error=EIO", "true"]);
    probe.stdout(Stdio::null()).stderr(Stdio::null());
    let may = probe.status().is_ok_and(|status| status.success());
    if !may {
        not_checked("strace may not trace here (ptrace)");
    }
    may
}

/// Counts what a daemon does, and kills it in time.
pub struct Tracer {
    kill_at: u64,
    fifo: PathBuf,
    calls: String,
    inject: String,
    pid: Arc<AtomicU32>,
    killed: Arc<AtomicBool>,
    count: Arc<AtomicU64>,
    thread: Option<JoinHandle<String>>,
}

impl Tracer {
    /// A tracer of the calls on what is in `files`; it kills after the `kill_at`th. Its own file is
    /// in `place`.
    pub fn new(place: &Path, files: &Path, kill_at: u64) -> Self {
        let fifo = place.join("trace");
        let _ = std::fs::remove_file(&fifo);
        assert!(Command::new("mkfifo").arg(&fifo).status().expect("mkfifo").success());
        let pid = Arc::new(AtomicU32::new(0));
        let (killed, count) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let mut watch = Watch {
            files: files.to_str().expect("UTF-8").to_owned(),
            kill_at,
            pid: Arc::clone(&pid),
            killed: Arc::clone(&killed),
            count: Arc::clone(&count),
            begun: BTreeMap::new(),
            last: String::new(),
        };
        let path = fifo.clone();
        let thread = std::thread::spawn(move || {
            let trace = BufReader::new(File::open(path).expect("the trace"));
            for line in trace.lines().map_while(Result::ok) {
                watch.line(&line);
            }
            watch.last
        });
        let calls = format!("trace={CALLS}");
        let inject = format!("inject={CALLS}:delay_exit={PAUSE}");
        Self { kill_at, fifo, calls, inject, pid, killed, count, thread: Some(thread) }
    }

    /// The command by way of which the daemon is started; strace is not its parent.
    pub fn command(&self) -> [&str; 10] {
        let fifo = self.fifo.to_str().expect("UTF-8");
        ["strace", "-D", "-f", "-y", "-e", &self.calls, "-e", &self.inject, "-o", fifo]
    }

    /// The daemon's process.
    pub fn set_process(&self, pid: u32) {
        self.pid.store(pid, Ordering::SeqCst);
    }

    /// True if the daemon has been killed.
    pub fn has_killed(&self) -> bool {
        self.killed.load(Ordering::SeqCst)
    }

    /// After the daemon's end: what it has done.
    pub fn finish(mut self) -> Run {
        let last = self.thread.take().expect("it runs").join().expect("the tracer has panicked");
        let (calls, killed) = (self.count.load(Ordering::SeqCst), self.has_killed());
        Run { kill_at: self.kill_at, calls, killed, last }
    }
}

/// One life of a daemon.
#[derive(Debug)]
pub struct Run {
    /// After which call it was to be killed.
    kill_at: u64,
    /// Calls that came back.
    pub calls: u64,
    /// Whether it was killed.
    pub killed: bool,
    /// The last call before the kill.
    last: String,
}

impl Run {
    /// True if no other call had come back when the kill came: the pause was long enough.
    pub const fn is_right_after(&self) -> bool {
        self.killed && self.calls == self.kill_at
    }
}

impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kill_at, calls, last, .. } = self;
        match self.killed {
            true if self.is_right_after() => write!(f, "killed after {kill_at}: {last}"),
            true => write!(f, "killed {} calls too late after {kill_at}: {last}", calls - kill_at),
            false => write!(f, "not killed, {calls} calls: {last}"),
        }
    }
}

struct Watch {
    files: String,
    kill_at: u64,
    pid: Arc<AtomicU32>,
    killed: Arc<AtomicBool>,
    count: Arc<AtomicU64>,
    /// Calls that have not come back, by thread.
    begun: BTreeMap<String, String>,
    last: String,
}

impl Watch {
    fn line(&mut self, line: &str) {
        let Some((thread, call)) = line.split_once(' ') else { return };
        let call = call.trim_start();
        if call.ends_with("<unfinished ...>") {
            self.begun.insert(thread.to_owned(), call.to_owned());
            return;
        }
        let whole = match call.starts_with("<... ") {
            true => self.begun.remove(thread).unwrap_or_default() + call,
            false => call.to_owned(),
        };
        let ours = whole.split(&*self.files).skip(1).any(|rest| rest.starts_with(['/', '>', '"']));
        if !ours || whole.contains(" = ?") {
            return;
        }
        let count = self.count.fetch_add(1, Ordering::SeqCst) + 1;
        if count <= self.kill_at {
            self.last = whole.replace(&self.files, "").chars().take(90).collect();
        }
        if count == self.kill_at {
            self.kill();
        }
    }

    fn kill(&self) {
        let pid = loop {
            match self.pid.load(Ordering::SeqCst) {
                0 => std::thread::yield_now(),
                pid => break pid,
            }
        };
        let pid = rustix::process::Pid::from_raw(i32::try_from(pid).expect("a process id"));
        let signal = rustix::process::Signal::KILL;
        rustix::process::kill_process(pid.expect("a process id"), signal).expect("SIGKILL");
        self.killed.store(true, Ordering::SeqCst);
    }
}
