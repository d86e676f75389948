//! Metrics, and the small listener on localhost that shows them.
//!
//! All names start with `kms_node_`. Labels have few values: keys, peers, stages, reasons.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use alloy_primitives::B256;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use axum::{Json, Router};
use kms_proto::node::user_decrypt_response;
use kms_telemetry::Exported;
use prometheus::core::Collector;
use prometheus::proto::MetricType;
use prometheus::{
    Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry, TextEncoder,
};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::guard::Verdict;
use crate::lifecycle::{Lifecycle, Phase};
use crate::store::Stage;

/// Buckets of latencies, in seconds: 1 ms to 10 s.
const LATENCY: [f64; 13] = [0.001, 0.002, 0.005, 0.01, 0.02, 0.03, 0.06, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];

/// What all names start with.
const PREFIX: &str = "kms_node";

/// Everything that this process counts.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    exported: Vec<Exported>,
    usable_share: IntGaugeVec,
    quorum_headroom: IntGauge,
    last_own_share_used: Gauge,
    peer_connected: IntGaugeVec,
    peer_late: IntCounterVec,
    peer_wrong: IntCounterVec,
    peer_unsent: IntCounterVec,
    peer_dropped: IntCounterVec,
    peer_lateness: HistogramVec,
    guard_verdicts: IntCounterVec,
    guard_seconds: Histogram,
    requests: IntCounterVec,
    open_jobs: IntGauge,
    mpc_seconds: Histogram,
    user_decryptions: IntCounterVec,
    user_seconds: Histogram,
    ciphertext_fetches: IntCounterVec,
    sealed_failures: IntCounter,
    manifest_differs: IntGaugeVec,
    prss_setups_open: IntGauge,
    prss_setup_waits_for: IntGaugeVec,
    prss_setup_runs: IntCounterVec,
    keygen_phase: IntGaugeVec,
    keygen_chunks_done: IntGauge,
    keygen_chunks_total: IntGauge,
    keygen_bytes_sent: IntGauge,
    keygen_bits_per_second: IntGauge,
    keygen_seconds_left: IntGauge,
    peak_memory: IntGauge,
    phase: GaugeVec,
}

