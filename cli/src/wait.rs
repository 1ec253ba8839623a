//! `edgesync wait`: returns when an offset is durable on the edges, or says who misses it.

use clap::Args;
use edgesync_core::edge_id::EdgeId;
use edgesync_host::units::Period;
use edgesync_proto::v1::{self, wait_for_offset_request::Edges};
use serde::Serialize;

use crate::{
    connect::{Server, Target},
    failure::{Failure, Outcome},
    fleet, format,
    output::{Columns, Printer, Show},
};

/// Arguments of `wait`.
#[derive(Debug, Args)]
pub struct WaitArgs {
    /// Offset to wait for [default: the head of the log].
    #[arg(long, value_name = "N")]
    pub offset: Option<u64>,
    /// On which edges: all, at least so many, or those with these ids. An id that is a number needs
    /// a comma: `7,`.
    #[arg(long, value_name = "all|COUNT|ID,…", default_value = "all", value_parser = edges)]
    pub edges: Edges,
    /// How long to wait.
    #[arg(long, value_name = "TIME", default_value = "5s")]
    pub timeout: Period,
}

/// Waits.
///
/// # Errors
/// If the server cannot be reached, or refuses.
pub async fn run(
    args: WaitArgs,
    control: &Target,
    printer: &mut Printer,
) -> Result<Outcome, Failure> {
    let server = Server::control(control).await?;
    let timeout = prost_types::Duration::try_from(args.timeout.get());
    let timeout = timeout.map_err(|_| Failure::Usage("--timeout is too long".to_owned()))?;
    let request = v1::WaitForOffsetRequest {
        position: args.offset.map(|offset| v1::Position { offset, ..Default::default() }),
        timeout: Some(timeout),
        edges: Some(args.edges),
    };
    let answer = server.fleet().wait_for_offset(request).await.map_err(server.failure())?;
    let waited = Waited::from(answer.into_inner());
    printer.value(&waited)?;
    Ok(if waited.reached { Outcome::Done } else { Outcome::TimedOut })
}

/// Reads `all`, a count, or ids with commas between.
fn edges(text: &str) -> Result<Edges, String> {
    match text.parse::<u32>() {
        _ if text == "all" => Ok(Edges::All(true)),
        Ok(0) => Err("at least 1 edge".to_owned()),
        Ok(count) => Ok(Edges::Count(count)),
        Err(_) => {
            let ids = text.strip_suffix(',').unwrap_or(text).split(',').map(str::trim);
            let ids: Result<Vec<EdgeId>, _> = ids.map(str::parse).collect();
            let ids = ids.map_err(|error| error.to_string())?;
            Ok(Edges::Ids(v1::EdgeIds { ids: ids.iter().map(EdgeId::to_string).collect() }))
        }
    }
}

const REACHED: &str = "reached";
const TIMEOUT: &str = "timeout";
const FROZEN: &str = "frozen";
const HALTED: &str = "halted";

/// How the wait went.
#[derive(Debug, Serialize)]
struct Waited {
    reached: bool,
    end: &'static str,
    offset: u64,
    waited_seconds: f64,
    have: Vec<String>,
    missing: Vec<Missing>,
}

/// An edge that has not acknowledged the offset.
#[derive(Debug, Serialize)]
struct Missing {
    id: String,
    state: &'static str,
    durable_offset: u64,
    #[serde(skip_serializing_if = "String::is_empty")]
    reason: String,
}

impl From<v1::WaitForOffsetResponse> for Waited {
    fn from(answer: v1::WaitForOffsetResponse) -> Self {
        let end = match answer.end() {
            _ if answer.reached => REACHED,
            v1::WaitEnd::Frozen => FROZEN,
            v1::WaitEnd::Halted => HALTED,
            // An older control plane does not say it.
            v1::WaitEnd::Timeout | v1::WaitEnd::Unspecified | v1::WaitEnd::Reached => TIMEOUT,
        };
        let missing = answer.missing.into_iter().map(|edge| Missing {
            state: fleet::state(edge.state()),
            durable_offset: edge.durable_offset,
            id: edge.id,
            reason: edge.reason,
        });
        Self {
            reached: answer.reached,
            end,
            offset: answer.position.map_or(0, |position| position.offset),
            waited_seconds: format::seconds(answer.waited.as_ref()),
            have: answer.have,
            missing: missing.collect(),
        }
    }
}

