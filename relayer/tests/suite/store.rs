//! The store by itself.

use alloy::primitives::{Address, B256, Bytes, U256};
use kms_relayer::Error;
use kms_relayer::dispatch::Receipt;
use kms_relayer::job::ChainEvent;
use kms_relayer::state::State;
use kms_relayer::store::{Account, NewAttempt, NewPull, NewTransaction, Pulled, Purpose, Quarantined, Work};

use crate::support::{CHAIN, FakeChain, cleartexts, fulfilled, open, pull_of, request, rules, said, store, submit};

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
    assert!(temp.store.claim(Work::All, 10, 1_000).await.unwrap().is_empty());
    chain.mine(1, vec![(id, ChainEvent::Requested { request, fee: U256::ZERO })]);
    temp.store.apply(&rules(2), &chain.step(Vec::new(), 2)).await.unwrap();
    let claimed = temp.store.claim(Work::All, 10, 1_000).await.unwrap();
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
    let job = submit(&temp.store, pull_of(1)).await;
    assert_eq!(temp.store.claim(Work::All, 10, 60_000).await.unwrap().len(), 1);
    assert!(temp.store.claim(Work::All, 10, 60_000).await.unwrap().is_empty());
    let other = open(temp.dir.path(), "other").await;
    assert!(other.claim(Work::All, 10, 60_000).await.unwrap().is_empty());
    // The owner was killed and starts again.
    let again = open(temp.dir.path(), "test").await;
    assert_eq!(again.claim(Work::All, 10, 0).await.unwrap()[0].id, job.id);
    // A lease of no time is over at once.
    assert_eq!(other.claim(Work::All, 10, 60_000).await.unwrap().len(), 1);
}

#[tokio::test]
async fn equal_questions_share_a_job_and_a_failed_one_is_asked_again() {
    let temp = store().await;
    let pull = |n, client: &[u8]| NewPull { deadline: 1, client: client.to_vec(), ..pull_of(n) };
    let ask = async |n, client: &[u8]| temp.store.submit_pull(pull(n, client), 3, 2).await.unwrap();
    let id = |pulled| if let Pulled::Job(job) = pulled { Some((job.id, job.state)) } else { None };
    let first = id(ask(1, b"a").await).unwrap();
    assert_eq!(id(ask(1, b"b").await), Some(first), "the same question is the same job, whoever asks");
    assert!(id(ask(2, b"a").await).is_some());
    assert!(matches!(ask(3, b"a").await, Pulled::TooManyOfYours));
    assert!(id(ask(3, b"b").await).is_some());
    assert!(matches!(ask(4, b"b").await, Pulled::Full), "three are open, which is the limit");
    assert!(id(ask(2, b"b").await).is_some(), "a known question is not a new one");
    assert_eq!(temp.store.expire_pulls().await.unwrap(), 3);
    assert_eq!(temp.store.job(first.0).await.unwrap().unwrap().state, State::Expired);
    assert_eq!(id(ask(1, b"a").await), Some((first.0, State::Final)));
}

#[tokio::test]
async fn equal_questions_at_the_same_moment_are_one_job() {
    let temp = store().await;
    let asked = futures::future::join_all((0..8).map(|_| submit(&temp.store, pull_of(1)))).await;
    assert!(asked.iter().all(|job| job.id == asked[0].id));
    let view = temp.store.view(asked[0].id).await.unwrap().unwrap();
    assert_eq!(view.timeline.len(), 1);
    assert_eq!(temp.store.claim(Work::All, 10, 60_000).await.unwrap().len(), 1);
}

#[tokio::test]
async fn pulls_and_requests_are_claimed_apart() {
    let temp = store().await;
    let (id, request) = request(0, 0, 9_000);
    let mut chain = FakeChain::new();
    chain.mine(1, vec![(id, ChainEvent::Requested { request, fee: U256::ZERO })]);
    temp.store.apply(&rules(2), &chain.step(Vec::new(), 0)).await.unwrap();
    let pull = submit(&temp.store, pull_of(1)).await.id;
    let claim = async |work| {
        let jobs = temp.store.claim(work, 10, 0).await.unwrap();
        jobs.into_iter().map(|job| job.id).collect::<Vec<_>>()
    };
    assert_eq!(claim(Work::Requests { full: &[CHAIN + 1] }).await, [id]);
    assert!(
        claim(Work::Requests { full: &[CHAIN + 1, CHAIN] }).await.is_empty(),
        "nothing is begun where there is no room"
    );
    temp.store.shift(id, State::Final, State::Dispatched, "", "").await.unwrap();
    assert_eq!(claim(Work::Requests { full: &[CHAIN] }).await, [id], "what is begun is finished");
    assert_eq!(claim(Work::Pulls).await, [pull]);
    assert_eq!(claim(Work::All).await.len(), 2);
}

