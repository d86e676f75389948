//! Reading columns: everything that comes out of the database is checked.

use alloy_primitives::{Address, B256, Bytes, U256};
use sqlx::Row;
use sqlx::any::AnyRow;

use crate::error::Error;
use crate::job::{Job, Payload};
use crate::state::State;

/// Integers are stored as `i64`; heights, nonces and times are far below its end.
pub(super) fn int(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// Typed access to a row's columns by name.
pub(super) trait Columns {
    fn i64(&self, name: &str) -> Result<i64, Error>;
    fn i64_opt(&self, name: &str) -> Result<Option<i64>, Error>;
    fn text(&self, name: &str) -> Result<String, Error>;
    fn text_opt(&self, name: &str) -> Result<Option<String>, Error>;
    fn blob(&self, name: &str) -> Result<Vec<u8>, Error>;
    fn blob_opt(&self, name: &str) -> Result<Option<Vec<u8>>, Error>;

    fn u64(&self, name: &str) -> Result<u64, Error> {
        u64::try_from(self.i64(name)?).map_err(|_| Error::corrupt(format!("{name} is negative")))
    }
    fn u64_opt(&self, name: &str) -> Result<Option<u64>, Error> {
        self.i64_opt(name)?
            .map(|value| u64::try_from(value).map_err(|_| Error::corrupt(format!("{name} is negative"))))
            .transpose()
    }
    fn hash(&self, name: &str) -> Result<B256, Error> {
        B256::try_from(self.blob(name)?.as_slice()).map_err(|_| Error::corrupt(format!("{name} is not 32 bytes")))
    }
    fn hash_opt(&self, name: &str) -> Result<Option<B256>, Error> {
        self.blob_opt(name)?
            .map(|b| B256::try_from(b.as_slice()).map_err(|_| Error::corrupt(format!("{name} is not 32 bytes"))))
            .transpose()
    }
    fn address(&self, name: &str) -> Result<Address, Error> {
        Address::try_from(self.blob(name)?.as_slice()).map_err(|_| Error::corrupt(format!("{name} is not 20 bytes")))
    }
    fn u128(&self, name: &str) -> Result<u128, Error> {
        self.text(name)?.parse().map_err(|_| Error::corrupt(format!("{name} is not a number")))
    }
    fn state(&self, name: &str) -> Result<State, Error> {
        let text = self.text(name)?;
        State::parse(&text).ok_or_else(|| Error::corrupt(format!("{name} is {text:?}")))
    }
}

impl Columns for AnyRow {
    fn i64(&self, name: &str) -> Result<i64, Error> {
        Ok(self.try_get(name)?)
    }
    fn i64_opt(&self, name: &str) -> Result<Option<i64>, Error> {
        Ok(self.try_get(name)?)
    }
    fn text(&self, name: &str) -> Result<String, Error> {
        Ok(self.try_get(name)?)
    }
    fn text_opt(&self, name: &str) -> Result<Option<String>, Error> {
        Ok(self.try_get(name)?)
    }
    fn blob(&self, name: &str) -> Result<Vec<u8>, Error> {
        Ok(self.try_get(name)?)
    }
    fn blob_opt(&self, name: &str) -> Result<Option<Vec<u8>>, Error> {
        Ok(self.try_get(name)?)
    }
}

/// Columns of a [`Job`].
macro_rules! job_columns {
    () => {
        "id, chain, state, payload, created_at, since, attempts, next_attempt, reason, detail, deadline, fee, block, \
         fulfilled_tx, callback, cleartexts, extra_data, epoch"
    };
}
pub(super) use job_columns;

pub(super) fn job(row: &AnyRow) -> Result<Job, Error> {
    Ok(Job {
        id: row.hash("id")?,
        chain: row.u64("chain")?,
        state: row.state("state")?,
        payload: Payload::from_text(&row.text("payload")?).map_err(Error::corrupt)?,
        created_at: row.i64("created_at")?,
        since: row.i64("since")?,
        attempts: u32::try_from(row.i64("attempts")?).unwrap_or(u32::MAX),
        next_attempt: row.i64("next_attempt")?,
        reason: row.text_opt("reason")?,
        detail: row.text_opt("detail")?,
        deadline: row.u64("deadline")?,
        fee: row.text("fee")?.parse::<U256>().map_err(Error::corrupt)?,
        block: row.u64_opt("block")?,
        fulfilled_tx: row.hash_opt("fulfilled_tx")?,
        callback: row.text_opt("callback")?,
        cleartexts: row.blob_opt("cleartexts")?.map(Bytes::from),
        extra_data: row.blob_opt("extra_data")?.map(Bytes::from),
        epoch: row.hash_opt("epoch")?,
    })
}
