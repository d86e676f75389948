//! Ciphertexts, fetched by digest from the party's own object stores.
//!
//! The digest comes from the chain, the place from this party's configuration; no URL that somebody else names is ever
//! followed, and no redirect. Bytes are bounded and hashed while they stream, and parsed only after the digest fits.

mod source;

use std::sync::Arc;

use alloy_primitives::B256;
use bytes::Bytes;
use kms_encoding::{LweBlocks, ParamsId};
use kms_fhe::object::Object;
use lru::LruCache;
use parking_lot::Mutex;
use tokio::sync::Semaphore;

use crate::config::ObjectStoreConfig;
use crate::error::{CiphertextError, ConfigError};
use crate::guard::HandleGrant;
use crate::metrics::Metrics;
use source::{FetchError, Kind, Source};

/// Bytes of objects that are kept: a request is asked for again soon, and one list object serves many handles.
const CACHE_BYTES: usize = 32 << 20;
/// Ciphertexts.
const OBJECTS: Kind = Kind { folder: "ct", limit: kms_fhe::object::MAX_BYTES };
/// Reference strings of input proofs; with production parameters one has 4.6 MB.
const REFERENCE_STRINGS: Kind = Kind { folder: "crs", limit: 16 << 20 };
/// Objects that are read and parsed at the same time. What their blocks weigh once expanded is for the engine to bound.
const FETCHING: usize = 8;

/// The object stores and what was fetched from them lately.
#[derive(Debug)]
pub struct Ciphertexts {
    sources: Vec<Source>,
    cache: Mutex<Cache>,
    fetching: Semaphore,
    metrics: Arc<Metrics>,
}

impl Ciphertexts {
    /// Prepares the stores; nothing is fetched yet.
    ///
    /// # Errors
    /// A URL is not one of an object store.
    pub fn new(stores: &[ObjectStoreConfig], metrics: Arc<Metrics>) -> Result<Self, ConfigError> {
        let source = |(i, store): (usize, &ObjectStoreConfig)| {
            Source::new(&store.url)
                .map_err(|problem| ConfigError::Value { key: format!("object_stores[{i}].url"), problem })
        };
        let sources = stores.iter().enumerate().map(source).collect::<Result<_, _>>()?;
        Ok(Self { sources, cache: Mutex::new(Cache::new(CACHE_BYTES)), fetching: Semaphore::new(FETCHING), metrics })
    }

    /// The blocks of a granted handle. `params` are those of the handle's key.
    ///
    /// # Errors
    /// [`CiphertextError::is_final`] tells whether asking again can help.
    pub async fn fetch(&self, grant: &HandleGrant, params: ParamsId) -> Result<Arc<LweBlocks>, CiphertextError> {
        let outcome = self.object(grant.digest, grant.key_id, params).await;
        self.metrics.ciphertext(match &outcome {
            Ok((_, label)) => label,
            Err(CiphertextError::Missing { .. }) => "missing",
            Err(CiphertextError::Unavailable { .. }) => "unavailable",
            Err(CiphertextError::Malformed { .. } | CiphertextError::Mismatch { .. }) => "malformed",
        });
        let (object, _) = outcome?;
        let (digest, handle) = (grant.digest, grant.handle.raw());
        blocking(move || object.blocks(&handle)).await.map(Arc::new).map_err(|e| CiphertextError::Mismatch {
            digest,
            handle,
            problem: e.to_string(),
        })
    }

    /// The bytes of a reference string, from the first store that has them.
    ///
    /// # Errors
    /// No store gives them: they may come.
    pub async fn reference_string(&self, digest: B256) -> Result<Bytes, CiphertextError> {
        self.bytes(REFERENCE_STRINGS, digest).await
    }

    /// The checked object with this digest, and how it was come by.
    async fn object(
        &self,
        digest: B256,
        key_id: B256,
        params: ParamsId,
    ) -> Result<(Arc<Object>, &'static str), CiphertextError> {
        if let Some(object) = self.cache.lock().get(digest, key_id) {
            return Ok((object, "cached"));
        }
        // Never an error: the semaphore is not closed.
        let _place = self.fetching.acquire().await.ok();
        // Whoever waited may find what another request has fetched.
        if let Some(object) = self.cache.lock().get(digest, key_id) {
            return Ok((object, "cached"));
        }
        let bytes = self.bytes(OBJECTS, digest).await?;
        let weight = bytes.len();
        let object = blocking(move || Object::parse(&bytes, params, &key_id))
            .await
            .map_err(|e| CiphertextError::Malformed { digest, problem: e.to_string() })?;
        let object = Arc::new(object);
        self.cache.lock().put(digest, key_id, Arc::clone(&object), weight);
        Ok((object, "fetched"))
    }

    /// The bytes that hash to the digest, from the first store that has them.
    async fn bytes(&self, kind: Kind, digest: B256) -> Result<Bytes, CiphertextError> {
        let mut problems = Vec::new();
        for source in &self.sources {
            match source.fetch(kind, digest).await {
                Ok(bytes) => return Ok(bytes),
                Err(FetchError::Missing) => {}
                Err(e) => {
                    tracing::warn!(store = source.name(), %digest, error = %e, "ciphertext");
                    problems.push(format!("{}: {e}", source.name()));
                }
            }
        }
        if problems.is_empty() {
            return Err(CiphertextError::Missing { digest });
        }
        Err(CiphertextError::Unavailable { digest, problem: problems.join("; ") })
    }
}

/// Parsing and unpacking take milliseconds: not on the threads that serve connections.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(value) => value,
        Err(e) => match e.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // Only a runtime that shuts down cancels blocking work, and then nobody waits for this.
            Err(_) => std::future::pending().await,
        },
    }
}

/// Objects by digest and key (parsing checks the key), least recently used ones leave first.
#[derive(Debug)]
struct Cache {
    objects: LruCache<(B256, B256), (Arc<Object>, usize)>,
    bytes: usize,
    limit: usize,
}

impl Cache {
    fn new(limit: usize) -> Self {
        Self { objects: LruCache::unbounded(), bytes: 0, limit }
    }

    fn get(&mut self, digest: B256, key_id: B256) -> Option<Arc<Object>> {
        self.objects.get(&(digest, key_id)).map(|(object, _)| Arc::clone(object))
    }

    fn put(&mut self, digest: B256, key_id: B256, object: Arc<Object>, weight: usize) {
        self.bytes += weight;
        if let Some((_, old)) = self.objects.put((digest, key_id), (object, weight)) {
            self.bytes -= old;
        }
        while self.bytes > self.limit {
            let Some((_, (_, old))) = self.objects.pop_lru() else { break };
            self.bytes -= old;
        }
    }
}
