//! Several processes on one database: who was overtaken changes nothing, and what one leaves behind others finish.

use std::sync::Arc;
use std::time::Duration;

use alloy::primitives::{B256, Bytes};
use kms_relayer::Error;
use kms_relayer::state::State;
use kms_relayer::store::{Account, Mined, NewAttempt, Purpose, Store};
use kms_relayer::tx::{Caretaker, Node, Signer, TxManager, TxRules};

use crate::outbox::{FEES, TARGET, at_quorum, patient, state, transaction, under_way};
use crate::support::{
    CHAIN, FakeChain, FakeNode, TempStore, open, pull_of, request, rules, signer, store, submit, tx_rules,
};

const LEAD: i64 = 60_000;

/// anvil's second account.
fn other_signer() -> Signer {
    let key = "59c6995e998f97a5a0044966f0945389dc9e86dae88c7a8412f4603b6b78690d";
    Signer::new(key.parse::<alloy::signers::local::PrivateKeySigner>().unwrap())
}

fn manager(store: &Store, node: &Arc<FakeNode>, signer: Signer, rules: TxRules) -> TxManager {
    TxManager::new(store.clone(), node.clone() as Arc<dyn Node>, signer, CHAIN, rules)
}

fn attempt(hash: u8, purpose: Purpose) -> NewAttempt {
    NewAttempt { hash: B256::repeat_byte(hash), purpose, raw: Bytes::from(vec![hash]), max_fee: 1, priority_fee: 1 }
}

#[tokio::test]
async fn a_follower_that_was_overtaken_applies_nothing() {
    let TempStore { store: first, dir } = store().await;
    let mut chain = FakeChain::new();
    chain.mine(1, Vec::new());
    first.apply(&rules(2), &chain.step(Vec::new(), 0)).await.unwrap();
    let second = open(dir.path(), "second").await;
    let name = rules(2).lead_name();
    assert!(!second.lead(&name, LEAD).await.unwrap(), "the first one leads");
    assert_eq!((first.leads(&name), second.leads(&name), second.leads("other")), (Some(true), Some(false), None));
    // The first one stands still until its time is over; the second takes over, applies a block, and stands still too.
    assert!(first.lead(&name, -1).await.unwrap() && second.lead(&name, -1).await.unwrap());
    let (id, request) = request(0, 0, 9_000);
    let asked = kms_relayer::job::ChainEvent::Requested { request, fee: Default::default() };
    let stale = chain.step(Vec::new(), 1);
    chain.mine(1, vec![(id, asked)]);
    let brief = kms_relayer::store::ChainRules { lead_ms: -1, ..rules(2) };
    second.apply(&brief, &chain.step(Vec::new(), 2)).await.unwrap();
    let error = first.apply(&rules(2), &stale).await.unwrap_err();
    assert!(matches!(error, Error::NotLeading(_)), "{error}");
    assert_eq!(second.tail(CHAIN).await.unwrap().last(), Some(&chain.head()), "nothing was applied on top");
    assert_eq!(first.leads(&name), Some(false));
    // It goes on from what the second one has stored.
    assert!(first.lead(&name, LEAD).await.unwrap());
    chain.mine(1, Vec::new());
    first.apply(&rules(2), &chain.step(Vec::new(), 3)).await.unwrap();
}

