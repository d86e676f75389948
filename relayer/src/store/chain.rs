//! What the chain says, applied in one transaction with the cursor.

use std::collections::BTreeSet;

use alloy_primitives::{Address, B256, Bytes};
use kms_chain::follower::{BlockRef, settled};
use kms_chain::request::Finality;

use super::jobs::{job_in, shift_in, timeline_in};
use super::row::{Columns, int};
use super::{Store, Tx, Write};
use crate::clock::now_ms;
use crate::error::Error;
use crate::job::{ChainEvent, Facts, FinalWhen, Located, Payload};
use crate::state::{ChainSays, State, observe};

/// What holds for all requests of one chain.
#[derive(Debug, Clone, Copy)]
pub struct ChainRules {
    /// Chain id.
    pub chain: u64,
    /// Finality below which no party answers.
    pub floor: Finality,
    /// Blocks on top of a fulfilment after which it is done.
    pub depth: u64,
    /// Seconds after the deadline in which an answer may still come.
    pub grace: u64,
    /// How long whoever follows the chain keeps others of the same database from it, milliseconds.
    pub lead_ms: i64,
}

impl ChainRules {
    /// What only one relayer of a database does.
    #[must_use]
    pub fn lead_name(&self) -> String {
        follow_lead(self.chain)
    }
}

/// Name of the lead of whoever follows a chain.
#[must_use]
pub fn follow_lead(chain: u64) -> String {
    format!("watch:{chain}")
}

/// One step of the follower, with its logs read.
#[derive(Debug, Clone)]
pub struct Applied {
    /// Blocks that are no longer part of the chain.
    pub orphaned: Vec<BlockRef>,
    /// Blocks that now are.
    pub blocks: Vec<BlockRef>,
    /// The gateway's events in them.
    pub events: Vec<Located>,
    /// The gateway's logs in them that can't be read.
    pub quarantined: Vec<Quarantined>,
    /// The cursor after this step: newest block whose logs are in the database.
    pub latest: BlockRef,
    /// Height of the safe block.
    pub safe: u64,
    /// Height of the finalized block.
    pub finalized: u64,
}

/// A log that could not be read.
#[derive(Debug, Clone)]
pub struct Quarantined {
    /// Block number.
    pub block: u64,
    /// Block hash.
    pub block_hash: B256,
    /// Index of the log in its block.
    pub log_index: u64,
    /// Transaction.
    pub tx: B256,
    /// Contract.
    pub address: Address,
    /// Topics, one after the other.
    pub topics: Bytes,
    /// Data.
    pub data: Bytes,
    /// What is wrong with it.
    pub error: String,
}

/// How far a chain is followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cursor {
    /// Newest block applied.
    pub number: u64,
    /// Its time, seconds.
    pub timestamp: u64,
    /// Safe block.
    pub safe: u64,
    /// Finalized block.
    pub finalized: u64,
    /// When, milliseconds of our clock.
    pub updated_at: i64,
}

impl Store {
    /// The blocks that are kept, newest last.
    ///
    /// # Errors
    /// Database.
    pub async fn tail(&self, chain: u64) -> Result<Vec<BlockRef>, Error> {
        let rows = sqlx::query("SELECT number, hash, parent, timestamp FROM blocks WHERE chain = $1 ORDER BY number")
            .bind(int(chain))
            .fetch_all(&self.read)
            .await?;
        rows.iter()
            .map(|row| {
                Ok(BlockRef {
                    number: row.u64("number")?,
                    hash: row.hash("hash")?,
                    parent: row.hash("parent")?,
                    timestamp: row.u64("timestamp")?,
                })
            })
            .collect()
    }

    /// How far the chain is followed.
    ///
    /// # Errors
    /// Database.
    pub async fn cursor(&self, chain: u64) -> Result<Option<Cursor>, Error> {
        let row = sqlx::query("SELECT number, timestamp, safe, finalized, updated_at FROM cursors WHERE chain = $1")
            .bind(int(chain))
            .fetch_optional(&self.read)
            .await?;
        row.map(|row| {
            Ok(Cursor {
                number: row.u64("number")?,
                timestamp: row.u64("timestamp")?,
                safe: row.u64("safe")?,
                finalized: row.u64("finalized")?,
                updated_at: row.i64("updated_at")?,
            })
        })
        .transpose()
    }

