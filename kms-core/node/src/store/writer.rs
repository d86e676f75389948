//! The one task that writes.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use alloy_primitives::B256;
use sqlx::sqlite::SqliteConnection;
use sqlx::{Connection, Sqlite, Transaction};
use tokio::sync::{mpsc, oneshot};

use super::model::{KeyRow, KeygenState, NewKeygen, NewRequest, RequestKey, Stage, UserAnswer};
use crate::error::StoreError;

/// Writes that share one transaction, and so one fsync.
const BATCH: usize = 256;

/// One write and who waits for it.
#[derive(Debug)]
pub(super) struct Command {
    pub(super) op: Op,
    pub(super) reply: oneshot::Sender<Result<bool, StoreError>>,
}

/// The writes there are. Each says whether it changed anything.
#[derive(Debug)]
pub(super) enum Op {
    Insert(NewRequest),
    Open {
        key: RequestKey,
        job_id: B256,
        payload: Vec<u8>,
    },
    Answer {
        key: RequestKey,
        answer: Vec<u8>,
        mpc: Duration,
    },
    Receipt {
        key: RequestKey,
        receipt: Vec<u8>,
    },
    Refuse {
        key: RequestKey,
        refusal: Vec<u8>,
        detail: String,
    },
    UserAnswer(UserAnswer),
    Key(KeyRow),
    OpenKeygen(NewKeygen),
    MoveKeygen {
        run_id: B256,
        from: KeygenState,
        to: KeygenState,
        key_id: Option<B256>,
        result: Option<Vec<u8>>,
        detail: Option<String>,
    },
    Journal {
        kind: &'static str,
        subject: String,
        detail: String,
    },
}

impl Op {
    /// Whether whoever waits for the write relies on it after a power cut. What becomes of a granted request follows from
    /// its row, and a restart does the same again; the row itself is older and on disk. Nothing depends on the audit of
    /// users' answers.
    const fn must_last(&self) -> bool {
        !matches!(self, Self::Open { .. } | Self::Answer { .. } | Self::Receipt { .. } | Self::UserAnswer(_))
    }
}

/// Writes until all handles are gone.
pub(super) async fn run(mut connection: SqliteConnection, mut commands: mpsc::Receiver<Command>) {
    let mut batch = Vec::with_capacity(BATCH);
    // As the connection was opened.
    let mut waits_for_disk = true;
    while commands.recv_many(&mut batch, BATCH).await > 0 {
        let (ops, replies): (Vec<_>, Vec<_>) = batch.drain(..).map(|c| (c.op, c.reply)).unzip();
        let outcome = write(&mut connection, ops, &mut waits_for_disk).await;
        if let Err(e) = &outcome {
            tracing::error!(error = %e, writes = replies.len(), "database write failed");
        }
        for (i, reply) in replies.into_iter().enumerate() {
            // Whoever asked may have gone away; the write stands all the same.
            let _ = reply.send(outcome.as_ref().map(|changed| changed[i]).map_err(Clone::clone));
        }
    }
    if let Err(e) = connection.close().await {
        tracing::warn!(error = %e, "closing the database");
    }
}

/// Commits; the disk is waited for only where a write has to last. Without that, a write survives the end of the process
/// but not that of the machine, and the next one that waits takes it along.
async fn write(
    connection: &mut SqliteConnection,
    ops: Vec<Op>,
    waits_for_disk: &mut bool,
) -> Result<Vec<bool>, StoreError> {
    let must_last = ops.iter().any(Op::must_last);
    if must_last != *waits_for_disk {
        let pragma = if must_last { "PRAGMA synchronous = FULL" } else { "PRAGMA synchronous = NORMAL" };
        sqlx::query(pragma).execute(&mut *connection).await?;
        *waits_for_disk = must_last;
    }
    commit(connection, ops).await
}

async fn commit(connection: &mut SqliteConnection, ops: Vec<Op>) -> Result<Vec<bool>, StoreError> {
    let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
    let mut changed = Vec::with_capacity(ops.len());
    for op in ops {
        changed.push(apply(&mut transaction, op).await? > 0);
    }
    transaction.commit().await?;
    Ok(changed)
}

