//! The workers: claim what is due, look at its state, do the one thing that this state asks for, and go on.
//!
//! Nothing lives only in memory: a worker that dies loses a lease, and the next one sees in the row what is to be done.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use alloy::sol_types::SolCall;
use alloy_primitives::{Address, B256, Bytes};
use kms_chain::abi::DecryptionGateway;
use kms_chain::proof::DecryptionProof;
use kms_chain::request::Request;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument;

use crate::clock::{backoff_ms, now_ms};
use crate::dispatch::{self, Asked, Committee, DispatchRules};
use crate::error::Error;
use crate::job::{GatewayRequest, Job, Payload};
use crate::ranks::Ranks;
use crate::state::State;
use crate::store::{Store, Work, largest_group};
use crate::tx::{NodeError, Submission, TxManager};

/// Where answers of one chain are posted.
#[derive(Debug)]
pub struct Destination {
    /// Gateway contract.
    pub gateway: Address,
    /// The contract that shows commitments.
    pub lens: Address,
    /// The account that posts.
    pub manager: Arc<TxManager>,
}

/// How the pipeline works.
#[derive(Debug, Clone)]
pub struct PipelineRules {
    /// Jobs worked on at once.
    pub concurrency: usize,
    /// How many of them are never pulls.
    pub reserved: usize,
    /// How long a claimed job is kept from other workers.
    pub lease: Duration,
    /// How the parties are asked.
    pub dispatch: DispatchRules,
    /// Other relayers.
    pub ranks: Ranks,
    /// Look for work at least this often.
    pub tick: Duration,
}

/// The pipeline.
#[derive(Debug)]
pub struct Pipeline {
    store: Store,
    committee: Arc<dyn Committee>,
    destinations: BTreeMap<u64, Destination>,
    rules: PipelineRules,
    slots: Arc<Semaphore>,
    /// Places of pulls among the slots: whoever floods us with questions over HTTP does not hold up what the chain asks.
    pulls: Arc<Semaphore>,
    /// Work that goes on after a job was let go: late answers, receipts.
    tails: TaskTracker,
    ended: CancellationToken,
}

/// A place to work on a job; free again when dropped.
struct Slot {
    _slot: OwnedSemaphorePermit,
    /// Pulls take one of theirs as well.
    _pull: Option<OwnedSemaphorePermit>,
}

/// What a worker does next with its job.
enum Next {
    /// Look at the row again at once.
    GoOn,
    /// It was just moved there: go on without a look.
    GoOnAs(State),
    /// Let go of it until then.
    Wait { at: i64, reason: &'static str, detail: String },
    /// Let go of it: there is nothing to do for a worker.
    LetGo,
    /// It was moved on, and its lease ended with that.
    Gone,
}

impl Pipeline {
    /// A pipeline over that database, those parties and those chains.
    #[must_use]
    pub fn new(
        store: Store,
        committee: Arc<dyn Committee>,
        destinations: BTreeMap<u64, Destination>,
        rules: PipelineRules,
    ) -> Arc<Self> {
        let slots = Arc::new(Semaphore::new(rules.concurrency));
        let pulls = Arc::new(Semaphore::new(rules.concurrency.saturating_sub(rules.reserved)));
        Arc::new(Self {
            store,
            committee,
            destinations,
            rules,
            slots,
            pulls,
            tails: TaskTracker::new(),
            ended: CancellationToken::new(),
        })
    }

    /// Works until cancelled, then finishes what is at hand.
    pub async fn run(self: Arc<Self>, cancel: CancellationToken) {
        let jobs = TaskTracker::new();
        let mut stirred = self.store.stirred();
        let lease = i64::try_from(self.rules.lease.as_millis()).unwrap_or(i64::MAX);
        while !cancel.is_cancelled() {
            stirred.mark_unchanged();
            let claimed = match self.claim(lease, &cancel).await {
                Ok(claimed) => claimed,
                Err(error) => {
                    tracing::error!(%error, "work can't be claimed");
                    Vec::new()
                }
            };
            if claimed.is_empty() {
                tokio::select! {
                    () = cancel.cancelled() => {}
                    () = tokio::time::sleep(self.rules.tick) => {}
                    _ = stirred.changed() => tokio::time::sleep(COALESCE).await,
                }
            }
            for (job, slot) in claimed {
                let pipeline = self.clone();
                jobs.spawn(async move {
                    pipeline.drive(job).await;
                    drop(slot);
                });
            }
        }
        jobs.close();
        jobs.wait().await;
        self.ended.cancel();
        self.tails.close();
        self.tails.wait().await;
    }