    /// Applies one step: blocks, events, jobs and cursor, all of it or nothing. Renews the lead of whoever follows the chain.
    ///
    /// # Errors
    /// Database; [`Error::NotLeading`] if another process has followed the chain since this one read how far it is.
    pub async fn apply(&self, rules: &ChainRules, step: &Applied) -> Result<(), Error> {
        let mut tx = self.begin(Write::Apply).await?;
        self.stay(&mut tx, &rules.lead_name(), rules.lead_ms).await?;
        let mut counts = Vec::new();
        let mut touched = BTreeSet::new();
        for block in &step.orphaned {
            orphan(&mut tx, rules.chain, block, &mut touched).await?;
        }
        for block in &step.blocks {
            insert_block(&mut tx, rules.chain, block).await?;
        }
        for event in &step.events {
            insert_event(&mut tx, rules.chain, event).await?;
            touched.insert(event.job);
        }
        for log in &step.quarantined {
            quarantine(&mut tx, rules.chain, log).await?;
        }
        for job in touched {
            refresh(&mut tx, rules, job, &mut counts).await?;
        }
        set_cursor(&mut tx, rules.chain, step).await?;
        settle(&mut tx, rules, step, &mut counts).await?;
        tx.commit().await?;
        for (state, n) in counts {
            self.metrics.transition(state, n);
        }
        for event in &step.events {
            if let ChainEvent::Fulfilled { fulfiller, .. } = &event.event {
                self.seen.note(*fulfiller, now_ms());
            }
        }
        self.metrics.quarantined(step.quarantined.len() as u64);
        self.stir();
        Ok(())
    }
}

async fn orphan(tx: &mut Tx, chain: u64, block: &BlockRef, touched: &mut BTreeSet<B256>) -> Result<(), Error> {
    let hash = block.hash.to_vec();
    let rows = sqlx::query("SELECT DISTINCT job FROM events WHERE chain = $1 AND block_hash = $2")
        .bind(int(chain))
        .bind(hash.clone())
        .fetch_all(&mut **tx)
        .await?;
    for row in rows {
        touched.insert(row.hash("job")?);
    }
    for sql in [
        // Our own transactions in it are broadcast again at once, also those whose receipt nobody has looked at yet.
        "UPDATE attempts SET sent_at = NULL WHERE chain = $1 AND hash IN (SELECT tx_hash FROM events \
         WHERE chain = $1 AND block_hash = $2)",
        "DELETE FROM blocks WHERE chain = $1 AND hash = $2",
        "DELETE FROM events WHERE chain = $1 AND block_hash = $2",
        "DELETE FROM quarantine WHERE chain = $1 AND block_hash = $2",
        // The same for those that have one; they are pending again.
        "UPDATE attempts SET sent_at = NULL WHERE chain = $1 AND (sender, nonce) IN (SELECT sender, nonce \
         FROM transactions WHERE chain = $1 AND mined_block_hash = $2 AND state IN ('mined', 'confirmed'))",
        "UPDATE transactions SET state = 'pending', mined_hash = NULL, mined_block = NULL, mined_block_hash = NULL, \
         succeeded = NULL, gas_used = NULL, gas_price = NULL WHERE chain = $1 AND mined_block_hash = $2 \
         AND state IN ('mined', 'confirmed')",
    ] {
        sqlx::query(sql).bind(int(chain)).bind(hash.clone()).execute(&mut **tx).await?;
    }
    Ok(())
}

async fn insert_block(tx: &mut Tx, chain: u64, block: &BlockRef) -> Result<(), Error> {
    sqlx::query(
        "INSERT INTO blocks (chain, number, hash, parent, timestamp) VALUES ($1, $2, $3, $4, $5) \
         ON CONFLICT (chain, number) DO UPDATE SET hash = $3, parent = $4, timestamp = $5",
    )
    .bind(int(chain))
    .bind(int(block.number))
    .bind(block.hash.to_vec())
    .bind(block.parent.to_vec())
    .bind(int(block.timestamp))
    .execute(&mut **tx)
    .await?;
    Ok(())
}

async fn insert_event(tx: &mut Tx, chain: u64, located: &Located) -> Result<(), Error> {
    sqlx::query(
        "INSERT INTO events (chain, block, block_hash, log_index, tx_hash, job, data) \
         VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (chain, block_hash, log_index) DO NOTHING",
    )
    .bind(int(chain))
    .bind(int(located.block))
    .bind(located.block_hash.to_vec())
    .bind(int(located.log_index))
    .bind(located.tx.to_vec())
    .bind(located.job.to_vec())
    .bind(serde_json::to_string(&located.event).map_err(Error::corrupt)?)
    .execute(&mut **tx)
    .await?;
    Ok(())
}

