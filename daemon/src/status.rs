//! How the daemon stands: written by the session after each step, read by the local API, the
//! metrics and systemd.

use std::time::{Instant, SystemTime};

use edgesync_core::position::{Offset, Position};

/// How the daemon stands with the control plane.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum LinkState {
    /// No session; the next try is due.
    #[default]
    Disconnected,
    /// Connecting, or waiting for Welcome.
    Connecting,
    /// In session.
    Connected,
    /// Waits for a person: a change set was refused, or the store has failed.
    Halted,
}

impl LinkState {
    /// All states.
    pub const ALL: [Self; 4] =
        [Self::Disconnected, Self::Connecting, Self::Connected, Self::Halted];

    /// One word for metrics and logs.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Disconnected => "disconnected",
            Self::Connecting => "connecting",
            Self::Connected => "connected",
            Self::Halted => "halted",
        }
    }
}

/// How the daemon stands.
#[derive(Debug, Clone, Default)]
pub struct Status {
    /// With the control plane.
    pub link: LinkState,
    /// The control plane that it is, or was last, connected to.
    pub control: String,
    /// What is durable in the store.
    pub durable: Option<Position>,
    /// Offset of the control plane's head, as last heard.
    pub head: Offset,
    /// Offset that the process found in its store.
    pub resumed_from: Offset,
    /// Number of changes applied by this process.
    pub applied_changes: u64,
    /// Number of changes received by this process that the store had already.
    pub duplicate_changes: u64,
    /// How often a store has been opened.
    pub boot_epoch: u64,
    /// When the last message came.
    pub last_contact: Option<SystemTime>,
    /// When the next try to connect is due.
    pub next_try: Option<Instant>,
    /// Receipt of the oldest change that is not durable.
    pub oldest_received: Option<Instant>,
    /// Why it is disconnected: one line.
    pub reason: String,
    /// Why it has halted, if it has: one line.
    pub halted: Option<String>,
}

impl Status {
    /// One line for systemd and logs.
    #[must_use]
    pub fn line(&self) -> String {
        let offset = self.durable.map_or(Offset::ZERO, |position| position.offset);
        let (link, head) = (self.link.label(), self.head);
        match (&self.halted, self.link) {
            (Some(reason), _) => format!("halted at offset {offset}: {reason}"),
            (None, LinkState::Disconnected) => {
                format!("serving offset {offset}; {link}: {}", self.reason)
            }
            _ => format!("serving offset {offset} of {head}; {link} to {}", self.control),
        }
    }
}
