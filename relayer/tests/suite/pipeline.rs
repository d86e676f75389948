//! The pipeline with scripted parties and a scripted node.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use alloy::primitives::{Address, B256, Bytes, U256};
use alloy::sol_types::SolError;
use kms_chain::abi::DecryptionGateway;
use kms_relayer::dispatch::{Committee, DispatchRules, Question, Receipt, Said};
use kms_relayer::job::{ChainEvent, Payload};
use kms_relayer::pipeline::{Destination, Pipeline, PipelineRules};
use kms_relayer::ranks::Ranks;
use kms_relayer::state::State;
use kms_relayer::store::{Store, Work};
use kms_relayer::tx::{NodeError, TxManager};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::support::{
    CHAIN, CONTEXT, FakeChain, FakeNode, GATEWAY, Scripted, TempStore, answer, cleartexts, fulfilled, open, pull_of,
    request, rules, signer, store, submit, tx_rules,
};

fn pipeline(store: &Store, parties: &Arc<Scripted>, node: &Arc<FakeNode>) -> Arc<Pipeline> {
    pipeline_with(store, parties.clone(), node, |_| {})
}

pub(crate) fn pipeline_with(
    store: &Store,
    parties: Arc<dyn Committee>,
    node: &Arc<FakeNode>,
    change: impl FnOnce(&mut PipelineRules),
) -> Arc<Pipeline> {
    let manager = TxManager::new(store.clone(), node.clone(), signer(), CHAIN, tx_rules());
    let destination = Destination { gateway: GATEWAY, lens: Address::ZERO, manager: Arc::new(manager) };
    let mut rules = PipelineRules {
        concurrency: 8,
        reserved: 2,
        lease: Duration::from_secs(60),
        dispatch: DispatchRules {
            patience: Duration::from_secs(5),
            tail: Duration::from_millis(20),
            longest_pause: Duration::from_millis(100),
            grace: Duration::ZERO,
            last_call: Duration::from_secs(2),
            collect: Duration::ZERO,
        },
        ranks: Ranks::default(),
        tick: Duration::from_millis(20),
    };
    change(&mut rules);
    Pipeline::new(store.clone(), parties, BTreeMap::from([(CHAIN, destination)]), rules)
}

pub(crate) async fn pull(store: &Store) -> B256 {
    submit(store, pull_of(1)).await.id
}

