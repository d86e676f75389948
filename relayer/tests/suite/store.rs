//! The store by itself.

use alloy::primitives::{B256, Bytes, U256};
use kms_relayer::job::ChainEvent;
use kms_relayer::state::State;
use kms_relayer::store::{NewPull, PartyStatus, Quarantined, Report};

use crate::support::{CHAIN, FakeChain, answer, cleartexts, fulfilled, handle, open, request, rules, store};

fn said(party: u32, value: u8) -> Report {
    Report {
        party,
        status: PartyStatus::Answered,
        detail: String::new(),
        retry_at: 0,
        answer: Some(answer(party, value)),
    }
}

#[tokio::test]
async fn a_step_is_applied_whole_and_applying_it_again_changes_nothing() {
    let temp = store().await;
    let (id, request) = request(0, 0, 9_000);
    let mut chain = FakeChain::new();
    chain.mine(1, vec![(id, ChainEvent::Requested { request, fee: U256::from(5) })]);
    let step = chain.step(Vec::new(), 0);
    temp.store.apply(&rules(2), &step).await.unwrap();
    let before = temp.store.view(id).await.unwrap().unwrap();
    assert_eq!((before.job.state, before.timeline.len()), (State::Final, 2));
    temp.store.apply(&rules(2), &step).await.unwrap();
    let after = temp.store.view(id).await.unwrap().unwrap();
    assert_eq!((after.job.state, after.timeline), (State::Final, before.timeline));
    let cursor = temp.store.cursor(CHAIN).await.unwrap().unwrap();
    assert_eq!((cursor.number, cursor.finalized), (1, 0));
}

#[tokio::test]
async fn answers_survive_a_reorganisation_and_the_request_is_finished_from_them() {
    let temp = store().await;
    let (id, request) = request(0, 0, 9_000);
    let mut chain = FakeChain::new();
    chain.mine(1, vec![(id, ChainEvent::Requested { request: request.clone(), fee: U256::ZERO })]);
    temp.store.apply(&rules(2), &chain.step(Vec::new(), 0)).await.unwrap();
    temp.store.shift(id, State::Final, State::Dispatched, "", "").await.unwrap();
    let recorded = temp.store.record(id, &[said(1, 7), said(2, 7), said(3, 7)], 3).await.unwrap();
    assert!(recorded.quorum_now);
    // The block goes, and the request comes back in another one.
    let orphaned = chain.reorg(1);
    chain.mine(2, Vec::new());
    temp.store.apply(&rules(2), &chain.step(orphaned, 1)).await.unwrap();
    assert_eq!(temp.store.job(id).await.unwrap().unwrap().state, State::Orphaned);
    assert!(temp.store.claim(10, 1_000).await.unwrap().is_empty());
    chain.mine(1, vec![(id, ChainEvent::Requested { request, fee: U256::ZERO })]);
    temp.store.apply(&rules(2), &chain.step(Vec::new(), 2)).await.unwrap();
    let claimed = temp.store.claim(10, 1_000).await.unwrap();
    assert_eq!(claimed[0].state, State::Final);
    temp.store.shift(id, State::Final, State::Dispatched, "", "").await.unwrap();
    assert!(temp.store.record(id, &[], 3).await.unwrap().quorum_now);
}

#[tokio::test]
async fn a_fulfilment_is_done_only_when_it_is_deep_enough() {
    let temp = store().await;
    let (id, request) = request(0, 0, 9_000);
    let mut chain = FakeChain::new();
    chain.mine(1, vec![(id, ChainEvent::Requested { request, fee: U256::ZERO })]);
    chain.mine(1, vec![(id, fulfilled()), (id, ChainEvent::CallbackFailed)]);
    temp.store.apply(&rules(2), &chain.step(Vec::new(), 0)).await.unwrap();
    let job = temp.store.job(id).await.unwrap().unwrap();
    assert_eq!((job.state, job.callback.as_deref()), (State::Mined, Some("failed")));
    assert_eq!(job.cleartexts, Some(cleartexts(7)));
    chain.mine(1, Vec::new());
    temp.store.apply(&rules(2), &chain.step(Vec::new(), 3)).await.unwrap();
    assert_eq!(temp.store.job(id).await.unwrap().unwrap().state, State::Mined);
    chain.mine(1, Vec::new());
    temp.store.apply(&rules(2), &chain.step(Vec::new(), 4)).await.unwrap();
    assert_eq!(temp.store.job(id).await.unwrap().unwrap().state, State::Done);
}

