//! One round of the manager: what became of what was sent, and what is to be sent again or raised.

use std::sync::atomic::Ordering;
use std::time::Duration;

use alloy::eips::BlockId;
use alloy_primitives::Bytes;
use futures::FutureExt;
use futures::future::join_all;
use kms_telemetry::Past;

use super::{Fees, NOOP_GAS, NodeError, SendFault, TxManager, classify};
use crate::clock::now_ms;
use crate::error::Error;
use crate::state::State;
use crate::store::{Attempt, Mined, Outgoing, Purpose};

/// A transaction that was stored longer ago, and never broadcast, is simulated again first.
const STALE: Duration = Duration::from_secs(2);
/// Stranded transactions whose fee one round raises.
const MAX_RAISED: usize = 64;
/// Gaps that one tick closes.
const MAX_GAPS: u64 = 64;
/// Receipts that are asked for at once.
const SETTLING: usize = 32;

impl TxManager {
    /// One round: receipts, gaps, broadcasts, replacements, confirmations.
    ///
    /// # Errors
    /// Database or signer. A node that does not answer is no error: the next round tries again.
    pub async fn tick(&self) -> Result<(), Error> {
        let round = self.round().await?;
        self.rounds.send_modify(|rounds| *rounds += 1);
        if let Err(error) = round {
            self.metrics.node_error(self.account.chain);
            tracing::warn!(chain = self.account.chain, %error, "the node does not answer the transaction manager");
        }
        Ok(())
    }

    pub(super) async fn round(&self) -> Result<Result<(), NodeError>, Error> {
        macro_rules! ask {
            ($call:expr) => {
                match $call.await {
                    Ok(value) => value,
                    Err(error) => return Ok(Err(error)),
                }
            };
        }
        let counted = ask!(self.node.transaction_count(self.account.sender, BlockId::latest()));
        let Some(next) = self.store.next_nonce(self.account).await? else { return Ok(Ok(())) };
        if self.signer.is_some() && next < counted {
            // On the word of one node that lies or serves another chain, nonces would be skipped that this one waits for.
            let counted = ask!(self.node.lowest_transaction_count(self.account.sender, BlockId::latest()));
            if next < counted {
                tracing::warn!(
                    account = %self.account.sender, chain = self.account.chain, ours = next, chain_has = counted,
                    "somebody else uses this account, or the database is older than the chain: nonces are skipped"
                );
                self.store.raise_nonce(self.account, counted).await?;
            }
        }
        if self.signer.is_some()
            && let Err(error) = self.close_gaps(counted, next).await?
        {
            return Ok(Err(error));
        }
        let (in_hand, pending) = {
            // Nothing is reserved meanwhile, so that the count is right.
            let _turn = self.reservations.turn().await;
            // Looked up first: what a worker has let go of by then is stored as broadcast.
            let in_hand = self.reservations.in_hand();
            let pending = self.store.pending(self.account).await?;
            self.pending.store(pending.len() as u64, Ordering::Relaxed);
            (in_hand, pending)
        };
        if self.signer.is_some() {
            self.metrics.pending(self.account.chain, pending.len());
        }
        let (counted_ones, open): (Vec<_>, Vec<_>) = pending.iter().partition(|outgoing| outgoing.nonce < counted);
        // Where they are is asked for many at a time; what is broadcast goes out in order of the nonces.
        for some in counted_ones.chunks(SETTLING) {
            let mut settling = Vec::with_capacity(some.len());
            for outgoing in some {
                settling.push(self.settle(outgoing).boxed());
            }
            for settled in join_all(settling).await {
                ask!(std::future::ready(settled?));
            }
        }
        // Below the base fee nothing is mined, whatever is in front of it: a fee that has risen strands many at once.
        let base = if open.is_empty() { 0 } else { self.fees_of_now().await.map_or(0, Fees::base) };
        let needed = if base <= self.rules.max_fee { base } else { 0 };
        let mut raised = 0;
        for outgoing in open {
            let pushed = if self.signer.is_none() {
                self.push_unsigned(outgoing).await?
            } else {
                let below = outgoing.attempts.last().is_some_and(|last| last.signed.max_fee < needed);
                let stranded = below && raised < MAX_RAISED;
                raised += usize::from(stranded);
                if outgoing.attempts.last().is_some_and(|last| in_hand.contains(&last.signed.hash)) {
                    continue;
                }
                self.push(outgoing, outgoing.nonce == counted, stranded).await?
            };
            ask!(std::future::ready(pushed));
        }
        self.store.confirm(self.account, self.rules.depth).await?;
        Ok(Ok(()))
    }

