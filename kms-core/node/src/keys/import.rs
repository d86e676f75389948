//! Taking over a share file: verify, seal, record, sign the key's registration, delete the file.
//!
//! The order makes it repeatable: whatever a kill interrupts, running the import again finishes it, and the share file
//! is deleted last.

use std::io::Read;
use std::path::{Path, PathBuf};

use alloy_primitives::{Address, B256, Bytes, U256};
use kms_chain::eip712::{KeyDigest, key_management_domain, keygen_digest, sign_digest};
use kms_chain::extra_data::ExtraData;
use kms_chain::ids::epoch_id;
use kms_encoding::ShareFile;
use kms_fhe::bundle::{self, KeyInfo as Bundle};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::{KeyMaterial, check_owner};
use crate::error::{KeysError, SealedError};
use crate::party::Party;
use crate::sealed::Vault;
use crate::store::{KeyRow, KeyState, Store};

/// Epoch counter of a dealt key.
const FIRST_EPOCH: u64 = 1;
/// Types of digests in the contract's order, and the files that they are of.
const DIGESTS: [(u8, &str); 3] = [(0, bundle::KEYSET), (1, bundle::PUBLIC_KEY), (2, bundle::CRS)];

/// What this party contributes to the registration of a key: the content of `keygen-signature.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct KeygenSignature {
    /// Format, 1.
    pub version: u32,
    /// This party's index.
    pub party: u16,
    /// Chain of the `KeyManagement` contract.
    pub chain_id: u64,
    /// Committee.
    pub context_id: B256,
    /// The FHE key.
    pub key_id: B256,
    /// Epoch of the sharing.
    pub epoch_id: B256,
    /// Id of the run that made the key; a dealt key has none: zero.
    pub prep_keygen_id: U256,
    /// Digests of the public parts, by ascending type.
    pub digests: Vec<SignedDigest>,
    /// Names context and epoch (version 2).
    pub extra_data: Bytes,
    /// Signature r ‖ s ‖ v over `KeygenVerification`.
    pub signature: Bytes,
}

/// Digest of one public part of a key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SignedDigest {
    /// 0 the whole key set, 1 compact public key, 2 CRS.
    pub key_type: u8,
    /// SHA-256.
    pub digest: B256,
}

/// What an import did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Imported {
    /// The FHE key.
    pub key_id: B256,
    /// Epoch of the sharing.
    pub epoch_id: B256,
    /// Name of the parameter set.
    pub params: &'static str,
    /// One per host chain; none without the public bundle.
    pub signatures: Vec<KeygenSignature>,
}

/// Verifies a share file and the public bundle that belongs to it, seals the share, and signs the registration of the
/// key for every host chain. The caller writes the signatures and then deletes the file.
///
/// # Errors
/// The share is another party's or malformed, the bundle does not fit it, or it can't be stored.
pub async fn import(
    party: &Party,
    vault: &Vault,
    store: &Store,
    share_file: &Path,
    public: Option<&Path>,
) -> Result<Imported, KeysError> {
    let bytes = read_share(share_file)?;
    let share = ShareFile::from_bytes(&bytes)?;
    check_owner(&share, party)?;
    let (key_id, epoch) = (B256::from(share.key_id), B256::from(share.epoch_id));
    if epoch != epoch_id(&party.context(), &key_id, FIRST_EPOCH) {
        return Err(KeysError::Foreign {
            found: format!("epoch {epoch}"),
            own: format!("in the first epoch of key {key_id}"),
        });
    }
    let signatures = match public {
        Some(folder) => sign(party, &check_bundle(folder, &share)?, U256::ZERO),
        None => Vec::new(),
    };
    seal(party, vault, store, &share, &bytes, "import").await?;
    Ok(Imported { key_id, epoch_id: epoch, params: share.params.name(), signatures })
}

