//! Own transactions: stored, signed, before they are sent.

use std::str::FromStr;

use alloy_primitives::{Address, B256};
use sqlx::{Row, SqliteConnection, sqlite::SqliteRow};

use super::{
    Store,
    commitments::{RETRY, fail_in},
    get_address, get_optional_b256, get_u64, int,
};
use crate::error::{Error, Result};

/// State of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutboxState {
    /// Signed, perhaps sent, not seen in a block.
    Open,
    /// In a block, successful.
    Mined,
    /// In a block, without effect: the call failed, or only an empty transaction with its nonce was mined.
    Reverted,
    /// In a block that is final.
    Final,
    /// Its nonce went to a transaction that is not ours.
    Displaced,
}

impl OutboxState {
    const NAMES: [(Self, &'static str); 5] = [
        (Self::Open, "open"),
        (Self::Mined, "mined"),
        (Self::Reverted, "reverted"),
        (Self::Final, "final"),
        (Self::Displaced, "displaced"),
    ];

    /// Name in the database.
    #[must_use]
    pub fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(state, _)| *state == self).map_or("open", |(_, name)| name)
    }

    fn from_name(name: &str) -> Option<Self> {
        Self::NAMES.iter().find(|(_, known)| *known == name).map(|(state, _)| *state)
    }
}

/// One signed version of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// Its hash.
    pub hash: B256,
    /// The signed bytes.
    pub raw: Vec<u8>,
    /// Most paid per gas, wei.
    pub max_fee: u128,
    /// Most paid to the proposer per gas, wei.
    pub priority_fee: u128,
    /// When it was signed, seconds since 1970.
    pub signed_at: u64,
    /// It only fills the nonce: an empty transaction to ourselves.
    pub fills: bool,
}

/// A transaction, all of its signed versions, and how far it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutboxEntry {
    /// Row id; 0 before it is stored.
    pub id: i64,
    /// The chain.
    pub chain_id: u64,
    /// The account that pays.
    pub sender: Address,
    /// Its nonce.
    pub nonce: u64,
    /// The contract called.
    pub destination: Address,
    /// The call.
    pub calldata: Vec<u8>,
    /// Gas limit.
    pub gas_limit: u64,
    /// How far it is.
    pub state: OutboxState,
    /// The block it is in, when it is in one.
    pub block: Option<(u64, B256)>,
    /// Signed versions, oldest first.
    pub attempts: Vec<Attempt>,
}

impl Store {
    /// Stores a new transaction with its first signed version and ties `handles` to it. Returns its id.
    ///
    /// # Errors
    /// Of the database.
    pub async fn insert_transaction(&self, entry: &OutboxEntry, handles: &[B256]) -> Result<i64> {
        let mut tx = self.begin().await?;
        let id: i64 = sqlx::query_scalar(
            "INSERT INTO outbox (chain_id, sender, nonce, destination, calldata, gas_limit, state) \
             VALUES ($1, $2, $3, $4, $5, $6, 'open') RETURNING id",
        )
        .bind(int(entry.chain_id))
        .bind(entry.sender.as_slice())
        .bind(int(entry.nonce))
        .bind(entry.destination.as_slice())
        .bind(&entry.calldata)
        .bind(int(entry.gas_limit))
        .fetch_one(&mut *tx)
        .await?;
        for attempt in &entry.attempts {
            put_attempt(&mut tx, id, attempt).await?;
        }
        for handle in handles {
            sqlx::query("UPDATE submissions SET outbox_id = $1, attempts = attempts + 1 WHERE handle = $2")
                .bind(id)
                .bind(handle.as_slice())
                .execute(&mut *tx)
                .await?;
        }
        self.commit(tx, "insert_transaction").await?;
        Ok(id)
    }

    /// Stores another signed version of a transaction.
    ///
    /// # Errors
    /// Of the database.
    pub async fn insert_attempt(&self, outbox_id: i64, attempt: &Attempt) -> Result<()> {
        let mut tx = self.begin().await?;
        put_attempt(&mut tx, outbox_id, attempt).await?;
        self.commit(tx, "insert_attempt").await?;
        Ok(())
    }

    /// Transactions of one chain that are not settled for good, by nonce.
    ///
    /// # Errors
    /// Of the database.
    pub async fn unsettled_transactions(&self, chain_id: u64) -> Result<Vec<OutboxEntry>> {
        let rows = sqlx::query(
            "SELECT id, chain_id, sender, nonce, destination, calldata, gas_limit, state, block_number, block_hash \
             FROM outbox WHERE chain_id = $1 AND state IN ('open', 'mined', 'reverted') ORDER BY nonce, id",
        )
        .bind(int(chain_id))
        .fetch_all(&self.reader)
        .await?;
        let mut entries = Vec::with_capacity(rows.len());
        for row in &rows {
            let mut entry = read_entry(row)?;
            let attempts = sqlx::query(
                "SELECT hash, raw, max_fee, priority_fee, signed_at, fills FROM attempts WHERE outbox_id = $1 ORDER BY rowid",
            )
            .bind(entry.id)
            .fetch_all(&self.reader)
            .await?;
            entry.attempts = attempts.iter().map(read_attempt).collect::<Result<_>>()?;
            entries.push(entry);
        }
        Ok(entries)
    }

