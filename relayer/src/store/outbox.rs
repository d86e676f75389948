//! The outbox: nonces, transactions and everything that was ever signed for them.

use std::collections::BTreeMap;

use alloy_primitives::{Address, B256, Bytes, U256};

use super::jobs::shift_in;
use super::row::{Columns, int};
use super::{Store, Tx, Write};
use crate::clock::now_ms;
use crate::error::Error;
use crate::state::State;

/// What a transaction is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Posts an answer.
    Fulfil,
    /// Uses up a nonce and does nothing.
    Noop,
}

impl Purpose {
    /// Name in the database and the metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Purpose::Fulfil => "fulfil",
            Purpose::Noop => "noop",
        }
    }

    fn parse(text: &str) -> Result<Self, Error> {
        match text {
            "fulfil" => Ok(Purpose::Fulfil),
            "noop" => Ok(Purpose::Noop),
            other => Err(Error::corrupt(format!("purpose is {other:?}"))),
        }
    }
}

/// State of a nonce's transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TxState {
    /// Stored, and perhaps broadcast.
    Pending,
    /// One of its hashes is in a block.
    Mined,
    /// That block is deep enough.
    Confirmed,
    /// The nonce was used by a transaction that is not ours.
    Lost,
}

impl TxState {
    /// Name in the database.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            TxState::Pending => "pending",
            TxState::Mined => "mined",
            TxState::Confirmed => "confirmed",
            TxState::Lost => "lost",
        }
    }
}

/// A signed transaction, before it is stored.
#[derive(Debug, Clone)]
pub struct NewAttempt {
    /// Hash.
    pub hash: B256,
    /// What it is for.
    pub purpose: Purpose,
    /// Signed bytes.
    pub raw: Bytes,
    /// Most that is paid per gas, in wei.
    pub max_fee: u128,
    /// Tip per gas, in wei.
    pub priority_fee: u128,
}

/// A signed transaction as it is stored.
#[derive(Debug, Clone)]
pub struct Attempt {
    /// What was signed.
    pub signed: NewAttempt,
    /// When it was signed, milliseconds.
    pub created_at: i64,
    /// When it was last broadcast, milliseconds.
    pub sent_at: Option<i64>,
    /// What the node said against it last.
    pub error: Option<String>,
}

/// A pending transaction with all its attempts.
#[derive(Debug, Clone)]
pub struct Outgoing {
    /// Nonce.
    pub nonce: u64,
    /// The job that it is for.
    pub job: Option<B256>,
    /// State of that job, and since when.
    pub job_state: Option<(State, i64)>,
    /// What fulfilled that job, if anything.
    pub fulfilled_tx: Option<B256>,
    /// What it is for now.
    pub purpose: Purpose,
    /// Contract.
    pub target: Address,
    /// Calldata.
    pub data: Bytes,
    /// Gas limit.
    pub gas_limit: u64,
    /// Everything signed for this nonce, oldest first.
    pub attempts: Vec<Attempt>,
}

/// What a receipt said.
#[derive(Debug, Clone, Copy)]
pub struct Mined {
    /// Transaction.
    pub hash: B256,
    /// Block number.
    pub block: u64,
    /// Block hash.
    pub block_hash: B256,
    /// Whether it succeeded.
    pub succeeded: bool,
    /// Gas used.
    pub gas_used: u64,
    /// Price paid per gas, in wei.
    pub gas_price: u128,
}

/// What a new transaction does.
#[derive(Debug, Clone)]
pub struct NewTransaction {
    /// The job that it is for.
    pub job: Option<B256>,
    /// Contract.
    pub target: Address,
    /// Calldata.
    pub data: Bytes,
    /// Gas limit.
    pub gas_limit: u64,
}

/// Where a job stands before its transaction is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// The nonce under which it is on its way: pending, or in a block and successful.
    pub under_way: Option<u64>,
    /// What the job pays, in wei.
    pub fee: U256,
}

