//! Planted bugs: a test that cannot fail proves nothing. Each `*.patch` here breaks one dangerous
//! invariant of a copy of the tree, and names the test that has to find it. The product has no trace of
//! this.
//!
//! | variable | stands for | without it |
//! |---|---|---|
//! | `EDGESYNC_PLANTED` | `quick`, `all`, or names of patches with commas between | `quick` |

mod bug;
mod copy;
mod found;

use std::{path::Path, process::Command, time::Instant};

use edgesync_tests::{have, not_checked};

use self::{bug::Bug, copy::Copy, found::Ended};

/// The root of the tree.
fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// True if this is a clone; says so if not.
fn is_clone() -> bool {
    let is_clone = have("git") && root().join(".git").exists();
    if !is_clone {
        not_checked("the tracked files are only known in a clone");
    }
    is_clone
}

#[test]
fn every_planted_bug_still_fits_the_code_and_names_a_test_that_is_there() {
    if !is_clone() {
        return;
    }
    let bugs = Bug::all();
    assert!(bugs.len() > 20, "the planted bugs are here");
    let git = |arguments: &[&str]| {
        let mut command = Command::new("git");
        command.current_dir(root()).args(arguments).output().expect("git runs")
    };
    let mut wrong = Vec::new();
    for bug in &bugs {
        let applied = git(&["apply", "--check", bug.patch.to_str().expect("UTF-8")]);
        if !applied.status.success() {
            let why = String::from_utf8_lossy(&applied.stderr).into_owned();
            wrong.push(format!("{}: does not apply: {}", bug.name, why.trim()));
        }
        let test = format!("fn {}(", bug.found_by.function());
        let places = bug.found_by.places();
        let places: Vec<&str> = places.iter().map(String::as_str).collect();
        let grep = ["grep", "-qF", "--untracked", &test, "--"];
        if !git(&[&grep[..], &places].concat()).status.success() {
            wrong.push(format!("{}: there is no `{test}` in {places:?}", bug.name));
        }
    }
    assert!(wrong.is_empty(), "make the patches fit again:\n{}", wrong.join("\n"));
}

#[test]
#[ignore = "builds the tree once for each bug: just torture-planted"]
fn each_planted_bug_is_found() {
    assert!(is_clone(), "nothing can be planted here");
    let which = std::env::var("EDGESYNC_PLANTED").unwrap_or_else(|_| "quick".to_owned());
    let bugs = Bug::chosen(&which);
    println!("EDGESYNC_PLANTED={which}: {} bugs", bugs.len());
    let copy = Copy::make(root());
    let begin = Instant::now();
    let mut skipped = Vec::new();
    let mut tests: Vec<_> = bugs.iter().map(|bug| &bug.found_by).collect();
    tests.dedup();
    for test in tests {
        match copy.run(test) {
            Ended::Passed => {}
            Ended::NotChecked(why) => skipped.push((test, why)),
            other => panic!("without any bug {} has to pass: {other}", test.test),
        }
    }
    println!("without any bug all these tests pass ({} s)\n", begin.elapsed().as_secs());
    println!("| bug | breaks | found by | s | what it said |\n|---|---|---|---|---|");
    let (mut missed, mut unchecked) = (Vec::new(), 0);
    for bug in &bugs {
        if let Some((_, why)) = skipped.iter().find(|(test, _)| **test == bug.found_by) {
            println!("| {} | {} | {why} | - | - |", bug.name, bug.breaks);
            unchecked += 1;
            continue;
        }
        let begin = Instant::now();
        copy.plant(bug);
        let ended = copy.run(&bug.found_by);
        copy.restore();
        let (test, seconds) = (bug.found_by.function(), begin.elapsed().as_secs());
        println!("| {} | {} | {test} | {seconds} | {ended} |", bug.name, bug.breaks);
        match (&ended, &bug.says) {
            (Ended::Failed(_, text), Some(says)) if !text.contains(says) => {
                missed.push(format!("{}: it failed, and did not say `{says}`: {ended}", bug.name));
            }
            (Ended::Failed(..), _) => {}
            _ => missed.push(format!("{} ({}): {ended}", bug.name, bug.what)),
        }
    }
    let checked = bugs.len() - unchecked;
    println!("\n{checked} of {} bugs in {} s", bugs.len(), begin.elapsed().as_secs());
    assert!(checked > 0, "nothing was checked: {skipped:?}");
    assert!(missed.is_empty(), "not found by the tests they name:\n{}", missed.join("\n"));
}
