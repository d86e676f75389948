//! Asking the parties: all of them at once, verify here, quorum ends the wait, a short tail collects the rest. Shares for a
//! user are collected on, from whoever was not heard of in time, until all parties are in or the time for that is over.

mod tail;
mod user;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::time::{Duration, Instant};

use alloy_primitives::B256;
use tokio::sync::mpsc;
use tokio_util::task::TaskTracker;

pub use tail::receipts;
use tail::tail;

use crate::clock::{backoff_ms, now_ms};
use crate::error::Error;
use crate::job::{Job, Payload};
use crate::state::State;
use crate::store::{NewAnswer, NewShare, PartyStatus, Recorded, Report, Store, largest_group};

/// What is asked of the parties.
#[derive(Debug, Clone)]
pub struct Question {
    /// Id of the job; for on-chain jobs the request id.
    pub job: B256,
    /// Host chain.
    pub chain: u64,
    /// What is to be decrypted.
    pub payload: Payload,
    /// Epoch whose shares are to be used.
    pub epoch: B256,
    /// Whom to ask.
    pub parties: Vec<u32>,
    /// How long a party may take.
    pub patience: Duration,
}

/// What one party said. Answers are verified already.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Said {
    /// A verified answer.
    Answer(NewAnswer),
    /// A sealed share that it has signed.
    Share(NewShare),
    /// Ask again after so many milliseconds.
    NotYet {
        /// Reason and detail.
        why: String,
        /// Milliseconds.
        retry_after_ms: u64,
    },
    /// Never.
    Refused {
        /// Stable label of the reason.
        reason: String,
        /// A sentence.
        why: String,
    },
    /// It holds other epochs.
    EpochNotLive(Vec<B256>),
    /// It could not be reached in time, or broke off.
    Unreachable(String),
    /// Its answer does not verify.
    Invalid(String),
}

/// A party's receipt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// The receipt as it was sent.
    pub bytes: Vec<u8>,
    /// First share sent to answer, in microseconds.
    pub mpc_micros: u64,
}

/// The parties, as the relayer sees them.
#[async_trait::async_trait]
pub trait Committee: Send + Sync + Debug {
    /// Indices of all parties.
    fn parties(&self) -> Vec<u32>;
    /// Answers that make a quorum.
    fn threshold(&self) -> usize;
    /// Parties that may lie.
    fn faults(&self) -> usize;
    /// Context that these parties are.
    fn context(&self) -> B256;
    /// Asks each of the question's parties once, all at the same time; the channel closes after the last one.
    fn ask(&self, question: Question) -> mpsc::Receiver<(u32, Said)>;
    /// The final receipt of a party about a request, once it has one.
    async fn receipt(&self, party: u32, request: B256) -> Option<Receipt>;
}

/// How the parties are asked.
#[derive(Debug, Clone, Copy)]
pub struct DispatchRules {
    /// How long one party may take to answer one call.
    pub patience: Duration,
    /// How long late answers are collected after the quorum.
    pub tail: Duration,
    /// Longest pause before a party is asked again.
    pub longest_pause: Duration,
    /// How long a party that does not see the right to a pull's handles is asked again: its endpoint may be behind that of
    /// whoever asks.
    pub grace: Duration,
    /// How long the last parties are waited for in a round when a quorum of others has spoken.
    pub last_call: Duration,
    /// How long shares for a user are collected when there are enough of them.
    pub collect: Duration,
}

/// What became of one round of asking.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Asked {
    /// The quorum is stored, and the job is at `quorum`.
    Quorum,
    /// So many parties refuse for good that a quorum is out of reach.
    Refused {
        /// Label of the reason most given.
        reason: String,
        /// Who said what.
        detail: String,
    },
    /// The job was at `quorum`, and nobody is left whose share could still come.
    Complete {
        /// Who is missing for good, and why.
        detail: String,
    },
    /// Ask again at this time, milliseconds.
    Again {
        /// When.
        at: i64,
        /// Who is missing, and why.
        detail: String,
    },
}

/// Answers that a job of this kind needs: signatures that a proof is made of, or shares that a user can open.
fn needed(committee: &dyn Committee, payload: &Payload) -> usize {
    match payload {
        Payload::OnChain(_) | Payload::PublicPull { .. } => committee.threshold(),
        Payload::UserDecrypt(_) => 2 * committee.faults() + 1,
    }
}

