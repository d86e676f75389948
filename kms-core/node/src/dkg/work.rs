//! The work of one run, from the reference string to the end of its stay.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use kms_encoding::key_spec::Masks;
use kms_encoding::{ParamsId, PrssKeys};
use kms_fhe::crs::Crs;
use kms_fhe::dkg::XofMasks;
use kms_mpc::KeygenRun;
use kms_mpc::dkg::{Run, RunConfig, RunError};
use kms_mpc::prss::Prss;
use kms_proto::peer::KeygenStage;
use tokio::time::Instant;

use super::exchange::{PartySigner, Peers};
use super::generation::{Generation, Stage};
use super::journal::FileJournal;
use super::{Shared, record};
use crate::error::{CiphertextError, KeysError, SealedError, StoreError};
use crate::store::KeygenState;

/// Pause after something that may be better next time: a full disk, an object store that does not answer.
const RETRY: Duration = Duration::from_secs(3);
/// How often a party looks what has become of the others.
const LOOK: Duration = Duration::from_secs(2);
/// Pieces of work under way at the same time, the same at all parties: enough to hide the others' answers behind own work.
const WINDOW: usize = 3;
/// How often the metrics follow.
const SHOW: Duration = Duration::from_millis(500);

/// Why the work stopped.
#[derive(Debug)]
pub(super) enum Stop {
    /// It goes on by itself, after a pause.
    Again(String),
    /// The run can't come to a key.
    Over(String),
}

impl From<StoreError> for Stop {
    fn from(error: StoreError) -> Self {
        Self::Again(error.to_string())
    }
}

impl From<KeysError> for Stop {
    fn from(error: KeysError) -> Self {
        match error {
            KeysError::Sealed(SealedError::Destroyed(_)) => Self::Over("the keys of this run were destroyed".into()),
            other => Self::Again(other.to_string()),
        }
    }
}

impl From<RunError> for Stop {
    fn from(error: RunError) -> Self {
        match &error {
            RunError::Setup(_) | RunError::Spec { .. } | RunError::ForeignJournal(_) | RunError::Split { .. } => {
                Self::Over(error.to_string())
            }
            RunError::Journal(problem) if problem.kind() == io::ErrorKind::InvalidData => Self::Over(error.to_string()),
            _ => Self::Again(error.to_string()),
        }
    }
}

/// Work on the disk or the processor, away from the async runtime.
pub(super) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Stop> {
    tokio::task::spawn_blocking(work).await.map_err(|e| Stop::Again(format!("interrupted: {e}")))
}

impl Shared {
    /// Works on a run until it is over, and through everything that passes.
    pub(super) async fn work(&self, run: &Generation) {
        loop {
            let Some(ended) = run.cancel.run_until_cancelled(self.attempt(run)).await else { return };
            let answered = run.answering();
            run.answers(None);
            match ended {
                Ok(()) => return,
                Err(Stop::Over(why)) => {
                    record::unfinished(self, run, answered).await;
                    return self.fail(run, &why).await;
                }
                Err(Stop::Again(why)) => {
                    tracing::warn!(run = %run.asked.run_id, why, "the key generation waits");
                    run.problem(why);
                    if run.cancel.run_until_cancelled(tokio::time::sleep(RETRY)).await.is_none() {
                        return;
                    }
                }
            }
        }
    }

    /// The run ends without a key.
    async fn fail(&self, run: &Generation, why: &str) {
        tracing::error!(run = %run.asked.run_id, why, "the key generation has failed");
        let (store, detail) = (&self.parts.store, Some(why.to_owned()));
        let recorded = store.move_keygen(run.asked.run_id, KeygenState::Open, KeygenState::Failed, None, None, detail);
        match recorded.await {
            Ok(true) => {
                run.end(Stage::Failed, why);
                record::line(self, run, why).await;
                self.erase(run).await;
            }
            // It has its key, or was aborted meanwhile.
            Ok(false) => run.problem(why.into()),
            Err(error) => run.problem(format!("{why}; {error}")),
        }
    }

    /// From where the run stands to its end.
    async fn attempt(&self, run: &Generation) -> Result<(), Stop> {
        let params = run.params().ok_or_else(|| Stop::Over("unknown parameter set".into()))?;
        let crs = match run.stage() {
            Stage::Sealed => None,
            _ => {
                run.enter(Stage::Preparing);
                Some(self.reference_string(run, params).await?)
            }
        };
        let mut made = self.parts.setup.take_part(run.identity).await?;
        let gone = |_| Stop::Again("the set-up of the run's keys has stopped".into());
        let keys = made.wait_for(Option::is_some).await.map_err(gone)?.clone();
        let keys = keys.ok_or_else(|| Stop::Again("the run has no keys".into()))?;
        match self.committee.degree() {
            4 => self.protocol::<4>(run, crs, &keys).await,
            _ => self.protocol::<5>(run, crs, &keys).await,
        }
    }

