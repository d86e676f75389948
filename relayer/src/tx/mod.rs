//! The transaction manager: nothing is broadcast that is not stored, no nonce is left unused, and a fee that is too low is
//! raised.
//!
//! One manager serves one account on one chain. [`TxManager::prepare`] stores a signed transaction together with its
//! nonce and moves the job; [`TxManager::tick`] does everything else (broadcast, replacement, receipts, gaps), again and
//! again, from what is stored and what the chain says. A kill between the two costs nothing but time.

mod caretaker;
mod condition;
mod errors;
mod fees;
mod node;
mod sign;

use std::sync::Arc;
use std::time::{Duration, Instant};

use alloy::eips::BlockId;
use alloy_primitives::{Address, B256, Bytes, U256};
use futures::FutureExt;
use futures::future::join_all;
use kms_telemetry::Past;
use tracing::Instrument;

pub use caretaker::Caretaker;
pub use condition::Condition;
pub use errors::{SendFault, classify};
pub use fees::Fees;
pub use node::{Node, NodeError};
pub use sign::{AwsError, AwsKms, Signer, aws_credentials, check_aws};

use crate::clock::{backoff_ms, now_ms};
use crate::error::Error;
use crate::metrics::Metrics;
use crate::state::State;
use crate::store::{Account, Attempt, Mined, NewAttempt, NewTransaction, Outgoing, Purpose, Store};

/// Gas of a transfer without data.
const NOOP_GAS: u64 = 21_000;
/// A transaction may use no more (EIP-7825).
const MAX_GAS: u64 = 1 << 24;
/// A transaction that was stored longer ago, and never broadcast, is simulated again first.
const STALE: Duration = Duration::from_secs(2);
/// Gaps that one tick closes.
const MAX_GAPS: u64 = 64;

/// Receipts that are asked for at once.
const SETTLING: usize = 32;
/// How long today's fees are today's.
const FEES_HOLD: Duration = Duration::from_millis(500);

/// How the manager behaves.
#[derive(Debug, Clone)]
pub struct TxRules {
    /// Blocks on top after which a transaction is left alone.
    pub depth: u64,
    /// The transaction whose turn it is gets a higher fee after this time.
    pub bump_after: Duration,
    /// A transaction that is not mined is broadcast again after this time.
    pub rebroadcast_after: Duration,
    /// Most that is offered per gas, in wei.
    pub max_fee: u128,
    /// Most transactions that are pending at once.
    pub max_in_flight: u64,
    /// Below this balance, in wei, an alarm is raised.
    pub low_balance: U256,
    /// Percent of a transaction's cost that the request's fee must cover; 0 posts at the relayer's own cost.
    pub fee_cover_percent: u32,
}

/// What became of a submission.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Submission {
    /// Stored under this nonce, and its broadcast was tried.
    Stored {
        /// Nonce.
        nonce: u64,
        /// Hash.
        hash: B256,
    },
    /// The contract would revert.
    WouldRevert(NodeError),
    /// The request's fee does not pay for the transaction: a callback may cost millions of gas.
    Underpaid {
        /// What it offers, in wei.
        fee: U256,
        /// What it would have to offer now, in wei.
        needed: U256,
    },
    /// As many transactions are pending as may be.
    Full,
    /// Not now.
    NotNow(String),
}

/// The manager of one account on one chain.
#[derive(Debug)]
pub struct TxManager {
    store: Store,
    node: Arc<dyn Node>,
    /// None for an account of somebody else.
    signer: Option<Signer>,
    account: Account,
    rules: TxRules,
    reserving: tokio::sync::Mutex<()>,
    /// Today's fees, and when they were asked for: a burst of answers does not ask for each.
    fees: tokio::sync::Mutex<Option<(Instant, Fees)>>,
    metrics: Arc<Metrics>,
}

impl TxManager {
    /// A manager for the signer's account on `chain`.
    #[must_use]
    pub fn new(store: Store, node: Arc<dyn Node>, signer: Signer, chain: u64, rules: TxRules) -> Self {
        let account = Account { chain, sender: signer.address() };
        Self { signer: Some(signer), ..Self::without_key(store, node, account, rules) }
    }

    fn without_key(store: Store, node: Arc<dyn Node>, account: Account, rules: TxRules) -> Self {
        let metrics = store.metrics().clone();
        metrics.low_balance(account.chain, rules.low_balance);
        Self {
            store,
            node,
            signer: None,
            account,
            rules,
            reserving: tokio::sync::Mutex::new(()),
            fees: Default::default(),
            metrics,
        }
    }

    /// The account.
    #[must_use]
    pub fn account(&self) -> Account {
        self.account
    }

    /// How many of these handles have no committed ciphertext at the head.
    ///
    /// # Errors
    /// The node does not answer.
    pub async fn uncommitted(&self, lens: Address, handles: &[B256]) -> Result<usize, NodeError> {
        self.node.uncommitted(lens, handles).await
    }

