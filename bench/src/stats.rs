//! Medians, percentiles and how they are printed.

use std::time::Duration;

use hdrhistogram::Histogram;

/// Durations of one run.
pub struct Latencies(Histogram<u64>);

impl Latencies {
    /// None yet; kept to three digits.
    pub fn new() -> Self {
        Self(Histogram::new(3).unwrap_or_else(|_| unreachable!("three digits are valid")))
    }

    /// Takes one.
    pub fn record(&mut self, took: Duration) {
        // It grows as it must; only what no clock shows could be too much for it.
        let _ = self.0.record(u64::try_from(took.as_nanos() / 100).unwrap_or(u64::MAX));
    }

    /// The duration below which such a part lies, in microseconds.
    pub fn quantile(&self, quantile: f64) -> f64 {
        #[allow(clippy::cast_precision_loss)]
        let micros = self.0.value_at_quantile(quantile) as f64 / 10.0;
        micros
    }
}

/// The middle of some figures, and their range.
pub struct Spread {
    pub median: f64,
    pub least: f64,
    pub most: f64,
}

impl Spread {
    /// Of at least one figure.
    pub fn of(mut figures: Vec<f64>) -> Self {
        figures.sort_by(f64::total_cmp);
        let at = |place: usize| figures.get(place).copied().unwrap_or(f64::NAN);
        Self {
            median: at(figures.len() / 2),
            least: at(0),
            most: at(figures.len().saturating_sub(1)),
        }
    }
}

impl std::fmt::Display for Spread {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:.1} ({:.1} … {:.1})", self.median, self.least, self.most)
    }
}

/// Says what was measured on.
pub fn print_machine() {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = text.lines().find_map(|line| line.strip_prefix("model name"));
    let cores = text.lines().filter(|line| line.starts_with("processor")).count();
    let model = model.map_or("unknown", |model| model.trim_start_matches(['\t', ' ', ':']));
    println!("machine: {cores} × {model}");
}
