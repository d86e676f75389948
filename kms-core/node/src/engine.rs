//! Decryption jobs: from a call that the guard allows to a signed answer and a final receipt.
//!
//! A request is recorded before this party's share leaves it; an answer is stored before it is given out. Requests for
//! the same ciphertexts share one job, whose id is a hash of what is opened. Everything can be computed again: after a
//! restart recorded requests are taken up, and a peer that asks gets the same share as the first time.

mod call;
mod job;
mod open;
mod record;
mod reply;
mod request;
mod resume;
mod turns;
mod user;
mod weight;

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use alloy_primitives::B256;
use bytes::Bytes;
use kms_chain::request::Request;
use kms_chain::user_view::UserQuestion;
use kms_encoding::{LweBlocks, ParamsId};
use kms_mpc::{Epoch, JobId, OwnShare};
use kms_proto::node::{self, decrypt_response::Outcome};
use kms_telemetry::TraceParent;
use lru::LruCache;
use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use call::Call;
pub use record::RecordError;
pub(crate) use reply::{not_yet, refused, to_user};

use crate::ciphertexts::Ciphertexts;
use crate::error::{CiphertextError, StoreError};
use crate::guard::{Guard, HandleGrant, Verdict};
use crate::keys::Keys;
use crate::metrics::Metrics;
use crate::misbehave::Misbehave;
use crate::party::Party;
use crate::peer::{Hub, Recompute, SessionId};
use crate::store::{RequestKey, Stage, Store};
use job::Job;
use turns::Turns;
use weight::{Purpose, Scales};

/// Requests under way at the same time …
const MAX_REQUESTS: usize = 1024;
/// … and how many of them may be pulls, so that there is always room for requests that were paid for.
const MAX_PULLS: usize = 768;
/// Interrupted requests of one chain that are read, fetched or computed at the same time after a restart …
const RESUMING: usize = 4;
/// … and how many of them may wait for the other parties.
const RESUMED: usize = 256;
/// Shares kept for peers that ask again; the rest is recomputed.
const SHARES: std::num::NonZeroUsize = std::num::NonZeroUsize::new(64).unwrap();

/// Who says whether this party may decrypt: the chain guard, or a table in tests.
#[tonic::async_trait]
pub trait Permission: Send + Sync {
    /// Whether this party may answer an on-chain request now.
    async fn check_request(&self, chain_id: u64, request: &Request) -> Verdict;
    /// Whether this party may decrypt handles that are publicly decryptable.
    async fn check_public(&self, chain_id: u64, handles: &[B256]) -> Verdict;
    /// Whether this party may seal its share for a user now.
    async fn check_user(&self, question: &UserQuestion) -> Verdict;
}

#[tonic::async_trait]
impl Permission for Guard {
    async fn check_request(&self, chain_id: u64, request: &Request) -> Verdict {
        Self::check_request(self, chain_id, request).await
    }

    async fn check_public(&self, chain_id: u64, handles: &[B256]) -> Verdict {
        Self::check_public(self, chain_id, handles).await
    }

    async fn check_user(&self, question: &UserQuestion) -> Verdict {
        Self::check_user(self, question).await
    }
}

/// Where ciphertexts come from: the object stores, or a table in tests.
#[tonic::async_trait]
pub trait Objects: Send + Sync {
    /// The blocks of a granted handle.
    async fn fetch(&self, grant: &HandleGrant, params: ParamsId) -> Result<Arc<LweBlocks>, CiphertextError>;
}

#[tonic::async_trait]
impl Objects for Ciphertexts {
    async fn fetch(&self, grant: &HandleGrant, params: ParamsId) -> Result<Arc<LweBlocks>, CiphertextError> {
        Self::fetch(self, grant, params).await
    }
}

/// What the engine works with.
pub struct Parts {
    /// This party.
    pub party: Arc<Party>,
    /// Its keys.
    pub keys: Arc<Keys>,
    /// Who permits.
    pub permission: Arc<dyn Permission>,
    /// Who has the ciphertexts.
    pub objects: Arc<dyn Objects>,
    /// The database.
    pub store: Store,
    /// The transport.
    pub hub: Hub,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// How this party lies to users, if it is one of a test.
    pub misbehave: Option<Misbehave>,
    /// Ends all jobs.
    pub cancel: CancellationToken,
}

impl std::fmt::Debug for Parts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Parts").field("party", &self.party).finish_non_exhaustive()
    }
}

