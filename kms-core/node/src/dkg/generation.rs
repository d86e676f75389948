//! One run at this party, as far as it is known from outside.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use alloy_primitives::B256;
use bytes::Bytes;
use kms_algebra::{PartyId, PartySet};
use kms_encoding::ParamsId;
use kms_encoding::key_spec::KeySpec;
use kms_fhe::dkg::key_spec;
use kms_mpc::dkg::exchange::Signer;
use kms_mpc::dkg::journal::Journal;
use kms_mpc::dkg::{Answerless, Culprit, Phase, Progress, Run, Seed};
use kms_proto::node::{self, KeyGenResponse, KeyGenState};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::DkgParts;
use crate::keys::KeygenSignature;
use crate::store::{KeygenRow, KeygenState, NewKeygen};

/// Where a run stands at this party. The order is the order of life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stage {
    /// Reference string and pseudorandom keys.
    Preparing,
    /// The protocol.
    Running,
    /// Putting together and sealing.
    Finishing,
    /// This party has the key and stays for the others.
    Sealed,
    /// All that led to the key is erased.
    Finished,
    /// Ended by its operator.
    Aborted,
    /// Ended without a key.
    Failed,
}

impl Stage {
    pub(super) const fn is_open(self) -> bool {
        matches!(self, Self::Preparing | Self::Running | Self::Finishing)
    }

    /// Whether it has ended without a key.
    pub(super) const fn has_ended(self) -> bool {
        matches!(self, Self::Aborted | Self::Failed)
    }

    const fn shown(self) -> KeyGenState {
        match self {
            Self::Preparing => KeyGenState::Preparing,
            Self::Running => KeyGenState::Running,
            Self::Finishing => KeyGenState::Finishing,
            Self::Sealed | Self::Finished => KeyGenState::Finished,
            Self::Aborted => KeyGenState::Aborted,
            Self::Failed => KeyGenState::Failed,
        }
    }
}

/// Answers questions of a run, whatever the degree of its ring.
#[tonic::async_trait]
pub(super) trait Answers: Send + Sync {
    async fn answer(&self, from: PartyId, question: Bytes) -> Result<Bytes, Answerless>;

    /// Who was late and who was wrong, so far.
    fn found(&self) -> Found;

    /// Another signed frame than the one in `answer`, for a party that lies on purpose.
    fn insecure_wrong_frame(&self, question: &[u8], answer: &Bytes) -> Option<Bytes>;
}

/// Who was late and who was wrong in a run.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) late: PartySet,
    pub(super) culprits: Vec<Culprit>,
    /// Seed of the masks; nothing is proved before there is one.
    pub(super) seed: Option<Seed>,
}

#[tonic::async_trait]
impl<const D: usize, S: Signer + 'static, J: Journal + 'static> Answers for Run<D, S, J> {
    async fn answer(&self, from: PartyId, question: Bytes) -> Result<Bytes, Answerless> {
        Self::answer(self, from, question).await
    }

    fn found(&self) -> Found {
        let (late, culprits) = Self::found(self);
        Found { late, culprits, seed: self.public().map(|public| public.seed) }
    }

    fn insecure_wrong_frame(&self, question: &[u8], answer: &Bytes) -> Option<Bytes> {
        Self::insecure_wrong_frame(self, question, answer)
    }
}

/// What a run came to: recorded as JSON with the run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Outcome {
    pub(super) key_id: B256,
    pub(super) epoch_id: B256,
    pub(super) signatures: Vec<KeygenSignature>,
    /// Bitmaps, bit (index − 1).
    pub(super) late: u32,
    pub(super) wrong: u32,
}

struct View {
    stage: Stage,
    /// What it waits for or why it ended; empty: nothing.
    problem: String,
    progress: Option<watch::Receiver<Progress>>,
    outcome: Option<Outcome>,
    answers: Option<Arc<dyn Answers>>,
    task: Option<JoinHandle<()>>,
}

