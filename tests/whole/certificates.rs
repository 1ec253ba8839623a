//! `edgesync pki`, judged by openssl: a verifier that has nothing of ours.

use std::{
    fs,
    process::{Command, Stdio},
};

use edgesync_tests::{have, program};
use tempfile::TempDir;

/// An authority's directory.
struct Pki(TempDir);

/// What openssl says of a certificate: whether it is good, and what it printed.
struct Said(bool, String);

impl Pki {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).to_str().unwrap().to_owned()
    }

    /// Runs `edgesync pki` in the directory; gives its exit code, stdout and stderr.
    fn run(&self, words: &[&str]) -> (i32, String, String) {
        let mut command = Command::new(program("edgesync"));
        command.arg("pki").args(words).args(["--dir", "."]).current_dir(self.0.path());
        let output = command.output().unwrap();
        let text = |octets| String::from_utf8(octets).unwrap();
        (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
    }

    fn good(&self, words: &[&str]) -> String {
        let (code, stdout, stderr) = self.run(words);
        assert_eq!((code, &*stderr), (0, ""), "{words:?}");
        stdout
    }

    fn verify(&self, certificate: &str, options: &[&str]) -> Said {
        let (ca, file) = (self.path("ca.pem"), self.path(certificate));
        let words = ["verify", "-x509_strict", "-CAfile", &ca];
        openssl(&[&words[..], options, &[&file]].concat())
    }
}

fn openssl(words: &[&str]) -> Said {
    let output = Command::new("openssl").args(words).output().unwrap();
    let text = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap()).concat();
    Said(output.status.success(), text)
}

/// What a key's file has between its first and last line.
fn secret_lines(path: &str) -> Vec<String> {
    let text = fs::read_to_string(path).unwrap();
    text.lines().filter(|line| !line.starts_with("---")).map(str::to_owned).collect()
}

