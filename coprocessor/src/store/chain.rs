//! What the chain said, one transaction per step of the follower.

use alloy_primitives::{Address, B256};
use kms_chain::follower::BlockRef;
use sqlx::SqliteConnection;

use super::{Store, get_b256, get_u64, int, operations::insert_operation};
use crate::{error::Result, event::Event};

/// A log of one of our contracts that could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuarantinedLog {
    /// Position in the block.
    pub log_index: u64,
    /// The contract.
    pub address: Address,
    /// What is wrong with it.
    pub reason: String,
}

impl Store {
    /// Blocks kept of `chain_id`, newest last.
    ///
    /// # Errors
    /// Of the database.
    pub async fn blocks(&self, chain_id: u64) -> Result<Vec<BlockRef>> {
        let rows =
            sqlx::query("SELECT number, hash, parent, timestamp FROM blocks WHERE chain_id = $1 ORDER BY number")
                .bind(int(chain_id))
                .fetch_all(&self.reader)
                .await?;
        rows.iter()
            .map(|row| {
                Ok(BlockRef {
                    number: get_u64(row, "number")?,
                    hash: get_b256(row, "hash")?,
                    parent: get_b256(row, "parent")?,
                    timestamp: get_u64(row, "timestamp")?,
                })
            })
            .collect()
    }

    /// Applies one step of the follower in one transaction: takes back what orphaned blocks said, records what the new
    /// ones say, and forgets blocks that lie deeper than the last one that is final.
    ///
    /// # Errors
    /// Of the database; then nothing has changed.
    pub async fn apply(
        &self,
        chain_id: u64,
        orphaned: &[BlockRef],
        blocks: &[(BlockRef, Vec<Event>, Vec<QuarantinedLog>)],
        latest: BlockRef,
        finalized: u64,
    ) -> Result<()> {
        let mut tx = self.begin().await?;
        for block in orphaned {
            drop_block(&mut tx, chain_id, block).await?;
        }
        for (block, events, quarantined) in blocks {
            put_block(&mut tx, chain_id, block).await?;
            for event in events {
                record(&mut tx, chain_id, block, event).await?;
            }
            for log in quarantined {
                sqlx::query(
                    "INSERT INTO quarantine (chain_id, block_number, block_hash, log_index, address, reason) \
                     VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING",
                )
                .bind(int(chain_id))
                .bind(int(block.number))
                .bind(block.hash.as_slice())
                .bind(int(log.log_index))
                .bind(log.address.as_slice())
                .bind(&log.reason)
                .execute(&mut *tx)
                .await?;
            }
        }
        put_block(&mut tx, chain_id, &latest).await?;
        sqlx::query(
            "DELETE FROM blocks WHERE chain_id = $1 AND number < \
             (SELECT MAX(number) FROM blocks WHERE chain_id = $1 AND number <= $2)",
        )
        .bind(int(chain_id))
        .bind(int(finalized))
        .execute(&mut *tx)
        .await?;
        self.commit(tx, "apply").await?;
        Ok(())
    }

    /// Number of logs that could not be read.
    ///
    /// # Errors
    /// Of the database.
    pub async fn quarantined(&self) -> Result<i64> {
        Ok(sqlx::query_scalar("SELECT COUNT(*) FROM quarantine").fetch_one(&self.reader).await?)
    }
}

async fn put_block(tx: &mut SqliteConnection, chain_id: u64, block: &BlockRef) -> Result<()> {
    sqlx::query(
        "INSERT INTO blocks (chain_id, number, hash, parent, timestamp) VALUES ($1, $2, $3, $4, $5) \
         ON CONFLICT (chain_id, number) DO UPDATE SET hash = $3, parent = $4, timestamp = $5",
    )
    .bind(int(chain_id))
    .bind(int(block.number))
    .bind(block.hash.as_slice())
    .bind(block.parent.as_slice())
    .bind(int(block.timestamp))
    .execute(tx)
    .await?;
    Ok(())
}

