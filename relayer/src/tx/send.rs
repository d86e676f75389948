//! Handing a stored transaction to the node, and what follows from its answer.

use std::sync::atomic::Ordering;

use alloy_primitives::Bytes;

use super::{Fees, NOOP_GAS, NodeError, SendFault, TxManager, classify};
use crate::clock::{backoff_ms, now_ms};
use crate::error::Error;
use crate::store::{NewAttempt, Outgoing, Purpose};

/// Longest pause before a transaction that failed is tried again.
const PATIENCE_MS: i64 = 60_000;

impl TxManager {
    /// Broadcasts what is stored. The inner error is a node that could not be reached; a refusal is dealt with here.
    pub(super) async fn send(&self, nonce: u64, attempt: &NewAttempt) -> Result<Result<(), NodeError>, Error> {
        let Err(error) = self.node.broadcast(&attempt.raw).await else {
            self.broke.store(false, Ordering::Relaxed);
            self.store.sent(attempt.hash).await?;
            return Ok(Ok(()));
        };
        let fault = classify(&error.message);
        self.metrics.send_fault(self.account.chain, fault);
        match fault {
            SendFault::AlreadyKnown => {
                self.broke.store(false, Ordering::Relaxed);
                self.store.sent(attempt.hash).await?;
            }
            // The next round sees which of our transactions it was.
            SendFault::NonceTooLow => self.store.not_sent(attempt.hash, &error.message).await?,
            // Counts as sent: what is missing is a higher fee, which comes when it is its turn.
            SendFault::ReplacementUnderpriced | SendFault::FeeTooLow => {
                self.store.sent(attempt.hash).await?;
                self.store.not_sent(attempt.hash, &error.message).await?;
            }
            SendFault::Permanent if attempt.purpose == Purpose::Fulfil => {
                tracing::error!(nonce, hash = %attempt.hash, %error, "the node will never take this transaction");
                // It may be the gas limit that it does not like.
                self.gas.forget();
                self.store.not_sent(attempt.hash, &error.message).await?;
                self.give_up(nonce, attempt, &error.message).await?;
            }
            SendFault::InsufficientFunds => {
                tracing::error!(account = %self.account.sender, %error, "the account can't pay for its transactions");
                self.broke.store(true, Ordering::Relaxed);
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
    pub(super) fn retry_at(&self, outgoing: &Outgoing) -> i64 {
        let attempts = u32::try_from(outgoing.attempts.len()).unwrap_or(u32::MAX);
        now_ms() + i64::try_from(backoff_ms(attempts, 1_000, PATIENCE_MS as u64)).unwrap_or(PATIENCE_MS)
    }
}
