//! One commit for many transactions.
//!
//! A commit of SQLite waits for the disk, for some milliseconds, and there is one writer. With a hundred workers almost all
//! of that time would be spent waiting, one after the other. So a transaction is a savepoint within a larger one (one that
//! consists of a single statement needs none, as SQLite undoes a statement that fails), and whoever has finished queues once more, behind those that wait to begin: when its turn comes, it commits for everybody who
//! has finished in between. [`Member::commit`] returns when the disk has it, as ever.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use sqlx::any::{AnyArguments, AnyQueryResult};
use sqlx::query::Query;
use sqlx::{Any, AnyConnection, AnyPool, Executor, Transaction};
use tokio::sync::{Mutex, OwnedMutexGuard, oneshot};

use crate::error::Error;

/// The one writer of a database file.
#[derive(Debug, Clone)]
pub(super) struct Group {
    pool: AnyPool,
    shared: Arc<Mutex<Shared>>,
}

#[derive(Debug, Default)]
struct Shared {
    /// What is to be committed together; none between two groups.
    open: Option<Transaction<'static, Any>>,
    /// The last member was dropped in the middle: what it has written is to be undone first.
    spoiled: bool,
    /// Who waits for the commit.
    finished: Vec<oneshot::Sender<()>>,
}

impl Shared {
    /// Undoes what a member has left behind.
    async fn clean(&mut self) -> Result<(), Error> {
        if self.spoiled
            && let Some(open) = &mut self.open
        {
            open.execute("ROLLBACK TO member").await?;
            open.execute("RELEASE member").await?;
        }
        self.spoiled = false;
        Ok(())
    }

    /// Nothing of this group may stand, and those who wait hear so: dropping it rolls it back.
    fn forget(&mut self) {
        *self = Self::default();
    }

    /// Commits what there is, and tells those who wait. An error is told to them by silence.
    async fn commit(&mut self) -> Result<(), Error> {
        let waiting = std::mem::take(&mut self.finished);
        if let Err(error) = self.clean().await {
            self.forget();
            return Err(error);
        }
        if let Some(open) = self.open.take() {
            open.commit().await?;
        }
        for member in waiting {
            let _ = member.send(());
        }
        Ok(())
    }
}

impl Group {
    /// Over a pool of one connection.
    pub(super) fn new(pool: AnyPool) -> Self {
        Self { pool, shared: Arc::default() }
    }

    /// When it is this one's turn: what is written together, and nobody's changes in the middle.
    async fn turn(&self) -> Result<OwnedMutexGuard<Shared>, Error> {
        let mut shared = self.shared.clone().lock_owned().await;
        if let Err(error) = shared.clean().await {
            shared.forget();
            return Err(error);
        }
        if shared.open.is_none() {
            shared.open = Some(self.pool.begin_with("BEGIN IMMEDIATE").await?);
        }
        Ok(shared)
    }

    /// Begins when it is this one's turn.
    pub(super) async fn begin(&self) -> Result<Member, Error> {
        let mut shared = self.turn().await?;
        if let Some(open) = &mut shared.open {
            open.execute("SAVEPOINT member").await?;
        }
        Ok(Member { group: self.clone(), shared: Some(shared) })
    }

    /// A transaction of one statement.
    pub(super) async fn once(&self, statement: Query<'_, Any, AnyArguments>) -> Result<AnyQueryResult, Error> {
        let mut shared = self.turn().await?;
        let Some(open) = &mut shared.open else { return Err(not_committed()) };
        let done = statement.execute(&mut **open).await;
        // Dropped up to here, it is committed or not: whoever drops it never learns, as with any commit.
        match done {
            Ok(done) => {
                self.finish(shared).await?;
                Ok(done)
            }
            Err(error) => {
                shared.forget();
                Err(error.into())
            }
        }
    }