    /// Whether somebody's transaction on its way will have done this before ours could. No, if the node can't say.
    pub async fn taken(&self, target: Address, data: Bytes) -> bool {
        self.node.reverts_in_pool(self.account.sender, target, data).await.unwrap_or(false)
    }

    /// Simulates, stores and broadcasts a job's transaction. A job that is under way already is not sent again.
    ///
    /// # Errors
    /// Database; [`Error::Moved`] if the job has moved on meanwhile.
    pub async fn submit(&self, job: B256, target: Address, data: Bytes) -> Result<Submission, Error> {
        if let Some(nonce) = self.store.under_way(job).await? {
            let why = format!("nonce {nonce} is still under way for it");
            self.store.shift(job, State::Quorum, State::Submitting, "", &why).await?;
            return Ok(Submission::NotNow(why));
        }
        if self.store.pending_count(self.account).await? >= self.rules.max_in_flight {
            return Ok(Submission::Full);
        }
        let gas = match self.node.estimate(self.account.sender, target, data.clone()).await {
            Ok(gas) => gas.saturating_add(gas / 8).min(MAX_GAS),
            Err(error) if error.revert.is_some() => return Ok(Submission::WouldRevert(error)),
            Err(error) => return Ok(Submission::NotNow(error.message)),
        };
        let fees = match self.fees_of_now().await {
            Ok(fees) => fees.capped(self.rules.max_fee),
            Err(error) => return Ok(Submission::NotNow(error.message)),
        };
        let needed =
            U256::from(gas) * U256::from(fees.max_fee) * U256::from(self.rules.fee_cover_percent) / U256::from(100);
        let fee = self.store.job(job).await?.map_or(U256::ZERO, |job| job.fee);
        if fee < needed {
            return Ok(Submission::Underpaid { fee, needed });
        }
        let new = NewTransaction { job: Some(job), target, data, gas_limit: gas };
        match self.prepare(&new, fees).instrument(tracing::info_span!("sign and store")).await? {
            Ok((nonce, attempt)) => {
                // What counts is that it is stored: if the node can't be reached now, the next round broadcasts it.
                let broadcast = self.send(nonce, &attempt).instrument(tracing::info_span!("broadcast", nonce));
                if let Err(error) = broadcast.await? {
                    tracing::warn!(nonce, %error, "not broadcast yet");
                }
                Ok(Submission::Stored { nonce, hash: attempt.hash })
            }
            Err(error) => Ok(Submission::NotNow(error.message)),
        }
    }

    async fn fees_of_now(&self) -> Result<Fees, NodeError> {
        let mut known = self.fees.lock().await;
        match *known {
            Some((at, fees)) if at.elapsed() < FEES_HOLD => Ok(fees),
            _ => {
                let fees = self.node.fees().await?;
                *known = Some((Instant::now(), fees));
                Ok(fees)
            }
        }
    }

    /// Reserves the next nonce and stores the signed transaction, without broadcasting it. The inner error is the node's,
    /// when it is asked for the first nonce ever.
    ///
    /// # Errors
    /// Database, signer, or [`Error::Moved`].
    pub async fn prepare(
        &self,
        new: &NewTransaction,
        fees: Fees,
    ) -> Result<Result<(u64, NewAttempt), NodeError>, Error> {
        let _one_at_a_time = self.reserving.lock().await;
        loop {
            let nonce = match self.store.next_nonce(self.account).await? {
                Some(nonce) => nonce,
                None => match self.node.lowest_transaction_count(self.account.sender, BlockId::pending()).await {
                    Ok(first) => {
                        self.store.raise_nonce(self.account, first).await?;
                        continue;
                    }
                    Err(error) => return Ok(Err(error)),
                },
            };
            let attempt = self.sign(nonce, Purpose::Fulfil, new.target, &new.data, new.gas_limit, fees).await?;
            match self.store.reserve(self.account, nonce, new, &attempt).await {
                // Another relayer of the same account was faster.
                Err(Error::NonceTaken(_)) => {}
                Err(error) => return Err(error),
                Ok(()) => return Ok(Ok((nonce, attempt))),
            }
        }
    }

    async fn sign(
        &self,
        nonce: u64,
        purpose: Purpose,
        target: Address,
        data: &Bytes,
        gas_limit: u64,
        fees: Fees,
    ) -> Result<NewAttempt, Error> {
        let signer = self.signer.as_ref().ok_or_else(|| Error::Transaction("it is another's account".into()))?;
        let (hash, raw) = signer.sign(self.account.chain, nonce, target, data.clone(), gas_limit, fees).await?;
        Ok(NewAttempt { hash, purpose, raw, max_fee: fees.max_fee, priority_fee: fees.priority_fee })
    }

