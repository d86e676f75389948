//! The transaction manager behind an RPC endpoint that fails or lies: nothing is sent twice, and no nonce is left behind.

use std::sync::Arc;
use std::time::Duration;

use alloy::primitives::{B256, Bytes};
use kms_chain::faults::{Fault, FaultyRpc, Wire};
use kms_chain::rpc::{AnswerLimits, Chain, Url};
use kms_relayer::state::State;
use kms_relayer::store::Store;
use kms_relayer::tx::{Submission, TxManager};

use crate::outbox::{TARGET, at_quorum, counted, manager, patient, rows, state};
use crate::support::{Anvil, CHAIN, TempStore, signer, store};

fn chain(urls: &[Url]) -> Arc<Chain> {
    let limits = AnswerLimits { patience: Duration::from_secs(2), ..AnswerLimits::default() };
    Arc::new(Chain::with_limits(urls, CHAIN, limits).expect("URLs"))
}

struct Faced {
    anvil: Anvil,
    rpc: FaultyRpc,
    temp: TempStore,
    manager: TxManager,
}

impl Faced {
    /// A manager whose only endpoint is a faulty one.
    async fn new() -> Self {
        let anvil = Anvil::start().await;
        let rpc = FaultyRpc::start(anvil.port).await.expect("a port");
        let temp = store().await;
        let manager = manager(&temp.store, chain(&[rpc.url()]), patient());
        Self { anvil, rpc, temp, manager }
    }

    fn store(&self) -> &Store {
        &self.temp.store
    }

    /// Submits until it is stored, as the pipeline does.
    async fn submit(&self, job: B256) {
        loop {
            match self.manager.submit(job, TARGET, Bytes::new(), 0).await.unwrap() {
                Submission::Stored { .. } => return,
                Submission::NotNow(_) if state(self.store(), job).await == State::Submitting => return,
                Submission::NotNow(_) => tokio::time::sleep(Duration::from_millis(50)).await,
                other => panic!("{other:?}"),
            }
        }
    }