impl Metrics {
    /// All metrics, at zero.
    ///
    /// # Errors
    /// Never in practice: the names are fixed and distinct.
    pub fn new() -> Result<Self, prometheus::Error> {
        let mut registering =
            Registering { registry: Registry::new_custom(Some(PREFIX.into()), None)?, exported: Vec::new() };
        let r = &mut registering;
        Ok(Self {
            usable_share: add(
                r,
                IntGaugeVec::new(
                    Opts::new("usable_share", "1 if this party holds a verified share of the key."),
                    &["key"],
                )?,
            )?,
            quorum_headroom: add(
                r,
                IntGauge::new(
                    "quorum_headroom",
                    "How many more parties may fail before requests have to wait; negative: they wait now.",
                )?,
            )?,
            last_own_share_used: add(
                r,
                Gauge::new(
                    "last_own_share_used_seconds",
                    "Unix time of the last opening that this party's own share was part of.",
                )?,
            )?,
            peer_connected: add(
                r,
                IntGaugeVec::new(
                    Opts::new("peer_connected", "1 if a stream to the peer is up, handshake included."),
                    &["peer"],
                )?,
            )?,
            peer_late: add(
                r,
                IntCounterVec::new(
                    Opts::new(
                        "peer_late_total",
                        "Openings whose tail ended without a share of the peer, and set-ups that it was late in.",
                    ),
                    &["peer"],
                )?,
            )?,
            peer_wrong: add(
                r,
                IntCounterVec::new(
                    Opts::new(
                        "peer_wrong_total",
                        "Openings in which the peer's share was wrong, and set-ups that it was wrong in.",
                    ),
                    &["peer"],
                )?,
            )?,
            peer_unsent: add(
                r,
                IntCounterVec::new(
                    Opts::new(
                        "peer_unsent_total",
                        "Messages or frames without a stream to the peer, or beyond its queue; it asks for them.",
                    ),
                    &["peer"],
                )?,
            )?,
            peer_dropped: add(
                r,
                IntCounterVec::new(
                    Opts::new(
                        "peer_dropped_total",
                        "Messages that the peer could not keep, as it said; it asks for them.",
                    ),
                    &["peer"],
                )?,
            )?,
            peer_lateness: add(
                r,
                HistogramVec::new(
                    HistogramOpts::new("peer_share_seconds", "Time from sending our share to receiving the peer's.")
                        .buckets(LATENCY.to_vec()),
                    &["peer"],
                )?,
            )?,
            guard_verdicts: add(
                r,
                IntCounterVec::new(
                    Opts::new("guard_verdicts_total", "Verdicts of the chain guard."),
                    &["verdict", "reason"],
                )?,
            )?,
            guard_seconds: add(
                r,
                Histogram::with_opts(
                    HistogramOpts::new("guard_seconds", "Time the chain guard took, endpoints included.")
                        .buckets(LATENCY.to_vec()),
                )?,
            )?,
            requests: add(
                r,
                IntCounterVec::new(Opts::new("requests_total", "Requests that reached the stage."), &["stage"])?,
            )?,
            open_jobs: add(r, IntGauge::new("open_jobs", "Jobs under way.")?)?,
            mpc_seconds: add(
                r,
                Histogram::with_opts(
                    HistogramOpts::new("mpc_seconds", "Time from the first share sent to the opening.")
                        .buckets(LATENCY.to_vec()),
                )?,
            )?,
            user_decryptions: add(
                r,
                IntCounterVec::new(
                    Opts::new("user_decryptions_total", "Calls for a user decryption by outcome and reason."),
                    &["outcome", "reason"],
                )?,
            )?,
            user_seconds: add(
                r,
                Histogram::with_opts(
                    HistogramOpts::new(
                        "user_decrypt_seconds",
                        "Time from the call to the sealed and signed share of a user decryption, without the chain guard.",
                    )
                    .buckets(LATENCY.to_vec()),
                )?,
            )?,
            ciphertext_fetches: add(
                r,
                IntCounterVec::new(
                    Opts::new("ciphertext_fetches_total", "Ciphertext fetches by outcome."),
                    &["outcome"],
                )?,
            )?,
            sealed_failures: add(
                r,
                IntCounter::new(
                    "sealed_object_failures_total",
                    "Sealed objects that could not be opened or were not what was recorded.",
                )?,
            )?,
            manifest_differs: add(
                r,
                IntGaugeVec::new(
                    Opts::new("peer_manifest_differs", "1 if the peer's manifest differs outside the committee part."),
                    &["peer"],
                )?,
            )?,
            prss_setups_open: add(
                r,
                IntGauge::new("prss_setups_open", "Epochs whose pseudorandom keys are not there yet.")?,
            )?,
            prss_setup_waits_for: add(
                r,
                IntGaugeVec::new(
                    Opts::new("prss_setup_waits_for", "1 if a set-up of pseudorandom keys waits for the peer."),
                    &["peer"],
                )?,
            )?,
            prss_setup_runs: add(
                r,
                IntCounterVec::new(
                    Opts::new("prss_setup_runs_total", "Runs of the set-up of pseudorandom keys by outcome."),
                    &["outcome"],
                )?,
            )?,
            keygen_phase: add(
                r,
                IntGaugeVec::new(
                    Opts::new(
                        "keygen_phase",
                        "1 for what the last key generation works on; nothing if there was none.",
                    ),
                    &["phase"],
                )?,
            )?,
            keygen_chunks_done: gauge(r, "keygen_chunks_done", "Pieces of work of the key generation that are done.")?,
            keygen_chunks_total: gauge(r, "keygen_chunks_total", "Pieces of work of the key generation.")?,
            keygen_bytes_sent: gauge(
                r,
                "keygen_sent_bytes",
                "Bytes of questions and answers of the key generation that have left this party, since its start.",
            )?,
            keygen_bits_per_second: gauge(r, "keygen_bits_per_second", "Random bits that the key generation makes.")?,
            keygen_seconds_left: gauge(
                r,
                "keygen_left_seconds",
                "Estimate of what is left of the key generation; -1 if there is none.",
            )?,
            peak_memory: add(
                r,
                IntGauge::new("peak_memory_bytes", "Largest resident memory of the process so far; 0 if not known.")?,
            )?,
            phase: add(r, GaugeVec::new(Opts::new("phase", "1 for the phase the process is in."), &["phase"])?)?,
            registry: registering.registry,
            exported: registering.exported,
        })
    }