#[test]
fn certificates_verify_for_their_purpose_and_no_other() {
    if !have("openssl") {
        return;
    }
    let pki = Pki::new();
    let _ = pki.good(&["init", "--name", "Edgesync CA of the test"]);
    let _ = pki.good(&["issue", "server", "control.example", "127.0.0.1", "2001:db8::1"]);
    let _ = pki.good(&["issue", "edge", "fra-1"]);
    let _ = pki.good(&["issue", "client", "deploy"]);
    for (file, purpose, good) in [
        ("control.example.pem", "sslserver", true),
        ("control.example.pem", "sslclient", false),
        ("fra-1.pem", "sslclient", true),
        ("fra-1.pem", "sslserver", false),
        ("deploy.pem", "sslclient", true),
        ("deploy.pem", "sslserver", false),
    ] {
        let Said(verified, text) = pki.verify(file, &["-purpose", purpose]);
        assert_eq!(verified, good, "{file} {purpose}: {text}");
    }
    for (name, good) in
        [("control.example", true), ("other.example", false), ("x.control.example", false)]
    {
        let Said(verified, text) = pki.verify("control.example.pem", &["-verify_hostname", name]);
        assert_eq!(verified, good, "{name}: {text}");
    }
    for (address, good) in [("127.0.0.1", true), ("2001:db8::1", true), ("127.0.0.2", false)] {
        let Said(verified, text) = pki.verify("control.example.pem", &["-verify_ip", address]);
        assert_eq!(verified, good, "{address}: {text}");
    }
    let Said(_, text) = openssl(&["x509", "-noout", "-text", "-in", &pki.path("ca.pem")]);
    for part in ["CA:TRUE, pathlen:0", "Certificate Sign, CRL Sign", "Edgesync CA of the test"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let Said(_, text) = openssl(&["x509", "-noout", "-text", "-in", &pki.path("fra-1.pem")]);
    for part in ["URI:spiffe://edgesync/edge/fra-1", "CA:FALSE", "prime256v1"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    // No edge can issue for another: what it signs is nobody's.
    let other = Pki::new();
    let _ = other.good(&["init"]);
    let _ = other.good(&["issue", "edge", "fra-1"]);
    let theirs = other.path("fra-1.pem");
    let Said(verified, _) = openssl(&["verify", "-CAfile", &pki.path("ca.pem"), &theirs]);
    assert!(!verified, "another authority's certificate is none of ours");
}

#[test]
fn a_certificate_is_good_from_a_little_before_it_was_made_until_its_end() {
    if !have("openssl") {
        return;
    }
    let pki = Pki::new();
    let _ = pki.good(&["init", "--days", "30"]);
    let _ = pki.good(&["issue", "edge", "a", "--days", "2"]);
    let _ = pki.good(&["issue", "edge", "b", "--days", "90"]);
    let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs();
    let day = 86_400;
    for (file, at, good) in [
        ("a.pem", now - 200, true),
        ("a.pem", now - 400, false),
        ("a.pem", now + 2 * day - 60, true),
        ("a.pem", now + 2 * day + 60, false),
        ("b.pem", now + 30 * day - 60, true),
        ("b.pem", now + 30 * day + 60, false),
    ] {
        let Said(verified, text) = pki.verify(file, &["-attime", &at.to_string()]);
        assert_eq!(verified, good, "{file} at {at}, now {now}: {text}");
    }
}

#[test]
fn a_revoked_certificate_is_refused_by_the_list_and_the_others_are_not() {
    if !have("openssl") {
        return;
    }
    let pki = Pki::new();
    let _ = pki.good(&["init"]);
    for edge in ["a", "b"] {
        let _ = pki.good(&["issue", "edge", edge]);
    }
    let verify = |file: &str| {
        let list = pki.path("crl.pem");
        pki.verify(file, &["-crl_check", "-CRLfile", &list])
    };
    let _ = pki.good(&["crl"]);
    assert!(verify("a.pem").0 && verify("b.pem").0, "nothing is revoked yet");
    let told = pki.good(&["revoke", "a.pem"]);
    assert!(told.contains("1 certificate"), "{told}");
    for _ in 0..2 {
        let Said(verified, text) = verify("a.pem");
        assert!(!verified && text.contains("certificate revoked"), "{text}");
        let Said(verified, text) = verify("b.pem");
        assert!(verified, "{text}");
        // The same again after it was signed anew.
        let _ = pki.good(&["crl"]);
    }
    let (code, _, told) = pki.run(&["renew", "a.pem", "--force"]);
    assert!(code == 1 && told.contains("revoked"), "{told}");
}

#[test]
fn what_is_printed_is_for_programs_too_and_never_a_key() {
    let pki = Pki::new();
    let mut printed = pki.good(&["init"]);
    let made = pki.good(&["issue", "edge", "a", "--output", "json"]);
    let value: serde_json::Value = serde_json::from_str(&made).unwrap();
    assert_eq!(value["names"][0], "spiffe://edgesync/edge/a", "{value}");
    let first = secret_lines(&pki.path("a.key"));
    let idle = pki.good(&["renew", "a.pem", "--output", "json"]);
    let value: serde_json::Value = serde_json::from_str(&idle).unwrap();
    assert_eq!(value["renewed"], false, "{value}");
    printed += &[made, idle].concat();
    printed += &pki.good(&["renew", "a.pem", "--force"]);
    printed += &pki.good(&["revoke", "a.pem"]);
    for words in [&["init"][..], &["issue", "edge", "a"], &["renew", "a.key"], &["renew", "b.pem"]]
    {
        let (code, stdout, stderr) = pki.run(words);
        assert!(code != 0 && stdout.is_empty(), "{words:?}");
        assert_eq!(stderr.lines().count(), 1, "{words:?}: {stderr}");
        printed += &stderr;
    }
    // A key where a certificate is expected is not told in the error.
    fs::copy(pki.path("a.key"), pki.path("c.pem")).unwrap();
    let (code, _, stderr) = pki.run(&["revoke", "c.pem"]);
    assert_eq!(code, 1, "{stderr}");
    printed += &stderr;
    let keys = [secret_lines(&pki.path("ca.key")), first, secret_lines(&pki.path("a.key"))];
    for line in keys.concat() {
        assert!(!printed.contains(&line), "a key was printed");
    }
}

/// A key that is made for all and then closed is open for a moment: the system calls are looked at.
#[test]
fn a_key_is_never_open_to_others_even_for_a_moment() {
    if !have("strace") {
        return;
    }
    let trace = tempfile::NamedTempFile::new().unwrap();
    let pki = Pki::new();
    let traced = |words: &[&str]| {
        let mut command = Command::new("strace");
        command.args(["-f", "-e", "trace=openat,open,creat,chmod,fchmod,fchmodat", "-o"]);
        command.arg(trace.path()).arg(program("edgesync")).arg("pki").args(words);
        command.args(["--dir", "."]).current_dir(pki.0.path()).stdout(Stdio::null());
        assert!(command.status().unwrap().success(), "{words:?}");
        fs::read_to_string(trace.path()).unwrap()
    };
    let _ = traced(&["init"]);
    for words in [&["issue", "edge", "a"][..], &["renew", "a.pem", "--force"]] {
        let calls = traced(words);
        let made: Vec<_> = calls.lines().filter(|call| call.contains("O_CREAT")).collect();
        assert_eq!(made.len(), 2, "a key and a certificate: {calls}");
        assert!(made.iter().all(|call| call.contains(", 0600)")), "{made:#?}");
        let opened =
            calls.lines().filter(|call| call.contains("chmod(") && !call.contains("0600)"));
        assert_eq!(opened.count(), 1, "the certificate alone is opened to others: {calls}");
    }
}
