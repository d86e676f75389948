//! What came over HTTP: asking, giving up, forgetting.

use alloy_primitives::{B256, Bytes};
use kms_chain::request::pull_request_id;
use sqlx::any::AnyRow;

use super::jobs::{job_in, shift_in, timeline_in};
use super::row::{Columns, int};
use super::shares::sharing_in;
use super::{Store, Tx, Write};
use crate::clock::now_ms;
use crate::error::Error;
use crate::job::{Job, Payload, UserPayload};
use crate::state::State;

/// A question about publicly decryptable handles.
#[derive(Debug, Clone)]
pub struct NewPull {
    /// Host chain of the handles.
    pub chain: u64,
    /// Handles.
    pub handles: Vec<B256>,
    /// Extra data of the answer.
    pub extra_data: Bytes,
    /// When to give up, seconds of our clock.
    pub deadline: u64,
    /// Who asks.
    pub client: Vec<u8>,
}

/// A user's question. Its rules and its signature have been checked.
#[derive(Debug, Clone)]
pub struct NewUser {
    /// Its request id.
    pub id: B256,
    /// Host chain.
    pub chain: u64,
    /// Permit, signature and handles.
    pub payload: UserPayload,
    /// Number of parties: a finished job that lacks the shares of some collects on.
    pub parties: usize,
    /// When to give up, seconds of our clock.
    pub deadline: u64,
    /// Who asks.
    pub client: Vec<u8>,
}

/// What became of a question that came over HTTP.
#[derive(Debug, Clone)]
pub enum Pulled {
    /// Its job, perhaps older than the question. Boxed, for it is large.
    Job(Box<Job>),
    /// Too many are open.
    Full,
    /// Too many of this client are open.
    TooManyOfYours,
}

struct Asked {
    id: B256,
    chain: u64,
    payload: Payload,
    /// Parties whose shares a finished job should have.
    parties: usize,
    deadline: u64,
    client: Vec<u8>,
}

impl Store {
    /// Records a pull job, or finds the one that asks the same. One that failed is asked for again. At most `most_open` pull
    /// jobs are open, and `most_own` of any kind that one client asked for first.
    ///
    /// # Errors
    /// Database.
    pub async fn submit_pull(&self, new: NewPull, most_open: u64, most_own: u64) -> Result<Pulled, Error> {
        let NewPull { chain, handles, extra_data, deadline, client } = new;
        let id = pull_request_id(chain, &handles, &extra_data);
        let payload = Payload::PublicPull { handles, extra_data };
        self.ask_for(Asked { id, chain, payload, parties: 0, deadline, client }, most_open, most_own).await
    }

    /// The same for a user's question.
    ///
    /// # Errors
    /// Database.
    pub async fn submit_user(&self, new: NewUser, most_open: u64, most_own: u64) -> Result<Pulled, Error> {
        let NewUser { id, chain, payload, parties, deadline, client } = new;
        let payload = Payload::UserDecrypt(payload);
        self.ask_for(Asked { id, chain, payload, parties, deadline, client }, most_open, most_own).await
    }

