//! `edgesync login`, `logout` and `access …`: what this command proves itself with, and who may do what.
//! Secrets come from files, the environment or stdin, and go to files that their owner alone can read.

mod kept;
mod offline;

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use edgesync_host::{secret::Secret, units::Period};
use edgesync_proto::v1;
use serde::Serialize;
use tonic::{Request, metadata::MetadataValue};

use crate::{
    args::ControlArgs,
    connect::{Server, Target},
    failure::{Failure, Outcome},
    format,
    output::{Printer, Row, Show},
};

/// Variable of the environment that has a token.
const TOKEN: &str = "EDGESYNC_TOKEN";

/// Arguments of `login`.
#[derive(Debug, Args)]
pub struct LoginArgs {
    /// The user.
    pub user: String,
    /// File with the password, readable for its owner alone; `-` is stdin.
    #[arg(long, value_name = "FILE", default_value = "-")]
    pub password_file: PathBuf,
}

/// What to do about who may do what.
#[derive(Debug, Subcommand)]
pub enum AccessCommand {
    /// Show who there is, and what each may do.
    List,
    /// Show who this command is taken for.
    Whoami,
    /// Give a user a password, or take a principal out.
    User {
        /// What to do with users.
        #[command(subcommand)]
        command: UserCommand,
    },
    /// Make and end tokens of machines.
    Token {
        /// What to do with tokens.
        #[command(subcommand)]
        command: TokenCommand,
    },
    /// Give roles and take them away. An edge is the principal edge/ID.
    Role {
        /// What to do with roles.
        #[command(subcommand)]
        command: RoleCommand,
    },
    /// Print the line of a policy file for a password; needs no control plane.
    HashPassword {
        /// File with the password, readable for its owner alone; `-` is stdin.
        #[arg(long, value_name = "FILE", default_value = "-")]
        password_file: PathBuf,
    },
    /// Write a new token into a file, and print the line of a policy file for it; needs no control plane.
    NewToken {
        /// The file, which must not be there.
        file: PathBuf,
    },
}

impl AccessCommand {
    /// True for what needs no control plane.
    #[must_use]
    pub const fn is_offline(&self) -> bool {
        matches!(self, Self::HashPassword { .. } | Self::NewToken { .. })
    }
}

/// What to do with users.
#[derive(Debug, Subcommand)]
pub enum UserCommand {
    /// Give a user a password; one that is not there is made, without a role.
    Set {
        /// The user.
        name: String,
        /// File with the password, readable for its owner alone; `-` is stdin.
        #[arg(long, value_name = "FILE", default_value = "-")]
        password_file: PathBuf,
    },
    /// Take a principal out, with its tokens and roles.
    Remove {
        /// The principal.
        name: String,
    },
}

/// What to do with tokens.
#[derive(Debug, Subcommand)]
pub enum TokenCommand {
    /// Make a token and write it into a file.
    Create {
        /// The principal; one that is not there is made, without a role.
        name: String,
        /// The file, which must not be there.
        #[arg(long, value_name = "FILE")]
        file: PathBuf,
        /// What it is for.
        #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
        label: String,
        /// How long it lives, such as 30d; else until it is revoked.
        #[arg(long, value_name = "TIME")]
        lifetime: Option<Period>,
    },
    /// End a token.
    Revoke {
        /// Its id, as `access list` shows it.
        id: String,
    },
}

/// What to do with roles.
#[derive(Debug, Subcommand)]
pub enum RoleCommand {
    /// Give a role.
    Grant {
        /// The principal; one that is not there is made.
        name: String,
        /// reader, editor, deleter, zone_admin, edge, operator or auditor.
        role: String,
        /// The zones at or below these names; "." is all.
        #[arg(required = true)]
        zones: Vec<String>,
    },
    /// Take a role away.
    Revoke {
        /// The principal.
        name: String,
        /// The role.
        role: String,
        /// In these zones; else in all.
        zones: Vec<String>,
    },
}

/// Where the control plane is, with the token for it.
///
/// # Errors
/// If a token that was named cannot be read.
pub fn target(control: &ControlArgs, token_file: Option<&Path>) -> Result<Target, Failure> {
    let mut target = Target::of(control);
    target.token = match (token_file, std::env::var(TOKEN)) {
        (Some(file), _) => Some(Secret::read(file)?),
        (None, Ok(text)) if !text.is_empty() => Some(Secret::new(text)),
        _ => kept::read(&target)?,
    };
    Ok(target)
}