    /// Claims what the chain asks for first, and pulls for the slots that are left over.
    async fn claim(&self, lease: i64, cancel: &CancellationToken) -> Result<Vec<(Job, Slot)>, Error> {
        let first = tokio::select! {
            () = cancel.cancelled() => return Ok(Vec::new()),
            slot = self.slots.clone().acquire_owned() => slot,
        };
        let Ok(first) = first else { return Ok(Vec::new()) };
        let mut slots = vec![first];
        while slots.len() < BATCH
            && let Ok(slot) = self.slots.clone().try_acquire_owned()
        {
            slots.push(slot);
        }
        let full: Vec<u64> =
            self.destinations.iter().filter(|(_, to)| to.manager.is_full()).map(|(chain, _)| *chain).collect();
        let requests = self.store.claim(Work::Requests { full: &full }, slots.len(), lease).await?;
        let spare = slots.split_off(requests.len().min(slots.len()));
        let mut claimed: Vec<(Job, Slot)> =
            requests.into_iter().zip(slots).map(|(job, slot)| (job, Slot { _slot: slot, _pull: None })).collect();
        let pairs: Vec<Slot> = spare
            .into_iter()
            .map_while(|slot| {
                let pull = self.pulls.clone().try_acquire_owned().ok()?;
                Some(Slot { _slot: slot, _pull: Some(pull) })
            })
            .collect();
        if !pairs.is_empty() {
            claimed.extend(self.store.claim(Work::Pulls, pairs.len(), lease).await?.into_iter().zip(pairs));
        }
        Ok(claimed)
    }

    /// Takes one claimed job as far as it goes.
    pub async fn drive(&self, job: Job) {
        let (id, attempts) = (job.id, job.attempts);
        let kind = job.payload.kind();
        let span = tracing::info_span!(parent: None, "work", request = %id, kind, state = %job.state, attempts);
        kms_telemetry::adopt(&span, id, None);
        let Err(error) = self.steps(job).instrument(span).await else { return };
        let given_back = match error {
            // The chain or another worker has changed it; whoever did takes care of it.
            Error::Moved(_) => self.store.release(id).await,
            error => {
                tracing::error!(request = %id, %error, "work on a request was broken off");
                self.pause(id, attempts, &error).await
            }
        };
        if let Err(error) = given_back {
            tracing::error!(request = %id, %error, "a lease is not given back, it will run out");
        }
    }

    /// Puts off a job that an error of our own broke off: tried again at once, it would only run in circles.
    async fn pause(&self, id: B256, attempts: u32, error: &Error) -> Result<(), Error> {
        let Some(job) = self.store.job(id).await? else { return Ok(()) };
        let at = now_ms() + backoff_ms(attempts, 250, LONG_PAUSE_MS as u64) as i64;
        self.store.put_off(id, job.state, at, "error", &error.to_string()).await
    }

    async fn steps(&self, job: Job) -> Result<(), Error> {
        let id = job.id;
        let mut current = Some(job);
        while let Some(job) = current.take() {
            let next = match job.state {
                State::Final => self.start(&job).await?,
                State::Dispatched => self.ask(&job).await?,
                State::Quorum => self.finish(&job).await?,
                _ => Next::LetGo,
            };
            match next {
                Next::GoOn => current = self.store.job(id).await?,
                Next::GoOnAs(state) => {
                    current = Some(Job { state, since: now_ms(), attempts: 0, reason: None, detail: None, ..job });
                }
                Next::Wait { at, reason, detail } => {
                    tracing::debug!(request = %id, state = %job.state, reason, detail, "put off");
                    self.store.metrics().put_off(job.state, reason);
                    return self.store.put_off(id, job.state, at, reason, &detail).await;
                }
                Next::LetGo => return self.store.release(id).await,
                Next::Gone => return Ok(()),
            }
        }
        Ok(())
    }

    /// `final`: is it for our parties at all?
    #[tracing::instrument(name = "start", skip_all)]
    async fn start(&self, job: &Job) -> Result<Next, Error> {
        if let Payload::OnChain(request) = &job.payload
            && request.context_id != self.committee.context()
        {
            let detail = format!("the request names context {}, which is not ours", request.context_id);
            self.store.shift(job.id, State::Final, State::Dispatched, "", "").await?;
            self.store.shift(job.id, State::Dispatched, State::Refused, "context", &detail).await?;
            return Ok(Next::LetGo);
        }
        // Parties that are asked before the commitment all say so, each at its own time; asked after it, they start together.
        if let Payload::OnChain(request) = &job.payload
            && let Some(destination) = self.destinations.get(&job.chain)
            && let Ok(missing @ 1..) = destination.manager.uncommitted(destination.lens, &request.handles).await
        {
            let detail = format!("the coprocessor's commitment of {missing} of {} ciphertexts", request.handles.len());
            return Ok(Next::Wait { at: now_ms() + COMMITMENT_PAUSE_MS, reason: "commitment", detail });
        }
        if self.store.shift(job.id, State::Final, State::Dispatched, "", "").await? {
            self.store.metrics().stage(State::Final, job.since);
            return Ok(Next::GoOnAs(State::Dispatched));
        }
        Ok(Next::GoOn)
    }

