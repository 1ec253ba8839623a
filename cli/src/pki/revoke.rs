//! `edgesync pki revoke` and `crl`: the list of certificates that are valid no more. The signed list is
//! all that is kept of them: keep `crl.pem` with the authority, and a copy of it.

use std::{
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use clap::Args;
use edgesync_host::pki::{Authority, Issued, Revocations, Serial};
use serde::Serialize;

use super::{
    AuthorityArgs, CERTIFICATE, LIST, PEM_OCTETS, authority,
    files::{self, PUBLIC, Staged},
    in_file, moment,
    refusal::Refusal,
    revocations, valid,
};
use crate::{
    format,
    output::{Show, fields},
};

/// When the next list is due at the latest.
const NEXT: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// Arguments of `pki revoke`.
#[derive(Debug, Args)]
pub struct RevokeArgs {
    /// The certificate.
    #[arg(value_name = "FILE.pem", required_unless_present = "serial", conflicts_with = "serial")]
    pub(super) file: Option<PathBuf>,
    /// Its number, where the file is lost or was renewed since.
    #[arg(long, value_name = "HEX")]
    pub(super) serial: Option<Serial>,
    #[command(flatten)]
    pub(super) authority: AuthorityArgs,
}

/// A list that was signed.
#[derive(Debug, Serialize)]
pub struct Signed {
    list: String,
    number: u64,
    revoked: usize,
    next_update: String,
    added: Option<String>,
}

impl Show for Signed {
    fn show(&self) -> String {
        let revoked = u64::try_from(self.revoked).unwrap_or(u64::MAX);
        let added = self.added.as_ref().map(|serial| format!(", {serial} among them"));
        let revoked = format::count(revoked, "certificate") + &added.unwrap_or_default();
        fields(&[
            ("list", self.list.clone()),
            ("number", self.number.to_string()),
            ("revoked", revoked),
            ("next update", format!("{} at the latest, by `pki crl`", self.next_update)),
        ])
    }
}

/// Revokes a certificate. One that is in the list already stays in it as it is.
pub fn run(args: &RevokeArgs, now: SystemTime) -> Result<Signed, Refusal> {
    let dir = &args.authority.dir;
    let authority = authority(dir, now)?;
    let _lock = files::lock(&dir.join(CERTIFICATE))?;
    let mut list = revocations(dir, &authority)?;
    let serial = match (&args.file, &args.serial) {
        (Some(file), _) => {
            let text = files::read(file, PEM_OCTETS)?;
            Issued::read(&text, &authority).map_err(in_file(file))?.serial
        }
        (None, Some(serial)) => serial.clone(),
        // The command line asks for one of them.
        (None, None) => return sign(dir, &authority, list, now, None),
    };
    list.add(serial.clone(), now)?;
    sign(dir, &authority, list, now, Some(serial.to_string()))
}

/// Signs the list again, with what is in it.
pub fn sign_again(dir: &Path, now: SystemTime) -> Result<Signed, Refusal> {
    let authority = authority(dir, now)?;
    let _lock = files::lock(&dir.join(CERTIFICATE))?;
    let list = revocations(dir, &authority)?;
    sign(dir, &authority, list, now, None)
}

fn sign(
    dir: &Path,
    authority: &Authority,
    mut list: Revocations,
    now: SystemTime,
    added: Option<String>,
) -> Result<Signed, Refusal> {
    list.raise(now);
    let valid = valid(now, NEXT)?;
    let text = authority.revocations(&list, &valid)?;
    let path = dir.join(LIST);
    Staged::write(&path, &text, PUBLIC)?.replace()?;
    files::sync_folder(&path)?;
    Ok(Signed {
        list: path.display().to_string(),
        number: list.number,
        revoked: list.revoked.len(),
        next_update: moment(valid.end),
        added,
    })
}
