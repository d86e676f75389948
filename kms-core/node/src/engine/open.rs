//! From a grant to the items of a job: keys, ciphertexts, sessions.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;

use alloy_primitives::B256;
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use kms_chain::handle::Handle;
use kms_encoding::{SecretKeyKind, ShareVector};
use kms_mpc::{DecryptError, Epoch, Item, JobId, OwnShare, SessionId};
use kms_proto::node::{self, RefusedReason, decrypt_response::Outcome};

use super::record::{self, Granted};
use super::weight::{Purpose, Weight, bytes_of};
use super::{EngineError, Inner, refused};
use crate::error::CiphertextError;
use crate::guard::HandleGrant;
use crate::keys::KeyMaterial;
use crate::pool::compute;
use crate::store::RequestRow;

/// Version of everything between a ciphertext object and its blocks; part of the session, so that another reading of the
/// same bytes gets other masks.
const DECODER_VERSION: u8 = 1;
/// Ciphertexts of one request that are fetched at the same time.
const FETCHES: usize = 8;

/// The ciphertexts of a job: each once, however often the request names its handle, in the order of first appearance.
pub(super) struct Work {
    pub(super) material: Arc<KeyMaterial>,
    pub(super) epoch: Epoch,
    items: Vec<Item>,
    _weight: Weight,
}

impl Work {
    pub(super) fn job(&self) -> JobId {
        kms_mpc::decrypt::job_id(&self.items)
    }

    /// This party's share; the ciphertexts and their weight are gone then. Heavy: never on the async runtime.
    fn share(self) -> Result<OwnShare, DecryptError> {
        self.epoch.partial_decrypt(&self.material.share().vectors, &self.items)
    }
}

/// For each entry of a list the position of its value among the distinct ones, which stand in the order of their first
/// appearance.
pub(super) fn places<T: Copy + Eq + Hash>(list: impl IntoIterator<Item = T>) -> Vec<usize> {
    let mut seen = HashMap::new();
    let place = |entry| {
        let next = seen.len();
        *seen.entry(entry).or_insert(next)
    };
    list.into_iter().map(place).collect()
}

/// Why this party has no share for a list of handles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoShare {
    /// The handles are under different keys, which have no opening in common.
    Mixed(B256, B256),
    /// This party holds no share of the key.
    NotHeld(B256),
    /// This party holds the key in that epoch only.
    OtherEpoch(B256),
}

impl NoShare {
    pub(super) fn outcome(self) -> Outcome {
        let key = |detail: String| Outcome::Refused(refused(RefusedReason::Key, detail));
        match self {
            Self::Mixed(a, b) => key(format!("the handles are under two keys, {a} and {b}")),
            Self::NotHeld(id) => key(format!("this party holds no usable share of key {id}")),
            Self::OtherEpoch(epoch) => Outcome::EpochNotLive(node::EpochNotLive { live: vec![epoch.to_vec()] }),
        }
    }
}

/// Format of the object that blocks under this key come from.
const fn format(key: SecretKeyKind) -> u8 {
    match key {
        SecretKeyKind::Squashing => kms_fhe::object::ObjectFormat::Integer as u8,
        SecretKeyKind::SquashedCompression => kms_fhe::object::ObjectFormat::List as u8,
    }
}

impl Inner {
    /// The one key of all handles, if this party holds it in the named epoch.
    pub(super) fn material(
        &self,
        keys: impl IntoIterator<Item = B256>,
        epoch: B256,
    ) -> Result<Arc<KeyMaterial>, NoShare> {
        let mut keys = keys.into_iter();
        // Granted lists are not empty; no key has the id zero.
        let first = keys.next().unwrap_or_default();
        if let Some(other) = keys.find(|key| *key != first) {
            return Err(NoShare::Mixed(first, other));
        }
        let own = |material: &Arc<KeyMaterial>| material.context_id == self.parts.party.context();
        let material = self.parts.keys.usable(first).filter(own).ok_or(NoShare::NotHeld(first))?;
        if material.epoch_id != epoch {
            return Err(NoShare::OtherEpoch(material.epoch_id));
        }
        Ok(material)
    }

    /// Key schedules of the epoch of a key; made once.
    fn epoch(&self, material: &KeyMaterial) -> Result<Epoch, EngineError> {
        let mut epochs = self.epochs.lock();
        if let Some(epoch) = epochs.get(&(material.key_id, material.epoch_id)) {
            return Ok(epoch.clone());
        }
        let epoch = Epoch::new(self.committee, self.own, material.prss())?;
        epochs.insert((material.key_id, material.epoch_id), epoch.clone());
        Ok(epoch)
    }

