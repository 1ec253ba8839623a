//! What whole-system tests stand on: the real programs as processes on loopback, in a directory of
//! their own, ended with their handles.

mod certs;
mod crowd;
mod independent;
mod process;
mod programs;
mod proxy;
mod stack;

pub use certs::{Certs, around_now, begin, greet};
pub use crowd::{Counts, Crowd, CrowdConfig, hello};
pub use independent::{Compiled, compile_zone, have, missing, not_checked, shared};
pub use process::{Process, eventually, output_of};
pub use programs::program;
pub use proxy::{Cut, End, Proxy, Way, Weather};
pub use stack::{Ran, Stack};
