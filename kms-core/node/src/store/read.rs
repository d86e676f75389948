//! Questions to the database.

use std::time::Duration;

use alloy_primitives::{Address, B256};
use sqlx::Row;
use sqlx::sqlite::SqliteRow;

use super::Store;
use super::model::{
    JournalRow, KeyRow, KeyState, KeygenRow, KeygenState, NewKeygen, Pending, PendingRow, Position, RequestKey,
    RequestRow, Stage, UserAnswer, UserRow,
};
use crate::error::StoreError;

impl Store {
    /// One request in one epoch.
    pub async fn request(&self, key: RequestKey) -> Result<Option<RequestRow>, StoreError> {
        let row = sqlx::query("SELECT * FROM requests WHERE id = ? AND epoch_id = ?")
            .bind(key.id.to_vec())
            .bind(key.epoch_id.to_vec())
            .fetch_optional(&self.readers)
            .await?;
        row.as_ref().map(request).transpose()
    }

    /// A request in the epoch that it was recorded in last.
    pub async fn latest_request(&self, id: B256) -> Result<Option<RequestRow>, StoreError> {
        self.first("SELECT * FROM requests WHERE id = ? ORDER BY received_at DESC, rowid DESC LIMIT 1", id).await
    }

    /// A request with which this party's share of the job has left it, whatever became of the request: the share can be
    /// computed again for a peer that asks.
    pub async fn shared_in_job(&self, job_id: B256) -> Result<Option<RequestRow>, StoreError> {
        self.first("SELECT * FROM requests WHERE job_id = ? AND shared_at IS NOT NULL LIMIT 1", job_id).await
    }

    /// The first answered request of the job.
    pub async fn answered_in_job(&self, job_id: B256) -> Result<Option<RequestRow>, StoreError> {
        let query = "SELECT * FROM requests WHERE job_id = ? AND answer IS NOT NULL ORDER BY answered_at LIMIT 1";
        self.first(query, job_id).await
    }

    async fn first(&self, query: &'static str, id: B256) -> Result<Option<RequestRow>, StoreError> {
        let row = sqlx::query(query).bind(id.to_vec()).fetch_optional(&self.readers).await?;
        row.as_ref().map(request).transpose()
    }

    /// How many requests are neither refused nor have a receipt.
    pub async fn pending(&self) -> Result<Pending, StoreError> {
        let query = "SELECT (SELECT count(*) FROM requests WHERE stage < 4) AS pending,
                     (SELECT coalesce(max(rowid), 0) FROM requests) AS last";
        let row = sqlx::query(query).fetch_one(&self.readers).await?;
        Ok(Pending { count: unsigned(&row, "requests", "pending")?, last: unsigned(&row, "requests", "last")? })
    }

    /// The next such requests of a chain after a position, oldest first, among the rows up to `last`.
    pub async fn pending_after(
        &self,
        chain_id: u64,
        after: Position,
        last: u64,
        limit: u32,
    ) -> Result<Vec<PendingRow>, StoreError> {
        const TABLE: &str = "requests";
        let rows = sqlx::query(
            "SELECT id, epoch_id, received_at, rowid AS row FROM requests
             WHERE stage < 4 AND chain_id = ? AND (received_at, rowid) > (?, ?) AND rowid <= ? ORDER BY received_at, rowid LIMIT ?",
        )
        .bind(chain_id.cast_signed())
        .bind(after.received_at.cast_signed())
        .bind(after.row.cast_signed())
        .bind(last.cast_signed())
        .bind(i64::from(limit))
        .fetch_all(&self.readers)
        .await?;
        rows.iter()
            .map(|row| {
                let key = RequestKey { id: id(row, TABLE, "id")?, epoch_id: id(row, TABLE, "epoch_id")? };
                let (received_at, row) = (unsigned(row, TABLE, "received_at")?, unsigned(row, TABLE, "row")?);
                Ok(PendingRow { key, position: Position { received_at, row } })
            })
            .collect()
    }

    /// Number of requests in each stage.
    pub async fn stages(&self) -> Result<Vec<(Stage, u64)>, StoreError> {
        let rows = sqlx::query("SELECT stage, count(*) AS requests FROM requests GROUP BY stage")
            .fetch_all(&self.readers)
            .await?;
        rows.iter().map(|row| Ok((stage(row)?, unsigned(row, "requests", "requests")?))).collect()
    }

    /// All keys that this party holds or held a share of.
    pub async fn keys(&self) -> Result<Vec<KeyRow>, StoreError> {
        let rows = sqlx::query(
            "SELECT keys.*, epochs.context_id FROM keys JOIN epochs USING (epoch_id) ORDER BY keys.since, keys.object",
        )
        .fetch_all(&self.readers)
        .await?;
        rows.iter().map(key).collect()
    }

    /// All generations of keys that this party was told to take part in, in the order of their start.
    pub async fn keygens(&self) -> Result<Vec<KeygenRow>, StoreError> {
        let rows = sqlx::query("SELECT * FROM keygens ORDER BY started_at, rowid").fetch_all(&self.readers).await?;
        rows.iter().map(keygen).collect()
    }

    /// What was sealed for users, the last first, at most so many requests.
    pub async fn user_answers(&self, rows: u32) -> Result<Vec<UserRow>, StoreError> {
        let rows = sqlx::query("SELECT * FROM user_answers ORDER BY last_at DESC, id LIMIT ?")
            .bind(i64::from(rows))
            .fetch_all(&self.readers)
            .await?;
        rows.iter().map(user_answer).collect()
    }