/// The parties whose answers go together.
async fn agreeing(store: &Store, job: &Job) -> Result<BTreeSet<u32>, Error> {
    if matches!(job.payload, Payload::UserDecrypt(_)) {
        return store.sharing(job.id).await;
    }
    let answers = store.answers(job.id).await?;
    Ok(largest_group(&answers).iter().map(|answer| answer.party).collect())
}

/// Asks all parties that have not answered yet, once. Of a job at `quorum`, those whose shares are missing.
///
/// # Errors
/// Database.
pub async fn ask(
    store: &Store,
    committee: &dyn Committee,
    rules: DispatchRules,
    tails: &TaskTracker,
    job: &Job,
) -> Result<Asked, Error> {
    let collecting = job.state == State::Quorum;
    let threshold = needed(committee, &job.payload);
    let known = store.parties(job.id).await?;
    let agreeing = agreeing(store, job).await?;
    if !collecting && agreeing.len() >= threshold {
        // From before a reorganisation or a restart: recording nothing new is enough to move on.
        return quorum_or_later(store, job, threshold).await;
    }
    let has =
        |party: u32, status: PartyStatus| known.iter().any(|row| row.party == party && row.status == status.as_str());
    let agreeing = if user::is_split(committee, job, has) { BTreeSet::new() } else { agreeing };
    let done = |party: &u32| agreeing.contains(party) || has(*party, PartyStatus::Refused);
    let now = now_ms();
    let parties: Vec<u32> = committee.parties().into_iter().filter(|party| !done(party)).collect();
    let due: Vec<u32> = parties
        .iter()
        .copied()
        .filter(|party| known.iter().all(|row| row.party != *party || row.retry_at <= now))
        .collect();
    if due.is_empty() {
        return verdict(store, committee, job, threshold).await;
    }
    let epoch = match (job.epoch, &job.payload) {
        (Some(epoch), _) => epoch,
        // A party answers a user from the epoch that it is in.
        (None, Payload::UserDecrypt(_)) => B256::ZERO,
        // What the last request was answered with; if there was none, the parties will say.
        (None, _) => store.last_epoch(job.chain).await?.unwrap_or_default(),
    };
    // Those whose turn comes in the middle of this round must not wait for its end: the others may be waiting for them.
    let later = known.iter().filter(|row| parties.contains(&row.party) && !due.contains(&row.party));
    let soonest = later.filter_map(|row| in_future(row.retry_at, now)).min();
    let unnoted = due.clone();
    let mut round = Round { store, job, rules, threshold, live: Vec::new(), soonest, unnoted, started: Instant::now() };
    let mut said = committee.ask(Question {
        job: job.id,
        chain: job.chain,
        payload: job.payload.clone(),
        epoch,
        parties: due,
        patience: rules.patience,
    });
    let mut first = tokio::time::timeout(NOTED_AFTER, said.recv()).await.ok();
    if !matches!(first, Some(Some(_))) && round.take(Vec::new()).await?.quorum_now {
        // By answers that another worker has recorded meanwhile.
        tails.spawn(tail(store.clone(), job.clone(), rules, threshold, committee.parties().len(), said));
        return Ok(Asked::Quorum);
    }
    let mut heard = agreeing.len();
    let mut last_call = collecting.then(|| tokio::time::Instant::now() + rules.last_call);
    loop {
        // Whoever has not spoken when a quorum of the others has, and said no, does not hold them up for long; and those who
        // are at work already may be waiting for just the party that wants to be asked again.
        let next = match (first.take(), last_call.into_iter().chain(round.soonest).min()) {
            (Some(first), _) => first,
            (None, Some(at)) => tokio::time::timeout_at(at, said.recv()).await.unwrap_or(None),
            (None, None) => said.recv().await,
        };
        let Some(next) = next else { break };
        let mut batch = vec![next];
        while let Ok(more) = said.try_recv() {
            batch.push(more);
        }
        heard += batch.len();
        if heard >= threshold && last_call.is_none() {
            last_call = Some(tokio::time::Instant::now() + rules.last_call);
        }
        if round.take(batch).await?.quorum_now {
            tails.spawn(tail(store.clone(), job.clone(), rules, threshold, committee.parties().len(), said));
            return Ok(Asked::Quorum);
        }
    }
    round.adopt_epoch(committee.faults()).await?;
    verdict(store, committee, job, threshold).await
}

