//! The real programs together, as users and operators meet them.

mod access;
mod certificates;
mod healing;
mod interop;
mod outage;
mod pressure;
mod refusals;
mod rootzone;
mod rotation;
mod story;
mod tls;
