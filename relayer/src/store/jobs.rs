//! Jobs: claiming, moving, letting go.

use alloy_primitives::{B256, Bytes};
use kms_chain::request::pull_request_id;
use sqlx::any::AnyRow;

use super::row::{Columns, int, job, job_columns};
use super::{Backend, Store, Tx};
use crate::clock::now_ms;
use crate::error::Error;
use crate::job::{Job, Payload};
use crate::state::State;

/// A question that came over HTTP.
#[derive(Debug, Clone)]
pub struct NewPull {
    /// Host chain of the handles.
    pub chain: u64,
    /// Handles.
    pub handles: Vec<B256>,
    /// Extra data of the answer.
    pub extra_data: Bytes,
    /// When to give up, seconds of our clock.
    pub deadline: u64,
    /// Who asks.
    pub client: Vec<u8>,
}

/// What became of a question that came over HTTP.
#[derive(Debug, Clone)]
pub enum Pulled {
    /// Its job, perhaps older than the question. Boxed, for it is large.
    Job(Box<Job>),
    /// Too many are open.
    Full,
    /// Too many of this client are open.
    TooManyOfYours,
}

/// Which jobs to claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    /// Any.
    All,
    /// What is asked for on a chain.
    Requests,
    /// What is asked for over HTTP.
    Pulls,
}

impl Work {
    /// The kind of job that is not meant.
    fn without(self) -> &'static str {
        match self {
            Work::All => "",
            Work::Requests => "public-pull",
            Work::Pulls => "on-chain",
        }
    }
}

impl Store {
    /// One job.
    ///
    /// # Errors
    /// Database.
    pub async fn job(&self, id: B256) -> Result<Option<Job>, Error> {
        let row = sqlx::query(concat!("SELECT ", job_columns!(), " FROM jobs WHERE id = $1"))
            .bind(id.to_vec())
            .fetch_optional(&self.read)
            .await?;
        row.as_ref().map(job).transpose()
    }

    /// Takes up to `limit` jobs of `work` that are due, so that nobody else does while the lease lasts.
    ///
    /// # Errors
    /// Database.
    pub async fn claim(&self, work: Work, limit: usize, lease_ms: i64) -> Result<Vec<Job>, Error> {
        macro_rules! claim {
            ($lock:literal) => {
                concat!(
                    "UPDATE jobs SET lease_owner = $1, lease_until = $2 WHERE id IN (SELECT id FROM jobs \
                     WHERE state IN ('final', 'dispatched', 'quorum') AND next_attempt <= $3 AND lease_until <= $3 \
                     AND kind <> $5 ORDER BY next_attempt LIMIT $4",
                    $lock,
                    ") RETURNING ",
                    job_columns!()
                )
            };
        }
        let sql = match self.backend {
            Backend::Sqlite => claim!(""),
            Backend::Postgres => claim!(" FOR UPDATE SKIP LOCKED"),
        };
        let now = now_ms();
        // An idle poll costs a read only.
        if sqlx::query(
            "SELECT 1 AS due FROM jobs WHERE state IN ('final', 'dispatched', 'quorum') AND next_attempt <= $1 \
             AND lease_until <= $1 AND kind <> $2 LIMIT 1",
        )
        .bind(now)
        .bind(work.without())
        .fetch_optional(&self.read)
        .await?
        .is_none()
        {
            return Ok(Vec::new());
        }
        let rows = sqlx::query(sql)
            .bind(self.instance.to_string())
            .bind(now + lease_ms)
            .bind(now)
            .bind(int(limit as u64))
            .bind(work.without())
            .fetch_all(&self.write)
            .await?;
        rows.iter().map(job).collect()
    }

    /// Lets go of a job until `next_attempt`, saying what it waits for. Counts the attempt.
    ///
    /// # Errors
    /// Database.
    pub async fn put_off(
        &self,
        id: B256,
        state: State,
        next_attempt: i64,
        reason: &str,
        detail: &str,
    ) -> Result<(), Error> {
        sqlx::query(
            "UPDATE jobs SET lease_owner = NULL, lease_until = 0, attempts = attempts + 1, next_attempt = $1, \
             reason = $2, detail = $3 WHERE id = $4 AND state = $5",
        )
        .bind(next_attempt)
        .bind(reason.to_owned())
        .bind(detail.to_owned())
        .bind(id.to_vec())
        .bind(state.as_str())
        .execute(&self.write)
        .await?;
        self.release(id).await
    }