/// Takes back everything that one block said. Commitments stay: what was signed once is never signed otherwise.
async fn drop_block(tx: &mut SqliteConnection, chain_id: u64, block: &BlockRef) -> Result<()> {
    const STATEMENTS: [&str; 9] = [
        // An input of which no operation is left waits for the chain again.
        "UPDATE inputs SET used = 0 WHERE chain_id = $1 AND used = 1 AND id IN \
         (SELECT h.input_id FROM operations AS o JOIN input_handles AS h ON h.handle = o.handle \
          WHERE o.chain_id = $1 AND o.block_number = $2 AND o.block_hash = $3 AND o.kind = 'input') \
         AND NOT EXISTS (SELECT 1 FROM input_handles AS h JOIN operations AS o ON o.handle = h.handle \
          WHERE h.chain_id = inputs.chain_id AND h.input_id = inputs.id \
          AND (o.block_number != $2 OR o.block_hash != $3))",
        // What failed may have failed because of the ciphertext that goes as well.
        "DELETE FROM squash_failures WHERE handle IN \
         (SELECT handle FROM operations WHERE chain_id = $1 AND block_number = $2 AND block_hash = $3)",
        "DELETE FROM ciphertexts WHERE handle IN \
         (SELECT handle FROM operations WHERE chain_id = $1 AND block_number = $2 AND block_hash = $3)",
        "DELETE FROM operations WHERE chain_id = $1 AND block_number = $2 AND block_hash = $3",
        "DELETE FROM wanted WHERE chain_id = $1 AND block_number = $2 AND block_hash = $3",
        "DELETE FROM first_holders WHERE chain_id = $1 AND block_number = $2 AND block_hash = $3",
        "DELETE FROM committed WHERE chain_id = $1 AND block_number = $2 AND block_hash = $3",
        "DELETE FROM quarantine WHERE chain_id = $1 AND block_number = $2 AND block_hash = $3",
        "DELETE FROM blocks WHERE chain_id = $1 AND number = $2 AND hash = $3",
    ];
    for statement in STATEMENTS {
        sqlx::query(statement)
            .bind(int(chain_id))
            .bind(int(block.number))
            .bind(block.hash.as_slice())
            .execute(&mut *tx)
            .await?;
    }
    Ok(())
}

async fn record(tx: &mut SqliteConnection, chain_id: u64, block: &BlockRef, event: &Event) -> Result<()> {
    match event {
        Event::Operation(operation) => insert_operation(tx, chain_id, (block.number, block.hash), operation).await?,
        Event::Wanted(handles) => {
            for handle in handles {
                want(tx, chain_id, block, *handle, true).await?;
            }
        }
        Event::Allowed { handle, account } => {
            // The first holder is kept; whoever is another one makes the handle readable.
            let second: bool = sqlx::query_scalar(
                "INSERT INTO first_holders (handle, account, chain_id, block_number, block_hash) \
                 VALUES ($1, $2, $3, $4, $5) ON CONFLICT (handle) DO UPDATE SET account = account \
                 RETURNING account != $2",
            )
            .bind(handle.as_slice())
            .bind(account.as_slice())
            .bind(int(chain_id))
            .bind(int(block.number))
            .bind(block.hash.as_slice())
            .fetch_one(&mut *tx)
            .await?;
            if second {
                want(tx, chain_id, block, *handle, false).await?;
            }
        }
        Event::Committed { handle, key_id, digest } => {
            sqlx::query(
                "INSERT INTO committed (handle, chain_id, key_id, digest, block_number, block_hash) \
                 VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (handle) DO NOTHING",
            )
            .bind(handle.as_slice())
            .bind(int(chain_id))
            .bind(key_id.as_slice())
            .bind(digest.as_slice())
            .bind(int(block.number))
            .bind(block.hash.as_slice())
            .execute(&mut *tx)
            .await?;
        }
    }
    Ok(())
}

/// Notes that a handle has to be squashed; `asked`: before those that are only readable.
async fn want(tx: &mut SqliteConnection, chain_id: u64, block: &BlockRef, handle: B256, asked: bool) -> Result<()> {
    sqlx::query(
        "INSERT INTO wanted (handle, chain_id, block_number, block_hash, asked) VALUES ($1, $2, $3, $4, $5) \
         ON CONFLICT (handle) DO UPDATE SET asked = MAX(asked, $5)",
    )
    .bind(handle.as_slice())
    .bind(int(chain_id))
    .bind(int(block.number))
    .bind(block.hash.as_slice())
    .bind(asked)
    .execute(tx)
    .await?;
    Ok(())
}
