//! `edgesync pki issue`: a certificate and its key, for an edge, a server or a caller.

use std::{path::PathBuf, time::SystemTime};

use clap::{Args, Subcommand};
use edgesync_core::edge_id::EdgeId;
use edgesync_host::pki::{Authority, Issued, Pair, Purpose, Subject};
use serde::Serialize;

use super::{
    AuthorityArgs, CERTIFICATE, Days, KEY, LIST, authority, days,
    files::{self, PairFiles},
    moment,
    refusal::Refusal,
    valid,
};
use crate::output::{Show, fields};

/// Arguments of `pki issue`.
#[derive(Debug, Args)]
pub struct IssueArgs {
    /// Whom it is for.
    #[command(subcommand)]
    pub(super) whom: Whom,
    #[command(flatten)]
    pub(super) authority: AuthorityArgs,
    /// Days that it is valid for; it ends no later than the authority.
    #[arg(long, global = true, value_name = "N", default_value = "90", value_parser = days)]
    pub(super) days: Days,
    /// Directory to write the certificate and its key to [default: the authority's].
    #[arg(long, global = true, value_name = "DIR")]
    pub(super) out: Option<PathBuf>,
}

/// Whom a certificate is for.
#[derive(Debug, Subcommand)]
pub enum Whom {
    /// An edge: it calls the control plane, and is known by this id.
    Edge {
        /// The edge's id.
        id: EdgeId,
    },
    /// A server: it is called by these names; the files have the first one's.
    Server {
        /// DNS names and addresses, as callers write them.
        #[arg(required = true, value_name = "NAME")]
        names: Vec<String>,
    },
    /// A caller of the control plane, who is known by this name.
    Client {
        /// The caller's name.
        name: String,
    },
}

impl Whom {
    fn subject(&self) -> Result<(&str, Subject, Purpose), Refusal> {
        let (name, subject, purpose) = match self {
            Self::Edge { id } => (id.as_str(), Subject::edge(id.as_str())?, Purpose::Client),
            Self::Client { name } => (&**name, Subject::client(name)?, Purpose::Client),
            Self::Server { names } => {
                let first = names.first().map_or("", |name| &**name);
                (first, Subject::server(names)?, Purpose::Server)
            }
        };
        // They would stand in the way of the authority's own.
        if [CERTIFICATE, KEY, LIST].iter().any(|file| file.split('.').next() == Some(name)) {
            return Err(Refusal::Reserved(name.to_owned()));
        }
        Ok((name, subject, purpose))
    }
}

/// A certificate that was made.
#[derive(Debug, Serialize)]
pub struct Made {
    certificate: String,
    key: String,
    names: Vec<String>,
    purpose: String,
    serial: String,
    pub(super) not_after: String,
    shortened: bool,
}

impl Made {
    /// What is told of a pair: all but the key.
    pub fn of(
        pair: &Pair,
        paths: &PairFiles,
        authority: &Authority,
        asked: SystemTime,
    ) -> Result<Self, Refusal> {
        let issued = Issued::read(&pair.certificate, authority)?;
        Ok(Self {
            certificate: paths.certificate.display().to_string(),
            key: paths.key.display().to_string(),
            names: issued.subject.names().collect(),
            purpose: issued.purpose.to_string(),
            serial: issued.serial.to_string(),
            not_after: moment(issued.valid.end),
            shortened: authority.valid().end < asked,
        })
    }
}

impl Show for Made {
    fn show(&self) -> String {
        let end = if self.shortened { ", when the authority ends" } else { "" };
        fields(&[
            ("certificate", self.certificate.clone()),
            ("key", self.key.clone()),
            ("names", self.names.join(", ")),
            ("purpose", self.purpose.clone()),
            ("serial", self.serial.clone()),
            ("not after", format!("{}{end}", self.not_after)),
        ])
    }
}

/// Makes a certificate.
pub fn run(args: &IssueArgs, now: SystemTime) -> Result<Made, Refusal> {
    let (name, subject, purpose) = args.whom.subject()?;
    let dir = &args.authority.dir;
    let authority = authority(dir, now)?;
    let out = args.out.as_ref().unwrap_or(dir);
    let paths = PairFiles {
        certificate: out.join(format!("{name}.pem")),
        key: out.join(format!("{name}.key")),
    };
    paths.check_free()?;
    let valid = valid(now, args.days.length())?;
    let pair = authority.issue(&subject, purpose, &valid)?;
    let made = Made::of(&pair, &paths, &authority, valid.end)?;
    files::make_dir(out)?;
    paths.create(&pair)?;
    Ok(made)
}