    /// All metrics that there can be, also those without a value yet.
    pub fn exported(&self) -> &[Exported] {
        &self.exported
    }

    /// Whether this party holds a usable share of `key`.
    pub fn usable_share(&self, key: B256, usable: bool) {
        self.usable_share.with_label_values(&[&key.to_string()]).set(usable.into());
    }

    /// How many more parties may fail.
    pub fn quorum_headroom(&self, parties: i64) {
        self.quorum_headroom.set(parties);
    }

    /// This party's own share was part of an opening just now.
    pub fn own_share_used(&self) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.last_own_share_used.set(now.as_secs_f64());
    }

    /// Whether the stream to `peer` is up.
    pub fn peer_connected(&self, peer: u16, connected: bool) {
        self.peer_connected.with_label_values(&[&peer.to_string()]).set(connected.into());
    }

    /// The tail of an opening ended without a share of the peer.
    pub fn peer_late(&self, peer: u16) {
        self.peer_late.with_label_values(&[&peer.to_string()]).inc();
    }

    /// The peer's share was wrong.
    pub fn peer_wrong(&self, peer: u16) {
        self.peer_wrong.with_label_values(&[&peer.to_string()]).inc();
    }

    /// A message to the peer did not leave.
    pub fn peer_unsent(&self, peer: u16) {
        self.peer_unsent.with_label_values(&[&peer.to_string()]).inc();
    }

    /// The peer says that it could not keep a message.
    pub fn peer_dropped(&self, peer: u16) {
        self.peer_dropped.with_label_values(&[&peer.to_string()]).inc();
    }

    /// The peer's share came this long after ours was sent.
    pub fn peer_share(&self, peer: u16, seconds: f64) {
        self.peer_lateness.with_label_values(&[&peer.to_string()]).observe(seconds);
    }

    /// Whether the peer's manifest differs outside the committee part.
    pub fn peer_manifest_differs(&self, peer: u16, differs: bool) {
        self.manifest_differs.with_label_values(&[&peer.to_string()]).set(differs.into());
    }

    /// A verdict of the guard, and how long it took.
    pub fn guard(&self, verdict: &Verdict, seconds: f64) {
        let (verdict, reason) = verdict.labels();
        self.guard_verdicts.with_label_values(&[verdict, reason]).inc();
        self.guard_seconds.observe(seconds);
    }

    /// A request reached a stage.
    pub fn request(&self, stage: Stage) {
        self.requests.with_label_values(&[stage.name()]).inc();
    }

    /// Number of jobs under way.
    pub fn open_jobs(&self, jobs: usize) {
        self.open_jobs.set(i64::try_from(jobs).unwrap_or(i64::MAX));
    }

    /// An opening took this long from the first share sent.
    pub fn mpc(&self, seconds: f64) {
        self.mpc_seconds.observe(seconds);
    }

    /// What became of a call for a user decryption, and how long it took without the chain guard.
    pub fn user_decryption(&self, outcome: &user_decrypt_response::Outcome, time: Duration) {
        use user_decrypt_response::Outcome;
        let (outcome, reason) = match outcome {
            Outcome::Answer(_) => {
                self.user_seconds.observe(time.as_secs_f64());
                ("answered", String::new())
            }
            Outcome::NotYet(n) => ("not_yet", label(n.reason().as_str_name(), "NOT_YET_REASON_")),
            Outcome::Refused(r) => ("refused", label(r.reason().as_str_name(), "REFUSED_REASON_")),
            Outcome::EpochNotLive(_) => ("epoch_not_live", String::new()),
        };
        self.user_decryptions.with_label_values(&[outcome, &reason]).inc();
    }

    /// A ciphertext was fetched, or not: "cached", "fetched", "missing", "unavailable", "malformed".
    pub fn ciphertext(&self, outcome: &'static str) {
        self.ciphertext_fetches.with_label_values(&[outcome]).inc();
    }

    /// A sealed object could not be used.
    pub fn sealed_failure(&self) {
        self.sealed_failures.inc();
    }

    /// Number of set-ups that are not finished.
    pub fn prss_setups_open(&self, epochs: usize) {
        self.prss_setups_open.set(i64::try_from(epochs).unwrap_or(i64::MAX));
    }

    /// Whether a set-up waits for `peer`.
    pub fn prss_setup_waits_for(&self, peer: u16, waits: bool) {
        self.prss_setup_waits_for.with_label_values(&[&peer.to_string()]).set(waits.into());
    }

    /// A run of a set-up has ended.
    pub fn prss_setup_run(&self, made: bool) {
        self.prss_setup_runs.with_label_values(&[if made { "made" } else { "failed" }]).inc();
    }

    /// How far the generation of a key is.
    pub fn keygen(&self, shown: &kms_proto::node::KeyGenResponse) {
        let number = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        self.keygen_phase.reset();
        self.keygen_phase.with_label_values(&[&shown.phase]).set(1);
        self.keygen_chunks_done.set(number(shown.chunks_done));
        self.keygen_chunks_total.set(number(shown.chunks_total));
        self.keygen_bytes_sent.set(number(shown.bytes_sent));
        self.keygen_bits_per_second.set(number(shown.bits_per_second));
        self.keygen_seconds_left.set(shown.seconds_left.map_or(-1, number));
    }

    /// The phase of the process.
    pub fn phase(&self, now: Phase) {
        for phase in Phase::ALL {
            self.phase.with_label_values(&[phase.name()]).set(if phase == now { 1.0 } else { 0.0 });
        }
    }

    /// The text that Prometheus reads.
    pub fn render(&self) -> String {
        self.peak_memory.set(peak_memory());
        TextEncoder::new().encode_to_string(&self.registry.gather()).unwrap_or_else(|e| format!("# {e}\n"))
    }
}

