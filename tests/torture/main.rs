//! Torture of the real processes, from outside, judged by an oracle that has only what was written
//! and answered. Bounded by default; longer by environment variables (see docs/reliability.md), and
//! each run prints the seed that repeats its schedule.

mod disk;
mod faults;
mod flips;
mod kill_control;
mod kill_edge;
mod load;
mod network;
mod oracle;
mod plan;
mod power;
mod stop;
mod syscalls;
mod trace;
mod watch;
mod world;
