//! Start-up up to the first listener: read, open, verify, and say in one table what is wrong.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use alloy_primitives::B256;
use kms_fhe::KeyInfo;

use super::{CommandError, DATABASE, open_vault};
use crate::ciphertexts::Ciphertexts;
use crate::config::{Config, Sealing};
use crate::dkg::PUBLIC;
use crate::error::KeysError;
use crate::guard::Guard;
use crate::keys::{Keys, check_files};
use crate::metrics::Metrics;
use crate::party::{Party, read_manifest};
use crate::sealed::Vault;
use crate::secrets;
use crate::startup::{Level, Table};
use crate::store::Store;

/// Everything a party is made of, verified.
#[derive(Debug)]
pub struct Booted {
    /// Who this is.
    pub party: Arc<Party>,
    /// Sealed objects.
    pub vault: Arc<Vault>,
    /// The database.
    pub store: Store,
    /// Key material.
    pub keys: Arc<Keys>,
    /// The chains.
    pub guard: Arc<Guard>,
    /// The object stores.
    pub ciphertexts: Arc<Ciphertexts>,
    /// What was found.
    pub table: Table,
}

/// Reads and verifies everything.
///
/// # Errors
/// What a party can't run without: configuration, manifest, its own keys, the database. All else is in the table.
pub async fn boot(config: &Config, metrics: Arc<Metrics>) -> Result<Booted, CommandError> {
    let mut table = Table::default();
    let manifest = Arc::new(read_manifest(&config.manifest)?);
    let Sealing::PassphraseFile { path: passphrase } = &config.sealing;
    let vault = open_vault(&config.data_dir, passphrase)?;
    table.add(Level::Warning, "sealing", "a passphrase in a file: whoever reads this disk reads the share");
    if std::fs::metadata(passphrase).is_ok_and(|m| m.permissions().mode() & 0o077 != 0) {
        table.add(Level::Warning, "passphrase", format!("{} can be read by other users", passphrase.display()));
    }
    let (signing_key, tls_root) = (secrets::load_signing_key(&vault)?, secrets::load_tls_root(&vault)?);
    let party = Arc::new(Party::new(config.index, manifest.clone(), signing_key, tls_root)?);
    let place = format!("party {} of {} (t = {}), signer {}", party.index, party.n(), party.t(), party.address());
    table.add(Level::Good, "committee", place);
    table.add(Level::Good, "committee hash", hex::encode(party.committee_hash));

    let store = Store::open(&config.data_dir.join(DATABASE)).await?;
    let keys = Arc::new(Keys::load(&party, &vault, &store, &metrics, &mut table).await?);
    if keys.known().is_empty() {
        table.add(Level::Warning, "keys", "no key material yet");
    }

    for key_id in keys.known().into_iter().map(|key| key.key_id).collect::<BTreeSet<_>>() {
        let folder = config.data_dir.join(PUBLIC).join(hex::encode(key_id));
        // Keys that a dealer made have theirs elsewhere.
        if folder.exists() {
            let checked = tokio::task::spawn_blocking(move || check_public(&folder, key_id)).await;
            let checked = checked.unwrap_or_else(|e| Err(KeysError::Bundle(e.to_string())));
            table.record(format!("public keys of {key_id}"), checked);
        }
    }

    let guard = Arc::new(Guard::new(manifest.clone(), &config.chains, metrics.clone())?);
    for own in config.chains.iter().filter(|c| manifest.chain(c.chain_id).is_none()) {
        let subject = format!("chain {}", own.chain_id);
        table.add(Level::Warning, subject, "has endpoints in the configuration but is not in the manifest");
    }
    guard.probe(&party, &mut table).await;
    for host in &manifest.chains {
        let subject = format!("active key of chain {}", host.chain_id);
        match guard.active_key(host.chain_id).await {
            Ok(None) => table.add(Level::Warning, subject, "none is registered"),
            Ok(Some(key)) if keys.usable(key.key_id).is_some() => {
                table.add(Level::Good, subject, key.key_id.to_string());
            }
            Ok(Some(key)) if keys.waits(key.key_id) => {
                table.add(Level::Warning, subject, format!("{}, once its pseudorandom keys are made", key.key_id));
            }
            Ok(Some(key)) => table.add(Level::Broken, subject, format!("no usable share of {}", key.key_id)),
            Err(problem) => table.add(Level::Broken, subject, problem),
        }
    }

    let ciphertexts = Arc::new(Ciphertexts::new(&config.object_stores, metrics)?);
    if config.object_stores.is_empty() {
        table.add(Level::Broken, "object stores", "none is configured: no ciphertext can be fetched");
    }
    if config.clients.is_empty() {
        table.add(Level::Warning, "clients", "none is configured: nobody can ask for anything");
    }
    Ok(Booted { party, vault: Arc::new(vault), store, keys, guard, ciphertexts, table })
}

/// The public keys in a folder, file by file.
fn check_public(folder: &Path, key_id: B256) -> Result<String, KeysError> {
    let info = KeyInfo::load(folder).map_err(|e| KeysError::Bundle(e.to_string()))?;
    if info.key_id() != key_id {
        return Err(KeysError::Bundle(format!("{} holds another key", folder.display())));
    }
    check_files(folder, &info)?;
    Ok(folder.display().to_string())
}
