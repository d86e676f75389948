//! The folder with the public keys: `key.json` and the files that it names.
//!
//! The key id is a hash over the digests of the files, so a bundle can come from anywhere: whoever knows the key id (from
//! the chain) can check all of it. Digests are checked before anything is parsed.

mod files;
mod info;

use std::collections::BTreeMap;
use std::path::Path;

use kms_encoding::ParamsId;
use sha2::{Digest, Sha256};
use tfhe::CompactPublicKey;
use tfhe::zk::CompactPkeCrs;

pub(crate) use files::{read_file, write_file};
pub use info::{FileInfo, KeyInfo};

use crate::crs::Crs;
use crate::keyset::{self, PublicKeySet};
use crate::params::numbers;
use crate::{BundleError, EvalKeys, crs, serial};

/// Description of the bundle.
pub const INFO: &str = "key.json";
/// Compact public key: users encrypt with it. A copy of what is in the key set, for those who need nothing else of it.
pub const PUBLIC_KEY: &str = "public_key.bin";
/// All public keys, as tfhe-rs's `CompressedXofKeySet`.
pub const KEYSET: &str = "keyset.bin";
/// Common reference string of the input proofs.
pub const CRS: &str = "crs.bin";

/// The files besides the description, in the order of the bundle's digest.
const FILES: [&str; 3] = [PUBLIC_KEY, KEYSET, CRS];

/// No file of that name is larger. Production has 33 KB, 301 MB (with compression 481 MB) and 4.6 MB.
fn limit(file: &str) -> usize {
    match file {
        PUBLIC_KEY => 1 << 20,
        KEYSET => keyset::MAX_BYTES,
        _ => crs::MAX_BYTES,
    }
}

/// Writes the bundle of a new key; `key.json` last, so that a folder with one is complete. Nothing is kept in memory but
/// what was there. Equal input gives equal files.
///
/// # Errors
/// A file can't be written, or the CRS is for other parameters.
pub fn write(folder: &Path, keys: &PublicKeySet, crs: &Crs, context_id: [u8; 32]) -> Result<KeyInfo, BundleError> {
    if crs.params() != keys.params() {
        return Err(BundleError::Crs("it is made for another parameter set".to_owned()));
    }
    let public_key = public_key_bytes(keys)?;
    let files = BTreeMap::from([
        (KEYSET.to_owned(), files::write_file_with(&folder.join(KEYSET), |writer| keys.write(writer))?),
        (PUBLIC_KEY.to_owned(), write_file(&folder.join(PUBLIC_KEY), &public_key)?),
        (CRS.to_owned(), write_file(&folder.join(CRS), crs.bytes())?),
    ]);
    let info = KeyInfo::new(keys.params(), context_id, files);
    let json = serde_json::to_vec_pretty(&info).map_err(|e| BundleError::Info(e.to_string()))?;
    write_file(&folder.join(INFO), &json)?;
    Ok(info)
}

fn public_key_bytes(keys: &PublicKeySet) -> Result<Vec<u8>, BundleError> {
    serial::write(&keys.public_key(), limit(PUBLIC_KEY))
        .map_err(|source| BundleError::Format { file: PUBLIC_KEY, source })
}

/// What a user needs to encrypt, and a coprocessor to verify: compact public key and CRS.
#[derive(Clone)]
pub struct PublicKeys {
    info: KeyInfo,
    public_key: CompactPublicKey,
    crs: std::sync::Arc<CompactPkeCrs>,
}

impl PublicKeys {
    /// Loads them from a bundle.
    ///
    /// # Errors
    /// See [`BundleError`].
    pub fn load(folder: &Path) -> Result<Self, BundleError> {
        let info = KeyInfo::load(folder)?;
        let params = info.params();
        let bytes = info.read(folder, PUBLIC_KEY)?;
        let public_key = serial::read_conformant(&bytes, limit(PUBLIC_KEY), &numbers(params).pke)
            .map_err(|source| BundleError::Format { file: PUBLIC_KEY, source })?;
        let crs =
            crs::read(&info.read(folder, CRS)?, params).map_err(|source| BundleError::Format { file: CRS, source })?;
        Ok(Self { info, public_key, crs: crs.into() })
    }

    /// Description of the bundle.
    #[must_use]
    pub const fn info(&self) -> &KeyInfo {
        &self.info
    }

    /// Parameter set.
    #[must_use]
    pub fn params(&self) -> ParamsId {
        self.info.params()
    }

    pub(crate) const fn public_key(&self) -> &CompactPublicKey {
        &self.public_key
    }

    pub(crate) fn crs(&self) -> &CompactPkeCrs {
        &self.crs
    }
}

impl std::fmt::Debug for PublicKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PublicKeys").field("info", &self.info).finish_non_exhaustive()
    }
}

impl EvalKeys {
    /// Loads the keys to compute, cast and squash with from a bundle. Takes seconds with production parameters, about 1 GB to
    /// keep, and on the way 2 GB.
    ///
    /// # Errors
    /// See [`BundleError`].
    pub fn load(folder: &Path) -> Result<Self, BundleError> {
        Self::load_parts(folder, false)
    }

    /// [`Self::load`], and the key to make compressed squashed lists with if the bundle has it: about 1 GB more.
    ///
    /// # Errors
    /// See [`BundleError`].
    pub fn load_with_lists(folder: &Path) -> Result<Self, BundleError> {
        Self::load_parts(folder, true)
    }

    fn load_parts(folder: &Path, with_lists: bool) -> Result<Self, BundleError> {
        let info = KeyInfo::load(folder)?;
        let params = info.params();
        let keys =
            files::parse_file(&folder.join(KEYSET), KEYSET, limit(KEYSET), info.file(KEYSET)?, |reader, size| {
                PublicKeySet::read(params, reader, size)
            })?;
        // What users encrypt with must be what can be computed on.
        if Sha256::digest(public_key_bytes(&keys)?)[..] != info.file(PUBLIC_KEY)?.sha256 {
            return Err(BundleError::OtherPublicKey);
        }
        Self::new(params, keys.server_key(with_lists))
    }
}
