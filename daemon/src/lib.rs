//! The edge daemon of Edgesync.

pub mod limits;
pub mod metrics;
pub mod store;
