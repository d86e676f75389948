//! Transactions of accounts that nobody minds any more: a relayer that shares our database stored them and is gone, and its
//! key with it. What it has signed can still be broadcast; what comes to nothing is posted from another account.

use std::sync::Arc;
use std::time::Duration;

use alloy_primitives::Address;

use super::{Node, NodeError, TxManager, TxRules};
use crate::clock::now_ms;
use crate::error::Error;
use crate::store::{Account, Outgoing, Purpose, Store};

/// Minds the accounts of others on one chain.
#[derive(Debug)]
pub struct Caretaker {
    store: Store,
    node: Arc<dyn Node>,
    own: Account,
    rules: TxRules,
}

impl Caretaker {
    /// One that leaves `own` alone.
    #[must_use]
    pub fn new(store: Store, node: Arc<dyn Node>, own: Account, rules: TxRules) -> Self {
        Self { store, node, own, rules }
    }

    /// Looks once after all accounts whose transactions are not confirmed and whom nobody minds. None of them is kept from its owner
    /// for longer than `lead`.
    ///
    /// # Errors
    /// Database.
    pub async fn look(&self, lead: Duration) -> Result<(), Error> {
        let lead = i64::try_from(lead.as_millis()).unwrap_or(i64::MAX);
        for sender in self.store.senders_waiting(self.own.chain).await? {
            let account = Account { sender, ..self.own };
            if sender == self.own.sender || !self.store.lead(&account.lead_name(), lead).await? {
                continue;
            }
            if let Err(error) = self.mind(sender).await? {
                tracing::warn!(chain = self.own.chain, %sender, %error, "the node does not answer for another's account");
            }
        }
        Ok(())
    }

    async fn mind(&self, sender: Address) -> Result<Result<(), NodeError>, Error> {
        let (store, node) = (self.store.clone(), self.node.clone());
        let manager = TxManager::without_key(store, node, Account { sender, ..self.own }, self.rules.clone());
        manager.round().await
    }
}

impl TxManager {
    /// What can be done for a transaction that can't be signed again.
    pub(super) async fn push_unsigned(&self, outgoing: &Outgoing) -> Result<Result<(), NodeError>, Error> {
        let Some(last) = outgoing.attempts.last() else { return Ok(Ok(())) };
        if outgoing.purpose == Purpose::Noop || last.signed.purpose == Purpose::Noop {
            // Only its owner needs the nonce.
            return Ok(Ok(()));
        }
        let patience = i64::try_from(self.rules.bump_after.as_millis()).unwrap_or(i64::MAX);
        if now_ms().saturating_sub(last.created_at) >= patience {
            tracing::warn!(
                sender = %self.account.sender, nonce = outgoing.nonce,
                "a transaction of a relayer that is gone is not mined: its answer is posted from another account"
            );
            self.store.abandon(self.account, outgoing.nonce, "the relayer that signed it is gone").await?;
            return Ok(Ok(()));
        }
        if last.sent_at.is_some() { Ok(Ok(())) } else { self.send(outgoing.nonce, &last.signed).await }
    }
}
