//! What operators look at: every query here reads few rows, through an index, however many jobs there are.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use alloy_primitives::B256;
use sqlx::AssertSqlSafe;

use super::row::{Columns, int, job, job_columns};
use super::{Account, Store, TimelineRow};
use crate::error::Error;
use crate::job::{Job, KINDS};
use crate::state::State;

/// Most moves of the listed jobs that are read.
const MOST_MOVES: u64 = 2_000;

const NEWEST: &str = "SELECT COALESCE(MAX(id), 0) AS position FROM timeline";
const TRANSITIONS: &str = "SELECT id, job, state, at FROM timeline WHERE id > $1 ORDER BY id LIMIT $2";
macro_rules! queues {
    ($states:literal) => {
        concat!(
            "SELECT kind, state, COUNT(*) AS n, MIN(since) AS oldest FROM jobs \
             WHERE kind IN ('on-chain', 'public-pull', 'user-decrypt') AND state IN (",
            $states,
            ") GROUP BY kind, state"
        )
    };
}
const OPEN: &str = queues!("'seen', 'final', 'dispatched', 'quorum', 'submitting', 'mined'");
const ENDED: &str = queues!("'done', 'expired', 'cancelled', 'refused', 'orphaned'");
const LIST: &str =
    concat!("SELECT ", job_columns!(), " FROM jobs WHERE (since, id) < ($1, $2) ORDER BY since DESC, id DESC LIMIT $3");
const LIST_OF: &str = concat!(
    "SELECT ",
    job_columns!(),
    " FROM jobs WHERE kind = $1 AND state = $2 AND (since, id) < ($3, $4) ORDER BY since DESC, id DESC LIMIT $5"
);
const FIND: &str = concat!("SELECT ", job_columns!(), " FROM jobs WHERE id >= $1 AND id <= $2 ORDER BY id LIMIT $3");
const FIRST_PENDING: &str = "SELECT nonce, job, created_at FROM transactions \
     WHERE chain = $1 AND sender = $2 AND state = 'pending' ORDER BY nonce LIMIT 1";

/// A move of a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transition {
    /// Grows with every move.
    pub position: i64,
    /// The job.
    pub job: B256,
    /// State that it reached.
    pub state: State,
    /// When, milliseconds.
    pub at: i64,
}

/// Jobs of one kind in one state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Queue {
    /// Kind.
    pub kind: String,
    /// State.
    pub state: State,
    /// How many.
    pub count: u64,
    /// Since when the first of them is there, milliseconds.
    pub oldest: i64,
}

/// Which jobs to list.
#[derive(Debug, Clone, Default)]
pub struct Listed {
    /// In these states; none named: in any.
    pub states: Vec<State>,
    /// Moved before this one: its time and id.
    pub before: Option<(i64, B256)>,
    /// Most jobs.
    pub limit: usize,
}

/// The pending transaction with the lowest nonce: all others wait for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FirstPending {
    /// Nonce.
    pub nonce: u64,
    /// The job that it is for.
    pub job: Option<B256>,
    /// When the nonce was reserved, milliseconds.
    pub since: i64,
    /// Transactions signed for it so far.
    pub attempts: u64,
    /// What the node said against the newest of them.
    pub error: Option<String>,
}

impl Store {
    /// Position of the newest move.
    ///
    /// # Errors
    /// Database.
    pub async fn newest_transition(&self) -> Result<i64, Error> {
        sqlx::query(NEWEST).fetch_one(&self.read).await?.i64("position")
    }

    /// The first moves after a position, at most `limit`, in their order.
    ///
    /// # Errors
    /// Database.
    pub async fn transitions(&self, after: i64, limit: usize) -> Result<Vec<Transition>, Error> {
        sqlx::query(TRANSITIONS)
            .bind(after)
            .bind(int(limit as u64))
            .fetch_all(&self.read)
            .await?
            .iter()
            .map(|row| {
                let (position, at) = (row.i64("id")?, row.i64("at")?);
                Ok(Transition { position, job: row.hash("job")?, state: row.state("state")?, at })
            })
            .collect()
    }

    /// How many open jobs of each kind are in each state, and since when.
    ///
    /// # Errors
    /// Database.
    pub async fn open_queues(&self) -> Result<Vec<Queue>, Error> {
        self.queues(OPEN).await
    }

    /// The same of those that have ended: there may be very many.
    ///
    /// # Errors
    /// Database.
    pub async fn ended_queues(&self) -> Result<Vec<Queue>, Error> {
        self.queues(ENDED).await
    }

    async fn queues(&self, sql: &'static str) -> Result<Vec<Queue>, Error> {
        sqlx::query(sql)
            .fetch_all(&self.read)
            .await?
            .iter()
            .map(|row| {
                let (kind, state) = (row.text("kind")?, row.state("state")?);
                Ok(Queue { kind, state, count: row.u64("n")?, oldest: row.i64("oldest")? })
            })
            .collect()
    }

    /// Jobs, the one that moved last first.
    ///
    /// # Errors
    /// Database.
    pub async fn list(&self, listed: &Listed) -> Result<Vec<Job>, Error> {
        let (since, id) = listed.before.unwrap_or((i64::MAX, B256::ZERO));
        let limit = int(listed.limit as u64);
        if listed.states.is_empty() {
            let rows = sqlx::query(LIST).bind(since).bind(id.to_vec()).bind(limit).fetch_all(&self.read).await?;
            return rows.iter().map(job).collect();
        }
        // One look per kind and state, which is what there is an index for; the first few of each are enough.
        let mut jobs = Vec::new();
        for kind in KINDS {
            for state in &listed.states {
                let rows = sqlx::query(LIST_OF)
                    .bind(kind)
                    .bind(state.as_str())
                    .bind(since)
                    .bind(id.to_vec())
                    .bind(limit)
                    .fetch_all(&self.read)
                    .await?;
                for row in &rows {
                    jobs.push(job(row)?);
                }
            }
        }
        jobs.sort_by_key(|job| std::cmp::Reverse((job.since, job.id)));
        jobs.truncate(listed.limit);
        Ok(jobs)
    }

