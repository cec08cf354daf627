//! Logs to standard error, metrics in Prometheus' text form.

use metrics::Label;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use serde::{Deserialize, Serialize};
use tracing_subscriber::EnvFilter;

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Why telemetry could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The filter of the log cannot be read.
    #[error("log: {0}")]
    Filter(#[from] tracing_subscriber::filter::ParseError),
    /// A second service in one process.
    #[error("a logger or recorder is already installed")]
    Installed,
    /// The recorder of metrics could not be made.
    #[error("metrics: {0}")]
    Metrics(#[from] metrics_exporter_prometheus::BuildError),
}

/// Sends log lines that pass `filter` (such as `info` or `freqcap=debug`) to standard error.
pub fn install_log(filter: &str, format: LogFormat) -> Result<(), TelemetryError> {
    let filter = EnvFilter::try_new(filter)?;
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let installed = match format {
        LogFormat::Text => lines.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr())).try_init(),
        LogFormat::Json => lines.json().flatten_event(true).try_init(),
    };
    installed.map_err(|_| TelemetryError::Installed)
}

/// Seconds, from 50 µs to 10 s: fine where answers are, coarse where something is wrong.
const SECONDS: [f64; 16] =
    [0.000_05, 0.000_1, 0.000_2, 0.000_5, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];
const COUNTS: [f64; 8] = [1.0, 10.0, 100.0, 500.0, 1_000.0, 2_500.0, 5_000.0, 10_000.0];

/// Seconds, from one to 90 days: the ages of duplicates.
const AGES: [f64; 10] = [1.0, 10.0, 60.0, 600.0, 3_600.0, 21_600.0, 86_400.0, 604_800.0, 2_592_000.0, 7_776_000.0];

/// Makes the process' metrics recorder and returns what renders it.
pub fn install_metrics() -> Result<PrometheusHandle, TelemetryError> {
    let recorder = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Full("freqcap_duplicate_age_seconds".to_owned()), &AGES)?
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS)?
        .set_buckets_for_metric(Matcher::Suffix("_events".to_owned()), &COUNTS)?
        .build_recorder();
    let handle = recorder.handle();
    metrics::set_global_recorder(recorder).map_err(|_| TelemetryError::Installed)?;
    Ok(handle)
}

/// The labels of a gauge of one unit: what another unit of the process sets must not overwrite it. `unit` is `None` where
/// there is only one.
pub fn unit_labels(unit: Option<&str>, labels: &[(&'static str, String)]) -> Vec<Label> {
    let labels = labels.iter().map(|(name, value)| Label::new(*name, value.clone()));
    labels.chain(unit.map(|unit| Label::new("unit", unit.to_owned()))).collect()
}
