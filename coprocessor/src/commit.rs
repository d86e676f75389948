//! Puts digests on the chain: signs batches and sees their transactions through.
//!
//! One transaction is under way at a time. Its signed bytes and its nonce are stored before it is sent, so after a kill the
//! very same bytes are sent again. Whether a handle *is* committed is decided by the registry's events alone, which the
//! follower records: a reorg that takes the event away brings the commitment back to be submitted.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use alloy::{
    consensus::{SignableTransaction, TxEip1559, TxEnvelope},
    eips::eip2718::Encodable2718,
    network::TxSignerSync,
    signers::local::PrivateKeySigner,
    sol_types::SolCall,
};
use alloy_primitives::{Address, B256, Bytes, TxKind, U256};
use kms_chain::{
    abi::{CiphertextRegistry, ICiphertextRegistry},
    eip712::{self, CiphertextCommitment, Eip712Domain},
};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::{
    config::CommitConfig,
    error::{Error, Result},
    ledger::{Broadcast, Fees, Ledger, Receipt, Simulation},
    metrics::Metrics,
    store::{Attempt, Commitment, OutboxEntry, OutboxState, Store},
};

/// Seconds between two broadcasts of the same bytes.
const REBROADCAST: u64 = 10;
/// Seconds between two looks at a transaction that is mined but not final.
const LOOK_BACK: u64 = 5;
/// Seconds to wait for the follower to see what the registry already holds.
const FOLLOWER_LAG: u64 = 5;
/// Seconds to wait after a batch that would revert, or did.
const RETRY: u64 = 15;
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
        Self { ledger, store, domain, setup, sent_at: HashMap::new(), looked_back: None, underpriced: None }
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

    /// Brings the outbox up to date. Returns whether a transaction is still open.
    async fn settle(&mut self, now: u64) -> Result<bool> {
        let entries = self.store.unsettled_transactions(self.setup.chain_id).await?;
        if entries.is_empty() {
            return Ok(false);
        }
        // A mined one only needs a look now and then, until it is final.
        let look_back = self.looked_back.is_none_or(|at| now.saturating_sub(at) >= LOOK_BACK);
        if look_back {
            self.looked_back = Some(now);
        }
        let mut open = false;
        for entry in entries {
            if entry.state != OutboxState::Open && !look_back {
                continue;
            }
            match self.find_receipt(&entry).await? {
                Some(receipt) => self.mined(&entry, receipt, now).await?,
                None => open |= self.push(entry, now).await?,
            }
        }
        Ok(open)
    }

    async fn find_receipt(&self, entry: &OutboxEntry) -> Result<Option<Receipt>> {
        for attempt in entry.attempts.iter().rev() {
            if let Some(receipt) = self.ledger.receipt(attempt.hash).await? {
                return Ok(Some(receipt));
            }
        }
        Ok(None)
    }

    async fn mined(&mut self, entry: &OutboxEntry, receipt: Receipt, now: u64) -> Result<()> {
        let block = Some((receipt.block_number, receipt.block_hash));
        let state = if receipt.success { OutboxState::Mined } else { OutboxState::Reverted };
        if entry.state != state || entry.block != block {
            self.store.move_transaction(entry.id, state, block, now + RETRY).await?;
            if receipt.success {
                tracing::info!(
                    chain_id = self.setup.chain_id,
                    nonce = entry.nonce,
                    gas = receipt.gas_used,
                    "commitments are mined"
                );
                self.setup.metrics.commit_transactions.with_label_values(&["mined"]).inc();
            } else {
                tracing::error!(
                    chain_id = self.setup.chain_id,
                    nonce = entry.nonce,
                    "a commitment transaction reverted"
                );
                self.setup.metrics.commit_transactions.with_label_values(&["reverted"]).inc();
            }
            for attempt in &entry.attempts {
                self.sent_at.remove(&attempt.hash);
            }
        }
        if receipt.block_number <= self.ledger.final_block().await? {
            self.store.move_transaction(entry.id, OutboxState::Final, block, now).await?;
        }
        Ok(())
    }

    /// Sends a transaction that is in no block, again or better paid. Returns whether its nonce is still to be filled.
    async fn push(&mut self, mut entry: OutboxEntry, now: u64) -> Result<bool> {
        if entry.state != OutboxState::Open {
            tracing::warn!(
                chain_id = self.setup.chain_id,
                nonce = entry.nonce,
                "a reorg took a commitment transaction"
            );
            self.store.move_transaction(entry.id, OutboxState::Open, None, now).await?;
        }
        if self.ledger.final_nonce(entry.sender).await? > entry.nonce {
            tracing::error!(
                chain_id = self.setup.chain_id,
                nonce = entry.nonce,
                "somebody else used the submitter's nonce"
            );
            self.store.move_transaction(entry.id, OutboxState::Displaced, None, now).await?;
            self.setup.metrics.commit_transactions.with_label_values(&["displaced"]).inc();
            return Ok(false);
        }
        let Some(last) = entry.attempts.last().cloned() else {
            return Err(Error::Corrupt { column: "attempts" });
        };
        let old = now.saturating_sub(last.signed_at) >= self.setup.config.bump_after_seconds;
        if old || self.underpriced == Some(last.hash) {
            if let Some(fees) = bump(&last, self.ledger.fees().await?, u128::from(self.setup.config.max_fee_per_gas)) {
                let attempt = self.sign(&entry, fees, now)?;
                self.store.insert_attempt(entry.id, &attempt).await?;
                tracing::info!(
                    chain_id = self.setup.chain_id,
                    nonce = entry.nonce,
                    max_fee = fees.max_fee,
                    "paying more"
                );
                entry.attempts.push(attempt);
            }
            self.underpriced = None;
        }
        if let Some(attempt) = entry.attempts.last() {
            let due = self.sent_at.get(&attempt.hash).is_none_or(|sent| now.saturating_sub(*sent) >= REBROADCAST);
            if due {
                self.send(attempt, entry.nonce, now).await?;
            }
        }
        Ok(true)
    }

    async fn send(&mut self, attempt: &Attempt, nonce: u64, now: u64) -> Result<()> {
        self.sent_at.insert(attempt.hash, now);
        match self.ledger.broadcast(&attempt.raw).await? {
            Broadcast::Accepted => tracing::debug!(chain_id = self.setup.chain_id, nonce, hash = %attempt.hash, "sent"),
            Broadcast::Underpriced => self.underpriced = Some(attempt.hash),
            Broadcast::NonceUsed => {
                tracing::debug!(chain_id = self.setup.chain_id, nonce, "the nonce is used, its receipt decides")
            }
            Broadcast::Refused(reason) => {
                tracing::warn!(
                    chain_id = self.setup.chain_id,
                    nonce,
                    reason,
                    "the node refuses a commitment transaction"
                );
            }
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
        let handles: Vec<B256> = items.iter().map(|item| item.handle).collect();
        let calldata = self.calldata(&items);
        let gas = match self.ledger.simulate(self.setup.account.address(), self.setup.registry, &calldata).await? {
            Simulation::Gas(gas) => gas,
            Simulation::Reverts(reason) => {
                tracing::error!(
                    chain_id = self.setup.chain_id,
                    reason,
                    items = items.len(),
                    "the registry would refuse commitments"
                );
                return self.store.postpone_commitments(&handles, now + RETRY).await;
            }
        };
        let sender = self.setup.account.address();
        let own = self.store.highest_nonce(self.setup.chain_id, sender).await?.map_or(0, |nonce| nonce + 1);
        let fees = cap(self.ledger.fees().await?, u128::from(self.setup.config.max_fee_per_gas));
        let mut entry = OutboxEntry {
            id: 0,
            chain_id: self.setup.chain_id,
            sender,
            nonce: self.ledger.next_nonce(sender).await?.max(own),
            destination: self.setup.registry,
            calldata,
            gas_limit: gas + gas / 5 + GAS_RESERVE,
            state: OutboxState::Open,
            block: None,
            attempts: Vec::new(),
        };
        let attempt = self.sign(&entry, fees, now)?;
        entry.attempts.push(attempt.clone());
        self.store.insert_transaction(&entry, &handles).await?;
        tracing::info!(
            chain_id = self.setup.chain_id,
            nonce = entry.nonce,
            items = handles.len(),
            "committing digests"
        );
        self.send(&attempt, entry.nonce, now).await
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

    fn sign(&self, entry: &OutboxEntry, fees: Fees, now: u64) -> Result<Attempt> {
        let mut tx = TxEip1559 {
            chain_id: entry.chain_id,
            nonce: entry.nonce,
            gas_limit: entry.gas_limit,
            max_fee_per_gas: fees.max_fee,
            max_priority_fee_per_gas: fees.priority_fee,
            to: TxKind::Call(entry.destination),
            value: U256::ZERO,
            access_list: Default::default(),
            input: Bytes::copy_from_slice(&entry.calldata),
        };
        let signature =
            self.setup.account.sign_transaction_sync(&mut tx).map_err(|error| Error::Signer(error.to_string()))?;
        let envelope = TxEnvelope::from(tx.into_signed(signature));
        Ok(Attempt {
            hash: *envelope.tx_hash(),
            raw: envelope.encoded_2718(),
            max_fee: fees.max_fee,
            priority_fee: fees.priority_fee,
            signed_at: now,
        })
    }
}

fn cap(fees: Fees, most: u128) -> Fees {
    let max_fee = fees.max_fee.min(most);
    Fees { max_fee, priority_fee: fees.priority_fee.min(max_fee) }
}

/// Fees of a replacement: what the chain asks now, at least an eighth more than before (nodes ask for a tenth), never more
/// than `most`. `None` when the cap leaves no room for an eighth.
fn bump(last: &Attempt, asked: Fees, most: u128) -> Option<Fees> {
    let more = |fee: u128| fee + fee / 8 + 1;
    let least = Fees { max_fee: more(last.max_fee), priority_fee: more(last.priority_fee) };
    if least.max_fee > most {
        return None;
    }
    let max_fee = asked.max_fee.max(least.max_fee).min(most);
    Some(Fees { max_fee, priority_fee: asked.priority_fee.max(least.priority_fee).min(max_fee) })
}

/// Seconds since 1970.
pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_secs())
}

#[cfg(test)]
mod tests;
