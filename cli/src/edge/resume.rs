//! `edgesync edge resume` and `skip`: lets a halted edge go on.

use edgesync_proto::v1;
use serde::Serialize;

use crate::{
    connect::Server,
    failure::Failure,
    output::{Printer, Show},
};

/// What the edge was halted by, or goes on behind.
#[derive(Serialize)]
struct Resumed {
    resumed: bool,
    skipped_to: Option<u64>,
    reason: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    paused: String,
}

impl Show for Resumed {
    fn show(&self) -> String {
        match self.skipped_to {
            Some(last) => format!(
                "the edge goes on behind offset {last}; its zone differs until it is repaired"
            ),
            None if self.paused.is_empty() => {
                format!("the edge goes on; it was halted: {}", self.reason)
            }
            None => format!(
                "the edge is halted no more, but applies nothing yet: {}; it was halted: {}",
                self.paused, self.reason
            ),
        }
    }
}

/// Who calls, as the system knows them: what is written to the edge's log.
fn principal() -> String {
    let name = |variable| std::env::var(variable).ok().filter(|name| !name.is_empty());
    name("SUDO_USER").or_else(|| name("USER")).unwrap_or_else(|| "unknown".to_owned())
}

/// Lets what is held pass, and tries again what could not be applied.
///
/// # Errors
/// If the daemon cannot be reached, or is not halted.
pub async fn resume(server: &Server, printer: &mut Printer) -> Result<(), Failure> {
    let request = v1::ResumeEdgeRequest { principal: principal() };
    let answer = server.edge_calls().resume_edge(request).await.map_err(server.failure())?;
    let v1::ResumeEdgeResponse { reason, paused } = answer.into_inner();
    printer.value(&Resumed { resumed: true, skipped_to: None, reason, paused })
}

/// Goes on behind the set that could not be applied.
///
/// # Errors
/// If the daemon cannot be reached, or is not halted before that offset.
pub async fn skip(first: u64, server: &Server, printer: &mut Printer) -> Result<(), Failure> {
    let request = v1::SkipChangeSetRequest { first, principal: principal() };
    let answer = server.edge_calls().skip_change_set(request).await.map_err(server.failure())?;
    let skipped_to = Some(answer.into_inner().last);
    let (reason, paused) = (String::new(), String::new());
    printer.value(&Resumed { resumed: true, skipped_to, reason, paused })
}
