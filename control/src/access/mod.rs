//! Who may do what: asked before every call, in one place, and again where the zone is known, where a
//! stream goes on, and where a write is committed (rule 25). Default deny.
//!
//! `function` is the table of all that can be called, `policy` says who has which role where, `layer`
//! stands before all services, and what it lets through carries an [`Admitted`]. Only that makes an
//! [`Authorized`], and only with one there is a write.

mod admitted;
mod authorized;
mod body;
mod bucket;
mod denied;
mod function;
mod given;
mod layer;
mod logins;
mod manage;
mod policy;
mod role;
mod text;
mod trail;
mod watch_file;
mod zones;

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock},
    time::{Duration, Instant, SystemTime},
};

pub use admitted::Admitted;
pub use authorized::Authorized;
use bucket::{Bucket, Rate};
pub use denied::{Denied, exhausted};
use edgesync_host::{audit::AuditError, secret::Secret};
pub use function::{Function, Need, Scope};
pub use given::{Given, given, peer_of};
pub use layer::AccessLayer;
use logins::Logins;
pub use manage::{ManageError, NewToken};
pub use policy::{Grant, Policy, Principal, Token};
pub use role::{NoRole, Rights, Role};
pub use text::{PolicyError, Principals};
use tokio::sync::watch;
pub use trail::{Line, Trail};
pub use watch_file::check_policy;
pub use zones::{Zones, ZonesError};

use crate::log::Log;

/// What access is set to.
#[derive(Clone, Debug)]
pub struct AccessOptions {
    /// The policy file.
    pub policy: PathBuf,
    /// The audit file.
    pub audit: PathBuf,
    /// How long the token of a login lives.
    pub login_lifetime: Duration,
    /// Logins that may be tried in a minute, by user and by address.
    pub logins_per_minute: u32,
    /// Writes of one principal in a second.
    pub writes_per_second: u32,
    /// Octets of the writes of one principal in a second.
    pub bytes_per_second: u64,
}

/// Why access cannot be kept, and so nothing can be served.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// The audit cannot be used.
    #[error(transparent)]
    Audit(#[from] AuditError),
    /// The rows in the store cannot be read.
    #[error("who may do what cannot be read from the log: {0}; if it is damaged, restore a backup")]
    Store(redb::Error),
    /// A row is not right.
    #[error("what the log says of principal {name} cannot be read: {error}; restore a backup")]
    Row {
        /// The principal.
        name: String,
        /// What is wrong.
        error: PolicyError,
    },
}

/// Who may do what. Cheap to clone.
#[derive(Clone)]
pub struct Access {
    /// None: nothing is asked of anybody.
    kept: Option<Arc<Kept>>,
}

impl std::fmt::Debug for Access {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Access").field("is_kept", &self.kept.is_some()).finish()
    }
}

struct Kept {
    options: AccessOptions,
    log: Log,
    sources: Mutex<Sources>,
    /// None until the policy file was read.
    policy: RwLock<Option<Arc<Policy>>>,
    /// Grows with each change of what anybody may do.
    version: watch::Sender<u64>,
    logins: Logins,
    spent: Mutex<HashMap<Arc<str>, Spent>>,
    trail: Trail,
    /// Held while the store's rows are changed.
    changing: tokio::sync::Mutex<()>,
}

/// What the policy is made of. The file goes before the rows.
#[derive(Default)]
struct Sources {
    file: Option<Principals>,
    rows: Principals,
}

