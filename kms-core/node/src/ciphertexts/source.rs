//! One object store, read by digest.

use std::path::PathBuf;
use std::time::Duration;

use alloy_primitives::B256;
use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use object_store::client::{HttpClient, HttpConnector};
use object_store::http::HttpBuilder;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{BackoffConfig, ClientOptions, GetResultPayload, ObjectStore, ObjectStoreExt, RetryConfig};
use sha2::{Digest, Sha256};

use super::blocking;

const TIMEOUT: Duration = Duration::from_secs(30);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// Why a store did not give the bytes.
#[derive(Debug, thiserror::Error)]
pub(super) enum FetchError {
    /// The store does not have them.
    #[error("not there")]
    Missing,
    /// The store has something that no object can be.
    #[error("larger than {0} bytes")]
    TooLarge(usize),
    /// The store has other bytes under this digest.
    #[error("the bytes there hash to {0}")]
    Digest(B256),
    /// The store fails.
    #[error("{0}")]
    Failed(String),
}

/// What is fetched.
#[derive(Clone, Copy, Debug)]
pub(super) struct Kind {
    /// Folder in the store.
    pub(super) folder: &'static str,
    /// None is larger, in bytes.
    pub(super) limit: usize,
}

/// A folder or an HTTP server with objects at `<folder of their kind>/<digest>`.
#[derive(Debug)]
pub(super) struct Source {
    name: String,
    store: Box<dyn ObjectStore>,
    base: Option<PathBuf>,
}

impl Source {
    /// `file:///folder`, `http://host/base` or `https://host/base`.
    pub(super) fn new(url: &str) -> Result<Self, String> {
        let parsed: reqwest::Url = url.parse().map_err(|e| format!("{url} is no URL: {e}"))?;
        match parsed.scheme() {
            "file" => {
                let base = parsed.to_file_path().map_err(|()| format!("{url} names no folder of this machine"))?;
                // Not prefixed: the folder may come into being later.
                let store = LocalFileSystem::new();
                Ok(Self { name: format!("folder {}", base.display()), store: Box::new(store), base: Some(base) })
            }
            "http" | "https" => {
                let host = parsed.host_str().ok_or_else(|| format!("there is no host in {url}"))?;
                let name = format!("{host}:{}", parsed.port_or_known_default().unwrap_or(0));
                let store = HttpBuilder::new()
                    .with_url(url.trim_end_matches('/'))
                    .with_client_options(ClientOptions::new().with_allow_http(true))
                    .with_retry(RetryConfig {
                        backoff: BackoffConfig::default(),
                        max_retries: 2,
                        retry_timeout: Duration::from_secs(5),
                    })
                    .with_http_connector(NoRedirects)
                    .build()
                    .map_err(|e| e.to_string())?;
                Ok(Self { name, store: Box::new(store), base: None })
            }
            other => Err(format!("object stores are file, http or https, not {other}")),
        }
    }

    /// For logs and errors; without user and path, which may carry a key.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// The bytes with this digest. Never more than an object may have are held.
    pub(super) async fn fetch(&self, kind: Kind, digest: B256) -> Result<Bytes, FetchError> {
        let file = format!("{}/{}", kind.folder, hex::encode(digest));
        let path = match &self.base {
            Some(base) => Path::from_absolute_path(base.join(file)).map_err(|e| FetchError::Failed(e.to_string()))?,
            None => Path::from(file),
        };
        let found = self.store.get(&path).await.map_err(failed)?;
        // A server may announce less than it sends: the stream is counted as well.
        if found.meta.size > kind.limit as u64 {
            return Err(FetchError::TooLarge(kind.limit));
        }
        if matches!(found.payload, GetResultPayload::File(..)) {
            // In one piece, and no longer than its size said: a file comes in thousands of small ones otherwise.
            let bytes = found.bytes().await.map_err(failed)?;
            let (bytes, found) = blocking(move || {
                let hash = Sha256::digest(&bytes);
                (bytes, B256::from_slice(&hash))
            })
            .await;
            return if found == digest { Ok(bytes) } else { Err(FetchError::Digest(found)) };
        }
        let mut hash = Sha256::new();
        let mut bytes = BytesMut::new();
        let mut stream = found.into_stream();
        while let Some(chunk) = stream.next().await {
            let chunk = chunk.map_err(failed)?;
            if bytes.len() + chunk.len() > kind.limit {
                return Err(FetchError::TooLarge(kind.limit));
            }
            hash.update(&chunk);
            bytes.extend_from_slice(&chunk);
        }
        let found = B256::from_slice(&hash.finalize());
        if found == digest { Ok(bytes.freeze()) } else { Err(FetchError::Digest(found)) }
    }
}

fn failed(error: object_store::Error) -> FetchError {
    match error {
        object_store::Error::NotFound { .. } => FetchError::Missing,
        other => FetchError::Failed(other.to_string().chars().take(200).collect()),
    }
}

/// HTTP clients that go where they were sent and nowhere else.
#[derive(Debug)]
struct NoRedirects;

impl HttpConnector for NoRedirects {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        let client = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .timeout(TIMEOUT)
            .connect_timeout(CONNECT_TIMEOUT)
            .build()
            .map_err(|e| object_store::Error::Generic { store: "HTTP", source: Box::new(e) })?;
        Ok(HttpClient::new(client))
    }
}