    /// Lets go of a job, if it is ours.
    ///
    /// # Errors
    /// Database.
    pub async fn release(&self, id: B256) -> Result<(), Error> {
        sqlx::query("UPDATE jobs SET lease_owner = NULL, lease_until = 0 WHERE id = $1 AND lease_owner = $2")
            .bind(id.to_vec())
            .bind(self.instance.to_string())
            .execute(&self.write)
            .await?;
        Ok(())
    }

    /// Moves a job in a transaction of its own. `false`: it was no longer in `from`, and nothing has changed.
    ///
    /// # Errors
    /// Database.
    pub async fn shift(&self, id: B256, from: State, to: State, reason: &str, detail: &str) -> Result<bool, Error> {
        let mut tx = self.begin().await?;
        let moved = shift_in(&mut tx, id, from, to, reason, detail).await?;
        tx.commit().await?;
        if moved {
            self.metrics.transition(to, 1);
            self.stir();
        }
        Ok(moved)
    }

    /// Records a pull job, or finds the one that asks the same. One that failed is asked for again. At most `most_open` pull
    /// jobs are open, and `most_own` that one client asked for first.
    ///
    /// # Errors
    /// Database.
    pub async fn submit_pull(&self, new: NewPull, most_open: u64, most_own: u64) -> Result<Pulled, Error> {
        let id = pull_request_id(new.chain, &new.handles, &new.extra_data);
        let payload = Payload::PublicPull { handles: new.handles, extra_data: new.extra_data };
        let mut tx = self.begin().await?;
        let existing = job_in(&mut tx, id).await?;
        let open = matches!(&existing, Some(job) if !matches!(job.state, State::Expired | State::Refused));
        if !open {
            let count: AnyRow = sqlx::query(
                "SELECT COUNT(*) AS n FROM jobs WHERE kind = $1 AND state IN ('final', 'dispatched', 'quorum')",
            )
            .bind(payload.kind())
            .fetch_one(&mut *tx)
            .await?;
            let own: AnyRow = sqlx::query(
                "SELECT COUNT(*) AS n FROM jobs WHERE client = $1 AND state IN ('final', 'dispatched', 'quorum')",
            )
            .bind(new.client.clone())
            .fetch_one(&mut *tx)
            .await?;
            if own.u64("n")? >= most_own {
                return Ok(Pulled::TooManyOfYours);
            }
            if count.u64("n")? >= most_open {
                return Ok(Pulled::Full);
            }
        }
        let now = now_ms();
        match existing {
            Some(job) if !open => {
                sqlx::query("UPDATE jobs SET deadline = $1, client = $2 WHERE id = $3")
                    .bind(int(new.deadline))
                    .bind(new.client)
                    .bind(id.to_vec())
                    .execute(&mut *tx)
                    .await?;
                sqlx::query("DELETE FROM job_parties WHERE job = $1").bind(id.to_vec()).execute(&mut *tx).await?;
                shift_in(&mut tx, id, job.state, State::Final, "asked-again", "").await?;
            }
            Some(_) => {}
            None => {
                let text = payload.to_text().map_err(Error::corrupt)?;
                let added = sqlx::query(
                    "INSERT INTO jobs (id, kind, chain, state, payload, created_at, since, next_attempt, deadline, \
                     final_tag, final_at, client) VALUES ($1, $2, $3, 'final', $4, $5, $5, $5, $6, 'latest', 0, $7) \
                     ON CONFLICT (id) DO NOTHING",
                )
                .bind(id.to_vec())
                .bind(payload.kind())
                .bind(int(new.chain))
                .bind(text)
                .bind(now)
                .bind(int(new.deadline))
                .bind(new.client)
                .execute(&mut *tx)
                .await?;
                if added.rows_affected() == 1 {
                    timeline_in(&mut tx, id, State::Final, "asked for over HTTP", now).await?;
                }
            }
        }
        // Deleted at this very moment, for its end is long ago: the next question starts it anew.
        let Some(job) = job_in(&mut tx, id).await? else { return Ok(Pulled::Full) };
        tx.commit().await?;
        self.stir();
        Ok(Pulled::Job(Box::new(job)))
    }

