//! The transaction manager against a model of a chain with its pool: random submissions, blocks, reorganisations, faults of
//! the node and kills. What must hold in the end is said in terms of the chain: each request that it knows is answered once,
//! and each nonce is used.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};

use alloy::consensus::{Transaction, TxEnvelope};
use alloy::eips::{BlockId, BlockNumberOrTag, Decodable2718};
use alloy::primitives::{Address, B256, Bytes, U256};
use kms_relayer::job::ChainEvent;
use kms_relayer::state::State;
use kms_relayer::store::{Mined, Store};
use kms_relayer::tx::{Fees, Node, NodeError, TxManager, TxRules};
use proptest::prelude::*;

use crate::outbox::TARGET;
use crate::support::{CHAIN, FakeChain, fulfilled, open, request, rules, said, signer, store, tx_rules};

pub(crate) const DEPTH: u64 = 3;
const REQUESTS: u64 = 4;

/// A transaction as the chain sees it: the answered request stands in its data.
#[derive(Debug, Clone)]
struct Sent {
    hash: B256,
    nonce: u64,
    max_fee: u128,
    tip: u128,
    job: Option<B256>,
}

/// One that is in a block.
#[derive(Debug, Clone)]
struct Included {
    sent: Sent,
    succeeded: bool,
}

/// What is wrong with the node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// Broadcasts are refused, in words of this kind.
    Refuses(&'static str),
    /// Broadcasts arrive, and their answers are lost.
    LosesAnswers,
    /// Nothing arrives.
    Unreachable,
    /// It does not know how many transactions there are in the newest blocks.
    Behind(u64),
    /// It does not find receipts.
    NoReceipts,
}

#[derive(Debug)]
struct Inside {
    chain: FakeChain,
    blocks: HashMap<B256, Vec<Included>>,
    pool: BTreeMap<u64, Sent>,
    trouble: Option<Trouble>,
    /// Transactions that were included and did nothing, on any fork.
    reverts: usize,
}

impl Inside {
    fn included(&self) -> impl Iterator<Item = (u64, &Included)> {
        self.chain.blocks.iter().flat_map(|(block, _)| {
            self.blocks.get(&block.hash).into_iter().flatten().map(|included| (block.number, included))
        })
    }

    fn count(&self, up_to: u64) -> u64 {
        self.included().filter(|(block, _)| *block <= up_to).count() as u64
    }

    fn knows(&self, job: B256) -> bool {
        self.chain.of(job).iter().any(|(_, event)| matches!(event, ChainEvent::Requested { .. }))
    }

    fn answers(&self, job: B256) -> usize {
        self.chain.of(job).iter().filter(|(_, event)| matches!(event, ChainEvent::Fulfilled { .. })).count()
    }
}

/// The node of the modelled chain.
#[derive(Debug)]
struct ModelNode(Mutex<Inside>);

impl ModelNode {
    fn lock(&self) -> std::sync::MutexGuard<'_, Inside> {
        self.0.lock().expect("the model")
    }

    fn ask<T>(&self, answer: impl FnOnce(&mut Inside) -> Result<T, NodeError>) -> Result<T, NodeError> {
        let mut inside = self.lock();
        if inside.trouble == Some(Trouble::Unreachable) {
            return Err(NodeError::unreachable("connection refused"));
        }
        answer(&mut inside)
    }
}

