//! A copy of the tree under `target/planted`, with a build directory of its own. A file is
//! written only if it differs, so that cargo builds again what a bug has touched, and nothing else.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use super::{
    bug::{Bug, TestCommand},
    found::Ended,
};

/// Seconds that a build, or a test, may take.
const LIMIT: &str = "1500";
/// What is not needed, and large.
const LEFT_OUT: &str = "fuzz/";

/// A copy of the tree.
pub struct Copy {
    root: PathBuf,
    tree: PathBuf,
    build: PathBuf,
}

impl Copy {
    /// A copy as the tree is now.
    pub fn make(root: &Path) -> Self {
        let root = root.canonicalize().expect("the tree");
        let (tree, build) = (root.join("target/planted/tree"), root.join("target/planted/build"));
        let copy = Self { root, tree, build };
        copy.take_dependencies();
        copy.restore();
        copy
    }

    /// Makes the copy what the tree is; whatever was done to it is undone.
    pub fn restore(&self) {
        let tracked = self.run_git(&self.root, &["ls-files", "-z"]);
        let tracked = String::from_utf8(tracked.stdout).expect("names in UTF-8");
        let names =
            tracked.split('\0').filter(|name| !name.is_empty() && !name.starts_with(LEFT_OUT));
        let mut wanted = BTreeSet::new();
        for name in names {
            // One that was removed and is still tracked is not there.
            let Ok(octets) = fs::read(self.root.join(name)) else { continue };
            let path = self.tree.join(name);
            if fs::read(&path).ok().as_ref() != Some(&octets) {
                fs::create_dir_all(path.parent().expect("a directory")).expect("it can be made");
                fs::write(&path, octets).expect("it can be written");
            }
            wanted.insert(path);
        }
        remove_others(&self.tree, &wanted);
    }

    /// Puts a bug into the copy.
    pub fn plant(&self, bug: &Bug) {
        let applied = self.run_git(&self.tree, &["apply", bug.patch.to_str().expect("UTF-8")]);
        let why = String::from_utf8_lossy(&applied.stderr);
        assert!(applied.status.success(), "{} does not apply: {why}", bug.name);
    }

    /// Builds a test of the copy, and runs it.
    pub fn run(&self, test: &TestCommand) -> Ended {
        let built = self.run_cargo(test, &["--no-run"]);
        if !built.status.success() {
            return Ended::NotBuilt(String::from_utf8_lossy(&built.stderr).into_owned());
        }
        Ended::of(&self.run_cargo(test, &[&test.test, "--", "--exact", "--show-output"]))
    }

    fn run_cargo(&self, test: &TestCommand, more: &[&str]) -> Output {
        let mut command = Command::new("timeout");
        command.args(["-k", "5", LIMIT, "cargo"]).args(&test.cargo).arg("--locked").args(more);
        command.current_dir(&self.tree).stdin(Stdio::null());
        command.env("CARGO_TARGET_DIR", &self.build).env("CARGO_INCREMENTAL", "1");
        // Of the cargo that runs this, and not of the one that is run.
        command.env_remove("CARGO").env_remove("CARGO_MANIFEST_DIR").env_remove("EDGESYNC_PLANTED");
        command.envs(test.environment.iter().cloned()).output().expect("timeout and cargo run")
    }

    fn run_git(&self, within: &Path, arguments: &[&str]) -> Output {
        let mut command = Command::new("git");
        // The copy is in no repository: else its paths would be taken for those of the tree.
        command.env("GIT_CEILING_DIRECTORIES", self.tree.parent().expect("target/planted"));
        command.current_dir(within).args(arguments).output().expect("git runs")
    }

    /// Takes over what the tree's own build has made of other people's crates, once. What does not fit
    /// is built anew by cargo.
    fn take_dependencies(&self) {
        let made = self.root.join("target/debug");
        if self.build.exists() || !made.exists() {
            return;
        }
        for (folder, is_wanted) in [
            ("deps", (|name| name.starts_with("lib")) as fn(&str) -> bool),
            ("build", |_| true),
            (".fingerprint", |_| true),
        ] {
            let to = self.build.join("debug").join(folder);
            fs::create_dir_all(&to).expect("a directory can be made");
            let entries = fs::read_dir(made.join(folder)).into_iter().flatten().flatten();
            let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
            let names = names.filter(|name| is_wanted(name) && !name.contains("edgesync"));
            for some in names.collect::<Vec<_>>().chunks(500) {
                let mut command = Command::new("cp");
                command.current_dir(made.join(folder)).arg("-a").args(some).arg(&to);
                assert!(command.status().expect("cp runs").success(), "cannot copy to {to:?}");
            }
        }
    }
}

/// Removes the files that are not wanted.
fn remove_others(folder: &Path, wanted: &BTreeSet<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a directory").flatten() {
        let path = entry.path();
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            if path.file_name().is_none_or(|name| name != "target") {
                remove_others(&path, wanted);
            }
        } else if !wanted.contains(&path) {
            fs::remove_file(path).expect("it can be removed");
        }
    }
}
