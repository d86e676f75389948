//! The database of the party: SQLite in WAL mode.
//!
//! All writes go through one task that puts whatever has piled up into one transaction and answers each caller only
//! after the commit: when a call returns `Ok`, its effect survives a kill. A power cut it survives too, unless it only says
//! how far a granted request has come: that follows from its row. Reads use their own connections.
//! Payloads, answers, refusals and receipts are opaque here; the engine versions them.

mod model;
mod read;
mod writer;

use std::path::Path;
use std::time::Duration;

use alloy_primitives::B256;
use sqlx::SqlitePool;
use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{ConnectOptions, SqlSafeStr};
use tokio::sync::{mpsc, oneshot};

pub use model::{
    Inserted, JournalRow, KeyRow, KeyState, KeygenRow, KeygenState, NewKeygen, NewRequest, Pending, PendingRow,
    Position, RequestKey, RequestRow, Stage, UserAnswer, UserRow,
};
use writer::{Command, Op};

use crate::error::StoreError;

/// Commands that may wait for the writer; callers beyond that wait themselves.
const QUEUE: usize = 1024;
/// Connections for reading.
const READERS: u32 = 4;
/// How long a connection waits for another process (`kms-node check`, a backup) to release the file.
const BUSY: Duration = Duration::from_secs(10);

/// Handle to the database; clones share it.
#[derive(Clone, Debug)]
pub struct Store {
    writer: mpsc::Sender<Command>,
    readers: SqlitePool,
}

impl Store {
    /// Opens or creates the database, brings its schema up to date and starts the writer.
    ///
    /// # Errors
    /// The file can't be opened, or was written by a newer version of this program.
    pub async fn open(path: &Path) -> Result<Self, StoreError> {
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(BUSY);
        let mut connection = options.clone().connect().await?;
        migrator().run(&mut connection).await.map_err(|e| StoreError::Migration(e.to_string()))?;
        let (writer, commands) = mpsc::channel(QUEUE);
        tokio::spawn(writer::run(connection, commands));
        let readers = SqlitePoolOptions::new().max_connections(READERS).connect_with(options.read_only(true)).await?;
        Ok(Self { writer, readers })
    }

    /// Records a request that was granted, [`Stage::Received`]. One that is known in its epoch already keeps its row, which
    /// is returned.
    pub async fn insert_request(&self, request: NewRequest) -> Result<Inserted, StoreError> {
        let key = RequestKey { id: request.id, epoch_id: request.epoch_id };
        if self.write(Op::Insert(request)).await? {
            return Ok(Inserted::New);
        }
        let row = self.request(key).await?.ok_or(StoreError::NoRequest(key.id))?;
        Ok(Inserted::Existing(Box::new(row)))
    }

    /// Notes, before the share of a job leaves this party, that it may, [`Stage::Opening`], and what was granted then. It
    /// stays noted whatever becomes of the request, except through a power cut right after. `false` if the request has come
    /// further already.
    pub async fn open_request(&self, key: RequestKey, job_id: B256, payload: Vec<u8>) -> Result<bool, StoreError> {
        self.write(Op::Open { key, job_id, payload }).await
    }

    /// Stores the signed answer, [`Stage::Answered`]. `false` if there is one: an answer never changes.
    pub async fn answer(&self, key: RequestKey, answer: Vec<u8>, mpc: Duration) -> Result<bool, StoreError> {
        self.write(Op::Answer { key, answer, mpc }).await
    }

    /// Stores the final receipt, [`Stage::Final`]. `false` if there is one.
    pub async fn receipt(&self, key: RequestKey, receipt: Vec<u8>) -> Result<bool, StoreError> {
        self.write(Op::Receipt { key, receipt }).await
    }

    /// Ends a request that was recorded but can never be answered, [`Stage::Refused`]. `false` if it has an answer.
    pub async fn refuse(&self, key: RequestKey, refusal: Vec<u8>, detail: String) -> Result<bool, StoreError> {
        self.write(Op::Refuse { key, refusal, detail }).await
    }

    /// Records a key of an epoch, or its new state.
    pub async fn put_key(&self, key: KeyRow) -> Result<(), StoreError> {
        self.write(Op::Key(key)).await.map(drop)
    }

    /// Opens a generation of a key. `false` if this run was recorded before, or another one is open.
    pub async fn open_keygen(&self, keygen: NewKeygen) -> Result<bool, StoreError> {
        self.write(Op::OpenKeygen(keygen)).await
    }

    /// Takes a generation from one state to the next; `result` replaces what is there if it is given. `false` if it is not
    /// in the state `from`.
    pub async fn move_keygen(
        &self,
        run_id: B256,
        from: KeygenState,
        to: KeygenState,
        key_id: Option<B256>,
        result: Option<Vec<u8>>,
        detail: Option<String>,
    ) -> Result<bool, StoreError> {
        self.write(Op::MoveKeygen { run_id, from, to, key_id, result, detail }).await
    }

    /// Notes, before it leaves this party, that a share was sealed for a user. Requests that come again are counted, each
    /// has one row. A power cut right after may undo the note.
    pub async fn user_answer(&self, answer: UserAnswer) -> Result<(), StoreError> {
        self.write(Op::UserAnswer(answer)).await.map(drop)
    }

    /// Writes a line into the audit journal.
    pub async fn journal(
        &self,
        kind: &'static str,
        subject: impl Into<String>,
        detail: impl Into<String>,
    ) -> Result<(), StoreError> {
        self.write(Op::Journal { kind, subject: subject.into(), detail: detail.into() }).await.map(drop)
    }

    async fn write(&self, op: Op) -> Result<bool, StoreError> {
        let (reply, answer) = oneshot::channel();
        self.writer.send(Command { op, reply }).await.map_err(|_| StoreError::Closed)?;
        answer.await.map_err(|_| StoreError::Closed)?
    }
}

/// The schema, embedded. (`sqlx::migrate!` needs sqlx's `macros`, which nothing else here does.)
fn migrator() -> Migrator {
    let versions = [
        (1, "initial", include_str!("../migrations/0001_initial.sql")),
        (2, "pending", include_str!("../migrations/0002_pending.sql")),
        (3, "keygens", include_str!("../migrations/0003_keygens.sql")),
        (4, "user_answers", include_str!("../migrations/0004_user_answers.sql")),
    ];
    let migration = |(version, name, sql): (i64, &'static str, &'static str)| {
        Migration::new(version, name.into(), MigrationType::Simple, sql.into_sql_str(), false)
    };
    Migrator::with_migrations(versions.map(migration).into())
}

#[cfg(test)]
mod tests;
