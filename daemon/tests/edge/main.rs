//! The whole daemon in one process, against a control plane that is made of the core's sender and a
//! list: what it serves, acks and resumes, and what it does when the stream, the control plane or
//! the change sets are bad.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod daemon;
mod flood;
mod healing;
mod plane;
mod rotten;
mod snapshot;
mod stories;
mod trouble;
mod vanished;
