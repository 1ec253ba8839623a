//! The program: its exit codes, its signals, and what it tells systemd.

use std::{
    fs,
    io::{BufRead, BufReader},
    os::unix::net::UnixDatagram,
    path::Path,
    process::{Child, Command, Output, Stdio},
    sync::mpsc::{Receiver, channel},
    time::{Duration, Instant},
};

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(20);
const PROGRAM: &str = env!("CARGO_BIN_EXE_edgesync-control");

fn command(dir: &Path) -> Command {
    let mut command = Command::new(PROGRAM);
    command.args(["--listen", "127.0.0.1:0", "--metrics-listen", "127.0.0.1:0", "--insecure"]);
    command.arg("--data-dir").arg(dir.join("data")).stderr(Stdio::piped());
    command
}

/// A program that does not outlive its test.
struct Program(Child, Receiver<String>);

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Program {
    fn start(command: &mut Command) -> Self {
        let mut child = command.spawn().unwrap();
        let log = BufReader::new(child.stderr.take().unwrap());
        let (lines, told) = channel();
        std::thread::spawn(move || {
            log.lines().map_while(Result::ok).try_for_each(|line| lines.send(line))
        });
        Self(child, told)
    }

    /// Reads the log up to a line that has a part.
    fn read_to(&mut self, part: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        while let Ok(line) = self.1.recv_timeout(deadline.saturating_duration_since(Instant::now()))
        {
            if line.contains(part) {
                return line;
            }
        }
        panic!("the log has no `{part}`");
    }

    fn signal(&self, name: &str) {
        let id = self.0.id().to_string();
        assert!(Command::new("kill").arg(format!("-{name}")).arg(id).status().unwrap().success());
    }

    fn wait(&mut self) -> Option<i32> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.0.try_wait().unwrap() {
                Some(status) => return status.code(),
                None => assert!(Instant::now() < deadline, "it does not end"),
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// Runs a command that ends at once; it is killed if it does not.
fn run(command: &mut Command) -> Output {
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = child.unwrap();
    // What it says is less than a pipe takes.
    let deadline = Instant::now() + PATIENCE;
    while child.try_wait().unwrap().is_none() {
        if Instant::now() > deadline {
            child.kill().unwrap();
            panic!("it does not end: {:?}", child.wait_with_output().unwrap());
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    child.wait_with_output().unwrap()
}

/// The one line of a program that ended at once.
fn refused(output: &Output, code: i32) -> String {
    let line = String::from_utf8(output.stderr.clone()).unwrap();
    assert_eq!(output.status.code(), Some(code), "{line}");
    assert_eq!(line.lines().count(), 1, "{line}");
    line
}

#[test]
fn it_serves_reloads_and_ends_as_systemd_wants_it() {
    let dir = tempfile::tempdir().unwrap();
    let socket = UnixDatagram::bind(dir.path().join("notify")).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let told = |wanted: &str| {
        let mut seen = Vec::new();
        loop {
            let mut buffer = [0; 1_024];
            let length =
                socket.recv(&mut buffer).unwrap_or_else(|e| panic!("{wanted}: {e} {seen:?}"));
            let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
            if text.contains(wanted) {
                return;
            }
            seen.push(text);
        }
    };
    let file = dir.path().join("control.toml");
    fs::write(&file, "").unwrap();
    let mut command = command(dir.path());
    command.arg("--config").arg(&file).env("NOTIFY_SOCKET", dir.path().join("notify"));
    command.env("WATCHDOG_USEC", "200000");
    let mut program = Program::start(&mut command);
    told("READY=1");
    told("STATUS=head 0; 0 of 0 edges current");
    told("WATCHDOG=1");

    fs::write(&file, "soa_serial = \"keep\"\n[log]\ncache = \"1MiB\"\n").unwrap();
    program.signal("HUP");
    told("RELOADING=1");
    told("READY=1");
    assert!(program.read_to("next start").contains("log"));
    program.read_to("configuration reloaded");
    fs::write(&file, "soa_seral = \"keep\"").unwrap();
    program.signal("HUP");
    assert!(program.read_to("not reloaded").contains("soa_serial"));

    program.signal("TERM");
    told("STOPPING=1");
    program.read_to("stopped");
    assert_eq!(program.wait(), Some(0));
}

#[test]
fn a_second_process_on_the_same_data_is_told_of_the_first() {
    let dir = tempfile::tempdir().unwrap();
    let mut first = Program::start(&mut command(dir.path()));
    first.read_to("serving");
    let line = refused(&run(&mut command(dir.path())), 1);
    assert!(line.contains(&dir.path().join("data").display().to_string()), "{line}");
    assert!(line.contains(&first.0.id().to_string()) && line.contains("--data-dir"), "{line}");
    first.signal("KILL");
    first.wait();
    let mut second = Program::start(&mut command(dir.path()));
    second.read_to("serving");
}

#[test]
fn a_wrong_call_or_configuration_has_a_code_of_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("control.toml");
    let check = |text: &str| {
        fs::write(&file, text).unwrap();
        run(command(dir.path()).arg("--config").arg(&file).arg("--check-config"))
    };
    for (text, part) in [
        ("listne = \"x\"", "`listen`"),
        ("[sessions]\nheartbeat = \"1 week\"", "heartbeat"),
        ("listen = ", "control.toml:1:"),
    ] {
        let line = refused(&check(text), 64);
        assert!(line.contains(part) && line.contains("control.toml"), "{line}");
    }
    assert_eq!(check("soa_serial = \"keep\"").status.code(), Some(0));
    let policy = dir.path().join("policy.toml");
    let access = format!("[access]\npolicy = {policy:?}");
    assert!(refused(&check(&access), 64).contains("policy.toml"), "it is not there");
    fs::write(&policy, "[[principal]]\nname = \"a\"\nrole = \"root\"").unwrap();
    assert!(refused(&check(&access), 64).contains("policy.toml: line 3: unknown field `role`"));
    fs::write(&policy, "[[principal]]\nname = \"a\"").unwrap();
    assert_eq!(check(&access).status.code(), Some(0));
    let line = refused(&run(command(dir.path()).arg("--config").arg("/nowhere")), 64);
    assert!(line.contains("/nowhere"), "{line}");
    let open = run(Command::new(PROGRAM).args(["--listen", "0.0.0.0:0", "--check-config"]));
    assert!(refused(&open, 64).contains("insecure = true"));
    let unknown = run(Command::new(PROGRAM).arg("--data-dri"));
    assert_eq!(unknown.status.code(), Some(64));
    let version = run(Command::new(PROGRAM).arg("--version"));
    assert_eq!(version.status.code(), Some(0));
    assert!(!dir.path().join("data").exists(), "nothing was begun");
}
