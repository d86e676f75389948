//! Sealing with a passphrase or key file: Argon2id, then AES-256-GCM-SIV. For development.
//!
//! ```text
//! sealer   "KMSL" ‖ u8 version 1 ‖ u8 kind 1 ‖ u32 memory KiB ‖ u32 passes ‖ u32 lanes ‖ salt (16)
//!          ‖ nonce (12) ‖ AES-256-GCM-SIV(key, nonce, "", everything before the nonce)
//! ```
//! The empty ciphertext at the end tells a wrong passphrase from a damaged object.

use std::path::{Path, PathBuf};

use aes_gcm_siv::aead::{Aead, Payload};
use aes_gcm_siv::{Aes256GcmSiv, KeyInit, Nonce};
use argon2::{Algorithm, Argon2, Params, Version};
use zeroize::Zeroizing;

use super::{KEY_BYTES, NONCE_BYTES, Sealer, TAG_BYTES, VERSION, files, random};
use crate::error::SealedError;

/// File of the parameters, in the sealed folder.
const FILE: &str = "sealer";
const MAGIC: [u8; 4] = *b"KMSL";
const KIND: u8 = 1;
const SALT_BYTES: usize = 16;
const HEAD_BYTES: usize = 4 + 1 + 1 + 12 + SALT_BYTES;
const FILE_BYTES: usize = HEAD_BYTES + NONCE_BYTES + TAG_BYTES;
/// A file that asks for more memory was not written by this program.
const MAX_MEMORY_KIB: u32 = 4 << 20;
const MAX_PASSES: u32 = 100;
const MAX_LANES: u32 = 64;
/// Shortest passphrase.
const MIN_CHARS: usize = 12;
const MAX_PASSPHRASE_BYTES: u64 = 4096;

/// Cost of one guess at the passphrase.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cost {
    /// Memory in KiB.
    pub memory_kib: u32,
    /// Passes over the memory.
    pub passes: u32,
    /// Lanes.
    pub lanes: u32,
}

impl Cost {
    /// What parties use: a quarter of a second and 64 MiB.
    pub const PARTY: Self = Self { memory_kib: 64 << 10, passes: 3, lanes: 1 };
    /// The least that Argon2 allows, for tests.
    pub const INSECURE_TEST: Self = Self { memory_kib: 8, passes: 1, lanes: 1 };
}

/// Seals object keys under a key that is derived from a passphrase.
pub struct PassphraseSealer {
    cipher: Aes256GcmSiv,
}

impl std::fmt::Debug for PassphraseSealer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PassphraseSealer").finish_non_exhaustive()
    }
}

impl PassphraseSealer {
    /// New parameters in `dir`; there must not be any.
    ///
    /// # Errors
    /// The folder has a sealer, or can't be written.
    pub fn create(dir: &Path, passphrase: &[u8], cost: Cost) -> Result<Self, SealedError> {
        let mut head = Vec::with_capacity(HEAD_BYTES);
        head.extend_from_slice(&MAGIC);
        head.extend_from_slice(&[VERSION, KIND]);
        for number in [cost.memory_kib, cost.passes, cost.lanes] {
            head.extend_from_slice(&number.to_be_bytes());
        }
        let mut salt = [0; SALT_BYTES];
        random(&mut salt)?;
        head.extend_from_slice(&salt);

        let cipher = derive(passphrase, cost, &salt)?;
        let mut nonce = [0; NONCE_BYTES];
        random(&mut nonce)?;
        let check = cipher
            .encrypt(Nonce::from_slice(&nonce), Payload { msg: b"", aad: &head })
            .map_err(|e| SealedError::Derivation(e.to_string()))?;
        files::write_new(&dir.join(FILE), &[&head, &nonce, &check], FILE)?;
        Ok(Self { cipher })
    }