/// A value of an enum as a label.
fn label(name: &str, prefix: &str) -> String {
    name.trim_start_matches(prefix).to_ascii_lowercase()
}

/// Bytes; 0 where there is no `/proc`.
fn peak_memory() -> i64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse::<i64>().ok());
    kib.unwrap_or_default().saturating_mul(1024)
}

fn gauge(registry: &mut Registering, name: &str, help: &str) -> Result<IntGauge, prometheus::Error> {
    add(registry, IntGauge::new(name, help)?)
}

/// A registry that remembers what can be in it.
struct Registering {
    registry: Registry,
    exported: Vec<Exported>,
}

fn add<M: Collector + Clone + 'static>(r: &mut Registering, metric: M) -> Result<M, prometheus::Error> {
    r.registry.register(Box::new(metric.clone()))?;
    let histogram = metric.collect().iter().any(|family| family.get_field_type() == MetricType::HISTOGRAM);
    r.exported.extend(metric.desc().into_iter().map(|desc| Exported {
        name: format!("{PREFIX}_{}", desc.fq_name),
        labels: desc.variable_labels.clone(),
        histogram,
    }));
    Ok(metric)
}

#[derive(Clone)]
struct Shown {
    metrics: Arc<Metrics>,
    lifecycle: Arc<Lifecycle>,
}

/// Serves `/metrics`, `/healthz` (200 while the process lives) and `/readyz` (200 in phase Ready) until cancelled.
///
/// # Errors
/// The listener fails.
pub async fn serve(
    listener: TcpListener,
    metrics: Arc<Metrics>,
    lifecycle: Arc<Lifecycle>,
    cancel: CancellationToken,
) -> std::io::Result<()> {
    let app = Router::new()
        .route("/metrics", get(show_metrics))
        .route("/healthz", get(show_health))
        .route("/readyz", get(show_ready))
        .with_state(Shown { metrics, lifecycle });
    axum::serve(listener, app).with_graceful_shutdown(cancel.cancelled_owned()).await
}