    /// One round: receipts, gaps, broadcasts, replacements, confirmations.
    ///
    /// # Errors
    /// Database or signer. A node that does not answer is no error: the next round tries again.
    pub async fn tick(&self) -> Result<(), Error> {
        if let Err(error) = self.round().await? {
            self.metrics.node_error(self.account.chain);
            tracing::warn!(chain = self.account.chain, %error, "the node does not answer the transaction manager");
        }
        Ok(())
    }

    async fn round(&self) -> Result<Result<(), NodeError>, Error> {
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
        let pending = self.store.pending(self.account).await?;
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
        for outgoing in open {
            let pushed = if self.signer.is_none() {
                self.push_unsigned(outgoing).await?
            } else {
                self.push(outgoing, outgoing.nonce == counted).await?
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
                Ok(Ok(()))
            }
            Ok(_) => Ok(Ok(())),
            Err(error) => Ok(Err(error)),
        }
    }

    /// The chain has not counted this nonce yet: broadcast it, raise its fee, or free it.
    async fn push(&self, outgoing: &Outgoing, its_turn: bool) -> Result<Result<(), NodeError>, Error> {
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
                if its_turn
                    && outgoing.purpose == Purpose::Fulfil
                    && age(last.created_at, self.rules.bump_after * 10) =>
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

    /// Broadcasts what is stored. The inner error is a node that could not be reached; a refusal is dealt with here.
    async fn send(&self, nonce: u64, attempt: &NewAttempt) -> Result<Result<(), NodeError>, Error> {
        let Err(error) = self.node.broadcast(&attempt.raw).await else {
            self.store.sent(attempt.hash).await?;
            return Ok(Ok(()));
        };
        let fault = classify(&error.message);
        self.metrics.send_fault(self.account.chain, fault);
        match fault {
            SendFault::AlreadyKnown => self.store.sent(attempt.hash).await?,
            // The next round sees which of our transactions it was.
            SendFault::NonceTooLow => self.store.not_sent(attempt.hash, &error.message).await?,
            // Counts as sent: what is missing is a higher fee, which comes when it is its turn.
            SendFault::ReplacementUnderpriced | SendFault::FeeTooLow => {
                self.store.sent(attempt.hash).await?;
                self.store.not_sent(attempt.hash, &error.message).await?;
            }
            SendFault::Permanent if attempt.purpose == Purpose::Fulfil => {
                tracing::error!(nonce, hash = %attempt.hash, %error, "the node will never take this transaction");
                self.store.not_sent(attempt.hash, &error.message).await?;
                self.give_up(nonce, attempt, &error.message).await?;
            }
            SendFault::InsufficientFunds => {
                tracing::error!(account = %self.account.sender, %error, "the account can't pay for its transactions");
                self.store.not_sent(attempt.hash, &error.message).await?;
            }
            _ => {
                self.store.not_sent(attempt.hash, &error.message).await?;
                // A refusal concerns this transaction only; what concerns all of them ends the round.
                if !error.answered || fault == SendFault::RateLimited {
                    return Ok(Err(error));
                }
            }
        }
        Ok(Ok(()))
    }

    /// Stores a no-op under the nonce of a transaction that can't be sent; the next round broadcasts it.
    async fn give_up(&self, nonce: u64, attempt: &NewAttempt, why: &str) -> Result<(), Error> {
        if self.signer.is_none() {
            return self.store.abandon(self.account, nonce, why).await;
        }
        let fees = Fees { max_fee: attempt.max_fee, priority_fee: attempt.priority_fee };
        let noop = self.sign(nonce, Purpose::Noop, self.account.sender, &Bytes::new(), NOOP_GAS, fees).await?;
        let detail = format!("the node refused the transaction: {why}");
        let retry_at = now_ms() + PATIENCE_MS;
        self.store.add_attempt(self.account, nonce, attempt.hash, &noop, &detail, retry_at).await?;
        Ok(())
    }

    /// When a job whose transaction came to nothing is tried again.
    fn retry_at(&self, outgoing: &Outgoing) -> i64 {
        let attempts = u32::try_from(outgoing.attempts.len()).unwrap_or(u32::MAX);
        now_ms() + i64::try_from(backoff_ms(attempts, 1_000, PATIENCE_MS as u64)).unwrap_or(PATIENCE_MS)
    }

    /// Reads the balance, and raises the alarm if it is low.
    ///
    /// # Errors
    /// The node does not answer.
    pub async fn check_balance(&self) -> Result<U256, NodeError> {
        let balance = self.node.balance(self.account.sender).await?;
        self.metrics.balance(self.account.chain, balance);
        if balance < self.rules.low_balance {
            tracing::error!(account = %self.account.sender, chain = self.account.chain, %balance, "the balance is low");
        }
        Ok(balance)
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

/// Longest pause before a transaction that failed is tried again.
const PATIENCE_MS: i64 = 60_000;
