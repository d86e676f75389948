//! The folder with the public keys: `key.json` and the files that it names.
//!
//! The key id is a hash over the digests of the files, so a bundle can come from anywhere: whoever knows the key id (from
//! the chain) can check all of it. Digests are checked before anything is parsed.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::Path;

use kms_encoding::{ParamsId, ids};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tfhe::conformance::ParameterSetConformant;
use tfhe::integer::ciphertext::CompressedNoiseSquashingCompressionKey;
use tfhe::integer::noise_squashing::CompressedNoiseSquashingKey;
use tfhe::zk::CompactPkeCrs;
use tfhe::{CompactPublicKey, CompressedServerKey};

use crate::keygen::PublicKeySet;
use crate::params::{config, numbers};
use crate::{BundleError, EvalKeys, FormatError, crs, serial};

/// Description of the bundle.
pub const INFO: &str = "key.json";
/// Compact public key: users encrypt with it.
pub const PUBLIC_KEY: &str = "public_key.bin";
/// Compressed compute and casting key.
pub const SERVER_KEY: &str = "server_key.bin";
/// Compressed noise-squashing key.
pub const SQUASHING_KEY: &str = "squashing_key.bin";
/// Common reference string of the input proofs.
pub const CRS: &str = "crs.bin";
/// Squashed-compression key; not every bundle has one.
pub const COMPRESSION_KEY: &str = "squashed_compression_key.bin";

const REQUIRED: [&str; 4] = [PUBLIC_KEY, SERVER_KEY, SQUASHING_KEY, CRS];
const MAX_INFO: usize = 16 << 10;

