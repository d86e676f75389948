//! Puts digests on the chain: signs batches and sees their transactions through.
//!
//! One transaction is under way at a time. Its signed bytes and its nonce are stored before it is sent, so after a kill the
//! very same bytes are sent again. A batch is simulated first; one that the registry would refuse is halved until the
//! commitments that are to blame are alone, and the others go. A transaction that can't be mined, or not for long, gives its
//! nonce to an empty one, so that nothing waits behind it for ever.
//!
//! Whether a handle *is* committed is decided by the registry's events alone, which the follower records: a reorg that takes
//! the event away brings the commitment back to be submitted.

mod outbox;

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use alloy::{signers::local::PrivateKeySigner, sol_types::SolCall};
use alloy_primitives::{Address, B256, Bytes};
use kms_chain::{
    abi::{CiphertextRegistry, ICiphertextRegistry},
    eip712::{self, CiphertextCommitment, Eip712Domain},
};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::{
    config::CommitConfig,
    error::Result,
    ledger::{Ledger, Simulation},
    metrics::Metrics,
    store::{Commitment, OutboxEntry, OutboxState, Store},
};

/// Seconds to wait for the follower to see what the registry already holds.
const FOLLOWER_LAG: u64 = 5;
/// Seconds to wait when it is not the commitments' fault that nothing can be sent.
const RETRY: u64 = 15;
/// Simulations in one go while halving a batch; what is left is looked at later.
const SIMULATIONS: usize = 48;
/// When so many commitments in a row are refused alone and none is taken, the fault is not theirs.
const HOPELESS: usize = 8;
/// Gas added to every estimate: storage may have become cold in the meantime.
const GAS_RESERVE: u64 = 30_000;

/// What a committer works with.
#[derive(Clone, Debug)]
pub struct CommitterSetup {
    /// The chain.
    pub chain_id: u64,
    /// Its `CiphertextRegistry`.
    pub registry: Address,
    /// Signs what is committed.
    pub signer: PrivateKeySigner,
    /// Pays for it.
    pub account: PrivateKeySigner,
    /// Sizes and times.
    pub config: CommitConfig,
    /// Counters.
    pub metrics: Arc<Metrics>,
}

/// The committer of one chain.
pub struct Committer<L> {
    ledger: L,
    store: Store,
    domain: Eip712Domain,
    setup: CommitterSetup,
    /// When each signed version was last sent by this process.
    sent_at: HashMap<B256, u64>,
    /// When transactions that are mined but not final were last looked at.
    looked_back: Option<u64>,
    /// The signed version that the node found too cheap.
    underpriced: Option<B256>,
    /// How often in a row the node refused a signed version for another reason.
    refused: HashMap<B256, u32>,
}

/// Commitments that the registry takes together.
struct Batch {
    items: Vec<Commitment>,
    calldata: Vec<u8>,
    gas: u64,
}

impl<L> std::fmt::Debug for Committer<L> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Committer")
            .field("chain_id", &self.setup.chain_id)
            .field("registry", &self.setup.registry)
            .finish_non_exhaustive()
    }
}

impl<L: Ledger> Committer<L> {
    /// A committer for the registry of one chain.
    pub fn new(ledger: L, store: Store, setup: CommitterSetup) -> Self {
        let domain = eip712::registry_domain(setup.chain_id, setup.registry);
        Self {
            ledger,
            store,
            domain,
            setup,
            sent_at: HashMap::new(),
            looked_back: None,
            underpriced: None,
            refused: HashMap::new(),
        }
    }

    /// Works until `cancel`; woken by `wake` and by a tick.
    pub async fn run(mut self, wake: &Notify, cancel: CancellationToken) {
        let tick = Duration::from_millis(self.setup.config.tick_ms);
        loop {
            if let Err(error) = self.tick(now()).await {
                tracing::warn!(chain_id = self.setup.chain_id, %error, "commitments wait for the chain");
            }
            tokio::select! {
                () = cancel.cancelled() => return,
                () = wake.notified() => {}
                () = tokio::time::sleep(tick) => {}
            }
        }
    }

    /// Looks after transactions under way, and starts one when none is.
    ///
    /// # Errors
    /// Of the database or the chain; the next tick goes on from the rows.
    pub async fn tick(&mut self, now: u64) -> Result<()> {
        if !self.settle(now).await? {
            self.propose(now).await?;
        }
        Ok(())
    }

    /// Starts a transaction for what is ready.
    async fn propose(&mut self, now: u64) -> Result<()> {
        let ready = self.store.ready_commitments(self.setup.chain_id, now, self.setup.config.batch).await?;
        let items = self.drop_settled(ready, now).await?;
        if items.is_empty() {
            return Ok(());
        }
        let Some(batch) = self.admissible(items, now).await? else { return Ok(()) };
        let sender = self.setup.account.address();
        let own = self.store.highest_nonce(self.setup.chain_id, sender).await?.map_or(0, |nonce| nonce + 1);
        let entry = OutboxEntry {
            id: 0,
            chain_id: self.setup.chain_id,
            sender,
            nonce: self.ledger.next_nonce(sender).await?.max(own),
            destination: self.setup.registry,
            calldata: batch.calldata,
            gas_limit: batch.gas + batch.gas / 5 + GAS_RESERVE,
            state: OutboxState::Open,
            block: None,
            attempts: Vec::new(),
        };
        let handles: Vec<B256> = batch.items.iter().map(|item| item.handle).collect();
        tracing::info!(
            chain_id = self.setup.chain_id,
            nonce = entry.nonce,
            items = handles.len(),
            "committing digests"
        );
        self.start(entry, &handles, false, now).await
    }

