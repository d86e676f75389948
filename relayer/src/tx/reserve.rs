//! Nonces for many at a time. A reservation waits for the disk, and nonces are given out one after the other: whoever needs
//! one queues, and the first in the queue reserves for all that are in it, in one transaction of the database.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::Ordering;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use alloy::eips::BlockId;
use alloy_primitives::B256;
use futures::future::join_all;
use tokio::sync::oneshot;

use super::{Fees, NodeError, Purpose, TxManager};
use crate::error::Error;
use crate::store::{NewAttempt, NewTransaction};

/// Most nonces that are reserved at once.
const TOGETHER: usize = 32;

/// A worker broadcasts what it has reserved within this time, or not at all.
const HANDS: Duration = Duration::from_secs(10);

/// Why there is no nonce now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unreserved {
    /// As many transactions are pending as may be.
    Full,
    /// The node does not say which is the first one.
    Node(NodeError),
}

type Reserved = Result<Result<(u64, NewAttempt), Unreserved>, Error>;

/// Who waits for a nonce.
#[derive(Debug, Default)]
pub(super) struct Reservations {
    queue: Mutex<Vec<Wanted>>,
    turn: tokio::sync::Mutex<()>,
    /// Hashes that workers are about to broadcast: rounds leave them alone.
    in_hand: Mutex<HashMap<B256, Instant>>,
}

/// What a worker has in hand, until it is dropped.
pub(super) struct InHand<'a>(&'a Reservations, B256);

impl Drop for InHand<'_> {
    fn drop(&mut self) {
        self.0.hands().remove(&self.1);
    }
}

#[derive(Debug)]
struct Wanted {
    new: NewTransaction,
    fees: Fees,
    tell: oneshot::Sender<Reserved>,
}

impl Reservations {
    fn queue(&self, new: NewTransaction, fees: Fees) -> oneshot::Receiver<Reserved> {
        let (tell, told) = oneshot::channel();
        self.queue.lock().unwrap_or_else(PoisonError::into_inner).push(Wanted { new, fees, tell });
        told
    }

    fn hands(&self) -> MutexGuard<'_, HashMap<B256, Instant>> {
        self.in_hand.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What workers have in hand.
    pub(super) fn in_hand(&self) -> HashSet<B256> {
        let mut hands = self.hands();
        hands.retain(|_, since| since.elapsed() < HANDS);
        hands.keys().copied().collect()
    }

    /// What was reserved is in somebody's hand, unless a round has taken it over.
    pub(super) fn taken(&self, hash: B256) -> Option<InHand<'_>> {
        let held = self.hands().get(&hash).is_some_and(|since| since.elapsed() < HANDS);
        held.then(|| InHand(self, hash))
    }

    /// Nobody is about to broadcast these.
    fn let_go(&self, hashes: impl IntoIterator<Item = B256>) {
        let mut hands = self.hands();
        for hash in hashes {
            hands.remove(&hash);
        }
    }

    /// Nothing is reserved as long as this is held.
    pub(super) async fn turn(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.turn.lock().await
    }

    fn some(&self) -> Vec<Wanted> {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        let some = queue.len().min(TOGETHER);
        // Whoever was dropped meanwhile wants none any more.
        queue.drain(..some).filter(|wanted| !wanted.tell.is_closed()).collect()
    }
}

impl TxManager {
    /// Reserves the next nonce and stores the signed transaction, without broadcasting it.
    ///
    /// # Errors
    /// Database, signer, or [`Error::Moved`].
    pub async fn prepare(&self, new: NewTransaction, fees: Fees) -> Reserved {
        let reserved = self.reserved(new, fees).await;
        if let Ok(Ok((_, attempt))) = &reserved {
            self.reservations.let_go([attempt.hash]);
        }
        reserved
    }

    /// The same for a worker that is about to broadcast it: rounds leave it to its hands.
    pub(super) async fn reserved(&self, new: NewTransaction, fees: Fees) -> Reserved {
        let mut told = self.reservations.queue(new, fees);
        loop {
            tokio::select! {
                biased;
                reserved = &mut told => {
                    return reserved.unwrap_or_else(|_| Err(Error::Transaction("its reservation was broken off".into())));
                }
                _turn = self.reservations.turn() => {
                    if told.is_empty() {
                        self.reserve_for(self.reservations.some()).await;
                    }
                }
            }
        }
    }

