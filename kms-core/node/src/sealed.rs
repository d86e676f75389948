//! Secrets at rest.
//!
//! Every object has its own random key; the object is encrypted under that key, the key under a [`Sealer`]. Both carry the
//! object's name as associated data, so files that are swapped, renamed or mixed don't open. Files are written under a
//! temporary name, synced and renamed without ever replacing one. Destroying an object deletes its key.
//!
//! ```text
//! <name>.obj   "KMSO" ‖ u8 version 1 ‖ nonce (12) ‖ AES-256-GCM-SIV(object key, nonce, object)
//! <name>.key   "KMSK" ‖ u8 version 1 ‖ the object key (32), sealed
//! associated data of both: the first five bytes ‖ name
//! ```

mod files;
mod passphrase;

use std::path::{Path, PathBuf};

use aes_gcm_siv::aead::{Aead, Payload};
use aes_gcm_siv::{Aes256GcmSiv, KeyInit, Nonce};
use rand::TryRngCore;
use rand::rngs::OsRng;
use zeroize::Zeroizing;

pub use passphrase::{Cost, PassphraseSealer, read_passphrase};

use crate::error::SealedError;

/// No object of a party is larger.
pub const MAX_OBJECT_BYTES: u64 = 16 << 20;
/// Version of all files here.
const VERSION: u8 = 1;
const OBJECT_MAGIC: [u8; 4] = *b"KMSO";
const KEY_MAGIC: [u8; 4] = *b"KMSK";
const KEY_BYTES: usize = 32;
const NONCE_BYTES: usize = 12;
const TAG_BYTES: usize = 16;
const MAX_NAME: usize = 200;

/// Seals object keys: a passphrase today, an enclave or a cloud KMS later.
pub trait Sealer: std::fmt::Debug + Send + Sync {
    /// Encrypts and authenticates an object key together with `context`, which is not stored.
    ///
    /// # Errors
    /// The sealer is not available.
    fn seal(&self, key: &[u8; KEY_BYTES], context: &[u8]) -> Result<Vec<u8>, SealedError>;

    /// Opens what [`Self::seal`] made; `None` if it was changed or `context` is another.
    ///
    /// # Errors
    /// The sealer is not available.
    fn open(&self, sealed: &[u8], context: &[u8]) -> Result<Option<Zeroizing<[u8; KEY_BYTES]>>, SealedError>;
}

/// A folder of sealed objects.
#[derive(Debug)]
pub struct Vault {
    dir: PathBuf,
    sealer: Box<dyn Sealer>,
}

impl Vault {
    /// A new folder, sealed by a passphrase; there must not be one yet.
    ///
    /// # Errors
    /// The folder holds sealed objects already, or can't be written.
    pub fn create(dir: &Path, passphrase: &[u8], cost: Cost) -> Result<Self, SealedError> {
        files::make_private_dir(dir)?;
        let sealer = PassphraseSealer::create(dir, passphrase, cost)?;
        Ok(Self { dir: dir.to_owned(), sealer: Box::new(sealer) })
    }

    /// An existing folder.
    ///
    /// # Errors
    /// There is none, or the passphrase is another.
    pub fn open(dir: &Path, passphrase: &[u8]) -> Result<Self, SealedError> {
        let sealer = PassphraseSealer::open(dir, passphrase)?;
        Ok(Self { dir: dir.to_owned(), sealer: Box::new(sealer) })
    }

    /// Seals an object under a new name.
    ///
    /// # Errors
    /// [`SealedError::Exists`]: objects are never overwritten, not even destroyed ones.
    pub fn put(&self, name: &str, content: &[u8]) -> Result<(), SealedError> {
        check_name(name)?;
        let bytes = content.len() as u64;
        if bytes > MAX_OBJECT_BYTES {
            return Err(SealedError::TooLarge { name: name.into(), bytes, limit: MAX_OBJECT_BYTES });
        }
        let (object_path, key_path) = (self.object_path(name), self.key_path(name));
        if object_path.exists() {
            return Err(SealedError::Exists(name.into()));
        }
        // A key without an object is what a kill between the two writes leaves: it protects nothing.
        files::remove_if_there(&key_path)?;

        let mut key = Zeroizing::new([0; KEY_BYTES]);
        random(&mut *key)?;
        let mut nonce = [0; NONCE_BYTES];
        random(&mut nonce)?;
        let head = head(OBJECT_MAGIC);
        let sealed = Aes256GcmSiv::new((&*key).into())
            .encrypt(Nonce::from_slice(&nonce), Payload { msg: content, aad: &context(head, name) })
            .map_err(|_| SealedError::TooLarge { name: name.into(), bytes, limit: MAX_OBJECT_BYTES })?;

        let key_head = self::head(KEY_MAGIC);
        let sealed_key = self.sealer.seal(&key, &context(key_head, name))?;
        files::write_new(&key_path, &[&key_head, &sealed_key], name)?;
        files::write_new(&object_path, &[&head, &nonce, &sealed], name)
    }