/// Times and bounds of the engine.
#[derive(Clone, Copy, Debug)]
pub struct EngineOptions {
    /// How long a job collects late shares after it was decided.
    pub tail: Duration,
    /// How long a job waits for shares before it is given up; the next call starts it again.
    pub patience: Duration,
    /// Bytes of ciphertexts that are expanded at the same time; see [`DEFAULT_IN_FLIGHT`].
    pub in_flight: usize,
    /// A verdict of the guard that is older is asked for again before a share leaves this party.
    pub verdict_age: Duration,
}

/// Ciphertexts of a request have at most 64 MiB with the production parameters: 1,024 booleans of one block each.
pub const DEFAULT_IN_FLIGHT: usize = 96 << 20;

impl Default for EngineOptions {
    fn default() -> Self {
        Self {
            tail: Duration::from_millis(1000),
            patience: Duration::from_secs(3600),
            in_flight: DEFAULT_IN_FLIGHT,
            verdict_age: Duration::from_secs(5),
        }
    }
}

/// The engine could not do something for a reason of its own.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A stored value.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// A stored request does not mean anything to this version.
    #[error("the stored request {0} can't be taken up")]
    Stored(B256),
    /// A job has come to other values than its request has handles: a fault of this program.
    #[error("the values are not those of the handles")]
    Values,
    /// The engine does not take up work any more.
    #[error("stopped")]
    Stopped,
    /// The decrypted values don't encode: a fault of this program.
    #[error("cleartexts: {0}")]
    Cleartexts(#[from] kms_chain::cleartexts::CleartextError),
    /// The PRSS keys of an epoch can't be used.
    #[error("epoch: {0}")]
    Epoch(#[from] kms_mpc::SetupError),
    /// A share can't be sealed: there is no randomness, or it does not fit its request, which is a fault of this program.
    #[error("sealing: {0}")]
    Seal(#[from] kms_encoding::user::SealError),
    /// The committee is not one that can decrypt.
    #[error("committee: {0}")]
    Committee(#[from] kms_encoding::FloodBoundError),
}

/// What is counted against one peer since start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PeerCount {
    /// Openings with a wrong share of it.
    pub wrong: u64,
    /// Openings without a share of it.
    pub late: u64,
}

/// The engine; clones share it.
#[derive(Clone)]
pub struct Engine {
    inner: Arc<Inner>,
}

struct Inner {
    parts: Parts,
    committee: kms_mpc::Committee,
    own: kms_mpc::PartyId,
    options: EngineOptions,
    epochs: Mutex<HashMap<(B256, B256), Epoch>>,
    requests: Mutex<HashMap<RequestKey, (Purpose, request::Running)>>,
    jobs: Mutex<HashMap<JobId, Arc<Job>>>,
    /// This party's shares of jobs that ended lately: only of such that have left it.
    shares: Mutex<LruCache<JobId, OwnShare>>,
    /// Places of user decryptions.
    users: Semaphore,
    /// What users have read lately.
    words: Mutex<LruCache<user::Read, Vec<u128>>>,
    /// What ciphertexts under way weigh.
    scales: Scales,
    /// Peers that ask for old shares must take the machine neither from running jobs nor from each other.
    turns: Turns,
    counts: Mutex<HashMap<u16, PeerCount>>,
    tasks: TaskTracker,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").field("party", &self.inner.parts.party).finish_non_exhaustive()
    }
}

impl Engine {
    /// An engine; it answers the transport's questions for old shares from now on.
    ///
    /// # Errors
    /// The committee of the manifest is not one that can decrypt, or this party is not in it.
    pub fn new(parts: Parts, options: EngineOptions) -> Result<Self, EngineError> {
        let (n, t) = (parts.party.n() as usize, parts.party.t() as usize);
        let committee = kms_mpc::Committee::new(n, t)?;
        let own = u8::try_from(parts.party.index).ok().and_then(kms_mpc::PartyId::new);
        // A committee that was checked has at most 31 parties.
        let Some(own) = own else {
            return Err(kms_encoding::FloodBoundError::Committee { n: parts.party.n(), t: parts.party.t() }.into());
        };
        let hub = parts.hub.clone();
        let inner = Arc::new(Inner {
            parts,
            committee,
            own,
            options,
            epochs: Mutex::default(),
            requests: Mutex::default(),
            jobs: Mutex::default(),
            shares: Mutex::new(LruCache::new(SHARES)),
            users: Semaphore::new(user::MAX_USERS),
            words: Mutex::new(LruCache::new(user::READS)),
            scales: Scales::new(options.in_flight),
            turns: Turns::new(),
            counts: Mutex::default(),
            tasks: TaskTracker::new(),
        });
        hub.recompute_with(Arc::new(Again(Arc::downgrade(&inner))));
        Ok(Self { inner })
    }

    /// Takes part in a decryption and waits at most `wait` for the outcome. Idempotent: the same request has one answer
    /// in each epoch. If this call starts it, `held` is dropped when it is over, not when the call is.
    ///
    /// # Errors
    /// The database fails.
    pub async fn decrypt(&self, call: Call, wait: Duration, held: impl Send + 'static) -> Result<Outcome, EngineError> {
        self.inner.decrypt(call, wait, held).await
    }

    /// This party's share of a user decryption, sealed for the user and signed, or why there is none; waits at most `wait`.
    /// Whatever was answered before, the call is checked from the signature of its permit on.
    ///
    /// # Errors
    /// The database fails, or the machine has no randomness.
    pub async fn user_decrypt(
        &self,
        call: node::UserDecryptRequest,
        wait: Duration,
        caller: Option<TraceParent>,
    ) -> Result<node::user_decrypt_response::Outcome, EngineError> {
        self.inner.user_decrypt(call, wait, caller).await
    }

    /// Where a request stands, in the epoch that it was recorded in last.
    ///
    /// # Errors
    /// The database fails.
    pub async fn status(&self, id: B256) -> Result<node::GetStatusResponse, EngineError> {
        self.inner.status(id).await
    }

    /// Takes up what a restart has interrupted: requests without an answer, answers without a receipt. Returns how many;
    /// the work goes on in the background, a few at a time, and never more of it is in memory.
    ///
    /// # Errors
    /// The database fails.
    pub async fn resume(&self) -> Result<usize, EngineError> {
        self.inner.resume().await
    }

    /// What is counted against `peer` since start.
    pub fn count(&self, peer: u16) -> PeerCount {
        self.inner.counts.lock().get(&peer).copied().unwrap_or_default()
    }

    /// Requests under way.
    pub fn running(&self) -> usize {
        self.inner.requests.lock().len()
    }

    /// Waits until all requests under way have ended; they end soon after cancellation.
    pub async fn stopped(&self) {
        self.inner.tasks.close();
        self.inner.tasks.wait().await;
    }
}

/// The transport's way back to the engine.
struct Again(Weak<Inner>);

#[tonic::async_trait]
impl Recompute for Again {
    async fn messages(&self, peer: u16, session: SessionId) -> Vec<(u8, Bytes)> {
        let Some(inner) = self.0.upgrade() else { return Vec::new() };
        let job = JobId::from_bytes(session);
        match inner.message(peer, job).await {
            Ok(Some(message)) => vec![(kms_mpc::decrypt::ROUND, message)],
            Ok(None) => Vec::new(),
            Err(error) => {
                tracing::warn!(%job, %error, "a share can't be computed again");
                Vec::new()
            }
        }
    }
}

impl Inner {
    async fn status(&self, id: B256) -> Result<node::GetStatusResponse, EngineError> {
        let Some(row) = self.parts.store.latest_request(id).await? else {
            let running = self.requests.lock().keys().any(|key| key.id == id);
            return Ok(node::GetStatusResponse {
                stage: if running { node::Stage::Received } else { node::Stage::Unknown }.into(),
                waiting_for: if running { "the chain or the object store".into() } else { String::new() },
                ..Default::default()
            });
        };
        let stage = match row.stage {
            Stage::Received => node::Stage::Received,
            Stage::Opening => node::Stage::Opening,
            Stage::Answered => node::Stage::Answered,
            Stage::Final => node::Stage::Final,
            Stage::Refused => node::Stage::Refused,
        };
        Ok(node::GetStatusResponse {
            stage: stage.into(),
            since_ms: row.stage_since,
            waiting_for: row.detail.filter(|_| row.stage < Stage::Answered).unwrap_or_default(),
            answer: row.answer.as_deref().map(record::read_answer).transpose()?,
            receipt: row.receipt.as_deref().map(record::read_receipt).transpose()?,
            refused: row.refusal.as_deref().map(record::read_refusal).transpose()?,
        })
    }
}

#[cfg(test)]
mod tests;