async fn apply(transaction: &mut Transaction<'_, Sqlite>, op: Op) -> Result<u64, StoreError> {
    let now = now_ms();
    let query = match op {
        Op::Insert(request) => return insert(transaction, request, now).await,
        Op::Open { key, job_id, payload } => sqlx::query(
            "UPDATE requests SET job_id = ?1, stage = ?2, stage_since = ?3, detail = ?4, payload = ?7,
             shared_at = coalesce(shared_at, ?3) WHERE id = ?5 AND epoch_id = ?6 AND stage <= ?2",
        )
        .bind(job_id.to_vec())
        .bind(Stage::Opening as i64)
        .bind(now)
        .bind("shares of the other parties")
        .bind(key.id.to_vec())
        .bind(key.epoch_id.to_vec())
        .bind(payload),
        Op::Answer { key, answer, mpc } => sqlx::query(
            "UPDATE requests SET stage = ?1, stage_since = ?2, detail = NULL, answer = ?3, answered_at = ?2,
             mpc_micros = ?4 WHERE id = ?5 AND epoch_id = ?6 AND stage < ?1",
        )
        .bind(Stage::Answered as i64)
        .bind(now)
        .bind(answer)
        .bind(i64::try_from(mpc.as_micros()).unwrap_or(i64::MAX))
        .bind(key.id.to_vec())
        .bind(key.epoch_id.to_vec()),
        Op::Receipt { key, receipt } => sqlx::query(
            "UPDATE requests SET stage = ?1, stage_since = ?2, receipt = ?3 WHERE id = ?4 AND epoch_id = ?5
             AND receipt IS NULL AND answer IS NOT NULL",
        )
        .bind(Stage::Final as i64)
        .bind(now)
        .bind(receipt)
        .bind(key.id.to_vec())
        .bind(key.epoch_id.to_vec()),
        Op::Refuse { key, refusal, detail } => return refuse(transaction, key, refusal, detail, now).await,
        Op::UserAnswer(answer) => return user_answer(transaction, answer, now).await,
        Op::Key(key) => return put_key(transaction, key, now).await,
        // A run that is known, or a second one beside an open one, changes nothing.
        Op::OpenKeygen(keygen) => sqlx::query(
            "INSERT INTO keygens (run_id, params, compressed, crs_digest, state, started_at, since)
             VALUES (?1, ?2, ?3, ?4, 'open', ?5, ?5) ON CONFLICT DO NOTHING",
        )
        .bind(keygen.run_id.to_vec())
        .bind(i64::from(keygen.params))
        .bind(i64::from(keygen.compressed))
        .bind(keygen.crs_digest.to_vec())
        .bind(now),
        Op::MoveKeygen { run_id, from, to, key_id, result, detail } => sqlx::query(
            "UPDATE keygens SET state = ?1, key_id = coalesce(?2, key_id), result = coalesce(?3, result),
             detail = coalesce(?4, detail), since = ?5 WHERE run_id = ?6 AND state = ?7",
        )
        .bind(to.name())
        .bind(key_id.map(|id| id.to_vec()))
        .bind(result)
        .bind(detail)
        .bind(now)
        .bind(run_id.to_vec())
        .bind(from.name()),
        Op::Journal { kind, subject, detail } => return journal(transaction, kind, subject, detail, now).await,
    };
    Ok(query.execute(&mut **transaction).await?.rows_affected())
}

/// A new row, unless there is one.
async fn insert(transaction: &mut Transaction<'_, Sqlite>, r: NewRequest, now: i64) -> Result<u64, StoreError> {
    let done = sqlx::query(
        "INSERT INTO requests (id, job_id, chain_id, epoch_id, payload, stage, stage_since, received_at)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id, epoch_id) DO NOTHING",
    )
    .bind(r.id.to_vec())
    // Until the ciphertexts are there it has no job; its own id is nobody's.
    .bind(r.id.to_vec())
    .bind(r.chain_id.cast_signed())
    .bind(r.epoch_id.to_vec())
    .bind(r.payload)
    .bind(Stage::Received as i64)
    .bind(now)
    .bind(now)
    .execute(&mut **transaction)
    .await?;
    Ok(done.rows_affected())
}

/// What ends a request without an answer stands in the journal too.
async fn refuse(
    transaction: &mut Transaction<'_, Sqlite>,
    key: RequestKey,
    refusal: Vec<u8>,
    detail: String,
    now: i64,
) -> Result<u64, StoreError> {
    let done = sqlx::query(
        "UPDATE requests SET stage = ?1, stage_since = ?2, refusal = ?3, detail = ?4 WHERE id = ?5 AND epoch_id = ?6
         AND stage < 3",
    )
    .bind(Stage::Refused as i64)
    .bind(now)
    .bind(refusal)
    .bind(&detail)
    .bind(key.id.to_vec())
    .bind(key.epoch_id.to_vec())
    .execute(&mut **transaction)
    .await?;
    if done.rows_affected() == 0 {
        return Ok(0);
    }
    journal(transaction, "refused", key.id.to_string(), detail, now).await
}