    /// Rounds and blocks until nothing is pending.
    async fn settle(&self) {
        while self.store().pending_count(self.manager.account()).await.unwrap() > 0 {
            self.manager.tick().await.unwrap();
            self.anvil.mine(1).await;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// The job's only transaction is in a block, and the account has sent nothing else than `sent` of them.
    async fn one_transaction(&self, job: B256, sent: u64, what: &Fault) {
        let rows = rows(self.store(), job).await;
        let states: Vec<&str> = rows.iter().map(|row| row.state.as_str()).collect();
        assert_eq!(states, ["mined"], "{what:?}");
        assert_eq!(counted(&self.anvil).await, sent, "{what:?}");
    }
}

fn faults() -> Vec<Fault> {
    vec![
        Fault::Drop,
        Fault::Lose,
        Fault::Cut,
        Fault::Twice,
        Fault::Delay(Duration::from_millis(30)),
        Fault::Status(429, None),
        Fault::Status(429, Some(1)),
        Fault::Status(502, None),
        Fault::Error(-32603, "internal error"),
        Fault::Error(-32005, "daily request count exceeded, request rate limited"),
    ]
}

#[tokio::test]
async fn a_broadcast_that_fails_is_made_up_for_with_the_same_bytes() {
    let faced = Faced::new().await;
    for (n, fault) in (1..).zip(faults()) {
        let job = at_quorum(faced.store(), n).await;
        faced.rpc.set_for("eth_sendRawTransaction", fault.clone());
        faced.submit(job).await;
        assert_eq!(state(faced.store(), job).await, State::Submitting, "{fault:?}");
        faced.manager.tick().await.unwrap();
        faced.rpc.set(Fault::None);
        faced.settle().await;
        faced.one_transaction(job, u64::from(n), &fault).await;
    }
}

#[tokio::test]
async fn an_endpoint_that_fails_whole_costs_only_time() {
    let faced = Faced::new().await;
    for (n, fault) in (1..).zip(faults()) {
        // One that is under way already, and one that is not.
        let (first, second) = (at_quorum(faced.store(), 2 * n - 1).await, at_quorum(faced.store(), 2 * n).await);
        faced.submit(first).await;
        faced.rpc.set(fault.clone());
        faced.anvil.mine(1).await;
        let _ = faced.manager.submit(second, TARGET, Bytes::new(), 0).await.unwrap();
        faced.manager.tick().await.unwrap();
        faced.rpc.set(Fault::None);
        faced.submit(second).await;
        faced.settle().await;
        for job in [first, second] {
            faced.one_transaction(job, 2 * u64::from(n), &fault).await;
        }
    }
}

#[tokio::test]
async fn an_endpoint_that_says_nothing_costs_only_time() {
    let faced = Faced::new().await;
    let job = at_quorum(faced.store(), 1).await;
    faced.rpc.set_for("eth_sendRawTransaction", Fault::Silence);
    faced.submit(job).await;
    faced.rpc.set(Fault::Silence);
    faced.manager.tick().await.unwrap();
    faced.rpc.set(Fault::None);
    faced.settle().await;
    faced.one_transaction(job, 1, &Fault::Silence).await;
}

#[tokio::test]
async fn the_nonces_of_another_chain_are_not_ours() {
    let faced = Faced::new().await;
    let stranger = Anvil::of_chain(5).await;
    stranger.rpc("anvil_setNonce", serde_json::json!([signer().address(), "0x32"])).await;
    stranger.mine(5).await;
    let (job, other) = (at_quorum(faced.store(), 1).await, at_quorum(faced.store(), 2).await);
    faced.submit(job).await;
    faced.rpc.set(Fault::Elsewhere(stranger.port));
    for _ in 0..3 {
        faced.manager.tick().await.unwrap();
    }
    let next = faced.store().next_nonce(faced.manager.account()).await.unwrap();
    assert_eq!((next, state(faced.store(), job).await), (Some(1), State::Submitting));
    assert_eq!(rows(faced.store(), job).await[0].state, "pending");
    faced.rpc.set(Fault::None);
    faced.submit(other).await;
    faced.settle().await;
    faced.one_transaction(job, 2, &Fault::None).await;
    // And it is no place to begin, either.
    let fresh = store().await;
    let begins = at_quorum(&fresh.store, 1).await;
    let beginner = manager(&fresh.store, chain(&[faced.rpc.url()]), patient());
    faced.rpc.set(Fault::Elsewhere(stranger.port));
    let submission = beginner.submit(begins, TARGET, Bytes::new(), 0).await.unwrap();
    assert!(matches!(submission, Submission::NotNow(_)), "{submission:?}");
    assert_eq!(fresh.store.next_nonce(beginner.account()).await.unwrap(), None);
}

#[tokio::test]
async fn nonces_that_a_liar_made_us_skip_or_give_up_are_closed_when_the_truth_is_back() {
    let faced = Faced::new().await;
    let job = at_quorum(faced.store(), 1).await;
    faced.rpc.set_for("eth_sendRawTransaction", Fault::Drop);
    faced.submit(job).await;
    faced.rpc.set_for("eth_getTransactionCount", Fault::Result("\"0x5\""));
    faced.manager.tick().await.unwrap();
    // What it was used for is not known, and the job is sent under another nonce.
    assert_eq!(
        (state(faced.store(), job).await, rows(faced.store(), job).await[0].state.as_str()),
        (State::Quorum, "lost")
    );
    faced.rpc.set(Fault::None);
    faced.submit(job).await;
    assert_eq!(faced.store().next_nonce(faced.manager.account()).await.unwrap(), Some(6));
    faced.settle().await;
    assert_eq!(counted(&faced.anvil).await, 6, "no nonce is left out");
    let states: Vec<String> = rows(faced.store(), job).await.into_iter().map(|row| row.state).collect();
    assert!(states.contains(&"mined".to_owned()), "{states:?}");
    assert_eq!(state(faced.store(), job).await, State::Submitting);
}

#[tokio::test]
async fn an_endpoint_that_is_behind_makes_nobody_send_again() {
    let faced = Faced::new().await;
    let jobs = [at_quorum(faced.store(), 1).await, at_quorum(faced.store(), 2).await];
    for job in jobs {
        faced.submit(job).await;
    }
    faced.anvil.mine(1).await;
    faced.rpc.set(Fault::StaleCounts(0));
    for _ in 0..3 {
        faced.manager.tick().await.unwrap();
    }
    faced.rpc.set(Fault::None);
    faced.settle().await;
    for job in jobs {
        faced.one_transaction(job, 2, &Fault::StaleCounts(0)).await;
    }
}

#[tokio::test]
async fn without_the_first_endpoint_transactions_go_on() {
    let anvil = Anvil::start().await;
    let (first, temp) = (Wire::to(anvil.port).await.expect("a port"), store().await);
    let chain = chain(&[first.url(), anvil.url.parse().expect("a URL")]);
    let manager = manager(&temp.store, chain, patient());
    for (n, frozen) in (1..).zip([false, true]) {
        first.mend();
        let job = at_quorum(&temp.store, n).await;
        manager.tick().await.unwrap();
        if frozen {
            first.freeze()
        } else {
            first.cut()
        }
        let submission = manager.submit(job, TARGET, Bytes::new(), 0).await.unwrap();
        assert!(matches!(submission, Submission::Stored { .. }), "{submission:?}");
        anvil.mine(1).await;
        manager.tick().await.unwrap();
        assert_eq!(rows(&temp.store, job).await[0].state, "mined");
        assert_eq!(counted(&anvil).await, u64::from(n));
    }
}
