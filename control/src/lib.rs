//! The control plane of Edgesync: takes record changes (`api`), makes them durable and gives them
//! their order (`log`), carries them to the edges (`sync`), or all records at once to an edge that is
//! too far behind (`snapshot`), and knows what each edge has (`fleet`). Who may do what is asked before
//! all of it (`access`).

pub mod access;
pub mod api;
pub mod config;
pub mod fleet;
pub mod log;
pub mod metrics;
pub mod run;
pub mod snapshot;
pub mod sync;
