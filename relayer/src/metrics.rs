//! What is counted, for Prometheus.

use alloy_primitives::U256;
use kms_telemetry::Exported;
use prometheus::core::Collector;
use prometheus::{
    Encoder, GaugeVec, HistogramOpts, HistogramVec, IntCounterVec, IntGaugeVec, Opts, Registry, TextEncoder,
};

use crate::clock::now_ms;
use crate::job::Job;
use crate::state::State;
use crate::store::{Mined, PartyStatus, Purpose};
use crate::tx::SendFault;

/// All metrics of the relayer.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    exported: Vec<Exported>,
    transitions: IntCounterVec,
    jobs: IntGaugeVec,
    oldest: IntGaugeVec,
    stage_seconds: HistogramVec,
    request_seconds: HistogramVec,
    party_reports: IntCounterVec,
    party_seconds: HistogramVec,
    quarantined: IntCounterVec,
    cursor: IntGaugeVec,
    chain_head: IntGaugeVec,
    node_errors: IntCounterVec,
    send_faults: IntCounterVec,
    transactions: IntCounterVec,
    gas_used: IntCounterVec,
    replacements: IntCounterVec,
    fee_capped: IntCounterVec,
    pending: IntGaugeVec,
    balance: GaugeVec,
    committee: IntGaugeVec,
    low_balance: GaugeVec,
    chain_up: IntGaugeVec,
    follows: IntGaugeVec,
    put_off: IntCounterVec,
    http: IntCounterVec,
}

impl Default for Metrics {
    fn default() -> Self {
        let registry = Registry::new();
        let mut exported = Vec::new();
        // Names and labels stand right here, so that this can only fail for all of us or for nobody.
        macro_rules! register {
            ($kind:ident, $name:literal, $help:literal, $labels:expr) => {
                register!($kind, Opts::new($name, $help), $labels, false)
            };
            ($name:literal, $help:literal, $labels:expr, $start:literal, $buckets:literal) => {{
                let bounds = prometheus::exponential_buckets($start, 2.0, $buckets).expect("bounds are constants");
                register!(HistogramVec, HistogramOpts::new($name, $help).buckets(bounds), $labels, true)
            }};
            ($kind:ident, $opts:expr, $labels:expr, $histogram:literal) => {{
                let metric = $kind::new($opts, $labels).expect("metric names are constants");
                registry.register(Box::new(metric.clone())).expect("metric names are distinct");
                exported.extend(metric.desc().into_iter().map(|desc| Exported {
                    name: desc.fq_name.clone(),
                    labels: desc.variable_labels.clone(),
                    histogram: $histogram,
                }));
                metric
            }};
        }
        Self {
            transitions: register!(
                IntCounterVec,
                "kms_relayer_transitions_total",
                "Jobs that reached a state",
                &["state"]
            ),
            jobs: register!(IntGaugeVec, "kms_relayer_jobs", "Jobs in a state", &["state"]),
            oldest: register!(
                IntGaugeVec,
                "kms_relayer_oldest_seconds",
                "How long the job that is longest in a state has been in it; 0 if there is none",
                &["state"]
            ),
            stage_seconds: register!(
                "kms_relayer_stage_seconds",
                "How long jobs were in a state when they left it on their way",
                &["state"],
                0.005,
                18
            ),
            request_seconds: register!(
                "kms_relayer_request_seconds",
                "From the first sight of a request to its broadcast, or to its answer over HTTP",
                &["kind"],
                0.005,
                18
            ),
            party_reports: register!(
                IntCounterVec,
                "kms_relayer_party_reports_total",
                "What parties said",
                &["party", "status"]
            ),
            party_seconds: register!(
                "kms_relayer_party_seconds",
                "Time from asking a party to its verified answer",
                &["party"],
                0.005,
                14
            ),
            quarantined: register!(
                IntCounterVec,
                "kms_relayer_quarantined_logs_total",
                "Gateway logs that could not be read",
                &[]
            ),
            cursor: register!(IntGaugeVec, "kms_relayer_cursor", "Newest block whose logs are applied", &["chain"]),
            chain_head: register!(IntGaugeVec, "kms_relayer_chain_head", "Newest block seen", &["chain"]),
            node_errors: register!(
                IntCounterVec,
                "kms_relayer_node_errors_total",
                "Rounds of the transaction manager that a node cut short",
                &["chain"]
            ),
            send_faults: register!(
                IntCounterVec,
                "kms_relayer_send_faults_total",
                "Refused broadcasts by class",
                &["chain", "fault"]
            ),
            transactions: register!(
                IntCounterVec,
                "kms_relayer_transactions_total",
                "Mined transactions",
                &["chain", "purpose", "outcome"]
            ),
            gas_used: register!(
                IntCounterVec,
                "kms_relayer_gas_used_total",
                "Gas used",
                &["chain", "purpose", "outcome"]
            ),
            replacements: register!(
                IntCounterVec,
                "kms_relayer_replacements_total",
                "Transactions replaced",
                &["chain", "purpose"]
            ),
            fee_capped: register!(
                IntCounterVec,
                "kms_relayer_fee_capped_total",
                "Replacements that the fee limit forbade",
                &["chain"]
            ),
            pending: register!(
                IntGaugeVec,
                "kms_relayer_pending_transactions",
                "Transactions not mined yet",
                &["chain"]
            ),
            balance: register!(GaugeVec, "kms_relayer_balance_ether", "Balance of the account that pays", &["chain"]),
            committee: register!(
                IntGaugeVec,
                "kms_relayer_committee",
                "Parties of the committee, and answers that make a quorum",
                &["of"]
            ),
            low_balance: register!(
                GaugeVec,
                "kms_relayer_low_balance_ether",
                "Balance below which the account needs money, as configured",
                &["chain"]
            ),
            follows: register!(
                IntGaugeVec,
                "kms_relayer_follows",
                "1 if this process follows the chain, 0 if another one of its database does",
                &["chain"]
            ),
            chain_up: register!(
                IntGaugeVec,
                "kms_relayer_chain_up",
                "1 if the last look at the chain succeeded",
                &["chain"]
            ),
            put_off: register!(
                IntCounterVec,
                "kms_relayer_put_off_total",
                "Jobs put off, by reason",
                &["state", "reason"]
            ),
            http: register!(IntCounterVec, "kms_relayer_http_total", "HTTP answers", &["route", "status"]),
            registry,
            exported,
        }
    }
}

