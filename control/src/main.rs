//! `edgesync-control`: the control plane as a program.

use std::process::ExitCode;

fn main() -> ExitCode {
    edgesync_control::run::main()
}