    /// Records where a transaction is now. When it ended without effect, its commitments are free for another one: those of a
    /// displaced one at once, those of a reverted one a little later and in smaller company, with `reason`.
    ///
    /// # Errors
    /// Of the database.
    pub async fn move_transaction(
        &self,
        id: i64,
        state: OutboxState,
        block: Option<(u64, B256)>,
        reason: &str,
        now: u64,
    ) -> Result<()> {
        let mut tx = self.begin().await?;
        sqlx::query("UPDATE outbox SET state = $1, block_number = $2, block_hash = $3 WHERE id = $4")
            .bind(state.name())
            .bind(block.map(|(number, _)| int(number)))
            .bind(block.map(|(_, hash)| hash.to_vec()))
            .bind(id)
            .execute(&mut *tx)
            .await?;
        match state {
            OutboxState::Mined => {
                sqlx::query("UPDATE submissions SET failures = 0, setbacks = 0, failure = NULL WHERE outbox_id = $1")
                    .bind(id)
                    .execute(&mut *tx)
                    .await?;
            }
            OutboxState::Reverted => free_reverted(&mut tx, id, reason, now).await?,
            OutboxState::Displaced => {
                sqlx::query("UPDATE submissions SET outbox_id = NULL, not_before = $1 WHERE outbox_id = $2")
                    .bind(int(now))
                    .bind(id)
                    .execute(&mut *tx)
                    .await?;
            }
            OutboxState::Open | OutboxState::Final => {}
        }
        self.commit(tx, "move_transaction").await?;
        Ok(())
    }

    /// The highest nonce that a transaction of `sender` holds which was not displaced.
    ///
    /// # Errors
    /// Of the database.
    pub async fn highest_nonce(&self, chain_id: u64, sender: Address) -> Result<Option<u64>> {
        let row = sqlx::query(
            "SELECT nonce FROM outbox WHERE chain_id = $1 AND sender = $2 AND state != 'displaced' \
             ORDER BY nonce DESC LIMIT 1",
        )
        .bind(int(chain_id))
        .bind(sender.as_slice())
        .fetch_optional(&self.reader)
        .await?;
        row.map(|row| get_u64(&row, "nonce")).transpose()
    }
}

/// One that was alone is to blame; several are tried again in halves.
async fn free_reverted(tx: &mut SqliteConnection, id: i64, reason: &str, now: u64) -> Result<()> {
    let rows = sqlx::query("SELECT handle FROM submissions WHERE outbox_id = $1").bind(id).fetch_all(&mut *tx).await?;
    if let [alone] = rows.as_slice() {
        fail_in(tx, super::get_b256(alone, "handle")?, reason, now).await?;
    }
    sqlx::query(
        "UPDATE submissions SET outbox_id = NULL, setbacks = setbacks + 1, failure = $1, \
         not_before = MAX(not_before, $2) WHERE outbox_id = $3",
    )
    .bind(reason)
    .bind(int(now + RETRY))
    .bind(id)
    .execute(tx)
    .await?;
    Ok(())
}

async fn put_attempt(tx: &mut SqliteConnection, outbox_id: i64, attempt: &Attempt) -> Result<()> {
    sqlx::query(
        "INSERT INTO attempts (hash, outbox_id, raw, max_fee, priority_fee, signed_at, fills) \
         VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (hash) DO NOTHING",
    )
    .bind(attempt.hash.as_slice())
    .bind(outbox_id)
    .bind(&attempt.raw)
    .bind(attempt.max_fee.to_string())
    .bind(attempt.priority_fee.to_string())
    .bind(int(attempt.signed_at))
    .bind(attempt.fills)
    .execute(tx)
    .await?;
    Ok(())
}

fn read_entry(row: &SqliteRow) -> Result<OutboxEntry> {
    let number: Option<i64> = row.try_get("block_number")?;
    let hash = get_optional_b256(row, "block_hash")?;
    Ok(OutboxEntry {
        id: row.try_get("id")?,
        chain_id: get_u64(row, "chain_id")?,
        sender: get_address(row, "sender")?,
        nonce: get_u64(row, "nonce")?,
        destination: get_address(row, "destination")?,
        calldata: row.try_get("calldata")?,
        gas_limit: get_u64(row, "gas_limit")?,
        state: OutboxState::from_name(row.try_get("state")?).ok_or(Error::Corrupt { column: "state" })?,
        block: number.and_then(|number| u64::try_from(number).ok()).zip(hash),
        attempts: Vec::new(),
    })
}

fn read_attempt(row: &SqliteRow) -> Result<Attempt> {
    let fee = |column: &'static str| -> Result<u128> {
        u128::from_str(row.try_get(column)?).map_err(|_| Error::Corrupt { column })
    };
    Ok(Attempt {
        hash: super::get_b256(row, "hash")?,
        raw: row.try_get("raw")?,
        max_fee: fee("max_fee")?,
        priority_fee: fee("priority_fee")?,
        signed_at: get_u64(row, "signed_at")?,
        fills: row.try_get("fills")?,
    })
}