    async fn ask_for(&self, new: Asked, most_open: u64, most_own: u64) -> Result<Pulled, Error> {
        let id = new.id;
        let mut tx = self.begin(Write::Ask).await?;
        let existing = job_in(&mut tx, id).await?;
        let to = match &existing {
            None => Some(State::Final),
            Some(job) if matches!(job.state, State::Expired | State::Refused) => Some(State::Final),
            Some(job) if job.state == State::Done && sharing_in(&mut tx, id).await?.len() < new.parties => {
                Some(State::Quorum)
            }
            Some(_) => None,
        };
        if let Some(to) = to
            && let Some(pushed_back) = room(&mut tx, &new, most_open, most_own).await?
        {
            match (to, existing) {
                // It has something to show all the same.
                (State::Quorum, Some(job)) => return Ok(Pulled::Job(Box::new(job))),
                _ => return Ok(pushed_back),
            }
        }
        match (existing, to) {
            (None, _) => insert(&mut tx, new).await?,
            (Some(job), Some(to)) => {
                // The signature is not in the id, and the one that was checked just now is the one to show.
                sqlx::query("UPDATE jobs SET deadline = $1, client = $2, payload = $3 WHERE id = $4")
                    .bind(int(new.deadline))
                    .bind(new.client)
                    .bind(new.payload.to_text().map_err(Error::corrupt)?)
                    .bind(id.to_vec())
                    .execute(&mut *tx)
                    .await?;
                sqlx::query("DELETE FROM job_parties WHERE job = $1").bind(id.to_vec()).execute(&mut *tx).await?;
                shift_in(&mut tx, id, job.state, to, "asked-again", "").await?;
            }
            (Some(_), None) => {}
        }
        // Deleted at this very moment, for its end is long ago: the next question starts it anew.
        let Some(job) = job_in(&mut tx, id).await? else { return Ok(Pulled::Full) };
        tx.commit().await?;
        self.stir();
        Ok(Pulled::Job(Box::new(job)))
    }

    /// Gives up pull jobs whose time is over.
    ///
    /// # Errors
    /// Database.
    pub async fn expire_pulls(&self) -> Result<u64, Error> {
        let now = now_ms();
        let rows = sqlx::query(
            "SELECT id, state FROM jobs WHERE kind <> 'on-chain' AND state IN ('final', 'dispatched') AND deadline <= $1",
        )
        .bind(now / 1000)
        .fetch_all(&self.read)
        .await?;
        let mut moved = 0;
        for row in rows {
            let (id, from) = (row.hash("id")?, row.state("state")?);
            let in_time = "the parties did not answer in time";
            moved += u64::from(self.shift(id, from, State::Expired, "timeout", in_time).await?);
        }
        Ok(moved)
    }
}

/// Whether there is room for one more open job. Of one client, those that have an answer already and collect the rest don't
/// count: how long that takes is up to parties that are down.
async fn room(tx: &mut Tx, new: &Asked, most_open: u64, most_own: u64) -> Result<Option<Pulled>, Error> {
    let count: AnyRow =
        sqlx::query("SELECT COUNT(*) AS n FROM jobs WHERE kind = $1 AND state IN ('final', 'dispatched', 'quorum')")
            .bind(new.payload.kind())
            .fetch_one(&mut **tx)
            .await?;
    let own: AnyRow =
        sqlx::query("SELECT COUNT(*) AS n FROM jobs WHERE client = $1 AND state IN ('final', 'dispatched')")
            .bind(new.client.clone())
            .fetch_one(&mut **tx)
            .await?;
    if own.u64("n")? >= most_own {
        return Ok(Some(Pulled::TooManyOfYours));
    }
    Ok((count.u64("n")? >= most_open).then_some(Pulled::Full))
}

async fn insert(tx: &mut Tx, new: Asked) -> Result<(), Error> {
    let now = now_ms();
    let text = new.payload.to_text().map_err(Error::corrupt)?;
    let added = sqlx::query(
        "INSERT INTO jobs (id, kind, chain, state, payload, created_at, since, next_attempt, deadline, \
         final_tag, final_at, client) VALUES ($1, $2, $3, 'final', $4, $5, $5, $5, $6, 'latest', 0, $7) \
         ON CONFLICT (id) DO NOTHING",
    )
    .bind(new.id.to_vec())
    .bind(new.payload.kind())
    .bind(int(new.chain))
    .bind(text)
    .bind(now)
    .bind(int(new.deadline))
    .bind(new.client)
    .execute(&mut **tx)
    .await?;
    if added.rows_affected() == 1 {
        tx.moved(None, State::Final);
        timeline_in(tx, new.id, State::Final, "asked for over HTTP", now).await?;
    }
    Ok(())
}
