//! What Edgesync's programs need from the host they run on, so that each of them does it alike:
//! configuration, the lock of a data directory, room on the disk, signals, systemd, logs, metrics and
//! their page, and certificates for those who have none.
//!
//! Nothing here knows of records, logs or sessions.

pub mod accept;
pub mod aside;
pub mod audit;
pub mod config;
pub mod credential;
pub mod exit;
pub mod listen;
pub mod lock;
pub mod logging;
pub mod metrics;
pub mod pace;
pub mod page;
pub mod peer;
pub mod pki;
pub mod place;
mod process;
pub mod reserve;
pub mod room;
pub mod secret;
pub mod signals;
pub mod systemd;
pub mod tls;
pub mod units;
