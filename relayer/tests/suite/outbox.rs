//! The transaction manager: on a real anvil where the node matters, on a scripted one where faults matter.

use std::sync::Arc;
use std::time::Duration;

use alloy::primitives::{Address, B256, Bytes};
use kms_chain::follower::BlockRef;
use kms_relayer::state::State;
use kms_relayer::store::{Applied, Mined, NewTransaction, Store, TransactionRow, Work};
use kms_relayer::tx::{Fees, Node, NodeError, Submission, TxManager, TxRules};

use crate::support::{
    Anvil, CHAIN, FakeChain, FakeNode, TempStore, fulfilled, open, pull_of, request, rules, said, signer, store,
    submit, tx_rules,
};

pub(crate) const TARGET: Address = Address::repeat_byte(0x77);
pub(crate) const FEES: Fees = Fees { max_fee: 5_000_000_000, priority_fee: 1_000_000_000 };

/// A job at `quorum`.
pub(crate) async fn at_quorum(store: &Store, n: u8) -> B256 {
    let id = submit(store, pull_of(n)).await.id;
    store.shift(id, State::Final, State::Dispatched, "", "").await.unwrap();
    assert!(store.record(id, &[said(1, 7), said(2, 7), said(3, 7)], 3).await.unwrap().quorum_now);
    id
}

pub(crate) fn transaction(job: B256) -> NewTransaction {
    NewTransaction { job: Some(job), target: TARGET, data: Bytes::from(vec![1, 2, 3]), gas_limit: 100_000 }
}

pub(crate) fn patient() -> TxRules {
    TxRules { bump_after: Duration::from_secs(3600), ..tx_rules() }
}

pub(crate) fn manager(store: &Store, node: Arc<dyn Node>, rules: TxRules) -> TxManager {
    TxManager::new(store.clone(), node, signer(), CHAIN, rules)
}

pub(crate) async fn counted(anvil: &Anvil) -> u64 {
    Node::transaction_count(&anvil.chain, signer().address(), alloy::eips::BlockId::latest()).await.unwrap()
}

pub(crate) async fn state(store: &Store, job: B256) -> State {
    store.job(job).await.unwrap().unwrap().state
}

/// The nonce under which a job is on its way.
pub(crate) async fn under_way(store: &Store, job: B256) -> Option<u64> {
    store.standing(job).await.unwrap().under_way
}

pub(crate) async fn rows(store: &Store, job: B256) -> Vec<TransactionRow> {
    store.view(job).await.unwrap().unwrap().transactions
}

#[tokio::test]
async fn a_kill_between_storing_and_broadcasting_loses_nothing_and_doubles_nothing() {
    let anvil = Anvil::start().await;
    let TempStore { store, dir } = store().await;
    let job = at_quorum(&store, 1).await;
    let first = manager(&store, Arc::new(anvil.chain.clone()), patient());
    let (nonce, attempt) = first.prepare(transaction(job), FEES).await.unwrap().unwrap();
    // Killed here.
    drop(first);
    store.close().await;
    anvil.mine(1).await;
    assert_eq!(counted(&anvil).await, 0);
    let store = open(dir.path(), "test").await;
    assert_eq!(state(&store, job).await, State::Submitting);
    let second = manager(&store, Arc::new(anvil.chain.clone()), patient());
    second.tick().await.unwrap();
    second.tick().await.unwrap();
    anvil.mine(1).await;
    second.tick().await.unwrap();
    let rows = rows(&store, job).await;
    assert_eq!((rows.len(), rows[0].hash, rows[0].state.as_str()), (1, attempt.hash, "mined"));
    assert!(rows[0].gas_used.is_some());
    assert_eq!((nonce, counted(&anvil).await), (0, 1));
    // The job comes to quorum again, as after a reorganisation: it is under way and not sent again.
    store.shift(job, State::Submitting, State::Quorum, "", "").await.unwrap();
    let submission = second.submit(job, TARGET, Bytes::from(vec![1, 2, 3]), 0).await.unwrap();
    assert!(matches!(submission, Submission::NotNow(_)), "{submission:?}");
    anvil.mine(1).await;
    assert_eq!(counted(&anvil).await, 1);
    assert_eq!(state(&store, job).await, State::Submitting);
}