/// What a principal has left of its rates.
struct Spent {
    writes: Bucket,
    octets: Bucket,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Access {
    /// Nothing is asked of anybody: for what only this host reaches.
    #[must_use]
    pub const fn unrestricted() -> Self {
        Self { kept: None }
    }

    /// Opens what the log's store has. Until the policy file was read ([`Access::watch`]) nobody may do anything.
    ///
    /// # Errors
    /// If the audit or the store cannot be used.
    pub fn open(options: AccessOptions, log: Log) -> Result<Self, AccessError> {
        let trail = Trail::open(&options.audit)?;
        let mut sources = Sources::default();
        for (name, row) in log.access_rows().map_err(AccessError::Store)? {
            match text::read_row(&row) {
                Ok(principal) => drop(sources.rows.insert(name, Arc::new(principal))),
                Err(error) => return Err(AccessError::Row { name, error }),
            }
        }
        let logins = Logins::new(options.logins_per_minute);
        let (policy, version) = (RwLock::new(None), watch::channel(0).0);
        let (sources, spent) = (Mutex::new(sources), Mutex::default());
        let changing = tokio::sync::Mutex::default();
        let kept = Kept { options, log, sources, policy, version, logins, spent, trail, changing };
        Ok(Self { kept: Some(Arc::new(kept)) })
    }

    /// True if something is asked of callers.
    #[must_use]
    pub const fn is_kept(&self) -> bool {
        self.kept.is_some()
    }

    /// Looks at the policy file, now and whenever it changes.
    pub async fn watch(self) {
        if let Some(kept) = &self.kept {
            watch_file::watch(kept).await;
        }
    }

    /// Waits until there is a policy.
    pub async fn loaded(&self) {
        let Some(kept) = &self.kept else { return };
        let mut versions = kept.version.subscribe();
        while kept.policy().is_none() && versions.changed().await.is_ok() {}
    }

    /// Writes down what is not yet written, and closes the audit.
    pub fn close(&self) {
        if let Some(kept) = &self.kept {
            kept.trail.close();
        }
    }

    /// Moves with each change of what anybody may do.
    #[must_use]
    pub fn versions(&self) -> Option<watch::Receiver<u64>> {
        self.kept.as_ref().map(|kept| kept.version.subscribe())
    }

    fn version(&self) -> u64 {
        self.kept.as_ref().map_or(0, |kept| *kept.version.borrow())
    }

    /// Checks the user name and the password of a login, and gives a token.
    ///
    /// # Errors
    /// If they are wrong, or too many were tried.
    pub async fn login(
        &self,
        user: &str,
        password: Secret,
        admitted: &Admitted,
    ) -> Result<(Secret, SystemTime), Denied> {
        let Some(kept) = &self.kept else { return Err(Denied::BadLogin) };
        let policy = kept.policy().ok_or(Denied::NotLoaded)?;
        let right = policy.principal(user).and_then(|principal| principal.password.clone());
        let address = admitted.address();
        let checked = kept.logins.check(user, address, right.clone(), password).await;
        let result = if checked.is_ok() { "ok" } else { "refused" };
        metrics::counter!("edgesync_control_logins_total", "result" => result).increment(1);
        let line = Line { who: user.to_owned(), ..admitted.line("") };
        if let Err(denied) = checked {
            kept.trail.denied(Line { result: format!("{:?}", denied.code()), ..line });
            return Err(denied);
        }
        kept.trail.note(Line { result: "ok".to_owned(), ..line });
        let right = right.ok_or(Denied::BadLogin)?;
        let lifetime = kept.options.login_lifetime;
        Ok(kept.logins.begin(user.into(), right, lifetime, SystemTime::now()))
    }

    /// Takes a write of so many octets off its principal's rates.
    ///
    /// # Errors
    /// With the time after which there is room again.
    fn spend(&self, principal: &Arc<str>, octets: usize) -> Result<(), Duration> {
        /// Principals whose rates are remembered.
        const REMEMBERED: usize = 2 * text::PRINCIPALS_MAX;
        let Some(kept) = &self.kept else { return Ok(()) };
        let (writes, bytes) = kept.rates();
        let now = Instant::now();
        let mut spent = locked(&kept.spent);
        if spent.len() >= REMEMBERED {
            spent.clear();
        }
        let of_one = spent.entry(Arc::clone(principal)).or_insert_with(|| Spent {
            writes: Bucket::full(writes, now),
            octets: Bucket::full(bytes, now),
        });
        of_one.writes.take(1.0, writes, now)?;
        #[allow(clippy::cast_precision_loss)]
        let amount = octets as f64;
        let taken = of_one.octets.take(amount, bytes, now);
        taken.inspect_err(|_| of_one.writes.give(1.0, writes))
    }
}

impl Kept {
    fn policy(&self) -> Option<Arc<Policy>> {
        self.policy.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The rates of a principal; a second's worth may come at once.
    fn rates(&self) -> (Rate, Rate) {
        let rate = |per_second: f64| Rate { per_second, burst: per_second };
        #[allow(clippy::cast_precision_loss)]
        let bytes = self.options.bytes_per_second as f64;
        (rate(f64::from(self.options.writes_per_second)), rate(bytes))
    }

    /// Changes what the policy is made of; who may do less from now on is stopped at once.
    fn update(&self, change: impl FnOnce(&mut Sources)) {
        let mut sources = locked(&self.sources);
        change(&mut sources);
        let policy = sources.file.as_ref().map(|file| {
            file.keys().filter(|name| sources.rows.contains_key(*name)).for_each(|name| {
                tracing::warn!(
                    name,
                    "a principal of the log stands in the policy file too, which counts"
                );
            });
            Arc::new(Policy::new(file.iter().chain(&sources.rows)))
        });
        *self.policy.write().unwrap_or_else(PoisonError::into_inner) = policy;
        self.version.send_modify(|version| *version += 1);
    }
}

#[cfg(test)]
mod tests;
