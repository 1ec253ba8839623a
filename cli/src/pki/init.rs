//! `edgesync pki init`: an authority and its key.

use clap::Args;
use edgesync_host::pki::{Authority, Pair};
use serde::Serialize;

use super::{AuthorityArgs, CERTIFICATE, Days, KEY, days, files, moment, refusal::Refusal};
use crate::output::{Show, fields};

/// Arguments of `pki init`.
#[derive(Debug, Args)]
pub struct InitArgs {
    #[command(flatten)]
    pub(super) authority: AuthorityArgs,
    /// What the authority is called in its certificate.
    #[arg(long, default_value = "Edgesync CA")]
    pub(super) name: String,
    /// Days that it is valid for.
    #[arg(long, value_name = "N", default_value = "3650", value_parser = days)]
    pub(super) days: Days,
}

/// An authority that was made.
#[derive(Debug, Serialize)]
pub struct Made {
    name: String,
    certificate: String,
    key: String,
    not_after: String,
}

impl Show for Made {
    fn show(&self) -> String {
        fields(&[
            ("authority", self.name.clone()),
            ("certificate", format!("{} (give it to all)", self.certificate)),
            ("key", format!("{} (give it to nobody; keep a copy offline)", self.key)),
            ("not after", self.not_after.clone()),
        ])
    }
}

/// Makes an authority.
pub fn run(args: &InitArgs) -> Result<Made, Refusal> {
    let InitArgs { authority: AuthorityArgs { dir }, name, days } = args;
    let paths = files::PairFiles { certificate: dir.join(CERTIFICATE), key: dir.join(KEY) };
    paths.check_free()?;
    let authority = Authority::create(name, days.0)?;
    files::make_dir(dir)?;
    let certificate = authority.certificate().to_owned();
    paths.create(&Pair { certificate, key: authority.key() })?;
    Ok(Made {
        name: name.clone(),
        certificate: paths.certificate.display().to_string(),
        key: paths.key.display().to_string(),
        not_after: moment(authority.valid().end),
    })
}
