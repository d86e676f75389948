//! Sealed shares for users: what has been collected, and what of it belongs together.

use std::collections::{BTreeMap, BTreeSet};

use alloy_primitives::{B256, Bytes};
use sqlx::any::AnyRow;

use super::row::Columns;
use super::{Store, Tx};
use crate::error::Error;

/// Groups that one party may stand in at a time; of more the oldest is forgotten.
pub const GROUPS_PER_PARTY: usize = 2;

/// A sealed share that one party has signed for one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewShare {
    /// What it can be put together with: a hash of epoch, key and digests.
    pub group: B256,
    /// The envelope.
    pub share: Bytes,
    /// The party's signature, 65 bytes.
    pub signature: Bytes,
    /// Extra data that was signed.
    pub extra_data: Bytes,
}

/// A sealed share as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredShare {
    /// Index of the party.
    pub party: u32,
    /// The share.
    pub share: NewShare,
}

impl Store {
    /// The shares of a job: those of the largest group first, each group in order of the parties.
    ///
    /// # Errors
    /// Database.
    pub async fn shares(&self, job: B256) -> Result<Vec<StoredShare>, Error> {
        let rows = sqlx::query(
            "SELECT party, grp, share, signature, extra_data FROM user_shares WHERE job = $1 ORDER BY grp, party",
        )
        .bind(job.to_vec())
        .fetch_all(&self.read)
        .await?;
        let mut shares = rows.iter().map(share).collect::<Result<Vec<_>, Error>>()?;
        let mut sizes = BTreeMap::<B256, usize>::new();
        for stored in &shares {
            *sizes.entry(stored.share.group).or_default() += 1;
        }
        shares.sort_by_key(|stored| std::cmp::Reverse(sizes.get(&stored.share.group).copied()));
        Ok(shares)
    }

    /// The parties of the largest group.
    ///
    /// # Errors
    /// Database.
    pub async fn sharing(&self, job: B256) -> Result<BTreeSet<u32>, Error> {
        let rows = sqlx::query(SELECT_PLACES).bind(job.to_vec()).fetch_all(&self.read).await?;
        largest(&rows)
    }
}

const SELECT_PLACES: &str = "SELECT party, grp FROM user_shares WHERE job = $1";

pub(super) async fn sharing_in(tx: &mut Tx, job: B256) -> Result<BTreeSet<u32>, Error> {
    let rows = sqlx::query(SELECT_PLACES).bind(job.to_vec()).fetch_all(&mut **tx).await?;
    largest(&rows)
}

fn largest(rows: &[AnyRow]) -> Result<BTreeSet<u32>, Error> {
    let mut groups = BTreeMap::<B256, BTreeSet<u32>>::new();
    for row in rows {
        groups.entry(row.hash("grp")?).or_default().insert(party(row)?);
    }
    Ok(groups.into_values().max_by_key(BTreeSet::len).unwrap_or_default())
}

/// Keeps a share. The first one of a party in a group stays: the words of another must be the same.
pub(super) async fn insert_share(tx: &mut Tx, job: B256, party: u32, share: &NewShare, now: i64) -> Result<(), Error> {
    let added = sqlx::query(
        "INSERT INTO user_shares (job, party, grp, share, signature, extra_data, at) VALUES ($1, $2, $3, $4, $5, $6, $7) \
         ON CONFLICT (job, party, grp) DO NOTHING",
    )
    .bind(job.to_vec())
    .bind(i64::from(party))
    .bind(share.group.to_vec())
    .bind(share.share.to_vec())
    .bind(share.signature.to_vec())
    .bind(share.extra_data.to_vec())
    .bind(now)
    .execute(&mut **tx)
    .await?;
    if added.rows_affected() == 0 {
        return Ok(());
    }
    let others =
        sqlx::query("SELECT grp FROM user_shares WHERE job = $1 AND party = $2 AND grp <> $3 ORDER BY at DESC, grp")
            .bind(job.to_vec())
            .bind(i64::from(party))
            .bind(share.group.to_vec())
            .fetch_all(&mut **tx)
            .await?;
    for row in others.iter().skip(GROUPS_PER_PARTY - 1) {
        sqlx::query("DELETE FROM user_shares WHERE job = $1 AND party = $2 AND grp = $3")
            .bind(job.to_vec())
            .bind(i64::from(party))
            .bind(row.blob("grp")?)
            .execute(&mut **tx)
            .await?;
    }
    Ok(())
}

fn share(row: &AnyRow) -> Result<StoredShare, Error> {
    Ok(StoredShare {
        party: party(row)?,
        share: NewShare {
            group: row.hash("grp")?,
            share: row.blob("share")?.into(),
            signature: row.blob("signature")?.into(),
            extra_data: row.blob("extra_data")?.into(),
        },
    })
}

fn party(row: &AnyRow) -> Result<u32, Error> {
    u32::try_from(row.i64("party")?).map_err(Error::corrupt)
}
