//! Generation of keys: what a party does around the protocol run of [`kms_mpc::dkg`].
//!
//! An operator asks for a run by an id that is never used twice; the same call goes to all parties. Then each party
//! 1. records the run, one open at a time, so that it survives a kill at any moment;
//! 2. *prepares*: fetches the reference string by its digest, and makes the run's own pseudorandom keys with the others, by
//!    the same set-up that makes those of epochs ([`crate::setup`]): a run is an epoch with an id of its own, a hash over
//!    committee, run id and parameters. Parties that were asked for different things never meet;
//! 3. *runs* the protocol: asks its peers and answers their questions, with its memory in the run's folder ([`journal`]);
//! 4. *finishes*: puts the public keys together, seals its share exactly as an import does, signs the registration, and
//!    has the first epoch of the key set up: the key can be used without a restart;
//! 5. stays to answer those that are behind, until all parties have the key or [`DkgOptions::linger`] is over. Then it
//!    destroys the run's keys and its folder.
//!
//! A full disk or absent parties are not the end: the run waits, says so, and goes on by itself. An operator may end it
//! ([`Dkg::abort`]); a run that was ended, or that has failed, never starts again, and its keys are gone before another
//! one can be made of them.

mod exchange;
mod finish;
mod generation;
pub mod journal;
pub mod proof;
mod record;
mod work;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use alloy_primitives::B256;
use bytes::Bytes;
use kms_encoding::ParamsId;
use kms_mpc::dkg::Answerless;
use kms_mpc::{Committee, PartyId};
use kms_proto::node::{KeyGenResponse, KeyGenState};
use kms_proto::peer::{KeygenAbsence, KeygenOutcome, KeygenStage};
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::ciphertexts::Ciphertexts;
use crate::error::{KeysError, StoreError};
use crate::keys::Keys;
use crate::metrics::Metrics;
use crate::misbehave::Misbehave;
use crate::party::Party;
use crate::peer::{Hub, KeygenAnswers};
use crate::sealed::Vault;
use crate::setup::Setup;
use crate::store::{KeygenRow, KeygenState, NewKeygen, Store};
use generation::{Generation, Stage};

/// Folder of the runs' memories, in the data folder.
const RUNS: &str = "keygen";
/// Folder of the public keys, in the data folder: a folder per key.
pub const PUBLIC: &str = "public";

/// What the generation of keys works with.
#[derive(Clone, Debug)]
pub struct DkgParts {
    /// This party.
    pub party: Arc<Party>,
    /// Its keys.
    pub keys: Arc<Keys>,
    /// Where shares are sealed.
    pub vault: Arc<Vault>,
    /// Where runs are recorded.
    pub store: Store,
    /// The links to the others.
    pub hub: Hub,
    /// Makes the pseudorandom keys.
    pub setup: Setup,
    /// Where reference strings are fetched.
    pub ciphertexts: Arc<Ciphertexts>,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// The data folder.
    pub data_dir: PathBuf,
    /// Ends all work.
    pub cancel: CancellationToken,
}

/// Times of a run, and what tests change.
#[derive(Clone, Copy, Debug)]
pub struct DkgOptions {
    /// A party that is silent for longer is late: longer than any honest party needs for a piece of work.
    pub patience: Duration,
    /// How long a party that has the key stays for those that have not.
    pub linger: Duration,
    /// A lie, in tests.
    pub misbehave: Option<Misbehave>,
}

impl Default for DkgOptions {
    fn default() -> Self {
        Self { patience: Duration::from_secs(120), linger: Duration::from_secs(24 * 3600), misbehave: None }
    }
}

/// Why an operator's call about a run is refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DkgError {
    /// No such parameter set.
    #[error("there is no parameter set {0}")]
    Params(u32),
    /// The run is known, with other parameters.
    #[error("run {0} was asked for with other parameters")]
    Differs(B256),
    /// The run has ended without a key.
    #[error("run {run} was {how} and never starts again: choose another id")]
    Ended {
        /// Which.
        run: B256,
        /// "aborted" or "failed".
        how: &'static str,
    },
    /// Another run is open.
    #[error("run {0} is open: one at a time")]
    Busy(B256),
    /// There is no such run here.
    #[error("this party knows no run {0}")]
    Unknown(B256),
    /// The key is sealed: it can't be unmade this way.
    #[error("run {0} has its key already")]
    HasKey(B256),
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Sealed storage.
    #[error(transparent)]
    Keys(#[from] KeysError),
}

/// All runs of this party; clones share them.
#[derive(Clone, Debug)]
pub struct Dkg {
    shared: Arc<Shared>,
}