#[async_trait::async_trait]
impl Node for ModelNode {
    async fn transaction_count(&self, _: Address, at: BlockId) -> Result<u64, NodeError> {
        self.ask(|inside| {
            let head = inside.chain.head().number;
            Ok(match (at, inside.trouble) {
                (BlockId::Number(BlockNumberOrTag::Number(number)), _) => inside.count(number),
                (_, Some(Trouble::Behind(blocks))) => inside.count(head.saturating_sub(blocks)),
                _ => inside.count(head),
            })
        })
    }
    async fn head(&self) -> Result<u64, NodeError> {
        self.ask(|inside| Ok(inside.chain.head().number))
    }
    async fn fees(&self) -> Result<Fees, NodeError> {
        self.ask(|_| Ok(Fees { max_fee: 2_000_000_000, priority_fee: 1_000_000_000 }))
    }
    async fn estimate(&self, _: Address, _: Address, data: Bytes) -> Result<u64, NodeError> {
        self.ask(|inside| {
            let job = B256::from_slice(&data);
            if inside.knows(job) && inside.answers(job) == 0 {
                return Ok(100_000);
            }
            Err(NodeError { revert: Some(Bytes::new()), ..NodeError::refused("execution reverted") })
        })
    }
    async fn broadcast(&self, raw: &Bytes) -> Result<(), NodeError> {
        self.ask(|inside| {
            if let Some(Trouble::Refuses(words)) = inside.trouble {
                return Err(NodeError::refused(words));
            }
            let tx = TxEnvelope::decode_2718(&mut raw.as_ref()).expect("a transaction");
            assert_eq!(tx.chain_id(), Some(CHAIN));
            let job = (tx.input().len() == 32).then(|| B256::from_slice(tx.input()));
            let tip = tx.max_priority_fee_per_gas().expect("a tip");
            let sent = Sent { hash: *tx.tx_hash(), nonce: tx.nonce(), max_fee: tx.max_fee_per_gas(), tip, job };
            if sent.nonce < inside.count(u64::MAX) {
                return Err(NodeError::refused("nonce too low"));
            }
            match inside.pool.get(&sent.nonce) {
                Some(known) if known.hash == sent.hash => return Err(NodeError::refused("already known")),
                Some(known) if sent.max_fee * 10 < known.max_fee * 11 || sent.tip * 10 < known.tip * 11 => {
                    return Err(NodeError::refused("replacement transaction underpriced"));
                }
                _ => inside.pool.insert(sent.nonce, sent),
            };
            if inside.trouble == Some(Trouble::LosesAnswers) {
                return Err(NodeError::unreachable("connection closed"));
            }
            Ok(())
        })
    }
    async fn receipt(&self, hash: B256) -> Result<Option<Mined>, NodeError> {
        self.ask(|inside| {
            if inside.trouble == Some(Trouble::NoReceipts) {
                return Ok(None);
            }
            let found = inside.included().find(|(_, included)| included.sent.hash == hash);
            Ok(found.map(|(block, included)| Mined {
                hash,
                block,
                block_hash: inside.chain.blocks[block as usize].0.hash,
                succeeded: included.succeeded,
                gas_used: 21_000,
                gas_price: 1,
            }))
        })
    }
    async fn balance(&self, _: Address) -> Result<U256, NodeError> {
        Ok(U256::MAX)
    }
}

/// The relayer's database and account, and the chain that they live on.
pub(crate) struct World {
    store: Store,
    dir: tempfile::TempDir,
    node: Arc<ModelNode>,
    manager: TxManager,
    applied: bool,
}

fn manager(store: &Store, node: &Arc<ModelNode>) -> TxManager {
    let rules = TxRules { depth: DEPTH, rebroadcast_after: std::time::Duration::ZERO, ..tx_rules() };
    TxManager::new(store.clone(), node.clone(), signer(), CHAIN, rules)
}

impl World {
    pub(crate) async fn new() -> Self {
        let temp = store().await;
        let inside = Inside {
            chain: FakeChain::new(),
            blocks: HashMap::new(),
            pool: BTreeMap::new(),
            trouble: None,
            reverts: 0,
        };
        let node = Arc::new(ModelNode(Mutex::new(inside)));
        let manager = manager(&temp.store, &node);
        Self { store: temp.store, dir: temp.dir, node, manager, applied: false }
    }

    pub(crate) fn id(n: u64) -> B256 {
        request(n, 0, 9_000_000).0
    }

    pub(crate) fn trouble(&self, trouble: Option<Trouble>) {
        self.node.lock().trouble = trouble;
    }

    pub(crate) fn forget_pool(&self) {
        self.node.lock().pool.clear();
    }

    pub(crate) fn reverts(&self) -> usize {
        self.node.lock().reverts
    }

