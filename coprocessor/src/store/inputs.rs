//! Encrypted inputs that were proven, before the chain has seen them.

use alloy_primitives::{Address, B256};
use sqlx::{Row, SqliteConnection};

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

/// Bytes that one handle of an input takes, indices included.
const HANDLE_BYTES: u64 = 160;

/// How much room inputs have that the chain has not used, in bytes on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InputRoom {
    /// All of them together.
    pub total: u64,
    /// Those of one client.
    pub client: u64,
}

/// What became of an input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admitted {
    /// It is stored, perhaps was before.
    Stored,
    /// The inputs of everybody that wait for the chain leave no room.
    NoRoom,
    /// Those of this client leave none.
    NoRoomForClient,
}

impl Store {
    /// Stores an input whose proof has been checked; nothing changes when it is there already. Operations that failed
    /// because an input was unknown are tried again.
    ///
    /// # Errors
    /// Of the database.
    pub async fn insert_input(
        &self,
        stored: &StoredInput,
        client: &[u8],
        room: &InputRoom,
        now: u64,
    ) -> Result<Admitted> {
        let input = &stored.input;
        let bytes = input.ciphertext.len() as u64 + HANDLE_BYTES * stored.handles.len() as u64;
        let mut tx = self.begin().await?;
        let admitted = admit(&mut tx, client, bytes, room).await?;
        if admitted != Admitted::Stored {
            return Ok(admitted);
        }
        let inserted = sqlx::query(
            "INSERT INTO inputs (id, chain_id, contract, user, ciphertext, accepted_at, bytes, client) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (chain_id, id) DO NOTHING",
        )
        .bind(input.id.as_slice())
        .bind(int(input.chain_id))
        .bind(input.contract.as_slice())
        .bind(input.user.as_slice())
        .bind(&input.ciphertext)
        .bind(int(now))
        .bind(int(bytes))
        .bind(client)
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
            // The chain may have been faster than the post.
            sqlx::query(
                "UPDATE inputs SET used = 1, client = NULL WHERE chain_id = $1 AND id = $2 AND EXISTS \
                 (SELECT 1 FROM input_handles AS h JOIN operations AS o ON o.handle = h.handle \
                  WHERE h.chain_id = $1 AND h.input_id = $2)",
            )
            .bind(int(input.chain_id))
            .bind(input.id.as_slice())
            .execute(&mut *tx)
            .await?;
            sqlx::query("UPDATE operations SET state = 'pending', failure = NULL WHERE state = 'missing'")
                .execute(&mut *tx)
                .await?;
        }
        self.commit(tx, "insert_input").await?;
        Ok(Admitted::Stored)
    }

    /// Whether a list of `bytes` bytes of `client` would find room now. Asked before its proof is checked, so that whoever finds
    /// none costs no core.
    ///
    /// # Errors
    /// Of the database.
    pub async fn input_room(&self, client: &[u8], bytes: u64, room: &InputRoom) -> Result<Admitted> {
        let mut connection = self.reader.acquire().await?;
        admit(&mut connection, client, bytes, room).await
    }

    /// Lets an input that was accepted before `before` wait from `now` on again: its poster is still there.
    ///
    /// # Errors
    /// Of the database.
    pub async fn renew_input(&self, chain_id: u64, id: B256, before: u64, now: u64) -> Result<()> {
        let mut tx = self.begin().await?;
        sqlx::query("UPDATE inputs SET accepted_at = $1 WHERE chain_id = $2 AND id = $3 AND accepted_at < $4")
            .bind(int(now))
            .bind(int(chain_id))
            .bind(id.as_slice())
            .bind(int(before))
            .execute(&mut *tx)
            .await?;
        self.commit(tx, "renew_input").await
    }

    /// Deletes inputs of one chain that have waited for it longer than `max_age` seconds, at most `limit` of them. Their time is
    /// over only once the chain has been followed to its end: while the follower is behind, a use may still be found.
    /// Returns how many were deleted.
    ///
    /// # Errors
    /// Of the database.
    pub async fn prune_inputs(&self, chain_id: u64, max_age: u64, now: u64, limit: usize) -> Result<usize> {
        // The oldest block kept is final: what was used up to it stays used.
        let followed: Option<i64> = sqlx::query_scalar("SELECT MIN(timestamp) FROM blocks WHERE chain_id = $1")
            .bind(int(chain_id))
            .fetch_one(&self.reader)
            .await?;
        let Some(followed) = followed.and_then(|seconds| u64::try_from(seconds).ok()) else { return Ok(0) };
        let Some(before) = followed.min(now).checked_sub(max_age) else { return Ok(0) };
        let mut tx = self.begin().await?;
        let rows = sqlx::query(
            "SELECT id FROM inputs WHERE chain_id = $1 AND used = 0 AND accepted_at < $2 ORDER BY accepted_at LIMIT $3",
        )
        .bind(int(chain_id))
        .bind(int(before))
        .bind(int(limit as u64))
        .fetch_all(&mut *tx)
        .await?;
        if rows.is_empty() {
            return Ok(0);
        }
        for row in &rows {
            let id = get_b256(row, "id")?;
            // A reorg may have left the expansion of a list that nobody uses any more.
            for statement in [
                "DELETE FROM ciphertexts WHERE handle IN \
                 (SELECT handle FROM input_handles WHERE chain_id = $1 AND input_id = $2)",
                "DELETE FROM input_handles WHERE chain_id = $1 AND input_id = $2",
                "DELETE FROM inputs WHERE chain_id = $1 AND id = $2",
            ] {
                sqlx::query(statement).bind(int(chain_id)).bind(id.as_slice()).execute(&mut *tx).await?;
            }
        }
        self.commit(tx, "prune_inputs").await?;
        Ok(rows.len())
    }

    /// Number and bytes of the inputs that the chain has not used, for the metrics.
    ///
    /// # Errors
    /// Of the database.
    pub async fn waiting_inputs(&self) -> Result<(i64, i64)> {
        let row = sqlx::query("SELECT COUNT(*) AS n, COALESCE(SUM(bytes), 0) AS bytes FROM inputs WHERE used = 0")
            .fetch_one(&self.reader)
            .await?;
        Ok((row.try_get("n")?, row.try_get("bytes")?))
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

/// Records that the chain uses the input which `handle` is a member of.
pub(super) async fn mark_used(tx: &mut SqliteConnection, handle: B256) -> Result<()> {
    sqlx::query(
        "UPDATE inputs SET used = 1, client = NULL WHERE (chain_id, id) = \
         (SELECT chain_id, input_id FROM input_handles WHERE handle = $1)",
    )
    .bind(handle.as_slice())
    .execute(tx)
    .await?;
    Ok(())
}

async fn admit(tx: &mut SqliteConnection, client: &[u8], bytes: u64, room: &InputRoom) -> Result<Admitted> {
    let own: i64 = sqlx::query_scalar("SELECT COALESCE(SUM(bytes), 0) FROM inputs WHERE used = 0 AND client = $1")
        .bind(client)
        .fetch_one(&mut *tx)
        .await?;
    let all: i64 =
        sqlx::query_scalar("SELECT COALESCE(SUM(bytes), 0) FROM inputs WHERE used = 0").fetch_one(&mut *tx).await?;
    let fits = |taken: i64, most: u64| int(bytes).saturating_add(taken) <= int(most);
    Ok(match (fits(own, room.client), fits(all, room.total)) {
        (_, false) => Admitted::NoRoom,
        (false, true) => Admitted::NoRoomForClient,
        (true, true) => Admitted::Stored,
    })
}
