//! The public key bundle as it is served: `key.json` and the files that it lists, and no other file.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use alloy_primitives::B256;
use kms_fhe::{KeyInfo, bundle::INFO};

use crate::error::{Error, Result};

/// One file of the bundle.
#[derive(Clone, Debug)]
pub struct ServedFile {
    /// Where it lies.
    pub path: PathBuf,
    /// SHA-256, hex.
    pub sha256: String,
    /// Size.
    pub bytes: u64,
}

/// The bundle as it is served.
#[derive(Clone, Debug)]
pub struct Bundle {
    description: String,
    key_id: B256,
    files: BTreeMap<String, ServedFile>,
}

impl Bundle {
    /// Reads `key.json` in `folder`. The files' content is checked by whoever loads the keys, and by whoever downloads
    /// them.
    ///
    /// # Errors
    /// When it is absent or malformed, or a file has another size.
    pub fn open(folder: &Path) -> Result<Self> {
        let unreadable = |path: &Path, error: std::io::Error| Error::Keys(format!("{}: {error}", path.display()));
        let info = KeyInfo::load(folder).map_err(|error| Error::Keys(error.to_string()))?;
        let path = folder.join(INFO);
        let description = std::fs::read_to_string(&path).map_err(|error| unreadable(&path, error))?;
        let mut files = BTreeMap::new();
        for (name, file) in info.files() {
            let path = folder.join(name);
            let found = std::fs::metadata(&path).map_err(|error| unreadable(&path, error))?.len();
            if found != file.bytes {
                return Err(Error::Keys(format!("{} has {found} bytes, not {}", path.display(), file.bytes)));
            }
            let served = ServedFile { path, sha256: hex::encode(file.sha256), bytes: file.bytes };
            files.insert(name.to_owned(), served);
        }
        Ok(Self { description, key_id: info.key_id().into(), files })
    }

    /// The text of `key.json`.
    #[must_use]
    pub fn description(&self) -> &str {
        &self.description
    }

    /// Id of the key.
    #[must_use]
    pub fn key_id(&self) -> B256 {
        self.key_id
    }

    /// The file of this name, if `key.json` lists it.
    #[must_use]
    pub fn file(&self, name: &str) -> Option<&ServedFile> {
        self.files.get(name)
    }
}