/// Seals a checked share and records it; repeated it changes nothing. `bytes` are the share's.
pub(crate) async fn seal(
    party: &Party,
    vault: &Vault,
    store: &Store,
    share: &ShareFile,
    bytes: &[u8],
    how: &'static str,
) -> Result<(), KeysError> {
    let (key_id, epoch) = (B256::from(share.key_id), B256::from(share.epoch_id));
    let object = KeyMaterial::object_name(key_id, epoch);
    if vault.contains(&object) {
        // It was interrupted, or is repeated.
        if vault.get(&object)?[..] != *bytes {
            return Err(SealedError::Exists(object).into());
        }
    } else {
        vault.put(&object, bytes)?;
    }
    store
        .put_key(KeyRow {
            key_id,
            epoch_id: epoch,
            context_id: party.context(),
            params: share.params.to_u8(),
            object: object.clone(),
            share_digest: B256::from_slice(&Sha256::digest(bytes)),
            state: KeyState::Usable,
            detail: None,
        })
        .await?;
    Ok(store.journal(how, object, format!("share of key {key_id} in epoch {epoch}")).await?)
}

fn read_share(path: &Path) -> Result<Zeroizing<Vec<u8>>, KeysError> {
    let io = |source| KeysError::Io { path: path.to_owned(), source };
    let file = std::fs::File::open(path).map_err(io)?;
    let limit = kms_encoding::share::MAX_BYTES;
    // Whole from the start: a buffer that grows leaves copies behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(limit + 1));
    file.take(limit as u64 + 1).read_to_end(&mut bytes).map_err(io)?;
    Ok(bytes)
}

/// The description of a bundle whose files are really what it says and which belongs to the share.
pub(crate) fn check_bundle(folder: &Path, share: &ShareFile) -> Result<Bundle, KeysError> {
    let info = Bundle::load(folder).map_err(|e| KeysError::Bundle(e.to_string()))?;
    let named = (info.key_id(), info.epoch_id(), info.context_id(), info.params());
    if named != (share.key_id, share.epoch_id, share.context_id, share.params) {
        return Err(KeysError::Bundle("it is of another key, epoch, committee or parameter set than the share".into()));
    }
    check_files(folder, &info)?;
    Ok(info)
}

/// Checks that the files of a bundle are what its description says.
///
/// # Errors
/// A file is missing or another one; it is named.
pub fn check_files(folder: &Path, info: &Bundle) -> Result<(), KeysError> {
    for (name, file) in info.files() {
        let path = folder.join(name);
        let (found, bytes) = hash_file(&path, file.bytes)?;
        if found != file.sha256 || bytes != file.bytes {
            return Err(KeysError::Bundle(format!("{} is not the file that {} lists", path.display(), bundle::INFO)));
        }
    }
    Ok(())
}

/// SHA-256 and size, of one byte more than expected at most.
fn hash_file(path: &Path, expected: u64) -> Result<([u8; 32], u64), KeysError> {
    let io = |source| KeysError::Io { path: PathBuf::from(path), source };
    let mut file = std::fs::File::open(path).map_err(io)?.take(expected.saturating_add(1));
    let mut hash = Sha256::new();
    let bytes = std::io::copy(&mut file, &mut hash).map_err(io)?;
    Ok((hash.finalize().into(), bytes))
}

/// This party's signatures for the registration of a key, one per host chain.
pub(crate) fn sign(party: &Party, info: &Bundle, prep_keygen_id: U256) -> Vec<KeygenSignature> {
    let (context_id, key_id, epoch_id) = (party.context(), B256::from(info.key_id()), B256::from(info.epoch_id()));
    let digests: Vec<_> = DIGESTS
        .iter()
        .filter_map(|&(key_type, file)| Some(SignedDigest { key_type, digest: info.sha256(file)?.into() }))
        .collect();
    let statement: Vec<_> = digests
        .iter()
        .map(|d| KeyDigest { keyType: d.key_type, digest: Bytes::copy_from_slice(&d.digest[..]) })
        .collect();
    let extra_data = ExtraData::V2 { context: context_id, epoch: epoch_id }.encode();
    let for_chain = |(chain_id, contract): (u64, Address)| {
        let domain = key_management_domain(chain_id, contract);
        let digest = keygen_digest(&domain, prep_keygen_id, key_id, &statement, &extra_data);
        KeygenSignature {
            version: 1,
            party: party.index,
            chain_id,
            context_id,
            key_id,
            epoch_id,
            prep_keygen_id,
            digests: digests.clone(),
            extra_data: extra_data.clone(),
            signature: Bytes::copy_from_slice(&sign_digest(&party.signing_key, digest)),
        }
    };
    party.manifest.chains.iter().map(|c| (c.chain_id, c.contracts.key_management)).map(for_chain).collect()
}
