//! What the parties say about a job.

use alloy_primitives::{Address, B256, Bytes};
use sqlx::any::AnyRow;

use super::jobs::{none_if_empty, shift_in};
use super::row::{Columns, int};
use super::shares::{NewShare, insert_share, sharing_in};
use super::{Store, Tx, Write};
use crate::clock::now_ms;
use crate::dispatch::Receipt;
use crate::error::Error;
use crate::job::USER_KIND;
use crate::state::State;

/// What a party said last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PartyStatus {
    /// Nothing yet; the question is on its way.
    Asked,
    /// A verified answer is stored.
    Answered,
    /// Ask again later.
    NotYet,
    /// Never.
    Refused,
    /// It does not hold the epoch that was named.
    EpochNotLive,
    /// It could not be reached, or broke off.
    Unreachable,
    /// Its answer does not verify.
    Invalid,
}

impl PartyStatus {
    /// Name in the database, the API and the metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            PartyStatus::Asked => "asked",
            PartyStatus::Answered => "answered",
            PartyStatus::NotYet => "not-yet",
            PartyStatus::Refused => "refused",
            PartyStatus::EpochNotLive => "epoch-not-live",
            PartyStatus::Unreachable => "unreachable",
            PartyStatus::Invalid => "invalid",
        }
    }
}

/// A verified answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewAnswer {
    /// Address of the signer.
    pub signer: Address,
    /// One word per handle.
    pub cleartexts: Bytes,
    /// Extra data that was signed.
    pub extra_data: Bytes,
    /// The signature.
    pub signature: [u8; 65],
}

/// A verified answer as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredAnswer {
    /// Index of the party.
    pub party: u32,
    /// The answer.
    pub answer: NewAnswer,
    /// It came after the quorum.
    pub late: bool,
}

/// What one party said.
#[derive(Debug, Clone)]
pub struct Report {
    /// Index of the party.
    pub party: u32,
    /// Class.
    pub status: PartyStatus,
    /// A sentence.
    pub detail: String,
    /// Ask it again at this time, milliseconds.
    pub retry_at: i64,
    /// The answer, with status [`PartyStatus::Answered`].
    pub answer: Option<Given>,
}

/// What a party answers with, by the kind of the job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Given {
    /// Cleartexts for everybody.
    Cleartexts(NewAnswer),
    /// A share for one user.
    Share(NewShare),
}

impl From<NewAnswer> for Given {
    fn from(answer: NewAnswer) -> Self {
        Self::Cleartexts(answer)
    }
}

impl From<NewShare> for Given {
    fn from(share: NewShare) -> Self {
        Self::Share(share)
    }
}

/// What became of a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Recorded {
    /// Answers of the largest group: they agree on cleartexts and extra data, or their shares can be put together. Cleartexts
    /// are not counted any more once the job has left `dispatched`.
    pub agreeing: usize,
    /// This report completed the quorum.
    pub quorum_now: bool,
}

impl Store {
    /// Records what parties said, and moves the job to `quorum` when `threshold` answers agree: one transaction. What is said
    /// about a job that was deleted meanwhile is forgotten.
    ///
    /// # Errors
    /// Database.
    pub async fn record(&self, job: B256, reports: &[Report], threshold: usize) -> Result<Recorded, Error> {
        // Whoever records for the same parties locks their rows in the same order.
        let mut reports: Vec<&Report> = reports.iter().collect();
        reports.sort_by_key(|report| report.party);
        let mut tx = self.begin(Write::Record).await?;
        let row = sqlx::query("SELECT state, kind FROM jobs WHERE id = $1")
            .bind(job.to_vec())
            .fetch_optional(&mut *tx)
            .await?;
        let Some(row) = row else { return Ok(Recorded { agreeing: 0, quorum_now: false }) };
        let late = row.state("state")? != State::Dispatched;
        let now = now_ms();
        set_parties(&mut tx, job, &reports, now).await?;
        insert_answers(&mut tx, job, &reports, late, now).await?;
        for report in &reports {
            if let Some(Given::Share(share)) = &report.answer {
                insert_share(&mut tx, job, report.party, share, now).await?;
            }
        }
        let (agreeing, detail) = if row.text("kind")? == USER_KIND {
            let sharing = sharing_in(&mut tx, job).await?.len();
            (sharing, format!("{sharing} of {threshold} shares"))
        } else if late {
            // Nothing depends on how many there are any more.
            (0, String::new())
        } else {
            let answers = answers_in(&mut tx, job).await?;
            let group = largest_group(&answers);
            if let (true, Some(first)) = (group.len() >= threshold, group.first()) {
                sqlx::query("UPDATE jobs SET cleartexts = $1, extra_data = $2 WHERE id = $3 AND state = 'dispatched'")
                    .bind(first.answer.cleartexts.to_vec())
                    .bind(first.answer.extra_data.to_vec())
                    .bind(job.to_vec())
                    .execute(&mut *tx)
                    .await?;
            }
            (group.len(), format!("{} of {threshold} signatures", group.len()))
        };
        let quorum_now = agreeing >= threshold
            && !late
            && shift_in(&mut tx, job, State::Dispatched, State::Quorum, "", &detail).await?;
        tx.commit().await?;
        if quorum_now {
            self.metrics.transition(State::Quorum, 1);
        }
        for report in reports {
            self.metrics.party(report.party, report.status);
        }
        Ok(Recorded { agreeing, quorum_now })
    }