    /// Opens the sealer of `dir`.
    ///
    /// # Errors
    /// There is none, it is malformed, or the passphrase is another.
    pub fn open(dir: &Path, passphrase: &[u8]) -> Result<Self, SealedError> {
        let path = dir.join(FILE);
        let bytes = files::read_bounded(&path, 4096, FILE)?.ok_or_else(|| SealedError::Missing(FILE.into()))?;
        let (cost, salt) = parse(&bytes, &path)?;
        let cipher = derive(passphrase, cost, salt)?;
        let (head, check) = bytes.split_at(HEAD_BYTES);
        let (nonce, check) = check.split_at(NONCE_BYTES);
        cipher
            .decrypt(Nonce::from_slice(nonce), Payload { msg: check, aad: head })
            .map_err(|_| SealedError::Passphrase(dir.to_owned()))?;
        Ok(Self { cipher })
    }
}

impl Sealer for PassphraseSealer {
    fn seal(&self, key: &[u8; KEY_BYTES], context: &[u8]) -> Result<Vec<u8>, SealedError> {
        let mut nonce = [0; NONCE_BYTES];
        random(&mut nonce)?;
        let sealed = self
            .cipher
            .encrypt(Nonce::from_slice(&nonce), Payload { msg: key, aad: context })
            .map_err(|e| SealedError::Derivation(e.to_string()))?;
        Ok([&nonce[..], &sealed].concat())
    }

    fn open(&self, sealed: &[u8], context: &[u8]) -> Result<Option<Zeroizing<[u8; KEY_BYTES]>>, SealedError> {
        let Some((nonce, sealed)) = sealed.split_first_chunk::<NONCE_BYTES>() else { return Ok(None) };
        let Ok(key) = self.cipher.decrypt(Nonce::from_slice(nonce), Payload { msg: sealed, aad: context }) else {
            return Ok(None);
        };
        let key = Zeroizing::new(key);
        Ok(<[u8; KEY_BYTES]>::try_from(&key[..]).ok().map(Zeroizing::new))
    }
}

fn parse<'a>(bytes: &'a [u8], path: &Path) -> Result<(Cost, &'a [u8]), SealedError> {
    let format = || SealedError::Format { path: path.to_owned(), what: "sealer file" };
    if bytes.first_chunk() != Some(&MAGIC) || bytes.len() < 6 {
        return Err(format());
    }
    if bytes[4] != VERSION {
        return Err(SealedError::Version { path: path.to_owned(), version: bytes[4] });
    }
    if bytes[5] != KIND || bytes.len() != FILE_BYTES {
        return Err(format());
    }
    let number = |at: usize| u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
    let cost = Cost { memory_kib: number(6), passes: number(10), lanes: number(14) };
    if cost.memory_kib > MAX_MEMORY_KIB || cost.passes > MAX_PASSES || cost.lanes > MAX_LANES {
        return Err(format());
    }
    Ok((cost, &bytes[HEAD_BYTES - SALT_BYTES..HEAD_BYTES]))
}

fn derive(passphrase: &[u8], cost: Cost, salt: &[u8]) -> Result<Aes256GcmSiv, SealedError> {
    let failed = |e: argon2::Error| SealedError::Derivation(e.to_string());
    let params = Params::new(cost.memory_kib, cost.passes, cost.lanes, Some(KEY_BYTES)).map_err(failed)?;
    let mut key = Zeroizing::new([0; KEY_BYTES]);
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password_into(passphrase, salt, &mut *key)
        .map_err(failed)?;
    Ok(Aes256GcmSiv::new((&*key).into()))
}

/// Reads the passphrase of a file, without the line end.
///
/// # Errors
/// The file is missing, too large, or its passphrase too short.
pub fn read_passphrase(path: &Path) -> Result<Zeroizing<Vec<u8>>, SealedError> {
    let missing = || SealedError::Io { path: PathBuf::from(path), source: std::io::ErrorKind::NotFound.into() };
    let bytes = files::read_bounded(path, MAX_PASSPHRASE_BYTES, "passphrase")?.ok_or_else(missing)?;
    let mut bytes = Zeroizing::new(bytes);
    while bytes.last().is_some_and(|b| b.is_ascii_whitespace()) {
        bytes.pop();
    }
    if bytes.len() < MIN_CHARS {
        return Err(SealedError::WeakPassphrase { path: path.to_owned(), chars: bytes.len(), least: MIN_CHARS });
    }
    Ok(bytes)
}