async fn quarantine(tx: &mut Tx, chain: u64, log: &Quarantined) -> Result<(), Error> {
    sqlx::query(
        "INSERT INTO quarantine (chain, block, block_hash, log_index, tx_hash, address, topics, data, error, at) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) ON CONFLICT (chain, block_hash, log_index) DO NOTHING",
    )
    .bind(int(chain))
    .bind(int(log.block))
    .bind(log.block_hash.to_vec())
    .bind(int(log.log_index))
    .bind(log.tx.to_vec())
    .bind(log.address.to_vec())
    .bind(log.topics.to_vec())
    .bind(log.data.to_vec())
    .bind(log.error.clone())
    .bind(now_ms())
    .execute(&mut **tx)
    .await?;
    Ok(())
}

async fn facts_of(tx: &mut Tx, job: B256) -> Result<Facts, Error> {
    let rows = sqlx::query(
        "SELECT block, block_hash, log_index, tx_hash, data FROM events WHERE job = $1 ORDER BY block, log_index",
    )
    .bind(job.to_vec())
    .fetch_all(&mut **tx)
    .await?;
    let located = rows
        .iter()
        .map(|row| {
            Ok(Located {
                block: row.u64("block")?,
                block_hash: row.hash("block_hash")?,
                log_index: row.u64("log_index")?,
                tx: row.hash("tx_hash")?,
                job,
                event: serde_json::from_str::<ChainEvent>(&row.text("data")?).map_err(Error::corrupt)?,
            })
        })
        .collect::<Result<Vec<_>, Error>>()?;
    Ok(Facts::fold(&located))
}

/// Brings one job in line with what the chain says about it now.
async fn refresh(tx: &mut Tx, rules: &ChainRules, id: B256, counts: &mut Vec<(State, u64)>) -> Result<(), Error> {
    let facts = facts_of(tx, id).await?;
    let mut moved = false;
    if let Some((request, block, block_hash)) = &facts.requested {
        let known = sqlx::query("SELECT block_hash FROM jobs WHERE id = $1")
            .bind(id.to_vec())
            .fetch_optional(&mut **tx)
            .await?;
        if let Some(known) = known {
            moved = known.hash_opt("block_hash")?.is_some_and(|known| known != *block_hash);
        } else {
            let payload = Payload::OnChain(request.clone());
            let now = now_ms();
            sqlx::query(
                "INSERT INTO jobs (id, kind, chain, state, payload, created_at, since, deadline, final_tag, final_at) \
                 VALUES ($1, $2, $3, 'seen', $4, $5, $5, 0, '', 0)",
            )
            .bind(id.to_vec())
            .bind(payload.kind())
            .bind(int(rules.chain))
            .bind(payload.to_text().map_err(Error::corrupt)?)
            .bind(now)
            .execute(&mut **tx)
            .await?;
            tx.moved(None, State::Seen);
            timeline_in(tx, id, State::Seen, &format!("block {block}"), now).await?;
            counts.push((State::Seen, 1));
        }
        store_facts(tx, rules, id, &facts).await?;
    }
    let says = ChainSays {
        requested: facts.requested.is_some(),
        moved,
        fulfilled: facts.fulfilled.is_some(),
        expired: facts.expired,
        cancelled: facts.cancelled,
    };
    // A worker may move the job between our read and our write; then look again.
    while let Some(job) = job_in(tx, id).await? {
        let Some(to) = observe(job.state, says) else { break };
        let detail = detail_of(to, &facts, moved);
        if shift_in(tx, id, job.state, to, "", &detail).await? {
            counts.push((to, 1));
            if to == State::Seen {
                // What parties refused on another fork says nothing about this one. Answers stay.
                sqlx::query("DELETE FROM job_parties WHERE job = $1 AND status <> 'answered'")
                    .bind(id.to_vec())
                    .execute(&mut **tx)
                    .await?;
            }
            break;
        }
    }
    Ok(())
}

fn detail_of(to: State, facts: &Facts, moved: bool) -> String {
    match to {
        State::Mined => facts.fulfilled.as_ref().map_or(String::new(), |(_, block, _)| format!("block {block}")),
        State::Seen if moved => "the chain was reorganised: the request is in another block".into(),
        State::Seen => "the chain was reorganised".into(),
        State::Orphaned => "the chain was reorganised: the request is no longer part of it".into(),
        State::Cancelled => format!("the requester took it back, deadline {}", facts.deadline),
        State::Expired => "expired on chain".into(),
        _ => String::new(),
    }
}

