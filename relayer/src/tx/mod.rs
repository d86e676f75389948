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
mod gas;
mod node;
mod reserve;
mod room;
mod round;
mod send;
mod sign;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::time::{Duration, Instant};

use alloy_primitives::{Address, B256, Bytes, U256};
use tokio::sync::{Semaphore, watch};
use tracing::Instrument;

pub use caretaker::Caretaker;
pub use condition::Condition;
pub use errors::{SendFault, classify};
pub use fees::Fees;
pub use node::{Node, NodeError};
pub use reserve::Unreserved;
pub use sign::{AwsError, AwsKms, Signer, aws_credentials, check_aws};

use crate::error::Error;
use crate::metrics::Metrics;
use crate::state::State;
use crate::store::{Account, NewAttempt, NewTransaction, Purpose, Store};

/// Gas of a transfer without data.
const NOOP_GAS: u64 = 21_000;
/// A transaction may use no more (EIP-7825).
const MAX_GAS: u64 = 1 << 24;

/// How long today's fees are today's.
const FEES_HOLD: Duration = Duration::from_millis(500);

/// How the manager behaves.
#[derive(Debug, Clone)]
pub struct TxRules {
    /// Blocks on top after which a transaction is left alone.
    pub depth: u64,
    /// The transaction whose turn it is, and those below the base fee, get a higher fee after this time.
    pub bump_after: Duration,
    /// A transaction that is not mined is broadcast again after this time.
    pub rebroadcast_after: Duration,
    /// Most that is offered per gas, in wei.
    pub max_fee: u128,
    /// Most transactions that are pending at once.
    pub max_in_flight: u64,
    /// Workers that wait for room among them at once; others do something else meanwhile.
    pub waiting: usize,
    /// How long each of them waits on the spot.
    pub wait_for_room: Duration,
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
    /// As many transactions are pending as may be, or the account can't pay for those that are.
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
    reservations: reserve::Reservations,
    /// Today's fees, and when they were asked for: a burst of answers does not ask for each.
    fees: tokio::sync::Mutex<Option<(Instant, Fees)>>,
    gas: gas::GasKnown,
    /// Transactions that are pending, as far as is known without a look.
    pending: AtomicU64,
    /// Whether the account could not pay for what was sent last.
    broke: AtomicBool,
    /// Rounds so far.
    rounds: watch::Sender<u64>,
    /// Places to wait for room.
    waiting: Semaphore,
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
            waiting: Semaphore::new(rules.waiting),
            rules,
            reservations: Default::default(),
            fees: Default::default(),
            gas: Default::default(),
            pending: AtomicU64::new(0),
            broke: AtomicBool::new(false),
            rounds: Default::default(),
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

    /// Simulates, stores and broadcasts a job's transaction, whose callback is given `callback_gas`. A job that is under way
    /// already is not sent again.
    ///
    /// # Errors
    /// Database; [`Error::Moved`] if the job has moved on meanwhile.
    pub async fn submit(
        &self,
        job: B256,
        target: Address,
        data: Bytes,
        callback_gas: u64,
    ) -> Result<Submission, Error> {
        let (standing, room) = self.with_room(job).await?;
        if let Some(nonce) = standing.under_way {
            let why = format!("nonce {nonce} is still under way for it");
            self.store.shift(job, State::Quorum, State::Submitting, "", &why).await?;
            return Ok(Submission::NotNow(why));
        }
        if !room {
            return Ok(Submission::Full);
        }
        let fees = match self.fees_of_now().await {
            Ok(fees) => fees.capped(self.rules.max_fee),
            Err(error) => return Ok(Submission::NotNow(error.message)),
        };
        let cost = |gas: u64| {
            U256::from(gas) * U256::from(fees.max_fee) * U256::from(self.rules.fee_cover_percent) / U256::from(100)
        };
        let fits = async |limit| {
            let call = self.node.fits(self.account.sender, target, data.clone(), gas::without_margin(limit));
            call.await.unwrap_or(false)
        };
        let gas = match self.gas.known(target, &data, callback_gas).filter(|gas| standing.fee >= cost(*gas)) {
            Some(gas) if fits(gas).await => gas,
            _ => match self.node.estimate(self.account.sender, target, data.clone()).await {
                Ok(gas) => self.gas.learn(target, &data, callback_gas, gas.saturating_add(gas / 8).min(MAX_GAS)),
                Err(error) if error.revert.is_some() => return Ok(Submission::WouldRevert(error)),
                Err(error) => return Ok(Submission::NotNow(error.message)),
            },
        };
        if standing.fee < cost(gas) {
            return Ok(Submission::Underpaid { fee: standing.fee, needed: cost(gas) });
        }
        let new = NewTransaction { job: Some(job), target, data, gas_limit: gas };
        match self.reserved(new, fees).instrument(tracing::info_span!("sign and store")).await? {
            Ok((nonce, attempt)) => {
                let Some(_in_hand) = self.reservations.taken(attempt.hash) else {
                    // It took too long: a round has taken it over.
                    return Ok(Submission::Stored { nonce, hash: attempt.hash });
                };
                // What counts is that it is stored: if the node can't be reached now, the next round broadcasts it.
                let broadcast = self.send(nonce, &attempt).instrument(tracing::info_span!("broadcast", nonce));
                if let Err(error) = broadcast.await? {
                    tracing::warn!(nonce, %error, "not broadcast yet");
                }
                Ok(Submission::Stored { nonce, hash: attempt.hash })
            }
            Err(Unreserved::Full) => Ok(Submission::Full),
            Err(Unreserved::Node(error)) => Ok(Submission::NotNow(error.message)),
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
