//! From a wanted handle to a digest on the chain.

use alloy_primitives::B256;
use sqlx::Row;

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
    /// It can't be computed here.
    Failed,
}

/// What is known of a handle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HandleStatus {
    /// How far it is.
    pub progress: Progress,
    /// Digest of its object, when squashed or committed.
    pub digest: Option<B256>,
    /// Why it failed.
    pub failure: Option<String>,
}

impl Store {
    /// Computed handles that are wanted and have no commitment, oldest first.
    ///
    /// # Errors
    /// Of the database.
    pub async fn ready_squashes(&self, limit: usize) -> Result<Vec<(u64, B256)>> {
        let rows = sqlx::query(
            "SELECT w.chain_id, w.handle FROM wanted AS w JOIN operations AS o ON o.handle = w.handle \
             WHERE o.state = 'computed' AND NOT EXISTS (SELECT 1 FROM commitments AS c WHERE c.handle = w.handle) \
             ORDER BY o.seq LIMIT $1",
        )
        .bind(int(limit as u64))
        .fetch_all(&self.reader)
        .await?;
        rows.iter().map(|row| Ok((get_u64(row, "chain_id")?, get_b256(row, "handle")?))).collect()
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
        sqlx::query("INSERT INTO submissions (handle) VALUES ($1) ON CONFLICT (handle) DO NOTHING")
            .bind(commitment.handle.as_slice())
            .execute(&mut *tx)
            .await?;
        self.commit(tx).await?;
        Ok(())
    }

    /// Commitments of one chain to submit at `now`: still wanted, not on the chain, in no transaction, not refused.
    ///
    /// # Errors
    /// Of the database.
    pub async fn ready_commitments(&self, chain_id: u64, now: u64, limit: usize) -> Result<Vec<Commitment>> {
        let rows = sqlx::query(
            "SELECT c.chain_id, c.handle, c.key_id, c.digest FROM commitments AS c \
             JOIN submissions AS s ON s.handle = c.handle JOIN wanted AS w ON w.handle = c.handle \
             WHERE c.chain_id = $1 AND s.outbox_id IS NULL AND s.refused IS NULL AND s.not_before <= $2 \
             AND NOT EXISTS (SELECT 1 FROM committed AS d WHERE d.handle = c.handle) ORDER BY c.seq LIMIT $3",
        )
        .bind(int(chain_id))
        .bind(int(now))
        .bind(int(limit as u64))
        .fetch_all(&self.reader)
        .await?;
        rows.iter()
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
        self.commit(tx).await
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
        self.commit(tx).await?;
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
                    (SELECT digest FROM commitments WHERE handle = $1) AS signed",
        )
        .bind(handle.as_slice())
        .fetch_one(&self.reader)
        .await?;
        let committed = super::get_optional_b256(&row, "committed")?;
        let progress = match row.try_get::<Option<&str>, _>("state")? {
            _ if committed.is_some() => Progress::Committed,
            Some("computed") => Progress::Computed,
            Some("pending") => Progress::Pending,
            Some(_) => Progress::Failed,
            None if row.try_get::<bool, _>("is_input")? => Progress::Pending,
            None => Progress::Unknown,
        };
        let digest = committed.or(super::get_optional_b256(&row, "signed")?);
        Ok(HandleStatus { progress, digest, failure: row.try_get("failure")? })
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
