//! How the daemon stands: written by the session after each step, read by the local API, the
//! metrics and systemd.

use std::time::{Instant, SystemTime};

use edgesync_core::{
    position::{Offset, Position},
    session::{Halt, Pause},
    snapshot::Manifest,
};

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
    /// Waits for a person to confirm what takes too much away.
    Held,
}

impl LinkState {
    /// All states.
    pub const ALL: [Self; 5] =
        [Self::Disconnected, Self::Connecting, Self::Connected, Self::Halted, Self::Held];

    /// One word for metrics and logs.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Disconnected => "disconnected",
            Self::Connecting => "connecting",
            Self::Connected => "connected",
            Self::Halted => "halted",
            Self::Held => "held",
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
    /// What it has halted before, if it has.
    pub halted: Option<Halt>,
    /// Why the store has failed, if it has: one line.
    pub failed: Option<String>,
    /// Why nothing is applied for now, if nothing is.
    pub paused: Option<Pause>,
    /// The snapshot that it takes, if it does.
    pub snapshot: Option<(Manifest, u32)>,
    /// Number of times that a zone was found to differ.
    pub drifts: u64,
    /// Number of zones that have drifted and wait to be mended.
    pub to_be_mended: u64,
    /// Number of zones repaired.
    pub repairs: u64,
}

impl Status {
    /// Why nothing is applied, if nothing is: one line.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        let halted = || {
            let Halt { first, last, held, reason } = self.halted.as_ref()?;
            let word = if *held { "held" } else { "halted" };
            Some(format!("{word} before offsets {first} to {last}: {reason}"))
        };
        self.failed
            .clone()
            .or_else(halted)
            .or_else(|| self.paused.as_ref().map(|paused| paused.why.clone()))
    }

    /// One line for systemd and logs.
    #[must_use]
    pub fn line(&self) -> String {
        let offset = self.durable.map_or(Offset::ZERO, |position| position.offset);
        let (link, head) = (self.link.label(), self.head);
        if let Some((manifest, done)) = &self.snapshot {
            let (scope, chunks) = (&manifest.scope, manifest.chunks);
            return format!(
                "serving offset {offset}; snapshot of {scope}: {done} of {chunks} chunks"
            );
        }
        match (self.trouble(), self.link) {
            (Some(reason), _) => format!("serving offset {offset}; {reason}"),
            (None, LinkState::Disconnected) => {
                format!("serving offset {offset}; {link}: {}", self.reason)
            }
            _ => format!("serving offset {offset} of {head}; {link} to {}", self.control),
        }
    }
}
