//! The whole life of jobs against a model: random chains with reorganisations, random workers, kills in between. What must
//! hold is said in terms of the chain as it is, not of the moves that led there.

use std::collections::BTreeMap;

use alloy::primitives::{B256, U256};
use kms_relayer::job::{ChainEvent, Job};
use kms_relayer::state::State;
use kms_relayer::store::{PartyStatus, Report, Store};
use proptest::prelude::*;

use crate::support::{FakeChain, GRACE, answer, fulfilled, open, request, rules, store};

const DEPTH: u64 = 3;
const REQUESTS: u64 = 3;
const THRESHOLD: usize = 3;

#[derive(Debug, Clone)]
enum Op {
    /// One more block, so many seconds later, in which requests do something if the contract lets them.
    Mine(u64, Vec<(u64, Act)>),
    /// The newest blocks are replaced by one.
    Reorg(usize, Vec<(u64, Act)>),
    /// All but the newest so many blocks are final.
    Finalize(u64),
    /// A worker takes what is due and does so much of it.
    Work { answers: u32, finish: bool },
    /// A worker acts on what it saw some time ago.
    Stale(usize, usize, usize),
    /// The process is killed and starts again.
    Restart,
}

#[derive(Debug, Clone, Copy)]
enum Act {
    Request,
    AddFee,
    Cancel,
    Fulfil,
    Expire,
}

fn acts() -> impl Strategy<Value = Vec<(u64, Act)>> {
    let act = prop_oneof![
        4 => Just(Act::Request),
        1 => Just(Act::AddFee),
        1 => Just(Act::Cancel),
        2 => Just(Act::Fulfil),
        1 => Just(Act::Expire),
    ];
    proptest::collection::vec((0..REQUESTS, act), 0..3)
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => (1u64..60, acts()).prop_map(|(seconds, acts)| Op::Mine(seconds, acts)),
        2 => (1usize..6, acts()).prop_map(|(depth, acts)| Op::Reorg(depth, acts)),
        1 => (0u64..5).prop_map(Op::Finalize),
        4 => (0u32..5, any::<bool>()).prop_map(|(answers, finish)| Op::Work { answers, finish }),
        1 => (0..REQUESTS as usize, 0..11usize, 0..11usize).prop_map(|(i, from, to)| Op::Stale(i, from, to)),
        1 => Just(Op::Restart),
    ]
}

/// What the contract knows of one request.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
struct Truth {
    requested: Option<u64>,
    deadline: u64,
    fee: U256,
    cancelled: bool,
    fulfilled: Option<u64>,
    expired: bool,
}

fn truth(chain: &FakeChain, id: B256) -> Truth {
    let mut truth = Truth::default();
    for (block, event) in chain.of(id) {
        match event {
            ChainEvent::Requested { request, fee } => {
                truth = Truth { requested: Some(block), deadline: request.deadline, fee: *fee, ..Truth::default() }
            }
            ChainEvent::FeeAdded { total } => truth.fee = *total,
            ChainEvent::DeadlineShortened { deadline } => {
                truth.deadline = *deadline;
                truth.cancelled = true;
            }
            ChainEvent::Fulfilled { .. } => truth.fulfilled = Some(block),
            ChainEvent::Expired => truth.expired = true,
            _ => {}
        }
    }
    truth
}

fn subjects() -> Vec<(B256, kms_relayer::job::GatewayRequest)> {
    // Latest, two blocks on top, finalized.
    [0u16, 2, 0xffff].iter().zip(0..).map(|(finality, nonce)| request(nonce, *finality, 1_600)).collect()
}

