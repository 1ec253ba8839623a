//! What the daemon tells Prometheus. All names, helps and units stand here; a name or a zone is
//! never a label. Without a recorder nothing here does anything.

use metrics::Histogram;

/// What the store's writes and syncs take.
#[derive(Clone)]
pub struct StoreMetrics {
    /// Writing one batch, in seconds.
    pub write: Histogram,
    /// Making what was written durable, in seconds.
    pub sync: Histogram,
}

impl Default for StoreMetrics {
    fn default() -> Self {
        Self { write: Histogram::noop(), sync: Histogram::noop() }
    }
}

impl std::fmt::Debug for StoreMetrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("StoreMetrics")
    }
}