/// Logs in.
///
/// # Errors
/// If the server cannot be reached, or refuses.
pub async fn login(
    args: LoginArgs,
    control: &Target,
    printer: &mut Printer,
) -> Result<Outcome, Failure> {
    control.check_private()?;
    let password = offline::password(&args.password_file)?;
    let server = Server::control(control).await?;
    let mut request = Request::new(v1::LoginRequest {});
    let value = |text: &str| {
        let mut value = MetadataValue::try_from(text)
            .map_err(|_| Failure::Usage("name and password have to be ASCII text".to_owned()))?;
        value.set_sensitive(true);
        Ok::<_, Failure>(value)
    };
    request.metadata_mut().insert("username", value(&args.user)?);
    request.metadata_mut().insert("password", value(password.expose())?);
    let answer = server.access().login(request).await.map_err(server.failure())?.into_inner();
    let file = kept::write(control, &Secret::new(answer.token))?;
    let expires = format::moment(answer.expires.as_ref()).unwrap_or_default();
    printer.value(&LoggedIn { principal: answer.principal, expires, file })?;
    Ok(Outcome::Done)
}

#[derive(Serialize)]
struct LoggedIn {
    principal: String,
    expires: String,
    file: PathBuf,
}

impl Show for LoggedIn {
    fn show(&self) -> String {
        let Self { principal, expires, file } = self;
        format!("logged in as {principal} until {expires}; the token is in {}", file.display())
    }
}

/// Logs out.
///
/// # Errors
/// If the server cannot be reached.
pub async fn logout(control: &Target) -> Result<Outcome, Failure> {
    let server = Server::control(control).await?;
    let ended = server.access().logout(v1::LogoutRequest {}).await;
    kept::remove(control)?;
    ended.map_err(server.failure())?;
    Ok(Outcome::Done)
}

/// Carries out a command.
///
/// # Errors
/// If the server cannot be reached, or refuses.
pub async fn run(
    command: AccessCommand,
    control: &Target,
    printer: &mut Printer,
) -> Result<Outcome, Failure> {
    match command {
        AccessCommand::HashPassword { password_file } => {
            offline::hash_password(&password_file, printer)?;
        }
        AccessCommand::NewToken { file } => offline::new_token(&file, printer)?,
        AccessCommand::List => list(&Server::control(control).await?, printer).await?,
        AccessCommand::Whoami => whoami(&Server::control(control).await?, printer).await?,
        AccessCommand::User { command } => user(command, control).await?,
        AccessCommand::Token { command } => token(command, control, printer).await?,
        AccessCommand::Role { command } => role(command, control).await?,
    }
    Ok(Outcome::Done)
}

async fn user(command: UserCommand, control: &Target) -> Result<(), Failure> {
    match command {
        UserCommand::Set { name: principal, password_file } => {
            control.check_private()?;
            let password = offline::password(&password_file)?.expose().to_owned();
            let server = Server::control(control).await?;
            let request = v1::SetPasswordRequest { principal, password };
            server.access().set_password(request).await.map(drop).map_err(server.failure())
        }
        UserCommand::Remove { name: principal } => {
            let server = Server::control(control).await?;
            let request = v1::RemovePrincipalRequest { principal };
            server.access().remove_principal(request).await.map(drop).map_err(server.failure())
        }
    }
}

async fn token(
    command: TokenCommand,
    control: &Target,
    printer: &mut Printer,
) -> Result<(), Failure> {
    let server = Server::control(control).await?;
    match command {
        TokenCommand::Create { name: principal, file, label, lifetime } => {
            // Before it is made: one that cannot be kept would be lost.
            let kept = kept::create(&file)?;
            let lifetime = lifetime.and_then(|lifetime| lifetime.get().try_into().ok());
            let request = v1::CreateTokenRequest { principal, label, lifetime };
            let made = server.access().create_token(request).await.map_err(server.failure());
            let made = made.inspect_err(|_| drop(std::fs::remove_file(&file)))?.into_inner();
            kept::fill(kept, &file, &Secret::new(made.token))?;
            printer.value(&Made { id: made.id, file })
        }
        TokenCommand::Revoke { id } => {
            let request = v1::RevokeTokenRequest { id };
            server.access().revoke_token(request).await.map(drop).map_err(server.failure())
        }
    }
}