#[tokio::test]
async fn an_answer_that_nobody_pays_for_is_not_posted() {
    let anvil = Anvil::start().await;
    let TempStore { store, dir: _dir } = store().await;
    let rules = TxRules { fee_cover_percent: 100, ..patient() };
    let manager = manager(&store, Arc::new(anvil.chain.clone()), rules);
    // A pull has no fee at all.
    let job = at_quorum(&store, 1).await;
    let submission = manager.submit(job, TARGET, Bytes::new(), 0).await.unwrap();
    let Submission::Underpaid { fee, needed } = submission else { panic!("{submission:?}") };
    assert!(fee.is_zero() && needed > fee);
    anvil.mine(1).await;
    assert_eq!((counted(&anvil).await, state(&store, job).await), (0, State::Quorum), "nothing was stored or sent");
}

#[tokio::test]
async fn gaps_before_a_nonce_are_closed_with_no_ops() {
    let anvil = Anvil::start().await;
    let TempStore { store, dir: _dir } = store().await;
    let manager = manager(&store, Arc::new(anvil.chain.clone()), patient());
    store.raise_nonce(manager.account(), 2).await.unwrap();
    let job = at_quorum(&store, 1).await;
    let submission = manager.submit(job, TARGET, Bytes::new(), 0).await.unwrap();
    assert!(matches!(submission, Submission::Stored { nonce: 2, .. }), "{submission:?}");
    anvil.mine(1).await;
    assert_eq!(counted(&anvil).await, 0, "stuck behind the gap");
    manager.tick().await.unwrap();
    anvil.mine(1).await;
    manager.tick().await.unwrap();
    assert_eq!(counted(&anvil).await, 3);
    assert_eq!(rows(&store, job).await[0].state, "mined");
    assert_eq!(store.pending_count(manager.account()).await.unwrap(), 0);
}

#[tokio::test]
async fn a_transaction_that_is_not_mined_is_replaced_and_its_history_kept() {
    let anvil = Anvil::start().await;
    let TempStore { store, dir: _dir } = store().await;
    let job = at_quorum(&store, 1).await;
    let patient = manager(&store, Arc::new(anvil.chain.clone()), patient());
    patient.submit(job, TARGET, Bytes::new(), 0).await.unwrap();
    patient.tick().await.unwrap();
    assert_eq!(rows(&store, job).await.len(), 1, "its time has not come");
    let eager = manager(&store, Arc::new(anvil.chain.clone()), tx_rules());
    eager.tick().await.unwrap();
    anvil.mine(1).await;
    patient.tick().await.unwrap();
    let rows = rows(&store, job).await;
    let states: Vec<&str> = rows.iter().map(|row| row.state.as_str()).collect();
    assert_eq!(states, ["replaced", "mined"]);
    assert_eq!(counted(&anvil).await, 1);
}

#[tokio::test]
async fn what_another_relayer_fulfilled_is_not_sent_and_its_nonce_is_used_up() {
    let anvil = Anvil::start().await;
    let TempStore { store, dir: _dir } = store().await;
    let (id, request) = request(0, 0, 9_000);
    let mut chain = FakeChain::new();
    chain.mine(1, vec![(id, kms_relayer::job::ChainEvent::Requested { request, fee: Default::default() })]);
    store.apply(&rules(2), &chain.step(Vec::new(), 0)).await.unwrap();
    store.shift(id, State::Final, State::Dispatched, "", "").await.unwrap();
    store.shift(id, State::Dispatched, State::Quorum, "", "").await.unwrap();
    let manager = manager(&store, Arc::new(anvil.chain.clone()), patient());
    manager.submit(id, TARGET, Bytes::from(vec![1; 500]), 0).await.unwrap();
    chain.mine(1, vec![(id, fulfilled())]);
    store.apply(&rules(2), &chain.step(Vec::new(), 2)).await.unwrap();
    assert_eq!(state(&store, id).await, State::Mined);
    manager.tick().await.unwrap();
    anvil.mine(1).await;
    manager.tick().await.unwrap();
    let rows = rows(&store, id).await;
    assert_eq!(rows.iter().map(|row| row.state.as_str()).collect::<Vec<_>>(), ["replaced", "mined"]);
    assert_eq!(rows[1].gas_used, Some(21_000));
    assert_eq!(state(&store, id).await, State::Mined);
}

