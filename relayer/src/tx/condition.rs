//! How the account stands, for people.

use alloy::eips::BlockId;
use alloy_primitives::U256;

use super::{NodeError, TxManager};
use crate::error::Error;
use crate::store::{Account, FirstPending};

/// How an account stands, by its chain and by our books.
#[derive(Debug, Clone)]
pub struct Condition {
    /// Whose.
    pub account: Account,
    /// Balance, and how many of its transactions the chain has counted: both at the head.
    pub on_chain: Result<(U256, u64), NodeError>,
    /// Balance below which an alarm is raised.
    pub low_balance: U256,
    /// Next free nonce, once one was reserved.
    pub next_nonce: Option<u64>,
    /// Pending transactions.
    pub pending: u64,
    /// Most of them that there may be.
    pub max_pending: u64,
    /// The first of them.
    pub first: Option<FirstPending>,
}

impl TxManager {
    /// How the account stands.
    ///
    /// # Errors
    /// Database. A node that does not answer is part of the condition.
    pub async fn condition(&self) -> Result<Condition, Error> {
        let account = self.account;
        let on_chain = futures::try_join!(
            self.node.balance(account.sender),
            self.node.transaction_count(account.sender, BlockId::latest())
        );
        Ok(Condition {
            account,
            on_chain,
            low_balance: self.rules.low_balance,
            next_nonce: self.store.next_nonce(account).await?,
            pending: self.store.pending_count(account).await?,
            max_pending: self.rules.max_in_flight,
            first: self.store.first_pending(account).await?,
        })
    }
}