    /// Deletes pull jobs that ended before `before` (milliseconds), at most `limit` of them, with all that belongs to them.
    /// Returns how many.
    ///
    /// # Errors
    /// Database.
    pub async fn prune_pulls(&self, before: i64, limit: usize) -> Result<usize, Error> {
        let mut tx = self.begin().await?;
        let rows = sqlx::query(
            "SELECT id FROM jobs WHERE kind = 'public-pull' AND state IN ('done', 'expired', 'refused') AND since < $1 \
             ORDER BY since LIMIT $2",
        )
        .bind(before)
        .bind(int(limit as u64))
        .fetch_all(&mut *tx)
        .await?;
        for row in &rows {
            let id = row.hash("id")?;
            // Whoever asks the same at this moment comes first or finds nothing; never half of it.
            let gone = sqlx::query("DELETE FROM jobs WHERE id = $1 AND state IN ('done', 'expired', 'refused')")
                .bind(id.to_vec())
                .execute(&mut *tx)
                .await?;
            if gone.rows_affected() == 0 {
                continue;
            }
            for statement in [
                "DELETE FROM job_parties WHERE job = $1",
                "DELETE FROM answers WHERE job = $1",
                "DELETE FROM receipts WHERE job = $1",
                "DELETE FROM timeline WHERE job = $1",
            ] {
                sqlx::query(statement).bind(id.to_vec()).execute(&mut *tx).await?;
            }
        }
        tx.commit().await?;
        Ok(rows.len())
    }

    /// Gives up pull jobs whose time is over.
    ///
    /// # Errors
    /// Database.
    pub async fn expire_pulls(&self) -> Result<u64, Error> {
        let now = now_ms();
        let rows = sqlx::query(
            "SELECT id, state FROM jobs WHERE kind = 'public-pull' AND state IN ('final', 'dispatched') AND deadline <= $1",
        )
        .bind(now / 1000)
        .fetch_all(&self.read)
        .await?;
        let mut moved = 0;
        for row in rows {
            let (id, from) = (row.hash("id")?, row.state("state")?);
            let in_time = "the parties did not answer in time";
            moved += u64::from(self.shift(id, from, State::Expired, "timeout", in_time).await?);
        }
        Ok(moved)
    }

    /// Number of jobs by state.
    ///
    /// # Errors
    /// Database.
    pub async fn count_by_state(&self) -> Result<Vec<(State, u64)>, Error> {
        let rows = sqlx::query("SELECT state, COUNT(*) AS n FROM jobs GROUP BY state").fetch_all(&self.read).await?;
        rows.iter().map(|row| Ok((row.state("state")?, row.u64("n")?))).collect()
    }
}

pub(super) async fn job_in(tx: &mut Tx, id: B256) -> Result<Option<Job>, Error> {
    let row = sqlx::query(concat!("SELECT ", job_columns!(), " FROM jobs WHERE id = $1"))
        .bind(id.to_vec())
        .fetch_optional(&mut **tx)
        .await?;
    row.as_ref().map(job).transpose()
}

/// The one place where a single job changes its state.
pub(super) async fn shift_in(
    tx: &mut Tx,
    id: B256,
    from: State,
    to: State,
    reason: &str,
    detail: &str,
) -> Result<bool, Error> {
    debug_assert!(from.may_become(to), "{from} → {to}");
    let now = now_ms();
    let done = sqlx::query(
        "UPDATE jobs SET state = $1, since = $2, attempts = 0, next_attempt = $2, reason = $3, detail = $4 \
         WHERE id = $5 AND state = $6",
    )
    .bind(to.as_str())
    .bind(now)
    .bind(none_if_empty(reason))
    .bind(none_if_empty(detail))
    .bind(id.to_vec())
    .bind(from.as_str())
    .execute(&mut **tx)
    .await?;
    if done.rows_affected() == 0 {
        return Ok(false);
    }
    timeline_in(tx, id, to, detail, now).await?;
    Ok(true)
}

pub(super) async fn timeline_in(tx: &mut Tx, id: B256, state: State, detail: &str, now: i64) -> Result<(), Error> {
    sqlx::query("INSERT INTO timeline (job, at, state, detail) VALUES ($1, $2, $3, $4)")
        .bind(id.to_vec())
        .bind(now)
        .bind(state.as_str())
        .bind(none_if_empty(detail))
        .execute(&mut **tx)
        .await?;
    Ok(())
}

pub(super) fn none_if_empty(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}