/// Whose nonces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Account {
    /// Chain id.
    pub chain: u64,
    /// Address.
    pub sender: Address,
}

impl Store {
    /// Next free nonce, if any was ever reserved.
    ///
    /// # Errors
    /// Database.
    pub async fn next_nonce(&self, account: Account) -> Result<Option<u64>, Error> {
        sqlx::query("SELECT next FROM nonces WHERE chain = $1 AND sender = $2")
            .bind(int(account.chain))
            .bind(account.sender.to_vec())
            .fetch_optional(&self.read)
            .await?
            .map(|row| row.u64("next"))
            .transpose()
    }

    /// The next free nonce is at least `next`: what the chain has counted is never reserved again.
    ///
    /// # Errors
    /// Database.
    pub async fn raise_nonce(&self, account: Account, next: u64) -> Result<(), Error> {
        self.once(
            Write::RaiseNonce,
            sqlx::query(
                "INSERT INTO nonces (chain, sender, next) VALUES ($1, $2, $3) \
                 ON CONFLICT (chain, sender) DO UPDATE SET next = $3 WHERE nonces.next < $3",
            )
            .bind(int(account.chain))
            .bind(account.sender.to_vec())
            .bind(int(next)),
        )
        .await?;
        Ok(())
    }

    /// Reserves nonces from `first` on, stores the signed transactions, and moves their jobs from `quorum` to `submitting`:
    /// all or nothing. Only after this may they be broadcast.
    ///
    /// # Errors
    /// [`Error::NonceTaken`] if `first` is not the next one, [`Error::Moved`] if one of the jobs is not at `quorum`, or on its
    /// way already: a reorganisation may have brought back what was settled.
    pub async fn reserve(
        &self,
        account: Account,
        first: u64,
        transactions: &[(NewTransaction, NewAttempt)],
    ) -> Result<(), Error> {
        let mut tx = self.begin(Write::Reserve).await?;
        let taken = sqlx::query("UPDATE nonces SET next = next + $4 WHERE chain = $1 AND sender = $2 AND next = $3")
            .bind(int(account.chain))
            .bind(account.sender.to_vec())
            .bind(int(first))
            .bind(int(transactions.len() as u64))
            .execute(&mut *tx)
            .await?;
        if taken.rows_affected() != 1 {
            return Err(Error::NonceTaken(first));
        }
        for (nonce, (new, attempt)) in (first..).zip(transactions) {
            if let Some(job) = new.job
                && is_under_way(&mut tx, job).await?
            {
                return Err(Error::Moved(job));
            }
            insert_transaction(&mut tx, account, nonce, new, attempt.purpose).await?;
            insert_attempt(&mut tx, account, nonce, attempt, now_ms()).await?;
            if let Some(job) = new.job {
                let detail = format!("nonce {nonce}, transaction {}", attempt.hash);
                if !shift_in(&mut tx, job, State::Quorum, State::Submitting, "", &detail).await? {
                    return Err(Error::Moved(job));
                }
            }
        }
        tx.commit().await?;
        for job in transactions.iter().filter_map(|(new, _)| new.job) {
            self.metrics.transition(State::Submitting, 1);
            self.trace(job, State::Submitting);
        }
        Ok(())
    }

    /// Closes a gap: stores a no-op for a reserved nonce that no row holds, or one that was given up as lost.
    ///
    /// # Errors
    /// Database.
    pub async fn fill_gap(
        &self,
        account: Account,
        nonce: u64,
        attempt: &NewAttempt,
        gas_limit: u64,
    ) -> Result<(), Error> {
        let mut tx = self.begin(Write::FillGap).await?;
        let lost = sqlx::query(
            "UPDATE transactions SET state = 'pending', purpose = 'noop' \
             WHERE chain = $1 AND sender = $2 AND nonce = $3 AND state = 'lost'",
        )
        .bind(int(account.chain))
        .bind(account.sender.to_vec())
        .bind(int(nonce))
        .execute(&mut *tx)
        .await?;
        if lost.rows_affected() == 0 {
            let new = NewTransaction { job: None, target: account.sender, data: Bytes::new(), gas_limit };
            insert_transaction(&mut tx, account, nonce, &new, Purpose::Noop).await?;
        }
        insert_attempt(&mut tx, account, nonce, attempt, now_ms()).await?;
        tx.commit().await?;
        Ok(())
    }

