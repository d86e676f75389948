//! One request: guard, ciphertexts, record, job, answer, receipt.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use alloy_primitives::{B256, U256};
use kms_chain::cleartexts;
use kms_chain::eip712::{public_decrypt_digest, sign_digest};
use kms_encoding::Plaintext;
use kms_mpc::DecryptError;
use kms_proto::node::{self, NotYetReason, RefusedReason, decrypt_response::Outcome};
use kms_telemetry::TraceParent;
use tokio::sync::{OwnedSemaphorePermit, watch};
use tracing::Instrument;

use super::call::{Call, Source};
use super::job::{Job, Opened};
use super::open::{granted, places};
use super::record::{self, Granted, Task};
use super::reply::{AGAIN, LATER, epoch_not_live, in_progress, internal, not_yet_reason, refused_reason};
use super::weight::Purpose;
use super::{EngineError, Inner, MAX_PULLS, MAX_REQUESTS, not_yet, refused};
use crate::guard::{Grant, Verdict};
use crate::receipts::{self, Findings, Subject};
use crate::store::{Inserted, NewRequest, RequestKey, RequestRow, Stage};

/// Pauses and tries while another request of the same job gets its receipt.
const RECEIPT_TRIES: u32 = 10;

/// Where the outcome of a request appears.
pub(super) type Running = watch::Receiver<Option<Outcome>>;

/// A place among the requests that a restart has interrupted.
pub(super) type Slot = OwnedSemaphorePermit;

/// A request's place in the table. However its task ends, even by a panic: the request is out of the table, so that the
/// same one can start again, and whoever waits for it is told.
struct Listed {
    inner: Arc<Inner>,
    key: RequestKey,
    publish: watch::Sender<Option<Outcome>>,
    done: bool,
}

impl Listed {
    fn remove(&mut self) {
        // Once: afterwards the place may be that of another task.
        if !std::mem::replace(&mut self.done, true) {
            self.inner.requests.lock().remove(&self.key);
        }
    }
}

impl Drop for Listed {
    fn drop(&mut self) {
        self.remove();
        self.publish.send_if_modified(|outcome| {
            let none = outcome.is_none();
            outcome.get_or_insert_with(internal);
            none
        });
    }
}

