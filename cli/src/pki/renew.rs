//! `edgesync pki renew`: the same names and use with a new key, in the place of the old. It may run from
//! a timer each day: it does nothing while more than a third of the certificate's life is left.

use std::{
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use clap::Args;
use edgesync_host::pki::{Issued, SKEW};
use serde::Serialize;

use super::{
    AuthorityArgs, CERTIFICATE, Days, PEM_OCTETS, authority, days,
    files::{self, PairFiles},
    in_file, issue, moment,
    refusal::Refusal,
    revocations, valid,
};
use crate::output::Show;

/// Arguments of `pki renew`.
#[derive(Debug, Args)]
pub struct RenewArgs {
    /// The certificate, FILE.pem; its key is FILE.key.
    #[arg(value_name = "FILE.pem")]
    pub(super) file: PathBuf,
    #[command(flatten)]
    pub(super) authority: AuthorityArgs,
    /// Days that the new one is valid for [default: as many as the old one].
    #[arg(long, value_name = "N", value_parser = days)]
    pub(super) days: Option<Days>,
    /// Renew it however long it is still valid.
    #[arg(long)]
    pub(super) force: bool,
}

/// What became of a certificate.
#[derive(Debug, Serialize)]
pub struct Renewed {
    pub(super) renewed: bool,
    reason: String,
    #[serde(flatten)]
    made: Option<issue::Made>,
}

impl Show for Renewed {
    fn show(&self) -> String {
        match &self.made {
            Some(made) => format!("renewed: {}\n{}", self.reason, made.show()),
            None => format!("not renewed: {}", self.reason),
        }
    }
}

/// Renews a certificate, if it is time.
pub fn run(args: &RenewArgs, now: SystemTime) -> Result<Renewed, Refusal> {
    let RenewArgs { file, authority: AuthorityArgs { dir }, days, force } = args;
    let paths = pair_of(file)?;
    let authority = authority(dir, now)?;
    // Two at once would leave the key of one beside the certificate of the other.
    let _lock = files::lock(&dir.join(CERTIFICATE))?;
    let text = files::read(file, PEM_OCTETS)?;
    let old = Issued::read(&text, &authority).map_err(in_file(file))?;
    if revocations(dir, &authority)?.has(&old.serial) {
        return Err(Refusal::Revoked { file: file.clone(), serial: old.serial });
    }
    let Some(reason) = reason(&old, &paths.key, *force, now)? else {
        let (end, due) = (moment(old.valid.end), moment(old.due()));
        let reason = format!("valid until {end}, due after {due}; --force renews it now");
        return Ok(Renewed { renewed: false, reason, made: None });
    };
    let valid = valid(now, days.map_or_else(|| life(&old), Days::length))?;
    let pair = authority.issue(&old.subject, old.purpose, &valid)?;
    let made = issue::Made::of(&pair, &paths, &authority, valid.end)?;
    paths.replace(&pair)?;
    Ok(Renewed { renewed: true, reason: reason.to_owned(), made: Some(made) })
}

/// Why a certificate is to be renewed now, if it is.
fn reason(
    old: &Issued,
    key: &Path,
    force: bool,
    now: SystemTime,
) -> Result<Option<&'static str>, Refusal> {
    if force {
        return Ok(Some("as asked"));
    }
    if old.is_due(now) {
        return Ok(Some("less than a third of its life was left"));
    }
    // What a crash between the two renames leaves.
    let matches = key.exists() && old.has_key(&files::read_key(key)?);
    Ok((!matches).then_some("its key was missing, or another's"))
}

/// How long a certificate was made for, without the minutes before it was made.
fn life(old: &Issued) -> Duration {
    let life = old.valid.end.duration_since(old.valid.start).unwrap_or_default();
    life.saturating_sub(SKEW)
}

fn pair_of(file: &Path) -> Result<PairFiles, Refusal> {
    if file.extension().is_none_or(|extension| extension != "pem") {
        return Err(Refusal::NoCertificate { file: file.to_owned() });
    }
    Ok(PairFiles { certificate: file.to_owned(), key: file.with_extension("key") })
}