#[tokio::test]
async fn two_processes_of_one_name_are_two() {
    let TempStore { store: first, dir } = store().await;
    assert!(first.lead("work", LEAD).await.unwrap());
    let second = open(dir.path(), "test").await;
    // It cannot know that the first one still lives, and takes over; from then on there is one again.
    assert!(second.lead("work", LEAD).await.unwrap());
    assert!(!first.lead("work", LEAD).await.unwrap());
    let longer = open(dir.path(), "test#too").await;
    assert!(!longer.lead("work", LEAD).await.unwrap(), "a name that only begins like it is another one");
    let job = submit(&second, pull_of(1)).await.id;
    assert_eq!(second.claim(kms_relayer::store::Work::All, 1, LEAD).await.unwrap().len(), 1);
    // Neither lets go of, nor puts off, what the other one works on.
    first.put_off(job, State::Final, 0, "test", "").await.unwrap();
    first.release(job).await.unwrap();
    assert!(first.claim(kms_relayer::store::Work::All, 1, LEAD).await.unwrap().is_empty());
    second.release(job).await.unwrap();
    assert_eq!(first.claim(kms_relayer::store::Work::All, 1, LEAD).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_replacement_is_stored_only_on_top_of_what_it_replaces() {
    let TempStore { store, dir: _dir } = store().await;
    let job = at_quorum(&store, 1).await;
    let account = Account { chain: CHAIN, sender: signer().address() };
    store.raise_nonce(account, 4).await.unwrap();
    store.reserve(account, 4, &[(transaction(job), attempt(1, Purpose::Fulfil))]).await.unwrap();
    let known = B256::repeat_byte(1);
    assert!(store.add_attempt(account, 4, known, &attempt(2, Purpose::Noop), "", 0).await.unwrap());
    assert_eq!(state(&store, job).await, State::Quorum);
    // Another process of this account, which has seen neither, would make it an answer again.
    assert!(!store.add_attempt(account, 4, known, &attempt(3, Purpose::Fulfil), "", 0).await.unwrap());
    let pending = store.pending(account).await.unwrap();
    let hashes: Vec<u8> = pending[0].attempts.iter().map(|attempt| attempt.signed.hash[0]).collect();
    assert_eq!((pending[0].purpose, hashes), (Purpose::Noop, vec![1, 2]));
    assert_eq!(under_way(&store, job).await, None);
}

#[tokio::test]
async fn a_no_op_that_took_the_place_of_an_answer_sends_the_job_back() {
    let TempStore { store, dir: _dir } = store().await;
    let job = at_quorum(&store, 1).await;
    let account = Account { chain: CHAIN, sender: signer().address() };
    store.raise_nonce(account, 0).await.unwrap();
    store.reserve(account, 0, &[(transaction(job), attempt(1, Purpose::Fulfil))]).await.unwrap();
    let replace = |known: u8, next: u8, purpose| {
        let (store, next) = (store.clone(), attempt(next, purpose));
        async move { store.add_attempt(account, 0, B256::repeat_byte(known), &next, "", 0).await.unwrap() }
    };
    // A request that seemed gone comes back, and an answer replaces the no-op; the no-op is mined all the same.
    assert!(replace(1, 2, Purpose::Noop).await && replace(2, 3, Purpose::Fulfil).await);
    store.shift(job, State::Quorum, State::Submitting, "", "").await.unwrap();
    let hash = B256::repeat_byte(2);
    let mined = Mined { hash, block: 5, block_hash: B256::ZERO, succeeded: true, gas_used: 21_000, gas_price: 1 };
    store.mined(account, 0, &mined, 0).await.unwrap();
    assert_eq!((state(&store, job).await, under_way(&store, job).await), (State::Quorum, None));
    // Under another nonce it is on its way; what becomes of the first one does not bring it back again.
    store.reserve(account, 1, &[(transaction(job), attempt(4, Purpose::Fulfil))]).await.unwrap();
    store.mined(account, 0, &mined, 0).await.unwrap();
    assert_eq!(state(&store, job).await, State::Submitting);
}

#[tokio::test]
async fn what_a_relayer_signed_before_it_was_gone_is_broadcast_by_another() {
    let TempStore { store: gone, dir } = store().await;
    let node = Arc::new(FakeNode::default());
    let job = at_quorum(&gone, 1).await;
    let dead = manager(&gone, &node, signer(), patient());
    assert!(gone.lead(&dead.account().lead_name(), LEAD).await.unwrap());
    let (_, stored) = dead.prepare(transaction(job), FEES).await.unwrap().unwrap();

    let store = open(dir.path(), "second").await;
    let own = Account { chain: CHAIN, sender: other_signer().address() };
    let caretaker = Caretaker::new(store.clone(), node.clone(), own, patient());
    caretaker.look(Duration::from_secs(60)).await.unwrap();
    assert!(node.state.lock().unwrap().sent.is_empty(), "somebody minds that account");
    assert!(gone.lead(&dead.account().lead_name(), -1).await.unwrap());
    caretaker.look(Duration::ZERO).await.unwrap();
    caretaker.look(Duration::ZERO).await.unwrap();
    assert_eq!(node.state.lock().unwrap().sent, [stored.hash], "once is enough");
    assert_eq!(state(&store, job).await, State::Submitting);
}

#[tokio::test]
async fn what_nobody_can_sign_again_is_posted_from_another_account_and_its_nonce_is_used_up() {
    let TempStore { store: gone, dir } = store().await;
    let node = Arc::new(FakeNode::default());
    let job = at_quorum(&gone, 1).await;
    let dead = manager(&gone, &node, signer(), patient());
    dead.prepare(transaction(job), FEES).await.unwrap().unwrap();

    let store = open(dir.path(), "second").await;
    let heir = manager(&store, &node, other_signer(), patient());
    // Its patience is over at once.
    let caretaker = Caretaker::new(store.clone(), node.clone(), heir.account(), tx_rules());
    caretaker.look(Duration::ZERO).await.unwrap();
    assert_eq!(state(&store, job).await, State::Quorum);
    heir.submit(job, TARGET, Bytes::from(vec![1, 2, 3]), 0).await.unwrap();
    assert_eq!(state(&store, job).await, State::Submitting);
    let sent = node.state.lock().unwrap().sent.clone();
    caretaker.look(Duration::ZERO).await.unwrap();
    assert_eq!(node.state.lock().unwrap().sent, sent, "what was given up is not broadcast");
    // The owner comes back.
    dead.tick().await.unwrap();
    let pending = gone.pending(dead.account()).await.unwrap();
    let last = &pending[0].attempts.last().unwrap().signed;
    assert_eq!((pending[0].purpose, last.purpose), (Purpose::Noop, Purpose::Noop));
    assert_eq!(node.state.lock().unwrap().sent.last(), Some(&last.hash));
    assert_eq!(state(&store, job).await, State::Submitting);
}
