//! The control plane of Edgesync

pub mod fleet;
pub mod log;
pub mod sync;
