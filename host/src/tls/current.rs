//! What is in use, and how it follows the files: they are looked at each second, and what is new and good
//! takes the place of the old for the next connection. What is not good is told, and the old stays.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use tokio::{
    sync::watch,
    task::spawn_blocking,
    time::{MissedTickBehavior, interval},
};

use super::{Material, TlsError, TlsFiles, files, side::Side};

/// Between two looks at the files.
const LOOK: Duration = Duration::from_secs(1);

/// What is in use; none while there never was anything good.
#[derive(Debug)]
pub struct Current<T>(watch::Receiver<Result<Arc<T>, String>>);

impl<T> Clone for Current<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

/// Follows the files.
#[derive(Debug)]
pub struct Keeper<T> {
    files: TlsFiles,
    /// What the names of its metrics begin with.
    prefix: &'static str,
    seen: Vec<Option<(SystemTime, u64)>>,
    hash: Option<blake3::Hash>,
    /// Why what is there was not taken.
    refused: Option<String>,
    current: watch::Sender<Result<Arc<T>, String>>,
}

impl<T: Side> Current<T> {
    /// Loads the files.
    ///
    /// # Errors
    /// If they cannot be used.
    pub fn load(files: TlsFiles, prefix: &'static str) -> Result<(Self, Keeper<T>), TlsError> {
        let (current, mut keeper) = Self::begin(files, prefix);
        keeper.load()?;
        Ok((current, keeper))
    }

    /// Loads the files, or waits until they can be used: who has something to serve serves it meanwhile
    /// (invariant 14).
    #[must_use]
    pub fn load_or_wait(files: TlsFiles, prefix: &'static str) -> (Self, Keeper<T>) {
        let (current, mut keeper) = Self::begin(files, prefix);
        keeper.look();
        (current, keeper)
    }

    fn begin(files: TlsFiles, prefix: &'static str) -> (Self, Keeper<T>) {
        describe(prefix);
        let (current, watched) = watch::channel(Err("the files of TLS are not loaded".to_owned()));
        for result in ["ok", "error"] {
            metrics::counter!(format!("{prefix}_tls_reloads_total"), "result" => result)
                .absolute(0);
        }
        let (seen, hash, refused) = (Vec::new(), None, None);
        let keeper = Keeper { files, prefix, seen, hash, refused, current };
        (Self(watched), keeper)
    }

    /// What is in use.
    ///
    /// # Errors
    /// If there is nothing; says why.
    pub fn get(&self) -> Result<Arc<T>, String> {
        self.0.borrow().clone()
    }

    /// The same; [`Current::changed`] tells of what comes after it.
    pub(crate) fn get_and_follow(&mut self) -> Result<Arc<T>, String> {
        self.0.borrow_and_update().clone()
    }

    /// Waits until something else is in use. Never, if nobody follows the files any more.
    pub(crate) async fn changed(&mut self) {
        if self.0.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// Tells the recorder what the metrics of TLS are.
fn describe(prefix: &str) {
    metrics::describe_counter!(
        format!("{prefix}_tls_reloads_total"),
        metrics::Unit::Count,
        "Times that new files of TLS were there; result is ok or error, which keeps the old ones."
    );
    metrics::describe_gauge!(
        format!("{prefix}_certificate_ends_seconds"),
        metrics::Unit::Seconds,
        "When the certificate in use ends, in seconds since 1970."
    );
}

impl<T: Side> Keeper<T> {
    fn load(&mut self) -> Result<(), TlsError> {
        self.seen = files::state(&self.files);
        let material = Material::load(&self.files)?;
        let hash = material.hash;
        if self.hash == Some(hash) {
            return Ok(());
        }
        let side = T::make(material)?;
        if let Some(not_after) = side.not_after() {
            let since = not_after.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
            metrics::gauge!(format!("{}_certificate_ends_seconds", self.prefix))
                .set(since.as_secs_f64());
        }
        if self.hash.replace(hash).is_some() {
            self.count("ok");
            tracing::info!("new files of TLS are in use");
        }
        drop(self.current.send_replace(Ok(Arc::new(side))));
        Ok(())
    }

    fn count(&self, result: &'static str) {
        let name = format!("{}_tls_reloads_total", self.prefix);
        metrics::counter!(name, "result" => result).increment(1);
    }

    /// Tells what is wrong, once; what may have been a passing fault is tried again at the next look.
    fn refuse(&mut self, error: &TlsError) {
        self.seen.clear();
        if self.refused.replace(error.to_string()) == self.refused {
            return;
        }
        self.count("error");
        tracing::error!(%error, "the files of TLS are not taken; what was in use stays in use");
        self.current.send_if_modified(|current| {
            let none = current.is_err();
            if none {
                *current = Err(error.to_string());
            }
            none
        });
    }

    /// Follows the files, for ever.
    pub async fn keep(mut self) {
        let mut ticks = interval(LOOK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let looked = spawn_blocking(move || {
                self.look();
                self
            });
            let Ok(keeper) = looked.await else { return };
            self = keeper;
        }
    }

    fn look(&mut self) {
        if files::state(&self.files) == self.seen {
            return;
        }
        match self.load() {
            Ok(()) => self.refused = None,
            Err(error) => self.refuse(&error),
        }
    }
}