/// What a restart needs of a granted request.
fn task_of(call: &Call, grant: &Grant) -> Vec<u8> {
    let granted = grant.handles.iter();
    let granted = granted.map(|g| Granted { handle: g.handle.raw(), key_id: g.key_id, digest: g.digest }.to_bytes());
    record::write_task(&Task { call: Some(call.raw.clone()), granted: granted.collect() })
}

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
    pub(super) async fn decrypt(
        self: &Arc<Self>,
        call: Call,
        wait: Duration,
        held: impl Send + 'static,
    ) -> Result<Outcome, EngineError> {
        if let Some(known) = self.known(call.key()).await? {
            return Ok(known);
        }
        let live = self.parts.keys.live_epochs();
        if !live.contains(&call.epoch_id) {
            return Ok(epoch_not_live(&live));
        }
        let Some(mut running) = self.start(call, None, held) else {
            return Ok(not_yet(NotYetReason::Busy, "too many requests are under way", LATER));
        };
        let settled = tokio::time::timeout(wait, running.wait_for(Option::is_some)).await;
        Ok(match settled {
            Ok(Ok(outcome)) => outcome.clone().unwrap_or_else(in_progress),
            Ok(Err(_)) => internal(),
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

    /// Starts a request, or joins it if it is under way. `None` if too many are. `slot` is freed as soon as the request
    /// has no heavy work left.
    pub(super) fn start(
        self: &Arc<Self>,
        call: Call,
        slot: Option<Slot>,
        held: impl Send + 'static,
    ) -> Option<Running> {
        let mut requests = self.requests.lock();
        let key = call.key();
        if let Some((_, running)) = requests.get(&key) {
            return Some(running.clone());
        }
        let purpose = call.purpose();
        let pulls = || requests.values().filter(|(purpose, _)| *purpose == Purpose::Other).count();
        let full = requests.len() >= MAX_REQUESTS || purpose == Purpose::Other && pulls() >= MAX_PULLS;
        if full || self.parts.cancel.is_cancelled() {
            return None;
        }
        let (publish, running) = watch::channel(None);
        requests.insert(key, (purpose, running.clone()));
        drop(requests);
        let mut listed = Listed { inner: self.clone(), key, publish, done: false };
        // Not inside the call's span, which ends with the call; after a restart nobody calls.
        let caller = TraceParent::current();
        let span = tracing::info_span!(parent: None, "answer", request = %call.id);
        kms_telemetry::adopt(&span, call.id, caller);
        self.tasks.spawn(async move {
            let _held = held;
            let (inner, id) = (listed.inner.clone(), call.id);
            let settled = inner.process(&call, slot).instrument(span).await.unwrap_or_else(|error| {
                tracing::error!(request = %id, %error, "a request failed inside");
                internal().into()
            });
            // Where there is no answer the same request may be started again at once.
            if !matches!(settled.outcome, Outcome::Answer(_)) {
                listed.remove();
            }
            listed.publish.send_replace(Some(settled.outcome));
            if let Some(pending) = settled.receipt
                && let Err(error) = inner.finish(pending).await
            {
                tracing::error!(request = %id, %error, "no receipt");
            }
        });
        Some(running)
    }

    /// Asks whether the call may be answered. A refusal that no later block takes back ends a recorded request.
    #[tracing::instrument(name = "chain guard", skip_all)]
    async fn permitted(&self, call: &Call) -> Result<Result<Grant, Outcome>, EngineError> {
        let verdict = match &call.source {
            Source::Request(request) => self.parts.permission.check_request(call.chain_id, request).await,
            Source::Public => self.parts.permission.check_public(call.chain_id, &call.handles).await,
        };
        let grant = match verdict {
            Verdict::Allowed(grant) => grant,
            Verdict::NotYet(n) => {
                return Ok(Err(not_yet(not_yet_reason(n.reason), n.detail, n.retry_after)));
            }
            Verdict::Refused(no) => {
                let refusal = refused(refused_reason(&no), no.to_string());
                // Only a request that was recorded before has a row to end.
                if no.lasts() {
                    self.refuse(call.key(), &refusal).await?;
                }
                return Ok(Err(Outcome::Refused(refusal)));
            }
        };
        if !grant.handles.iter().map(|g| g.handle.raw()).eq(call.handles.iter().copied()) {
            return Ok(Err(not_yet(NotYetReason::Internal, "the guard has granted something else", LATER)));
        }
        Ok(Ok(grant))
    }

    async fn process(self: &Arc<Self>, call: &Call, slot: Option<Slot>) -> Result<Settled, EngineError> {
        let asked = Instant::now();
        let grant = match self.permitted(call).await? {
            Ok(grant) => grant,
            Err(outcome) => return Ok(outcome.into()),
        };
        let material = match self.material(grant.handles.iter().map(|g| g.key_id), call.epoch_id) {
            Ok(material) => material,
            Err(none) => return Ok(none.outcome().into()),
        };
        // The grant goes to disk while the ciphertexts come from there.
        let (work, recorded) =
            tokio::join!(self.work(material, &grant.handles, call.purpose()), self.record(call, &grant));
        if let Some(known) = recorded? {
            return Ok(known.into());
        }
        let work = match work? {
            Ok(work) => work,
            Err(error) => {
                return if error.is_final() {
                    self.bad_ciphertext(call, error.to_string()).await
                } else {
                    Ok(not_yet(NotYetReason::CiphertextUnavailable, error.to_string(), LATER).into())
                };
            }
        };
        let (job, epoch, key_id) = (work.job(), work.epoch.clone(), work.material.key_id);
        let subject = Subject { request_id: call.id, epoch_id: call.epoch_id, key_id, mpc_micros: 0 };
        // Fetching may have taken long, and waiting for room: what the chain said then may not be so any more.
        if asked.elapsed() >= self.options.verdict_age {
            match self.permitted(call).await? {
                Ok(again) if again.handles == grant.handles => {}
                Ok(_) => {
                    let detail = "the chain says something else than a moment ago";
                    return Ok(not_yet(NotYetReason::BlockUnknown, detail, LATER).into());
                }
                Err(outcome) => return Ok(outcome.into()),
            }
        }
        // Held, so that a job that ends meanwhile is not run once more.
        let running = self.jobs.lock().get(&job).cloned();
        // The same ciphertexts were opened for another request: the values are the same.
        if running.is_none()
            && let Some(row) = self.parts.store.answered_in_job(job.as_bytes().into()).await?
        {
            drop(work);
            return self.answer_again(call, &row, subject).await;
        }
        let own = self.share(work).await;
        let own = match own {
            Ok(own) => own,
            // The object holds another number of blocks than the type of its handle has: the same at every party.
            Err(error @ DecryptError::BlockCount { .. }) => {
                return self.bad_ciphertext(call, error.to_string()).await;
            }
            // The ciphertexts are good, so what is missing is this party's.
            Err(error) => {
                tracing::error!(%job, %error, "this party can't compute its share");
                return Ok(not_yet(NotYetReason::InProgress, error.to_string(), LATER).into());
            }
        };
        // The share leaves this party only after this line is written.
        if self.parts.store.open_request(call.key(), job.as_bytes().into(), task_of(call, &grant)).await? {
            self.parts.metrics.request(Stage::Opening);
        } else if let Some(known) = self.known(call.key()).await? {
            return Ok(known.into());
        }
        let joined = Instant::now();
        let job = running.unwrap_or_else(|| self.join(epoch, own));
        drop(slot);
        match job.opened().await {
            Opened::Values { values, mpc, at } => {
                let cleartexts = encode(&values, &call.handles)?;
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

    /// Answers with the values of an earlier request of the same job.
    async fn answer_again(&self, call: &Call, prior: &RequestRow, subject: Subject) -> Result<Settled, EngineError> {
        let answer = prior.answer.as_deref().ok_or(EngineError::Stored(prior.id))?;
        let cleartexts = record::read_answer(answer)?.cleartexts;
        // The earlier one may have named a handle more than once, or this one.
        let handles = granted(prior)?;
        let words: HashMap<B256, &[u8]> = handles.iter().map(|g| g.handle).zip(cleartexts.chunks(32)).collect();
        let words = call.handles.iter().map(|handle| words.get(handle).copied());
        let cleartexts = words.collect::<Option<Vec<_>>>().ok_or(EngineError::Stored(prior.id))?.concat();
        let (outcome, mpc) = self.answer(call, cleartexts, || prior.mpc.unwrap_or_default()).await?;
        let subject = Subject { mpc_micros: micros(mpc), ..subject };
        Ok(Settled { outcome, receipt: Some(Pending::Prior { prior: prior.key(), subject }) })
    }

    /// Records the granted request. An outcome if another task has settled it in the meantime.
    #[tracing::instrument(name = "record", skip_all)]
    async fn record(&self, call: &Call, grant: &Grant) -> Result<Option<Outcome>, EngineError> {
        let new =
            NewRequest { id: call.id, chain_id: call.chain_id, epoch_id: call.epoch_id, payload: task_of(call, grant) };
        match self.parts.store.insert_request(new).await? {
            Inserted::New => {
                self.parts.metrics.request(Stage::Received);
                tracing::info!(request = %call.id, handles = call.handles.len(), block = grant.block_number, "recorded");
                Ok(None)
            }
            Inserted::Existing(_) => self.known(call.key()).await,
        }
    }

    /// Ends a request whose ciphertexts can never be opened.
    async fn bad_ciphertext(&self, call: &Call, problem: String) -> Result<Settled, EngineError> {
        let refusal = refused(RefusedReason::Ciphertext, problem);
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
    #[tracing::instrument(name = "sign and store", skip_all)]
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

/// The cleartexts of a request from the values of its job, where each handle stands once.
fn encode(values: &[Plaintext], handles: &[B256]) -> Result<Vec<u8>, EngineError> {
    let word = |place: usize| values.get(place).map(|v| (v.ty(), U256::from_be_bytes(v.value().0)));
    let words = places(handles.iter().copied()).into_iter().map(word).collect::<Option<Vec<_>>>();
    Ok(cleartexts::encode(&words.ok_or(EngineError::Values)?)?)
}

pub(super) fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}