/// One run.
pub(super) struct Generation {
    pub(super) asked: NewKeygen,
    /// What it is called among the parties, and the epoch of its pseudorandom keys.
    pub(super) identity: B256,
    pub(super) spec: Arc<KeySpec>,
    pub(super) cancel: CancellationToken,
    started_ms: u64,
    view: Mutex<View>,
}

impl std::fmt::Debug for Generation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Generation").field("run", &self.asked.run_id).field("stage", &self.stage()).finish()
    }
}

/// SHA-256("KMS-KEYGEN-1" ‖ committee hash ‖ context id ‖ run id ‖ u8 parameter set ‖ u8 compression ‖ CRS digest).
pub(super) fn identity(committee_hash: &[u8; 32], context: B256, asked: &NewKeygen) -> B256 {
    let hash = Sha256::new()
        .chain_update(b"KMS-KEYGEN-1")
        .chain_update(committee_hash)
        .chain_update(context)
        .chain_update(asked.run_id)
        .chain_update([asked.params, asked.compressed.into()])
        .chain_update(asked.crs_digest);
    B256::from_slice(&hash.finalize())
}

impl Generation {
    pub(super) fn new(parts: &DkgParts, row: KeygenRow) -> Self {
        let outcome: Option<Outcome> = row.result.as_deref().and_then(|json| serde_json::from_slice(json).ok());
        let stage = match row.state {
            KeygenState::Open => Stage::Preparing,
            KeygenState::Sealed => Stage::Sealed,
            KeygenState::Finished => Stage::Finished,
            KeygenState::Aborted => Stage::Aborted,
            KeygenState::Failed => Stage::Failed,
        };
        let problem = row.detail.unwrap_or_default();
        Self {
            identity: identity(&parts.party.committee_hash, parts.party.context(), &row.asked),
            // A row with a number of no parameter set is never open: it was checked when it was asked for.
            spec: Arc::new(params(&row.asked).map_or_else(
                || KeySpec { secrets: Vec::new(), components: Vec::new() },
                |params| key_spec(params, row.asked.compressed),
            )),
            asked: row.asked,
            cancel: parts.cancel.child_token(),
            started_ms: row.started_at,
            view: Mutex::new(View { stage, problem, progress: None, outcome, answers: None, task: None }),
        }
    }

    pub(super) fn params(&self) -> Option<ParamsId> {
        params(&self.asked)
    }

    pub(super) fn stage(&self) -> Stage {
        self.view.lock().stage
    }

    pub(super) fn enter(&self, stage: Stage) {
        let mut view = self.view.lock();
        tracing::info!(run = %self.asked.run_id, ?stage, "key generation");
        view.stage = stage;
        view.problem.clear();
    }

    /// Ends without a key.
    pub(super) fn end(&self, stage: Stage, why: &str) {
        let mut view = self.view.lock();
        (view.stage, view.problem, view.answers) = (stage, why.into(), None);
    }

    pub(super) fn problem(&self, problem: String) {
        self.view.lock().problem = problem;
    }

    pub(super) fn works(&self, task: JoinHandle<()>) {
        self.view.lock().task = Some(task);
    }

    /// Ends its work and waits for its end.
    pub(super) async fn stop(&self) {
        self.cancel.cancel();
        let task = self.view.lock().task.take();
        if let Some(task) = task {
            let _ = task.await;
        }
    }

    pub(super) fn answers(&self, answers: Option<Arc<dyn Answers>>) {
        self.view.lock().answers = answers;
    }

    pub(super) fn answering(&self) -> Option<Arc<dyn Answers>> {
        self.view.lock().answers.clone()
    }

    pub(super) fn follow(&self, progress: watch::Receiver<Progress>) {
        self.view.lock().progress = Some(progress);
    }

    pub(super) fn came_to(&self, outcome: Outcome) {
        self.view.lock().outcome = Some(outcome);
    }

    pub(super) fn key(&self) -> Option<B256> {
        self.view.lock().outcome.as_ref().map(|outcome| outcome.key_id)
    }

    /// How far the protocol is, and the name of what it makes.
    pub(super) fn progress(&self) -> Option<Progress> {
        self.view.lock().progress.as_ref().map(|progress| progress.borrow().clone())
    }

