//! The committer against a chain in memory that can be killed, reorganised and made to revert.

use std::{collections::HashSet, sync::Mutex};

use alloy::{
    consensus::{Transaction, TxEnvelope},
    eips::Decodable2718,
};
use alloy_primitives::U256;
use async_trait::async_trait;
use kms_chain::follower::BlockRef;
use tempfile::TempDir;

use super::{
    outbox::{LOOK_BACK, PATIENCE, REBROADCAST, REFUSALS},
    *,
};
use crate::{
    event::{Event, Kind, Operation},
    ledger::{Broadcast, Fees, Receipt},
    store::Progress,
};

mod stuck;

const CHAIN: u64 = 31337;

pub(crate) fn word(byte: u8) -> B256 {
    B256::repeat_byte(byte)
}

pub(crate) struct MinedBatch {
    hash: B256,
    height: u64,
    pub(crate) success: bool,
    pub(crate) handles: Vec<B256>,
}

#[derive(Default)]
pub(crate) struct World {
    pool: Vec<(B256, TxEnvelope)>,
    pub(crate) mined: Vec<MinedBatch>,
    pub(crate) registry: HashMap<B256, (B256, B256)>,
    nonce: u64,
    pub(crate) height: u64,
    pub(crate) final_height: u64,
    final_nonce: u64,
    broadcasts: usize,
    simulations: usize,
    simulations_revert: bool,
    unable: bool,
    /// Commitments that the registry refuses, in a simulation and …
    pub(crate) bad: HashSet<B256>,
    /// … only in a block.
    bad_when_mined: HashSet<B256>,
    /// Transactions with a call are dropped.
    drops_calls: bool,
    next_reverts: bool,
    /// What the node says it will count first.
    phantom_nonces: u64,
    pub(crate) answer: Option<Broadcast>,
    /// What the node says to every call that it is sent.
    refuses_calls: Option<Broadcast>,
    base_fee: u128,
}

#[derive(Clone, Default)]
pub(crate) struct FakeLedger(Arc<Mutex<World>>);

impl FakeLedger {
    pub(crate) fn with<T>(&self, f: impl FnOnce(&mut World) -> T) -> T {
        f(&mut self.0.lock().unwrap())
    }

    /// Mines the best paid waiting transaction.
    pub(crate) fn mine(&self) {
        self.with(|world| {
            world.height += 1;
            let next = world.pool.iter().filter(|(_, tx)| tx.nonce() == world.nonce);
            let best = next.max_by_key(|(_, tx)| tx.max_fee_per_gas()).cloned();
            let Some((hash, tx)) = best else { return };
            world.pool.retain(|(_, other)| other.nonce() > tx.nonce());
            world.nonce += 1;
            let items = items(tx.input());
            let good = !items.iter().any(|(handle, ..)| world.bad_when_mined.contains(handle));
            let success = good && !std::mem::take(&mut world.next_reverts);
            if success {
                for (handle, key_id, digest) in &items {
                    world.registry.insert(*handle, (*key_id, *digest));
                }
            }
            let height = world.height;
            let handles = items.iter().map(|(handle, ..)| *handle).collect();
            world.mined.push(MinedBatch { hash, height, success, handles });
        });
    }

    /// Whether the account can pay.
    pub(crate) fn set_unable(&self, unable: bool) {
        self.with(|world| world.unable = unable);
    }

    /// Takes the last transaction out of the chain again.
    fn reorg(&self) {
        self.with(|world| {
            for handle in world.mined.pop().unwrap().handles {
                world.registry.remove(&handle);
            }
            world.nonce -= 1;
        });
    }
}

/// The commitments in a call; none in an empty transaction.
fn items(calldata: &[u8]) -> Vec<(B256, B256, B256)> {
    if calldata.is_empty() {
        return Vec::new();
    }
    let call = CiphertextRegistry::commitCall::abi_decode(calldata).unwrap();
    call.items.iter().map(|item| (item.handle, item.keyId, item.digest)).collect()
}

