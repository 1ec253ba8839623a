//! A process that does not outlive its handle.

use std::{
    fs::{self, File},
    io::{Read, Write},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output, Stdio},
    thread::JoinHandle,
    time::{Duration, Instant},
};

/// How long anything may take before a test gives up on it.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long a command may take that is run to its end.
const COMMAND: Duration = Duration::from_secs(300);

/// Asks until the answer is yes.
///
/// # Panics
/// If it does not become so in a minute; `what` names it.
pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Runs a command to its end with an input: what it printed.
///
/// # Panics
/// If it cannot be run, or has not ended in five minutes: then it is killed.
pub fn output_of(command: &mut Command, input: &str) -> Output {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let name = format!("{command:?}");
    let mut child = command.spawn().unwrap_or_else(|e| panic!("{name}: {e}"));
    let (mut stdin, input) = (child.stdin.take().expect("a pipe"), input.to_owned());
    let feed = std::thread::spawn(move || stdin.write_all(input.as_bytes()));
    let stdout = read_all(child.stdout.take().expect("a pipe"));
    let stderr = read_all(child.stderr.take().expect("a pipe"));
    let deadline = Instant::now() + COMMAND;
    let status = loop {
        match child.try_wait().expect("it can be waited for") {
            Some(status) => break status,
            None if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(2)),
            None => {
                let _ = child.kill().and_then(|()| child.wait().map(drop));
                let said = stderr.join().unwrap_or_default();
                let said = String::from_utf8_lossy(&said);
                panic!("not ended within {COMMAND:?}: {name}: {said}");
            }
        }
    };
    // A command that wants no input may close its end before it is written.
    let _ = feed.join();
    let [stdout, stderr] = [stdout, stderr].map(|pipe| pipe.join().expect("a pipe is read"));
    Output { status, stdout, stderr }
}

fn read_all(mut pipe: impl Read + Send + 'static) -> JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut octets = Vec::new();
        pipe.read_to_end(&mut octets).expect("a pipe can be read");
        octets
    })
}

/// A running process, with its log.
pub struct Process {
    child: Child,
    log: PathBuf,
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- {}\n{}", self.log.display(), self.log_text());
        }
    }
}

impl Process {
    /// Starts a command whose stderr goes to a log, after what is there.
    ///
    /// # Panics
    /// If it cannot be started.
    #[must_use]
    pub fn start(command: &mut Command, log: &Path) -> Self {
        let file = File::options().create(true).append(true).open(log).expect("a log file");
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(file).spawn();
        let child = child.unwrap_or_else(|e| panic!("{}: {e}", command.get_program().display()));
        Self { child, log: log.to_owned() }
    }

    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Kills it with SIGKILL.
    ///
    /// # Panics
    /// If that is not possible.
    pub fn kill(&mut self) {
        self.child.kill().expect("SIGKILL can be sent");
        self.child.wait().expect("it ends");
    }

    /// Sends a signal by its name, such as `TERM`.
    ///
    /// # Panics
    /// If that is not possible.
    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill").arg(format!("-{name}")).arg(self.id().to_string()).status();
        assert!(sent.expect("kill runs").success(), "SIG{name} can be sent");
    }

    /// True if it has ended.
    ///
    /// # Panics
    /// If that cannot be known.
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("it can be waited for").is_some()
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// If it does not end in a minute.
    pub fn wait(&mut self) -> ExitStatus {
        let mut status = None;
        eventually("the process ends", || {
            status = self.child.try_wait().expect("it can be waited for");
            status.is_some()
        });
        status.expect("it has ended")
    }

    /// Asks it to stop, and waits.
    ///
    /// # Panics
    /// If it does not end in a minute.
    pub fn stop(&mut self) -> ExitStatus {
        self.signal("TERM");
        self.wait()
    }

    /// What it has logged.
    #[must_use]
    pub fn log_text(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }
}