/// Runs the pipeline until the job is in one of these states.
pub(crate) async fn until(store: &Store, pipeline: Arc<Pipeline>, job: B256, wanted: &[State]) -> State {
    let cancel = CancellationToken::new();
    let running = tokio::spawn(pipeline.run(cancel.clone()));
    let state = loop {
        let state = store.job(job).await.unwrap().unwrap().state;
        if wanted.contains(&state) {
            break state;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    };
    cancel.cancel();
    running.await.unwrap();
    state
}

fn not_yet() -> Said {
    Said::NotYet { why: "not-final: wait".into(), retry_after_ms: 10 }
}

pub(crate) fn says(party: u32) -> Said {
    Said::Answer(answer(party, 7))
}

#[tokio::test]
async fn a_pull_is_answered_by_a_quorum_with_receipts() {
    let TempStore { store, dir: _dir } = store().await;
    let job = pull(&store).await;
    let parties = Scripted::honest();
    let cancel = CancellationToken::new();
    let running = tokio::spawn(pipeline(&store, &parties, &Arc::default()).run(cancel.clone()));
    while store.answers(job).await.unwrap().len() < 4 || !store.without_receipt(job).await.unwrap().is_empty() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    cancel.cancel();
    running.await.unwrap();
    let view = store.view(job).await.unwrap().unwrap();
    assert_eq!(view.job.cleartexts, Some(cleartexts(7)));
    assert_eq!(view.answers.len(), 4, "the tail brings the late ones");
    let stages: Vec<&str> = view.timeline.iter().map(|row| row.state.as_str()).collect();
    assert_eq!(stages, ["final", "dispatched", "quorum", "done"]);
    assert_eq!(view.mpc_micros, Some(2_000), "the lower median");
}

#[tokio::test]
async fn parties_that_are_not_ready_down_or_lying_are_asked_again_until_there_is_a_quorum() {
    let TempStore { store, dir: _dir } = store().await;
    let job = pull(&store).await;
    let parties = Scripted::new(vec![
        vec![not_yet(), not_yet(), says(1)],
        vec![Said::Unreachable("connection refused".into()), says(2)],
        vec![Said::Invalid("signed by somebody else".into())],
        vec![not_yet(), says(4)],
    ]);
    until(&store, pipeline(&store, &parties, &Arc::default()), job, &[State::Done]).await;
    assert!(parties.times_asked(1) >= 3);
    let view = store.view(job).await.unwrap().unwrap();
    let statuses: Vec<&str> = view.parties.iter().map(|row| row.status.as_str()).collect();
    assert_eq!(statuses, ["answered", "answered", "invalid", "answered"]);
}

#[tokio::test]
async fn a_refusal_by_too_many_ends_it_with_their_reason_and_by_few_does_not() {
    let TempStore { store, dir: _dir } = store().await;
    let refuse = || Said::Refused { reason: "not-permitted".into(), why: "handle 0".into() };
    let job = pull(&store).await;
    let parties = Scripted::new(vec![vec![refuse()], vec![says(2)], vec![says(3)], vec![not_yet(), says(4)]]);
    until(&store, pipeline(&store, &parties, &Arc::default()), job, &[State::Done]).await;
    assert_eq!(parties.times_asked(1), 1, "a refusal is final");

    let job = submit(&store, pull_of(2)).await.id;
    let parties = Scripted::new(vec![vec![refuse()], vec![refuse()], vec![says(3)], vec![says(4)]]);
    until(&store, pipeline(&store, &parties, &Arc::default()), job, &[State::Refused]).await;
    let job = store.job(job).await.unwrap().unwrap();
    assert_eq!(job.reason.as_deref(), Some("not-permitted"));
    assert!(job.detail.unwrap().contains("2 parties refuse"));
}

#[tokio::test]
async fn a_right_that_has_not_reached_the_parties_yet_is_waited_for_and_the_wait_is_explained() {
    let TempStore { store, dir: _dir } = store().await;
    let job = pull(&store).await;
    // First their endpoints don't show it at all, then not in a block that is final enough.
    let unseen = || Said::Refused { reason: "not-permitted".into(), why: "0x00 may not decrypt it".into() };
    let deep = || Said::NotYet { why: "not-final: it is public, but not deep enough".into(), retry_after_ms: 10 };
    let party = |n| vec![unseen(), unseen(), deep(), deep(), deep(), says(n)];
    let parties = Scripted::new((1..=4).map(party).collect());
    let patient = |rules: &mut PipelineRules| rules.dispatch.grace = Duration::from_secs(3_600);
    let pipeline = pipeline_with(&store, parties.clone(), &Arc::default(), patient);
    let cancel = CancellationToken::new();
    let running = tokio::spawn(pipeline.run(cancel.clone()));
    let mut reasons = std::collections::BTreeSet::new();
    loop {
        let job = store.job(job).await.unwrap().unwrap();
        if job.state == State::Done {
            break;
        }
        assert_ne!(job.state, State::Refused);
        for reason in ["not-permitted", "not-final"] {
            if job.detail.as_deref().is_some_and(|detail| detail.contains(reason)) {
                reasons.insert(reason);
            }
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    cancel.cancel();
    running.await.unwrap();
    assert_eq!(reasons.into_iter().collect::<Vec<_>>(), ["not-final", "not-permitted"]);
}

/// Parties that never answer a pull.
#[derive(Debug)]
struct BusyWithPulls(Arc<Scripted>, std::sync::Mutex<Vec<mpsc::Sender<(u32, Said)>>>);

#[async_trait::async_trait]
impl Committee for BusyWithPulls {
    fn parties(&self) -> Vec<u32> {
        self.0.parties()
    }
    fn threshold(&self) -> usize {
        self.0.threshold()
    }
    fn faults(&self) -> usize {
        self.0.faults()
    }
    fn context(&self) -> B256 {
        self.0.context()
    }
    fn ask(&self, question: Question) -> mpsc::Receiver<(u32, Said)> {
        if matches!(question.payload, Payload::OnChain(_)) {
            return self.0.ask(question);
        }
        let (send, receive) = mpsc::channel(1);
        self.1.lock().unwrap().push(send);
        receive
    }
    async fn receipt(&self, party: u32, request: B256) -> Option<Receipt> {
        self.0.receipt(party, request).await
    }
}

#[tokio::test]
async fn a_flood_of_pulls_does_not_hold_up_what_the_chain_asks_for() {
    let TempStore { store, dir: _dir } = store().await;
    for n in 1..=40 {
        submit(&store, pull_of(n)).await;
    }
    let parties = Arc::new(BusyWithPulls(Scripted::honest(), std::sync::Mutex::default()));
    let pipeline = pipeline_with(&store, parties.clone(), &Arc::default(), |_| {});
    let cancel = CancellationToken::new();
    let running = tokio::spawn(pipeline.run(cancel.clone()));
    while parties.1.lock().unwrap().len() < 6 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // Every slot that a pull may have is taken, and stays so.
    let (_chain, id) = on_chain(&store, CONTEXT).await;
    while store.job(id).await.unwrap().unwrap().state != State::Submitting {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(parties.1.lock().unwrap().len(), 6, "two of eight slots are no pull's");
    cancel.cancel();
    parties.1.lock().unwrap().clear();
    running.await.unwrap();
}

#[tokio::test]
async fn the_epoch_that_the_parties_hold_is_asked_for_and_remembered() {
    let TempStore { store, dir: _dir } = store().await;
    let job = pull(&store).await;
    let (live, bogus) = (B256::repeat_byte(0xe1), B256::repeat_byte(0xbb));
    let other = |epoch| Said::EpochNotLive(vec![epoch, epoch]);
    let parties = Scripted::new(vec![
        vec![other(live), says(1)],
        vec![other(live), says(2)],
        vec![other(bogus), says(3)],
        vec![not_yet(), says(4)],
    ]);
    until(&store, pipeline(&store, &parties, &Arc::default()), job, &[State::Done]).await;
    assert_eq!(store.last_epoch(CHAIN).await.unwrap(), Some(live), "one party alone does not choose the epoch");
    let asked = parties.asked.lock().unwrap().clone();
    assert_eq!(asked[0].1, B256::ZERO);
    assert!(asked.iter().any(|(_, epoch)| *epoch == live));
}

async fn on_chain(store: &Store, context: B256) -> (FakeChain, B256) {
    let (_, mut asked) = request(0, 0, 9_000);
    asked.context_id = context;
    let id = kms_chain::request::request_id(CHAIN, GATEWAY, &asked.clone().into());
    let mut chain = FakeChain::new();
    chain.mine(1, vec![(id, ChainEvent::Requested { request: asked, fee: U256::from(3) })]);
    store.apply(&rules(1), &chain.step(Vec::new(), 0)).await.unwrap();
    (chain, id)
}

#[tokio::test]
async fn a_gateway_request_is_posted_once_even_if_the_relayer_is_killed_at_every_step() {
    let mut temp = store().await;
    let (mut chain, id) = on_chain(&temp.store, CONTEXT).await;
    let node = Arc::new(FakeNode::default());
    for stop in [State::Dispatched, State::Quorum, State::Submitting] {
        // A worker gets as far as `stop`, and is killed.
        let store = &temp.store;
        match stop {
            State::Dispatched => {
                store.claim(Work::All, 1, 60_000).await.unwrap();
                store.shift(id, State::Final, State::Dispatched, "", "").await.unwrap();
            }
            State::Quorum => {
                let parties = Scripted::honest();
                let report = |party| kms_relayer::store::Report {
                    party,
                    status: kms_relayer::store::PartyStatus::Answered,
                    detail: String::new(),
                    retry_at: 0,
                    answer: Some(answer(party, 7).into()),
                };
                store.claim(Work::All, 1, 60_000).await.unwrap();
                store.record(id, &[report(1), report(2), report(3)], 3).await.unwrap();
                assert_eq!(parties.times_asked(1), 0);
            }
            _ => {
                until(store, pipeline(store, &Scripted::honest(), &node), id, &[State::Submitting]).await;
            }
        }
        temp.store.close().await;
        temp.store = open(temp.dir.path(), "test").await;
        assert_eq!(temp.store.job(id).await.unwrap().unwrap().state, stop);
    }
    assert_eq!(node.state.lock().unwrap().sent.len(), 1);
    chain.mine(1, vec![(id, fulfilled()), (id, ChainEvent::CallbackDelivered)]);
    chain.mine(1, Vec::new());
    temp.store.apply(&rules(1), &chain.step(Vec::new(), 2)).await.unwrap();
    let job = temp.store.job(id).await.unwrap().unwrap();
    assert_eq!((job.state, job.callback.as_deref(), job.fee), (State::Done, Some("delivered"), U256::from(3)));
}

#[tokio::test]
async fn a_request_for_other_parties_is_refused_with_a_reason() {
    let TempStore { store, dir: _dir } = store().await;
    let (_, id) = on_chain(&store, B256::repeat_byte(0xdd)).await;
    let parties = Scripted::honest();
    until(&store, pipeline(&store, &parties, &Arc::default()), id, &[State::Refused]).await;
    assert_eq!(store.job(id).await.unwrap().unwrap().reason.as_deref(), Some("context"));
    assert_eq!(parties.times_asked(1), 0);
}

#[tokio::test]
async fn an_answer_that_the_gateway_would_not_take_costs_nothing_and_says_why() {
    let TempStore { store, dir: _dir } = store().await;
    let (mut chain, id) = on_chain(&store, CONTEXT).await;
    let node = Arc::new(FakeNode::default());
    let already = DecryptionGateway::AlreadyFulfilled { requestId: id };
    let revert = Some(Bytes::from(already.abi_encode()));
    node.state.lock().unwrap().estimate = Some(NodeError { revert, ..NodeError::refused("execution reverted") });
    let pipeline = pipeline(&store, &Scripted::honest(), &node);
    let cancel = CancellationToken::new();
    let running = tokio::spawn(pipeline.run(cancel.clone()));
    let detail = loop {
        let job = store.job(id).await.unwrap().unwrap();
        if job.reason.as_deref() == Some("would-revert") {
            break job.detail.unwrap_or_default();
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    };
    cancel.cancel();
    running.await.unwrap();
    assert!(detail.contains("AlreadyFulfilled"), "{detail}");
    assert!(node.state.lock().unwrap().sent.is_empty());
    chain.mine(1, vec![(id, fulfilled())]);
    store.apply(&rules(1), &chain.step(Vec::new(), 2)).await.unwrap();
    assert_eq!(store.job(id).await.unwrap().unwrap().state, State::Mined);
}

#[test]
fn ranks_are_all_different_and_spread_over_the_relayers() {
    let known: Vec<Address> = (1..=3).map(Address::repeat_byte).collect();
    let ranks = Ranks { known: known.clone(), slot: Duration::from_secs(1) };
    let mut first = BTreeMap::<Address, usize>::new();
    for n in 0..300u64 {
        let request = B256::from(U256::from(n));
        let mut waits: Vec<u64> = known.iter().map(|me| ranks.wait(request, *me).as_secs()).collect();
        let leader = known.iter().find(|me| ranks.wait(request, **me).is_zero()).unwrap();
        *first.entry(*leader).or_default() += 1;
        waits.sort_unstable();
        assert_eq!(waits, [0, 1, 2]);
    }
    assert!(first.values().all(|n| *n > 60), "{first:?}");
    // Alone, nobody waits.
    assert!(Ranks::default().wait(B256::ZERO, known[0]).is_zero());
}