    /// The verified answers to a job, by party.
    ///
    /// # Errors
    /// Database.
    pub async fn answers(&self, job: B256) -> Result<Vec<StoredAnswer>, Error> {
        let rows = sqlx::query(SELECT_ANSWERS).bind(job.to_vec()).fetch_all(&self.read).await?;
        rows.iter().map(answer).collect()
    }

    /// Keeps receipts of parties.
    ///
    /// # Errors
    /// Database.
    pub async fn record_receipts(&self, job: B256, receipts: &[(u32, Receipt)]) -> Result<(), Error> {
        if receipts.is_empty() {
            return Ok(());
        }
        let sql = format!(
            "INSERT INTO receipts (job, at, party, receipt, mpc_micros) VALUES {} ON CONFLICT (job, party) \
             DO UPDATE SET receipt = excluded.receipt, mpc_micros = excluded.mpc_micros, at = excluded.at",
            places(2, 3, receipts.len())
        );
        let mut insert = sqlx::query(sqlx::AssertSqlSafe(sql)).bind(job.to_vec()).bind(now_ms());
        for (party, receipt) in receipts {
            insert = insert.bind(i64::from(*party)).bind(receipt.bytes.clone()).bind(int(receipt.mpc_micros));
        }
        self.once(Write::Receipt, insert).await?;
        Ok(())
    }

    /// Parties whose answer is stored, and whose receipt is not.
    ///
    /// # Errors
    /// Database.
    pub async fn without_receipt(&self, job: B256) -> Result<Vec<u32>, Error> {
        sqlx::query(
            "SELECT party FROM answers WHERE job = $1 AND party NOT IN (SELECT party FROM receipts WHERE job = $1) \
             ORDER BY party",
        )
        .bind(job.to_vec())
        .fetch_all(&self.read)
        .await?
        .iter()
        .map(|row| u32::try_from(row.i64("party")?).map_err(Error::corrupt))
        .collect()
    }

    /// Microseconds from the first share sent to the answer, by the receipts of the parties. The lower median: half of them may
    /// have waited for others that were not ready, or say so.
    ///
    /// # Errors
    /// Database.
    pub async fn mpc_micros(&self, job: B256) -> Result<Option<u64>, Error> {
        let rows = sqlx::query("SELECT mpc_micros FROM receipts WHERE job = $1 ORDER BY mpc_micros")
            .bind(job.to_vec())
            .fetch_all(&self.read)
            .await?;
        rows.get(rows.len().saturating_sub(1) / 2).map(|row| row.u64("mpc_micros")).transpose()
    }

    /// Notes which epoch is to be asked for from now on, for this job and for new ones of its chain.
    ///
    /// # Errors
    /// Database.
    pub async fn set_epoch(&self, job: B256, chain: u64, epoch: B256) -> Result<(), Error> {
        let mut tx = self.begin(Write::Epoch).await?;
        sqlx::query("UPDATE jobs SET epoch = $1 WHERE id = $2")
            .bind(epoch.to_vec())
            .bind(job.to_vec())
            .execute(&mut *tx)
            .await?;
        sqlx::query(
            "INSERT INTO epochs (chain, epoch, at) VALUES ($1, $2, $3) \
             ON CONFLICT (chain) DO UPDATE SET epoch = $2, at = $3",
        )
        .bind(int(chain))
        .bind(epoch.to_vec())
        .bind(now_ms())
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(())
    }

    /// The epoch that was last asked for with success.
    ///
    /// # Errors
    /// Database.
    pub async fn last_epoch(&self, chain: u64) -> Result<Option<B256>, Error> {
        sqlx::query("SELECT epoch FROM epochs WHERE chain = $1")
            .bind(int(chain))
            .fetch_optional(&self.read)
            .await?
            .map(|row| row.hash("epoch"))
            .transpose()
    }
}

