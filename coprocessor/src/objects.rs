//! The object store: ciphertext objects filed under the SHA-256 of their bytes.

use std::{path::PathBuf, sync::Arc};

use alloy_primitives::B256;
use bytes::Bytes;
use object_store::{GetOptions, ObjectStore, PutPayload, local::LocalFileSystem, path::Path, prefix::PrefixStore};
use sha2::{Digest, Sha256};

use crate::error::{Error, Result};

/// No object is larger.
pub const MAX_OBJECT_BYTES: u64 = 8 << 20;

/// Ciphertext objects by digest, at `ct/<digest>`. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Objects {
    store: Arc<dyn ObjectStore>,
}

impl Objects {
    /// Opens the store at `url`: `file:///folder` (created when absent), `s3://bucket/prefix` and the like.
    ///
    /// # Errors
    /// When the address is malformed or the folder can't be made.
    pub fn open(url: &str) -> Result<Self> {
        let bad = |what: String| Error::Config(format!("object_store: {what}"));
        if let Some(folder) = url.strip_prefix("file://") {
            let folder = PathBuf::from(folder);
            if !folder.is_absolute() {
                return Err(bad("a file address must be absolute: file:///folder".into()));
            }
            std::fs::create_dir_all(&folder)
                .map_err(|source| Error::Io { what: format!("folder {}", folder.display()), source })?;
            // Durable before the digest is signed: a committed digest without its object can't be decrypted by anyone.
            let store = LocalFileSystem::new_with_prefix(folder)?.with_fsync(true);
            return Ok(Self { store: Arc::new(store) });
        }
        let url = url.parse().map_err(|_| bad("not a URL".into()))?;
        // Credentials of a cloud store come from the environment (AWS_ACCESS_KEY_ID and the like).
        let (store, prefix) = object_store::parse_url_opts(&url, std::env::vars())?;
        Ok(Self { store: Arc::new(PrefixStore::new(store, prefix)) })
    }

    fn path(digest: B256) -> Path {
        Path::from(format!("ct/{}", hex::encode(digest)))
    }

    /// Stores an object and returns its digest.
    ///
    /// # Errors
    /// Of the store.
    pub async fn put(&self, object: Vec<u8>) -> Result<B256> {
        let digest = B256::from_slice(&Sha256::digest(&object));
        self.store.put_opts(&Self::path(digest), PutPayload::from(object), Default::default()).await?;
        Ok(digest)
    }

    /// The object with this digest, `None` when there is none. Its content is checked against the digest.
    ///
    /// # Errors
    /// Of the store; when the content was damaged or is too large.
    pub async fn get(&self, digest: B256) -> Result<Option<Bytes>> {
        let found = match self.store.get_opts(&Self::path(digest), GetOptions::default()).await {
            Ok(found) => found,
            Err(object_store::Error::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        if found.meta.size > MAX_OBJECT_BYTES {
            return Err(Error::ObjectDamaged { digest });
        }
        let bytes = found.bytes().await?;
        if Sha256::digest(&bytes).as_slice() != digest.as_slice() {
            return Err(Error::ObjectDamaged { digest });
        }
        Ok(Some(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn objects_come_back_and_damage_is_seen() {
        let folder = tempfile::tempdir().unwrap();
        let objects = Objects::open(&format!("file://{}/a/b", folder.path().display())).unwrap();
        let digest = objects.put(b"content".to_vec()).await.unwrap();
        assert_eq!(objects.put(b"content".to_vec()).await.unwrap(), digest);
        assert_eq!(objects.get(digest).await.unwrap().unwrap().as_ref(), b"content");
        assert!(objects.get(B256::repeat_byte(7)).await.unwrap().is_none());
        let file = folder.path().join("a/b/ct").join(hex::encode(digest));
        std::fs::write(file, b"c0ntent").unwrap();
        assert!(matches!(objects.get(digest).await, Err(Error::ObjectDamaged { .. })));
    }

    #[test]
    fn relative_and_malformed_addresses_are_refused() {
        assert!(Objects::open("file://relative/x").is_err());
        assert!(Objects::open("no address").is_err());
    }
}
