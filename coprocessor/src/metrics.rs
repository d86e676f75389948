//! Prometheus metrics.

use prometheus::{
    Encoder, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
    TextEncoder,
};

use crate::{error::Result, store::Store};

/// All metrics of the process.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// Posted inputs by outcome.
    pub inputs: IntCounterVec,
    /// Seconds to check one proof, waiting included.
    pub input_seconds: Histogram,
    /// Inputs forgotten because the chain never used them.
    pub inputs_pruned: IntCounter,
    /// Operations settled, by kind and outcome.
    pub operations: IntCounterVec,
    /// Seconds to compute one operation.
    pub operation_seconds: HistogramVec,
    /// Seconds to squash and store one ciphertext.
    pub squash_seconds: Histogram,
    /// Commitment transactions by what became of them.
    pub commit_transactions: IntCounterVec,
    /// Newest block applied, per chain.
    pub block: IntGaugeVec,
    /// Blocks taken back by reorgs, per chain.
    pub orphaned_blocks: IntCounterVec,
    operations_by_state: IntGaugeVec,
    inputs_waiting: IntGauge,
    inputs_waiting_bytes: IntGauge,
    wanted_open: IntGauge,
    commitments_contradicted: IntGauge,
    commitments_failed: IntGauge,
    squashes_failed: IntGauge,
    logs_quarantined: IntGauge,
}

impl Metrics {
    /// Registers everything.
    ///
    /// # Errors
    /// Never, unless two metrics had the same name.
    pub fn new() -> Result<Self, prometheus::Error> {
        let registry = Registry::new_custom(Some("kms_coprocessor".into()), None)?;
        let counter = |name: &str, help: &str, labels: &[&str]| -> Result<IntCounterVec, prometheus::Error> {
            let metric = IntCounterVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(metric.clone()))?;
            Ok(metric)
        };
        let gauge = |name: &str, help: &str| -> Result<IntGauge, prometheus::Error> {
            let metric = IntGauge::new(name, help)?;
            registry.register(Box::new(metric.clone()))?;
            Ok(metric)
        };
        let gauges = |name: &str, help: &str, labels: &[&str]| -> Result<IntGaugeVec, prometheus::Error> {
            let metric = IntGaugeVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(metric.clone()))?;
            Ok(metric)
        };
        let seconds = |name: &str, help: &str| {
            HistogramOpts::new(name, help)
                .buckets(vec![0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 60.0])
        };
        let histogram = |name: &str, help: &str| -> Result<Histogram, prometheus::Error> {
            let metric = Histogram::with_opts(seconds(name, help))?;
            registry.register(Box::new(metric.clone()))?;
            Ok(metric)
        };
        let operation_seconds =
            HistogramVec::new(seconds("operation_seconds", "Time to compute one operation"), &["kind"])?;
        registry.register(Box::new(operation_seconds.clone()))?;
        let inputs_pruned =
            IntCounter::new("inputs_pruned_total", "Inputs forgotten because the chain never used them")?;
        registry.register(Box::new(inputs_pruned.clone()))?;
        Ok(Self {
            inputs_pruned,
            inputs_waiting: gauge("inputs_waiting", "Accepted inputs that the chain has not used")?,
            inputs_waiting_bytes: gauge(
                "inputs_waiting_bytes",
                "Bytes of accepted inputs that the chain has not used",
            )?,
            inputs: counter("inputs_total", "Posted inputs by outcome", &["outcome"])?,
            input_seconds: histogram("input_seconds", "Time to check one proof, waiting included")?,
            operations: counter("operations_total", "Operations settled", &["kind", "outcome"])?,
            operation_seconds,
            squash_seconds: histogram("squash_seconds", "Time to squash and store one ciphertext")?,
            commit_transactions: counter(
                "commit_transactions_total",
                "Commitment transactions by outcome",
                &["outcome"],
            )?,
            block: gauges("block", "Newest block applied", &["chain"])?,
            orphaned_blocks: counter("orphaned_blocks_total", "Blocks taken back by reorgs", &["chain"])?,
            operations_by_state: gauges("operations", "Operations by state", &["state"])?,
            wanted_open: gauge(
                "wanted_open",
                "Handles that are or may be asked for whose digest is not on the chain yet",
            )?,
            commitments_contradicted: gauge(
                "commitments_contradicted",
                "Handles for which the chain holds another digest than ours",
            )?,
            commitments_failed: gauge("commitments_failed", "Commitments that the chain does not take")?,
            squashes_failed: gauge("squashes_failed", "Ciphertexts whose squashing was given up")?,
            logs_quarantined: gauge("logs_quarantined", "Logs of our contracts that could not be read")?,
            registry,
        })
    }

    /// All metrics in Prometheus's text format; the gauges are read from the database first.
    ///
    /// # Errors
    /// Of the database.
    pub async fn render(&self, store: &Store) -> Result<String> {
        for state in ["pending", "computed", "missing", "failed"] {
            self.operations_by_state.with_label_values(&[state]).set(0);
        }
        for (state, count) in store.operation_counts().await? {
            self.operations_by_state.with_label_values(&[state.as_str()]).set(count);
        }
        let (waiting, contradicted) = store.commitment_counts().await?;
        self.wanted_open.set(waiting);
        let (squashes, commitments) = store.failure_counts().await?;
        self.squashes_failed.set(squashes);
        self.commitments_failed.set(commitments);
        let (inputs, bytes) = store.waiting_inputs().await?;
        self.inputs_waiting.set(inputs);
        self.inputs_waiting_bytes.set(bytes);
        self.commitments_contradicted.set(contradicted);
        self.logs_quarantined.set(store.quarantined().await?);
        let mut text = Vec::new();
        if let Err(error) = TextEncoder::new().encode(&self.registry.gather(), &mut text) {
            tracing::error!(%error, "metrics can't be written");
        }
        Ok(String::from_utf8_lossy(&text).into_owned())
    }
}
