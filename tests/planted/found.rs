//! How the run of a test ended, from what it has written. That it failed is not enough: it has to have
//! been run, and to have failed by its own word.

use std::{fmt, process::Output};

/// How it ended.
pub enum Ended {
    /// It was run, and passed.
    Passed,
    /// It was run, and failed: what it said first, and all that it said.
    Failed(String, String),
    /// It could not check anything here: why.
    NotChecked(String),
    /// It was not built: what the compiler said.
    NotBuilt(String),
    /// Anything else: no such test, killed, out of time.
    Otherwise(String),
}

impl Ended {
    /// From what it has written.
    pub fn of(output: &Output) -> Self {
        let text = String::from_utf8_lossy(&output.stdout);
        let result =
            text.lines().find(|line| line.starts_with("test result: ")).unwrap_or_default();
        if let Some(why) = text.lines().find(|line| line.starts_with("NOT CHECKED")) {
            Self::NotChecked(why.to_owned())
        } else if output.status.success() && result.contains(" 1 passed") {
            Self::Passed
        } else if !output.status.success() && result.contains(" 1 failed") {
            Self::Failed(said(&text), text.into_owned())
        } else {
            let errors = String::from_utf8_lossy(&output.stderr);
            Self::Otherwise(format!("{}; {result} {}", output.status, last_lines(&errors)))
        }
    }
}

/// The first line of a panic's message, or what else the test ended with.
fn said(text: &str) -> String {
    let mut lines = text.lines().skip_while(|line| !line.contains("panicked at ")).skip(1);
    let said = lines.find(|line| !line.trim().is_empty()).unwrap_or("it failed");
    said.trim().chars().take(100).collect::<String>().replace('|', "/")
}

fn last_lines(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(5)..].join(" / ")
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Passed => f.write_str("NOT FOUND: the test passes"),
            Self::Failed(said, _) => f.write_str(said),
            Self::NotChecked(why) => f.write_str(why),
            Self::NotBuilt(why) => write!(f, "it does not build:\n{why}"),
            Self::Otherwise(how) => write!(f, "it ended otherwise: {how}"),
        }
    }
}