    pub(crate) fn answers(&self, n: u64) -> usize {
        self.node.lock().answers(Self::id(n))
    }

    pub(crate) async fn state(&self, n: u64) -> Option<State> {
        self.store.job(Self::id(n)).await.unwrap().map(|job| job.state)
    }

    /// The next block: these requests, unless they are there, and so many transactions of the pool.
    pub(crate) async fn mine(&mut self, requests: &[u64], transactions: usize) {
        self.extend(Vec::new(), requests, transactions).await;
    }

    /// Takes blocks back, puts one in their place, and gives their transactions back to the pool, or forgets them.
    pub(crate) async fn reorg(&mut self, depth: usize, requests: &[u64], transactions: usize, forget: bool) {
        let orphaned = {
            let mut inside = self.node.lock();
            let orphaned = inside.chain.reorg(depth);
            for block in &orphaned {
                for included in inside.blocks.remove(&block.hash).unwrap_or_default() {
                    if !forget {
                        inside.pool.entry(included.sent.nonce).or_insert(included.sent);
                    }
                }
            }
            orphaned
        };
        self.extend(orphaned, requests, transactions).await;
    }

    async fn extend(&mut self, orphaned: Vec<kms_chain::follower::BlockRef>, requests: &[u64], transactions: usize) {
        let step = {
            let mut guard = self.node.lock();
            let inside = &mut *guard;
            let mut events = Vec::new();
            for n in requests {
                let (id, request) = request(*n, 0, 9_000_000);
                if !inside.knows(id) && events.iter().all(|(known, _)| *known != id) {
                    events.push((id, ChainEvent::Requested { request, fee: U256::from(5) }));
                }
            }
            let mut included = Vec::new();
            let mut next = inside.count(u64::MAX);
            while included.len() < transactions
                && let Some(sent) = inside.pool.remove(&next)
            {
                next += 1;
                let mut succeeded = true;
                if let Some(job) = sent.job {
                    let answered =
                        |(id, event): &(B256, ChainEvent)| *id == job && matches!(event, ChainEvent::Fulfilled { .. });
                    let asked = inside.knows(job) || events.iter().any(|(id, _)| *id == job);
                    succeeded = asked && inside.answers(job) == 0 && !events.iter().any(answered);
                    if succeeded {
                        events.push((job, fulfilled()));
                    } else {
                        inside.reverts += 1;
                    }
                }
                included.push(Included { sent, succeeded });
            }
            let from = if self.applied { inside.chain.blocks.len() } else { 0 };
            inside.chain.mine(1, events);
            let hash = inside.chain.head().hash;
            let mut step = inside.chain.step(orphaned, from);
            for located in &mut step.events {
                let by = included.iter().find(|i| i.succeeded && i.sent.job == Some(located.job));
                if let (ChainEvent::Fulfilled { .. }, Some(by)) = (&located.event, by) {
                    located.tx = by.sent.hash;
                }
            }
            inside.blocks.insert(hash, included);
            step
        };
        self.store.apply(&rules(DEPTH), &step).await.expect("apply");
        self.applied = true;
    }

    /// Takes a request as far as a transaction, as the pipeline would.
    pub(crate) async fn drive(&self, n: u64) {
        let id = Self::id(n);
        while let Some(job) = self.store.job(id).await.unwrap() {
            match job.state {
                State::Final => {
                    self.store.shift(id, State::Final, State::Dispatched, "", "").await.unwrap();
                }
                State::Dispatched => {
                    self.store.record(id, &[said(1, 7), said(2, 7), said(3, 7)], 3).await.unwrap();
                }
                State::Quorum => {
                    self.manager.submit(id, TARGET, Bytes::from(id.to_vec()), 0).await.unwrap();
                    return;
                }
                _ => return,
            }
        }
    }

    pub(crate) async fn tick(&self) {
        self.manager.tick().await.unwrap();
    }

    pub(crate) async fn restart(&mut self) {
        self.store.close().await;
        self.store = open(self.dir.path(), "test").await;
        self.manager = manager(&self.store, &self.node);
    }