/// What all runs share.
#[derive(Debug)]
struct Shared {
    parts: DkgParts,
    options: DkgOptions,
    committee: Committee,
    own: PartyId,
    /// In the order of their start.
    runs: Mutex<Vec<Arc<Generation>>>,
    /// One run starts or ends at a time.
    changing: tokio::sync::Mutex<()>,
    tasks: TaskTracker,
}

impl Dkg {
    /// Takes up the runs that are under way, and answers peers from now on.
    ///
    /// # Errors
    /// The database, or a committee that can't make keys.
    pub async fn start(parts: DkgParts, options: DkgOptions) -> Result<Self, DkgError> {
        let impossible = |e: kms_encoding::FloodBoundError| KeysError::Prss(e.to_string());
        let committee = Committee::new(parts.party.n() as usize, parts.party.t() as usize).map_err(impossible)?;
        let own = u8::try_from(parts.party.index).ok().and_then(PartyId::new);
        let own = own.ok_or_else(|| KeysError::Prss("the party's index is none of a committee".into()))?;
        let rows = parts.store.keygens().await?;
        let shared = Arc::new(Shared {
            parts,
            options,
            committee,
            own,
            runs: Mutex::default(),
            changing: tokio::sync::Mutex::default(),
            tasks: TaskTracker::new(),
        });
        for row in rows {
            shared.take_up(row);
        }
        shared.tasks.close();
        shared.parts.hub.keygen_answers(shared.clone());
        Ok(Self { shared })
    }

    /// Takes part in a run. Repeated with the same parameters it changes nothing.
    ///
    /// # Errors
    /// [`DkgError`] says why not.
    pub async fn open(&self, asked: NewKeygen) -> Result<KeyGenResponse, DkgError> {
        let shared = &self.shared;
        let _one = shared.changing.lock().await;
        ParamsId::from_u8(asked.params).ok_or(DkgError::Params(asked.params.into()))?;
        if let Some(known) = shared.run(asked.run_id) {
            if known.asked != asked {
                return Err(DkgError::Differs(asked.run_id));
            }
            return match known.stage() {
                Stage::Aborted => Err(DkgError::Ended { run: asked.run_id, how: "aborted" }),
                Stage::Failed => Err(DkgError::Ended { run: asked.run_id, how: "failed" }),
                _ => Ok(shared.describe(&known)),
            };
        }
        if !shared.parts.store.open_keygen(asked.clone()).await? {
            let open = shared.runs.lock().iter().find(|run| run.stage().is_open()).map(|run| run.asked.run_id);
            return Err(open.map_or(DkgError::Differs(asked.run_id), DkgError::Busy));
        }
        let run = shared.take_up(KeygenRow {
            asked,
            state: KeygenState::Open,
            key_id: None,
            result: None,
            detail: None,
            started_at: generation::now_ms(),
        });
        record::line(shared, &run, "asked for by an operator").await;
        Ok(shared.describe(&run))
    }

    /// Where a run stands; without an id the last one. None if there is none.
    pub fn status(&self, run_id: Option<B256>) -> Option<KeyGenResponse> {
        let run = match run_id {
            Some(id) => self.shared.run(id),
            None => self.shared.runs.lock().last().cloned(),
        };
        run.map(|run| self.shared.describe(&run))
    }

    /// Ends a run, for good; repeated it changes nothing.
    ///
    /// # Errors
    /// There is no such run, or it has come to its key.
    pub async fn abort(&self, run_id: B256) -> Result<KeyGenResponse, DkgError> {
        let shared = &self.shared;
        let _one = shared.changing.lock().await;
        let run = shared.run(run_id).ok_or(DkgError::Unknown(run_id))?;
        if run.stage().has_ended() {
            return Ok(shared.describe(&run));
        }
        let why = "aborted by an operator";
        let store = &shared.parts.store;
        let moved = store.move_keygen(run_id, KeygenState::Open, KeygenState::Aborted, None, None, Some(why.into()));
        if !moved.await? {
            return Err(DkgError::HasKey(run_id));
        }
        record::unfinished(shared, &run, run.answering()).await;
        run.end(Stage::Aborted, why);
        run.stop().await;
        record::line(shared, &run, why).await;
        shared.erase(&run).await;
        Ok(shared.describe(&run))
    }

    /// What the open run waits for or works on, in words; none if none is open.
    pub fn waiting_for(&self) -> Option<String> {
        let open = self.shared.runs.lock().iter().rev().find(|run| run.stage().is_open()).cloned()?;
        // Whom it waits for changes many times a second while all is well: that is for those who ask.
        let (phase, problem) = open.steady();
        let problem = problem.or_else(|| self.shared.parts.setup.waits_for(open.identity));
        Some(
            problem.map_or_else(|| format!("key generation, {phase}"), |why| format!("key generation, {phase}: {why}")),
        )
    }