/// The events that the contract would emit for these acts in the next block.
fn admitted(chain: &FakeChain, acts: &[(u64, Act)], seconds: u64) -> Vec<(B256, ChainEvent)> {
    let mut ahead = chain.clone();
    ahead.mine(seconds, Vec::new());
    let now = ahead.head().timestamp;
    let mut events: Vec<(B256, ChainEvent)> = Vec::new();
    for (i, act) in acts {
        let (id, request) = subjects().swap_remove(*i as usize);
        ahead.blocks.last_mut().expect("block").1 = events.clone();
        let truth = truth(&ahead, id);
        let is_open = truth.requested.is_some() && truth.fulfilled.is_none() && !truth.expired;
        let event = match act {
            Act::Request if truth.requested.is_none() => ChainEvent::Requested { request, fee: U256::from(5) },
            Act::AddFee if is_open => ChainEvent::FeeAdded { total: truth.fee + U256::from(1) },
            Act::Cancel if is_open && !truth.cancelled => ChainEvent::DeadlineShortened { deadline: now },
            Act::Fulfil if is_open => fulfilled(),
            Act::Expire if is_open && now >= truth.deadline + GRACE => ChainEvent::Expired,
            _ => continue,
        };
        events.push((id, event));
    }
    events
}

struct World {
    store: Store,
    dir: tempfile::TempDir,
    chain: FakeChain,
    applied: bool,
    seen: BTreeMap<B256, ()>,
}

impl World {
    async fn run(&mut self, op: Op) {
        match op {
            Op::Mine(seconds, acts) => {
                let from = if self.applied { self.chain.blocks.len() } else { 0 };
                let events = admitted(&self.chain, &acts, seconds);
                self.chain.mine(seconds, events);
                self.apply(Vec::new(), from).await;
            }
            Op::Reorg(depth, acts) => {
                let orphaned = self.chain.reorg(depth);
                let from = if self.applied { self.chain.blocks.len() } else { 0 };
                let events = admitted(&self.chain, &acts, 7);
                self.chain.mine(7, events);
                self.apply(if self.applied { orphaned } else { Vec::new() }, from).await;
            }
            Op::Finalize(behind) => {
                let head = self.chain.head().number;
                self.chain.finalized = self.chain.finalized.max(head.saturating_sub(behind));
                let from = if self.applied { self.chain.blocks.len() } else { 0 };
                self.apply(Vec::new(), from).await;
            }
            Op::Work { answers, finish } => {
                for job in self.store.claim(kms_relayer::store::Work::All, 10, 60_000).await.expect("claim") {
                    self.work(job, answers, finish).await;
                }
            }
            Op::Stale(i, from, to) => {
                let (from, to) = (State::ALL[from], State::ALL[to]);
                let id = subjects()[i].0;
                let state = self.store.job(id).await.expect("job").map(|job| job.state);
                if from.may_become(to) && state != Some(from) {
                    assert!(!self.store.shift(id, from, to, "", "stale").await.expect("shift"));
                }
            }
            Op::Restart => {
                self.store.close().await;
                self.store = open(self.dir.path(), "test").await;
            }
        }
    }

    async fn apply(&mut self, orphaned: Vec<kms_chain::follower::BlockRef>, from: usize) {
        self.store.apply(&rules(DEPTH), &self.chain.step(orphaned, from)).await.expect("apply");
        self.applied = true;
        for (_, events) in &self.chain.blocks[from..] {
            self.seen.extend(events.iter().map(|(id, _)| (*id, ())));
        }
    }

    async fn work(&self, job: Job, answers: u32, finish: bool) {
        let store = &self.store;
        match job.state {
            State::Final => assert!(store.shift(job.id, State::Final, State::Dispatched, "", "").await.expect("shift")),
            State::Dispatched => {
                let reports: Vec<Report> = (1..=answers)
                    .map(|party| Report {
                        party,
                        status: PartyStatus::Answered,
                        detail: String::new(),
                        retry_at: 0,
                        answer: Some(answer(party, 7).into()),
                    })
                    .collect();
                let known = store.answers(job.id).await.expect("answers").len();
                let recorded = store.record(job.id, &reports, THRESHOLD).await.expect("record");
                assert_eq!(recorded.quorum_now, recorded.agreeing >= THRESHOLD);
                assert_eq!(recorded.agreeing, known.max(answers as usize));
            }
            State::Quorum if finish => {
                assert!(store.shift(job.id, State::Quorum, State::Submitting, "", "").await.expect("shift"));
            }
            State::Quorum => store.put_off(job.id, State::Quorum, 0, "test", "later").await.expect("put off"),
            other => panic!("{other} was claimed"),
        }
        store.release(job.id).await.expect("release");
    }