/// The answers that agree on cleartexts and extra data, of the largest such group; in order of the parties.
#[must_use]
pub fn largest_group(answers: &[StoredAnswer]) -> Vec<&StoredAnswer> {
    let mut groups: Vec<Vec<&StoredAnswer>> = Vec::new();
    for stored in answers {
        let same = |group: &&mut Vec<&StoredAnswer>| {
            let a = &group[0].answer;
            a.cleartexts == stored.answer.cleartexts && a.extra_data == stored.answer.extra_data
        };
        match groups.iter_mut().find(same) {
            Some(group) => group.push(stored),
            None => groups.push(vec![stored]),
        }
    }
    groups.into_iter().max_by_key(Vec::len).unwrap_or_default()
}

const SELECT_ANSWERS: &str =
    "SELECT party, signer, cleartexts, extra_data, signature, late FROM answers WHERE job = $1 ORDER BY party";

async fn answers_in(tx: &mut Tx, job: B256) -> Result<Vec<StoredAnswer>, Error> {
    let rows = sqlx::query(SELECT_ANSWERS).bind(job.to_vec()).fetch_all(&mut **tx).await?;
    rows.iter().map(answer).collect()
}

fn answer(row: &AnyRow) -> Result<StoredAnswer, Error> {
    let signature = row.blob("signature")?;
    Ok(StoredAnswer {
        party: u32::try_from(row.i64("party")?).map_err(Error::corrupt)?,
        answer: NewAnswer {
            signer: row.address("signer")?,
            cleartexts: row.blob("cleartexts")?.into(),
            extra_data: row.blob("extra_data")?.into(),
            signature: signature.try_into().map_err(|_| Error::corrupt("signature is not 65 bytes"))?,
        },
        late: row.i64("late")? != 0,
    })
}

/// Places of `rows` rows: each begins with the first `shared` values, which all have in common, and has `own` more.
fn places(shared: usize, own: usize, rows: usize) -> String {
    let row = |row: usize| {
        let own = (1..=own).map(|place| shared + own * row + place);
        let places: Vec<String> = (1..=shared).chain(own).map(|place| format!("${place}")).collect();
        format!("({})", places.join(", "))
    };
    (0..rows).map(row).collect::<Vec<_>>().join(", ")
}

/// One statement for all of them; each party has one report.
async fn set_parties(tx: &mut Tx, job: B256, reports: &[&Report], now: i64) -> Result<(), Error> {
    if reports.is_empty() {
        return Ok(());
    }
    // An answer is never forgotten again.
    let sql = format!(
        "INSERT INTO job_parties (job, at, party, status, detail, retry_at) VALUES {} ON CONFLICT (job, party) \
         DO UPDATE SET status = excluded.status, detail = excluded.detail, at = excluded.at, \
         retry_at = excluded.retry_at WHERE job_parties.status <> 'answered'",
        places(2, 4, reports.len())
    );
    let mut query = sqlx::query(sqlx::AssertSqlSafe(sql)).bind(job.to_vec()).bind(now);
    for report in reports {
        query = query
            .bind(i64::from(report.party))
            .bind(report.status.as_str())
            .bind(none_if_empty(&report.detail))
            .bind(report.retry_at);
    }
    query.execute(&mut **tx).await?;
    Ok(())
}

/// One statement for all cleartexts among the reports.
async fn insert_answers(tx: &mut Tx, job: B256, reports: &[&Report], late: bool, now: i64) -> Result<(), Error> {
    let given: Vec<(u32, &NewAnswer)> = reports
        .iter()
        .filter_map(|report| match &report.answer {
            Some(Given::Cleartexts(answer)) => Some((report.party, answer)),
            _ => None,
        })
        .collect();
    if given.is_empty() {
        return Ok(());
    }
    let sql = format!(
        "INSERT INTO answers (job, late, at, party, signer, cleartexts, extra_data, signature) VALUES {} \
         ON CONFLICT (job, party) DO UPDATE SET signer = excluded.signer, cleartexts = excluded.cleartexts, \
         extra_data = excluded.extra_data, signature = excluded.signature, late = excluded.late, at = excluded.at \
         WHERE excluded.late = 0",
        places(3, 5, given.len())
    );
    let mut query = sqlx::query(sqlx::AssertSqlSafe(sql)).bind(job.to_vec()).bind(i64::from(late)).bind(now);
    for (party, answer) in given {
        query = query
            .bind(i64::from(party))
            .bind(answer.signer.to_vec())
            .bind(answer.cleartexts.to_vec())
            .bind(answer.extra_data.to_vec())
            .bind(answer.signature.to_vec());
    }
    query.execute(&mut **tx).await?;
    Ok(())
}
