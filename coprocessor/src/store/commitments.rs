//! From a wanted handle to a digest on the chain.

use alloy_primitives::B256;
use sqlx::{Row, SqliteConnection, sqlite::SqliteRow};

use super::{Store, get_b256, get_u64, int};
use crate::error::Result;

/// What this signer stands for: the object behind a handle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Commitment {
    /// The chain of the handle.
    pub chain_id: u64,
    /// The handle.
    pub handle: B256,
    /// The key that it is encrypted under.
    pub key_id: B256,
    /// SHA-256 of the ciphertext object.
    pub digest: B256,
}

/// How far a handle is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Never seen.
    Unknown,
    /// Seen, not computed yet.
    Pending,
    /// Its ciphertext is here.
    Computed,
    /// Its digest is on the chain.
    Committed,
    /// It can't be computed or squashed here, or the chain does not take its digest.
    Failed,
}

/// What is known of a handle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HandleStatus {
    /// How far it is.
    pub progress: Progress,
    /// Digest of its object, when squashed or committed.
    pub digest: Option<B256>,
    /// Why it failed, or what went wrong the last time while it is tried again.
    pub failure: Option<String>,
}

/// A squashing that failed so often is given up.
const SQUASH_ATTEMPTS: i64 = 5;
/// Seconds before a failed squashing is tried again; four times as long after each failure.
const SQUASH_PAUSE: u64 = 30;
/// Failures of a commitment, alone and in a row, from which on it counts as failed. It is still tried again.
const FAILED_AFTER: i64 = 3;
/// Seconds before a commitment that failed alone is tried again; twice as long after each failure …
pub(super) const RETRY: u64 = 15;
/// … but no longer than this.
const LONGEST_RETRY: u64 = 3_600;

impl Store {
    /// Computed handles that are wanted and have no commitment: those that somebody asked for before those that are only
    /// readable, oldest first; not those whose squashing failed and is not due again at `now`.
    ///
    /// # Errors
    /// Of the database.
    pub async fn ready_squashes(&self, now: u64, limit: usize) -> Result<Vec<(u64, B256)>> {
        let rows = sqlx::query(
            "SELECT w.chain_id, w.handle FROM wanted AS w JOIN operations AS o ON o.handle = w.handle \
             WHERE o.state = 'computed' AND NOT EXISTS (SELECT 1 FROM commitments AS c WHERE c.handle = w.handle) \
             AND NOT EXISTS (SELECT 1 FROM squash_failures AS f \
                             WHERE f.handle = w.handle AND (f.not_before > $1 OR f.attempts >= $2)) \
             ORDER BY w.asked DESC, o.seq LIMIT $3",
        )
        .bind(int(now))
        .bind(SQUASH_ATTEMPTS)
        .bind(int(limit as u64))
        .fetch_all(&self.reader)
        .await?;
        rows.iter().map(|row| Ok((get_u64(row, "chain_id")?, get_b256(row, "handle")?))).collect()
    }

    /// Records that a handle could not be squashed. Returns whether it is given up.
    ///
    /// # Errors
    /// Of the database.
    pub async fn fail_squash(&self, handle: B256, reason: &str, now: u64) -> Result<bool> {
        let mut tx = self.begin().await?;
        let attempts: i64 = sqlx::query_scalar(
            "INSERT INTO squash_failures (handle, attempts, not_before, reason) VALUES ($1, 1, $2, $3) \
             ON CONFLICT (handle) DO UPDATE SET attempts = attempts + 1, reason = $3, \
             not_before = $2 + $4 * ((1 << (2 * MIN(attempts, 8))) - 1) RETURNING attempts",
        )
        .bind(handle.as_slice())
        .bind(int(now + SQUASH_PAUSE))
        .bind(reason)
        .bind(int(SQUASH_PAUSE))
        .fetch_one(&mut *tx)
        .await?;
        self.commit(tx, "fail_squash").await?;
        Ok(attempts >= SQUASH_ATTEMPTS)
    }