    /// The reference string, checked.
    async fn reference_string(&self, run: &Generation, params: ParamsId) -> Result<Crs, Stop> {
        let fetched = self.parts.ciphertexts.reference_string(run.asked.crs_digest).await;
        let bytes = fetched.map_err(|error| match error {
            CiphertextError::Missing { digest } => {
                Stop::Again(format!("no object store has crs/{}", hex::encode(digest)))
            }
            other => Stop::Again(other.to_string()),
        })?;
        let parsed = blocking(move || Crs::parse(params, bytes.to_vec())).await?;
        parsed.map_err(|e| Stop::Over(format!("the reference string can't be used: {e}")))
    }

    async fn protocol<const D: usize>(&self, run: &Generation, crs: Option<Crs>, keys: &PrssKeys) -> Result<(), Stop> {
        let folder = self.folder(run);
        let journal = blocking(move || FileJournal::open(&folder)).await?.map_err(RunError::from)?;
        let prss = Prss::<D>::new(&self.committee, self.own, &keys.keys).map_err(RunError::from)?;
        let party = &self.parts.party;
        let config = RunConfig {
            committee: self.committee,
            own: self.own,
            spec: run.spec.clone(),
            run: KeygenRun {
                context_id: party.context().0,
                run_id: run.asked.run_id.0,
                params_hash: run.identity.0,
                manifest_hash: party.committee_hash,
            },
            patience: self.options.patience,
            window: WINDOW,
        };
        let (spec, signer) = (run.spec.clone(), Arc::new(PartySigner::new(party.clone())));
        let masks = move |seed: &[u8; 32]| Arc::new(XofMasks::new(&spec, seed)) as Arc<dyn Masks>;
        let machine = Arc::new(Run::new(config, prss, signer, Arc::new(journal), masks)?);
        run.follow(machine.progress());
        run.answers(Some(machine.clone()));
        if run.stage() != Stage::Sealed {
            run.enter(Stage::Running);
        }
        let peers = Peers::new(self.parts.hub.clone(), run.identity, self.committee.t());
        let finished = tokio::select! {
            finished = machine.drive(&peers) => finished?,
            () = peers.hopeless() => {
                return Err(Stop::Over("for more than t other parties this run is over".into()));
            }
            never = self.show(run) => match never {},
        };
        self.metered(run);
        let ending = async {
            match crs {
                Some(crs) => self.finish(run, finished, crs).await?,
                None if self.lacks_share(run) => {
                    let params = run.params().ok_or_else(|| Stop::Over("unknown parameter set".into()))?;
                    let crs = self.reference_string(run, params).await?;
                    self.finish(run, finished, crs).await?;
                }
                None => drop(finished),
            }
            self.stay(run).await
        };
        // Those that are behind may need what this party lost when it restarted, all the time that it stays.
        tokio::select! {
            ended = ending => ended,
            broken = machine.serve(&peers) => Err(broken.into()),
        }
    }

    /// Whether this party was killed between the decision that there is a key and the sealing of its share.
    fn lacks_share(&self, run: &Generation) -> bool {
        let key = run.key();
        !self.parts.keys.known().iter().any(|known| Some(known.key_id) == key)
    }

    /// Keeps the metrics up to date.
    async fn show(&self, run: &Generation) -> Infallible {
        loop {
            self.metered(run);
            tokio::time::sleep(SHOW).await;
        }
    }

    pub(super) fn metered(&self, run: &Generation) {
        let shown = run.describe();
        self.parts.metrics.keygen(&shown);
    }

    /// Stays for those that do not have the key yet.
    async fn stay(&self, run: &Generation) -> Result<(), Stop> {
        let Some(key) = run.key() else { return Err(Stop::Again("the key is not recorded".into())) };
        let own = self.parts.party.index;
        let others: Vec<u16> = (1..=self.committee.n() as u16).filter(|party| *party != own).collect();
        let since = Instant::now();
        let (mut with_key, mut out, mut differ) = (BTreeSet::from([own]), BTreeSet::new(), BTreeSet::new());
        loop {
            for peer in &others {
                if with_key.contains(peer) || out.contains(peer) {
                    continue;
                }
                let Some(outcome) = self.parts.hub.keygen_outcome(*peer, run.identity.0).await else { continue };
                match outcome.stage() {
                    KeygenStage::Sealed if outcome.key_id == key.as_slice() => {
                        with_key.insert(*peer);
                    }
                    KeygenStage::Sealed if differ.insert(*peer) => {
                        let what = format!("party {peer} says that it has another key");
                        tracing::error!(run = %run.asked.run_id, what, "key generation");
                        run.problem(what.clone());
                        record::line(self, run, &what).await;
                    }
                    KeygenStage::Aborted => {
                        out.insert(*peer);
                    }
                    _ => {}
                }
            }
            let enough = with_key.len() >= self.committee.n() - self.committee.t();
            let all = with_key.len() + out.len() > others.len();
            if enough && (all || since.elapsed() >= self.options.linger) {
                break;
            }
            tokio::time::sleep(LOOK).await;
        }
        let (store, run_id) = (&self.parts.store, run.asked.run_id);
        store.move_keygen(run_id, KeygenState::Sealed, KeygenState::Finished, None, None, None).await?;
        run.enter(Stage::Finished);
        let parties: Vec<String> = with_key.iter().map(ToString::to_string).collect();
        record::line(self, run, &format!("parties {} have key {key}: all else is erased", parties.join(", "))).await;
        self.erase(run).await;
        Ok(())
    }
}
