//! The pure heart of Edgesync: no I/O, no clock, no random numbers, no threads, no protobuf.
//!
//! What a record is and when a change to it is right ([`name`], [`rdata`], [`record`], [`stage`]);
//! what the log and the stores hold ([`change`], [`position`], [`key`], [`digest`], [`fold`]); what
//! compares and mends them ([`sample`], [`snapshot`]); and both ends of a session as state machines ([`session`]). Everything outside only moves values.

pub mod change;
pub mod change_file;
pub mod digest;
pub mod edge_id;
mod excerpt;
pub mod fold;
pub mod guard;
pub mod key;
pub mod limits;
mod master;
pub mod name;
pub mod position;
pub mod rdata;
pub mod record;
pub mod sample;
pub mod session;
pub mod snapshot;
pub mod spike;
pub mod stage;
pub mod zone_file;

pub use domain::base::iana::Rtype;