/// No file of that name is larger. Production has 33 KB, 30 MB, 271 MB, 4.6 MB and 134 MB.
fn limit(file: &str) -> usize {
    match file {
        PUBLIC_KEY => 1 << 20,
        SERVER_KEY => 64 << 20,
        SQUASHING_KEY | COMPRESSION_KEY => 512 << 20,
        _ => crs::MAX_BYTES,
    }
}

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
    /// Reads and checks `key.json` of a bundle: the key id must follow from the digests.
    ///
    /// # Errors
    /// It is missing, malformed or does not add up.
    pub fn load(folder: &Path) -> Result<Self, BundleError> {
        let bytes = read_file(&folder.join(INFO), MAX_INFO)?;
        Self::parse(&bytes)
    }

    /// Parses and checks the bytes of a `key.json`.
    ///
    /// # Errors
    /// It is malformed or does not add up.
    pub fn parse(bytes: &[u8]) -> Result<Self, BundleError> {
        let info: Self = serde_json::from_slice(bytes).map_err(|e| BundleError::Info(e.to_string()))?;
        let fail = |what: &str| Err(BundleError::Info(what.to_owned()));
        if info.version != 1 {
            return fail("unsupported version");
        }
        if ParamsId::from_name(&info.params).is_none() {
            return fail("unknown parameter set");
        }
        if !REQUIRED.iter().all(|file| info.files.contains_key(*file)) {
            return fail("a file is missing");
        }
        if info.files.keys().any(|file| !REQUIRED.contains(&file.as_str()) && file != COMPRESSION_KEY) {
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

    /// SHA-256(params id ‖ SHA-256 of public key ‖ server key ‖ squashing key ‖ CRS [‖ squashed-compression key]).
    #[must_use]
    pub fn digest(&self) -> [u8; 32] {
        let id = ParamsId::from_name(&self.params).map_or(0, ParamsId::to_u8);
        let mut hash = Sha256::new().chain_update([id]);
        for file in REQUIRED.into_iter().chain([COMPRESSION_KEY]) {
            if let Some(info) = self.files.get(file) {
                hash.update(info.sha256);
            }
        }
        hash.finalize().into()
    }

    /// Reads one file and checks its size and digest, in this order.
    ///
    /// # Errors
    /// The file is missing or another one.
    fn read(&self, folder: &Path, file: &'static str) -> Result<Vec<u8>, BundleError> {
        let info = self.files.get(file).ok_or_else(|| BundleError::Info(format!("no {file}")))?;
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

/// Writes a bundle; `key.json` last, so that a folder with one is complete.
///
/// # Errors
/// A file can't be written.
pub fn write(
    folder: &Path,
    keys: &PublicKeySet,
    crs: &CompactPkeCrs,
    context_id: [u8; 32],
) -> Result<KeyInfo, BundleError> {
    let mut files = BTreeMap::new();
    let mut put = |file: &'static str, bytes: Result<Vec<u8>, FormatError>| {
        let bytes = bytes.map_err(|source| BundleError::Format { file, source })?;
        write_file(&folder.join(file), &bytes)?;
        files.insert(file.to_owned(), FileInfo { sha256: Sha256::digest(&bytes).into(), bytes: bytes.len() as u64 });
        Ok::<_, BundleError>(())
    };
    put(PUBLIC_KEY, serial::write(&keys.public_key, limit(PUBLIC_KEY)))?;
    put(SERVER_KEY, serial::write(&keys.server_key, limit(SERVER_KEY)))?;
    put(SQUASHING_KEY, serial::write(&keys.squashing_key, limit(SQUASHING_KEY)))?;
    put(CRS, Ok(crs::write(crs)?))?;
    if let Some(key) = &keys.compression_key {
        put(COMPRESSION_KEY, serial::write(key, limit(COMPRESSION_KEY)))?;
    }
    let mut info = KeyInfo {
        version: 1,
        key_id: [0; 32],
        params: keys.params.name().to_owned(),
        epoch_id: [0; 32],
        context_id,
        files,
    };
    info.key_id = ids::key_id(&info.digest());
    info.epoch_id = ids::epoch_id(&context_id, &info.key_id, 1);
    let json = serde_json::to_vec_pretty(&info).map_err(|e| BundleError::Info(e.to_string()))?;
    write_file(&folder.join(INFO), &json)?;
    Ok(info)
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
    /// Loads compute, squashing and (if there) squashed-compression key from a bundle and decompresses them: seconds and
    /// about 1 GB with production parameters.
    ///
    /// # Errors
    /// See [`BundleError`].
    pub fn load(folder: &Path) -> Result<Self, BundleError> {
        let info = KeyInfo::load(folder)?;
        let params = info.params();
        let server: CompressedServerKey = load(&info, folder, SERVER_KEY)?;
        let squashing: CompressedNoiseSquashingKey = load(&info, folder, SQUASHING_KEY)?;
        let compression: Option<CompressedNoiseSquashingCompressionKey> =
            info.sha256(COMPRESSION_KEY).map(|_| load(&info, folder, COMPRESSION_KEY)).transpose()?;
        let with_compression = compression.is_some();
        let (compute, cast, a, b, c, d, e, f, g, tag) = server.into_raw_parts();
        if a.is_some() || b.is_some() || c.is_some() || d.is_some() || e.is_some() || f.is_some() || g.is_some() {
            return Err(BundleError::Format { file: SERVER_KEY, source: FormatError::OtherParameters });
        }
        // tfhe knows the conformance of the whole set only.
        let all = CompressedServerKey::from_raw_parts(
            compute,
            cast,
            None,
            None,
            Some(squashing),
            compression,
            None,
            None,
            None,
            tag,
        );
        if !all.is_conformant(&config(params, with_compression).into()) {
            return Err(BundleError::Format { file: SERVER_KEY, source: FormatError::OtherParameters });
        }
        Self::new(params, all.decompress())
    }
}

fn load<T>(info: &KeyInfo, folder: &Path, file: &'static str) -> Result<T, BundleError>
where
    T: serde::de::DeserializeOwned + tfhe::Unversionize + tfhe::named::Named,
{
    serial::read(&info.read(folder, file)?, limit(file)).map_err(|source| BundleError::Format { file, source })
}

/// Reads a file of bounded size.
pub(crate) fn read_file(path: &Path, limit: usize) -> Result<Vec<u8>, BundleError> {
    let io = |source| BundleError::Io { path: path.to_owned(), source };
    let file = File::open(path).map_err(io)?;
    let size = file.metadata().map_err(io)?.len();
    if size > limit as u64 {
        return Err(io(std::io::Error::other(format!("{size} bytes are more than the limit of {limit}"))));
    }
    let mut bytes = Vec::with_capacity(size as usize);
    // One more than allowed, so that a file that grows meanwhile is noticed instead of truncated.
    file.take(limit as u64 + 1).read_to_end(&mut bytes).map_err(io)?;
    Ok(bytes)
}

/// Writes a file atomically: under a temporary name, synced, renamed.
pub(crate) fn write_file(path: &Path, bytes: &[u8]) -> Result<(), BundleError> {
    let io = |source| BundleError::Io { path: path.to_owned(), source };
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(folder).map_err(io)?;
    let mut file = tempfile::NamedTempFile::new_in(folder).map_err(io)?;
    file.write_all(bytes).map_err(io)?;
    file.as_file().sync_all().map_err(io)?;
    file.persist(path).map_err(|e| io(e.error))?;
    Ok(())
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