    async fn check(&self) {
        let head = self.chain.head();
        for (id, _) in subjects() {
            let truth = truth(&self.chain, id);
            let Some(view) = self.store.view(id).await.expect("view") else {
                assert!(!self.seen.contains_key(&id), "a request that was seen has no job");
                continue;
            };
            let (job, state) = (&view.job, view.job.state);
            let what = format!("{state} {truth:?} head {head:?} finalized {}", self.chain.finalized);
            assert!(self.seen.contains_key(&id));
            // The chain has the last word.
            assert_eq!(state == State::Orphaned, truth.requested.is_none(), "{what}");
            if let Some(block) = truth.requested {
                assert_eq!(matches!(state, State::Mined | State::Done), truth.fulfilled.is_some(), "{what}");
                assert!(!truth.expired || state == State::Expired, "{what}");
                assert_eq!((job.deadline, job.fee, job.block), (truth.deadline, truth.fee, Some(block)), "{what}");
                let is_open = truth.fulfilled.is_none() && !truth.expired;
                if let Some(fulfilled) = truth.fulfilled
                    && (fulfilled + DEPTH <= head.number || fulfilled <= self.chain.finalized)
                {
                    assert_eq!(state, State::Done, "{what}");
                }
                if is_open && truth.cancelled {
                    assert!(!matches!(state, State::Seen | State::Final | State::Dispatched), "{what}");
                }
                assert!(state != State::Cancelled || truth.cancelled, "{what}");
                if head.timestamp >= truth.deadline + GRACE {
                    assert!(!matches!(state, State::Seen | State::Final | State::Dispatched), "{what}");
                }
                if state == State::Seen {
                    let asked = subjects().into_iter().find(|(i, _)| *i == id).map(|(_, r)| r.finality);
                    let is_final = match asked {
                        Some(0) => true,
                        Some(2) => block + 2 <= head.number,
                        _ => block <= self.chain.finalized,
                    };
                    assert!(!is_final, "{what}");
                }
            }
            if matches!(state, State::Quorum | State::Submitting) {
                assert!(view.answers.len() >= THRESHOLD, "{what}");
            }
            // The timeline is a walk along legal moves and ends where the job is.
            let walk: Vec<State> = view.timeline.iter().map(|row| State::parse(&row.state).expect("state")).collect();
            assert_eq!(walk.first(), Some(&State::Seen));
            assert_eq!(walk.last(), Some(&state));
            assert!(walk.windows(2).all(|w| w[0].may_become(w[1])), "{walk:?}");
        }
        if self.applied {
            let tail = self.store.tail(crate::support::CHAIN).await.expect("tail");
            assert_eq!(tail.last(), Some(&head));
            assert!(tail.windows(2).all(|w| w[1].parent == w[0].hash));
            assert!(tail[0].number <= self.chain.finalized.max(self.chain.blocks[0].0.number));
        }
    }

    /// Whatever happened, everything that is open can be brought to its end.
    async fn finish(&mut self) {
        self.run(Op::Restart).await;
        for _ in 0..4 {
            self.run(Op::Mine(1, Vec::new())).await;
        }
        self.run(Op::Finalize(0)).await;
        for _ in 0..4 {
            self.run(Op::Work { answers: 4, finish: true }).await;
        }
        self.check().await;
        for (id, _) in subjects() {
            if let Some(job) = self.store.job(id).await.expect("job") {
                assert!(job.state.is_end() || job.state == State::Submitting, "{} is stuck at {}", id, job.state);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]
    #[test]
    fn no_request_is_lost_whatever_the_chain_and_the_workers_do(ops in proptest::collection::vec(op(), 1..30)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime");
        runtime.block_on(async {
            let temp = store().await;
            let mut world = World {
                store: temp.store, dir: temp.dir, chain: FakeChain::new(), applied: false, seen: BTreeMap::new(),
            };
            for op in ops {
                world.run(op).await;
                world.check().await;
            }
            world.finish().await;
        });
    }
}