    /// What is being made, in words.
    fn phase(&self, stage: Stage, progress: Option<&Progress>) -> String {
        match (stage, progress.map(|progress| progress.phase)) {
            (Stage::Preparing, _) => "preparing".into(),
            (Stage::Running, None | Some(Phase::Starting)) => "reading the journal".into(),
            (Stage::Running, Some(Phase::Coin)) => "seed".into(),
            (Stage::Running, Some(Phase::Secret(secret))) => {
                format!("secret bits: {}", self.spec.secrets.get(secret).map_or("", |secret| secret.name))
            }
            (Stage::Running, Some(Phase::Component(component))) => {
                self.spec.components.get(component).map_or("", |component| component.name).into()
            }
            (Stage::Running, Some(_)) | (Stage::Finishing, _) => "putting the key together".into(),
            (Stage::Sealed | Stage::Finished, _) => "finished".into(),
            (Stage::Aborted, _) => "aborted".into(),
            (Stage::Failed, _) => "failed".into(),
        }
    }

    /// What is being made, in words, and what keeps it from being made.
    pub(super) fn steady(&self) -> (String, Option<String>) {
        let progress = self.progress();
        let view = self.view.lock();
        let problem = Some(view.problem.clone()).filter(|problem| !problem.is_empty());
        (self.phase(view.stage, progress.as_ref()), problem)
    }

    pub(super) fn describe(&self) -> KeyGenResponse {
        let progress = self.progress();
        let view = self.view.lock();
        let phase = self.phase(view.stage, progress.as_ref());
        let outcome = view.outcome.as_ref();
        let progress = progress.unwrap_or_default();
        let mut problem = view.problem.clone();
        if problem.is_empty() && view.stage == Stage::Running && !progress.waiting_for.is_empty() {
            problem = format!("waiting for parties {}", progress.waiting_for);
        }
        let left = progress.left.filter(|_| view.stage == Stage::Running);
        let (late, wrong) = (progress.late.bits(), progress.wrong.bits());
        let signature = |signed: &KeygenSignature| node::KeySignature {
            chain_id: signed.chain_id,
            digests: signed
                .digests
                .iter()
                .map(|part| node::KeyPartDigest { key_type: part.key_type.into(), digest: part.digest.to_vec() })
                .collect(),
            extra_data: signed.extra_data.to_vec(),
            signature: signed.signature.to_vec(),
        };
        KeyGenResponse {
            run_id: self.asked.run_id.to_vec(),
            state: view.stage.shown().into(),
            phase,
            chunks_done: progress.chunks_done.into(),
            chunks_total: progress.chunks_total.into(),
            bytes_sent: progress.bytes_sent,
            // A rate: what is lost below one bit is nothing to anybody.
            bits_per_second: progress.bits_per_second.max(0.0) as u64,
            seconds_left: left.as_ref().map(Duration::as_secs),
            late: bitmap(outcome.map_or(late, |outcome| outcome.late | late)),
            wrong: bitmap(outcome.map_or(wrong, |outcome| outcome.wrong | wrong)),
            problem,
            params: self.asked.params.into(),
            with_compression: self.asked.compressed,
            crs_digest: self.asked.crs_digest.to_vec(),
            started_ms: self.started_ms,
            key_id: outcome.map(|outcome| outcome.key_id.to_vec()).unwrap_or_default(),
            epoch_id: outcome.map(|outcome| outcome.epoch_id.to_vec()).unwrap_or_default(),
            signatures: outcome.map(|o| o.signatures.iter().map(signature).collect()).unwrap_or_default(),
            usable: false,
        }
    }
}

fn params(asked: &NewKeygen) -> Option<ParamsId> {
    ParamsId::from_u8(asked.params)
}

fn bitmap(bits: u32) -> Vec<u8> {
    let mut bitmap = vec![0; 32];
    bitmap[28..].copy_from_slice(&bits.to_be_bytes());
    bitmap
}

/// Bits of a set of parties.
pub(super) fn bits(parties: impl IntoIterator<Item = PartyId>) -> u32 {
    parties.into_iter().collect::<PartySet>().bits()
}

pub(super) fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