async fn show_metrics(State(shown): State<Shown>) -> impl IntoResponse {
    shown.metrics.phase(shown.lifecycle.phase());
    ([(header::CONTENT_TYPE, prometheus::TEXT_FORMAT)], shown.metrics.render())
}

async fn show_health(State(shown): State<Shown>) -> impl IntoResponse {
    condition(&shown.lifecycle)
}

async fn show_ready(State(shown): State<Shown>) -> impl IntoResponse {
    let phase = shown.lifecycle.phase();
    let status = if phase == Phase::Ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, condition(&shown.lifecycle))
}

fn condition(lifecycle: &Lifecycle) -> Json<serde_json::Value> {
    let (phase, waiting_for) = (lifecycle.phase().name(), lifecycle.waiting_for());
    Json(serde_json::json!({ "phase": phase, "waitingFor": waiting_for, "version": env!("CARGO_PKG_VERSION") }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guard::Refusal;

    #[test]
    fn names_are_those_that_dashboards_use() {
        let metrics = Metrics::new().unwrap();
        metrics.usable_share(B256::ZERO, true);
        metrics.quorum_headroom(-1);
        metrics.own_share_used();
        metrics.peer_wrong(3);
        metrics.guard(&Verdict::Refused(Refusal::UnknownChain(5)), 0.1);
        metrics.phase(Phase::Ready);
        let refused = kms_proto::node::Refused { reason: 12, detail: String::new() };
        metrics.user_decryption(&user_decrypt_response::Outcome::Refused(refused), Duration::ZERO);
        let text = metrics.render();
        for line in [
            "kms_node_quorum_headroom -1",
            "kms_node_peer_wrong_total{peer=\"3\"} 1",
            "kms_node_guard_verdicts_total{reason=\"unknown_chain\",verdict=\"refused\"} 1",
            "kms_node_user_decryptions_total{outcome=\"refused\",reason=\"delegation\"} 1",
            "kms_node_user_decrypt_seconds_count 0",
            "kms_node_phase{phase=\"ready\"} 1",
            "kms_node_phase{phase=\"booting\"} 0",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} not in\n{text}");
        }
        #[cfg(target_os = "linux")]
        assert!(peak_memory() > 1 << 20 && text.contains("kms_node_peak_memory_bytes "));
        assert!(text.contains("kms_node_usable_share{key=\"0x00"));
        assert!(text.contains("kms_node_last_own_share_used_seconds "));
    }

    #[test]
    fn alert_rules_and_the_dashboard_ask_for_what_is_exported() {
        use kms_telemetry::check;
        let metrics = Metrics::new().unwrap();
        let alerts = check::alerts(include_str!("../../../ops/prometheus/node.rules.yml")).unwrap();
        for alert in &alerts {
            let problems = check::problems(&alert.expr, metrics.exported());
            assert!(problems.is_empty(), "{}: {problems:?}", alert.name);
            assert!(["critical", "warning", "info"].contains(&alert.severity.as_str()), "{}", alert.name);
        }
        let dashboard: serde_json::Value =
            serde_json::from_str(include_str!("../../../ops/grafana/node.json")).unwrap();
        let targets = dashboard["panels"].as_array().unwrap().iter().filter_map(|panel| panel["targets"].as_array());
        let asked: Vec<&str> = targets.flatten().map(|target| target["expr"].as_str().unwrap()).collect();
        for expr in &asked {
            let problems = check::problems(expr, metrics.exported());
            assert!(problems.is_empty(), "{expr}: {problems:?}");
        }
        // What stands there is watched: by an alert or on the dashboard.
        for metric in metrics.exported() {
            let named = |expr: &str| expr.contains(&metric.name);
            let watched = asked.iter().any(|expr| named(expr)) || alerts.iter().any(|alert| named(&alert.expr));
            assert!(watched || metric.name.starts_with("kms_node_keygen"), "{} is watched by nobody", metric.name);
        }
    }
}