    /// Nothing is wrong any more: within a few rounds all requests are answered, each once, and all nonces are used.
    pub(crate) async fn finish(&mut self, requests: &[u64]) {
        self.trouble(None);
        self.restart().await;
        for _ in 0..60 {
            self.mine(requests, 2).await;
            for n in requests {
                self.drive(*n).await;
            }
            self.tick().await;
            let open = self.store.pending_count(self.manager.account()).await.unwrap();
            let mut done = open == 0;
            for n in requests {
                done &= self.state(*n).await == Some(State::Done);
            }
            if done {
                break;
            }
        }
        for n in requests {
            assert_eq!(self.answers(*n), 1, "request {n}");
            assert_eq!(self.state(*n).await, Some(State::Done), "request {n}");
        }
        let account = self.manager.account();
        assert_eq!(self.store.pending_count(account).await.unwrap(), 0);
        let next = self.store.next_nonce(account).await.unwrap();
        assert_eq!(next.unwrap_or_default(), self.node.lock().count(u64::MAX), "a nonce is left");
    }
}

#[derive(Debug, Clone)]
enum Op {
    Mine { requests: Vec<u64>, transactions: usize },
    Reorg { depth: usize, requests: Vec<u64>, transactions: usize, forget: bool },
    Drive(u64),
    Tick,
    Trouble(Option<Trouble>),
    ForgetPool,
    Restart,
}

fn trouble() -> impl Strategy<Value = Option<Trouble>> {
    let refusal = proptest::sample::select(vec![
        "txpool is full",
        "max fee per gas less than block base fee",
        "intrinsic gas too low: gas 1, minimum needed 2",
        "nonce too high",
        "insufficient funds for gas * price + value",
        "replacement transaction underpriced",
        "nonce too low",
        "already known",
        "computer says no",
    ]);
    prop_oneof![
        3 => Just(None),
        3 => refusal.prop_map(|words| Some(Trouble::Refuses(words))),
        1 => Just(Some(Trouble::LosesAnswers)),
        1 => Just(Some(Trouble::Unreachable)),
        1 => (1u64..4).prop_map(|blocks| Some(Trouble::Behind(blocks))),
        1 => Just(Some(Trouble::NoReceipts)),
    ]
}

fn op() -> impl Strategy<Value = Op> {
    let some = || proptest::collection::vec(0..REQUESTS, 0..3);
    prop_oneof![
        4 => (some(), 0usize..4).prop_map(|(requests, transactions)| Op::Mine { requests, transactions }),
        2 => (1usize..=8, some(), 0usize..3, any::<bool>()).prop_map(|(depth, requests, transactions, forget)| {
            Op::Reorg { depth, requests, transactions, forget }
        }),
        5 => (0..REQUESTS).prop_map(Op::Drive),
        5 => Just(Op::Tick),
        3 => trouble().prop_map(Op::Trouble),
        1 => Just(Op::ForgetPool),
        1 => Just(Op::Restart),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 10, ..ProptestConfig::default() })]
    #[test]
    fn every_request_is_answered_once_and_every_nonce_is_used(ops in proptest::collection::vec(op(), 1..40)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime");
        runtime.block_on(async {
            let mut world = World::new().await;
            let orderly = ops.iter().all(|op| !matches!(op, Op::Reorg { .. } | Op::Trouble(_)));
            for op in ops {
                match op {
                    Op::Mine { requests, transactions } => world.mine(&requests, transactions).await,
                    Op::Reorg { depth, requests, transactions, forget } => {
                        world.reorg(depth, &requests, transactions, forget).await;
                    }
                    Op::Drive(n) => world.drive(n).await,
                    Op::Tick => world.tick().await,
                    Op::Trouble(trouble) => world.trouble(trouble),
                    Op::ForgetPool => world.forget_pool(),
                    Op::Restart => world.restart().await,
                }
            }
            world.finish(&[0, 1, 2, 3]).await;
            assert!(!orderly || world.reverts() == 0, "gas was spent for nothing");
        });
    }
}
