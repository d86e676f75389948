//! `key.json`.

use std::collections::BTreeMap;
use std::path::Path;

use kms_encoding::{ParamsId, ids};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{FILES, INFO, limit, read_file};
use crate::BundleError;

const VERSION: u32 = 2;
const MAX_BYTES: usize = 16 << 10;

/// Contents of `key.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct KeyInfo {
    version: u32,
    #[serde(with = "hex32")]
    key_id: [u8; 32],
    params: String,
    #[serde(with = "hex32")]
    epoch_id: [u8; 32],
    #[serde(with = "hex32")]
    context_id: [u8; 32],
    files: BTreeMap<String, FileInfo>,
}

/// Digest and size of one file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileInfo {
    /// SHA-256.
    #[serde(with = "hex32")]
    pub sha256: [u8; 32],
    /// Size.
    pub bytes: u64,
}

impl KeyInfo {
    /// Describes the files of a new key, which belongs to the first epoch of a committee.
    pub(super) fn new(params: ParamsId, context_id: [u8; 32], files: BTreeMap<String, FileInfo>) -> Self {
        let mut info = Self {
            version: VERSION,
            key_id: [0; 32],
            params: params.name().to_owned(),
            epoch_id: [0; 32],
            context_id,
            files,
        };
        info.key_id = ids::key_id(&info.digest());
        info.epoch_id = ids::epoch_id(&context_id, &info.key_id, 1);
        info
    }

    /// Reads and checks `key.json` of a bundle: the key id must follow from the digests.
    ///
    /// # Errors
    /// It is missing, malformed or does not add up.
    pub fn load(folder: &Path) -> Result<Self, BundleError> {
        let bytes = read_file(&folder.join(INFO), MAX_BYTES)?;
        Self::parse(&bytes)
    }

    /// Parses and checks the bytes of a `key.json`.
    ///
    /// # Errors
    /// It is malformed or does not add up.
    pub fn parse(bytes: &[u8]) -> Result<Self, BundleError> {
        let info: Self = serde_json::from_slice(bytes).map_err(|e| BundleError::Info(e.to_string()))?;
        let fail = |what: &str| Err(BundleError::Info(what.to_owned()));
        if info.version != VERSION {
            return fail("unsupported version");
        }
        if ParamsId::from_name(&info.params).is_none() {
            return fail("unknown parameter set");
        }
        if !FILES.iter().all(|file| info.files.contains_key(*file)) {
            return fail("a file is missing");
        }
        if info.files.len() > FILES.len() {
            return fail("an unknown file is listed");
        }
        if info.key_id != ids::key_id(&info.digest()) {
            return fail("the key id does not follow from the files");
        }
        Ok(info)
    }

    /// The key's id.
    #[must_use]
    pub const fn key_id(&self) -> [u8; 32] {
        self.key_id
    }

    /// Parameter set.
    #[must_use]
    pub fn params(&self) -> ParamsId {
        ParamsId::from_name(&self.params).expect("checked when it was made")
    }

    /// The epoch whose shares came with the key.
    #[must_use]
    pub const fn epoch_id(&self) -> [u8; 32] {
        self.epoch_id
    }

    /// The committee that got the shares.
    #[must_use]
    pub const fn context_id(&self) -> [u8; 32] {
        self.context_id
    }

    /// Names, digests and sizes of the files.
    pub fn files(&self) -> impl Iterator<Item = (&str, &FileInfo)> {
        self.files.iter().map(|(name, info)| (name.as_str(), info))
    }

    /// SHA-256 of one file; `None` if the bundle does not have it.
    #[must_use]
    pub fn sha256(&self, file: &str) -> Option<[u8; 32]> {
        self.files.get(file).map(|info| info.sha256)
    }

    /// SHA-256(params id ‖ SHA-256 of public key ‖ key set ‖ CRS).
    #[must_use]
    pub fn digest(&self) -> [u8; 32] {
        let id = ParamsId::from_name(&self.params).map_or(0, ParamsId::to_u8);
        let mut hash = Sha256::new().chain_update([id]);
        for file in FILES {
            if let Some(info) = self.files.get(file) {
                hash.update(info.sha256);
            }
        }
        hash.finalize().into()
    }

    /// Digest and size of one file.
    pub(super) fn file(&self, file: &'static str) -> Result<&FileInfo, BundleError> {
        self.files.get(file).ok_or_else(|| BundleError::Info(format!("no {file}")))
    }

    /// Reads one file and checks its size and digest, in this order.
    ///
    /// # Errors
    /// The file is missing or another one.
    pub(super) fn read(&self, folder: &Path, file: &'static str) -> Result<Vec<u8>, BundleError> {
        let info = self.file(file)?;
        let bytes = read_file(&folder.join(file), limit(file))?;
        if bytes.len() as u64 != info.bytes {
            return Err(BundleError::File { file, what: "size" });
        }
        if Sha256::digest(&bytes)[..] != info.sha256 {
            return Err(BundleError::File { file, what: "digest" });
        }
        Ok(bytes)
    }
}

mod hex32 {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8; 32], s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&format!("0x{}", hex::encode(bytes)))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<[u8; 32], D::Error> {
        let text = String::deserialize(d)?;
        let digits = text.strip_prefix("0x").ok_or_else(|| D::Error::custom("expected 0x"))?;
        let mut bytes = [0; 32];
        hex::decode_to_slice(digits, &mut bytes).map_err(D::Error::custom)?;
        Ok(bytes)
    }
}