    /// Queues behind everybody who waits to begin, and commits for all that have finished by then.
    async fn finish(&self, mut shared: OwnedMutexGuard<Shared>) -> Result<(), Error> {
        let (tell, mut told) = oneshot::channel();
        shared.finished.push(tell);
        drop(shared);
        tokio::select! {
            biased;
            done = &mut told => done.map_err(|_| not_committed()),
            mut shared = self.shared.clone().lock_owned() => {
                // It may have been committed in the instant before.
                match told.try_recv() {
                    Ok(()) => Ok(()),
                    Err(oneshot::error::TryRecvError::Closed) => Err(not_committed()),
                    // For others, too: who is dropped in the middle must not take their answer along.
                    Err(oneshot::error::TryRecvError::Empty) => {
                        tokio::spawn(async move { shared.commit().await }).await.unwrap_or_else(|_| Err(not_committed()))
                    }
                }
            }
        }
    }

    /// Commits what is finished.
    pub(super) async fn close(&self) {
        if let Err(error) = self.shared.lock().await.commit().await {
            tracing::error!(%error, "the last changes are not stored");
        }
    }
}

/// One transaction of a group. Dropped without [`Member::commit`] it has changed nothing.
#[derive(Debug)]
pub(super) struct Member {
    group: Group,
    /// Taken when the member is finished.
    shared: Option<OwnedMutexGuard<Shared>>,
}

impl Member {
    /// Finishes, and waits until it is committed with the others.
    pub(super) async fn commit(mut self) -> Result<(), Error> {
        // Should the caller be dropped from here on, this may be committed with what comes next: it never learns.
        let Some(mut shared) = self.shared.take() else { return Ok(()) };
        let released = match &mut shared.open {
            Some(open) => open.execute("RELEASE member").await,
            None => return Err(not_committed()),
        };
        if let Err(error) = released {
            shared.forget();
            return Err(error.into());
        }
        self.group.finish(shared).await
    }
}

impl Deref for Member {
    type Target = AnyConnection;

    fn deref(&self) -> &AnyConnection {
        self.shared.as_ref().and_then(|shared| shared.open.as_deref()).expect(OPEN)
    }
}

impl DerefMut for Member {
    fn deref_mut(&mut self) -> &mut AnyConnection {
        self.shared.as_mut().and_then(|shared| shared.open.as_deref_mut()).expect(OPEN)
    }
}

/// A member lives between its beginning, which opens the group, and its end, which nobody outlives.
const OPEN: &str = "a member of a group has its transaction";

impl Drop for Member {
    fn drop(&mut self) {
        if let Some(shared) = &mut self.shared {
            shared.spoiled = true;
        }
    }
}

fn not_committed() -> Error {
    Error::Database(sqlx::Error::Protocol("the commit of a group failed".into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::sqlite_pool;

    /// Over a database that is gone with the folder.
    async fn group() -> (tempfile::TempDir, Group) {
        sqlx::any::install_default_drivers();
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite:{}?mode=rwc", folder.path().join("db").display());
        (folder, Group::new(sqlite_pool(&url, 1).await.unwrap()))
    }

    #[tokio::test]
    async fn a_disk_that_was_full_has_room_again() {
        let (_folder, group) = group().await;
        group.once(sqlx::query("CREATE TABLE things (thing BLOB)")).await.unwrap();
        // No page more than there is; a connection of its own forgets it.
        sqlx::query("PRAGMA max_page_count = 1").execute(&group.pool).await.unwrap();
        let insert = || sqlx::query("INSERT INTO things VALUES ($1)").bind(vec![7u8; 100_000]);
        assert!(group.once(insert()).await.is_err());
        let mut member = group.begin().await.unwrap();
        let written = insert().execute(&mut *member).await;
        drop(member);
        group.once(insert()).await.unwrap_or_else(|error| panic!("{error}, and before {written:?}"));
    }

    #[tokio::test]
    async fn whoever_is_dropped_while_it_commits_for_others_takes_nothing_along() {
        let (_folder, group) = group().await;
        group.once(sqlx::query("CREATE TABLE things (thing BIGINT)")).await.unwrap();
        for thing in 0..200i64 {
            let insert = || group.once(sqlx::query("INSERT INTO things VALUES ($1)").bind(thing));
            let patience = std::time::Duration::from_micros(u64::try_from(thing).unwrap() * 20);
            let (dropped, kept) = tokio::join!(tokio::time::timeout(patience, insert()), insert());
            assert!(kept.is_ok(), "{kept:?}, the other one {dropped:?}");
        }
    }
}