#[async_trait]
impl Ledger for FakeLedger {
    async fn commitments(&self, handles: &[B256]) -> Result<Vec<Option<(B256, B256)>>> {
        Ok(self.with(|world| handles.iter().map(|handle| world.registry.get(handle).copied()).collect()))
    }
    async fn fees(&self) -> Result<Fees> {
        Ok(self.with(|world| Fees { max_fee: 100 + world.base_fee, priority_fee: 10 }))
    }
    async fn next_nonce(&self, _: Address) -> Result<u64> {
        Ok(self.with(|world| {
            let mut next = world.nonce;
            while world.pool.iter().any(|(_, tx)| tx.nonce() == next) {
                next += 1;
            }
            next + std::mem::take(&mut world.phantom_nonces)
        }))
    }
    async fn final_nonce(&self, _: Address) -> Result<u64> {
        Ok(self.with(|world| world.final_nonce))
    }
    async fn final_block(&self) -> Result<u64> {
        Ok(self.with(|world| world.final_height))
    }
    async fn simulate(&self, _: Address, _: Address, calldata: &[u8]) -> Result<Simulation> {
        Ok(self.with(|world| {
            world.simulations += 1;
            if world.unable {
                return Simulation::Unable("insufficient funds".into());
            }
            let bad = items(calldata).iter().any(|(handle, ..)| world.bad.contains(handle));
            if bad || world.simulations_revert { Simulation::Reverts("no".into()) } else { Simulation::Gas(50_000) }
        }))
    }
    async fn broadcast(&self, raw: &[u8]) -> Result<Broadcast> {
        let tx = TxEnvelope::decode_2718(&mut &raw[..]).unwrap();
        Ok(self.with(|world| {
            world.broadcasts += 1;
            if let Some(answer) = world.answer.take() {
                return answer;
            }
            if let Some(answer) = world.refuses_calls.clone().filter(|_| !tx.input().is_empty()) {
                return answer;
            }
            if world.drops_calls && !tx.input().is_empty() {
                return Broadcast::Accepted;
            }
            let hash = *tx.tx_hash();
            if !world.pool.iter().any(|(known, _)| *known == hash) {
                world.pool.push((hash, tx));
            }
            Broadcast::Accepted
        }))
    }
    async fn receipt(&self, hash: B256) -> Result<Option<Receipt>> {
        Ok(self.with(|world| {
            world.mined.iter().find(|batch| batch.hash == hash).map(|batch| Receipt {
                block_number: batch.height,
                block_hash: B256::from(U256::from(batch.height)),
                success: batch.success,
                gas_used: 1,
            })
        }))
    }
}

struct Bench {
    folder: TempDir,
    store: Store,
    ledger: FakeLedger,
    committer: Committer<FakeLedger>,
}

async fn open(folder: &TempDir, ledger: &FakeLedger) -> (Store, Committer<FakeLedger>) {
    let store = Store::open(&format!("sqlite://{}/db", folder.path().display())).await.unwrap();
    (store.clone(), committer(store, ledger.clone()))
}

/// A committer of [`CHAIN`] that pays at most 1,000 per gas.
pub(crate) fn committer<L: Ledger>(store: Store, ledger: L) -> Committer<L> {
    let key: PrivateKeySigner = "0x5de4111afa1a4b94908f83103eb1f1706367c2e68ca870fc3fb9a804cdab365a".parse().unwrap();
    let setup = CommitterSetup {
        chain_id: CHAIN,
        registry: Address::repeat_byte(9),
        signer: key.clone(),
        account: key,
        config: CommitConfig { max_fee_per_gas: 1_000, ..CommitConfig::default() },
        metrics: Arc::new(Metrics::new().unwrap()),
    };
    Committer::new(ledger, store, setup)
}

impl Bench {
    async fn new(handles: &[u8]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let ledger = FakeLedger::default();
        let (store, committer) = open(&folder, &ledger).await;
        let mut events: Vec<Event> = handles
            .iter()
            .map(|handle| {
                Event::Operation(Operation {
                    result: word(*handle),
                    kind: Kind::Trivial,
                    operands: vec![],
                    plain: Some(U256::ZERO),
                })
            })
            .collect();
        events.push(Event::Wanted(handles.iter().copied().map(word).collect()));
        let at = BlockRef { number: 1, hash: word(1), parent: word(0), timestamp: 1 };
        store.apply(CHAIN, &[], &[(at, events, vec![])], at, 0).await.unwrap();
        for handle in handles {
            store.insert_commitment(&commitment(*handle)).await.unwrap();
        }
        Self { folder, store, ledger, committer }
    }

    async fn restart(self) -> Self {
        self.store.close().await;
        let (store, committer) = open(&self.folder, &self.ledger).await;
        Self { folder: self.folder, store, ledger: self.ledger, committer }
    }

