//! What can go wrong, and whose fault it is.

use alloy_primitives::{Address, B256};

/// Result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Everything that can stop the coprocessor or one piece of its work.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The configuration is wrong.
    #[error("configuration: {0}")]
    Config(String),
    /// A signing key can't be had.
    #[error("signer: {0}")]
    Signer(String),
    /// The manifest can't be used.
    #[error("manifest: {0}")]
    Manifest(String),
    /// The public key bundle can't be used.
    #[error("public keys: {0}")]
    Keys(String),
    /// The database refused.
    #[error("database: {0}")]
    Database(#[from] sqlx::Error),
    /// The database could not be brought to this version's shape.
    #[error("database migration: {0}")]
    Migration(#[from] sqlx::migrate::MigrateError),
    /// A row holds what this version never writes.
    #[error("database: column {column} holds an impossible value")]
    Corrupt {
        /// The column.
        column: &'static str,
    },
    /// The object store refused.
    #[error("object store: {0}")]
    Objects(#[from] object_store::Error),
    /// A stored object does not have the digest it is filed under.
    #[error("object store: object {digest} has other content")]
    ObjectDamaged {
        /// The digest it is filed under.
        digest: B256,
    },
    /// A stored ciphertext or key material could not be used.
    #[error("ciphertext: {0}")]
    Ciphertext(String),
    /// The chain's endpoint failed or answered nonsense; worth another try.
    #[error("chain {chain_id}: {reason}")]
    Chain {
        /// The chain.
        chain_id: u64,
        /// What it said.
        reason: String,
    },
    /// This coprocessor's signer is not one of those the chain knows.
    #[error("chain {chain_id}: {contract} does not know the signer {signer}")]
    UnknownSigner {
        /// The chain.
        chain_id: u64,
        /// Which contract was asked.
        contract: &'static str,
        /// This coprocessor's signer.
        signer: Address,
    },
    /// The chain asks for more signatures than one coprocessor has.
    #[error(
        "chain {chain_id}: the registry asks for {threshold} coprocessor signatures; \
         collecting those of others is not supported yet"
    )]
    QuorumTooLarge {
        /// The chain.
        chain_id: u64,
        /// Signatures asked for.
        threshold: u64,
    },
    /// A listener or another resource of the operating system failed.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// A background task ended by a panic.
    #[error("task {0} ended unexpectedly")]
    Task(&'static str),
}
