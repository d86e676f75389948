//! Encrypted inputs that were proven, before the chain has seen them.

use alloy_primitives::{Address, B256};
use sqlx::Row;

use super::{Store, get_address, get_b256, get_u64, int};
use crate::error::Result;

/// A proven list and whom it belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Input {
    /// keccak256 of the list's bytes.
    pub id: B256,
    /// The chain it is meant for.
    pub chain_id: u64,
    /// The contract that may take it.
    pub contract: Address,
    /// The user who may hand it in.
    pub user: Address,
    /// The list, as posted.
    pub ciphertext: Vec<u8>,
}

/// An input and the handles of its members, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredInput {
    /// The input.
    pub input: Input,
    /// Its handles.
    pub handles: Vec<B256>,
}

impl Store {
    /// Stores an input whose proof has been checked; nothing changes when it is there already. Operations that failed
    /// because an input was unknown are tried again.
    ///
    /// # Errors
    /// Of the database.
    pub async fn insert_input(&self, stored: &StoredInput, now: u64) -> Result<()> {
        let input = &stored.input;
        let mut tx = self.writer.begin_with("BEGIN IMMEDIATE").await?;
        let inserted = sqlx::query(
            "INSERT INTO inputs (id, chain_id, contract, user, ciphertext, accepted_at) VALUES ($1, $2, $3, $4, $5, $6) \
             ON CONFLICT (chain_id, id) DO NOTHING",
        )
        .bind(input.id.as_slice())
        .bind(int(input.chain_id))
        .bind(input.contract.as_slice())
        .bind(input.user.as_slice())
        .bind(&input.ciphertext)
        .bind(int(now))
        .execute(&mut *tx)
        .await?
        .rows_affected();
        if inserted == 1 {
            for (position, handle) in stored.handles.iter().enumerate() {
                sqlx::query("INSERT INTO input_handles (handle, chain_id, input_id, position) VALUES ($1, $2, $3, $4)")
                    .bind(handle.as_slice())
                    .bind(int(input.chain_id))
                    .bind(input.id.as_slice())
                    .bind(int(position as u64))
                    .execute(&mut *tx)
                    .await?;
            }
            sqlx::query("UPDATE operations SET state = 'pending', failure = NULL WHERE state = 'missing'")
                .execute(&mut *tx)
                .await?;
        }
        tx.commit().await?;
        Ok(())
    }

    /// The input with this id on this chain.
    ///
    /// # Errors
    /// Of the database.
    pub async fn input(&self, chain_id: u64, id: B256) -> Result<Option<StoredInput>> {
        let Some(row) =
            sqlx::query("SELECT id, chain_id, contract, user, ciphertext FROM inputs WHERE chain_id = $1 AND id = $2")
                .bind(int(chain_id))
                .bind(id.as_slice())
                .fetch_optional(&self.reader)
                .await?
        else {
            return Ok(None);
        };
        let input = Input {
            id: get_b256(&row, "id")?,
            chain_id: get_u64(&row, "chain_id")?,
            contract: get_address(&row, "contract")?,
            user: get_address(&row, "user")?,
            ciphertext: row.try_get("ciphertext")?,
        };
        let rows =
            sqlx::query("SELECT handle FROM input_handles WHERE chain_id = $1 AND input_id = $2 ORDER BY position")
                .bind(int(chain_id))
                .bind(id.as_slice())
                .fetch_all(&self.reader)
                .await?;
        let handles = rows.iter().map(|row| get_b256(row, "handle")).collect::<Result<_>>()?;
        Ok(Some(StoredInput { input, handles }))
    }

    /// The chain and id of the input that `handle` is a member of.
    ///
    /// # Errors
    /// Of the database.
    pub async fn input_of(&self, handle: B256) -> Result<Option<(u64, B256)>> {
        let row = sqlx::query("SELECT chain_id, input_id FROM input_handles WHERE handle = $1")
            .bind(handle.as_slice())
            .fetch_optional(&self.reader)
            .await?;
        row.map(|row| Ok((get_u64(&row, "chain_id")?, get_b256(&row, "input_id")?))).transpose()
    }
}
