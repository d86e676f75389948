//! What the API shows of a job.

use alloy_primitives::B256;

use super::row::{Columns, job, job_columns};
use super::{Store, StoredAnswer};
use crate::error::Error;
use crate::job::Job;

/// A state that a job reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TimelineRow {
    /// When, milliseconds.
    pub at: i64,
    /// State.
    pub state: String,
    /// A sentence.
    pub detail: Option<String>,
}

/// What a party said last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartyRow {
    /// Index.
    pub party: u32,
    /// Class.
    pub status: String,
    /// A sentence.
    pub detail: Option<String>,
    /// When, milliseconds.
    pub at: i64,
    /// When it is asked again, milliseconds; 0 = not planned.
    pub retry_at: i64,
}

/// A transaction that was sent for the job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransactionRow {
    /// Hash.
    pub hash: B256,
    /// `pending`, `mined`, `reverted`, `confirmed`, `replaced` or `lost`.
    pub state: String,
    /// Gas, once mined.
    pub gas_used: Option<u64>,
}

/// A job with everything around it.
#[derive(Debug, Clone)]
pub struct View {
    /// The job.
    pub job: Job,
    /// Its states so far.
    pub timeline: Vec<TimelineRow>,
    /// Its parties.
    pub parties: Vec<PartyRow>,
    /// Its answers.
    pub answers: Vec<StoredAnswer>,
    /// Its transactions, oldest first.
    pub transactions: Vec<TransactionRow>,
    /// First share sent to answer at the parties, in microseconds.
    pub mpc_micros: Option<u64>,
}

impl Store {
    /// Everything about one job.
    ///
    /// # Errors
    /// Database.
    pub async fn view(&self, id: B256) -> Result<Option<View>, Error> {
        let row = sqlx::query(concat!("SELECT ", job_columns!(), " FROM jobs WHERE id = $1"))
            .bind(id.to_vec())
            .fetch_optional(&self.read)
            .await?;
        let Some(row) = row else { return Ok(None) };
        let job = job(&row)?;
        let timeline = sqlx::query("SELECT at, state, detail FROM timeline WHERE job = $1 ORDER BY id")
            .bind(id.to_vec())
            .fetch_all(&self.read)
            .await?
            .iter()
            .map(|row| {
                Ok(TimelineRow { at: row.i64("at")?, state: row.text("state")?, detail: row.text_opt("detail")? })
            })
            .collect::<Result<_, Error>>()?;
        let transactions = sqlx::query(
            "SELECT a.hash, a.purpose, t.state, t.mined_hash, t.succeeded, t.gas_used FROM transactions t \
             JOIN attempts a ON a.chain = t.chain AND a.sender = t.sender AND a.nonce = t.nonce \
             WHERE t.job = $1 ORDER BY a.created_at, a.nonce",
        )
        .bind(id.to_vec())
        .fetch_all(&self.read)
        .await?
        .iter()
        .map(|row| {
            let (hash, mined) = (row.hash("hash")?, row.hash_opt("mined_hash")?);
            let state = row.text("state")?;
            let state = match (mined, row.i64_opt("succeeded")?) {
                (Some(mined), _) if mined != hash => "replaced".to_owned(),
                (Some(_), Some(0)) => "reverted".to_owned(),
                _ => state,
            };
            let gas_used = if mined == Some(hash) { row.u64_opt("gas_used")? } else { None };
            Ok(TransactionRow { hash, state, gas_used })
        })
        .collect::<Result<_, Error>>()?;
        Ok(Some(View {
            parties: self.parties(id).await?,
            answers: self.answers(id).await?,
            mpc_micros: self.mpc_micros(id).await?,
            job,
            timeline,
            transactions,
        }))
    }

    /// What each party said last about a job.
    ///
    /// # Errors
    /// Database.
    pub async fn parties(&self, id: B256) -> Result<Vec<PartyRow>, Error> {
        sqlx::query("SELECT party, status, detail, at, retry_at FROM job_parties WHERE job = $1 ORDER BY party")
            .bind(id.to_vec())
            .fetch_all(&self.read)
            .await?
            .iter()
            .map(|row| {
                Ok(PartyRow {
                    party: u32::try_from(row.i64("party")?).map_err(Error::corrupt)?,
                    status: row.text("status")?,
                    detail: row.text_opt("detail")?,
                    at: row.i64("at")?,
                    retry_at: row.i64("retry_at")?,
                })
            })
            .collect()
    }
}
