//! Operations and their results.

use alloy_primitives::{B256, U256};
use sqlx::{Row, SqliteConnection, sqlite::SqliteRow};

use super::{Store, get_b256, get_optional_b256, get_optional_u256, inputs::mark_used, int};
use crate::{
    error::{Error, Result},
    event::{Kind, Operation},
};

/// An operation all of whose operands are settled: computed, failed, or unknown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PendingOperation {
    /// Position in the order of the chain.
    pub seq: i64,
    /// The operation.
    pub operation: Operation,
}

/// How an operation ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The result is there.
    Computed(Vec<u8>),
    /// An input ciphertext is unknown here; tried again when inputs arrive.
    Missing(String),
    /// It can never be computed.
    Failed(String),
}

impl Store {
    /// The next operations to settle, oldest first. An operation whose operands wait is not among them.
    ///
    /// # Errors
    /// Of the database.
    pub async fn ready_operations(&self, limit: usize) -> Result<Vec<PendingOperation>> {
        let rows = sqlx::query(
            "SELECT seq, handle, kind, a, b, c, plain FROM operations AS o WHERE state = 'pending' AND NOT EXISTS \
             (SELECT 1 FROM operations AS i WHERE i.handle IN (o.a, o.b, o.c) AND i.state = 'pending') \
             ORDER BY seq LIMIT $1",
        )
        .bind(int(limit as u64))
        .fetch_all(&self.reader)
        .await?;
        rows.iter().map(read_operation).collect()
    }

    /// Why the operand `handle` can't be used: `None` when its ciphertext is there.
    ///
    /// # Errors
    /// Of the database.
    pub async fn operand_problem(&self, handle: B256) -> Result<Option<Outcome>> {
        let state: Option<String> = sqlx::query_scalar("SELECT state FROM operations WHERE handle = $1")
            .bind(handle.as_slice())
            .fetch_optional(&self.reader)
            .await?;
        Ok(match state.as_deref() {
            Some("computed") => None,
            Some("failed") => Some(Outcome::Failed(format!("operand {handle} failed"))),
            Some(_) => Some(Outcome::Missing(format!("operand {handle} is not computed"))),
            None => Some(Outcome::Missing(format!("operand {handle} is unknown"))),
        })
    }

    /// The stored ciphertext of `handle`.
    ///
    /// # Errors
    /// Of the database.
    pub async fn ciphertext(&self, handle: B256) -> Result<Option<Vec<u8>>> {
        Ok(sqlx::query_scalar("SELECT bytes FROM ciphertexts WHERE handle = $1")
            .bind(handle.as_slice())
            .fetch_optional(&self.reader)
            .await?)
    }

    /// Records how an operation ended. Returns whether the row was still there and pending: a reorg may have taken it, and
    /// the same operation in another block is another row.
    ///
    /// # Errors
    /// Of the database.
    pub async fn settle(&self, pending: &PendingOperation, outcome: &Outcome) -> Result<bool> {
        let mut tx = self.begin().await?;
        let (state, failure) = match outcome {
            Outcome::Computed(_) => ("computed", None),
            Outcome::Missing(reason) => ("missing", Some(reason.as_str())),
            Outcome::Failed(reason) => ("failed", Some(reason.as_str())),
        };
        let changed =
            sqlx::query("UPDATE operations SET state = $1, failure = $2 WHERE seq = $3 AND state = 'pending'")
                .bind(state)
                .bind(failure)
                .bind(pending.seq)
                .execute(&mut *tx)
                .await?
                .rows_affected();
        if changed == 1
            && let Outcome::Computed(bytes) = outcome
        {
            put_ciphertext(&mut tx, pending.operation.result, bytes).await?;
        }
        self.commit(tx, "settle").await?;
        Ok(changed == 1)
    }

    /// Stores the expansion of an input list: all of its members at once, whether the chain has seen them or not.
    ///
    /// # Errors
    /// Of the database.
    pub async fn store_expansion(&self, members: &[(B256, Vec<u8>)]) -> Result<()> {
        let mut tx = self.begin().await?;
        for (handle, bytes) in members {
            put_ciphertext(&mut tx, *handle, bytes).await?;
        }
        self.commit(tx, "store_expansion").await?;
        Ok(())
    }

    /// Marks an input operation computed whose ciphertext is stored already. Returns whether the row was still pending.
    ///
    /// # Errors
    /// Of the database.
    pub async fn settle_expanded(&self, pending: &PendingOperation) -> Result<bool> {
        let mut tx = self.begin().await?;
        let changed = sqlx::query(
            "UPDATE operations SET state = 'computed', failure = NULL WHERE seq = $1 AND state = 'pending' \
             AND EXISTS (SELECT 1 FROM ciphertexts AS c WHERE c.handle = operations.handle)",
        )
        .bind(pending.seq)
        .execute(&mut *tx)
        .await?
        .rows_affected();
        self.commit(tx, "settle_expanded").await?;
        Ok(changed == 1)
    }

    /// Number of operations in each state, for the metrics.
    ///
    /// # Errors
    /// Of the database.
    pub async fn operation_counts(&self) -> Result<Vec<(String, i64)>> {
        let rows =
            sqlx::query("SELECT state, COUNT(*) AS n FROM operations GROUP BY state").fetch_all(&self.reader).await?;
        rows.iter().map(|row| Ok((row.try_get("state")?, row.try_get("n")?))).collect()
    }
}

/// Adds an operation; nothing happens when its handle is known, because the same handle is the same operation.
pub(super) async fn insert_operation(
    tx: &mut SqliteConnection,
    chain_id: u64,
    block: (u64, B256),
    operation: &Operation,
) -> Result<()> {
    let operand = |i: usize| operation.operands.get(i).map(B256::as_slice);
    sqlx::query(
        "INSERT INTO operations (handle, chain_id, block_number, block_hash, kind, a, b, c, plain, state) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, 'pending') ON CONFLICT (handle) DO NOTHING",
    )
    .bind(operation.result.as_slice())
    .bind(int(chain_id))
    .bind(int(block.0))
    .bind(block.1.as_slice())
    .bind(operation.kind.name())
    .bind(operand(0))
    .bind(operand(1))
    .bind(operand(2))
    .bind(operation.plain.map(|plain: U256| plain.to_be_bytes::<32>().to_vec()))
    .execute(&mut *tx)
    .await?;
    if operation.kind == Kind::Input {
        mark_used(tx, operation.result).await?;
    }
    Ok(())
}

async fn put_ciphertext(tx: &mut SqliteConnection, handle: B256, bytes: &[u8]) -> Result<()> {
    sqlx::query("INSERT INTO ciphertexts (handle, bytes) VALUES ($1, $2) ON CONFLICT (handle) DO NOTHING")
        .bind(handle.as_slice())
        .bind(bytes)
        .execute(tx)
        .await?;
    Ok(())
}

fn read_operation(row: &SqliteRow) -> Result<PendingOperation> {
    let kind = Kind::from_name(row.try_get("kind")?).ok_or(Error::Corrupt { column: "kind" })?;
    let mut operands = Vec::with_capacity(3);
    for column in ["a", "b", "c"] {
        operands.extend(get_optional_b256(row, column)?);
    }
    Ok(PendingOperation {
        seq: row.try_get("seq")?,
        operation: Operation {
            result: get_b256(row, "handle")?,
            kind,
            operands,
            plain: get_optional_u256(row, "plain")?,
        },
    })
}