impl Metrics {
    /// The text that Prometheus reads.
    #[must_use]
    pub fn render(&self) -> String {
        let mut text = Vec::new();
        // Encoding into memory fails on nothing but a metric without values, which is left out.
        let _ = TextEncoder::new().encode(&self.registry.gather(), &mut text);
        String::from_utf8_lossy(&text).into_owned()
    }

    pub(crate) fn transition(&self, to: State, n: u64) {
        self.transitions.with_label_values(&[to.as_str()]).inc_by(n);
    }

    pub(crate) fn jobs(&self, counts: &[(State, u64)]) {
        for state in State::ALL {
            let n = counts.iter().find(|(s, _)| *s == state).map_or(0, |(_, n)| *n);
            self.jobs.with_label_values(&[state.as_str()]).set(i64::try_from(n).unwrap_or(i64::MAX));
        }
    }

    /// All metrics that there can be, also those without a value yet.
    #[must_use]
    pub fn exported(&self) -> &[Exported] {
        &self.exported
    }

    /// Ages of the jobs that are longest in their states, of those states that have one.
    pub(crate) fn oldest(&self, since: &[(State, i64)]) {
        let now = now_ms();
        for state in State::ALL.into_iter().filter(|state| !state.is_end()) {
            let age = since.iter().find(|(s, _)| *s == state).map_or(0, |(_, since)| now.saturating_sub(*since));
            self.oldest.with_label_values(&[state.as_str()]).set(age.max(0) / 1_000);
        }
    }

    /// A job leaves a state that it was in since then, milliseconds.
    pub(crate) fn stage(&self, state: State, since: i64) {
        self.stage_seconds.with_label_values(&[state.as_str()]).observe(seconds_since(since));
    }

    /// The answer to a job is on its way to whoever asked.
    pub(crate) fn answered(&self, job: &Job) {
        self.request_seconds.with_label_values(&[job.payload.kind()]).observe(seconds_since(job.created_at));
    }

    pub(crate) fn committee(&self, parties: usize, threshold: usize) {
        for (of, n) in [("parties", parties), ("threshold", threshold)] {
            self.committee.with_label_values(&[of]).set(i64::try_from(n).unwrap_or(i64::MAX));
        }
    }

