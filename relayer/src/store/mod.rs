//! The database: SQLite (a file, one process) or PostgreSQL (several relayers share the work), one SQL text for both.
//!
//! Every change of a job's state goes through [`Store::shift`] or one of the set-wise moves in `chain`, each guarded by the
//! state it starts from, so that whoever comes second changes nothing. Dialects differ in two places only: how a write
//! transaction begins, and how work is claimed.

mod accounts;
mod answers;
mod chain;
mod console;
mod group;
mod jobs;
mod leads;
mod outbox;
mod pulls;
mod retention;
mod row;
mod shares;
mod view;
mod way;
mod witness;

use std::sync::Arc;

use sqlx::any::AnyPoolOptions;
use sqlx::any::{AnyArguments, AnyQueryResult};
use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::query::Query;
use sqlx::{Any, AnyPool, Connection, Executor, SqlSafeStr};
use tokio::sync::watch;

use crate::error::Error;
use crate::metrics::Metrics;
use crate::ranks::Seen;

pub use answers::{Given, NewAnswer, PartyStatus, Recorded, Report, StoredAnswer, largest_group};
pub use chain::{Applied, ChainRules, Cursor, Quarantined, follow_lead};
pub use console::{FirstPending, Listed, Queue, Transition};
pub use jobs::Work;
pub use outbox::{Account, Attempt, Mined, NewAttempt, NewTransaction, Outgoing, Purpose, Standing, TxState};
pub use pulls::{NewPull, NewUser, Pulled};
pub use shares::{GROUPS_PER_PARTY, NewShare, StoredShare};
pub use view::{PartyRow, TimelineRow, TransactionRow, View};
pub use witness::{Move, Side, Witness, Write};

use group::Group;
use leads::Leads;
use witness::{Inner, Tx};

/// Which database it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backend {
    /// A file of our own.
    Sqlite,
    /// A server, possibly shared with other relayers.
    Postgres,
}

/// The relayer's database.
#[derive(Debug, Clone)]
pub struct Store {
    backend: Backend,
    write: AnyPool,
    /// The one writer of SQLite, who commits for many at a time. A server does that by itself.
    group: Option<Group>,
    read: AnyPool,
    owner: Arc<str>,
    leads: Arc<Leads>,
    stirred: watch::Sender<u64>,
    metrics: Arc<Metrics>,
    witness: Option<Arc<dyn Witness>>,
    seen: Arc<Seen>,
}

impl Store {
    /// Opens the database and brings its schema up to date. Leases that an earlier run of this `instance` left behind are
    /// given back, so that its work goes on at once.
    ///
    /// # Errors
    /// Unknown scheme, no database, or a schema from a newer version.
    pub async fn open(url: &str, instance: &str, metrics: Arc<Metrics>) -> Result<Self, Error> {
        Self::open_before(url, instance, metrics, None).await
    }

