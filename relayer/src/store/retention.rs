//! Forgetting what ended long ago.

use alloy_primitives::B256;

use super::row::{Columns, int};
use super::{Store, Tx, Write};
use crate::error::Error;
use crate::job::USER_KIND;

/// Everything that belongs to a job and to nothing else.
const BELONGINGS: [&str; 5] = [
    "DELETE FROM job_parties WHERE job = $1",
    "DELETE FROM answers WHERE job = $1",
    "DELETE FROM user_shares WHERE job = $1",
    "DELETE FROM receipts WHERE job = $1",
    "DELETE FROM timeline WHERE job = $1",
];
/// What the chain and the outbox hold about a request. Attempts go first: they are found through their transaction.
const ON_CHAIN: [&str; 3] = [
    "DELETE FROM attempts WHERE EXISTS (SELECT 1 FROM transactions t WHERE t.job = $1 AND t.chain = attempts.chain \
     AND t.sender = attempts.sender AND t.nonce = attempts.nonce)",
    "DELETE FROM transactions WHERE job = $1",
    "DELETE FROM events WHERE job = $1",
];

impl Store {
    /// Deletes pull jobs that ended before `before` (milliseconds), at most `limit` of them, with all that belongs to them.
    /// Returns how many.
    ///
    /// # Errors
    /// Database.
    pub async fn prune_pulls(&self, before: i64, limit: usize) -> Result<usize, Error> {
        self.prune("public-pull", before, limit).await
    }

    /// The same for jobs of users, whose shares take much room: of those that ended later, only the newest `keep` stay.
    ///
    /// # Errors
    /// Database.
    pub async fn prune_users(&self, before: i64, keep: u64, limit: usize) -> Result<usize, Error> {
        let row = sqlx::query(
            "SELECT since FROM jobs WHERE kind = $1 AND state IN ('done', 'expired', 'refused') \
             ORDER BY since DESC LIMIT 1 OFFSET $2",
        )
        .bind(USER_KIND)
        .bind(int(keep))
        .fetch_optional(&self.read)
        .await?;
        let surplus = row.map(|row| row.i64("since")).transpose()?.map_or(before, |since| since.saturating_add(1));
        self.prune(USER_KIND, before.max(surplus), limit).await
    }

    /// The same for requests of a gateway, with their events and transactions: those whose end can't be taken back, because
    /// its block is finalized and none of their transactions is on its way.
    ///
    /// # Errors
    /// Database.
    pub async fn prune_requests(&self, before: i64, limit: usize) -> Result<usize, Error> {
        let mut tx = self.begin(Write::Prune).await?;
        let rows = sqlx::query(
            "SELECT j.id FROM jobs j JOIN cursors c ON c.chain = j.chain WHERE j.kind = 'on-chain' \
             AND j.state IN ('done', 'expired', 'cancelled', 'refused', 'orphaned') AND j.since < $1 \
             AND COALESCE(j.block, 0) <= c.finalized AND COALESCE(j.fulfilled_block, 0) <= c.finalized \
             AND NOT EXISTS (SELECT 1 FROM transactions t WHERE t.job = j.id AND t.state IN ('pending', 'mined')) \
             ORDER BY j.since LIMIT $2",
        )
        .bind(before)
        .bind(int(limit as u64))
        .fetch_all(&mut *tx)
        .await?;
        for row in &rows {
            let id = row.hash("id")?;
            if remove(&mut tx, id, before).await? {
                for statement in ON_CHAIN {
                    sqlx::query(statement).bind(id.to_vec()).execute(&mut *tx).await?;
                }
            }
        }
        tx.commit().await?;
        Ok(rows.len())
    }

    async fn prune(&self, kind: &str, before: i64, limit: usize) -> Result<usize, Error> {
        let mut tx = self.begin(Write::Prune).await?;
        let rows = sqlx::query(
            "SELECT id FROM jobs WHERE kind = $1 AND state IN ('done', 'expired', 'refused') AND since < $2 \
             ORDER BY since LIMIT $3",
        )
        .bind(kind.to_owned())
        .bind(before)
        .bind(int(limit as u64))
        .fetch_all(&mut *tx)
        .await?;
        for row in &rows {
            remove(&mut tx, row.hash("id")?, before).await?;
        }
        tx.commit().await?;
        Ok(rows.len())
    }
}

/// Deletes one job that has ended. Whoever asks the same at this moment comes first or finds nothing; never half of it.
async fn remove(tx: &mut Tx, id: B256, before: i64) -> Result<bool, Error> {
    let gone = sqlx::query(
        "DELETE FROM jobs WHERE id = $1 AND since < $2 \
         AND state IN ('done', 'expired', 'cancelled', 'refused', 'orphaned')",
    )
    .bind(id.to_vec())
    .bind(before)
    .execute(&mut **tx)
    .await?;
    if gone.rows_affected() == 0 {
        return Ok(false);
    }
    for statement in BELONGINGS {
        sqlx::query(statement).bind(id.to_vec()).execute(&mut **tx).await?;
    }
    Ok(true)
}
