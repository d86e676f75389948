//! What can go wrong at the edges of the party: configuration, storage, keys, ciphertexts.

use std::path::PathBuf;

use alloy_primitives::B256;

use crate::lifecycle::{Call, Phase};

/// Why a call or a step is not possible in the current phase.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LifecycleError {
    /// The state machine has no such step.
    #[error("a {from} process can't become {to}")]
    IllegalStep {
        /// Phase now.
        from: Phase,
        /// Phase that was asked for.
        to: Phase,
    },
    /// The call is not on the allow-list of the phase.
    #[error("{call:?} is not served while {phase}")]
    NotAllowed {
        /// What was called.
        call: Call,
        /// Phase now.
        phase: Phase,
    },
}

/// What is wrong with a configuration or manifest file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file can't be read.
    #[error("can't read {path}: {source}")]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is larger than any honest one.
    #[error("{path} has {bytes} bytes, more than the {limit} allowed")]
    TooLarge {
        /// Which.
        path: PathBuf,
        /// Its size.
        bytes: u64,
        /// The bound.
        limit: u64,
    },
    /// Not TOML, or not these keys.
    #[error("{path}: {source}")]
    Toml {
        /// Which.
        path: PathBuf,
        /// Where and what.
        source: Box<toml::de::Error>,
    },
    /// The keys are right, a value is not.
    #[error("{key}: {problem}")]
    Value {
        /// Name of the key.
        key: String,
        /// What is wrong.
        problem: String,
    },
    /// The manifest is not acceptable.
    #[error("manifest {path}: {problem}")]
    Manifest {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
}

/// Why a sealed object can't be written or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SealedError {
    /// The file system failed.
    #[error("{path}: {source}")]
    Io {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// No such object.
    #[error("there is no object {0}")]
    Missing(String),
    /// The object's key was deleted: nobody can read it any more.
    #[error("object {0} was destroyed")]
    Destroyed(String),
    /// Objects are never overwritten.
    #[error("object {0} exists already")]
    Exists(String),
    /// The name is not one that an object may have.
    #[error("{0:?} can't be the name of an object")]
    Name(String),
    /// Not a file of this format.
    #[error("{path} is not a {what}")]
    Format {
        /// Which file.
        path: PathBuf,
        /// What was expected.
        what: &'static str,
    },
    /// A version from the future.
    #[error("{path} has version {version}, which this program does not know")]
    Version {
        /// Which file.
        path: PathBuf,
        /// The version it says.
        version: u8,
    },
    /// The passphrase does not open this folder.
    #[error("the passphrase does not open the sealed folder {0}")]
    Passphrase(PathBuf),
    /// The passphrase is missing or too short.
    #[error("the passphrase in {path} has {chars} characters, at least {least} are needed")]
    WeakPassphrase {
        /// Where it was read from.
        path: PathBuf,
        /// How many it has.
        chars: usize,
        /// How many it should have.
        least: usize,
    },
    /// Authentication failed: changed, cut, or put in the place of another object.
    #[error("object {0} was tampered with or belongs to another name")]
    Tampered(String),
    /// Larger than any object of this party.
    #[error("object {name} has {bytes} bytes, more than the {limit} allowed")]
    TooLarge {
        /// Which.
        name: String,
        /// Its size.
        bytes: u64,
        /// The bound.
        limit: u64,
    },
    /// Key derivation refused its parameters.
    #[error("key derivation: {0}")]
    Derivation(String),
}

/// Why the database could not do something.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// SQLite failed. A whole batch shares the error.
    #[error("database: {0}")]
    Database(std::sync::Arc<sqlx::Error>),
    /// A migration failed: most likely the file was written by a newer version.
    #[error("database migration: {0}")]
    Migration(String),
    /// A stored value is not one that this program writes.
    #[error("database row {table}: {problem}")]
    Row {
        /// Table.
        table: &'static str,
        /// What is wrong.
        problem: String,
    },
    /// There is no such request.
    #[error("no request {0}")]
    NoRequest(B256),
    /// The writer has stopped.
    #[error("the database is closed")]
    Closed,
}

impl From<sqlx::Error> for StoreError {
    fn from(e: sqlx::Error) -> Self {
        Self::Database(std::sync::Arc::new(e))
    }
}

/// Why a ciphertext is not there to be decrypted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CiphertextError {
    /// No object store has it. It may come.
    #[error("no object store has ciphertext {digest}")]
    Missing {
        /// Digest that was committed.
        digest: B256,
    },
    /// The object stores can't be reached or answer badly. They may recover.
    #[error("ciphertext {digest} can't be fetched: {problem}")]
    Unavailable {
        /// Digest that was committed.
        digest: B256,
        /// What each store answered.
        problem: String,
    },
    /// The bytes that hash to the committed digest are not a ciphertext object: final, and the same at every party.
    #[error("ciphertext {digest} is malformed: {problem}")]
    Malformed {
        /// Digest that was committed.
        digest: B256,
        /// What is wrong with it.
        problem: String,
    },
    /// The object is well-formed but does not hold what was committed to this handle: final.
    #[error("ciphertext {digest} does not belong to handle {handle}: {problem}")]
    Mismatch {
        /// Digest that was committed.
        digest: B256,
        /// Handle that was asked for.
        handle: B256,
        /// What differs.
        problem: String,
    },
}

impl CiphertextError {
    /// Whether asking again can't help: the committed bytes themselves are bad.
    pub const fn is_final(&self) -> bool {
        matches!(self, Self::Malformed { .. } | Self::Mismatch { .. })
    }
}

/// Why key material can't be used or imported.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeysError {
    /// Sealed storage.
    #[error(transparent)]
    Sealed(#[from] SealedError),
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The file system.
    #[error("{path}: {source}")]
    Io {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The share file is malformed.
    #[error("share file: {0}")]
    Share(#[from] kms_encoding::share::ShareFileError),
    /// The share is another party's, another committee's or another size's.
    #[error("the share is for {found}, this is {own}")]
    Foreign {
        /// What the share says.
        found: String,
        /// What this party is.
        own: String,
    },
    /// The public bundle does not belong to the share, or its files are not what its list says.
    #[error("public key bundle: {0}")]
    Bundle(String),
    /// What was sealed is not what the database remembers.
    #[error("object {object} has digest {found}, {expected} was recorded at import")]
    Digest {
        /// Sealed object.
        object: String,
        /// Digest of its content.
        found: B256,
        /// Digest that was recorded.
        expected: B256,
    },
    /// The pseudorandom keys are malformed, or their committee has not agreed on them.
    #[error("pseudorandom keys: {0}")]
    Prss(String),
    /// A signature could not be made.
    #[error("signing: {0}")]
    Signing(String),
}
