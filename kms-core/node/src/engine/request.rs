//! One request: guard, ciphertexts, record, job, answer, receipt.

use std::sync::Arc;
use std::time::{Duration, Instant};

use alloy_primitives::{B256, U256};
use kms_chain::cleartexts;
use kms_chain::eip712::{public_decrypt_digest, sign_digest};
use kms_encoding::Plaintext;
use kms_proto::node::{self, NotYetReason, RefusedReason, decrypt_response::Outcome};
use tokio::sync::watch;

use super::call::{Call, Source};
use super::job::{Job, Opened};
use super::record::{self, Granted, Task};
use super::{EngineError, Inner, MAX_REQUESTS, not_yet, refused};
use crate::error::CiphertextError;
use crate::guard::{self, Grant, Verdict};
use crate::receipts::{self, Findings, Subject};
use crate::store::{Inserted, NewRequest, RequestKey, Stage};

/// Pause before a caller should ask for a running request again.
const AGAIN: Duration = Duration::from_millis(200);
/// Pause after a failure inside, or when everything is full.
pub(super) const LATER: Duration = Duration::from_secs(1);
/// Pauses and tries while another request of the same job gets its receipt.
const RECEIPT_TRIES: u32 = 10;

/// An outcome, and what is still to be done after it was given out.
struct Settled {
    outcome: Outcome,
    receipt: Option<Pending>,
}

impl From<Outcome> for Settled {
    fn from(outcome: Outcome) -> Self {
        Self { outcome, receipt: None }
    }
}

/// Where the receipt of an answered request comes from.
pub(super) enum Pending {
    /// The tail of its own job.
    Job { job: Arc<Job>, subject: Subject },
    /// The receipt of an earlier request of the same job.
    Prior { prior: RequestKey, subject: Subject },
}

impl Inner {
    pub(super) async fn decrypt(self: &Arc<Self>, call: Call, wait: Duration) -> Result<Outcome, EngineError> {
        if let Some(known) = self.known(call.key()).await? {
            return Ok(known);
        }
        let live = self.parts.keys.live_epochs();
        if !live.contains(&call.epoch_id) {
            return Ok(epoch_not_live(&live));
        }
        let Some(mut running) = self.start(call) else {
            return Ok(not_yet(NotYetReason::Busy, "too many requests are under way", LATER));
        };
        let settled = tokio::time::timeout(wait, running.wait_for(Option::is_some)).await;
        Ok(match settled {
            Ok(Ok(outcome)) => outcome.clone().unwrap_or_else(in_progress),
            Ok(Err(_)) => not_yet(NotYetReason::Internal, "the request has ended without an outcome", LATER),
            Err(_) => in_progress(),
        })
    }

    /// The stored answer or refusal of a request in its epoch.
    pub(super) async fn known(&self, key: RequestKey) -> Result<Option<Outcome>, EngineError> {
        let Some(row) = self.parts.store.request(key).await? else { return Ok(None) };
        Ok(match (row.answer, row.refusal) {
            (Some(answer), _) => Some(Outcome::Answer(record::read_answer(&answer)?)),
            (None, Some(refusal)) => Some(Outcome::Refused(record::read_refusal(&refusal)?)),
            (None, None) => None,
        })
    }

    /// Starts a request, or joins it if it is under way. `None` if too many are.
    pub(super) fn start(self: &Arc<Self>, call: Call) -> Option<watch::Receiver<Option<Outcome>>> {
        let mut requests = self.requests.lock();
        let key = call.key();
        if let Some(running) = requests.get(&key) {
            return Some(running.clone());
        }
        if requests.len() >= MAX_REQUESTS || self.parts.cancel.is_cancelled() {
            return None;
        }
        let (publish, running) = watch::channel(None);
        requests.insert(key, running.clone());
        drop(requests);
        let inner = self.clone();
        self.tasks.spawn(async move {
            let id = call.id;
            let settled = inner.process(&call).await.unwrap_or_else(|error| {
                tracing::error!(request = %id, %error, "a request failed inside");
                not_yet(NotYetReason::Internal, "this party has a fault of its own", LATER).into()
            });
            let last = !matches!(settled.outcome, Outcome::Answer(_));
            if last {
                inner.requests.lock().remove(&key);
            }
            publish.send_replace(Some(settled.outcome));
            if let Some(pending) = settled.receipt
                && let Err(error) = inner.finish(pending).await
            {
                tracing::error!(request = %id, %error, "no receipt");
            }
            // Where there is no answer the same request may have been started again by now.
            if !last {
                inner.requests.lock().remove(&key);
            }
        });
        Some(running)
    }