    /// The same, before somebody who is told of every commit.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub async fn open_before(
        url: &str,
        instance: &str,
        metrics: Arc<Metrics>,
        witness: Option<Arc<dyn Witness>>,
    ) -> Result<Self, Error> {
        sqlx::any::install_default_drivers();
        let backend = match url.split_once(':').map(|(scheme, _)| scheme) {
            Some("sqlite") => Backend::Sqlite,
            Some("postgres" | "postgresql") => Backend::Postgres,
            _ => return Err(Error::Config("the database is neither sqlite: nor postgres:".into())),
        };
        let (write, read) = match backend {
            Backend::Sqlite => {
                let url = if url.contains('?') { url.to_owned() } else { format!("{url}?mode=rwc") };
                // One writer, so that writers queue here and not on the file's lock.
                (sqlite_pool(&url, 1).await?, sqlite_pool(&url, 4).await?)
            }
            Backend::Postgres => {
                let pool = AnyPoolOptions::new().max_connections(16).connect(url).await?;
                (pool.clone(), pool)
            }
        };
        let store = Self {
            backend,
            group: (backend == Backend::Sqlite).then(|| Group::new(write.clone())),
            write,
            read,
            owner: leads::owner(instance).into(),
            leads: Arc::default(),
            stirred: watch::Sender::new(0),
            metrics,
            witness,
            seen: Arc::default(),
        };
        store.tell(Side::Before, Write::Migrate);
        migrations(backend).run(&store.write).await?;
        store.tell(Side::After, Write::Migrate);
        store.resume(instance).await?;
        Ok(store)
    }

    /// Changes whenever there may be new work.
    #[must_use]
    pub fn stirred(&self) -> watch::Receiver<u64> {
        self.stirred.subscribe()
    }

    fn stir(&self) {
        self.stirred.send_modify(|n| *n += 1);
    }

    /// When relayers were last seen to have posted an answer.
    #[must_use]
    pub fn seen(&self) -> &Seen {
        &self.seen
    }

    /// The metrics that this store counts into.
    #[must_use]
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    /// Name of this process among those that share the database.
    #[must_use]
    pub fn instance(&self) -> &str {
        self.owner.rsplit_once('#').map_or(&self.owner, |(name, _)| name)
    }

    /// Whether the database answers.
    ///
    /// # Errors
    /// It does not.
    pub async fn ping(&self) -> Result<(), Error> {
        sqlx::query("SELECT 1").execute(&self.read).await?;
        Ok(())
    }

    /// Closes all connections, after what is under way.
    pub async fn close(&self) {
        if let Some(group) = &self.group {
            group.close().await;
        }
        self.write.close().await;
        self.read.close().await;
    }

    async fn begin(&self, write: Write) -> Result<Tx, Error> {
        let inner = match &self.group {
            Some(group) => Inner::Shared(group.begin().await?),
            None => Inner::Own(self.write.begin().await?),
        };
        Ok(Tx::new(inner, write, self.witness.clone()))
    }

    /// One statement that is a transaction by itself.
    async fn once(&self, write: Write, statement: Query<'_, Any, AnyArguments>) -> Result<AnyQueryResult, Error> {
        self.tell(Side::Before, write);
        let done = match &self.group {
            Some(group) => group.once(statement).await?,
            None => statement.execute(&self.write).await?,
        };
        self.tell(Side::After, write);
        Ok(done)
    }

    fn tell(&self, side: Side, write: Write) {
        witness::tell(self.witness.as_ref(), side, write, &[]);
    }
}

async fn sqlite_pool(url: &str, connections: u32) -> Result<AnyPool, Error> {
    let pool = AnyPoolOptions::new().max_connections(connections);
    // When a full disk ends a transaction, the connection does not know: it would begin no other one.
    let pool = pool.after_release(|connection, _| {
        Box::pin(async move {
            connection.ping().await?;
            Ok(!connection.is_in_transaction())
        })
    });
    let pool = pool.after_connect(|connection, _| {
        Box::pin(async move {
            // FULL: what is committed survives a power cut, as the outbox needs.
            connection.execute("PRAGMA journal_mode = WAL").await?;
            connection.execute("PRAGMA synchronous = FULL").await?;
            connection.execute("PRAGMA busy_timeout = 10000").await?;
            Ok(())
        })
    });
    Ok(pool.connect(url).await?)
}

fn migrations(backend: Backend) -> Migrator {
    let [initial, clients, user_shares, receipts] = match backend {
        Backend::Sqlite => [
            include_str!("../../migrations/sqlite/0001_initial.sql"),
            include_str!("../../migrations/sqlite/0002_clients.sql"),
            include_str!("../../migrations/sqlite/0003_user_shares.sql"),
            include_str!("../../migrations/sqlite/0004_receipts.sql"),
        ],
        Backend::Postgres => [
            include_str!("../../migrations/postgres/0001_initial.sql"),
            include_str!("../../migrations/postgres/0002_clients.sql"),
            include_str!("../../migrations/postgres/0003_user_shares.sql"),
            include_str!("../../migrations/postgres/0004_receipts.sql"),
        ],
    };
    let migration = |version, name: &'static str, sql: &'static str| {
        Migration::new(version, name.into(), MigrationType::Simple, sql.into_sql_str(), false)
    };
    Migrator::with_migrations(vec![
        migration(1, "initial", initial),
        migration(2, "clients", clients),
        migration(3, "user_shares", user_shares),
        migration(4, "receipts", receipts),
    ])
}
