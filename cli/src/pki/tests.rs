//! The commands on real files, at any time of a certificate's life. That others read the certificates
//! alike is tested with the whole command and openssl.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use clap::Parser;
use edgesync_host::pki::{Purpose, Subject};
use tempfile::TempDir;

use super::*;
use crate::args::{Cli, Command};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// An authority in a directory of its own.
struct Pki(TempDir);

impl Pki {
    fn new() -> Self {
        let pki = Self(tempfile::tempdir().unwrap());
        pki.run(&["init"], SystemTime::now()).unwrap();
        pki
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    /// Runs a command; gives what is shown to people.
    fn run(&self, words: &[&str], now: SystemTime) -> Result<String, Refusal> {
        run_in(self.0.path(), words, now)
    }

    /// Renews a certificate of this directory at some time.
    fn renew(&self, name: &str, more: &[&str], now: SystemTime) -> Result<String, Refusal> {
        let file = self.path(name);
        self.run(&[&["renew", file.to_str().unwrap()], more].concat(), now)
    }

    fn issued(&self, name: &str) -> edgesync_host::pki::Issued {
        let authority = authority(self.0.path(), SystemTime::now()).unwrap();
        edgesync_host::pki::Issued::read(&self.text(name), &authority).unwrap()
    }
}

fn run_in(dir: &Path, words: &[&str], now: SystemTime) -> Result<String, Refusal> {
    use crate::output::Show as _;
    let before = ["edgesync", "pki"].into_iter().chain(words.iter().copied());
    let cli = Cli::try_parse_from(before.chain(["--dir", dir.to_str().unwrap()])).unwrap();
    let Command::Pki { command } = cli.command else { panic!("another command") };
    Ok(match command {
        PkiCommand::Init(args) => init::run(&args)?.show(),
        PkiCommand::Issue(args) => issue::run(&args, now)?.show(),
        PkiCommand::Renew(args) => renew::run(&args, now)?.show(),
        PkiCommand::Revoke(args) => revoke::run(&args, now)?.show(),
        PkiCommand::Crl(args) => revoke::sign_again(&args.dir, now)?.show(),
    })
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

#[test]
fn keys_are_for_their_owner_and_nothing_else_is_left_behind() {
    let (pki, now) = (Pki::new(), SystemTime::now());
    pki.run(&["issue", "edge", "fra-1"], now).unwrap();
    pki.renew("fra-1.pem", &["--force"], now).unwrap();
    pki.run(&["crl"], now).unwrap();
    for (name, wanted) in [
        ("ca.pem", 0o644),
        ("ca.key", 0o600),
        ("fra-1.pem", 0o644),
        ("fra-1.key", 0o600),
        ("crl.pem", 0o644),
    ] {
        assert_eq!(mode(&pki.path(name)), wanted, "{name}");
    }
    assert_eq!(fs::read_dir(pki.0.path()).unwrap().count(), 5);
    let out = pki.path("new/deep");
    let out_word = out.to_str().unwrap();
    pki.run(&["issue", "client", "deploy", "--out", out_word], now).unwrap();
    assert_eq!((mode(&out), mode(&out.join("deploy.key"))), (0o700, 0o600));
}

#[test]
fn nothing_is_written_over() {
    let (pki, now) = (Pki::new(), SystemTime::now());
    pki.run(&["issue", "edge", "a"], now).unwrap();
    let names = ["ca.pem", "ca.key", "a.pem", "a.key"];
    let before = names.map(|name| pki.text(name));
    for words in [&["init"][..], &["issue", "edge", "a"], &["issue", "client", "a"]] {
        let told = pki.run(words, now).unwrap_err();
        assert!(matches!(told, Refusal::Exists { .. }), "{words:?}: {told}");
        assert!(!told.is_usage());
        // Half a pair is not completed either.
        fs::rename(pki.path("a.key"), pki.path("aside")).unwrap();
        assert!(matches!(pki.run(words, now), Err(Refusal::Exists { .. })), "{words:?}");
        fs::rename(pki.path("aside"), pki.path("a.key")).unwrap();
    }
    assert_eq!(names.map(|name| pki.text(name)), before);
    // One that comes between the look and the rename is not lost.
    let staged = files::Staged::write(&pki.path("a.pem"), "other", files::PUBLIC).unwrap();
    assert!(matches!(staged.place(), Err(Refusal::Exists { .. })));
    assert_eq!(names.map(|name| pki.text(name)), before);
}

#[test]
fn names_that_are_none_are_refused_before_anything_is_made() {
    let (pki, now) = (Pki::new(), SystemTime::now());
    let before = fs::read_dir(pki.0.path()).unwrap().count();
    for words in [
        &["issue", "edge", "ca"][..],
        &["issue", "client", "crl"],
        &["issue", "server", "ca", "b.example"],
        &["issue", "client", ".."],
        &["issue", "client", "../x"],
        &["issue", "server", "a.example", "*.example"],
    ] {
        let told = pki.run(words, now).unwrap_err();
        assert!(told.is_usage(), "{words:?}: {told}");
        assert_eq!(Failure::from(told).code(), 2);
    }
    for words in [
        &["issue", "edge", "Fra"][..],
        &["issue", "edge", ".."],
        &["issue", "server"],
        &["issue", "edge", "a", "--days", "0"],
        &["init", "--days", "36501"],
        &["revoke"],
        &["revoke", "a.pem", "--serial", "01"],
        &["revoke", "--serial", "xyz"],
    ] {
        let all = ["edgesync", "pki"].iter().chain(words);
        Cli::try_parse_from(all).unwrap_err();
    }
    assert_eq!(fs::read_dir(pki.0.path()).unwrap().count(), before);
}

#[test]
fn an_authority_is_used_only_when_its_key_is_its_own_and_kept_for_itself() {
    let (pki, now) = (Pki::new(), SystemTime::now());
    let issue = |at| pki.run(&["issue", "edge", "a"], at);
    for open in [0o640, 0o604, 0o660] {
        fs::set_permissions(pki.path("ca.key"), fs::Permissions::from_mode(open)).unwrap();
        let told = issue(now).unwrap_err().to_string();
        assert!(told.contains("chmod 600") && told.contains(&format!("{open:04o}")), "{told}");
    }
    fs::set_permissions(pki.path("ca.key"), fs::Permissions::from_mode(0o400)).unwrap();
    let told = issue(now + DAY * 3_651).unwrap_err();
    assert!(matches!(told, Refusal::Over { .. }), "{told}");
    let nowhere = run_in(&pki.path("x"), &["issue", "edge", "a"], now).unwrap_err();
    assert!(nowhere.to_string().contains("pki init"), "{nowhere}");
    assert!(!pki.path("x").exists(), "nothing is made where there is no authority");
    fs::copy(Pki::new().path("ca.pem"), pki.path("ca.pem")).unwrap();
    let told = issue(now).unwrap_err().to_string();
    assert!(told.contains("ca.pem") && told.contains("made together"), "{told}");
    fs::write(pki.path("ca.pem"), "x".repeat(70_000)).unwrap();
    assert!(matches!(issue(now).unwrap_err(), Refusal::TooLarge { .. }));
}

#[test]
fn a_certificate_is_renewed_when_less_than_a_third_of_its_life_is_left() {
    let (pki, now) = (Pki::new(), SystemTime::now());
    pki.run(&["issue", "server", "c.example", "192.0.2.1", "--days", "30"], now).unwrap();
    let (old, old_key) = (pki.issued("c.example.pem"), pki.text("c.example.key"));
    let told = pki.renew("c.example.pem", &[], now + DAY * 19).unwrap();
    assert!(told.starts_with("not renewed: valid until"), "{told}");
    assert_eq!((pki.issued("c.example.pem"), pki.text("c.example.key")), (old.clone(), old_key));

    let later = now + DAY * 21;
    let told = pki.renew("c.example.pem", &[], later).unwrap();
    assert!(told.starts_with("renewed: less than a third"), "{told}");
    let new = pki.issued("c.example.pem");
    assert_eq!((&new.subject, new.purpose), (&old.subject, old.purpose));
    assert_ne!(new.serial, old.serial);
    let key = files::read_key(&pki.path("c.example.key")).unwrap();
    assert!(new.has_key(&key) && !old.has_key(&key), "the key is new");
    let life = new.valid.end.duration_since(later).unwrap();
    assert!(life.abs_diff(DAY * 30) < Duration::from_secs(2), "as long as before: {life:?}");

    pki.renew("c.example.pem", &["--force", "--days", "5"], later).unwrap();
    let forced = pki.issued("c.example.pem").valid.end.duration_since(later).unwrap();
    assert!(forced.abs_diff(DAY * 5) < Duration::from_secs(2), "{forced:?}");
    let told = pki.renew("c.example.pem", &[], later + DAY * 400).unwrap();
    assert!(told.starts_with("renewed: "), "what is over is renewed as well: {told}");
}

/// What a crash between the two renames leaves.
#[test]
fn a_pair_that_does_not_match_is_renewed_before_its_time() {
    let (pki, now) = (Pki::new(), SystemTime::now());
    pki.run(&["issue", "edge", "a"], now).unwrap();
    pki.run(&["issue", "edge", "b"], now).unwrap();
    fs::copy(pki.path("b.key"), pki.path("a.key")).unwrap();
    for _ in 0..2 {
        let told = pki.renew("a.pem", &[], now).unwrap();
        assert!(told.starts_with("renewed: its key was missing, or another's"), "{told}");
        assert!(pki.issued("a.pem").has_key(&files::read_key(&pki.path("a.key")).unwrap()));
        fs::remove_file(pki.path("a.key")).unwrap();
    }
}

#[test]
fn what_is_revoked_or_another_authoritys_is_not_renewed() {
    let (pki, other, now) = (Pki::new(), Pki::new(), SystemTime::now());
    pki.run(&["issue", "edge", "a"], now).unwrap();
    let file = pki.path("a.pem");
    let told = other.run(&["renew", file.to_str().unwrap(), "--force"], now).unwrap_err();
    assert!(told.to_string().contains("right directory"), "{told}");
    other.run(&["revoke", file.to_str().unwrap()], now).unwrap_err();
    assert!(!other.path("crl.pem").exists());
    let before = pki.text("a.pem");
    pki.run(&["revoke", file.to_str().unwrap()], now).unwrap();
    let told = pki.renew("a.pem", &["--force"], now).unwrap_err();
    assert!(matches!(told, Refusal::Revoked { .. }), "{told}");
    assert_eq!(pki.text("a.pem"), before);
    let told = pki.renew("a.key", &[], now).unwrap_err();
    assert!(matches!(told, Refusal::NoCertificate { .. }), "{told}");
    // A list of another is not written over, and what is in it is not lost.
    other.run(&["crl"], now).unwrap();
    fs::copy(other.path("crl.pem"), pki.path("crl.pem")).unwrap();
    let told = pki.run(&["revoke", "--serial", "0b"], now).unwrap_err();
    assert!(told.to_string().contains("crl.pem"), "{told}");
}

#[test]
fn the_list_keeps_what_is_in_it_and_its_number_rises() {
    let (pki, now) = (Pki::new(), SystemTime::now());
    let read = || {
        let authority = authority(pki.0.path(), now).unwrap();
        revocations(pki.0.path(), &authority).unwrap()
    };
    pki.run(&["issue", "edge", "a"], now).unwrap();
    let (file, serial) = (pki.path("a.pem"), pki.issued("a.pem").serial);
    pki.run(&["revoke", file.to_str().unwrap()], now).unwrap();
    let first = read();
    assert!(first.has(&serial) && first.revoked.len() == 1);
    pki.run(&["revoke", "--serial", "0b"], now).unwrap();
    pki.run(&["revoke", file.to_str().unwrap()], now + DAY).unwrap();
    pki.run(&["crl"], now - DAY).unwrap();
    let last = read();
    assert_eq!((last.revoked.len(), &last.revoked[0]), (2, &first.revoked[0]));
    assert!(last.number > first.number + 2, "{} {}", first.number, last.number);
}

/// Each of them reads the list, adds one and writes it; none may write over what another added.
#[test]
fn commands_at_the_same_time_lose_nothing() {
    let (pki, now) = (Pki::new(), SystemTime::now());
    pki.run(&["issue", "edge", "a"], now).unwrap();
    std::thread::scope(|scope| {
        for number in 10..20_u8 {
            let pki = &pki;
            scope.spawn(move || {
                pki.run(&["revoke", "--serial", &number.to_string()], now).unwrap();
                pki.renew("a.pem", &["--force"], now).unwrap();
            });
        }
    });
    let authority = authority(pki.0.path(), now).unwrap();
    assert_eq!(revocations(pki.0.path(), &authority).unwrap().revoked.len(), 10);
    assert!(pki.issued("a.pem").has_key(&files::read_key(&pki.path("a.key")).unwrap()));
}

#[test]
fn a_certificate_that_the_authority_cuts_short_says_so() {
    let pki = Pki(tempfile::tempdir().unwrap());
    let now = SystemTime::now();
    pki.run(&["init", "--days", "10", "--name", "Short"], now).unwrap();
    let told = pki.run(&["issue", "edge", "a"], now).unwrap();
    assert!(told.contains("when the authority ends"), "{told}");
    let told = pki.run(&["issue", "edge", "b", "--days", "9"], now).unwrap();
    assert!(!told.contains("when the authority ends"), "{told}");
    let authority = authority(pki.0.path(), now).unwrap();
    let (subject, valid) = (Subject::edge("c").unwrap(), now + DAY * 11..now + DAY * 12);
    authority.issue(&subject, Purpose::Client, &valid).unwrap_err();
}
