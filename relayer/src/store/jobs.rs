//! Jobs: claiming, moving, letting go.

use alloy_primitives::B256;
use sqlx::AssertSqlSafe;

use super::row::{Columns, int, job, job_columns};
use super::{Backend, Store, Tx, Write};
use crate::clock::now_ms;
use crate::error::Error;
use crate::job::{Job, USER_KIND};
use crate::state::State;

/// Which jobs to claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work<'a> {
    /// Any.
    All,
    /// What is asked for on a chain.
    Requests {
        /// Chains on which nothing new is begun: there is no room for more answers.
        full: &'a [u64],
    },
    /// What is asked for over HTTP.
    Pulls,
}

impl Work<'_> {
    /// The kinds of jobs that are not meant.
    fn without(self) -> [&'static str; 2] {
        match self {
            Work::All => ["", ""],
            Work::Requests { .. } => ["public-pull", USER_KIND],
            Work::Pulls => ["on-chain", ""],
        }
    }

    /// A condition for what may be begun.
    fn unless_full(self) -> String {
        match self {
            Work::Requests { full } if !full.is_empty() => {
                let chains: Vec<String> = full.iter().map(|chain| int(*chain).to_string()).collect();
                format!(" AND NOT (state = 'final' AND chain IN ({}))", chains.join(", "))
            }
            _ => String::new(),
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
    pub async fn claim(&self, work: Work<'_>, limit: usize, lease_ms: i64) -> Result<Vec<Job>, Error> {
        let due = format!(
            "FROM jobs WHERE state IN ('final', 'dispatched', 'quorum') AND next_attempt <= $1 AND lease_until <= $1 \
             AND kind <> $2 AND kind <> $3{}",
            work.unless_full()
        );
        let now = now_ms();
        let [without, nor] = work.without();
        // An idle poll costs a read only.
        if sqlx::query(AssertSqlSafe(format!("SELECT 1 AS due {due} LIMIT 1")))
            .bind(now)
            .bind(without)
            .bind(nor)
            .fetch_optional(&self.read)
            .await?
            .is_none()
        {
            return Ok(Vec::new());
        }
        let lock = match self.backend {
            Backend::Sqlite => "",
            Backend::Postgres => " FOR UPDATE SKIP LOCKED",
        };
        let sql = format!(
            "UPDATE jobs SET lease_owner = $4, lease_until = $5 WHERE id IN \
             (SELECT id {due} ORDER BY next_attempt LIMIT $6{lock}) RETURNING {}",
            job_columns!()
        );
        let mut tx = self.begin(Write::Claim).await?;
        let rows = sqlx::query(AssertSqlSafe(sql))
            .bind(now)
            .bind(without)
            .bind(nor)
            .bind(self.owner.to_string())
            .bind(now + lease_ms)
            .bind(int(limit as u64))
            .fetch_all(&mut *tx)
            .await?;
        tx.commit().await?;
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
        let done = self
            .once(
                Write::PutOff,
                sqlx::query(
                    "UPDATE jobs SET lease_owner = NULL, lease_until = 0, attempts = attempts + 1, next_attempt = $1, \
                     reason = $2, detail = $3 WHERE id = $4 AND state = $5 AND (lease_owner IS NULL OR lease_owner = $6)",
                )
                .bind(next_attempt)
                .bind(reason.to_owned())
                .bind(detail.to_owned())
                .bind(id.to_vec())
                .bind(state.as_str())
                .bind(self.owner.to_string()),
            )
            .await?;
        // It has moved on meanwhile, or somebody else works on it.
        if done.rows_affected() == 0 { self.release(id).await } else { Ok(()) }
    }

    /// Lets go of a job, if it is ours.
    ///
    /// # Errors
    /// Database.
    pub async fn release(&self, id: B256) -> Result<(), Error> {
        self.once(
            Write::Release,
            sqlx::query("UPDATE jobs SET lease_owner = NULL, lease_until = 0 WHERE id = $1 AND lease_owner = $2")
                .bind(id.to_vec())
                .bind(self.owner.to_string()),
        )
        .await?;
        Ok(())
    }

    /// Moves a job in a transaction of its own. `false`: it was no longer in `from`, and nothing has changed.
    ///
    /// # Errors
    /// Database.
    pub async fn shift(&self, id: B256, from: State, to: State, reason: &str, detail: &str) -> Result<bool, Error> {
        let mut tx = self.begin(Write::Shift).await?;
        let moved = shift_in(&mut tx, id, from, to, reason, detail).await?;
        tx.commit().await?;
        if moved {
            self.metrics.transition(to, 1);
            self.trace(id, to);
            self.stir();
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

    /// Of each state that is no end, since when the job is in it that is longest in it, milliseconds.
    ///
    /// # Errors
    /// Database.
    pub async fn oldest(&self) -> Result<Vec<(State, i64)>, Error> {
        let rows = sqlx::query(
            "SELECT state, MIN(since) AS since FROM jobs \
             WHERE state IN ('seen', 'final', 'dispatched', 'quorum', 'submitting', 'mined') GROUP BY state",
        )
        .fetch_all(&self.read)
        .await?;
        rows.iter().map(|row| Ok((row.state("state")?, row.i64("since")?))).collect()
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
    macro_rules! update {
        ($lease:literal) => {
            concat!(
                "UPDATE jobs SET state = $1, since = $2, attempts = 0, next_attempt = $2, reason = $3, detail = $4",
                $lease,
                " WHERE id = $5 AND state = $6"
            )
        };
    }
    // With the last state in which a worker has something to do, its lease ends.
    let sql = if to.is_worked_on() { update!("") } else { update!(", lease_owner = NULL, lease_until = 0") };
    let done = sqlx::query(sql)
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
    tx.moved(Some(from), to);
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