async fn journal(
    transaction: &mut Transaction<'_, Sqlite>,
    kind: &'static str,
    subject: String,
    detail: String,
    now: i64,
) -> Result<u64, StoreError> {
    let done = sqlx::query("INSERT INTO journal (at, kind, subject, detail) VALUES (?, ?, ?, ?)")
        .bind(now)
        .bind(kind)
        .bind(subject)
        .bind(detail)
        .execute(&mut **transaction)
        .await?;
    Ok(done.rows_affected())
}

/// One row per request, which counts.
async fn user_answer(transaction: &mut Transaction<'_, Sqlite>, a: UserAnswer, now: i64) -> Result<u64, StoreError> {
    let done = sqlx::query(
        "INSERT INTO user_answers (id, epoch_id, key_id, chain_id, user, delegator, permit_hash, handles, block_number,
         first_at, last_at, times) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?10, 1)
         ON CONFLICT (id, epoch_id) DO UPDATE SET block_number = excluded.block_number, last_at = excluded.last_at,
         times = times + 1",
    )
    .bind(a.id.to_vec())
    .bind(a.epoch_id.to_vec())
    .bind(a.key_id.to_vec())
    .bind(a.chain_id.cast_signed())
    .bind(a.user.to_vec())
    .bind(a.delegator.map(|delegator| delegator.to_vec()))
    .bind(a.permit_hash.to_vec())
    .bind(a.handles.concat())
    .bind(a.block_number.cast_signed())
    .bind(now)
    .execute(&mut **transaction)
    .await?;
    Ok(done.rows_affected())
}

async fn put_key(transaction: &mut Transaction<'_, Sqlite>, key: KeyRow, now: i64) -> Result<u64, StoreError> {
    sqlx::query(
        "INSERT INTO epochs (epoch_id, context_id, key_id, state, since) VALUES (?, ?, ?, 'live', ?)
         ON CONFLICT (epoch_id) DO NOTHING",
    )
    .bind(key.epoch_id.to_vec())
    .bind(key.context_id.to_vec())
    .bind(key.key_id.to_vec())
    .bind(now)
    .execute(&mut **transaction)
    .await?;
    let done = sqlx::query(
        "INSERT INTO keys (key_id, epoch_id, params, object, share_digest, state, detail, since)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?)
         ON CONFLICT (key_id, epoch_id) DO UPDATE SET state = excluded.state, detail = excluded.detail,
         since = CASE WHEN state = excluded.state THEN since ELSE excluded.since END",
    )
    .bind(key.key_id.to_vec())
    .bind(key.epoch_id.to_vec())
    .bind(i64::from(key.params))
    .bind(key.object)
    .bind(key.share_digest.to_vec())
    .bind(key.state.name())
    .bind(key.detail)
    .bind(now)
    .execute(&mut **transaction)
    .await?;
    Ok(done.rows_affected())
}

fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use alloy_primitives::Address;

    use super::*;

    #[tokio::test]
    async fn only_what_follows_from_a_grant_does_not_wait_for_the_disk() {
        let key = RequestKey { id: B256::ZERO, epoch_id: B256::ZERO };
        let grant = NewRequest { id: key.id, chain_id: 1, epoch_id: key.epoch_id, payload: Vec::new() };
        let follows = || Op::Answer { key, answer: vec![1], mpc: Duration::ZERO };
        let open = || Op::Open { key, job_id: B256::ZERO, payload: Vec::new() };
        let receipt = || Op::Receipt { key, receipt: Vec::new() };
        let refuse = || Op::Refuse { key, refusal: Vec::new(), detail: String::new() };
        let journal = || Op::Journal { kind: "start", subject: String::new(), detail: String::new() };
        let audited = || UserAnswer {
            id: key.id,
            epoch_id: key.epoch_id,
            key_id: B256::ZERO,
            chain_id: 1,
            user: Address::ZERO,
            delegator: None,
            permit_hash: B256::ZERO,
            handles: vec![B256::ZERO],
            block_number: 1,
        };
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("node.db");
        drop(crate::store::Store::open(&path).await.unwrap());
        let mut connection = SqliteConnection::connect(&format!("sqlite://{}", path.display())).await.unwrap();
        let mut waits = true;
        let batches = [
            (vec![Op::Insert(grant)], 2i64),
            (vec![open(), follows()], 1),
            (vec![receipt()], 1),
            (vec![Op::UserAnswer(audited())], 1),
            (vec![follows(), refuse()], 2),
            (vec![journal()], 2),
            (vec![follows()], 1),
        ];
        for (ops, expected) in batches {
            let what = format!("{ops:?}");
            write(&mut connection, ops, &mut waits).await.unwrap();
            let now: i64 = sqlx::query_scalar("PRAGMA synchronous").fetch_one(&mut connection).await.unwrap();
            assert_eq!(now, expected, "{what}");
        }
    }
}
