//! The database: SQLite with write-ahead log. Everything is stored before it is acted upon, and what happens next is
//! derived from the rows alone, so a start after a kill needs no code of its own.

mod chain;
mod commitments;
mod inputs;
mod operations;
mod outbox;

use std::{str::FromStr, time::Duration};

use alloy_primitives::{Address, B256, U256};
use sqlx::{
    Row, SqlSafeStr, Sqlite, SqlitePool, Transaction,
    migrate::{Migration, MigrationType, Migrator},
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteRow, SqliteSynchronous},
};

#[cfg(test)]
mod tests;

pub use self::{
    chain::QuarantinedLog,
    commitments::{Commitment, HandleStatus, Progress},
    inputs::{Admitted, Input, InputRoom, StoredInput},
    operations::{Outcome, PendingOperation},
    outbox::{Attempt, OutboxEntry, OutboxState},
};
use crate::error::{Error, Result};

/// The database of one coprocessor. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Store {
    /// One connection: SQLite has one writer at a time anyway, and a queue here never ends in "database is locked".
    writer: SqlitePool,
    reader: SqlitePool,
    #[cfg(test)]
    pub(crate) faults: crate::crash::Faults,
}

/// One write to the database.
type Write = Transaction<'static, Sqlite>;

const MIGRATIONS: [(i64, &str, &str); 4] = [
    (1, "start", include_str!("../../migrations/0001_start.sql")),
    (2, "inputs", include_str!("../../migrations/0002_inputs.sql")),
    (3, "failures", include_str!("../../migrations/0003_failures.sql")),
    (4, "rights", include_str!("../../migrations/0004_rights.sql")),
];

impl Store {
    /// Opens the database at `address` (`sqlite:///path`), creates it when absent and brings it to the present shape.
    ///
    /// # Errors
    /// When the address is malformed, the file can't be opened, or it was written by a newer version.
    pub async fn open(address: &str) -> Result<Self> {
        let options = SqliteConnectOptions::from_str(address)?
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(Duration::from_secs(30));
        let writer = SqlitePoolOptions::new().max_connections(1).connect_with(options.clone()).await?;
        let migrations = MIGRATIONS.iter().map(|(version, name, sql)| {
            Migration::new(*version, (*name).into(), MigrationType::Simple, (*sql).into_sql_str(), false)
        });
        Migrator::with_migrations(migrations.collect()).run(&writer).await?;
        let reader = SqlitePoolOptions::new().max_connections(4).connect_with(options.read_only(true)).await?;
        Ok(Self {
            writer,
            reader,
            #[cfg(test)]
            faults: Default::default(),
        })
    }

    /// Begins a write; dropped without `commit`, it never happened.
    async fn begin(&self) -> Result<Write> {
        Ok(self.writer.begin_with("BEGIN IMMEDIATE").await?)
    }

    /// Makes a write last: on disk when this returns. Every `step` that the work takes ends in one of these.
    async fn commit(&self, write: Write, step: &'static str) -> Result<()> {
        #[cfg(test)]
        self.faults.pass("before", step)?;
        write.commit().await?;
        #[cfg(test)]
        self.faults.pass("after", step)?;
        tracing::trace!(step, "written");
        Ok(())
    }

    /// Whether the database answers.
    ///
    /// # Errors
    /// When it does not.
    pub async fn ping(&self) -> Result<()> {
        sqlx::query("SELECT 1").execute(&self.reader).await?;
        Ok(())
    }

    /// Waits for running statements and closes the file.
    pub async fn close(&self) {
        self.reader.close().await;
        self.writer.close().await;
    }
}

/// SQLite integers are signed; the configuration and the chain keep all of ours below 2^63.
fn int(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn get_u64(row: &SqliteRow, column: &'static str) -> Result<u64> {
    u64::try_from(row.try_get::<i64, _>(column)?).map_err(|_| Error::Corrupt { column })
}

fn get_b256(row: &SqliteRow, column: &'static str) -> Result<B256> {
    B256::try_from(row.try_get::<&[u8], _>(column)?).map_err(|_| Error::Corrupt { column })
}

fn get_optional_b256(row: &SqliteRow, column: &'static str) -> Result<Option<B256>> {
    row.try_get::<Option<&[u8]>, _>(column)?
        .map(|bytes| B256::try_from(bytes).map_err(|_| Error::Corrupt { column }))
        .transpose()
}

fn get_optional_u256(row: &SqliteRow, column: &'static str) -> Result<Option<U256>> {
    Ok(get_optional_b256(row, column)?.map(Into::into))
}

fn get_address(row: &SqliteRow, column: &'static str) -> Result<Address> {
    Address::try_from(row.try_get::<&[u8], _>(column)?).map_err(|_| Error::Corrupt { column })
}