    /// The follower sees what the registry holds.
    async fn follow(&self) {
        let events: Vec<Event> = self.ledger.with(|world| {
            let committed = |(handle, (key_id, digest)): (&B256, &(B256, B256))| Event::Committed {
                handle: *handle,
                key_id: *key_id,
                digest: *digest,
            };
            world.registry.iter().map(committed).collect()
        });
        let at = BlockRef { number: 2, hash: word(2), parent: word(1), timestamp: 2 };
        self.store.apply(CHAIN, &[], &[(at, events, vec![])], at, 0).await.unwrap();
    }

    fn registry(&self) -> usize {
        self.ledger.with(|world| world.registry.len())
    }

    fn transactions(&self) -> usize {
        self.ledger.with(|world| world.mined.len())
    }
}

fn commitment(handle: u8) -> Commitment {
    Commitment { chain_id: CHAIN, handle: word(handle), key_id: word(0xaa), digest: word(handle + 100) }
}

#[tokio::test]
async fn a_batch_is_signed_and_committed_in_one_transaction() {
    let mut bench = Bench::new(&[1, 2, 3]).await;
    bench.committer.tick(0).await.unwrap();
    let tx = bench.ledger.with(|world| world.pool[0].1.clone());
    let call = CiphertextRegistry::commitCall::abi_decode(tx.input()).unwrap();
    let items: Vec<_> = call
        .items
        .iter()
        .map(|item| CiphertextCommitment { handle: item.handle, keyId: item.keyId, digest: item.digest })
        .collect();
    let domain = eip712::registry_domain(CHAIN, Address::repeat_byte(9));
    let signature: [u8; 65] = call.signatures[0].as_ref().try_into().unwrap();
    let signer = eip712::recover(eip712::commitment_digest(&domain, &items), &signature).unwrap();
    assert_eq!(signer, bench.committer.setup.signer.address());

    bench.ledger.mine();
    bench.committer.tick(1).await.unwrap();
    bench.follow().await;
    bench.committer.tick(2).await.unwrap();
    assert_eq!((bench.registry(), bench.transactions()), (3, 1));
    assert!(bench.ledger.with(|world| world.pool.is_empty()), "nothing more is sent");
}

#[tokio::test]
async fn after_a_kill_the_same_bytes_are_sent_again() {
    let mut bench = Bench::new(&[1]).await;
    bench.ledger.with(|world| world.answer = Some(Broadcast::Refused("connection lost".into())));
    bench.committer.tick(0).await.unwrap();
    assert!(bench.ledger.with(|world| world.pool.is_empty()));
    let stored = bench.store.unsettled_transactions(CHAIN).await.unwrap();
    let mut bench = bench.restart().await;
    bench.committer.tick(1).await.unwrap();
    assert_eq!(bench.ledger.with(|world| world.pool[0].0), stored[0].attempts[0].hash);
    let mut bench = bench.restart().await;
    bench.ledger.mine();
    bench.committer.tick(2).await.unwrap();
    bench.committer.tick(3).await.unwrap();
    assert_eq!((bench.registry(), bench.transactions()), (1, 1));
    assert!(bench.ledger.with(|world| world.pool.is_empty()), "mined but not followed yet: not sent twice");
}