    /// Waits for room and fetches all ciphertexts, each once. The inner result is about them, the outer about this party.
    #[tracing::instrument(name = "ciphertexts", skip_all, fields(handles = grants.len()))]
    pub(super) async fn work(
        &self,
        material: Arc<KeyMaterial>,
        grants: &[HandleGrant],
        purpose: Purpose,
    ) -> Result<Result<Work, CiphertextError>, EngineError> {
        let epoch = self.epoch(&material)?;
        let mut distinct = Vec::new();
        for (place, grant) in places(grants.iter().map(|g| (g.digest, g.handle.raw()))).into_iter().zip(grants) {
            if place == distinct.len() {
                distinct.push(grant.clone());
            }
        }
        // Before the objects are there nobody knows which of the keys they are under: the larger one counts.
        let dimension = material.share().vectors.iter().map(ShareVector::len).max().unwrap_or_default();
        let bytes = distinct.iter().map(|grant| bytes_of(grant.handle.fhe_type(), dimension)).sum();
        let Some(weight) = self.scales.take(purpose, bytes).await else { return Err(EngineError::Stopped) };
        let items = futures::stream::iter(distinct)
            .map(|grant| self.item(material.clone(), grant))
            .buffered(FETCHES)
            .try_collect::<Vec<_>>()
            .await;
        Ok(items.map(|items| Work { material, epoch, items, _weight: weight }))
    }

    /// This party's share of the ciphertexts, which are dropped. That of a job which runs or has ended lately is used
    /// again.
    #[tracing::instrument(name = "own share", skip_all)]
    pub(super) async fn share(&self, work: Work) -> Result<OwnShare, DecryptError> {
        let job = work.job();
        let running = self.jobs.lock().get(&job).map(|running| running.own().clone());
        if let Some(own) = running.or_else(|| self.shares.lock().get(&job).cloned()) {
            return Ok(own);
        }
        compute(move || work.share()).await
    }

    async fn item(&self, material: Arc<KeyMaterial>, grant: HandleGrant) -> Result<Item, CiphertextError> {
        let blocks = self.parts.objects.fetch(&grant, material.params).await?;
        let session = SessionId::decryption(
            &material.context_id,
            &material.epoch_id,
            &material.key_id,
            format(blocks.key()),
            DECODER_VERSION,
            &grant.digest,
        );
        Ok(Item { session, ty: grant.handle.fhe_type(), blocks })
    }

    /// What a recorded request works on, without asking the chain again: its share has left this party already.
    pub(super) async fn recorded_work(&self, row: &RequestRow) -> Result<Option<Work>, EngineError> {
        let granted = granted(row)?;
        let grants = granted
            .iter()
            .map(|g| {
                let handle = Handle::parse(g.handle).map_err(|_| EngineError::Stored(row.id))?;
                Ok(HandleGrant { handle, key_id: g.key_id, digest: g.digest })
            })
            .collect::<Result<Vec<_>, EngineError>>()?;
        let Ok(material) = self.material(granted.iter().map(|g| g.key_id), row.epoch_id) else { return Ok(None) };
        match self.work(material, &grants, Purpose::Other).await? {
            Ok(work) => Ok(Some(work)),
            Err(error) => {
                tracing::warn!(request = %row.id, %error, "a recorded ciphertext can't be fetched again");
                Ok(None)
            }
        }
    }

    /// This party's message of a job that it has taken part in, recomputed if need be.
    pub(super) async fn message(self: &Arc<Self>, peer: u16, job: JobId) -> Result<Option<Bytes>, EngineError> {
        let kept = || {
            let running = self.jobs.lock().get(&job).map(|running| running.own().message().clone());
            running.or_else(|| self.shares.lock().get(&job).map(|own| own.message().clone()))
        };
        if let Some(message) = kept() {
            return Ok(Some(message));
        }
        // Not whether the request was answered counts, but whether the share has left already: others may still need it.
        let Some(row) = self.parts.store.shared_in_job(job.as_bytes().into()).await? else { return Ok(None) };
        let mut turn = self.turns.of(peer).await;
        let place = self.turns.place().await;
        // Whoever waited may find the share that another peer has asked for.
        if let Some(message) = kept() {
            return Ok(Some(message));
        }
        let Some(work) = self.recorded_work(&row).await? else { return Ok(None) };
        if work.job() != job {
            return Ok(None);
        }
        turn.spend();
        let inner = self.clone();
        // A task of its own: a peer that drops its stream and comes again must not start a second computation.
        let computing = self.tasks.spawn(async move {
            let own = compute(move || work.share()).await;
            let own = own.inspect_err(|error| tracing::warn!(%job, %error, "no share to send again")).ok();
            if let Some(own) = &own {
                inner.shares.lock().put(job, own.clone());
            }
            drop((place, turn));
            own.map(|own| own.message().clone())
        });
        // Otherwise the computation has panicked, and the panic hook has said so.
        Ok(computing.await.ok().flatten())
    }
}

/// The handles that a recorded request was granted, in request order.
pub(super) fn granted(row: &RequestRow) -> Result<Vec<Granted>, EngineError> {
    let task = record::read_task(&row.payload)?;
    let granted = task.granted.iter().map(|bytes| Granted::from_bytes(bytes));
    granted.collect::<Option<_>>().ok_or(EngineError::Stored(row.id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_follow_the_first_appearance() {
        assert_eq!(places([7, 9, 7, 8, 9]), [0, 1, 0, 2, 1]);
        assert_eq!(places([0u8; 0]), [0usize; 0]);
    }
}
