//! The control plane through its ports: each RPC's good way and each refusal, with a real log.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod access;
mod admission;
mod bounds;
mod change_sets;
mod damage;
mod fleet;
mod harness;
mod import;
mod process;
mod record;
mod revocation;
mod server;
mod snapshot;
mod vanished;
mod zone;
