//! One run at one party.

use core::time::Duration;
use std::sync::Arc;

use bytes::Bytes;
use kms_algebra::{GrVec, PartyId, PartySet};
use tokio::sync::watch;

use super::error::{Answerless, RunError};
use super::evidence::Culprit;
use super::exchange::{Exchange, Signer};
use super::journal::Journal;
use super::progress::Progress;
use super::spec::{KeySpec, Masks};
use crate::{Committee, KeygenRun};
use crate::prss::Prss;

/// Seed of the public masks of a key.
pub type Seed = [u8; 32];

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
    /// Chunks in flight.
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

/// One run at one party: [`Self::drive`] it, and let peers ask it ([`Self::answer`]), also after it is done.
pub struct Run<const D: usize, S, J> {
    config: RunConfig,
    progress: watch::Sender<Progress>,
    parts: (Prss<D>, Arc<S>, Arc<J>),
}

impl<const D: usize, S, J> core::fmt::Debug for Run<D, S, J> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Run").field("own", &self.config.own).finish_non_exhaustive()
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
        let _ = Box::new(masks);
        Ok(Self { config, progress: watch::Sender::default(), parts: (prss, signer, journal) })
    }

    /// Answers a peer's question. Waits until there is an answer: the caller limits the time (and then says "not yet" to the
    /// peer) by dropping the future. Works before, during and after [`Self::drive`].
    ///
    /// # Errors
    /// There is none.
    #[expect(clippy::unused_async, reason = "the signature comes first")]
    pub async fn answer(&self, from: PartyId, question: Bytes) -> Result<Bytes, Answerless> {
        let _ = question;
        if !self.config.committee.contains(from) {
            return Err(Answerless::NotForYou);
        }
        Err(Answerless::NotYet)
    }

    /// Makes the key. Called once; dropped at any moment, the run can be resumed by a new [`Run`] with the same journal.
    ///
    /// # Errors
    /// See [`RunError`]; all but [`RunError::Split`], [`RunError::ForeignJournal`] and [`RunError::Setup`] can be resumed.
    pub async fn drive<E: Exchange>(&self, exchange: &E) -> Result<Finished<D>, RunError> {
        self.parts.2.records().await?;
        exchange.sleep(self.config.patience).await;
        Err(RunError::Closed)
    }

    /// How far it is.
    #[must_use]
    pub fn progress(&self) -> watch::Receiver<Progress> {
        self.progress.subscribe()
    }
}