    /// Opens an object.
    ///
    /// # Errors
    /// [`SealedError::Missing`], [`SealedError::Destroyed`], [`SealedError::Tampered`], or a file problem.
    pub fn get(&self, name: &str) -> Result<Zeroizing<Vec<u8>>, SealedError> {
        check_name(name)?;
        let limit = MAX_OBJECT_BYTES + 1024;
        let object_path = self.object_path(name);
        let Some(object) = files::read_bounded(&object_path, limit, name)? else {
            return Err(SealedError::Missing(name.into()));
        };
        let key_path = self.key_path(name);
        let Some(sealed_key) = files::read_bounded(&key_path, 4096, name)? else {
            return Err(SealedError::Destroyed(name.into()));
        };
        let tampered = || SealedError::Tampered(name.into());

        let sealed_key = strip_head(&sealed_key, KEY_MAGIC, &key_path, "sealed key")?;
        let key = self.sealer.open(sealed_key, &context(head(KEY_MAGIC), name))?.ok_or_else(tampered)?;

        let body = strip_head(&object, OBJECT_MAGIC, &object_path, "sealed object")?;
        if body.len() < NONCE_BYTES + TAG_BYTES {
            return Err(tampered());
        }
        let (nonce, sealed) = body.split_at(NONCE_BYTES);
        Aes256GcmSiv::new((&*key).into())
            .decrypt(Nonce::from_slice(nonce), Payload { msg: sealed, aad: &context(head(OBJECT_MAGIC), name) })
            .map(Zeroizing::new)
            .map_err(|_| tampered())
    }

    /// Deletes the key of an object: nobody can read the object any more. The caller records it.
    ///
    /// # Errors
    /// [`SealedError::Missing`] or [`SealedError::Destroyed`].
    pub fn destroy(&self, name: &str) -> Result<(), SealedError> {
        check_name(name)?;
        if !self.object_path(name).exists() {
            return Err(SealedError::Missing(name.into()));
        }
        if files::remove_if_there(&self.key_path(name))? { Ok(()) } else { Err(SealedError::Destroyed(name.into())) }
    }

    /// Whether there is an object of this name, destroyed or not.
    pub fn contains(&self, name: &str) -> bool {
        check_name(name).is_ok() && self.object_path(name).exists()
    }

    /// Names of all objects, sorted, destroyed ones included.
    ///
    /// # Errors
    /// The folder can't be read.
    pub fn names(&self) -> Result<Vec<String>, SealedError> {
        files::names(&self.dir, "obj")
    }

    fn object_path(&self, name: &str) -> PathBuf {
        self.dir.join(format!("{name}.obj"))
    }

    fn key_path(&self, name: &str) -> PathBuf {
        self.dir.join(format!("{name}.key"))
    }
}

const fn head(magic: [u8; 4]) -> [u8; 5] {
    [magic[0], magic[1], magic[2], magic[3], VERSION]
}

/// Associated data: what kind of file this is, and whose.
fn context(head: [u8; 5], name: &str) -> Vec<u8> {
    [&head, name.as_bytes()].concat()
}

fn strip_head<'a>(bytes: &'a [u8], magic: [u8; 4], path: &Path, what: &'static str) -> Result<&'a [u8], SealedError> {
    match bytes.split_first_chunk::<5>() {
        Some(([m @ .., VERSION], body)) if *m == magic => Ok(body),
        Some(([m @ .., version], _)) if *m == magic => {
            Err(SealedError::Version { path: path.to_owned(), version: *version })
        }
        _ => Err(SealedError::Format { path: path.to_owned(), what }),
    }
}

fn check_name(name: &str) -> Result<(), SealedError> {
    let good = name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    if good && !name.is_empty() && name.len() <= MAX_NAME { Ok(()) } else { Err(SealedError::Name(name.into())) }
}

fn random(bytes: &mut [u8]) -> Result<(), SealedError> {
    OsRng.try_fill_bytes(bytes).map_err(|e| SealedError::Derivation(format!("the system gave no randomness: {e}")))
}

#[cfg(test)]
mod tests;