    /// Reserves for all of them, and tells each what came of it. Whatever goes wrong with one of them is its own affair.
    async fn reserve_for(&self, mut batch: Vec<Wanted>) {
        let room = self.room().min(batch.len());
        tell_all(batch.split_off(room), || Ok(Err(Unreserved::Full)));
        // The follower locks the rows of jobs in this order, too.
        batch.sort_by_key(|wanted| wanted.new.job);
        while !batch.is_empty() {
            let first = match self.first_free().await {
                Ok(Ok(first)) => first,
                Ok(Err(error)) => return tell_all(batch, || Ok(Err(Unreserved::Node(error.clone())))),
                Err(error) => return tell_all(batch, || Err(broken_off(&error))),
            };
            let signing = batch.iter().zip(first..).map(|(Wanted { new, fees, .. }, nonce)| {
                self.sign(nonce, Purpose::Fulfil, new.target, &new.data, new.gas_limit, *fees)
            });
            // Up to the first one that is refused, whose place the next one takes.
            let (mut signed, mut refused) = (Vec::new(), None);
            for (attempt, wanted) in join_all(signing).await.into_iter().zip(&batch) {
                match attempt {
                    Ok(attempt) => signed.push((wanted.new.clone(), attempt)),
                    Err(error) => {
                        refused = Some(error);
                        break;
                    }
                }
            }
            if let Some(error) = refused {
                tell(batch.remove(signed.len()), Err(error));
            }
            if signed.is_empty() {
                continue;
            }
            let hashes: Vec<B256> = signed.iter().map(|(_, attempt)| attempt.hash).collect();
            // In their hands before it is stored: a round may look at any moment.
            self.reservations.hands().extend(hashes.iter().map(|hash| (*hash, Instant::now())));
            let reserved = self.store.reserve(self.account, first, &signed).await;
            if reserved.is_err() {
                self.reservations.let_go(hashes);
            }
            match reserved {
                Ok(()) => {
                    self.pending.fetch_add(signed.len() as u64, Ordering::Relaxed);
                    let others = batch.split_off(signed.len());
                    for (wanted, (nonce, (_, attempt))) in batch.into_iter().zip((first..).zip(signed)) {
                        let hash = attempt.hash;
                        if !tell(wanted, Ok(Ok((nonce, attempt)))) {
                            self.reservations.let_go([hash]);
                        }
                    }
                    batch = others;
                }
                // Another relayer of the same account was faster.
                Err(Error::NonceTaken(_)) => {}
                Err(Error::Moved(job)) => {
                    let (moved, others) = batch.into_iter().partition(|wanted| wanted.new.job == Some(job));
                    tell_all(moved, || Err(Error::Moved(job)));
                    batch = others;
                }
                Err(error) => return tell_all(batch, || Err(broken_off(&error))),
            }
        }
    }

    async fn first_free(&self) -> Result<Result<u64, NodeError>, Error> {
        loop {
            if let Some(next) = self.store.next_nonce(self.account).await? {
                return Ok(Ok(next));
            }
            match self.node.lowest_transaction_count(self.account.sender, BlockId::pending()).await {
                Ok(first) => self.store.raise_nonce(self.account, first).await?,
                Err(error) => return Ok(Err(error)),
            }
        }
    }
}

/// Whether somebody is there to hear it. What is stored for nobody, a round of the manager takes care of.
fn tell(wanted: Wanted, reserved: Reserved) -> bool {
    wanted.tell.send(reserved).is_ok()
}

fn tell_all(batch: Vec<Wanted>, reserved: impl Fn() -> Reserved) {
    for wanted in batch {
        tell(wanted, reserved());
    }
}

/// One error for many.
fn broken_off(error: &Error) -> Error {
    Error::Transaction(format!("no nonces were reserved: {error}"))
}