    /// The part of `items` that the registry takes, found by halving. A commitment that it does not take alone is put off with
    /// the reason; `None` when nothing can be sent now.
    async fn admissible(&mut self, items: Vec<Commitment>, now: u64) -> Result<Option<Batch>> {
        let whole = items.len();
        let mut parts = VecDeque::from([items]);
        let mut good: Vec<Batch> = Vec::new();
        let mut refused = 0;
        for _ in 0..SIMULATIONS {
            let Some(items) = parts.pop_front() else { break };
            match self.simulate(items).await? {
                (Simulation::Gas(gas), items, calldata) => good.push(Batch { items, calldata, gas }),
                (Simulation::Unable(reason), items, _) => {
                    tracing::error!(chain_id = self.setup.chain_id, reason, "commitments can't be sent");
                    let mut handles: Vec<B256> = items.iter().map(|item| item.handle).collect();
                    handles.extend(parts.iter().flatten().map(|item| item.handle));
                    self.store.postpone_commitments(&handles, now + RETRY).await?;
                    break;
                }
                (Simulation::Reverts(reason), items, _) => match items.as_slice() {
                    [item] => {
                        let handle = item.handle;
                        tracing::error!(chain_id = self.setup.chain_id, %handle, reason, "the registry would refuse it");
                        self.store.fail_commitment(handle, &reason, now).await?;
                        refused += 1;
                        if refused >= HOPELESS && good.is_empty() {
                            let rest: Vec<B256> = parts.iter().flatten().map(|item| item.handle).collect();
                            self.store.postpone_commitments(&rest, now + RETRY).await?;
                            break;
                        }
                    }
                    _ => {
                        let (left, right) = items.split_at(items.len() / 2);
                        parts.push_front(right.to_vec());
                        parts.push_front(left.to_vec());
                    }
                },
            }
        }
        if good.len() <= 1 {
            return Ok(good.pop());
        }
        let items: Vec<Commitment> = good.iter().flat_map(|batch| batch.items.iter().copied()).collect();
        tracing::warn!(chain_id = self.setup.chain_id, items = items.len(), of = whole, "committing without some");
        match self.simulate(items).await? {
            (Simulation::Gas(gas), items, calldata) => Ok(Some(Batch { items, calldata, gas })),
            // Each for itself, but not together: one part now, the others after it.
            _ => Ok(good.into_iter().next()),
        }
    }

    async fn simulate(&self, items: Vec<Commitment>) -> Result<(Simulation, Vec<Commitment>, Vec<u8>)> {
        let calldata = self.calldata(&items);
        let said = self.ledger.simulate(self.setup.account.address(), self.setup.registry, &calldata).await?;
        Ok((said, items, calldata))
    }

    /// Asks the registry itself, so that what somebody else committed costs nothing.
    async fn drop_settled(&self, ready: Vec<Commitment>, now: u64) -> Result<Vec<Commitment>> {
        if ready.is_empty() {
            return Ok(ready);
        }
        let handles: Vec<B256> = ready.iter().map(|item| item.handle).collect();
        let present = self.ledger.commitments(&handles).await?;
        let mut items = Vec::with_capacity(ready.len());
        let mut settled = Vec::new();
        for (item, present) in ready.into_iter().zip(present) {
            match present {
                None => items.push(item),
                Some(present) if present == (item.key_id, item.digest) => settled.push(item.handle),
                Some((_, digest)) => {
                    let (handle, own) = (item.handle, item.digest);
                    tracing::error!(%handle, %own, %digest, "the chain holds another digest than ours");
                    self.store.refuse_commitment(handle, &format!("the chain holds digest {digest}")).await?;
                }
            }
        }
        if !settled.is_empty() {
            self.store.postpone_commitments(&settled, now + FOLLOWER_LAG).await?;
        }
        Ok(items)
    }

    fn calldata(&self, items: &[Commitment]) -> Vec<u8> {
        let statement: Vec<CiphertextCommitment> = items
            .iter()
            .map(|item| CiphertextCommitment { handle: item.handle, keyId: item.key_id, digest: item.digest })
            .collect();
        let digest = eip712::commitment_digest(&self.domain, &statement);
        let signature = eip712::sign_digest(self.setup.signer.credential(), digest);
        let items: Vec<ICiphertextRegistry::Commitment> = statement.into_iter().map(Into::into).collect();
        CiphertextRegistry::commitCall { items, signatures: vec![Bytes::copy_from_slice(&signature)] }.abi_encode()
    }
}

/// Seconds since 1970.
pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_secs())
}

#[cfg(test)]
pub(crate) mod tests;