async fn quorum_or_later(store: &Store, job: &Job, threshold: usize) -> Result<Asked, Error> {
    let recorded = store.record(job.id, &[], threshold).await?;
    Ok(if recorded.quorum_now {
        Asked::Quorum
    } else {
        Asked::Again { at: now_ms(), detail: "the job has moved on".into() }
    })
}

/// The instant of a time in milliseconds, unless it is past.
fn in_future(at: i64, now: i64) -> Option<tokio::time::Instant> {
    let wait = u64::try_from(at.saturating_sub(now)).ok()?;
    Some(tokio::time::Instant::now() + Duration::from_millis(wait))
}

fn report(party: u32, status: PartyStatus, detail: &str, retry_at: i64) -> Report {
    Report { party, status, detail: detail.to_owned(), retry_at, answer: None }
}

struct Round<'a> {
    store: &'a Store,
    job: &'a Job,
    rules: DispatchRules,
    threshold: usize,
    live: Vec<Vec<B256>>,
    /// When the first party that could not answer wants to be asked again.
    soonest: Option<tokio::time::Instant>,
    /// Who was asked, and is not on record as such: whoever answers soon need not be.
    unnoted: Vec<u32>,
    started: Instant,
}

impl Round<'_> {
    /// Records what parties said, and whom they leave to be waited for.
    async fn take(&mut self, batch: Vec<(u32, Said)>) -> Result<Recorded, Error> {
        let mut reports = Vec::with_capacity(batch.len());
        for (party, said) in batch {
            let said = in_grace(self.job, self.rules, said);
            match &said {
                Said::Answer(_) | Said::Share(_) => self.store.metrics().party_answered(party, self.started.elapsed()),
                Said::EpochNotLive(live) => self.live.push(live.clone()),
                Said::Invalid(why) => tracing::error!(party, request = %self.job.id, why, "an answer does not verify"),
                _ => {}
            }
            let reported = classify(party, said, self.job.attempts, self.rules.longest_pause);
            let again = in_future(reported.retry_at, now_ms());
            self.soonest = self.soonest.into_iter().chain(again).min();
            reports.push(reported);
        }
        self.unnoted.retain(|party| reports.iter().all(|report| report.party != *party));
        reports.extend(self.unnoted.drain(..).map(|party| report(party, PartyStatus::Asked, "", 0)));
        self.store.record(self.job.id, &reports, self.threshold).await
    }

    /// When parties hold other epochs than we asked for, the one that most of them hold is asked for next; at least one of
    /// them must be honest.
    async fn adopt_epoch(&self, faults: usize) -> Result<(), Error> {
        let mut votes = BTreeMap::<B256, usize>::new();
        for live in &self.live {
            for epoch in BTreeSet::from_iter(live) {
                *votes.entry(*epoch).or_default() += 1;
            }
        }
        match votes.into_iter().max_by_key(|(_, n)| *n) {
            Some((epoch, n)) if n > faults && Some(epoch) != self.job.epoch => {
                tracing::info!(request = %self.job.id, %epoch, "asking for another epoch");
                self.store.set_epoch(self.job.id, self.job.chain, epoch).await
            }
            _ => Ok(()),
        }
    }
}

/// A right that was given a moment ago may not have reached every party's endpoint: what is no refusal yet becomes one when
/// the time for that is over. For requests on chain the parties wait by themselves, since these name their block.
fn in_grace(job: &Job, rules: DispatchRules, said: Said) -> Said {
    let early = u128::try_from(now_ms() - job.since).unwrap_or(0) < rules.grace.as_millis();
    match (said, &job.payload) {
        (Said::Refused { reason, why }, Payload::PublicPull { .. }) if early && reason == NOT_PERMITTED => {
            Said::NotYet { why: format!("{reason}: {why}"), retry_after_ms: GRACE_PAUSE_MS }
        }
        (said, Payload::UserDecrypt(_)) => user::in_grace(early, said),
        (said, _) => said,
    }
}

