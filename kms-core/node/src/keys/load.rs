//! Loading and verifying the sealed shares at start-up.

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use alloy_primitives::B256;
use kms_encoding::{PrssKeys, ShareFile};
use sha2::{Digest, Sha256};

use super::{Condition, KeyInfo, KeyMaterial, Keys, SHARE_PREFIX, check_owner};
use crate::error::{KeysError, SealedError};
use crate::metrics::Metrics;
use crate::party::Party;
use crate::sealed::Vault;
use crate::setup;
use crate::startup::{Level, Table};
use crate::store::{KeyRow, KeyState, Store};

impl Keys {
    /// Opens and verifies every share that is sealed or recorded. A bad one is quarantined and named, the others are
    /// used. A share that is sealed but not recorded is what a kill in the middle of an import leaves: it is taken.
    ///
    /// # Errors
    /// The database or the sealed folder as a whole can't be read.
    pub async fn load(
        party: &Party,
        vault: &Vault,
        store: &Store,
        metrics: &Metrics,
        table: &mut Table,
    ) -> Result<Self, KeysError> {
        let rows = store.keys().await?;
        let recorded = rows.iter().map(|row| row.object.clone());
        let sealed = vault.names()?.into_iter().filter(|name| name.starts_with(SHARE_PREFIX));
        let objects: BTreeSet<String> = recorded.chain(sealed).collect();

        let keys = Self::default();
        let mut epochs: HashMap<B256, Option<Prss>> = HashMap::new();
        for object in objects {
            let row = rows.iter().find(|row| row.object == object);
            if row.is_some_and(|row| row.state == KeyState::Destroyed) {
                continue;
            }
            let (share, digest) = match verify(&object, row, party, vault) {
                Ok(verified) => verified,
                Err(problem) => {
                    metrics.sealed_failure();
                    keys.quarantine(&object, row, &problem, store, metrics, table).await?;
                    continue;
                }
            };
            let (key_id, epoch_id) = (B256::from(share.key_id), B256::from(share.epoch_id));
            store.put_key(recovered(row, &share, object, digest)).await?;
            if let Entry::Vacant(epoch) = epochs.entry(epoch_id) {
                epoch.insert(prss_of(party, vault, epoch_id, store, metrics, table).await?);
            }
            let subject = format!("key {key_id}");
            match epochs.get(&epoch_id).cloned().flatten() {
                Some(Prss::Agreed(prss)) => {
                    let detail = format!("usable in epoch {epoch_id}, {}", share.params.name());
                    table.add(Level::Good, subject, detail);
                    metrics.usable_share(key_id, true);
                    keys.insert(KeyMaterial::new(share, prss));
                }
                Some(Prss::Broken(problem)) => {
                    metrics.usable_share(key_id, false);
                    keys.insert_unusable(unusable(&share, problem));
                }
                None => {
                    let detail = format!("epoch {epoch_id} has no pseudorandom keys yet: the parties make them");
                    table.add(Level::Warning, subject, detail);
                    metrics.usable_share(key_id, false);
                    keys.wait(share);
                }
            }
        }
        Ok(keys)
    }

    async fn quarantine(
        &self,
        object: &str,
        row: Option<&KeyRow>,
        problem: &KeysError,
        store: &Store,
        metrics: &Metrics,
        table: &mut Table,
    ) -> Result<(), KeysError> {
        let problem = problem.to_string();
        table.add(Level::Broken, format!("object {object}"), format!("quarantined: {problem}"));
        store.journal("quarantine", object, problem.clone()).await?;
        // An object that was never recorded has no key to speak of.
        let Some(row) = row else { return Ok(()) };
        metrics.usable_share(row.key_id, false);
        let row = KeyRow { state: KeyState::Quarantined, detail: Some(problem), ..row.clone() };
        self.insert_unusable(KeyInfo {
            key_id: row.key_id,
            epoch_id: row.epoch_id,
            context_id: row.context_id,
            params: kms_encoding::ParamsId::from_u8(row.params).map_or("unknown", |p| p.name()),
            state: Condition::Quarantined,
            detail: row.detail.clone(),
        });
        Ok(store.put_key(row).await?)
    }
}

/// The pseudorandom keys of an epoch, if the committee has agreed on some.
#[derive(Clone)]
enum Prss {
    Agreed(Arc<PrssKeys>),
    /// They are sealed, but can't be used.
    Broken(String),
}

async fn prss_of(
    party: &Party,
    vault: &Vault,
    epoch: B256,
    store: &Store,
    metrics: &Metrics,
    table: &mut Table,
) -> Result<Option<Prss>, KeysError> {
    let problem = match setup::load_agreed(party, vault, epoch) {
        Ok(keys) => return Ok(keys.map(|keys| Prss::Agreed(Arc::new(keys)))),
        Err(problem) => problem.to_string(),
    };
    let object = setup::object_name(epoch);
    metrics.sealed_failure();
    table.add(Level::Broken, format!("object {object}"), format!("quarantined: {problem}"));
    store.journal("quarantine", object, problem.clone()).await?;
    Ok(Some(Prss::Broken(problem)))
}

fn unusable(share: &ShareFile, problem: String) -> KeyInfo {
    KeyInfo { detail: Some(problem), ..super::info(share, Condition::Quarantined) }
}

fn verify(object: &str, row: Option<&KeyRow>, party: &Party, vault: &Vault) -> Result<(ShareFile, B256), KeysError> {
    let bytes = vault.get(object)?;
    let digest = B256::from_slice(&Sha256::digest(&bytes[..]));
    if let Some(row) = row
        && row.share_digest != digest
    {
        return Err(KeysError::Digest { object: object.into(), found: digest, expected: row.share_digest });
    }
    let share = ShareFile::from_bytes(&bytes)?;
    check_owner(&share, party)?;
    if KeyMaterial::object_name(share.key_id.into(), share.epoch_id.into()) != object {
        return Err(SealedError::Tampered(object.into()).into());
    }
    Ok((share, digest))
}

fn recovered(row: Option<&KeyRow>, share: &ShareFile, object: String, share_digest: B256) -> KeyRow {
    match row {
        Some(row) => KeyRow { state: KeyState::Usable, detail: None, ..row.clone() },
        None => KeyRow {
            key_id: share.key_id.into(),
            epoch_id: share.epoch_id.into(),
            context_id: share.context_id.into(),
            params: share.params.to_u8(),
            object,
            share_digest,
            state: KeyState::Usable,
            detail: None,
        },
    }
}
