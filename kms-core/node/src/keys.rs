//! Key material that this party may use.

mod import;
mod load;

use std::collections::HashMap;
use std::sync::Arc;

use alloy_primitives::B256;
use kms_encoding::{ParamsId, PrssKey, SecretKeyKind, ShareFile, ShareVector};
use parking_lot::RwLock;

pub use import::{Imported, KeygenSignature, SignedDigest, import};

use crate::error::KeysError;
use crate::party::Party;
use crate::store::KeyState;

/// Start of the names of sealed share files.
const SHARE_PREFIX: &str = "share-";

/// This party's shares of one key in one epoch, verified. Zeroed on drop.
#[derive(Debug)]
pub struct KeyMaterial {
    /// The FHE key.
    pub key_id: B256,
    /// Epoch of the sharing.
    pub epoch_id: B256,
    /// Committee of the sharing.
    pub context_id: B256,
    /// Parameter set.
    pub params: ParamsId,
    share: ShareFile,
}

impl KeyMaterial {
    /// Wraps a checked share file.
    pub fn new(share: ShareFile) -> Self {
        Self {
            key_id: share.key_id.into(),
            epoch_id: share.epoch_id.into(),
            context_id: share.context_id.into(),
            params: share.params,
            share,
        }
    }

    /// The share vector of a secret key; the squashing key's is always there.
    pub fn vector(&self, kind: SecretKeyKind) -> Option<&ShareVector> {
        self.share.vectors.iter().find(|v| v.kind() == kind)
    }

    /// Keys of the PRSS sets that this party is a member of.
    pub fn prss(&self) -> &[PrssKey] {
        &self.share.prss
    }

    /// Name of the sealed object of a share.
    pub fn object_name(key_id: B256, epoch_id: B256) -> String {
        format!("{SHARE_PREFIX}{}-{}", hex::encode(key_id), hex::encode(epoch_id))
    }

    /// The whole share file.
    pub fn share(&self) -> &ShareFile {
        &self.share
    }
}

/// A key as operators see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyInfo {
    /// The FHE key.
    pub key_id: B256,
    /// Epoch of the sharing.
    pub epoch_id: B256,
    /// Committee of the sharing.
    pub context_id: B256,
    /// Name of the parameter set.
    pub params: &'static str,
    /// Whether this party can use its share.
    pub state: KeyState,
    /// What is wrong, if it can't.
    pub detail: Option<String>,
}

#[derive(Debug, Default)]
struct Inner {
    usable: HashMap<B256, Arc<KeyMaterial>>,
    known: Vec<KeyInfo>,
}

/// The keys of this party.
#[derive(Debug, Default)]
pub struct Keys {
    inner: RwLock<Inner>,
}

impl Keys {
    /// The material of a key, if this party holds a verified share of it.
    pub fn usable(&self, key_id: B256) -> Option<Arc<KeyMaterial>> {
        self.inner.read().usable.get(&key_id).cloned()
    }

    /// Epochs that this party can answer in.
    pub fn live_epochs(&self) -> Vec<B256> {
        let mut epochs: Vec<_> = self.inner.read().usable.values().map(|k| k.epoch_id).collect();
        epochs.sort_unstable();
        epochs
    }

    /// Ids of the keys with a verified share.
    pub fn usable_ids(&self) -> Vec<B256> {
        let mut ids: Vec<_> = self.inner.read().usable.keys().copied().collect();
        ids.sort_unstable();
        ids
    }

    /// All keys that this party knows, usable or not.
    pub fn known(&self) -> Vec<KeyInfo> {
        self.inner.read().known.clone()
    }

    /// Adds a verified share.
    pub fn insert(&self, material: KeyMaterial) {
        let info = KeyInfo {
            key_id: material.key_id,
            epoch_id: material.epoch_id,
            context_id: material.context_id,
            params: material.params.name(),
            state: KeyState::Usable,
            detail: None,
        };
        let mut inner = self.inner.write();
        inner.usable.insert(material.key_id, Arc::new(material));
        inner.known.push(info);
    }

    /// Remembers a key whose share can't be used.
    pub fn insert_unusable(&self, info: KeyInfo) {
        self.inner.write().known.push(info);
    }
}

/// Whether a share is this party's in this committee.
fn check_owner(share: &ShareFile, party: &Party) -> Result<(), KeysError> {
    let own = (party.context(), u32::from(party.index), party.n(), party.t());
    let found = (B256::from(share.context_id), u32::from(share.index), u32::from(share.n), u32::from(share.t));
    if own == found {
        return Ok(());
    }
    let describe =
        |(context, index, n, t): (B256, u32, u32, u32)| format!("party {index} of {n} (t = {t}) in {context}");
    Err(KeysError::Foreign { found: describe(found), own: describe(own) })
}

#[cfg(test)]
mod tests;