    /// Records that this signer stands for the object. The first digest of a handle is the only one.
    ///
    /// # Errors
    /// Of the database.
    pub async fn insert_commitment(&self, commitment: &Commitment) -> Result<()> {
        let mut tx = self.begin().await?;
        sqlx::query(
            "INSERT INTO commitments (handle, chain_id, key_id, digest) VALUES ($1, $2, $3, $4) \
             ON CONFLICT (handle) DO NOTHING",
        )
        .bind(commitment.handle.as_slice())
        .bind(int(commitment.chain_id))
        .bind(commitment.key_id.as_slice())
        .bind(commitment.digest.as_slice())
        .execute(&mut *tx)
        .await?;
        sqlx::query("DELETE FROM squash_failures WHERE handle = $1")
            .bind(commitment.handle.as_slice())
            .execute(&mut *tx)
            .await?;
        sqlx::query("INSERT INTO submissions (handle) VALUES ($1) ON CONFLICT (handle) DO NOTHING")
            .bind(commitment.handle.as_slice())
            .execute(&mut *tx)
            .await?;
        self.commit(tx, "insert_commitment").await?;
        Ok(())
    }

    /// Commitments of one chain for one transaction at `now`: still wanted, not on the chain, in no transaction, not refused.
    /// At most `limit`, and half as many for each time that a transaction of theirs ended without effect: they are among
    /// their like until the one is alone that is to blame.
    ///
    /// # Errors
    /// Of the database.
    pub async fn ready_commitments(&self, chain_id: u64, now: u64, limit: usize) -> Result<Vec<Commitment>> {
        let rows = sqlx::query(
            "SELECT c.chain_id, c.handle, c.key_id, c.digest, s.setbacks FROM commitments AS c \
             JOIN submissions AS s ON s.handle = c.handle JOIN wanted AS w ON w.handle = c.handle \
             WHERE c.chain_id = $1 AND s.outbox_id IS NULL AND s.refused IS NULL AND s.not_before <= $2 \
             AND NOT EXISTS (SELECT 1 FROM committed AS d WHERE d.handle = c.handle) ORDER BY c.seq LIMIT $3",
        )
        .bind(int(chain_id))
        .bind(int(now))
        .bind(int(limit as u64))
        .fetch_all(&self.reader)
        .await?;
        let Some(first) = rows.first() else { return Ok(Vec::new()) };
        let setbacks = get_u64(first, "setbacks")?;
        let share = limit.checked_shr(u32::try_from(setbacks).unwrap_or(u32::MAX)).unwrap_or(0).max(1);
        let alike = |row: &&SqliteRow| get_u64(row, "setbacks").is_ok_and(|own| own == setbacks);
        rows.iter()
            .filter(alike)
            .take(share)
            .map(|row| {
                Ok(Commitment {
                    chain_id: get_u64(row, "chain_id")?,
                    handle: get_b256(row, "handle")?,
                    key_id: get_b256(row, "key_id")?,
                    digest: get_b256(row, "digest")?,
                })
            })
            .collect()
    }

    /// Takes a commitment out of submission for good, with the reason: the chain holds another digest.
    ///
    /// # Errors
    /// Of the database.
    pub async fn refuse_commitment(&self, handle: B256, reason: &str) -> Result<()> {
        let mut tx = self.begin().await?;
        sqlx::query("UPDATE submissions SET refused = $1 WHERE handle = $2")
            .bind(reason)
            .bind(handle.as_slice())
            .execute(&mut *tx)
            .await?;
        self.commit(tx, "refuse_commitment").await
    }

    /// Notes that the chain does not take a commitment by itself, and puts it off, each time for longer.
    ///
    /// # Errors
    /// Of the database.
    pub async fn fail_commitment(&self, handle: B256, reason: &str, now: u64) -> Result<()> {
        let mut tx = self.begin().await?;
        fail_in(&mut tx, handle, reason, now).await?;
        self.commit(tx, "fail_commitment").await
    }

    /// Puts off the submission of `handles` until `not_before` and counts the attempt.
    ///
    /// # Errors
    /// Of the database.
    pub async fn postpone_commitments(&self, handles: &[B256], not_before: u64) -> Result<()> {
        let mut tx = self.begin().await?;
        for handle in handles {
            sqlx::query("UPDATE submissions SET attempts = attempts + 1, not_before = $1 WHERE handle = $2")
                .bind(int(not_before))
                .bind(handle.as_slice())
                .execute(&mut *tx)
                .await?;
        }
        self.commit(tx, "postpone_commitments").await?;
        Ok(())
    }

