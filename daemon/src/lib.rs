//! The edge daemon of Edgesync.

pub mod apply;
pub mod limits;
pub mod link;
pub mod metrics;
pub mod reconnect;
pub mod session;
pub mod status;
pub mod store;
