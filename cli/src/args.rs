//! The command line as a whole. The arguments of each group of commands stand in its own file.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

use crate::{
    access::{AccessCommand, LoginArgs},
    apply::ApplyArgs,
    audit::AuditCommand,
    demo::DemoArgs,
    edge::EdgeArgs,
    fleet::FleetArgs,
    log::LogArgs,
    output::Format,
    pki::PkiCommand,
    record::RecordCommand,
    release::FreezeArgs,
    wait::WaitArgs,
    zone::ZoneCommand,
};

/// What stands over the options of all commands.
const GLOBAL: &str = "Options of all commands";

/// What follows the options in `edgesync --help`.
const AFTER_HELP: &str = "\
Examples:
  edgesync zone create example.com --ns ns1.example.com.
  edgesync zone import example.com.zone --origin example.com
  edgesync record create example.com www AAAA 300 2001:db8::1
  edgesync wait --edges all --timeout 10s
  edgesync fleet --watch
  edgesync --output json record list example.com --type MX

Exit codes:
  0  done
  1  refused, or failed
  2  wrong use of the command
  3  `wait` timed out, or waits in vain
  4  `edge verify`, `audit verify` or `demo` found a difference
  5  cannot reach the server";

/// Changes DNS records and asks whether every edge has them.
#[derive(Debug, Parser)]
#[command(name = "edgesync", version, after_help = AFTER_HELP, max_term_width = 100)]
pub struct Cli {
    /// The control plane.
    #[command(flatten)]
    pub control: ControlArgs,

    /// File with the token of each call, readable for its owner alone. Else EDGESYNC_TOKEN has it, or
    /// what `edgesync login` has kept.
    #[arg(
        long,
        global = true,
        help_heading = GLOBAL,
        value_name = "FILE",
        env = "EDGESYNC_TOKEN_FILE"
    )]
    pub token_file: Option<PathBuf>,

    /// Form of what is printed: tables for people, or JSON for programs (one value; one object a
    /// line where a command lists or follows).
    #[arg(
        long,
        global = true,
        help_heading = GLOBAL,
        value_enum,
        value_name = "FORM",
        default_value_t = Format::Table
    )]
    pub output: Format,

    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Where the control plane is, and how it is known to be that.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct ControlArgs {
    /// URL of the control plane: https://HOST:PORT, or http:// on this host.
    #[arg(
        long = "control",
        global = true,
        help_heading = GLOBAL,
        value_name = "URL",
        env = "EDGESYNC_CONTROL",
        default_value = "http://127.0.0.1:7353"
    )]
    pub url: String,

    /// File (PEM) of the CA that the control plane's certificate has to be of.
    #[arg(long, global = true, help_heading = GLOBAL, value_name = "FILE", env = "EDGESYNC_CA")]
    pub ca: Option<PathBuf>,

    /// File (PEM) of a certificate of your own.
    #[arg(long, global = true, help_heading = GLOBAL, value_name = "FILE", env = "EDGESYNC_CERT")]
    pub cert: Option<PathBuf>,

    /// File (PEM) of its key, which nobody else may read.
    #[arg(
        id = "tls_key",
        long = "key",
        global = true,
        help_heading = GLOBAL,
        value_name = "FILE",
        env = "EDGESYNC_KEY"
    )]
    pub key: Option<PathBuf>,

    /// Name that the control plane's certificate has to be for [default: the one in the URL].
    #[arg(
        long,
        global = true,
        help_heading = GLOBAL,
        value_name = "NAME",
        env = "EDGESYNC_SERVER_NAME"
    )]
    pub server_name: Option<String>,
}

/// How a write is made safe to repeat.
#[derive(Debug, Default, clap::Args)]
pub struct KeyArgs {
    /// Key under which a repeated call gives the first answer, for 24 hours.
    #[arg(
        long = "idempotency-key",
        value_name = "KEY",
        default_value = "",
        hide_default_value = true
    )]
    pub key: String,
}

/// Whether a write may do more than the guard lets pass.
#[derive(Debug, Default, clap::Args)]
pub struct GuardArgs {
    /// Let it delete or edit more than 30 % of a zone of 10 records or more.
    #[arg(long)]
    pub override_guard: bool,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Create, list, delete, export and import zones.
    Zone {
        /// What to do with zones.
        #[command(subcommand)]
        command: ZoneCommand,
    },
    /// Create, edit, delete and read records.
    Record {
        /// What to do with records.
        #[command(subcommand)]
        command: RecordCommand,
    },
    /// Apply a file of changes: each `; serial` block is one change set, committed whole, in order.
    Apply(ApplyArgs),
    /// Show the edges: what each has, how far it is behind, how fast changes reach it.
    Fleet(FleetArgs),
    /// Wait until an offset is durable on the edges; exit code 3 if it is not in time, or cannot be
    /// because the release is frozen or an edge waits for a person.
    Wait(WaitArgs),
    /// Stop releasing changes to the edges. Writes are still accepted and durable; `edgesync unfreeze`
    /// releases them.
    Freeze(FreezeArgs),
    /// Let the edges have what was kept from them.
    Unfreeze,
    /// Show how far the log is released, and where it begins.
    Release,
    /// Show who changed what, oldest first; or compact the log.
    Log(LogArgs),
    /// Ask the edge daemon on this host, through its socket.
    Edge(EdgeArgs),
    /// Read an audit: who did what, and whether the file is as it was written.
    Audit {
        /// What to do with it.
        #[command(subcommand)]
        command: AuditCommand,
    },
    /// Change a password into a token of a short life, which this command then sends along.
    Login(LoginArgs),
    /// End the token that `login` has got.
    Logout,
    /// Say who may do what: users, tokens, roles.
    Access {
        /// What to do.
        #[command(subcommand)]
        command: AccessCommand,
    },
    /// Make certificates for control planes, edges and callers, where there is no authority of your own.
    Pki {
        /// What to do with certificates.
        #[command(subcommand)]
        command: PkiCommand,
    },
    /// Run the whole system on loopback: import, changes, a killed edge, and a comparison of all.
    Demo(DemoArgs),
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_exit_code_is_in_the_help() {
        for code in ["0  ", "1  ", "2  ", "3  ", "4  ", "5  "] {
            assert!(AFTER_HELP.contains(&format!("\n  {code}")), "{code}");
        }
    }

    #[test]
    fn global_options_may_follow_the_command() {
        let words = ["edgesync", "fleet", "--watch", "--output", "json", "--control", "http://c:1"];
        let cli = Cli::try_parse_from(words).unwrap();
        assert_eq!((cli.output, cli.control.url.as_str()), (Format::Json, "http://c:1"));
    }

    #[test]
    fn options_after_rdata_are_no_rdata() {
        let words = ["edgesync", "record", "create", "z", "n", "TXT", "60", "a", "b"];
        let cli = Cli::try_parse_from(words.into_iter().chain(["--idempotency-key", "k"])).unwrap();
        let Command::Record { command: RecordCommand::Create(create) } = cli.command else {
            panic!("another command");
        };
        assert_eq!((create.rdata.join(" ").as_str(), create.key.key.as_str()), ("a b", "k"));
    }
}