    /// Stores one more signed transaction for a nonce, in place of `known`. If it turns the nonce into a no-op, a job that
    /// waits for it goes back to `quorum`, with `detail`, to be tried again not before `retry_at`. `false`: `known` is not
    /// the last one any more, or none is needed; nothing has changed.
    ///
    /// # Errors
    /// Database.
    pub async fn add_attempt(
        &self,
        account: Account,
        nonce: u64,
        known: B256,
        attempt: &NewAttempt,
        detail: &str,
        retry_at: i64,
    ) -> Result<bool, Error> {
        let mut tx = self.begin(Write::AddAttempt).await?;
        // Also takes the row's lock, so that what is read next is the last word.
        let pending = sqlx::query(
            "UPDATE transactions SET purpose = $1 WHERE chain = $2 AND sender = $3 AND nonce = $4 AND state = 'pending'",
        )
        .bind(attempt.purpose.as_str())
        .bind(int(account.chain))
        .bind(account.sender.to_vec())
        .bind(int(nonce))
        .execute(&mut *tx)
        .await?;
        let last = sqlx::query(
            "SELECT hash, created_at FROM attempts WHERE chain = $1 AND sender = $2 AND nonce = $3 \
             ORDER BY created_at DESC, hash DESC LIMIT 1",
        )
        .bind(int(account.chain))
        .bind(account.sender.to_vec())
        .bind(int(nonce))
        .fetch_optional(&mut *tx)
        .await?;
        let Some(last) = last.filter(|_| pending.rows_affected() == 1) else { return Ok(false) };
        if last.hash("hash")? != known {
            return Ok(false);
        }
        // Attempts are told apart by their time, whatever the clock does.
        let at = now_ms().max(last.i64("created_at")?.saturating_add(1));
        insert_attempt(&mut tx, account, nonce, attempt, at).await?;
        if attempt.purpose == Purpose::Noop {
            back_to_quorum(&mut tx, account, nonce, detail, retry_at).await?;
        }
        tx.commit().await?;
        Ok(true)
    }

    /// A hash was broadcast, or the node has it already.
    ///
    /// # Errors
    /// Database.
    pub async fn sent(&self, hash: B256) -> Result<(), Error> {
        self.once(
            Write::Sent,
            sqlx::query("UPDATE attempts SET sent_at = $1, error = NULL WHERE hash = $2")
                .bind(now_ms())
                .bind(hash.to_vec()),
        )
        .await?;
        Ok(())
    }

    /// A hash was not taken by the node.
    ///
    /// # Errors
    /// Database.
    pub async fn not_sent(&self, hash: B256, error: &str) -> Result<(), Error> {
        self.once(
            Write::NotSent,
            sqlx::query("UPDATE attempts SET error = $1 WHERE hash = $2").bind(error.to_owned()).bind(hash.to_vec()),
        )
        .await?;
        Ok(())
    }

