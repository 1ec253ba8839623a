//! Bad input: one line that names the thing and the way out, a non-zero exit, and nothing changed.

use std::{fs, process::Command};

use edgesync_tests::{Ran, Stack, output_of, program};

fn stack_with_zone() -> Stack {
    let stack = Stack::start(0);
    let _ = stack.run(&["zone", "create", "example.com", "--ns", "ns1.example.com."]).good();
    stack
}

#[test]
fn wrong_records_are_refused_and_nothing_is_changed() {
    let stack = stack_with_zone();
    let _ = stack.run(&["record", "create", "example.com", "www", "A", "300", "192.0.2.1"]).good();
    let before = stack.run(&["zone", "export", "example.com"]).good();
    let create = |words: &[&str]| stack.run(&[&["record", "create"], words].concat());
    for (words, names) in [
        (vec!["example.com", "www.example.net.", "A", "300", "192.0.2.1"], "outside the zone"),
        (vec!["example.com", "www", "CNAME", "300", "ns1"], "CNAME"),
        (vec!["example.com", "www", "A", "300", "192.0.2.300"], "192.0.2.300"),
        (vec!["example.com", "www", "A", "60", "192.0.2.2"], "TTL"),
        (vec!["example.com", "www", "A", "300", "192.0.2.1"], "already"),
        (vec!["example.com", "www", "NOTYPE", "300", "x"], "NOTYPE"),
        (vec!["example.com", "a..b", "A", "300", "192.0.2.1"], "a..b"),
        (vec!["example.com", "x", "A", "3000000000", "192.0.2.1"], "3000000000"),
        (vec!["example.net", "x", "A", "300", "192.0.2.1"], "example.net"),
    ] {
        let line = create(&words).refused(1);
        assert!(line.contains(names), "{words:?}: {line}");
    }
    let long = "a".repeat(200);
    let words: Vec<_> = std::iter::repeat_n(long.as_str(), 400).collect();
    let line = create(&[&["example.com", "x", "TXT", "300"], words.as_slice()].concat()).refused(1);
    assert!(line.contains("too long"), "{line}");
    assert_eq!(stack.run(&["zone", "export", "example.com"]).good(), before);
}

#[test]
fn an_unreadable_zone_file_is_told_by_line_and_column() {
    let stack = stack_with_zone();
    let before = stack.run(&["zone", "export", "example.com"]).good();
    let file = stack.dir().join("bad.zone");
    let text = "$TTL 300\n@ SOA ns1 hostmaster 9 1 2 3 4\n@ NS ns1\nwww A 192.0.2\n";
    fs::write(&file, text).unwrap();
    let file = file.to_str().unwrap();
    let line = stack.run(&["zone", "import", file, "--origin", "example.com"]).refused(1);
    assert!(line.starts_with(&format!("{file}:4:")), "{line}");
    let strays = "$TTL 300\n@ SOA ns1 hostmaster 9 1 2 3 4\nwww.example.net. A 192.0.2.1\n";
    let ran = stack.run_with(&["zone", "import", "-", "--origin", "example.com"], strays);
    assert!(ran.refused(1).contains("outside the zone"));
    assert_eq!(stack.run(&["zone", "export", "example.com"]).good(), before);
}

#[test]
fn a_refused_block_of_a_change_file_is_told_by_its_line_and_the_rest_is_not_applied() {
    let stack = stack_with_zone();
    let file = stack.dir().join("changes.txt");
    let text = "; serial 1\n+ a.example.com. 60 IN A 192.0.2.1\n; serial 2\n+ b.example.com. 60 IN A 192.0.2.2\n\
                - never.example.com. 60 IN A 192.0.2.3\n; serial 3\n+ c.example.com. 60 IN A 192.0.2.4\n";
    fs::write(&file, text).unwrap();
    let file = file.to_str().unwrap();
    let ran = stack.run(&["apply", file, "--origin", "example.com"]);
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(ran.stderr.contains(&format!("{file}:5:")), "{}", ran.stderr);
    let text = stack.run(&["zone", "export", "example.com"]).good();
    assert!(
        text.contains("a.example.com.")
            && !text.contains("b.example.com.")
            && !text.contains("c.example.com.")
    );
}

/// Runs a daemon that has to refuse to start.
fn start(name: &str, arguments: &[&str]) -> Ran {
    let output = output_of(Command::new(program(name)).args(arguments), "");
    Ran {
        code: output.status.code().unwrap(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// The last line of a refusal to start; what was logged before it is not looked at.
fn last_line(ran: &Ran) -> &str {
    assert!(ran.code != 0, "{ran:?}");
    ran.stderr.trim_end().lines().last().unwrap_or_default()
}

#[test]
fn a_daemon_that_cannot_start_says_why_in_one_line() {
    let stack = Stack::start(1);
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let listen = stack.url().trim_start_matches("http://").to_owned();
    let control = |data: &str, listen: &str| {
        let words = ["--data-dir", data, "--listen", listen, "--metrics-listen", "127.0.0.1:0"];
        start("edgesync-control", &[&words[..], &["--insecure"]].concat())
    };
    let edge = |data: &str, socket: &str| {
        let words = [
            "--edge-id",
            "x",
            "--control",
            "http://127.0.0.1:1",
            "--metrics-listen",
            "127.0.0.1:0",
        ];
        start("edgesyncd", &[&words[..], &["--data-dir", data, "--socket", socket]].concat())
    };

    let in_use = control(&path("a"), &listen);
    assert!(last_line(&in_use).contains(&listen), "{in_use:?}");
    let data = stack.dir().join("control");
    let locked = control(data.to_str().unwrap(), "127.0.0.1:0");
    assert!(last_line(&locked).contains(data.to_str().unwrap()), "{locked:?}");
    let data = stack.dir().join("edge-0");
    let locked = edge(data.to_str().unwrap(), &path("s"));
    assert!(last_line(&locked).contains(data.to_str().unwrap()), "{locked:?}");

    fs::create_dir(path("foreign")).unwrap();
    fs::write(path("foreign") + "/log.redb", vec![7; 40_000]).unwrap();
    let foreign = control(&path("foreign"), "127.0.0.1:0");
    assert!(last_line(&foreign).contains("log.redb"), "{foreign:?}");

    for (name, key, near) in
        [("edgesync-control", "listne", "listen"), ("edgesyncd", "edge_idd", "edge_id")]
    {
        let file = path("config.toml");
        fs::write(&file, format!("{key} = \"x\"\n")).unwrap();
        let unknown = start(name, &["--config", &file, "--check-config"]);
        let line = last_line(&unknown);
        assert!(line.contains(key) && line.contains(near) && line.contains(&file), "{line}");
    }
}
