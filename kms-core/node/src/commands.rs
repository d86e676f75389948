//! The commands of `kms-node`.

mod boot;
pub mod check;
pub mod import;
pub mod init;
pub mod run;

use std::path::{Path, PathBuf};

use crate::dkg::DkgError;
use crate::engine::EngineError;
use crate::error::{ConfigError, KeysError, LifecycleError, SealedError, StoreError};
use crate::identity::IdentityError;
use crate::sealed::Vault;
use crate::service::ServeError;
use crate::tls::TlsError;

pub use boot::{Booted, boot};

/// Folder of the sealed objects, inside the data folder.
const SEALED: &str = "sealed";
/// The database, inside the data folder.
const DATABASE: &str = "node.db";
/// The passphrase that `init` makes if it is not given one.
const PASSPHRASE: &str = "passphrase";

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CommandError {
    /// Configuration or manifest.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Sealed storage.
    #[error(transparent)]
    Sealed(#[from] SealedError),
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Key material.
    #[error(transparent)]
    Keys(#[from] KeysError),
    /// Certificates.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// TLS configurations.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The decryption engine.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// Generations of keys.
    #[error(transparent)]
    Dkg(#[from] DkgError),
    /// The client listener.
    #[error(transparent)]
    Serve(#[from] ServeError),
    /// A step that the phases don't allow.
    #[error(transparent)]
    Lifecycle(#[from] LifecycleError),
    /// The file system.
    #[error("{path}: {source}")]
    Io {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A listener can't be opened.
    #[error("can't listen on {address}: {source}")]
    Listen {
        /// Where.
        address: std::net::SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// The card or the signatures can't be written as JSON, the metrics registered, or the like.
    #[error("{0}")]
    Internal(String),
}

/// Opens the sealed folder of a data folder with the passphrase of a file.
fn open_vault(data_dir: &Path, passphrase: &Path) -> Result<Vault, SealedError> {
    Vault::open(&data_dir.join(SEALED), &crate::sealed::read_passphrase(passphrase)?)
}

/// Replaces a public file at once; everybody may read it.
fn write_file(path: &Path, bytes: &[u8]) -> Result<(), CommandError> {
    crate::files::write_public(path, bytes).map_err(|source| CommandError::Io { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests;