#[derive(Serialize)]
struct Made {
    id: String,
    file: PathBuf,
}

impl Show for Made {
    fn show(&self) -> String {
        format!("token {} is in {}; it is not kept anywhere else", self.id, self.file.display())
    }
}

async fn role(command: RoleCommand, control: &Target) -> Result<(), Failure> {
    let server = Server::control(control).await?;
    let done = match command {
        RoleCommand::Grant { name: principal, role, zones } => {
            let grant = Some(v1::Grant { role, zones });
            let request = v1::GrantRoleRequest { principal, grant };
            server.access().grant_role(request).await.map(drop)
        }
        RoleCommand::Revoke { name: principal, role, zones } => {
            let request = v1::RevokeRoleRequest { principal, role, zones };
            server.access().revoke_role(request).await.map(drop)
        }
    };
    done.map_err(server.failure())
}

/// A principal.
#[derive(Serialize)]
struct Principal {
    name: String,
    in_file: bool,
    has_password: bool,
    tokens: Vec<Token>,
    grants: Vec<Grant>,
}

#[derive(Serialize)]
struct Token {
    id: String,
    label: String,
    created: Option<String>,
    expires: Option<String>,
}

#[derive(Serialize)]
struct Grant {
    role: String,
    zones: Vec<String>,
}

impl Row for Principal {
    const HEADER: &'static [&'static str] =
        &["PRINCIPAL", "KEPT IN", "PASSWORD", "TOKENS", "ROLES"];

    fn cells(&self) -> Vec<String> {
        let place = if self.in_file { "the policy file" } else { "the log" };
        let password = if self.has_password { "yes" } else { "-" };
        let tokens = self.tokens.iter().map(|token| match token.label.as_str() {
            "" => token.id.clone(),
            label => format!("{} ({})", token.id, label.escape_debug()),
        });
        let tokens = tokens.collect::<Vec<_>>().join(", ");
        let cells = [&*self.name, place, password, &tokens, &roles(&self.grants)];
        cells.map(format::or_dash).to_vec()
    }
}

fn roles(grants: &[Grant]) -> String {
    let role = |grant: &Grant| format!("{} in {}", grant.role, grant.zones.join(" "));
    grants.iter().map(role).collect::<Vec<_>>().join("; ")
}

fn grants(grants: Vec<v1::Grant>) -> Vec<Grant> {
    grants.into_iter().map(|v1::Grant { role, zones }| Grant { role, zones }).collect()
}

async fn list(server: &Server, printer: &mut Printer) -> Result<(), Failure> {
    let answer = server.access().list_principals(v1::ListPrincipalsRequest {}).await;
    let principals = answer.map_err(server.failure())?.into_inner().principals;
    let rows: Vec<_> = principals
        .into_iter()
        .map(|principal| Principal {
            name: principal.name,
            in_file: principal.in_file,
            has_password: principal.has_password,
            tokens: principal.tokens.into_iter().map(token_row).collect(),
            grants: grants(principal.grants),
        })
        .collect();
    printer.rows(&rows)
}

fn token_row(token: v1::Token) -> Token {
    let (created, expires) =
        (format::moment(token.created.as_ref()), format::moment(token.expires.as_ref()));
    Token { id: token.id, label: token.label, created, expires }
}

#[derive(Serialize)]
struct Who {
    principal: String,
    grants: Vec<Grant>,
}

impl Show for Who {
    fn show(&self) -> String {
        format!("{}: {}", self.principal, format::or_dash(&roles(&self.grants)))
    }
}

async fn whoami(server: &Server, printer: &mut Printer) -> Result<(), Failure> {
    let answer = server.access().who_am_i(v1::WhoAmIRequest {}).await;
    let v1::WhoAmIResponse { principal, grants: held } =
        answer.map_err(server.failure())?.into_inner();
    printer.value(&Who { principal, grants: grants(held) })
}
