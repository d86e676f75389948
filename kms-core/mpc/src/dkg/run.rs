//! One run at one party.

use core::time::Duration;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use bytes::Bytes;
use futures::FutureExt;
use kms_algebra::{GrVec, PartyId, PartySet};
use tokio::sync::watch;

use super::error::{Answerless, RunError};
use super::evidence::Culprit;
use super::exchange::{Exchange, Signer};
use super::journal::Journal;
use super::meter::Meter;
use super::plan::Plan;
use super::progress::Progress;
use super::state::State;
use super::work::{Decoders, Secrets};
use crate::prss::Prss;
use crate::{Committee, KeygenRun, SetupError};
use kms_encoding::key_spec::{KeySpec, Masks};

/// Seed of the public masks of a key.
pub type Seed = [u8; 32];

/// Attempts at a chunk: each failed one excludes somebody, so t + 1 are enough.
pub(super) const MAX_ATTEMPTS: u32 = 16;

/// What a run is. All parties have the same, except `own`.
#[derive(Clone, Debug)]
pub struct RunConfig {
    /// The committee.
    pub committee: Committee,
    /// This party.
    pub own: PartyId,
    /// What is made.
    pub spec: Arc<KeySpec>,
    /// What tells it from all others.
    pub run: KeygenRun,
    /// Bound of a round: a party that is silent for longer is late. Longer than any honest party needs to compute and send
    /// a frame.
    pub patience: Duration,
    /// Chunks in flight, at least 1. The same at all parties.
    pub window: usize,
}

/// What a run leaves behind at a party. Bodies are read from the journal.
#[derive(Debug)]
pub struct Finished<const D: usize> {
    /// Seed of the public masks.
    pub seed: Seed,
    /// Shares of the secrets, in the order of the specification. Erased on drop.
    pub secrets: Vec<GrVec<u128, D>>,
    /// Parties excluded because they were late. Late is not wrong.
    pub late: PartySet,
    /// Wrong parties, and what speaks against them.
    pub culprits: Vec<Culprit>,
}

/// What third parties need to check evidence.
#[derive(Clone, Debug)]
pub struct Public<const D: usize> {
    /// The committee.
    pub committee: Committee,
    /// What tells the run from all others.
    pub run: KeygenRun,
    /// Seed of the public masks.
    pub seed: Seed,
    pub(super) plan: Arc<Plan>,
}

impl<const D: usize> Public<D> {
    /// What is public of a run.
    ///
    /// # Errors
    /// The specification can't be made.
    pub fn new(committee: Committee, run: KeygenRun, spec: &KeySpec, seed: Seed) -> Result<Self, RunError> {
        Ok(Self { committee, run, seed, plan: Arc::new(Plan::new::<D>(spec)?) })
    }
}

/// A maker of masks from the seed, until it is called.
type MakeMasks = Box<dyn FnOnce(&Seed) -> Arc<dyn Masks> + Send>;

/// What the files of this module share.
pub(super) struct Inner<const D: usize, S, J> {
    pub(super) config: RunConfig,
    pub(super) plan: Arc<Plan>,
    pub(super) prss: Arc<Prss<D>>,
    pub(super) decoders: Arc<Decoders<D>>,
    pub(super) signer: Arc<S>,
    pub(super) journal: Arc<J>,
    pub(super) version: watch::Sender<u64>,
    pub(super) progress: watch::Sender<Progress>,
    pub(super) meter: Meter,
    pub(super) secrets: OnceLock<Arc<Secrets<D>>>,
    masks: OnceLock<Arc<dyn Masks>>,
    make_masks: Mutex<Option<MakeMasks>>,
    state: Mutex<State>,
}

impl<const D: usize, S, J> Inner<D, S, J> {
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the state and wakes whoever waits for a change.
    pub(super) fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let result = change(&mut self.state());
        self.touch();
        result
    }

    /// Wakes whoever waits for a change.
    pub(super) fn touch(&self) {
        self.version.send_modify(|version| *version += 1);
    }

    /// The other parties.
    pub(super) fn peers(&self) -> impl Iterator<Item = PartyId> + use<D, S, J> {
        let own = self.config.own;
        self.config.committee.parties().filter(move |party| *party != own)
    }

    pub(super) fn seed(&self) -> Option<Seed> {
        self.state().seed
    }

    pub(super) fn public(&self, seed: Seed) -> Public<D> {
        let RunConfig { committee, run, .. } = self.config;
        Public { committee, run, seed, plan: Arc::clone(&self.plan) }
    }

    /// Shares of the secrets, once they are made.
    pub(super) fn secrets(&self) -> Result<Arc<Secrets<D>>, RunError> {
        let missing = RunError::Internal { chunk: self.plan.secret_chunks, what: "there are no secrets" };
        self.secrets.get().cloned().ok_or(missing)
    }

    /// The public masks, once there is a seed.
    pub(super) fn masks(&self) -> Result<Arc<dyn Masks>, RunError> {
        let missing = RunError::Internal { chunk: 0, what: "there are no masks" };
        if let Some(masks) = self.masks.get() {
            return Ok(Arc::clone(masks));
        }
        let make = self.make_masks.lock().unwrap_or_else(PoisonError::into_inner).take();
        let (Some(make), Some(seed)) = (make, self.seed()) else { return Err(missing) };
        Ok(Arc::clone(self.masks.get_or_init(|| make(&seed))))
    }
}