    /// One of a nonce's hashes is in a block. If it failed there, or was a no-op, its job goes back to `quorum`, not before
    /// `retry_at`.
    ///
    /// # Errors
    /// Database.
    pub async fn mined(&self, account: Account, nonce: u64, mined: &Mined, retry_at: i64) -> Result<(), Error> {
        let mut tx = self.begin(Write::Mined).await?;
        let purpose = sqlx::query("SELECT purpose FROM attempts WHERE hash = $1")
            .bind(mined.hash.to_vec())
            .fetch_one(&mut *tx)
            .await?
            .text("purpose")?;
        let settled = sqlx::query(
            "UPDATE transactions SET state = 'mined', purpose = $10, mined_hash = $1, mined_block = $2, \
             mined_block_hash = $3, succeeded = $4, gas_used = $5, gas_price = $6 \
             WHERE chain = $7 AND sender = $8 AND nonce = $9 AND state = 'pending'",
        )
        .bind(mined.hash.to_vec())
        .bind(int(mined.block))
        .bind(mined.block_hash.to_vec())
        .bind(i64::from(mined.succeeded))
        .bind(int(mined.gas_used))
        .bind(mined.gas_price.to_string())
        .bind(int(account.chain))
        .bind(account.sender.to_vec())
        .bind(int(nonce))
        .bind(purpose.clone())
        .execute(&mut *tx)
        .await?;
        if settled.rows_affected() == 0 {
            // Somebody else has seen the receipt, or the block is gone already.
            return Ok(());
        }
        if !mined.succeeded {
            let detail = format!("transaction {} was reverted", mined.hash);
            back_to_quorum(&mut tx, account, nonce, &detail, retry_at).await?;
        } else if Purpose::parse(&purpose)? == Purpose::Noop {
            back_to_quorum(&mut tx, account, nonce, "its nonce was used by a no-op", retry_at).await?;
        }
        tx.commit().await?;
        Ok(())
    }

    /// The nonce was used by a transaction that is not ours; its job goes back to `quorum`.
    ///
    /// # Errors
    /// Database.
    pub async fn lost(&self, account: Account, nonce: u64) -> Result<(), Error> {
        let mut tx = self.begin(Write::Lost).await?;
        let lost = sqlx::query(
            "UPDATE transactions SET state = 'lost' WHERE chain = $1 AND sender = $2 AND nonce = $3 AND state = 'pending'",
        )
        .bind(int(account.chain))
        .bind(account.sender.to_vec())
        .bind(int(nonce))
        .execute(&mut *tx)
        .await?;
        if lost.rows_affected() == 0 {
            return Ok(());
        }
        back_to_quorum(&mut tx, account, nonce, "its nonce was used by somebody else", now_ms()).await?;
        tx.commit().await?;
        Ok(())
    }

    /// Confirms what is deep enough, and puts back to pending what is no longer where its receipt said.
    ///
    /// # Errors
    /// Database.
    pub async fn confirm(&self, account: Account, depth: u64) -> Result<(), Error> {
        const DEEP: &str = "chain = $1 AND sender = $2 AND state = 'mined' AND mined_block + $3 <= \
             (SELECT number FROM cursors WHERE cursors.chain = $1)";
        // A block that we no longer keep is finalized, and was compared while we kept it.
        const ELSEWHERE: &str = " AND EXISTS (SELECT 1 FROM blocks b WHERE b.chain = $1 \
             AND b.number = transactions.mined_block AND b.hash <> transactions.mined_block_hash)";
        for sql in [
            [
                "UPDATE transactions SET state = 'pending', mined_hash = NULL, mined_block = NULL, \
                 mined_block_hash = NULL, succeeded = NULL, gas_used = NULL, gas_price = NULL WHERE ",
                DEEP,
                ELSEWHERE,
            ]
            .concat(),
            ["UPDATE transactions SET state = 'confirmed' WHERE ", DEEP].concat(),
        ] {
            self.once(
                Write::Confirm,
                sqlx::query(sqlx::AssertSqlSafe(sql))
                    .bind(int(account.chain))
                    .bind(account.sender.to_vec())
                    .bind(int(depth)),
            )
            .await?;
        }
        Ok(())
    }