    /// The first jobs whose id is in this range.
    ///
    /// # Errors
    /// Database.
    pub async fn find(&self, ids: RangeInclusive<B256>, limit: usize) -> Result<Vec<Job>, Error> {
        let rows = sqlx::query(FIND)
            .bind(ids.start().to_vec())
            .bind(ids.end().to_vec())
            .bind(int(limit as u64))
            .fetch_all(&self.read)
            .await?;
        rows.iter().map(job).collect()
    }

    /// The moves of some jobs, in their order.
    ///
    /// # Errors
    /// Database.
    pub async fn moves(&self, jobs: &[B256]) -> Result<BTreeMap<B256, Vec<TimelineRow>>, Error> {
        let mut moves: BTreeMap<B256, Vec<TimelineRow>> = BTreeMap::new();
        if jobs.is_empty() {
            return Ok(moves);
        }
        let places: Vec<String> = (1..=jobs.len()).map(|place| format!("${place}")).collect();
        let sql = format!(
            "SELECT job, at, state, detail FROM timeline WHERE job IN ({}) ORDER BY job, id LIMIT {MOST_MOVES}",
            places.join(", ")
        );
        let query = jobs.iter().fold(sqlx::query(AssertSqlSafe(sql)), |query, id| query.bind(id.to_vec()));
        for row in query.fetch_all(&self.read).await? {
            let made = TimelineRow { at: row.i64("at")?, state: row.text("state")?, detail: row.text_opt("detail")? };
            moves.entry(row.hash("job")?).or_default().push(made);
        }
        Ok(moves)
    }

    /// The pending transaction of an account that all others wait for.
    ///
    /// # Errors
    /// Database.
    pub async fn first_pending(&self, account: Account) -> Result<Option<FirstPending>, Error> {
        let row = sqlx::query(FIRST_PENDING)
            .bind(int(account.chain))
            .bind(account.sender.to_vec())
            .fetch_optional(&self.read)
            .await?;
        let Some(row) = row else { return Ok(None) };
        let nonce = row.u64("nonce")?;
        let attempts = sqlx::query(
            "SELECT error FROM attempts WHERE chain = $1 AND sender = $2 AND nonce = $3 ORDER BY created_at",
        )
        .bind(int(account.chain))
        .bind(account.sender.to_vec())
        .bind(int(nonce))
        .fetch_all(&self.read)
        .await?;
        let error = attempts.last().map(|row| row.text_opt("error")).transpose()?.flatten();
        let (job, since) = (row.hash_opt("job")?, row.i64("created_at")?);
        Ok(Some(FirstPending { nonce, job, since, attempts: attempts.len() as u64, error }))
    }

    /// Logs of gateways that could not be read.
    ///
    /// # Errors
    /// Database.
    pub async fn quarantined(&self) -> Result<u64, Error> {
        sqlx::query("SELECT COUNT(*) AS n FROM quarantine").fetch_one(&self.read).await?.u64("n")
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::metrics::Metrics;

    /// How SQLite goes about a query.
    async fn plan(store: &Store, sql: &str) -> String {
        let rows =
            sqlx::query(AssertSqlSafe(format!("EXPLAIN QUERY PLAN {sql}"))).fetch_all(&store.read).await.unwrap();
        rows.iter().map(|row| row.text("detail").unwrap()).collect::<Vec<_>>().join("; ")
    }

    #[test]
    fn every_job_is_counted_in_one_of_two_ways() {
        for state in State::ALL {
            let name = format!("'{state}'");
            assert_eq!((OPEN.contains(&name), ENDED.contains(&name)), (!state.is_end(), state.is_end()), "{state}");
        }
        assert!(KINDS.iter().all(|kind| OPEN.contains(kind) && ENDED.contains(kind)));
    }

    #[tokio::test]
    async fn no_query_reads_all_rows() {
        let dir = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}/relayer.db", dir.path().display());
        let store = Store::open(&url, "test", Arc::new(Metrics::default())).await.unwrap();
        for (sql, part) in [
            (LIST, "USING INDEX jobs_by_since (since<?)"),
            (LIST_OF, "USING INDEX jobs_by_kind (kind=? AND state=? AND since<?)"),
            (FIND, "SEARCH jobs USING INDEX sqlite_autoindex_jobs_1 (id>? AND id<?)"),
            (TRANSITIONS, "SEARCH timeline USING INTEGER PRIMARY KEY (rowid>?)"),
            (NEWEST, "SEARCH timeline"),
            (FIRST_PENDING, "USING INDEX transactions_by_state (chain=? AND sender=? AND state=?)"),
            (OPEN, "SEARCH jobs USING COVERING INDEX jobs_by_kind (kind=? AND state=?)"),
            (ENDED, "SEARCH jobs USING COVERING INDEX jobs_by_kind (kind=? AND state=?)"),
        ] {
            let plan = plan(&store, sql).await;
            assert!(plan.contains(part), "{sql}: {plan}");
        }
    }
}
