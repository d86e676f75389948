//! From opened bodies and shares to a key that this party can use.

use std::fs::{self, File};
use std::io::{self, BufReader};
use std::path::{Path, PathBuf};

use alloy_primitives::{B256, U256};
use kms_encoding::{ParamsId, ShareFile, ShareVector};
use kms_fhe::crs::Crs;
use kms_fhe::dkg::{AssemblyError, assemble, shared_secrets};
use kms_fhe::{BundleError, KeyInfo, bundle};
use kms_mpc::dkg::Finished;

use super::generation::{Found, Generation, Outcome, Stage, bits};
use super::work::{Stop, blocking};
use super::{PUBLIC, Shared, record};
use crate::keys::{check_bundle, seal, sign};
use crate::store::KeygenState;

impl From<AssemblyError> for Stop {
    fn from(error: AssemblyError) -> Self {
        match &error {
            AssemblyError::Read { .. } => Self::Again(error.to_string()),
            _ => Self::Over(error.to_string()),
        }
    }
}

impl From<BundleError> for Stop {
    fn from(error: BundleError) -> Self {
        match &error {
            BundleError::Io { .. } => Self::Again(error.to_string()),
            _ => Self::Over(error.to_string()),
        }
    }
}

impl Shared {
    /// Puts the key together, seals this party's share, signs, and lets the key's first epoch be set up. After a kill all
    /// of it is done again and comes to the same.
    pub(super) async fn finish<const D: usize>(
        &self,
        run: &Generation,
        finished: Finished<D>,
        crs: Crs,
    ) -> Result<(), Stop> {
        let repeated = run.stage() == Stage::Sealed;
        if !repeated {
            run.enter(Stage::Finishing);
            self.metered(run);
            let (late, culprits) = (finished.late, finished.culprits.clone());
            record::parties(self, run, Found { late, culprits, seed: Some(finished.seed) }).await;
        }
        let party = &self.parts.party;
        let params = run.params().ok_or_else(|| Stop::Over("unknown parameter set".into()))?;
        let making = Making {
            params,
            compressed: run.asked.compressed,
            seed: finished.seed,
            bodies: self.folder(run),
            public: self.parts.data_dir.join(PUBLIC),
            run_id: run.asked.run_id,
            context: party.context(),
        };
        let (folder, info) = blocking(move || making.make(&crs)).await??;
        let share = self.share(run, &info, &finished).ok_or_else(|| Stop::Over("shares of a wrong form".into()))?;
        let wrong = finished.culprits.iter().map(|culprit| culprit.party);
        let (late, wrong) = (bits(finished.late.iter()), bits(wrong));
        drop(finished);
        let (info, share) = blocking(move || check_bundle(&folder, &share).map(|info| (info, share))).await??;

        let (key_id, epoch_id) = (B256::from(info.key_id()), B256::from(info.epoch_id()));
        let signatures = sign(party, &info, U256::from_be_bytes(run.asked.run_id.0));
        let outcome = Outcome { key_id, epoch_id, signatures, late, wrong };
        let result = serde_json::to_vec(&outcome).map_err(|e| Stop::Over(e.to_string()))?;
        // From here on the run can't be aborted, and a kill does not keep it from sealing the share.
        let (store, run_id) = (&self.parts.store, run.asked.run_id);
        let (open, sealed) = (KeygenState::Open, KeygenState::Sealed);
        let moved = store.move_keygen(run_id, open, sealed, Some(key_id), Some(result), None).await?;
        if !moved && !repeated {
            return Err(Stop::Over("the run has ended meanwhile".into()));
        }
        // Not of a run that was aborted in the last moment; and again after a kill, as long as the share is not sealed.
        crate::files::write_signatures(&self.parts.data_dir, &outcome.signatures)
            .map_err(|e| Stop::Again(format!("the signatures can't be written: {e}")))?;
        let bytes = share.to_bytes().map_err(|e| Stop::Over(e.to_string()))?;
        seal(party, &self.parts.vault, store, &share, &bytes, "keygen").await?;
        run.came_to(outcome);
        run.enter(Stage::Sealed);
        self.metered(run);
        self.parts.metrics.usable_share(key_id, false);
        self.parts.keys.wait(share);
        self.parts.setup.take_part(epoch_id).await?;
        record::line(self, run, &format!("key {key_id} in epoch {epoch_id}")).await;
        Ok(())
    }

    /// This party's shares of the secrets that decrypt.
    fn share<const D: usize>(&self, run: &Generation, info: &KeyInfo, finished: &Finished<D>) -> Option<ShareFile> {
        let vectors = shared_secrets(run.asked.compressed).map(|(kind, position)| {
            let words = finished.secrets.get(position)?.words().to_vec();
            ShareVector::new(kind, u8::try_from(D).ok()?, words).ok()
        });
        Some(ShareFile {
            params: info.params(),
            context_id: info.context_id(),
            key_id: info.key_id(),
            epoch_id: info.epoch_id(),
            n: u16::try_from(self.committee.n()).ok()?,
            t: u16::try_from(self.committee.t()).ok()?,
            index: self.parts.party.index,
            degree: u8::try_from(D).ok()?,
            vectors: vectors.collect::<Option<_>>()?,
        })
    }
}

/// What the public keys are made of.
struct Making {
    params: ParamsId,
    compressed: bool,
    seed: [u8; 32],
    /// Folder of the bodies.
    bodies: PathBuf,
    /// Folder of the public keys of all keys.
    public: PathBuf,
    run_id: B256,
    context: B256,
}

impl Making {
    /// Writes the bundle, which gets its name when it is whole. Returns where it is.
    fn make(&self, crs: &Crs) -> Result<(PathBuf, KeyInfo), Stop> {
        let partial = partial(&self.public, self.run_id);
        remove(&partial)?;
        let open = |component| File::open(self.bodies.join(format!("bodies-{component}"))).map(BufReader::new);
        let keys = assemble(self.params, self.compressed, &self.seed, open)?;
        fs::create_dir_all(&partial).map_err(|e| disk(&partial, &e))?;
        let info = bundle::write(&partial, &keys, crs, self.context.0)?;
        let folder = self.public.join(hex::encode(info.key_id()));
        // A folder of that name is one that a kill has interrupted later on, or this very key.
        remove(&folder)?;
        fs::rename(&partial, &folder).map_err(|e| disk(&folder, &e))?;
        Ok((folder, info))
    }
}

/// Where the public keys of a run are until they are whole.
pub(super) fn partial(public: &Path, run_id: B256) -> PathBuf {
    public.join(format!("{}.partial", hex::encode(run_id)))
}

fn remove(folder: &Path) -> Result<(), Stop> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(disk(folder, &error)),
        _ => Ok(()),
    }
}

fn disk(path: &Path, error: &io::Error) -> Stop {
    Stop::Again(format!("{}: {error}", path.display()))
}
