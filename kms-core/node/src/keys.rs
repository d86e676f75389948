//! Key material that this party may use.

mod import;
mod load;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use alloy_primitives::B256;
use kms_encoding::{ParamsId, PrssKey, PrssKeys, SecretKeyKind, ShareFile, ShareVector};
use parking_lot::RwLock;

pub use import::{Imported, KeygenSignature, SignedDigest, check_files, import};
pub(crate) use import::{check_bundle, seal, sign};

use crate::error::KeysError;
use crate::party::Party;

/// Start of the names of sealed share files.
const SHARE_PREFIX: &str = "share-";

/// This party's shares of one key in one epoch and the pseudorandom keys of the epoch, verified. Zeroed on drop.
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
    prss: Arc<PrssKeys>,
}

impl KeyMaterial {
    /// Wraps a checked share file and the pseudorandom keys of its epoch.
    pub fn new(share: ShareFile, prss: Arc<PrssKeys>) -> Self {
        Self {
            key_id: share.key_id.into(),
            epoch_id: share.epoch_id.into(),
            context_id: share.context_id.into(),
            params: share.params,
            share,
            prss,
        }
    }

    /// The share vector of a secret key; the squashing key's is always there.
    pub fn vector(&self, kind: SecretKeyKind) -> Option<&ShareVector> {
        self.share.vectors.iter().find(|v| v.kind() == kind)
    }

    /// Keys of the PRSS sets that this party is a member of.
    pub fn prss(&self) -> &[PrssKey] {
        &self.prss.keys
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

/// What a party can do with its share of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// Decrypt.
    Usable,
    /// Nothing yet: the parties have not made the pseudorandom keys of the epoch.
    Waiting,
    /// Nothing: the object is missing or damaged.
    Quarantined,
}

impl Condition {
    /// Name for clients and people.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Usable => "usable",
            Self::Waiting => "waiting",
            Self::Quarantined => "quarantined",
        }
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
    pub state: Condition,
    /// What is wrong, if it can't.
    pub detail: Option<String>,
}

#[derive(Debug, Default)]
struct Inner {
    usable: HashMap<B256, Arc<KeyMaterial>>,
    /// Shares of epochs that have no pseudorandom keys yet.
    waiting: Vec<ShareFile>,
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

    /// Adds a verified share that can be used.
    pub fn insert(&self, material: KeyMaterial) {
        let info = info(material.share(), Condition::Usable);
        let mut inner = self.inner.write();
        inner.known.retain(|known| (known.key_id, known.epoch_id) != (info.key_id, info.epoch_id));
        inner.known.push(info);
        inner.usable.insert(material.key_id, Arc::new(material));
    }

    /// Adds a verified share of an epoch that has no pseudorandom keys yet, unless it is there already.
    pub fn wait(&self, share: ShareFile) {
        let info = info(&share, Condition::Waiting);
        let mut inner = self.inner.write();
        if inner.known.iter().any(|known| (known.key_id, known.epoch_id) == (info.key_id, info.epoch_id)) {
            return;
        }
        inner.known.push(info);
        inner.waiting.push(share);
    }

    /// Whether this party's share of a key can't be used only for want of pseudorandom keys.
    pub fn waits(&self, key_id: B256) -> bool {
        self.inner.read().waiting.iter().any(|share| share.key_id == key_id)
    }

    /// Epochs with shares that can't be used for want of pseudorandom keys, ascending.
    pub fn waiting(&self) -> Vec<B256> {
        let inner = self.inner.read();
        let epochs: BTreeSet<B256> = inner.waiting.iter().map(|share| share.epoch_id.into()).collect();
        epochs.into_iter().collect()
    }

    /// The pseudorandom keys of all epochs that have some.
    pub fn prss(&self) -> Vec<Arc<PrssKeys>> {
        let inner = self.inner.read();
        let all = inner.usable.values().map(|key| (key.epoch_id, key.prss.clone()));
        all.collect::<BTreeMap<_, _>>().into_values().collect()
    }

    /// The pseudorandom keys of an epoch are there: its shares can be used from now on. Returns whose.
    pub fn complete(&self, prss: &Arc<PrssKeys>) -> Vec<B256> {
        let shares: Vec<_> = self.inner.write().waiting.extract_if(.., |s| s.epoch_id == prss.run.epoch_id).collect();
        let keys = shares.iter().map(|share| share.key_id.into()).collect();
        for share in shares {
            self.insert(KeyMaterial::new(share, prss.clone()));
        }
        keys
    }

    /// Remembers a key whose share can't be used.
    pub fn insert_unusable(&self, info: KeyInfo) {
        self.inner.write().known.push(info);
    }
}

fn info(share: &ShareFile, state: Condition) -> KeyInfo {
    KeyInfo {
        key_id: share.key_id.into(),
        epoch_id: share.epoch_id.into(),
        context_id: share.context_id.into(),
        params: share.params.name(),
        state,
        detail: None,
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
