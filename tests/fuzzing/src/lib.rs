//! What every decoder and parser must hold for any octets (invariants 15 and 17). A target takes
//! octets, gives them to the code under test, and panics where a property does not hold. Two run
//! them: `fuzz/` by coverage, and the test `fuzz_corpus`, which replays what that has kept.

#![allow(missing_docs)]

mod change_file;
mod change_set;
mod config;
mod edge_id;
mod frame;
mod input;
mod key;
mod model;
pub mod mutation;
mod name;
mod record;
mod snapshot;
mod store;
mod units;
mod zone_file;

use std::fmt::Display;

/// One decoder or parser, and what must hold for it.
#[derive(Clone, Copy)]
pub struct Target {
    /// The name of its file under `fuzz/fuzz_targets` and of its folder under `fuzz/corpus`.
    pub name: &'static str,
    /// Runs it; panics if a property does not hold.
    pub run: fn(&[u8]),
    /// Hand-made inputs that are right, each under a name: where mutation begins.
    pub seeds: fn() -> Vec<(&'static str, Vec<u8>)>,
}

/// All targets.
pub const TARGETS: &[Target] = &[
    Target { name: "change_file", run: change_file::run, seeds: change_file::seeds },
    Target { name: "change_set", run: change_set::run, seeds: change_set::seeds },
    Target { name: "config", run: config::run, seeds: config::seeds },
    Target { name: "edge_id", run: edge_id::run, seeds: edge_id::seeds },
    Target { name: "frame", run: frame::run, seeds: frame::seeds },
    Target { name: "key", run: key::run, seeds: key::seeds },
    Target { name: "name", run: name::run, seeds: name::seeds },
    Target { name: "record", run: record::run, seeds: record::seeds },
    Target { name: "snapshot", run: snapshot::run, seeds: snapshot::seeds },
    Target { name: "store", run: store::run, seeds: store::seeds },
    Target { name: "units", run: units::run, seeds: units::seeds },
    Target { name: "zone_file", run: zone_file::run, seeds: zone_file::seeds },
];

/// Runs the target of a name.
///
/// # Panics
/// If there is none of that name, or a property does not hold.
pub fn run(name: &str, input: &[u8]) {
    let target = TARGETS.iter().find(|target| target.name == name).expect("a target's name");
    (target.run)(input);
}

/// The octets of the longest error that is shown to a person.
const ERROR_OCTETS: usize = 4_096;

/// What is shown to a person is one line that no terminal takes for a command, and not endless.
fn assert_one_line(error: &impl Display) {
    let line = error.to_string();
    assert!(!line.is_empty(), "an error says something");
    assert!(!line.contains(char::is_control), "an error is one line: {line:?}");
    assert!(line.len() <= ERROR_OCTETS, "an error is short: {} octets", line.len());
}
