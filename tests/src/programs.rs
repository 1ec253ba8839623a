//! The programs under test, of the profile that the tests were built in.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

/// The path of a program of this workspace. All of them are built once, because `cargo test` builds
/// the binaries of a package only for that package's own tests.
///
/// # Panics
/// If they cannot be built.
#[must_use]
pub fn program(name: &str) -> PathBuf {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(build).join(name)
}

fn build() -> PathBuf {
    let own = env::current_exe().expect("this test has a path");
    // …/target/PROFILE/deps/NAME
    let folder = own.parent().and_then(Path::parent).expect("tests lie in target/PROFILE/deps");
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["build", "--quiet", "--bins"]);
    for package in ["edgesync-control", "edgesync-daemon", "edgesync-cli"] {
        cargo.args(["-p", package]);
    }
    if folder.ends_with("release") {
        cargo.arg("--release");
    }
    cargo.current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    assert!(cargo.status().expect("cargo runs").success(), "the programs do not build");
    folder.to_owned()
}