    /// A reserved nonce without a row would hold up all later ones for ever.
    async fn close_gaps(&self, first: u64, next: u64) -> Result<Result<(), NodeError>, Error> {
        let held = self.store.nonces_from(self.account, first).await?;
        let gaps = (first..next).filter(|nonce| held.binary_search(nonce).is_err()).take(MAX_GAPS as usize);
        for nonce in gaps.collect::<Vec<_>>() {
            let fees = match self.node.fees().await {
                Ok(fees) => fees.capped(self.rules.max_fee),
                Err(error) => return Ok(Err(error)),
            };
            tracing::warn!(nonce, chain = self.account.chain, "a nonce is held by nothing: closed with a no-op");
            let attempt = self.sign(nonce, Purpose::Noop, self.account.sender, &Bytes::new(), NOOP_GAS, fees).await?;
            self.store.fill_gap(self.account, nonce, &attempt, NOOP_GAS).await?;
        }
        Ok(Ok(()))
    }

    /// The chain has counted this nonce: which of our transactions was it?
    async fn settle(&self, outgoing: &Outgoing) -> Result<Result<(), NodeError>, Error> {
        for attempt in outgoing.attempts.iter().rev() {
            match self.node.receipt(attempt.signed.hash).await {
                Ok(Some(mined)) => {
                    if !mined.succeeded {
                        tracing::warn!(hash = %mined.hash, nonce = outgoing.nonce, "a transaction was reverted");
                    }
                    self.metrics.mined(self.account.chain, attempt.signed.purpose, &mined);
                    if let Some(first) = outgoing.attempts.first() {
                        self.metrics.stage(State::Submitting, first.created_at);
                    }
                    trace(outgoing, &mined);
                    self.store.mined(self.account, outgoing.nonce, &mined, self.retry_at(outgoing)).await?;
                    self.make_room();
                    return Ok(Ok(()));
                }
                Ok(None) => {}
                Err(error) => return Ok(Err(error)),
            }
        }
        // None of ours, as far as this node knows. It is lost only if the chain had counted the nonce `depth` blocks ago.
        let counted = async {
            let head = self.node.head().await?;
            let deep = BlockId::number(head.saturating_sub(self.rules.depth));
            self.node.lowest_transaction_count(self.account.sender, deep).await
        };
        match counted.await {
            Ok(counted) if counted > outgoing.nonce => {
                tracing::error!(nonce = outgoing.nonce, "a nonce was used by a transaction that is not ours");
                self.store.lost(self.account, outgoing.nonce).await?;
                self.make_room();
                Ok(Ok(()))
            }
            Ok(_) => Ok(Ok(())),
            Err(error) => Ok(Err(error)),
        }
    }

    /// The chain has not counted this nonce yet: broadcast it, raise its fee, or free it. `first`: nothing is in front of it;
    /// `stranded`: its fee keeps it from being mined in any case.
    async fn push(&self, outgoing: &Outgoing, first: bool, stranded: bool) -> Result<Result<(), NodeError>, Error> {
        let its_turn = first || stranded;
        let Some(last) = outgoing.attempts.last() else { return Ok(Ok(())) };
        let now = now_ms();
        if outgoing.purpose == Purpose::Fulfil && !self.still_wanted(outgoing, now) {
            tracing::info!(nonce = outgoing.nonce, "no longer needed: its nonce is used by a no-op instead");
            return self.replace(outgoing, last, Purpose::Noop, "no longer needed").await;
        }
        if outgoing.purpose == Purpose::Noop && last.signed.purpose == Purpose::Fulfil {
            return self.replace(outgoing, last, Purpose::Noop, "posted from another account meanwhile").await;
        }
        let age = |since: i64, limit: Duration| {
            now.saturating_sub(since) >= i64::try_from(limit.as_millis()).unwrap_or(i64::MAX)
        };
        match (last.sent_at, last.error.as_deref().map(classify)) {
            // Nothing in front of it, and still the node does not take it, in words that are not in the table.
            (None, Some(SendFault::Transient))
                if first && outgoing.purpose == Purpose::Fulfil && age(last.created_at, self.rules.bump_after * 10) =>
            {
                let why = "the node did not take the transaction for too long";
                self.replace(outgoing, last, Purpose::Noop, why).await
            }
            // Stored by a process that did not live to broadcast it.
            (None, None) if age(last.created_at, STALE) && self.would_revert(outgoing).await => {
                self.replace(outgoing, last, Purpose::Noop, "the contract does not take it any more").await
            }
            (None, _) => Ok(self.send(outgoing.nonce, &last.signed).await?),
            (Some(_), Some(SendFault::FeeTooLow | SendFault::ReplacementUnderpriced)) if its_turn => {
                self.replace(outgoing, last, outgoing.purpose, "the node wants a higher fee").await
            }
            (Some(_), _) if its_turn && age(last.created_at, self.rules.bump_after) => {
                self.replace(outgoing, last, outgoing.purpose, "its turn, and not mined").await
            }
            (Some(sent), _) if age(sent, self.rules.rebroadcast_after) => {
                Ok(self.send(outgoing.nonce, &last.signed).await?)
            }
            (Some(_), _) => Ok(Ok(())),
        }
    }