#[tokio::test]
async fn a_mined_transaction_is_settled_when_final() {
    let mut bench = Bench::new(&[1]).await;
    bench.committer.tick(0).await.unwrap();
    bench.ledger.mine();
    bench.committer.tick(1).await.unwrap();
    assert_eq!(bench.store.unsettled_transactions(CHAIN).await.unwrap()[0].state, OutboxState::Mined);
    bench.ledger.with(|world| world.final_height = 1);
    bench.committer.tick(1 + LOOK_BACK).await.unwrap();
    assert!(bench.store.unsettled_transactions(CHAIN).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_reorg_brings_the_transaction_back() {
    let mut bench = Bench::new(&[1]).await;
    bench.committer.tick(0).await.unwrap();
    bench.ledger.mine();
    bench.committer.tick(1).await.unwrap();
    bench.ledger.reorg();
    bench.committer.tick(30).await.unwrap();
    assert_eq!(bench.ledger.with(|world| world.pool.len()), 1);
    bench.ledger.mine();
    bench.committer.tick(31).await.unwrap();
    assert_eq!((bench.registry(), bench.transactions()), (1, 1));
}

#[tokio::test]
async fn a_slow_transaction_is_replaced_and_only_one_version_counts() {
    let mut bench = Bench::new(&[1]).await;
    bench.committer.tick(0).await.unwrap();
    bench.ledger.with(|world| world.base_fee = 300);
    bench.committer.tick(44).await.unwrap();
    assert_eq!(bench.ledger.with(|world| world.pool.len()), 1);
    bench.committer.tick(45).await.unwrap();
    let fees: Vec<u128> = bench.ledger.with(|world| world.pool.iter().map(|(_, tx)| tx.max_fee_per_gas()).collect());
    assert_eq!(fees, [100, 400]);
    bench.ledger.mine();
    bench.committer.tick(46).await.unwrap();
    bench.follow().await;
    bench.committer.tick(47).await.unwrap();
    assert_eq!((bench.registry(), bench.transactions()), (1, 1));
}

#[tokio::test]
async fn an_underpriced_transaction_is_replaced_at_once_but_never_above_the_cap() {
    let mut bench = Bench::new(&[1]).await;
    bench.ledger.with(|world| world.answer = Some(Broadcast::Underpriced));
    bench.committer.tick(0).await.unwrap();
    bench.committer.tick(1).await.unwrap();
    let fee = |bench: &Bench| bench.ledger.with(|world| world.pool.last().map(|(_, tx)| tx.max_fee_per_gas()));
    assert_eq!(fee(&bench), Some(113));
    bench.ledger.with(|world| world.base_fee = 1 << 40);
    bench.committer.tick(100).await.unwrap();
    assert_eq!(fee(&bench), Some(1_000));
    bench.committer.tick(200).await.unwrap();
    assert_eq!(fee(&bench), Some(1_000));
}

#[tokio::test]
async fn a_reverted_transaction_frees_its_commitments_for_another() {
    let mut bench = Bench::new(&[1]).await;
    bench.ledger.with(|world| world.next_reverts = true);
    bench.committer.tick(0).await.unwrap();
    bench.ledger.mine();
    bench.committer.tick(1).await.unwrap();
    assert_eq!(bench.registry(), 0);
    bench.committer.tick(2).await.unwrap();
    assert!(bench.ledger.with(|world| world.pool.is_empty()), "not at once");
    bench.committer.tick(1 + RETRY).await.unwrap();
    bench.ledger.mine();
    assert_eq!(bench.registry(), 1);
}

#[tokio::test]
async fn a_batch_that_would_revert_is_not_sent() {
    let mut bench = Bench::new(&[1]).await;
    bench.ledger.with(|world| world.simulations_revert = true);
    bench.committer.tick(0).await.unwrap();
    assert_eq!(bench.ledger.with(|world| world.broadcasts), 0);
    bench.ledger.with(|world| world.simulations_revert = false);
    bench.committer.tick(1).await.unwrap();
    assert_eq!(bench.ledger.with(|world| world.broadcasts), 0);
    bench.committer.tick(RETRY).await.unwrap();
    assert_eq!(bench.ledger.with(|world| world.broadcasts), 1);
}

#[tokio::test]
async fn what_is_on_the_chain_already_costs_nothing() {
    let mut bench = Bench::new(&[1, 2]).await;
    bench.ledger.with(|world| {
        world.registry.insert(word(1), (word(0xaa), word(101)));
        world.registry.insert(word(2), (word(0xaa), word(0xee)));
    });
    bench.committer.tick(0).await.unwrap();
    bench.committer.tick(100).await.unwrap();
    assert_eq!(bench.ledger.with(|world| world.broadcasts), 0);
    // The one that contradicts ours is given up; the other one waits for the follower.
    assert_eq!(bench.store.ready_commitments(CHAIN, 1_000, 10).await.unwrap(), [commitment(1)]);
}

#[tokio::test]
async fn a_nonce_that_somebody_else_used_is_given_up_when_final() {
    let mut bench = Bench::new(&[1]).await;
    bench.committer.tick(0).await.unwrap();
    bench.ledger.with(|world| {
        world.pool.clear();
        world.nonce = 1;
    });
    bench.committer.tick(1).await.unwrap();
    assert_eq!(bench.store.unsettled_transactions(CHAIN).await.unwrap().len(), 1, "it may be a lagging node");
    bench.ledger.with(|world| world.final_nonce = 1);
    bench.committer.tick(2).await.unwrap();
    bench.committer.tick(3).await.unwrap();
    bench.ledger.with(|world| assert_eq!(world.pool.len(), 1));
    bench.ledger.mine();
    assert_eq!(bench.registry(), 1);
}
