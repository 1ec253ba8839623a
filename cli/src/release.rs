//! `edgesync freeze`, `unfreeze` and `release`: how far the log is released to edges.

use clap::Args;
use edgesync_proto::v1;
use serde::Serialize;

use crate::{
    connect::{Server, Target},
    failure::{Failure, Outcome},
    format,
    output::{Printer, Show, fields},
    record::missing,
};

/// Arguments of `freeze`.
#[derive(Debug, Args)]
pub struct FreezeArgs {
    /// Why: one line of at most 200 characters (what is longer is cut), shown to whoever asks.
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    pub reason: String,
}

/// Keeps what follows from the edges.
///
/// # Errors
/// If the server cannot be reached, or refuses.
pub async fn freeze(
    args: FreezeArgs,
    control: &Target,
    printer: &mut Printer,
) -> Result<Outcome, Failure> {
    let server = Server::control(control).await?;
    let request = v1::FreezeRequest { reason: args.reason };
    let answer = server.fleet().freeze(request).await.map_err(server.failure())?;
    print(answer.into_inner().release, &server, printer)
}

/// Lets the edges have all.
///
/// # Errors
/// If the server cannot be reached, or refuses.
pub async fn unfreeze(control: &Target, printer: &mut Printer) -> Result<Outcome, Failure> {
    let server = Server::control(control).await?;
    let answer = server.fleet().unfreeze(v1::UnfreezeRequest {}).await.map_err(server.failure())?;
    print(answer.into_inner().release, &server, printer)
}

/// Shows how the release stands.
///
/// # Errors
/// If the server cannot be reached.
pub async fn show(control: &Target, printer: &mut Printer) -> Result<Outcome, Failure> {
    let server = Server::control(control).await?;
    let answer = server.fleet().get_release(v1::GetReleaseRequest {}).await;
    print(answer.map_err(server.failure())?.into_inner().release, &server, printer)
}

fn print(
    release: Option<v1::Release>,
    server: &Server,
    printer: &mut Printer,
) -> Result<Outcome, Failure> {
    let release = release.ok_or_else(|| missing(server, "release"))?;
    printer.value(&Release::from(release))?;
    Ok(Outcome::Done)
}

/// How far the log is released.
#[derive(Debug, Serialize)]
struct Release {
    frozen: bool,
    released_offset: u64,
    head: u64,
    floor: u64,
    reason: String,
    principal: String,
    since: Option<String>,
}

impl From<v1::Release> for Release {
    fn from(release: v1::Release) -> Self {
        let offset =
            |position: Option<v1::Position>| position.map_or(0, |position| position.offset);
        Self {
            frozen: release.frozen,
            released_offset: offset(release.released),
            head: offset(release.head),
            floor: release.floor,
            reason: release.reason,
            principal: release.principal,
            since: format::moment(release.since.as_ref()),
        }
    }
}

impl Show for Release {
    fn show(&self) -> String {
        let state = if self.frozen { "frozen" } else { "everything is released" };
        let mut lines = vec![
            ("release", state.to_owned()),
            ("released up to", self.released_offset.to_string()),
            ("head", self.head.to_string()),
            ("log begins after", self.floor.to_string()),
        ];
        if self.frozen {
            let since = self.since.as_deref().unwrap_or_default();
            lines.push(("by", format::or_dash(&self.principal)));
            lines.push(("since", format::or_dash(since)));
            lines.push(("reason", format::or_dash(&self.reason)));
        }
        fields(&lines)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_frozen_and_why_is_told() {
        let position = |offset| Some(v1::Position { offset, ..Default::default() });
        let open = v1::Release { released: position(7), head: position(7), ..Default::default() };
        let frozen = v1::Release {
            frozen: true,
            head: position(9),
            reason: "an incident".to_owned(),
            principal: "anna".to_owned(),
            ..open.clone()
        };
        assert!(Release::from(open).show().contains("everything is released"));
        let text = Release::from(frozen).show();
        for part in ["frozen", "7", "9", "an incident", "anna"] {
            assert!(text.contains(part), "{text}");
        }
    }
}
