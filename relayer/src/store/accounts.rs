//! Accounts of several relayers in one database.

use alloy_primitives::Address;

use super::outbox::back_to_quorum;
use super::row::{Columns, int};
use super::{Account, Store, Write};
use crate::clock::now_ms;
use crate::error::Error;

impl Account {
    /// What only one process does: minding these nonces.
    #[must_use]
    pub fn lead_name(self) -> String {
        format!("tx:{}:{}", self.chain, self.sender)
    }
}

impl Store {
    /// Takes an answer from a transaction that can't be signed again: its job goes back to `quorum`, and whoever has the key
    /// uses the nonce for a no-op.
    ///
    /// # Errors
    /// Database.
    pub async fn abandon(&self, account: Account, nonce: u64, detail: &str) -> Result<(), Error> {
        let mut tx = self.begin(Write::Abandon).await?;
        sqlx::query(
            "UPDATE transactions SET purpose = 'noop' WHERE chain = $1 AND sender = $2 AND nonce = $3 AND state = 'pending'",
        )
        .bind(int(account.chain))
        .bind(account.sender.to_vec())
        .bind(int(nonce))
        .execute(&mut *tx)
        .await?;
        back_to_quorum(&mut tx, account, nonce, detail, now_ms()).await?;
        tx.commit().await
    }

    /// Accounts with transactions that are not confirmed.
    ///
    /// # Errors
    /// Database.
    pub async fn senders_waiting(&self, chain: u64) -> Result<Vec<Address>, Error> {
        sqlx::query("SELECT DISTINCT sender FROM transactions WHERE chain = $1 AND state IN ('pending', 'mined')")
            .bind(int(chain))
            .fetch_all(&self.read)
            .await?
            .iter()
            .map(|row| row.address("sender"))
            .collect()
    }
}