    /// `dispatched`: ask.
    #[tracing::instrument(name = "ask", skip_all)]
    async fn ask(&self, job: &Job) -> Result<Next, Error> {
        let asked = dispatch::ask(&self.store, &*self.committee, self.rules.dispatch, &self.tails, job).await?;
        if asked == Asked::Quorum {
            self.store.metrics().stage(State::Dispatched, job.since);
            // Whoever asked over HTTP has the answer from here on.
            if !matches!(job.payload, Payload::OnChain(_)) {
                self.store.metrics().answered(job);
            }
        }
        match asked {
            // Parties keep nothing of a user decryption, so there are no receipts of it.
            Asked::Quorum if matches!(job.payload, Payload::UserDecrypt(_)) => Ok(Next::GoOnAs(State::Quorum)),
            Asked::Quorum => {
                let (store, committee) = (self.store.clone(), self.committee.clone());
                let pause = self.rules.dispatch.tail.max(Duration::from_millis(5)) * 4;
                let receipts = dispatch::receipts(store, committee, job.id, pause);
                // Receipts are for the record; nobody waits for them when the process ends.
                self.tails.spawn(self.ended.clone().run_until_cancelled_owned(receipts));
                Ok(Next::GoOnAs(State::Quorum))
            }
            Asked::Refused { reason, detail } => {
                tracing::warn!(request = %job.id, reason, detail, "refused by the parties");
                self.store.shift(job.id, State::Dispatched, State::Refused, &reason, &detail).await?;
                Ok(Next::LetGo)
            }
            Asked::Again { at, detail } => Ok(Next::Wait { at, reason: "parties", detail }),
            Asked::Complete { .. } => Ok(Next::GoOn),
        }
    }

    /// `quorum` of a user's job: enough shares are there; whoever is missing is asked for a while.
    async fn collect(&self, job: &Job) -> Result<Next, Error> {
        let after = |wait: Duration| job.since.saturating_add(i64::try_from(wait.as_millis()).unwrap_or(i64::MAX));
        let (rules, now) = (self.rules.dispatch, now_ms());
        let end = after(rules.collect);
        if now >= end {
            let shares = self.store.sharing(job.id).await?.len();
            let detail = format!("{shares} of {} shares", self.committee.parties().len());
            self.store.shift(job.id, State::Quorum, State::Done, "", &detail).await?;
            return Ok(Next::LetGo);
        }
        // Those that were asked with the quorum have their last call first.
        let last_call = after(rules.last_call);
        if now < last_call {
            let detail = "the parties that were asked last".to_owned();
            return Ok(Next::Wait { at: last_call.min(end), reason: "collecting", detail });
        }
        match dispatch::ask(&self.store, &*self.committee, rules, &self.tails, job).await? {
            Asked::Again { at, detail } => Ok(Next::Wait { at: at.min(end), reason: "collecting", detail }),
            Asked::Complete { detail } => {
                self.store.shift(job.id, State::Quorum, State::Done, "", &detail).await?;
                Ok(Next::LetGo)
            }
            // There is a quorum, and who is in it does not refuse.
            Asked::Quorum | Asked::Refused { .. } => {
                Ok(Next::Wait { at: end, reason: "collecting", detail: "the end of the collection".into() })
            }
        }
    }

