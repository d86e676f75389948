//! One host chain through one or several RPC endpoints, with failover.
//!
//! An endpoint is used only after it has named the expected chain id. Calls go to the active endpoint; when its transport
//! fails, times out or limits the rate, or the node has nothing but an error to say, the next one is tried and becomes
//! active. A call that reverts is answered: it is not asked for elsewhere. An endpoint that limits the rate is left alone for
//! as long as it wants. Transactions go to all endpoints. [`Chain::survey`] compares the endpoints with each other, and
//! [`Chain::call_agreed`] wants the same result from all that answer.

mod calls;
mod endpoint;
mod error;
mod http;
mod several;

pub use alloy::{
    eips::BlockId,
    providers::DynProvider,
    rpc::types::{Filter, Log},
    transports::http::reqwest::Url,
};
pub use endpoint::EndpointReport;
pub use error::RpcError;
pub use http::{AnswerLimits, BoundedHttp, TooLarge};

use alloy::{primitives::B256, transports::TransportResult};
use endpoint::Endpoint;
use futures::{FutureExt, future::BoxFuture};
use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

/// How long one call to one endpoint may take.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(10);

/// A block as the follower keeps it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct BlockRef {
    /// Height.
    pub number: u64,
    /// Hash.
    pub hash: B256,
    /// Hash of the block before.
    pub parent: B256,
    /// Block time in seconds.
    pub timestamp: u64,
}

/// Where the chain stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heights {
    /// Newest block.
    pub latest: BlockRef,
    /// Number of the safe block, 0 if the chain names none yet. Never above `latest`.
    pub safe: u64,
    /// Number of the finalized block, 0 if the chain names none yet. Never above `latest`.
    pub finalized: u64,
}

/// A chain behind a set of endpoints. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Chain {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    chain_id: u64,
    endpoints: Vec<Endpoint>,
    active: AtomicUsize,
    agreed: Agreed,
}

/// Heights that two endpoints have vouched for.
#[derive(Debug, Default)]
struct Agreed {
    safe: AtomicU64,
    finalized: AtomicU64,
    /// How often in a row no other endpoint answered.
    alone: AtomicU32,
}

impl Chain {
    /// Prepares the endpoints (`http`, `https`, `ws`, `wss`) and asks each for its chain id. Endpoints that don't answer
    /// now are tried again when they are needed.
    ///
    /// # Errors
    /// No endpoint, a URL of another scheme, or no endpoint at all that is reachable and of the right chain, unless
    /// none is reachable: then the chain is merely down, which is no reason not to start.
    pub async fn connect(urls: &[Url], chain_id: u64) -> Result<Self, RpcError> {
        let chain = Self::new(urls, chain_id)?;
        let probes = chain.inner.endpoints.iter().map(|endpoint| endpoint.provider(chain_id));
        let results = futures::future::join_all(probes).await;
        if let Some(good) = results.iter().position(Result::is_ok) {
            chain.inner.active.store(good, Ordering::Relaxed);
            return Ok(chain);
        }
        match results.into_iter().filter_map(Result::err).find(|error| matches!(error, RpcError::WrongChain { .. })) {
            Some(wrong) => Err(wrong),
            None => Ok(chain),
        }
    }

    /// Prepares the endpoints without asking them anything.
    ///
    /// # Errors
    /// No endpoint, or a URL of another scheme.
    pub fn new(urls: &[Url], chain_id: u64) -> Result<Self, RpcError> {
        Self::with_limits(urls, chain_id, AnswerLimits::default())
    }

    /// Like [`Self::new`], with limits of one's own for the size of answers.
    ///
    /// # Errors
    /// No endpoint, or a URL of another scheme.
    pub fn with_limits(urls: &[Url], chain_id: u64, limits: AnswerLimits) -> Result<Self, RpcError> {
        if urls.is_empty() {
            return Err(RpcError::NoEndpoints);
        }
        let endpoints = urls.iter().map(|url| Endpoint::new(url, limits)).collect::<Result<Vec<_>, _>>()?;
        Ok(Self {
            inner: Arc::new(Inner { chain_id, endpoints, active: AtomicUsize::new(0), agreed: Agreed::default() }),
        })
    }

    /// The chain id that every endpoint must have.
    #[must_use]
    pub fn chain_id(&self) -> u64 {
        self.inner.chain_id
    }

    /// Place of the endpoint in use.
    pub(crate) fn active(&self) -> usize {
        self.inner.active.load(Ordering::Relaxed)
    }

    /// How many endpoints there are.
    #[must_use]
    pub fn endpoint_count(&self) -> usize {
        self.inner.endpoints.len()
    }

    /// A provider of the active endpoint, for calls that this type does not offer. It has no failover of its own.
    ///
    /// # Errors
    /// When no endpoint can be used.
    pub async fn provider(&self) -> Result<DynProvider, RpcError> {
        self.try_each(|endpoint| endpoint.provider(self.chain_id()).boxed()).await
    }

    /// Runs an operation on the active endpoint, on the next ones if the endpoint fails or its node answers with an error
    /// other than a revert.
    ///
    /// # Errors
    /// The revert, or if no endpoint does better, the error that says most: a node's own before an endpoint's failure.
    pub async fn run<T, F>(&self, operation: impl Fn(DynProvider) -> F + Send + Sync) -> Result<T, RpcError>
    where
        F: Future<Output = TransportResult<T>> + Send,
        T: Send,
    {
        let operation = &operation;
        self.try_each(move |endpoint| endpoint.run(self.chain_id(), operation).boxed()).await
    }

    async fn try_each<'a, T>(
        &'a self,
        operation: impl Fn(&'a Endpoint) -> BoxFuture<'a, Result<T, RpcError>>,
    ) -> Result<T, RpcError> {
        let endpoints = &self.inner.endpoints;
        let first = self.inner.active.load(Ordering::Relaxed);
        let mut last = RpcError::NoEndpoints;
        for step in 0..endpoints.len() {
            let index = (first + step) % endpoints.len();
            match operation(&endpoints[index]).await {
                Err(error) if !error.is_revert() => {
                    // Who limits the rate has been named when that began.
                    if error.is_endpoint_failure() && !matches!(error, RpcError::RateLimited { .. }) {
                        tracing::warn!(chain = self.chain_id(), endpoint = %endpoints[index], %error, "RPC endpoint failed");
                    }
                    if error.rank() > last.rank() {
                        last = error;
                    }
                }
                result => {
                    if step > 0 {
                        self.inner.active.store(index, Ordering::Relaxed);
                        tracing::info!(chain = self.chain_id(), endpoint = %endpoints[index], "changed RPC endpoint");
                    }
                    return result;
                }
            }
        }
        Err(last)
    }
}

#[cfg(test)]
mod tests;