async fn store_facts(tx: &mut Tx, rules: &ChainRules, id: B256, facts: &Facts) -> Result<(), Error> {
    let Some((request, block, block_hash)) = &facts.requested else { return Ok(()) };
    // The contract admits known codes only; an unknown one waits for the strictest.
    let asked = Finality::parse(request.finality).unwrap_or(Finality::Finalized);
    let when = FinalWhen::both(asked, rules.floor);
    sqlx::query(
        "UPDATE jobs SET deadline = $1, fee = $2, block = $3, block_hash = $4, final_tag = $5, final_at = $6, \
         fulfilled_block = $7, fulfilled_tx = $8, callback = $9, cleartexts = COALESCE($10, cleartexts) WHERE id = $11",
    )
    .bind(int(facts.deadline))
    .bind(facts.fee.to_string())
    .bind(int(*block))
    .bind(block_hash.to_vec())
    .bind(when.tag)
    .bind(int(block.saturating_add(when.confirmations)))
    .bind(facts.fulfilled.as_ref().map(|f| int(f.1)))
    .bind(facts.fulfilled.as_ref().map(|f| f.2.to_vec()))
    .bind(facts.callback)
    .bind(facts.fulfilled.as_ref().map(|f| f.0.to_vec()))
    .bind(id.to_vec())
    .execute(&mut **tx)
    .await?;
    Ok(())
}

async fn set_cursor(tx: &mut Tx, chain: u64, step: &Applied) -> Result<(), Error> {
    sqlx::query(
        "INSERT INTO cursors (chain, number, hash, timestamp, safe, finalized, updated_at) \
         VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (chain) DO UPDATE SET number = $2, hash = $3, \
         timestamp = $4, safe = $5, finalized = $6, updated_at = $7",
    )
    .bind(int(chain))
    .bind(int(step.latest.number))
    .bind(step.latest.hash.to_vec())
    .bind(int(step.latest.timestamp))
    .bind(int(step.safe))
    .bind(int(step.finalized))
    .bind(now_ms())
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Moves that depend on the head alone, for all jobs of the chain at once.
async fn settle(tx: &mut Tx, rules: &ChainRules, step: &Applied, counts: &mut Vec<(State, u64)>) -> Result<(), Error> {
    // Never ahead of the logs that we have applied, whatever the chain's heights are.
    let BlockRef { number, timestamp, .. } = step.latest;
    let (safe, finalized) = (step.safe.min(number), step.finalized.min(number));

    macro_rules! move_all {
        ($to:literal, $why:literal, $where:literal, $a:expr, $b:expr, $c:expr) => {{
            let now = now_ms();
            sqlx::query(concat!(
                "INSERT INTO timeline (job, at, state, detail) SELECT id, $1, '",
                $to,
                "', ",
                $why,
                " FROM jobs WHERE chain = $2 AND ",
                $where
            ))
            .bind(now)
            .bind(int(rules.chain))
            .bind(int($a))
            .bind(int($b))
            .bind(int($c))
            .execute(&mut **tx)
            .await?;
            sqlx::query(concat!(
                "UPDATE jobs SET state = '",
                $to,
                "', since = $1, attempts = 0, next_attempt = $1, reason = NULL, detail = ",
                $why,
                " WHERE chain = $2 AND ",
                $where
            ))
            .bind(now)
            .bind(int(rules.chain))
            .bind(int($a))
            .bind(int($b))
            .bind(int($c))
            .execute(&mut **tx)
            .await?
            .rows_affected()
        }};
    }
    // No sum with the deadline: it is what somebody else wrote, and may be as large as a number can be.
    let expired = move_all!(
        "expired",
        "'its deadline has passed'",
        "kind = 'on-chain' AND state IN ('seen', 'final', 'dispatched') AND deadline <= $4 - $3 AND $5 = 0",
        rules.grace,
        timestamp,
        0
    );
    let finals = move_all!(
        "final",
        "NULL",
        "state = 'seen' AND final_at <= $3 AND (final_tag = 'latest' OR (final_tag = 'safe' AND block <= $4) \
         OR (final_tag = 'finalized' AND block <= $5))",
        number,
        safe,
        finalized
    );
    let done = move_all!(
        "done",
        "NULL",
        "state = 'mined' AND (fulfilled_block + $3 <= $4 OR fulfilled_block <= $5)",
        rules.depth,
        number,
        finalized
    );
    for (from, to, n) in [
        (None, State::Expired, expired),
        (Some(State::Seen), State::Final, finals),
        (Some(State::Mined), State::Done, done),
    ] {
        if n > 0 {
            tx.moved(from, to);
            counts.push((to, n));
        }
    }

    // The newest block at or below the settled height stays: it may be the cursor, or the foot of a reorganisation.
    sqlx::query(
        "DELETE FROM blocks WHERE chain = $1 AND number < \
         (SELECT MAX(b.number) FROM blocks b WHERE b.chain = $1 AND b.number <= $2)",
    )
    .bind(int(rules.chain))
    .bind(int(settled(&step.latest, step.finalized)))
    .execute(&mut **tx)
    .await?;
    Ok(())
}
