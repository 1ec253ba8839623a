//! The edge daemon of Edgesync: [`link`] (station 4 of a record's way) carries what the control plane
//! sends, [`session`] (5) hands it to [`apply`], which writes it to [`store`] (6) and makes it
//! durable; then, and only then, the session acks. [`local`] answers from the store.

pub mod apply;
pub mod config;
pub mod limits;
pub mod link;
pub mod local;
pub mod metrics;
pub mod reconnect;
pub mod run;
pub mod session;
pub mod status;
pub mod store;
