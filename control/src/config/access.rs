//! What the control plane is set to about who may do what, and how much.

use std::{path::PathBuf, time::Duration};

use edgesync_host::units::{ByteSize, Period};
use serde::{Deserialize, Serialize};

/// Bounds of the life of a login's token.
const LOGIN_LIFETIME: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(24 * 3_600)];

/// Who may do what.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AccessConfig {
    /// The policy file.
    pub policy: PathBuf,
    /// How long the token of a login lives.
    #[serde(default = "AccessConfig::login_lifetime")]
    pub login_lifetime: Period,
    /// Logins that may be tried in a minute, by user and by address.
    #[serde(default = "AccessConfig::logins_per_minute")]
    pub logins_per_minute: u32,
}

impl AccessConfig {
    pub(super) fn login_lifetime() -> Period {
        Period::from_secs(900)
    }

    pub(super) const fn logins_per_minute() -> u32 {
        10
    }

    /// The first key that is out of its bounds, with its value and its bounds.
    pub(super) fn wrong(&self) -> Option<(&'static str, String, &'static str)> {
        let [least, most] = LOGIN_LIFETIME;
        let (lifetime, logins) = (self.login_lifetime, self.logins_per_minute);
        if !(least..=most).contains(&lifetime.get()) {
            return Some(("access.login_lifetime", lifetime.to_string(), "1s to 1d"));
        }
        (logins == 0).then(|| ("access.logins_per_minute", logins.to_string(), "1 or more"))
    }
}

/// What a principal may do in a second, where access is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LimitsConfig {
    /// Writes.
    pub writes_per_second: u32,
    /// Octets of them.
    pub bytes_per_second: ByteSize,
}