#[tokio::test]
async fn a_transaction_whose_block_is_reorganised_away_is_sent_again() {
    let anvil = Anvil::start().await;
    let TempStore { store, dir: _dir } = store().await;
    let job = at_quorum(&store, 1).await;
    let manager = manager(&store, Arc::new(anvil.chain.clone()), patient());
    manager.submit(job, TARGET, Bytes::new(), 0).await.unwrap();
    anvil.mine(1).await;
    manager.tick().await.unwrap();
    assert_eq!(rows(&store, job).await[0].state, "mined");
    let block = anvil.chain.heights().await.unwrap().latest;
    anvil.rpc("anvil_reorg", serde_json::json!([1, []])).await;
    assert_eq!(counted(&anvil).await, 0);
    let latest = anvil.chain.heights().await.unwrap().latest;
    let step = step(vec![block], latest);
    store.apply(&rules(2), &step).await.unwrap();
    assert_eq!(rows(&store, job).await[0].state, "pending");
    manager.tick().await.unwrap();
    anvil.mine(1).await;
    manager.tick().await.unwrap();
    assert_eq!(rows(&store, job).await[0].state, "mined");
    // Deep enough, and still where the receipt said.
    anvil.mine(3).await;
    store.apply(&rules(2), &self::step(Vec::new(), anvil.chain.heights().await.unwrap().latest)).await.unwrap();
    manager.tick().await.unwrap();
    assert_eq!(rows(&store, job).await[0].state, "confirmed");
}

fn step(orphaned: Vec<BlockRef>, latest: BlockRef) -> Applied {
    Applied {
        orphaned,
        blocks: vec![latest],
        events: Vec::new(),
        quarantined: Vec::new(),
        latest,
        safe: 0,
        finalized: 0,
    }
}

#[tokio::test]
async fn a_nonce_used_by_somebody_else_is_given_up_and_the_job_is_sent_under_another() {
    let anvil = Anvil::start().await;
    let (ours, theirs) = (store().await, store().await);
    let (job, other) = (at_quorum(&ours.store, 1).await, at_quorum(&theirs.store, 2).await);
    let node = Arc::new(anvil.chain.clone());
    let us = manager(&ours.store, node.clone(), patient());
    us.prepare(transaction(job), FEES).await.unwrap().unwrap();
    manager(&theirs.store, node, patient()).submit(other, TARGET, Bytes::new(), 0).await.unwrap();
    anvil.mine(1).await;
    us.tick().await.unwrap();
    assert_eq!(state(&ours.store, job).await, State::Submitting, "perhaps the node just does not know the receipt yet");
    anvil.mine(2).await;
    us.tick().await.unwrap();
    assert_eq!(
        (state(&ours.store, job).await, rows(&ours.store, job).await[0].state.as_str()),
        (State::Quorum, "lost")
    );
    let submission = us.submit(job, TARGET, Bytes::new(), 0).await.unwrap();
    assert!(matches!(submission, Submission::Stored { nonce: 1, .. }), "{submission:?}");
}

#[tokio::test]
async fn many_transactions_are_in_flight_at_once() {
    let anvil = Anvil::start().await;
    let TempStore { store, dir: _dir } = store().await;
    let manager = Arc::new(manager(&store, Arc::new(anvil.chain.clone()), TxRules { max_in_flight: 10, ..patient() }));
    let mut jobs = Vec::new();
    for n in 1..=12 {
        jobs.push(at_quorum(&store, n).await);
    }
    let submitted = jobs.iter().map(|job| {
        let (manager, job) = (manager.clone(), *job);
        async move { manager.submit(job, TARGET, Bytes::new(), 0).await.unwrap() }
    });
    let submissions = futures::future::join_all(submitted).await;
    let stored = submissions.iter().filter(|s| matches!(s, Submission::Stored { .. })).count();
    assert!((10..=12).contains(&stored), "{submissions:?}");
    let full = store.pending_count(manager.account()).await.unwrap();
    assert_eq!(full as usize, stored);
    anvil.mine(1).await;
    manager.tick().await.unwrap();
    assert_eq!(store.pending_count(manager.account()).await.unwrap(), 0);
    assert_eq!(counted(&anvil).await as usize, stored);
}

#[tokio::test]
async fn a_reverted_transaction_sends_its_job_back_after_a_pause() {
    let TempStore { store, dir: _dir } = store().await;
    let job = at_quorum(&store, 1).await;
    let node = Arc::new(FakeNode::default());
    let manager = manager(&store, node.clone(), patient());
    let Submission::Stored { hash, .. } = manager.submit(job, TARGET, Bytes::new(), 0).await.unwrap() else {
        panic!("not stored");
    };
    {
        let mut node = node.state.lock().unwrap();
        node.counted = 1;
        let mined = Mined { hash, block: 5, block_hash: B256::ZERO, succeeded: false, gas_used: 1, gas_price: 1 };
        node.receipts.insert(hash, mined);
    }
    manager.tick().await.unwrap();
    assert_eq!(state(&store, job).await, State::Quorum);
    assert_eq!(rows(&store, job).await[0].state, "reverted");
    assert!(store.claim(Work::All, 10, 1_000).await.unwrap().is_empty(), "not at once");
    assert_eq!(under_way(&store, job).await, None);
}