fn classify(party: u32, said: Said, attempts: u32, longest: Duration) -> Report {
    let longest = u64::try_from(longest.as_millis()).unwrap_or(u64::MAX);
    let again = |ms: u64| now_ms().saturating_add(i64::try_from(ms.min(longest)).unwrap_or(i64::MAX));
    match said {
        Said::Answer(answer) => Report { answer: Some(answer.into()), ..report(party, PartyStatus::Answered, "", 0) },
        Said::Share(share) => Report { answer: Some(share.into()), ..report(party, PartyStatus::Answered, "", 0) },
        // A little later than it says, so that not all relayers come at the same instant.
        Said::NotYet { why, retry_after_ms } => {
            let jitter = backoff_ms(0, retry_after_ms / 4 + 1, u64::MAX);
            report(party, PartyStatus::NotYet, &why, again(retry_after_ms.saturating_add(jitter)))
        }
        Said::Refused { reason, why } => report(party, PartyStatus::Refused, &format!("{reason}: {why}"), 0),
        Said::EpochNotLive(live) => {
            let detail = format!("it holds {} other epochs", live.len());
            // Known at once what to ask for next, unless it holds none.
            let wait = if live.is_empty() { backoff_ms(attempts, 500, longest) } else { 0 };
            report(party, PartyStatus::EpochNotLive, &detail, again(wait))
        }
        Said::Unreachable(why) => {
            report(party, PartyStatus::Unreachable, &why, again(backoff_ms(attempts, 250, longest)))
        }
        Said::Invalid(why) => report(party, PartyStatus::Invalid, &why, again(backoff_ms(attempts, 1_000, longest))),
    }
}

/// After a round without quorum: is one still in reach, and when is it worth to ask again?
async fn verdict(store: &Store, committee: &dyn Committee, job: &Job, threshold: usize) -> Result<Asked, Error> {
    let rows = store.parties(job.id).await?;
    let refused: Vec<_> = rows.iter().filter(|row| row.status == PartyStatus::Refused.as_str()).collect();
    if job.state == State::Quorum
        && let Some(complete) = user::complete(store, committee, job, &refused).await?
    {
        return Ok(complete);
    }
    if committee.parties().len() - refused.len() < threshold {
        let mut reasons = BTreeMap::<&str, usize>::new();
        for row in &refused {
            let detail = row.detail.as_deref().unwrap_or_default();
            *reasons.entry(user::label(&job.payload, detail)).or_default() += 1;
        }
        let reason = reasons.into_iter().max_by_key(|(_, n)| *n).map_or("", |(reason, _)| reason);
        let first = refused.iter().find_map(|row| row.detail.as_deref()).unwrap_or_default();
        let detail = format!("{} parties refuse: {first}", refused.len());
        return Ok(Asked::Refused { reason: reason.to_owned(), detail });
    }
    let waiting: Vec<_> = rows
        .iter()
        .filter(|row| row.status != PartyStatus::Answered.as_str() && row.status != PartyStatus::Refused.as_str())
        .collect();
    // When all have answered and disagree, only time can help.
    let soonest = waiting.iter().map(|row| row.retry_at).min();
    let at = soonest.unwrap_or_else(|| now_ms() + backoff_ms(job.attempts, 500, 30_000) as i64).max(now_ms() + 20);
    let missing: Vec<String> = waiting
        .iter()
        .map(|row| match row.detail.as_deref().and_then(|detail| detail.split_once(':')) {
            Some((reason, _)) if row.status == PartyStatus::NotYet.as_str() => {
                format!("party {} {} ({reason})", row.party, row.status)
            }
            _ => format!("party {} {}", row.party, row.status),
        })
        .collect();
    let answered = rows.iter().filter(|row| row.status == PartyStatus::Answered.as_str()).count();
    let detail = format!("{answered} of {threshold} answers; {}", missing.join(", "));
    Ok(Asked::Again { at, detail })
}

/// Whoever answers within this time is recorded with the answer only.
const NOTED_AFTER: Duration = Duration::from_millis(30);
/// Reason of a party that does not see the right to decrypt.
const NOT_PERMITTED: &str = "not-permitted";
/// Pause before such a party is asked again.
const GRACE_PAUSE_MS: u64 = 1_000;