    /// The last lines of the audit journal, newest first.
    pub async fn journal_tail(&self, lines: u32) -> Result<Vec<JournalRow>, StoreError> {
        let rows = sqlx::query("SELECT * FROM journal ORDER BY seq DESC LIMIT ?")
            .bind(i64::from(lines))
            .fetch_all(&self.readers)
            .await?;
        rows.iter()
            .map(|row| {
                Ok(JournalRow {
                    seq: unsigned(row, "journal", "seq")?,
                    at: unsigned(row, "journal", "at")?,
                    kind: row.try_get("kind")?,
                    subject: row.try_get("subject")?,
                    detail: row.try_get("detail")?,
                })
            })
            .collect()
    }
}

fn request(row: &SqliteRow) -> Result<RequestRow, StoreError> {
    const TABLE: &str = "requests";
    let mpc: Option<i64> = row.try_get("mpc_micros")?;
    let answered_at: Option<i64> = row.try_get("answered_at")?;
    Ok(RequestRow {
        id: id(row, TABLE, "id")?,
        job_id: id(row, TABLE, "job_id")?,
        chain_id: row.try_get::<i64, _>("chain_id")?.cast_unsigned(),
        epoch_id: id(row, TABLE, "epoch_id")?,
        payload: row.try_get("payload")?,
        stage: stage(row)?,
        stage_since: unsigned(row, TABLE, "stage_since")?,
        detail: row.try_get("detail")?,
        answer: row.try_get("answer")?,
        refusal: row.try_get("refusal")?,
        receipt: row.try_get("receipt")?,
        received_at: unsigned(row, TABLE, "received_at")?,
        answered_at: answered_at.map(i64::cast_unsigned),
        mpc: mpc.map(|micros| Duration::from_micros(micros.cast_unsigned())),
    })
}

fn user_answer(row: &SqliteRow) -> Result<UserRow, StoreError> {
    const TABLE: &str = "user_answers";
    let address = |column: &str| -> Result<Option<Address>, StoreError> {
        let bytes: Option<&[u8]> = row.try_get(column)?;
        let problem = || StoreError::Row { table: TABLE, problem: format!("{column} is no address") };
        bytes.map(|bytes| Address::try_from(bytes).map_err(|_| problem())).transpose()
    };
    let handles: &[u8] = row.try_get("handles")?;
    let answer = UserAnswer {
        id: id(row, TABLE, "id")?,
        epoch_id: id(row, TABLE, "epoch_id")?,
        key_id: id(row, TABLE, "key_id")?,
        chain_id: row.try_get::<i64, _>("chain_id")?.cast_unsigned(),
        user: address("user")?.unwrap_or_default(),
        delegator: address("delegator")?,
        permit_hash: id(row, TABLE, "permit_hash")?,
        handles: handles.as_chunks::<32>().0.iter().map(B256::from).collect(),
        block_number: row.try_get::<i64, _>("block_number")?.cast_unsigned(),
    };
    Ok(UserRow {
        answer,
        first_at: unsigned(row, TABLE, "first_at")?,
        last_at: unsigned(row, TABLE, "last_at")?,
        times: unsigned(row, TABLE, "times")?,
    })
}

fn key(row: &SqliteRow) -> Result<KeyRow, StoreError> {
    const TABLE: &str = "keys";
    let problem = |problem: String| StoreError::Row { table: TABLE, problem };
    let params: i64 = row.try_get("params")?;
    let state: String = row.try_get("state")?;
    Ok(KeyRow {
        key_id: id(row, TABLE, "key_id")?,
        epoch_id: id(row, TABLE, "epoch_id")?,
        context_id: id(row, TABLE, "context_id")?,
        params: u8::try_from(params).map_err(|_| problem(format!("parameter set {params}")))?,
        object: row.try_get("object")?,
        share_digest: id(row, TABLE, "share_digest")?,
        state: KeyState::from_column(&state).ok_or_else(|| problem(format!("state {state}")))?,
        detail: row.try_get("detail")?,
    })
}

fn keygen(row: &SqliteRow) -> Result<KeygenRow, StoreError> {
    const TABLE: &str = "keygens";
    let problem = |problem: String| StoreError::Row { table: TABLE, problem };
    let params: i64 = row.try_get("params")?;
    let state: String = row.try_get("state")?;
    let key_id: Option<Vec<u8>> = row.try_get("key_id")?;
    let asked = NewKeygen {
        run_id: id(row, TABLE, "run_id")?,
        params: u8::try_from(params).map_err(|_| problem(format!("parameter set {params}")))?,
        compressed: row.try_get::<i64, _>("compressed")? != 0,
        crs_digest: id(row, TABLE, "crs_digest")?,
    };
    Ok(KeygenRow {
        asked,
        state: KeygenState::from_column(&state).ok_or_else(|| problem(format!("state {state}")))?,
        key_id: key_id.map(|_| id(row, TABLE, "key_id")).transpose()?,
        result: row.try_get("result")?,
        detail: row.try_get("detail")?,
        started_at: unsigned(row, TABLE, "started_at")?,
    })
}

fn stage(row: &SqliteRow) -> Result<Stage, StoreError> {
    let value: i64 = row.try_get("stage")?;
    Stage::from_column(value).ok_or_else(|| StoreError::Row { table: "requests", problem: format!("stage {value}") })
}

fn id(row: &SqliteRow, table: &'static str, column: &'static str) -> Result<B256, StoreError> {
    let bytes: &[u8] = row.try_get(column)?;
    B256::try_from(bytes).map_err(|_| StoreError::Row { table, problem: format!("{column} has {} bytes", bytes.len()) })
}

fn unsigned(row: &SqliteRow, table: &'static str, column: &'static str) -> Result<u64, StoreError> {
    let value: i64 = row.try_get(column)?;
    u64::try_from(value).map_err(|_| StoreError::Row { table, problem: format!("{column} is {value}") })
}