#[tokio::test]
async fn a_transaction_that_no_node_will_take_gives_its_nonce_to_a_no_op() {
    let TempStore { store, dir: _dir } = store().await;
    let job = at_quorum(&store, 1).await;
    let node = Arc::new(FakeNode::default());
    node.state.lock().unwrap().refuse.push_back("intrinsic gas too low: gas 1, minimum needed 2".into());
    let manager = manager(&store, node.clone(), patient());
    manager.submit(job, TARGET, Bytes::new(), 0).await.unwrap();
    assert_eq!(state(&store, job).await, State::Quorum);
    assert!(node.state.lock().unwrap().sent.is_empty());
    manager.tick().await.unwrap();
    let sent = node.state.lock().unwrap().sent.clone();
    assert_eq!(sent, [rows(&store, job).await[1].hash]);
}

#[tokio::test]
async fn refusals_that_pass_are_tried_again_with_the_same_bytes() {
    let TempStore { store, dir: _dir } = store().await;
    let node = Arc::new(FakeNode::default());
    for (n, refusal) in
        ["txpool is full", "connection reset by peer", "insufficient funds for gas * price + value", "nonce too high"]
            .into_iter()
            .enumerate()
    {
        let job = at_quorum(&store, n as u8 + 1).await;
        node.state.lock().unwrap().refuse.push_back(refusal.into());
        let manager = manager(&store, node.clone(), patient());
        manager.submit(job, TARGET, Bytes::new(), 0).await.unwrap();
        assert_eq!(state(&store, job).await, State::Submitting, "{refusal}");
        manager.tick().await.unwrap();
        let rows = rows(&store, job).await;
        assert_eq!(rows.len(), 1, "{refusal}");
        assert_eq!(node.state.lock().unwrap().sent.last(), Some(&rows[0].hash), "{refusal}");
    }
}

#[tokio::test]
async fn a_fee_that_is_too_low_is_raised_as_soon_as_it_is_its_turn() {
    let TempStore { store, dir: _dir } = store().await;
    let node = Arc::new(FakeNode::default());
    let job = at_quorum(&store, 1).await;
    node.state.lock().unwrap().refuse.push_back("max fee per gas less than block base fee".into());
    let manager = manager(&store, node.clone(), patient());
    manager.submit(job, TARGET, Bytes::new(), 0).await.unwrap();
    manager.tick().await.unwrap();
    let rows = rows(&store, job).await;
    assert_eq!((rows.len(), node.state.lock().unwrap().sent.clone()), (2, vec![rows[1].hash]));
    assert_eq!(state(&store, job).await, State::Submitting);
}

#[tokio::test]
async fn a_refusal_that_nobody_understands_does_not_jam_the_nonces_for_ever() {
    let TempStore { store, dir: _dir } = store().await;
    let node = Arc::new(FakeNode::default());
    let (stuck, behind) = (at_quorum(&store, 1).await, at_quorum(&store, 2).await);
    node.state.lock().unwrap().refuse.push_back("computer says no".into());
    let manager = manager(&store, node.clone(), tx_rules());
    manager.submit(stuck, TARGET, Bytes::new(), 0).await.unwrap();
    manager.submit(behind, TARGET, Bytes::new(), 0).await.unwrap();
    manager.tick().await.unwrap();
    let rows = rows(&store, stuck).await;
    assert_eq!((state(&store, stuck).await, rows.len()), (State::Quorum, 2));
    assert_eq!(
        node.state.lock().unwrap().sent.last(),
        Some(&rows[1].hash),
        "a no-op, so that the next one can be mined"
    );
    assert_eq!(state(&store, behind).await, State::Submitting);
}

#[tokio::test]
async fn what_the_contract_would_revert_is_never_stored() {
    let TempStore { store, dir: _dir } = store().await;
    let job = at_quorum(&store, 1).await;
    let node = Arc::new(FakeNode::default());
    let revert = NodeError { revert: Some(Bytes::from(vec![1, 2, 3, 4])), ..NodeError::refused("execution reverted") };
    node.state.lock().unwrap().estimate = Some(revert.clone());
    let manager = manager(&store, node, patient());
    assert_eq!(manager.submit(job, TARGET, Bytes::new(), 0).await.unwrap(), Submission::WouldRevert(revert));
    assert_eq!((state(&store, job).await, rows(&store, job).await.len()), (State::Quorum, 0));
}
