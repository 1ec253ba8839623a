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
}

impl Show for Resumed {
    fn show(&self) -> String {
        match self.skipped_to {
            Some(last) => format!(
                "the edge goes on behind offset {last}; its zone differs until it is repaired"
            ),
            None => format!("the edge goes on; it was halted: {}", self.reason),
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
    let reason = answer.into_inner().reason;
    printer.value(&Resumed { resumed: true, skipped_to: None, reason })
}

/// Goes on behind the set that could not be applied.
///
/// # Errors
/// If the daemon cannot be reached, or is not halted before that offset.
pub async fn skip(first: u64, server: &Server, printer: &mut Printer) -> Result<(), Failure> {
    let request = v1::SkipChangeSetRequest { first, principal: principal() };
    let answer = server.edge_calls().skip_change_set(request).await.map_err(server.failure())?;
    let skipped_to = Some(answer.into_inner().last);
    printer.value(&Resumed { resumed: true, skipped_to, reason: String::new() })
}