    /// Whether the contract would not take an answer now; a node that can't say leaves it to the chain.
    async fn would_revert(&self, outgoing: &Outgoing) -> bool {
        outgoing.purpose == Purpose::Fulfil
            && self
                .node
                .estimate(self.account.sender, outgoing.target, outgoing.data.clone())
                .await
                .is_err_and(|error| error.revert.is_some())
    }

    /// Whether the transaction of this job still has a purpose.
    fn still_wanted(&self, outgoing: &Outgoing, now: i64) -> bool {
        let Some((state, since)) = outgoing.job_state else { return false };
        match state {
            State::Mined | State::Done => {
                outgoing.fulfilled_tx.is_some_and(|tx| outgoing.attempts.iter().any(|a| a.signed.hash == tx))
            }
            State::Expired => false,
            // It usually comes back within a few blocks, and our transaction with it.
            State::Orphaned => now.saturating_sub(since) < self.rules.bump_after.as_millis() as i64,
            _ => true,
        }
    }

    async fn replace(
        &self,
        outgoing: &Outgoing,
        last: &Attempt,
        purpose: Purpose,
        why: &str,
    ) -> Result<Result<(), NodeError>, Error> {
        let today = match self.node.fees().await {
            Ok(fees) => fees,
            Err(error) => return Ok(Err(error)),
        };
        let old = Fees { max_fee: last.signed.max_fee, priority_fee: last.signed.priority_fee };
        // What was never broadcast needs no more than today's fees; whether it was, a reorganisation makes us forget.
        let never_sent = last.sent_at.is_none() && outgoing.attempts.len() == 1;
        let fees =
            old.bumped(today, self.rules.max_fee).or_else(|| never_sent.then(|| today.capped(self.rules.max_fee)));
        let Some(fees) = fees else {
            tracing::warn!(
                nonce = outgoing.nonce,
                max_fee = self.rules.max_fee,
                "the fee can't be raised above its limit"
            );
            self.metrics.fee_capped(self.account.chain);
            return self.send(outgoing.nonce, &last.signed).await;
        };
        let (target, data, gas) = match purpose {
            Purpose::Fulfil => (outgoing.target, outgoing.data.clone(), outgoing.gas_limit),
            Purpose::Noop => (self.account.sender, Bytes::new(), NOOP_GAS),
        };
        let attempt = self.sign(outgoing.nonce, purpose, target, &data, gas, fees).await?;
        tracing::info!(
            nonce = outgoing.nonce, hash = %attempt.hash, purpose = purpose.as_str(), why, "a transaction is replaced"
        );
        let retry_at = self.retry_at(outgoing);
        let known = last.signed.hash;
        if !self.store.add_attempt(self.account, outgoing.nonce, known, &attempt, why, retry_at).await? {
            // Another process of this account was faster; the next round sees what it did.
            return Ok(Ok(()));
        }
        self.metrics.replaced(self.account.chain, purpose);
        self.send(outgoing.nonce, &attempt).await
    }
}

/// The way of a transaction from its signature into a block, as a part of its request's trace.
fn trace(outgoing: &Outgoing, mined: &Mined) {
    if let (true, Some(request), Some(first)) = (Past::is_wanted(), outgoing.job, outgoing.attempts.first()) {
        let attributes = vec![
            ("nonce", outgoing.nonce.to_string()),
            ("hash", mined.hash.to_string()),
            ("block", mined.block.to_string()),
            ("succeeded", mined.succeeded.to_string()),
            ("gas_used", mined.gas_used.to_string()),
            ("signed", outgoing.attempts.len().to_string()),
        ];
        let (from, to) = (first.created_at, now_ms());
        Past { request, name: "transaction", from, to, attributes, moments: Vec::new() }.as_step();
    }
}