    /// What matters before a job's transaction is made.
    ///
    /// # Errors
    /// Database.
    pub async fn standing(&self, job: B256) -> Result<Standing, Error> {
        let row = sqlx::query(
            "SELECT (SELECT nonce FROM transactions WHERE job = $1 AND purpose = 'fulfil' AND (state = 'pending' \
             OR (state IN ('mined', 'confirmed') AND succeeded = 1)) ORDER BY nonce LIMIT 1) AS under_way, \
             (SELECT fee FROM jobs WHERE id = $1) AS fee",
        )
        .bind(job.to_vec())
        .fetch_one(&self.read)
        .await?;
        let fee = row.text_opt("fee")?.map(|fee| fee.parse().map_err(Error::corrupt)).transpose()?;
        Ok(Standing { under_way: row.u64_opt("under_way")?, fee: fee.unwrap_or_default() })
    }

    /// Number of pending transactions.
    ///
    /// # Errors
    /// Database.
    pub async fn pending_count(&self, account: Account) -> Result<u64, Error> {
        sqlx::query("SELECT COUNT(*) AS n FROM transactions WHERE chain = $1 AND sender = $2 AND state = 'pending'")
            .bind(int(account.chain))
            .bind(account.sender.to_vec())
            .fetch_one(&self.read)
            .await?
            .u64("n")
    }

    /// All nonces from `first` on that have a row, and were not given up: what the chain has not counted is not lost.
    ///
    /// # Errors
    /// Database.
    pub async fn nonces_from(&self, account: Account, first: u64) -> Result<Vec<u64>, Error> {
        sqlx::query("SELECT nonce FROM transactions WHERE chain = $1 AND sender = $2 AND nonce >= $3 AND state <> 'lost' ORDER BY nonce")
            .bind(int(account.chain))
            .bind(account.sender.to_vec())
            .bind(int(first))
            .fetch_all(&self.read)
            .await?
            .iter()
            .map(|row| row.u64("nonce"))
            .collect()
    }

    /// All pending transactions with their attempts, by nonce.
    ///
    /// # Errors
    /// Database.
    pub async fn pending(&self, account: Account) -> Result<Vec<Outgoing>, Error> {
        let rows = sqlx::query(
            "SELECT t.nonce, t.job, t.purpose, t.target, t.data, t.gas_limit, j.state AS job_state, j.since AS job_since, \
             j.fulfilled_tx FROM transactions t LEFT JOIN jobs j ON j.id = t.job \
             WHERE t.chain = $1 AND t.sender = $2 AND t.state = 'pending' ORDER BY t.nonce",
        )
        .bind(int(account.chain))
        .bind(account.sender.to_vec())
        .fetch_all(&self.read)
        .await?;
        let mut pending = BTreeMap::new();
        for row in rows {
            let job_state = match (row.text_opt("job_state")?, row.i64_opt("job_since")?) {
                (Some(state), Some(since)) => {
                    Some((State::parse(&state).ok_or_else(|| Error::corrupt("job state"))?, since))
                }
                _ => None,
            };
            let outgoing = Outgoing {
                nonce: row.u64("nonce")?,
                job: row.hash_opt("job")?,
                job_state,
                fulfilled_tx: row.hash_opt("fulfilled_tx")?,
                purpose: Purpose::parse(&row.text("purpose")?)?,
                target: row.address("target")?,
                data: row.blob("data")?.into(),
                gas_limit: row.u64("gas_limit")?,
                attempts: Vec::new(),
            };
            pending.insert(outgoing.nonce, outgoing);
        }
        let Some((first, _)) = pending.first_key_value() else { return Ok(Vec::new()) };
        // From the first of them on, by index; the few of them that are not pending any more are left out below.
        let rows = sqlx::query(
            "SELECT nonce, hash, purpose, raw, max_fee, priority_fee, created_at, sent_at, error FROM attempts \
             WHERE chain = $1 AND sender = $2 AND nonce >= $3 ORDER BY created_at, hash",
        )
        .bind(int(account.chain))
        .bind(account.sender.to_vec())
        .bind(int(*first))
        .fetch_all(&self.read)
        .await?;
        for row in rows {
            let attempt = Attempt {
                signed: NewAttempt {
                    hash: row.hash("hash")?,
                    purpose: Purpose::parse(&row.text("purpose")?)?,
                    raw: row.blob("raw")?.into(),
                    max_fee: row.u128("max_fee")?,
                    priority_fee: row.u128("priority_fee")?,
                },
                created_at: row.i64("created_at")?,
                sent_at: row.i64_opt("sent_at")?,
                error: row.text_opt("error")?,
            };
            if let Some(outgoing) = pending.get_mut(&row.u64("nonce")?) {
                outgoing.attempts.push(attempt);
            }
        }
        Ok(pending.into_values().collect())
    }
}

