//! Who does what only one may do at a time, among the relayers of one database.
//!
//! A lead lasts for some time and is renewed by its holder. That time runs on a clock, and a process can stand still for
//! longer: whatever must not happen twice is therefore not only preceded by [`Store::lead`] but made in a transaction that
//! fails if somebody else has led in between.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use super::{Store, Tx, Write};
use crate::clock::now_ms;
use crate::error::Error;

/// What this process believes about leads: those that it has asked for, and whether it has them.
#[derive(Debug, Default)]
pub(super) struct Leads(Mutex<BTreeMap<String, bool>>);

impl Leads {
    fn set(&self, name: &str, ours: bool) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned(), ours);
    }

    fn get(&self, name: &str) -> Option<bool> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(name).copied()
    }
}

/// Characters of the mark that tells one process of a name from the next: `#` and sixteen digits.
macro_rules! of_instance {
    ($column:literal) => {
        of_instance!($column, "$2")
    };
    ($column:literal, $name:literal) => {
        concat!("substr(", $column, ", 1, length(", $column, ") - 17) = ", $name)
    };
}
impl Store {
    /// Becomes or stays the one that does `name`, for `ttl_ms`.
    ///
    /// # Errors
    /// Database.
    pub async fn lead(&self, name: &str, ttl_ms: i64) -> Result<bool, Error> {
        let now = now_ms();
        let done = self
            .once(
                Write::Lead,
                sqlx::query(
                    "INSERT INTO leads (name, owner, until) VALUES ($1, $2, $3) ON CONFLICT (name) DO UPDATE \
                     SET owner = $2, until = $3 WHERE leads.owner = $2 OR leads.until <= $4",
                )
                .bind(name.to_owned())
                .bind(self.owner.to_string())
                .bind(now.saturating_add(ttl_ms))
                .bind(now),
            )
            .await?;
        let ours = done.rows_affected() == 1;
        self.leads.set(name, ours);
        Ok(ours)
    }

    /// Whether this process did `name` when it last asked; `None` if it never asked.
    #[must_use]
    pub fn leads(&self, name: &str) -> Option<bool> {
        self.leads.get(name)
    }

    /// Renews a lead within a transaction. It fails if somebody else had it in between, even if that time is over: what
    /// this transaction is about to do rests on what was read before.
    pub(super) async fn stay(&self, tx: &mut Tx, name: &str, ttl_ms: i64) -> Result<(), Error> {
        let done = sqlx::query(
            "INSERT INTO leads (name, owner, until) VALUES ($1, $2, $3) ON CONFLICT (name) DO UPDATE \
             SET until = $3 WHERE leads.owner = $2",
        )
        .bind(name.to_owned())
        .bind(self.owner.to_string())
        .bind(now_ms().saturating_add(ttl_ms))
        .execute(&mut **tx)
        .await?;
        let ours = done.rows_affected() == 1;
        self.leads.set(name, ours);
        if ours { Ok(()) } else { Err(Error::NotLeading(name.to_owned())) }
    }

    /// Takes over what an earlier process of the same name held: its leads stay held, so that nobody comes in between, and
    /// its work is free at once.
    pub(super) async fn resume(&self, instance: &str) -> Result<(), Error> {
        let mut tx = self.begin(Write::Resume).await?;
        sqlx::query(concat!("UPDATE leads SET owner = $1 WHERE ", of_instance!("owner")))
            .bind(self.owner.to_string())
            .bind(instance.to_owned())
            .execute(&mut *tx)
            .await?;
        sqlx::query(concat!(
            "UPDATE jobs SET lease_owner = NULL, lease_until = 0 WHERE ",
            of_instance!("lease_owner", "$1")
        ))
        .bind(instance.to_owned())
        .execute(&mut *tx)
        .await?;
        tx.commit().await
    }
}

/// The name under which one process holds leases and leads. Two processes of one name, by mistake, are still two.
pub(super) fn owner(instance: &str) -> String {
    format!("{instance}#{:016x}", rand::random::<u64>())
}