#[tokio::test]
async fn pulls_that_ended_long_ago_are_deleted_step_by_step_and_nothing_else_is() {
    let temp = store().await;
    let (request_id, request) = request(0, 0, 9_000);
    let mut chain = FakeChain::new();
    chain.mine(1, vec![(request_id, ChainEvent::Requested { request, fee: U256::ZERO })]);
    chain.mine(1, vec![(request_id, fulfilled())]);
    temp.store.apply(&rules(0), &chain.step(Vec::new(), 0)).await.unwrap();
    let open = submit(&temp.store, pull_of(1)).await.id;
    let mut ended = Vec::new();
    for n in 2..5 {
        let id = submit(&temp.store, pull_of(n)).await.id;
        temp.store.shift(id, State::Final, State::Dispatched, "", "").await.unwrap();
        temp.store.record(id, &[said(1, 7), said(2, 7), said(3, 7)], 3).await.unwrap();
        temp.store.shift(id, State::Quorum, State::Done, "", "").await.unwrap();
        temp.store.record_receipts(id, &[(1, Receipt { bytes: vec![1], mpc_micros: 1 })]).await.unwrap();
        ended.push(id);
    }
    assert_eq!(temp.store.prune_pulls(0, 10).await.unwrap(), 0, "their time is not over");
    let later = i64::MAX;
    assert_eq!(temp.store.prune_pulls(later, 2).await.unwrap(), 2);
    assert_eq!(temp.store.prune_pulls(later, 2).await.unwrap(), 1);
    for id in ended {
        assert!(temp.store.view(id).await.unwrap().is_none());
        assert!(temp.store.answers(id).await.unwrap().is_empty() && temp.store.parties(id).await.unwrap().is_empty());
        assert_eq!(temp.store.mpc_micros(id).await.unwrap(), None);
    }
    assert!(temp.store.job(open).await.unwrap().is_some());
    assert!(temp.store.job(request_id).await.unwrap().is_some(), "what the chain asked for stays on record");
}

#[tokio::test]
async fn disagreeing_answers_are_no_quorum_and_late_ones_are_kept_as_late() {
    let temp = store().await;
    let id = submit(&temp.store, pull_of(1)).await.id;
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

#[tokio::test]
async fn a_request_is_forgotten_only_when_its_end_is_final() {
    let temp = store().await;
    let ids: Vec<B256> = (0..3).map(|nonce| request(nonce, 0, 9_000).0).collect();
    let asked = |nonce| ChainEvent::Requested { request: request(nonce, 0, 9_000).1, fee: U256::from(5) };
    let mut chain = FakeChain::new();
    chain.mine(1, vec![(ids[0], asked(0)), (ids[1], asked(1)), (ids[2], asked(2))]);
    chain.mine(1, vec![(ids[0], fulfilled())]);
    chain.mine(1, vec![(ids[1], fulfilled())]);
    chain.mine(1, Vec::new());
    chain.finalized = 2;
    temp.store.apply(&rules(1), &chain.step(Vec::new(), 0)).await.unwrap();
    let state = async |id| temp.store.job(id).await.unwrap().map(|job| job.state);
    assert_eq!(state(ids[0]).await, Some(State::Done));
    assert_eq!(state(ids[1]).await, Some(State::Done), "deep enough, and not finalized");
    assert_eq!(temp.store.prune_requests(0, 10).await.unwrap(), 0, "all of them are young");
    assert_eq!(temp.store.prune_requests(i64::MAX, 10).await.unwrap(), 1);
    assert_eq!((state(ids[0]).await, state(ids[1]).await), (None, Some(State::Done)));
    assert_eq!(state(ids[2]).await, Some(State::Final), "what is open stays");
    assert_eq!(temp.store.prune_pulls(i64::MAX, 10).await.unwrap(), 0, "of another kind");
    // What the chain says later about a forgotten request does not bring it back.
    chain.mine(1, vec![(ids[0], ChainEvent::CallbackDelivered)]);
    temp.store.apply(&rules(1), &chain.step(Vec::new(), 5)).await.unwrap();
    assert_eq!(state(ids[0]).await, None);
}

#[tokio::test]
async fn of_many_that_write_at_once_each_stands_or_falls_by_itself() {
    let temp = store().await;
    let account = Account { chain: CHAIN, sender: Address::repeat_byte(7) };
    temp.store.raise_nonce(account, 5).await.unwrap();
    let waiting = submit(&temp.store, pull_of(200)).await.id;
    let mut writers = Vec::new();
    for n in 0..60u8 {
        let store = temp.store.clone();
        writers.push(tokio::spawn(async move {
            if n % 3 == 0 {
                // Takes the nonce and inserts the transaction, and then finds that its job is not at `quorum`.
                let (target, data) = (Address::repeat_byte(8), Bytes::from(vec![n]));
                let new = NewTransaction { job: Some(waiting), target, data: data.clone(), gas_limit: 1 };
                let hash = B256::repeat_byte(n);
                let attempt = NewAttempt { hash, purpose: Purpose::Fulfil, raw: data, max_fee: 1, priority_fee: 1 };
                let refused = store.reserve(account, 5, &[(new, attempt)]).await;
                assert!(matches!(refused, Err(Error::Moved(_))), "{refused:?}");
            } else {
                let id = submit(&store, pull_of(n)).await.id;
                // Read by another connection: what is acknowledged is committed.
                assert!(store.job(id).await.unwrap().is_some());
            }
        }));
    }
    for writer in writers {
        writer.await.unwrap();
    }
    assert_eq!(temp.store.next_nonce(account).await.unwrap(), Some(5));
    assert_eq!(temp.store.pending_count(account).await.unwrap(), 0);
    let counted: u64 = temp.store.count_by_state().await.unwrap().into_iter().map(|(_, count)| count).sum();
    assert_eq!(counted, 41);
}