async fn is_under_way(tx: &mut Tx, job: B256) -> Result<bool, Error> {
    let row = sqlx::query(
        "SELECT 1 AS found FROM transactions WHERE job = $1 AND purpose = 'fulfil' \
         AND (state = 'pending' OR (state IN ('mined', 'confirmed') AND succeeded = 1)) LIMIT 1",
    )
    .bind(job.to_vec())
    .fetch_optional(&mut **tx)
    .await?;
    Ok(row.is_some())
}

async fn insert_transaction(
    tx: &mut Tx,
    account: Account,
    nonce: u64,
    new: &NewTransaction,
    purpose: Purpose,
) -> Result<(), Error> {
    sqlx::query(
        "INSERT INTO transactions (chain, sender, nonce, job, purpose, state, target, data, gas_limit, created_at) \
         VALUES ($1, $2, $3, $4, $5, 'pending', $6, $7, $8, $9)",
    )
    .bind(int(account.chain))
    .bind(account.sender.to_vec())
    .bind(int(nonce))
    .bind(new.job.map(|job| job.to_vec()))
    .bind(purpose.as_str())
    .bind(new.target.to_vec())
    .bind(new.data.to_vec())
    .bind(int(new.gas_limit))
    .bind(now_ms())
    .execute(&mut **tx)
    .await?;
    Ok(())
}

async fn insert_attempt(tx: &mut Tx, account: Account, nonce: u64, attempt: &NewAttempt, at: i64) -> Result<(), Error> {
    sqlx::query(
        "INSERT INTO attempts (hash, chain, sender, nonce, purpose, raw, max_fee, priority_fee, created_at) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT (hash) DO NOTHING",
    )
    .bind(attempt.hash.to_vec())
    .bind(int(account.chain))
    .bind(account.sender.to_vec())
    .bind(int(nonce))
    .bind(attempt.purpose.as_str())
    .bind(attempt.raw.to_vec())
    .bind(attempt.max_fee.to_string())
    .bind(attempt.priority_fee.to_string())
    .bind(at)
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Sends the job of a nonce back, unless another of its transactions is on its way or has done it.
pub(super) async fn back_to_quorum(
    tx: &mut Tx,
    account: Account,
    nonce: u64,
    detail: &str,
    retry_at: i64,
) -> Result<(), Error> {
    let row = sqlx::query(
        "SELECT t.job FROM transactions t WHERE t.chain = $1 AND t.sender = $2 AND t.nonce = $3 AND NOT EXISTS \
         (SELECT 1 FROM transactions o WHERE o.job = t.job AND o.purpose = 'fulfil' \
         AND NOT (o.chain = t.chain AND o.sender = t.sender AND o.nonce = t.nonce) \
         AND (o.state = 'pending' OR (o.state IN ('mined', 'confirmed') AND o.succeeded = 1)))",
    )
    .bind(int(account.chain))
    .bind(account.sender.to_vec())
    .bind(int(nonce))
    .fetch_optional(&mut **tx)
    .await?;
    let Some(job) = row.and_then(|row| row.hash_opt("job").transpose()).transpose()? else { return Ok(()) };
    if shift_in(tx, job, State::Submitting, State::Quorum, "", detail).await? {
        sqlx::query("UPDATE jobs SET next_attempt = $1 WHERE id = $2")
            .bind(retry_at)
            .bind(job.to_vec())
            .execute(&mut **tx)
            .await?;
    }
    Ok(())
}