    /// What is known of `handle`.
    ///
    /// # Errors
    /// Of the database.
    pub async fn handle_status(&self, handle: B256) -> Result<HandleStatus> {
        let row = sqlx::query(
            "SELECT (SELECT state FROM operations WHERE handle = $1) AS state, \
                    (SELECT failure FROM operations WHERE handle = $1) AS failure, \
                    EXISTS (SELECT 1 FROM input_handles WHERE handle = $1) AS is_input, \
                    (SELECT digest FROM committed WHERE handle = $1) AS committed, \
                    (SELECT digest FROM commitments WHERE handle = $1) AS signed, \
                    (SELECT COALESCE(refused, failure) FROM submissions WHERE handle = $1) AS unsent, \
                    EXISTS (SELECT 1 FROM submissions WHERE handle = $1 \
                            AND (refused IS NOT NULL OR failures >= $2)) AS unsendable, \
                    (SELECT reason FROM squash_failures WHERE handle = $1) AS unsquashed, \
                    EXISTS (SELECT 1 FROM squash_failures WHERE handle = $1 AND attempts >= $3) AS unsquashable",
        )
        .bind(handle.as_slice())
        .bind(FAILED_AFTER)
        .bind(SQUASH_ATTEMPTS)
        .fetch_one(&self.reader)
        .await?;
        let committed = super::get_optional_b256(&row, "committed")?;
        let progress = match row.try_get::<Option<&str>, _>("state")? {
            _ if committed.is_some() => Progress::Committed,
            Some("computed") if row.try_get("unsendable")? || row.try_get("unsquashable")? => Progress::Failed,
            Some("computed") => Progress::Computed,
            Some("pending") => Progress::Pending,
            Some(_) => Progress::Failed,
            None if row.try_get::<bool, _>("is_input")? => Progress::Pending,
            None => Progress::Unknown,
        };
        let signed = super::get_optional_b256(&row, "signed")?;
        let digest = committed.or(signed);
        // Once the chain has the digest, what went wrong before is over; unless it is another one.
        if committed.is_some() && signed.is_none_or(|signed| Some(signed) == committed) {
            return Ok(HandleStatus { progress, digest, failure: None });
        }
        let mut failure: Option<String> = None;
        for (column, what) in [("failure", ""), ("unsent", "not committed: "), ("unsquashed", "not squashed: ")] {
            let reason = row.try_get::<Option<&str>, _>(column)?;
            failure = failure.or_else(|| reason.map(|reason| format!("{what}{reason}")));
        }
        Ok(HandleStatus { progress, digest, failure })
    }

    /// Handles that are wanted and whose squashing was given up, and commitments that the chain does not take, for the metrics.
    ///
    /// # Errors
    /// Of the database.
    pub async fn failure_counts(&self) -> Result<(i64, i64)> {
        let squashes = sqlx::query_scalar("SELECT COUNT(*) FROM squash_failures WHERE attempts >= $1")
            .bind(SQUASH_ATTEMPTS)
            .fetch_one(&self.reader)
            .await?;
        let commitments =
            sqlx::query_scalar("SELECT COUNT(*) FROM submissions WHERE refused IS NOT NULL OR failures >= $1")
                .bind(FAILED_AFTER)
                .fetch_one(&self.reader)
                .await?;
        Ok((squashes, commitments))
    }

    /// Handles that are wanted but not on the chain yet, and commitments that the chain contradicts, for the metrics.
    ///
    /// # Errors
    /// Of the database.
    pub async fn commitment_counts(&self) -> Result<(i64, i64)> {
        let waiting = sqlx::query_scalar(
            "SELECT COUNT(*) FROM wanted AS w WHERE NOT EXISTS (SELECT 1 FROM committed AS d WHERE d.handle = w.handle)",
        )
        .fetch_one(&self.reader)
        .await?;
        let contradicted = sqlx::query_scalar(
            "SELECT COUNT(*) FROM commitments AS c JOIN committed AS d ON d.handle = c.handle WHERE d.digest != c.digest",
        )
        .fetch_one(&self.reader)
        .await?;
        Ok((waiting, contradicted))
    }
}

/// Notes one more failure of a commitment that stood alone.
pub(super) async fn fail_in(tx: &mut SqliteConnection, handle: B256, reason: &str, now: u64) -> Result<()> {
    sqlx::query(
        "UPDATE submissions SET attempts = attempts + 1, failure = $1, \
         not_before = $2 + MIN($3, $4 * (1 << MIN(failures, 16))), failures = failures + 1 WHERE handle = $5",
    )
    .bind(reason)
    .bind(int(now))
    .bind(int(LONGEST_RETRY))
    .bind(int(RETRY))
    .bind(handle.as_slice())
    .execute(tx)
    .await?;
    Ok(())
}