#[tokio::test]
async fn a_claimed_job_is_nobody_elses_until_its_lease_ends_or_its_owner_comes_back() {
    let temp = store().await;
    let pull = NewPull { chain: CHAIN, handles: vec![handle(1)], extra_data: Bytes::new(), deadline: 9_999_999_999 };
    let job = temp.store.submit_pull(pull, 10).await.unwrap().unwrap();
    assert_eq!(temp.store.claim(10, 60_000).await.unwrap().len(), 1);
    assert!(temp.store.claim(10, 60_000).await.unwrap().is_empty());
    let other = open(temp.dir.path(), "other").await;
    assert!(other.claim(10, 60_000).await.unwrap().is_empty());
    // The owner was killed and starts again.
    let again = open(temp.dir.path(), "test").await;
    assert_eq!(again.claim(10, 0).await.unwrap()[0].id, job.id);
    // A lease of no time is over at once.
    assert_eq!(other.claim(10, 60_000).await.unwrap().len(), 1);
}

#[tokio::test]
async fn equal_questions_share_a_job_and_a_failed_one_is_asked_again() {
    let temp = store().await;
    let pull = |n| NewPull { chain: CHAIN, handles: vec![handle(n)], extra_data: Bytes::new(), deadline: 1 };
    let first = temp.store.submit_pull(pull(1), 2).await.unwrap().unwrap();
    assert_eq!(temp.store.submit_pull(pull(1), 2).await.unwrap().unwrap().id, first.id);
    assert!(temp.store.submit_pull(pull(2), 2).await.unwrap().is_some());
    assert!(temp.store.submit_pull(pull(3), 2).await.unwrap().is_none(), "two are open, which is the limit");
    assert_eq!(temp.store.expire_pulls().await.unwrap(), 2);
    assert_eq!(temp.store.job(first.id).await.unwrap().unwrap().state, State::Expired);
    let again = temp.store.submit_pull(pull(1), 2).await.unwrap().unwrap();
    assert_eq!((again.id, again.state), (first.id, State::Final));
}

#[tokio::test]
async fn disagreeing_answers_are_no_quorum_and_late_ones_are_kept_as_late() {
    let temp = store().await;
    let pull = NewPull { chain: CHAIN, handles: vec![handle(1)], extra_data: Bytes::new(), deadline: 9_999_999_999 };
    let id = temp.store.submit_pull(pull, 10).await.unwrap().unwrap().id;
    temp.store.shift(id, State::Final, State::Dispatched, "", "").await.unwrap();
    let recorded = temp.store.record(id, &[said(1, 7), said(2, 8), said(3, 7)], 3).await.unwrap();
    assert_eq!((recorded.agreeing, recorded.quorum_now), (2, false));
    assert!(temp.store.record(id, &[said(4, 7)], 3).await.unwrap().quorum_now);
    assert_eq!(temp.store.job(id).await.unwrap().unwrap().cleartexts, Some(cleartexts(7)));
    // Party 2 comes to its senses, too late to change the record.
    assert!(!temp.store.record(id, &[said(2, 7)], 3).await.unwrap().quorum_now);
    let answers = temp.store.answers(id).await.unwrap();
    assert_eq!(answers[1].answer.cleartexts, cleartexts(8));
    assert!(answers.iter().all(|stored| !stored.late));
}

#[tokio::test]
async fn a_log_that_cannot_be_read_is_kept_and_stops_nothing() {
    let temp = store().await;
    let mut chain = FakeChain::new();
    chain.mine(1, Vec::new());
    let mut step = chain.step(Vec::new(), 0);
    step.quarantined.push(Quarantined {
        block: 1,
        block_hash: chain.head().hash,
        log_index: 0,
        tx: B256::ZERO,
        address: crate::support::GATEWAY,
        topics: Bytes::from(vec![1; 32]),
        data: Bytes::new(),
        error: "not an event of ours".into(),
    });
    temp.store.apply(&rules(2), &step).await.unwrap();
    temp.store.apply(&rules(2), &step).await.unwrap();
    assert_eq!(temp.store.cursor(CHAIN).await.unwrap().unwrap().number, 1);
    assert!(temp.store.metrics().render().contains("kms_relayer_quarantined_logs_total 2"));
}

#[tokio::test]
async fn only_one_leads() {
    let temp = store().await;
    let other = open(temp.dir.path(), "other").await;
    assert!(temp.store.lead("watch:1", 60_000).await.unwrap());
    assert!(temp.store.lead("watch:1", 60_000).await.unwrap());
    assert!(!other.lead("watch:1", 60_000).await.unwrap());
    assert!(other.lead("watch:2", 0).await.unwrap());
    assert!(temp.store.lead("watch:2", 60_000).await.unwrap(), "the other one's time was over");
}

#[tokio::test]
async fn a_database_that_is_none_of_ours_is_refused() {
    let metrics = std::sync::Arc::new(kms_relayer::metrics::Metrics::default());
    let error = kms_relayer::store::Store::open("mysql://x", "test", metrics).await.unwrap_err();
    assert!(error.to_string().contains("neither sqlite"));
}