    /// Ends when all work has ended after cancellation.
    pub async fn stopped(&self) {
        self.shared.tasks.wait().await;
    }
}

impl Shared {
    fn run(&self, run_id: B256) -> Option<Arc<Generation>> {
        self.runs.lock().iter().find(|run| run.asked.run_id == run_id).cloned()
    }

    /// Adds a recorded run, and works on it as long as there is something to do.
    fn take_up(self: &Arc<Self>, row: KeygenRow) -> Arc<Generation> {
        let works = matches!(row.state, KeygenState::Open | KeygenState::Sealed);
        let run = Arc::new(Generation::new(&self.parts, row));
        self.runs.lock().push(run.clone());
        let (shared, task) = (self.clone(), run.clone());
        run.works(self.tasks.spawn(async move {
            if works {
                shared.work(&task).await;
            } else {
                // What a kill may have left.
                shared.erase(&task).await;
            }
        }));
        run
    }

    fn folder(&self, run: &Generation) -> PathBuf {
        self.parts.data_dir.join(RUNS).join(hex::encode(run.asked.run_id))
    }

    /// Destroys the keys of a run that is over, and all that is left of it. What fails is tried again at the next start.
    async fn erase(&self, run: &Generation) {
        run.answers(None);
        if let Err(error) = self.parts.setup.destroy(run.identity).await {
            tracing::error!(run = %run.asked.run_id, %error, "the keys of the run can't be destroyed");
            run.problem(format!("the keys of the run can't be destroyed: {error}"));
        }
        let folders = [self.folder(run), finish::partial(&self.parts.data_dir.join(PUBLIC), run.asked.run_id)];
        for folder in folders {
            let removed = tokio::task::spawn_blocking(move || match std::fs::remove_dir_all(&folder) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
                _ => Ok(()),
            });
            if let Ok(Err(error)) = removed.await {
                tracing::error!(run = %run.asked.run_id, %error, "a folder of the run can't be removed");
            }
        }
    }

    /// What operators are shown of a run.
    fn describe(&self, run: &Generation) -> KeyGenResponse {
        let mut shown = run.describe();
        if shown.state() == KeyGenState::Preparing && shown.problem.is_empty() {
            shown.problem = self.parts.setup.waits_for(run.identity).unwrap_or_default();
        }
        shown.usable = B256::try_from(shown.key_id.as_slice()).is_ok_and(|key| self.parts.keys.usable(key).is_some());
        shown.problem = kms_proto::bounds::text(shown.problem);
        shown
    }
}

#[tonic::async_trait]
impl KeygenAnswers for Shared {
    async fn answer(&self, peer: u16, identity: [u8; 32], question: Bytes) -> Result<Bytes, KeygenAbsence> {
        let run = self.runs.lock().iter().find(|run| run.identity == identity).cloned();
        let run = run.ok_or(KeygenAbsence::NotYet)?;
        let Some(answers) = run.answering() else {
            let over = run.stage().has_ended() || run.stage() == Stage::Finished;
            return Err(if over { KeygenAbsence::Over } else { KeygenAbsence::NotYet });
        };
        let from = u8::try_from(peer).ok().and_then(PartyId::new).ok_or(KeygenAbsence::Refused)?;
        let asked = question.clone();
        let answer = answers.answer(from, question).await.map_err(|why| match why {
            Answerless::Malformed | Answerless::NotForYou => KeygenAbsence::Refused,
            // Not now: the disk of this party is in trouble, or it has not come that far.
            _ => KeygenAbsence::NotYet,
        })?;
        match self.options.misbehave {
            None => Ok(answer),
            Some(lie) => {
                tokio::time::sleep(lie.delay()).await;
                if lie.signs_another_frame(peer)
                    && let Some(frame) = answers.insecure_wrong_frame(&asked, &answer)
                {
                    return Ok(frame);
                }
                lie.apply_in_keygen(peer, &asked, &answer).ok_or(KeygenAbsence::NotYet)
            }
        }
    }

    fn outcome(&self, identity: [u8; 32]) -> KeygenOutcome {
        let run = self.runs.lock().iter().find(|run| run.identity == identity).cloned();
        let (stage, key_id) = match run.as_ref().map(|run| run.stage()) {
            None => (KeygenStage::Unknown, Vec::new()),
            Some(Stage::Sealed | Stage::Finished) => {
                let key = run.and_then(|run| run.key()).unwrap_or_default();
                (KeygenStage::Sealed, key.to_vec())
            }
            Some(Stage::Aborted | Stage::Failed) => (KeygenStage::Aborted, Vec::new()),
            Some(_) => (KeygenStage::Open, Vec::new()),
        };
        KeygenOutcome { stage: stage.into(), key_id }
    }
}
