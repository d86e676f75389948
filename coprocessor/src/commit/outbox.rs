//! Sees transactions through: sends them again, pays more, fills nonces, and knows when they are settled.

use alloy::{
    consensus::{SignableTransaction, TxEip1559, TxEnvelope},
    eips::eip2718::Encodable2718,
    network::TxSignerSync,
};
use alloy_primitives::{B256, Bytes, TxKind, U256};

use super::Committer;
use crate::{
    error::{Error, Result},
    ledger::{Broadcast, Fees, Ledger, Receipt, Simulation},
    store::{Attempt, OutboxEntry, OutboxState},
};

/// Seconds between two broadcasts of the same bytes.
pub(super) const REBROADCAST: u64 = 10;
/// Seconds between two looks at a transaction that is mined but not final.
pub(super) const LOOK_BACK: u64 = 5;
/// A transaction that is not mined after so many times the patience for one fee is given up.
pub(super) const PATIENCE: u64 = 10;
/// A transaction that the node refused so often in a row is given up.
pub(super) const REFUSALS: u32 = 3;
/// Gas of an empty transaction when the node does not say.
const EMPTY_GAS: u64 = 21_000;

impl<L: Ledger> Committer<L> {
    /// Brings the outbox up to date. Returns whether a transaction is still open.
    pub(super) async fn settle(&mut self, now: u64) -> Result<bool> {
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
                Some((receipt, fills)) => self.mined(&entry, receipt, fills, now).await?,
                None => open |= self.push(entry, now).await?,
            }
        }
        Ok(open)
    }

    /// The receipt of the version that was mined, and whether that one only fills the nonce.
    async fn find_receipt(&self, entry: &OutboxEntry) -> Result<Option<(Receipt, bool)>> {
        for attempt in entry.attempts.iter().rev() {
            if let Some(receipt) = self.ledger.receipt(attempt.hash).await? {
                return Ok(Some((receipt, attempt.fills)));
            }
        }
        Ok(None)
    }

    async fn mined(&mut self, entry: &OutboxEntry, receipt: Receipt, fills: bool, now: u64) -> Result<()> {
        let block = Some((receipt.block_number, receipt.block_hash));
        let (state, label) = match (receipt.success, fills) {
            (_, true) => (OutboxState::Reverted, "filled"),
            (true, false) => (OutboxState::Mined, "mined"),
            (false, false) => (OutboxState::Reverted, "reverted"),
        };
        if entry.state != state || entry.block != block {
            let reason = if fills { "its transaction could not be mined" } else { "its transaction reverted" };
            self.store.move_transaction(entry.id, state, block, reason, now).await?;
            let (chain_id, nonce, gas) = (self.setup.chain_id, entry.nonce, receipt.gas_used);
            match state {
                OutboxState::Mined => tracing::info!(chain_id, nonce, gas, "commitments are mined"),
                _ => tracing::error!(chain_id, nonce, gas, label, "a commitment transaction ended without effect"),
            }
            self.setup.metrics.commit_transactions.with_label_values(&[label]).inc();
            for attempt in &entry.attempts {
                self.sent_at.remove(&attempt.hash);
                self.refused.remove(&attempt.hash);
            }
        }
        if receipt.block_number <= self.ledger.final_block().await? {
            self.store.move_transaction(entry.id, OutboxState::Final, block, "", now).await?;
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
            self.store.move_transaction(entry.id, OutboxState::Open, None, "", now).await?;
        }
        if self.ledger.final_nonce(entry.sender).await? > entry.nonce {
            tracing::error!(
                chain_id = self.setup.chain_id,
                nonce = entry.nonce,
                "somebody else used the submitter's nonce"
            );
            self.store.move_transaction(entry.id, OutboxState::Displaced, None, "", now).await?;
            self.setup.metrics.commit_transactions.with_label_values(&["displaced"]).inc();
            return Ok(false);
        }
        let (Some(first), Some(last)) = (entry.attempts.first().cloned(), entry.attempts.last().cloned()) else {
            return Err(Error::Corrupt { column: "attempts" });
        };
        let patience = self.setup.config.bump_after_seconds;
        let old = now.saturating_sub(last.signed_at) >= patience;
        if old {
            self.close_gap(&entry, now).await?;
        }
        let hopeless = now.saturating_sub(first.signed_at) >= patience.saturating_mul(PATIENCE)
            || self.refused.get(&last.hash).is_some_and(|times| *times >= REFUSALS);
        let fills = last.fills || hopeless;
        if old || hopeless || self.underpriced == Some(last.hash) {
            let more = bump(&last, self.ledger.fees().await?, u128::from(self.setup.config.max_fee_per_gas));
            // The first empty version goes out even when no more may be paid: the node may have dropped the others.
            let same = Fees { max_fee: last.max_fee, priority_fee: last.priority_fee };
            if let Some(fees) = more.or((fills && !last.fills).then_some(same)) {
                let attempt = self.sign(&entry, fees, fills, now).await?;
                self.store.insert_attempt(entry.id, &attempt).await?;
                let (chain_id, nonce, max_fee) = (self.setup.chain_id, entry.nonce, fees.max_fee);
                if fills && !last.fills {
                    tracing::error!(chain_id, nonce, max_fee, "a transaction can't be mined: its nonce is filled");
                } else {
                    tracing::info!(chain_id, nonce, max_fee, "paying more");
                }
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
            Broadcast::Accepted => {
                self.refused.remove(&attempt.hash);
                tracing::debug!(chain_id = self.setup.chain_id, nonce, hash = %attempt.hash, "sent");
            }
            Broadcast::Underpriced => self.underpriced = Some(attempt.hash),
            Broadcast::NonceUsed => {
                tracing::debug!(chain_id = self.setup.chain_id, nonce, "the nonce is used, its receipt decides")
            }
            Broadcast::Refused(reason) => {
                *self.refused.entry(attempt.hash).or_default() += 1;
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

    /// Stores and sends the first version of a transaction.
    pub(super) async fn start(
        &mut self,
        mut entry: OutboxEntry,
        handles: &[B256],
        fills: bool,
        now: u64,
    ) -> Result<()> {
        let fees = cap(self.ledger.fees().await?, u128::from(self.setup.config.max_fee_per_gas));
        let attempt = self.sign(&entry, fees, fills, now).await?;
        entry.attempts.push(attempt.clone());
        self.store.insert_transaction(&entry, handles).await?;
        self.send(&attempt, entry.nonce, now).await
    }

    /// Fills the nonce that keeps `entry` from being mined: the node once counted a transaction that it lost since.
    async fn close_gap(&mut self, entry: &OutboxEntry, now: u64) -> Result<()> {
        let missing = self.ledger.next_nonce(entry.sender).await?;
        let ours = self.store.unsettled_transactions(self.setup.chain_id).await?;
        if missing >= entry.nonce || ours.iter().any(|own| own.sender == entry.sender && own.nonce == missing) {
            return Ok(());
        }
        tracing::warn!(chain_id = self.setup.chain_id, nonce = missing, "filling a nonce that nobody uses");
        let empty = OutboxEntry {
            id: 0,
            nonce: missing,
            destination: entry.sender,
            calldata: Vec::new(),
            gas_limit: EMPTY_GAS,
            state: OutboxState::Open,
            block: None,
            attempts: Vec::new(),
            ..entry.clone()
        };
        self.start(empty, &[], true, now).await
    }

    /// Signs a version of a transaction, or an empty one with its nonce.
    async fn sign(&self, entry: &OutboxEntry, fees: Fees, fills: bool, now: u64) -> Result<Attempt> {
        let (to, input, gas_limit) = if fills {
            // Rollups ask for more than the 21,000 of the main chain.
            let gas = match self.ledger.simulate(entry.sender, entry.sender, &[]).await? {
                Simulation::Gas(gas) => gas.max(EMPTY_GAS),
                Simulation::Reverts(_) | Simulation::Unable(_) => EMPTY_GAS,
            };
            (entry.sender, Bytes::new(), gas)
        } else {
            (entry.destination, Bytes::copy_from_slice(&entry.calldata), entry.gas_limit)
        };
        let mut tx = TxEip1559 {
            chain_id: entry.chain_id,
            nonce: entry.nonce,
            gas_limit,
            max_fee_per_gas: fees.max_fee,
            max_priority_fee_per_gas: fees.priority_fee,
            to: TxKind::Call(to),
            value: U256::ZERO,
            access_list: Default::default(),
            input,
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
            fills,
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
