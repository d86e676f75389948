//! Loading and verifying the sealed shares at start-up.

use std::collections::BTreeSet;

use alloy_primitives::B256;
use kms_encoding::ShareFile;
use sha2::{Digest, Sha256};

use super::{KeyInfo, KeyMaterial, Keys, SHARE_PREFIX, check_owner};
use crate::error::{KeysError, SealedError};
use crate::metrics::Metrics;
use crate::party::Party;
use crate::sealed::Vault;
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
        for object in objects {
            let row = rows.iter().find(|row| row.object == object);
            if row.is_some_and(|row| row.state == KeyState::Destroyed) {
                continue;
            }
            match verify(&object, row, party, vault) {
                Ok((material, digest)) => {
                    let detail = format!("usable in epoch {}, {}", material.epoch_id, material.params.name());
                    table.add(Level::Good, format!("key {}", material.key_id), detail);
                    metrics.usable_share(material.key_id, true);
                    store.put_key(recovered(row, &material, object, digest)).await?;
                    keys.insert(material);
                }
                Err(problem) => {
                    metrics.sealed_failure();
                    keys.quarantine(&object, row, &problem, store, metrics, table).await?;
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
            state: row.state,
            detail: row.detail.clone(),
        });
        Ok(store.put_key(row).await?)
    }
}

fn verify(object: &str, row: Option<&KeyRow>, party: &Party, vault: &Vault) -> Result<(KeyMaterial, B256), KeysError> {
    let bytes = vault.get(object)?;
    let digest = B256::from_slice(&Sha256::digest(&bytes[..]));
    if let Some(row) = row
        && row.share_digest != digest
    {
        return Err(KeysError::Digest { object: object.into(), found: digest, expected: row.share_digest });
    }
    let share = ShareFile::from_bytes(&bytes)?;
    check_owner(&share, party)?;
    let material = KeyMaterial::new(share);
    if KeyMaterial::object_name(material.key_id, material.epoch_id) != object {
        return Err(SealedError::Tampered(object.into()).into());
    }
    Ok((material, digest))
}

fn recovered(row: Option<&KeyRow>, material: &KeyMaterial, object: String, share_digest: B256) -> KeyRow {
    match row {
        Some(row) => KeyRow { state: KeyState::Usable, detail: None, ..row.clone() },
        None => KeyRow {
            key_id: material.key_id,
            epoch_id: material.epoch_id,
            context_id: material.context_id,
            params: material.params.to_u8(),
            object,
            share_digest,
            state: KeyState::Usable,
            detail: None,
        },
    }
}
