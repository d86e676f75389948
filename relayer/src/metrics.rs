//! What is counted, for Prometheus.

use alloy_primitives::U256;
use prometheus::{Encoder, HistogramOpts, HistogramVec, IntCounterVec, IntGaugeVec, Opts, Registry, TextEncoder};

use crate::state::State;
use crate::store::{Mined, PartyStatus, Purpose};
use crate::tx::SendFault;

/// All metrics of the relayer.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    transitions: IntCounterVec,
    jobs: IntGaugeVec,
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
    balance: prometheus::GaugeVec,
    put_off: IntCounterVec,
    http: IntCounterVec,
}

impl Default for Metrics {
    fn default() -> Self {
        let registry = Registry::new();
        macro_rules! register {
            ($kind:ident, $name:literal, $help:literal, $labels:expr) => {{
                // The names and labels stand right here, so that this can only fail for all of us or for nobody.
                let metric = $kind::new(Opts::new($name, $help), $labels).expect("metric names are constants");
                registry.register(Box::new(metric.clone())).expect("metric names are distinct");
                metric
            }};
        }
        use prometheus::GaugeVec;
        let seconds =
            HistogramOpts::new("kms_relayer_party_seconds", "Time from asking a party to its verified answer")
                .buckets(prometheus::exponential_buckets(0.005, 2.0, 14).expect("bounds are constants"));
        let party_seconds = HistogramVec::new(seconds, &["party"]).expect("metric names are constants");
        registry.register(Box::new(party_seconds.clone())).expect("metric names are distinct");
        Self {
            transitions: register!(
                IntCounterVec,
                "kms_relayer_transitions_total",
                "Jobs that reached a state",
                &["state"]
            ),
            jobs: register!(IntGaugeVec, "kms_relayer_jobs", "Jobs in a state", &["state"]),
            party_reports: register!(
                IntCounterVec,
                "kms_relayer_party_reports_total",
                "What parties said",
                &["party", "status"]
            ),
            party_seconds,
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
            put_off: register!(
                IntCounterVec,
                "kms_relayer_put_off_total",
                "Jobs put off, by reason",
                &["state", "reason"]
            ),
            http: register!(IntCounterVec, "kms_relayer_http_total", "HTTP answers", &["route", "status"]),
            registry,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_counted_is_shown() {
        let metrics = Metrics::default();
        metrics.transition(State::Quorum, 2);
        metrics.jobs(&[(State::Dispatched, 3)]);
        metrics.quarantined(1);
        metrics.balance(1, U256::from(1_500_000_000_000_000_000u64));
        let text = metrics.render();
        for line in [
            "kms_relayer_transitions_total{state=\"quorum\"} 2",
            "kms_relayer_jobs{state=\"dispatched\"} 3",
            "kms_relayer_jobs{state=\"done\"} 0",
            "kms_relayer_quarantined_logs_total 1",
            "kms_relayer_balance_ether{chain=\"1\"} 1.5",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
    }
}