    /// `quorum`: post the answer, or be done if nobody wants it posted.
    #[tracing::instrument(name = "finish", skip_all)]
    async fn finish(&self, job: &Job) -> Result<Next, Error> {
        let request = match &job.payload {
            Payload::OnChain(request) => request,
            Payload::PublicPull { .. } => {
                self.store.shift(job.id, State::Quorum, State::Done, "", "").await?;
                return Ok(Next::LetGo);
            }
            Payload::UserDecrypt(_) => return self.collect(job).await,
        };
        let Some(destination) = self.destinations.get(&job.chain) else {
            let detail = format!("chain {} is not configured any more", job.chain);
            return Ok(Next::Wait { at: now_ms() + LONG_PAUSE_MS, reason: "chain", detail });
        };
        let me = destination.manager.account().sender;
        let turn = self.rules.ranks.turn(job.id, me, job.since, self.store.seen());
        if now_ms() < turn {
            let detail = "other relayers are first to post this one".to_owned();
            return Ok(Next::Wait { at: turn, reason: "rank", detail });
        }
        let Some(data) = self.calldata(job, request).await? else {
            return Err(Error::corrupt(format!("{} has a quorum without answers", job.id)));
        };
        // Another relayer's answer may be on its way already: ours would only be paid for, by us.
        if !self.rules.ranks.known.is_empty() && destination.manager.taken(destination.gateway, data.clone()).await {
            let pause = backoff_ms(job.attempts, 500, 10_000);
            let detail = "another relayer's answer is on its way".to_owned();
            return Ok(Next::Wait { at: now_ms() + pause as i64, reason: "rank", detail });
        }
        let callback_gas = if request.selector.is_zero() { 0 } else { request.gas_limit.into() };
        match destination.manager.submit(job.id, destination.gateway, data, callback_gas).await? {
            Submission::Stored { nonce, hash } => {
                tracing::info!(request = %job.id, nonce, %hash, "the answer is on its way");
                self.store.metrics().stage(State::Quorum, job.since);
                self.store.metrics().answered(job);
                Ok(Next::Gone)
            }
            // Those that wait on the spot take what room there is; the others need not ask often.
            Submission::Full => {
                let (reason, detail) = if destination.manager.is_broke() {
                    ("funds", "the account can't pay for the transactions that are pending")
                } else {
                    ("full", "as many transactions are pending as may be")
                };
                let pause = backoff_ms(job.attempts, FULL_PAUSE_MS, LONGEST_FULL_PAUSE_MS);
                Ok(Next::Wait { at: now_ms() + pause as i64, reason, detail: detail.to_owned() })
            }
            Submission::NotNow(detail) => {
                let pause = backoff_ms(job.attempts, 100, 10_000);
                Ok(Next::Wait { at: now_ms() + pause as i64, reason: "node", detail })
            }
            Submission::WouldRevert(error) => Ok(self.would_revert(job, &error)),
            Submission::Underpaid { fee, needed } => {
                let detail =
                    format!("the fee is {fee} wei and posting the answer takes {needed}: anyone may add to it");
                Ok(Next::Wait { at: now_ms() + LONG_PAUSE_MS, reason: "fee", detail })
            }
        }
    }

    /// The contract does not take the answer. Most often another relayer was faster, which the follower is about to see.
    fn would_revert(&self, job: &Job, error: &NodeError) -> Next {
        let name = revert_name(error);
        tracing::debug!(request = %job.id, name, "the gateway would not take the answer");
        let pause = backoff_ms(job.attempts, 500, LONG_PAUSE_MS as u64);
        let detail = format!("the gateway would not take the answer: {name}");
        Next::Wait { at: now_ms() + pause as i64, reason: "would-revert", detail }
    }

    async fn calldata(&self, job: &Job, request: &GatewayRequest) -> Result<Option<Bytes>, Error> {
        let answers = self.store.answers(job.id).await?;
        let group = largest_group(&answers);
        let threshold = self.committee.threshold();
        let Some(first) = group.first().filter(|_| group.len() >= threshold) else { return Ok(None) };
        let proof = DecryptionProof {
            // No more than are needed: each costs gas.
            signatures: group.iter().take(threshold).map(|stored| stored.answer.signature).collect(),
            extra_data: first.answer.extra_data.clone(),
        };
        let call = DecryptionGateway::fulfillCall {
            request: (&Request::from(request.clone())).into(),
            cleartexts: first.answer.cleartexts.clone(),
            proof: proof.encode().map_err(|e| Error::Transaction(e.to_string()))?,
        };
        Ok(Some(call.abi_encode().into()))
    }
}

/// Name of the error that a call reverted with.
fn revert_name(error: &NodeError) -> String {
    use alloy::sol_types::SolInterface;
    let data = error.revert.as_ref().map_or(&[][..], |data| data.as_ref());
    match DecryptionGateway::DecryptionGatewayErrors::abi_decode(data) {
        Ok(known) => format!("{known:?}").split(['(', ' ']).next().unwrap_or_default().to_owned(),
        Err(_) => error.message.clone(),
    }
}

/// Jobs claimed at once.
const BATCH: usize = 64;
/// Longest pause between two tries of something that others must change first.
const LONG_PAUSE_MS: i64 = 60_000;
/// Pause of an answer for which there is no room among the pending transactions, at first and at most.
const FULL_PAUSE_MS: u64 = 500;
const LONGEST_FULL_PAUSE_MS: u64 = 4_000;
/// What stirs within this time is looked at once.
const COALESCE: Duration = Duration::from_millis(3);
/// Pause between two looks at a commitment.
const COMMITMENT_PAUSE_MS: i64 = 100;