    async fn process(self: &Arc<Self>, call: &Call) -> Result<Settled, EngineError> {
        let verdict = match &call.source {
            Source::Request(request) => self.parts.permission.check_request(call.chain_id, request).await,
            Source::Public => self.parts.permission.check_public(call.chain_id, &call.handles).await,
        };
        let grant = match verdict {
            Verdict::Allowed(grant) => grant,
            Verdict::NotYet(n) => {
                return Ok(not_yet(not_yet_reason(n.reason), n.detail, n.retry_after).into());
            }
            Verdict::Refused(no) => {
                let refusal = refused(refused_reason(&no), no.to_string());
                // Only a request that was recorded before has a row to end.
                if no.lasts() {
                    self.refuse(call.key(), &refusal).await?;
                }
                return Ok(Outcome::Refused(refusal).into());
            }
        };
        if !grant.handles.iter().map(|g| g.handle.raw()).eq(call.handles.iter().copied()) {
            return Ok(not_yet(NotYetReason::Internal, "the guard has granted something else", LATER).into());
        }
        let material = match self.material(grant.handles.iter().map(|g| g.key_id), call.epoch_id) {
            Ok(material) => material,
            Err(none) => return Ok(none.outcome().into()),
        };
        let work = match self.work(material, &grant.handles).await? {
            Ok(work) => work,
            Err(error) => return self.no_ciphertext(call, &grant, &error).await,
        };
        let job = work.job();
        let subject =
            Subject { request_id: call.id, epoch_id: call.epoch_id, key_id: work.material.key_id, mpc_micros: 0 };
        // The same ciphertexts were opened for another request: the values are the same.
        let prior = self.parts.store.answered_in_job(job.as_bytes().into()).await?;
        if let Some(known) = self.record(call, &grant, job.as_bytes().into()).await? {
            return Ok(known.into());
        }
        let running = self.jobs.lock().contains_key(&job);
        if let Some(row) = prior
            && let (false, Some(answer)) = (running, &row.answer)
        {
            let cleartexts = record::read_answer(answer)?.cleartexts;
            let (outcome, mpc) = self.answer(call, cleartexts, || row.mpc.unwrap_or_default()).await?;
            let subject = Subject { mpc_micros: micros(mpc), ..subject };
            return Ok(Settled { outcome, receipt: Some(Pending::Prior { prior: row.key(), subject }) });
        }
        // The share leaves this party only after this line is on disk.
        let shares = Some("shares of the other parties".into());
        if self.parts.store.advance(call.key(), Stage::Opening, shares).await? {
            self.parts.metrics.request(Stage::Opening);
        }
        let joined = Instant::now();
        let job = self.join(work);
        match job.opened().await {
            Opened::Values { values, mpc, at } => {
                let cleartexts = encode(&values)?;
                // A request that comes when the values are there already has not waited for them.
                let (outcome, mpc) = self.answer(call, cleartexts, || mpc + at.max(joined).elapsed()).await?;
                let subject = Subject { mpc_micros: micros(mpc), ..subject };
                Ok(Settled { outcome, receipt: Some(Pending::Job { job, subject }) })
            }
            Opened::Refused(problem) => {
                let refusal = refused(RefusedReason::Ciphertext, problem);
                self.refuse(call.key(), &refusal).await?;
                Ok(Outcome::Refused(refusal).into())
            }
            Opened::Nothing(problem) => Ok(not_yet(NotYetReason::InProgress, problem, LATER).into()),
        }
    }

    /// Records the request. An outcome if another task has settled it in the meantime.
    async fn record(&self, call: &Call, grant: &Grant, job_id: B256) -> Result<Option<Outcome>, EngineError> {
        let granted = grant
            .handles
            .iter()
            .map(|g| Granted { handle: g.handle.raw(), key_id: g.key_id, digest: g.digest }.to_bytes());
        let task = Task { call: Some(call.raw.clone()), granted: granted.collect() };
        let new = NewRequest {
            id: call.id,
            job_id,
            chain_id: call.chain_id,
            epoch_id: call.epoch_id,
            payload: record::write_task(&task),
        };
        match self.parts.store.insert_request(new).await? {
            Inserted::New => {
                self.parts.metrics.request(Stage::Received);
                tracing::info!(request = %call.id, handles = call.handles.len(), block = grant.block_number, "recorded");
                Ok(None)
            }
            Inserted::Existing(_) => self.known(call.key()).await,
        }
    }

    async fn no_ciphertext(&self, call: &Call, grant: &Grant, error: &CiphertextError) -> Result<Settled, EngineError> {
        if !error.is_final() {
            return Ok(not_yet(NotYetReason::CiphertextUnavailable, error.to_string(), LATER).into());
        }
        let refusal = refused(RefusedReason::Ciphertext, error.to_string());
        // There is no job without ciphertexts; the request's own id is nobody's job.
        if let Some(known) = self.record(call, grant, call.id).await? {
            return Ok(known.into());
        }
        self.refuse(call.key(), &refusal).await?;
        Ok(Outcome::Refused(refusal).into())
    }