impl Show for Waited {
    fn show(&self) -> String {
        let seconds = format::seconds_text(self.waited_seconds);
        let have = format::count(self.have.len() as u64, "edge");
        let offset = self.offset;
        let missing = self.missing.len();
        let durable = format!("offset {offset} is durable on {have}");
        let mut text = match self.end {
            REACHED => format!("{durable} after {seconds}\n"),
            FROZEN => format!(
                "the release is frozen before offset {offset}: it is durable on {have}, {missing} miss it; \
                 `edgesync unfreeze` releases it\n"
            ),
            HALTED => format!(
                "not waited for any longer after {seconds}: {durable}, {missing} miss it, and too many of \
                 them stand still; `edgesync fleet` says why, `edgesync edge resume` lets a held or halted one go on\n"
            ),
            _ => format!("timed out after {seconds}: {durable}, {missing} miss it\n"),
        };
        if !self.missing.is_empty() {
            let cells = |edge: &Missing| {
                vec![edge.id.clone(), edge.state.to_owned(), edge.durable_offset.to_string()]
            };
            let rows = self.missing.iter().map(cells).collect();
            text.push_str(&Columns::default().page(&["MISSING", "STATE", "DURABLE"], rows));
            for edge in self.missing.iter().filter(|edge| !edge.reason.is_empty()) {
                text.push_str(&format!("{}: {}\n", edge.id, edge.reason));
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(ids: &[&str]) -> Edges {
        Edges::Ids(v1::EdgeIds { ids: ids.iter().map(|&id| id.to_owned()).collect() })
    }

    #[test]
    fn edges_are_all_a_count_or_ids() {
        assert_eq!(edges("all").unwrap(), Edges::All(true));
        assert_eq!(edges("3").unwrap(), Edges::Count(3));
        assert_eq!(edges("fra-1").unwrap(), ids(&["fra-1"]));
        assert_eq!(edges("fra-1, ams-2").unwrap(), ids(&["fra-1", "ams-2"]));
        assert_eq!(edges("7,").unwrap(), ids(&["7"]));
        assert_eq!(edges("all,").unwrap(), ids(&["all"]));
        for bad in ["", "0", ",", "Fra", "a,,b", "+1 2"] {
            assert!(edges(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn who_is_missing_is_named() {
        let mut behind =
            v1::MissingEdge { id: "ams".to_owned(), durable_offset: 7, ..Default::default() };
        behind.set_state(v1::EdgeState::Disconnected);
        let answer = v1::WaitForOffsetResponse {
            reached: false,
            position: Some(v1::Position { offset: 9, ..Default::default() }),
            waited: Some(prost_types::Duration { seconds: 5, nanos: 0 }),
            have: vec!["fra".to_owned()],
            missing: vec![behind],
            end: v1::WaitEnd::Timeout.into(),
        };
        for (end, way_out) in [
            (v1::WaitEnd::Frozen, "`edgesync unfreeze`"),
            (v1::WaitEnd::Halted, "`edgesync edge resume`"),
        ] {
            let text =
                Waited::from(v1::WaitForOffsetResponse { end: end.into(), ..answer.clone() });
            let text = text.show();
            assert!(!text.contains("timed out") && text.contains(way_out), "{text}");
        }
        assert_eq!(
            Waited::from(answer).show(),
            "timed out after 5.000 s: offset 9 is durable on 1 edge, 1 miss it\n\
             MISSING  STATE         DURABLE\nams      disconnected  7\n"
        );
    }
}
