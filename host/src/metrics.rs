//! Prometheus metrics: sets up the recorder behind the `metrics` macros, with buckets fine enough
//! to see a spike, and renders what it has. Help texts and units are those who record's job.

use std::time::Duration;

use metrics_exporter_prometheus::{
    BuildError, Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder,
};

use crate::process::Process;

/// How often what was recorded is taken together, so that it does not pile up between scrapes.
const UPKEEP: Duration = Duration::from_secs(5);

/// Bounds of histograms whose names end in `_seconds`: six a decade, from 50 µs to 60 s.
const SECONDS: [f64; 37] = [
    0.000_05, 0.000_07, 0.000_1, 0.000_15, 0.000_2, 0.000_3, 0.000_5, 0.000_7, 0.001, 0.001_5,
    0.002, 0.003, 0.005, 0.007, 0.01, 0.015, 0.02, 0.03, 0.05, 0.07, 0.1, 0.15, 0.2, 0.3, 0.5, 0.7,
    1.0, 1.5, 2.0, 3.0, 5.0, 7.0, 10.0, 15.0, 20.0, 30.0, 60.0,
];

/// Bounds of histograms whose names end in `_bytes`: powers of four, from 64 B to 1 GiB.
const BYTES: [f64; 13] = [
    64.0,
    256.0,
    1_024.0,
    4_096.0,
    16_384.0,
    65_536.0,
    262_144.0,
    1_048_576.0,
    4_194_304.0,
    16_777_216.0,
    67_108_864.0,
    268_435_456.0,
    1_073_741_824.0,
];

/// Bounds of all other histograms: counts.
const COUNTS: [f64; 18] = [
    1.0,
    2.0,
    3.0,
    5.0,
    10.0,
    20.0,
    50.0,
    100.0,
    200.0,
    500.0,
    1_000.0,
    2_000.0,
    5_000.0,
    10_000.0,
    20_000.0,
    50_000.0,
    100_000.0,
    1_000_000.0,
];

/// Why there are no metrics.
#[derive(Debug, thiserror::Error)]
pub enum MetricsError {
    /// The buckets are wrong: a defect.
    #[error("the metrics recorder cannot be made: {0}")]
    Build(#[from] BuildError),
    /// There is a recorder already.
    #[error("the metrics recorder is set already")]
    Twice,
}

/// What a scrape reads.
#[derive(Clone, Debug)]
pub struct Metrics {
    handle: PrometheusHandle,
    version: &'static str,
}

impl Metrics {
    /// Sets up the process's recorder and keeps it tidy. `version` is the software's, for
    /// `edgesync_build_info`. Needs a runtime.
    ///
    /// # Errors
    /// If there is a recorder already.
    pub fn install(version: &'static str) -> Result<Self, MetricsError> {
        let recorder = recorder()?;
        let handle = recorder.handle();
        ::metrics::set_global_recorder(recorder).map_err(|_| MetricsError::Twice)?;
        let metrics = Self { handle, version };
        tokio::spawn(upkeep(metrics.handle.clone()));
        Ok(metrics)
    }

    /// All metrics, in Prometheus' text form.
    #[must_use]
    pub fn render(&self) -> String {
        let version = self.version;
        let process = Process::read().map(|process| process.exposition()).unwrap_or_default();
        format!(
            "{}# HELP edgesync_build_info The software that runs; always 1.\n\
             # TYPE edgesync_build_info gauge\n\
             edgesync_build_info{{version=\"{version}\"}} 1\n\n{process}",
            self.handle.render()
        )
    }
}

fn recorder() -> Result<PrometheusRecorder, BuildError> {
    let builder = PrometheusBuilder::new()
        .set_buckets(&COUNTS)?
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS)?
        .set_buckets_for_metric(Matcher::Suffix("_bytes".to_owned()), &BYTES)?;
    Ok(builder.build_recorder())
}

async fn upkeep(handle: PrometheusHandle) {
    let mut ticks = tokio::time::interval(UPKEEP);
    loop {
        ticks.tick().await;
        handle.run_upkeep();
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// The metrics of a page that have no help.
    pub(crate) fn undescribed(page: &str) -> Vec<&str> {
        let types = page.lines().filter_map(|line| line.strip_prefix("# TYPE "));
        let names = types.filter_map(|line| line.split(' ').next());
        names.filter(|name| !page.contains(&format!("# HELP {name} "))).collect()
    }

    impl Metrics {
        /// Without a recorder for the process.
        pub(crate) fn local(version: &'static str) -> Self {
            Self { handle: recorder().unwrap().handle(), version }
        }
    }

    pub(crate) fn rendered(record: impl FnOnce()) -> String {
        let recorder = recorder().unwrap();
        let metrics = Metrics { handle: recorder.handle(), version: "1.2.3" };
        ::metrics::with_local_recorder(&recorder, record);
        metrics.render()
    }

    #[test]
    fn a_histogram_has_the_buckets_of_its_unit() {
        let text = rendered(|| {
            ::metrics::histogram!("edgesync_commit_seconds").record(0.000_12);
            ::metrics::histogram!("edgesync_frame_bytes").record(300.0);
            ::metrics::histogram!("edgesync_group_sets").record(4.0);
        });
        for line in [
            "edgesync_commit_seconds_bucket{le=\"0.0001\"} 0",
            "edgesync_commit_seconds_bucket{le=\"0.00015\"} 1",
            "edgesync_commit_seconds_bucket{le=\"60\"} 1",
            "edgesync_frame_bytes_bucket{le=\"256\"} 0",
            "edgesync_frame_bytes_bucket{le=\"1024\"} 1",
            "edgesync_group_sets_bucket{le=\"3\"} 0",
            "edgesync_group_sets_bucket{le=\"5\"} 1",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} not in:\n{text}");
        }
    }

    #[test]
    fn build_and_process_are_told_with_help_and_type() {
        let text = rendered(|| {});
        assert!(text.contains("\nedgesync_build_info{version=\"1.2.3\"} 1\n"), "{text}");
        for name in [
            "edgesync_build_info",
            "process_resident_memory_bytes",
            "process_open_fds",
            "process_start_time_seconds",
            "process_cpu_seconds_total",
        ] {
            assert!(text.contains(&format!("# HELP {name} ")), "{name}");
            assert!(text.contains(&format!("# TYPE {name} ")), "{name}");
        }
    }

    #[test]
    fn bounds_rise() {
        assert!(SECONDS.is_sorted() && BYTES.is_sorted() && COUNTS.is_sorted());
    }
}
