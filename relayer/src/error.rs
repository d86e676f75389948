//! What can go wrong in the relayer.

use alloy_primitives::B256;

/// Errors of the relayer's own parts.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The database refused or was not there.
    #[error("database: {0}")]
    Database(#[from] sqlx::Error),
    /// The schema could not be brought up to date.
    #[error("database schema: {0}")]
    Migrate(#[from] sqlx::migrate::MigrateError),
    /// A stored value can't be read.
    #[error("the database holds a value that can't be read: {0}")]
    Corrupt(String),
    /// The configuration is wrong.
    #[error("configuration: {0}")]
    Config(String),
    /// A chain can't be read or written to.
    #[error("chain: {0}")]
    Chain(String),
    /// The connection to the parties can't be set up.
    #[error("parties: {0}")]
    Parties(String),
    /// A transaction can't be built or signed.
    #[error("transaction: {0}")]
    Transaction(String),
    /// A job is not where it was expected.
    #[error("job {0} has moved on")]
    Moved(B256),
    /// The nonce ledger moved between reading and reserving.
    #[error("nonce {0} has been taken")]
    NonceTaken(u64),
    /// Another process of this database does what this one was about to do.
    #[error("another relayer of this database does {0}")]
    NotLeading(String),
}

impl Error {
    pub(crate) fn corrupt(what: impl std::fmt::Display) -> Self {
        Error::Corrupt(what.to_string())
    }
}