    async fn refuse(&self, key: RequestKey, refusal: &node::Refused) -> Result<(), EngineError> {
        if self.parts.store.refuse(key, record::write_refusal(refusal), refusal.detail.clone()).await? {
            self.parts.metrics.request(Stage::Refused);
            tracing::warn!(request = %key.id, reason = refusal.detail, "refused");
        }
        Ok(())
    }

    /// Signs, stores, and only then gives the answer out; `mpc` is asked how long it took once that is signed.
    async fn answer(
        &self,
        call: &Call,
        cleartexts: Vec<u8>,
        mpc: impl FnOnce() -> Duration,
    ) -> Result<(Outcome, Duration), EngineError> {
        let party = &self.parts.party;
        let domain = party.manifest.decryption_domain.eip712();
        let Ok(digest) = public_decrypt_digest(&domain, &call.handles, &cleartexts, &call.extra_data) else {
            // Extra data was parsed with the call.
            return Err(EngineError::Stored(call.id));
        };
        let answer = node::Answer {
            request_id: call.id.to_vec(),
            cleartexts,
            signature: sign_digest(&party.signing_key, digest).to_vec(),
            extra_data: call.extra_data.to_vec(),
            signer: party.address().to_vec(),
        };
        let mpc = mpc();
        if self.parts.store.answer(call.key(), record::write_answer(&answer), mpc).await? {
            self.parts.metrics.request(Stage::Answered);
            tracing::info!(request = %call.id, mpc_ms = mpc.as_secs_f64() * 1000.0, "answered");
            return Ok((Outcome::Answer(answer), mpc));
        }
        Ok((self.known(call.key()).await?.unwrap_or(Outcome::Answer(answer)), mpc))
    }

    /// Writes the final receipt.
    pub(super) async fn finish(&self, pending: Pending) -> Result<(), EngineError> {
        let (findings, subject) = match pending {
            Pending::Job { job, subject } => (job.findings().await, subject),
            Pending::Prior { prior, subject } => (self.findings_of(prior).await?.map(Arc::new), subject),
        };
        // Without findings the next start makes the receipt.
        let Some(findings) = findings else { return Ok(()) };
        let receipt = receipts::sign(&self.parts.party, subject, &findings);
        let key = RequestKey { id: subject.request_id, epoch_id: subject.epoch_id };
        if self.parts.store.receipt(key, record::write_receipt(&receipt)).await? {
            self.parts.metrics.request(Stage::Final);
        }
        Ok(())
    }

    async fn findings_of(&self, request: RequestKey) -> Result<Option<Findings>, EngineError> {
        for _ in 0..RECEIPT_TRIES {
            if let Some(receipt) = self.parts.store.request(request).await?.and_then(|row| row.receipt) {
                return Ok(Some(Findings::of_receipt(record::read_receipt(&receipt)?)));
            }
            let pause = tokio::time::sleep(self.options.tail.max(AGAIN) / 2);
            if self.parts.cancel.run_until_cancelled(pause).await.is_none() {
                break;
            }
        }
        Ok(None)
    }
}

fn encode(values: &[Plaintext]) -> Result<Vec<u8>, EngineError> {
    let words: Vec<_> = values.iter().map(|v| (v.ty(), U256::from_be_bytes(v.value().0))).collect();
    Ok(cleartexts::encode(&words)?)
}

pub(super) fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

fn in_progress() -> Outcome {
    not_yet(NotYetReason::InProgress, "the parties are at work", AGAIN)
}

fn epoch_not_live(live: &[B256]) -> Outcome {
    let live = live.iter().take(kms_proto::bounds::MAX_EPOCHS).map(|epoch| epoch.to_vec()).collect();
    Outcome::EpochNotLive(node::EpochNotLive { live })
}

fn not_yet_reason(reason: guard::NotYetReason) -> NotYetReason {
    match reason {
        guard::NotYetReason::NotFinal => NotYetReason::NotFinal,
        guard::NotYetReason::NotCommitted => NotYetReason::NotCommitted,
        guard::NotYetReason::Behind => NotYetReason::Behind,
        guard::NotYetReason::BlockUnknown => NotYetReason::BlockUnknown,
        guard::NotYetReason::ChainUnavailable => NotYetReason::ChainUnavailable,
    }
}

fn refused_reason(refusal: &guard::Refusal) -> RefusedReason {
    use guard::Refusal;
    match refusal {
        Refusal::UnknownChain(_) => RefusedReason::UnknownChain,
        Refusal::Handles(_) | Refusal::UnknownFinality(_) => RefusedReason::Malformed,
        Refusal::WrongContext { .. } | Refusal::ContextDestroyed(_) => RefusedReason::Context,
        Refusal::NotOpen(_) | Refusal::Cancelled => RefusedReason::NotOpen,
        Refusal::DeadlinePassed { .. } => RefusedReason::DeadlinePassed,
        Refusal::NotPermitted { .. } => RefusedReason::NotPermitted,
        Refusal::KeyState { .. } => RefusedReason::Key,
    }
}
