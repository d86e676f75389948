//! `kms-node import`: key material that a dealer made (later: a key generation) becomes this party's.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use k256::ecdsa::SigningKey;
use kms_chain::eip712::signer_address;
use kms_chain::manifest::Manifest;

use super::{CommandError, DATABASE, PASSPHRASE, open_vault};
use crate::error::ConfigError;
use crate::keys::{self, Imported};
use crate::party::{Party, read_manifest};
use crate::secrets;
use crate::store::Store;

/// Arguments of `kms-node import`.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Data folder of the party.
    #[arg(long)]
    pub dir: PathBuf,
    /// The cluster manifest.
    #[arg(long)]
    pub manifest: PathBuf,
    /// The share file; deleted at the end.
    #[arg(long)]
    pub share: PathBuf,
    /// Folder with the public keys; without it the key's registration is not signed.
    #[arg(long)]
    pub public: Option<PathBuf>,
    /// File with the passphrase; without it the one in the data folder.
    #[arg(long)]
    pub seal: Option<PathBuf>,
}

/// Verifies and seals the share, writes `keygen-signature.json` (for the manifest's first chain;
/// `keygen-signature-<chain id>.json` for the others) and deletes the share file.
///
/// # Errors
/// The share is not this party's, does not fit the public keys, or something can't be written. The share file stays.
pub async fn run(args: &Args) -> Result<Imported, CommandError> {
    let passphrase = args.seal.clone().unwrap_or_else(|| args.dir.join(PASSPHRASE));
    let vault = open_vault(&args.dir, &passphrase)?;
    let manifest = Arc::new(read_manifest(&args.manifest)?);
    let signing_key = secrets::load_signing_key(&vault)?;
    let index = own_index(&manifest, &signing_key)?;
    let party = Party::new(index, manifest, signing_key, secrets::load_tls_root(&vault)?)?;
    let store = Store::open(&args.dir.join(DATABASE)).await?;

    let imported = keys::import(&party, &vault, &store, &args.share, args.public.as_deref()).await?;
    crate::files::write_signatures(&args.dir, &imported.signatures)
        .map_err(|source| CommandError::Io { path: args.dir.clone(), source })?;
    remove(&args.share)?;
    Ok(imported)
}

/// The place in the committee that this party's signer has.
fn own_index(manifest: &Manifest, key: &SigningKey) -> Result<u16, ConfigError> {
    let own = signer_address(key);
    manifest.committee.parties.iter().find(|p| p.signer == own).and_then(|p| u16::try_from(p.index).ok()).ok_or_else(
        || ConfigError::Value { key: "manifest".into(), problem: format!("no party of it signs with {own}") },
    )
}

fn remove(path: &Path) -> Result<(), CommandError> {
    std::fs::remove_file(path).map_err(|source| CommandError::Io { path: path.to_owned(), source })
}