/// One run at one party: [`Self::drive`] it, and let peers ask it ([`Self::answer`]), also after it is done.
pub struct Run<const D: usize, S, J>(pub(super) Inner<D, S, J>);

impl<const D: usize, S, J> core::fmt::Debug for Run<D, S, J> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Run").field("own", &self.0.config.own).finish_non_exhaustive()
    }
}

impl<const D: usize, S: Signer + 'static, J: Journal + 'static> Run<D, S, J> {
    /// A run, new or resumed: the journal decides. `prss` has keys of this run only.
    ///
    /// # Errors
    /// The specification or the committee can't be used.
    pub fn new(
        config: RunConfig,
        prss: Prss<D>,
        signer: Arc<S>,
        journal: Arc<J>,
        masks: impl FnOnce(&Seed) -> Arc<dyn Masks> + Send + 'static,
    ) -> Result<Self, RunError> {
        if !config.committee.contains(config.own) {
            return Err(SetupError::NotAMember(config.own, config.committee.n()).into());
        }
        let decoders = Arc::new(Decoders::new(&config.committee)?);
        let plan = Arc::new(Plan::new::<D>(&config.spec)?);
        let config = RunConfig { window: config.window.max(1), ..config };
        let meter = Meter::new(&plan);
        let first = meter.progress();
        Ok(Self(Inner {
            config,
            plan,
            prss: Arc::new(prss),
            decoders,
            signer,
            journal,
            version: watch::Sender::new(0),
            progress: watch::Sender::new(first),
            meter,
            secrets: OnceLock::new(),
            masks: OnceLock::new(),
            make_masks: Mutex::new(Some(Box::new(masks))),
            state: Mutex::default(),
        }))
    }

    /// Answers a peer's question. Waits until there is an answer: the caller limits the time (and then says "not yet" to the
    /// peer) by dropping the future. Works before, during and after [`Self::drive`].
    ///
    /// # Errors
    /// There is none.
    pub async fn answer(&self, from: PartyId, question: Bytes) -> Result<Bytes, Answerless> {
        self.0.answer(from, &question).await
    }

    /// Makes the key. Called once; dropped at any moment, the run can be resumed by a new [`Run`] with the same journal.
    ///
    /// # Errors
    /// See [`RunError`]; all but [`RunError::Split`], [`RunError::ForeignJournal`] and [`RunError::Setup`] can be resumed.
    pub fn drive<'a, E: Exchange>(
        &'a self,
        exchange: &'a E,
    ) -> impl Future<Output = Result<Finished<D>, RunError>> + Send + use<'a, D, S, J, E> {
        self.0.drive(exchange)
    }

    /// Makes frames again that peers ask for, of chunks that are done. [`Self::drive`] does so as long as it lasts; whoever
    /// stays for others afterwards goes on with it, or those that are behind may wait for ever for what this party lost when
    /// it restarted. Ends only with what went wrong.
    pub fn serve<'a, E: Exchange>(
        &'a self,
        exchange: &'a E,
    ) -> impl Future<Output = RunError> + Send + use<'a, D, S, J, E> {
        self.0.serve(exchange).map(|ended| ended.err().unwrap_or(RunError::Closed))
    }

    /// Parties that were late, and those that were wrong, so far: also of a run that comes to no key.
    #[must_use]
    pub fn found(&self) -> (PartySet, Vec<Culprit>) {
        self.0.found()
    }

    /// How far it is.
    #[must_use]
    pub fn progress(&self) -> watch::Receiver<Progress> {
        self.0.progress.subscribe()
    }

    /// What third parties need to check the evidence of this run; `None` before there is a seed.
    #[must_use]
    pub fn public(&self) -> Option<Public<D>> {
        Some(self.0.public(self.0.seed()?))
    }
}
