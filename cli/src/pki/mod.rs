//! `edgesync pki …`: certificates for those who have no authority of their own. It works on files alone
//! and calls no server. The authority's directory has `ca.pem`, `ca.key` and, once something was revoked,
//! `crl.pem`; certificates and their keys lie there too, or where `--out` says.

mod files;
mod init;
mod issue;
mod refusal;
mod renew;
mod revoke;

#[cfg(test)]
mod tests;

use std::{
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use clap::{Args, Subcommand};
use edgesync_host::pki::{Authority, PkiError, Revocations, SKEW};
use prost_types::Timestamp;

pub use self::refusal::Refusal;
use crate::{
    failure::{Failure, Outcome},
    format,
    output::Printer,
};

/// Names of the authority's files. No certificate may have them.
const CERTIFICATE: &str = "ca.pem";
const KEY: &str = "ca.key";
const LIST: &str = "crl.pem";

/// Octets of a certificate or a key, and of a list: one of each that is larger is none.
const PEM_OCTETS: u64 = 64 * 1024;
const LIST_OCTETS: u64 = 16 * 1024 * 1024;

/// Days that a certificate is valid for at most: a hundred years.
const DAYS: std::ops::RangeInclusive<i64> = 1..=36_500;

/// What to do with certificates.
#[derive(Debug, Subcommand)]
pub enum PkiCommand {
    /// Make an authority: `ca.pem` for all, and `ca.key`, which stays where it is.
    Init(init::InitArgs),
    /// Make a certificate and its key: NAME.pem and NAME.key.
    Issue(issue::IssueArgs),
    /// Replace a certificate and its key when less than a third of its life is left.
    Renew(renew::RenewArgs),
    /// Take a certificate back before its time: write it into `crl.pem`.
    Revoke(revoke::RevokeArgs),
    /// Sign `crl.pem` again; it is to be newer than 30 days where it is used.
    Crl(AuthorityArgs),
}

/// Where the authority is.
#[derive(Debug, Args)]
pub struct AuthorityArgs {
    /// The authority's directory.
    #[arg(long, global = true, value_name = "DIR", default_value = "pki")]
    pub dir: PathBuf,
}

/// How long a certificate is valid.
#[derive(Debug, Clone, Copy)]
struct Days(u32);

fn days(text: &str) -> Result<Days, String> {
    let days = text.parse::<u32>().ok().filter(|&days| DAYS.contains(&i64::from(days)));
    days.map(Days).ok_or_else(|| format!("days are {} to {}", DAYS.start(), DAYS.end()))
}

impl Days {
    fn length(self) -> Duration {
        Duration::from_secs(24 * 60 * 60).saturating_mul(self.0)
    }
}

/// Carries out a command.
///
/// # Errors
/// If it is refused, or a file cannot be read or written.
pub fn run(command: PkiCommand, printer: &mut Printer) -> Result<Outcome, Failure> {
    let now = SystemTime::now();
    match command {
        PkiCommand::Init(args) => printer.value(&init::run(&args)?)?,
        PkiCommand::Issue(args) => printer.value(&issue::run(&args, now)?)?,
        PkiCommand::Renew(args) => printer.value(&renew::run(&args, now)?)?,
        PkiCommand::Revoke(args) => printer.value(&revoke::run(&args, now)?)?,
        PkiCommand::Crl(args) => printer.value(&revoke::sign_again(&args.dir, now)?)?,
    }
    Ok(Outcome::Done)
}

/// The authority of a directory, which has to be valid now.
fn authority(dir: &Path, now: SystemTime) -> Result<Authority, Refusal> {
    let path = dir.join(CERTIFICATE);
    if !path.exists() {
        return Err(Refusal::NoAuthority { dir: dir.to_owned() });
    }
    let certificate = files::read(&path, PEM_OCTETS)?;
    let key = files::read_key(&dir.join(KEY))?;
    let authority = Authority::load(&certificate, &key).map_err(in_file(&path))?;
    if authority.valid().end <= now {
        return Err(Refusal::Over { dir: dir.to_owned(), end: moment(authority.valid().end) });
    }
    Ok(authority)
}

/// What the authority of a directory has revoked; nothing, if there is no list yet.
fn revocations(dir: &Path, authority: &Authority) -> Result<Revocations, Refusal> {
    let path = dir.join(LIST);
    if !path.exists() {
        return Ok(Revocations::default());
    }
    let text = files::read(&path, LIST_OCTETS)?;
    Revocations::read(&text, authority).map_err(in_file(&path))
}

fn in_file(path: &Path) -> impl FnOnce(PkiError) -> Refusal {
    let file = path.to_owned();
    move |source| Refusal::File { file, source }
}

/// From five minutes ago, for clocks that are behind, for so long.
fn valid(now: SystemTime, length: Duration) -> Result<std::ops::Range<SystemTime>, PkiError> {
    let start = now.checked_sub(SKEW).ok_or(PkiError::NoTime)?;
    Ok(start..now.checked_add(length).ok_or(PkiError::NoTime)?)
}

fn moment(moment: SystemTime) -> String {
    // To the second, as the certificate has it.
    let seconds = Timestamp { nanos: 0, ..Timestamp::from(moment) };
    format::moment(Some(&seconds)).unwrap_or_default()
}
