//! Programs and data that are not ours, where they are there.

use std::{
    io::Write,
    path::{Path, PathBuf},
    process::Command,
};

/// Says that something is not checked here, past the test's own captured output: a test that passes says
/// nothing else.
pub fn not_checked(why: &str) {
    let line = format!("NOT CHECKED: {why}\n");
    let _ = std::io::stderr().write_all(line.as_bytes());
    // For who reads what one test has said.
    print!("{line}");
}

/// True if a program is installed; says so if it is not.
///
/// # Panics
/// If it is not, and everything is to be checked: `EDGESYNC_CHECK_ALL=1` says that what can be installed is.
#[must_use]
pub fn have(program: &str) -> bool {
    let found = std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|dir| dir.join(program).is_file()));
    found || missing(&format!("{program} is not installed"))
}

/// Says that what can be installed is not there; false.
///
/// # Panics
/// If everything is to be checked.
pub fn missing(what: &str) -> bool {
    not_checked(what);
    let all = std::env::var("EDGESYNC_CHECK_ALL").is_ok_and(|value| value == "1");
    assert!(!all, "EDGESYNC_CHECK_ALL: {what}");
    false
}

/// A file of the data beside the project; says so if it is not there.
#[must_use]
pub fn shared(path: &str) -> Option<PathBuf> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared").join(path);
    let found = file.is_file();
    if !found {
        not_checked(&format!("shared/{path} is not there"));
    }
    found.then_some(file)
}

/// A zone as `named-compilezone` writes it: canonical text, one record a line.
#[derive(Debug, PartialEq, Eq)]
pub struct Compiled(Vec<String>);

impl Compiled {
    /// Number of records.
    #[must_use]
    pub fn records(&self) -> usize {
        self.0.len()
    }

    /// The first line in which two zones differ.
    #[must_use]
    pub fn first_difference<'a>(&'a self, other: &'a Self) -> Option<(&'a str, &'a str)> {
        let mut pairs = self.0.iter().zip(&other.0);
        pairs.find(|(a, b)| a != b).map(|(a, b)| (a.as_str(), b.as_str()))
    }
}

/// Reads zone-file text with BIND, which knows nothing of us.
///
/// # Panics
/// If BIND does not take it.
#[must_use]
pub fn compile_zone(origin: &str, file: &Path) -> Compiled {
    let output = Command::new("named-compilezone")
        .args(["-k", "ignore", "-i", "none", "-n", "ignore", "-m", "ignore", "-s", "full", "-q"])
        .args(["-o", "-", origin])
        .arg(file)
        .output()
        .expect("named-compilezone runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    let mut lines: Vec<String> =
        text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    lines.sort_unstable();
    // The SOA is written once more at the end.
    lines.dedup();
    Compiled(lines)
}