    pub(crate) fn low_balance(&self, chain: u64, wei: U256) {
        self.low_balance.with_label_values(&[chain.to_string()]).set(f64::from(wei) / 1e18);
    }

    pub(crate) fn follows(&self, chain: u64, follows: bool) {
        self.follows.with_label_values(&[chain.to_string()]).set(follows.into());
    }

    pub(crate) fn chain_up(&self, chain: u64, up: bool) {
        self.chain_up.with_label_values(&[chain.to_string()]).set(up.into());
    }

    pub(crate) fn party(&self, party: u32, status: PartyStatus) {
        self.party_reports.with_label_values(&[party.to_string().as_str(), status.as_str()]).inc();
    }

    pub(crate) fn party_answered(&self, party: u32, after: std::time::Duration) {
        self.party_seconds.with_label_values(&[party.to_string()]).observe(after.as_secs_f64());
    }

    pub(crate) fn quarantined(&self, n: u64) {
        self.quarantined.with_label_values::<&str>(&[]).inc_by(n);
    }

    pub(crate) fn follower(&self, chain: u64, cursor: u64, head: u64) {
        let chain = chain.to_string();
        self.cursor.with_label_values(&[&chain]).set(i64::try_from(cursor).unwrap_or(i64::MAX));
        self.chain_head.with_label_values(&[&chain]).set(i64::try_from(head).unwrap_or(i64::MAX));
    }

    pub(crate) fn node_error(&self, chain: u64) {
        self.node_errors.with_label_values(&[chain.to_string()]).inc();
    }

    pub(crate) fn send_fault(&self, chain: u64, fault: SendFault) {
        self.send_faults.with_label_values(&[chain.to_string().as_str(), fault.as_str()]).inc();
    }

    pub(crate) fn mined(&self, chain: u64, purpose: Purpose, mined: &Mined) {
        let outcome = if mined.succeeded { "succeeded" } else { "reverted" };
        let chain = chain.to_string();
        let labels = [chain.as_str(), purpose.as_str(), outcome];
        self.transactions.with_label_values(&labels).inc();
        self.gas_used.with_label_values(&labels).inc_by(mined.gas_used);
    }

    pub(crate) fn replaced(&self, chain: u64, purpose: Purpose) {
        self.replacements.with_label_values(&[chain.to_string().as_str(), purpose.as_str()]).inc();
    }

    pub(crate) fn fee_capped(&self, chain: u64) {
        self.fee_capped.with_label_values(&[chain.to_string()]).inc();
    }

    pub(crate) fn pending(&self, chain: u64, n: usize) {
        self.pending.with_label_values(&[chain.to_string()]).set(i64::try_from(n).unwrap_or(i64::MAX));
    }

    pub(crate) fn balance(&self, chain: u64, wei: U256) {
        self.balance.with_label_values(&[chain.to_string()]).set(f64::from(wei) / 1e18);
    }

    pub(crate) fn put_off(&self, state: State, reason: &str) {
        self.put_off.with_label_values(&[state.as_str(), reason]).inc();
    }

    pub(crate) fn http(&self, route: &str, status: u16) {
        self.http.with_label_values(&[route, status.to_string().as_str()]).inc();
    }
}

fn seconds_since(at: i64) -> f64 {
    std::time::Duration::from_millis(u64::try_from(now_ms().saturating_sub(at)).unwrap_or(0)).as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_counted_is_shown() {
        let metrics = Metrics::default();
        metrics.transition(State::Quorum, 2);
        metrics.jobs(&[(State::Dispatched, 3)]);
        metrics.quarantined(1);
        metrics.oldest(&[(State::Quorum, now_ms() - 7_500)]);
        metrics.stage(State::Final, now_ms() - 10);
        metrics.balance(1, U256::from(1_500_000_000_000_000_000u64));
        let text = metrics.render();
        for line in [
            "kms_relayer_transitions_total{state=\"quorum\"} 2",
            "kms_relayer_jobs{state=\"dispatched\"} 3",
            "kms_relayer_jobs{state=\"done\"} 0",
            "kms_relayer_quarantined_logs_total 1",
            "kms_relayer_oldest_seconds{state=\"quorum\"} 7",
            "kms_relayer_oldest_seconds{state=\"final\"} 0",
            "kms_relayer_stage_seconds_count{state=\"final\"} 1",
            "kms_relayer_balance_ether{chain=\"1\"} 1.5",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
    }
}
