//! One RPC endpoint: connected when first needed, trusted only after it has named its chain.

use super::{AnswerLimits, BlockRef, BoundedHttp, RpcError, Url, calls};
use alloy::{
    providers::{DynProvider, Provider, ProviderBuilder, WsConnect},
    transports::{TransportResult, ws::WebSocketConfig},
};
use std::{
    fmt,
    future::Future,
    sync::PoisonError,
    time::{Duration, Instant},
};
use tokio::{sync::Mutex, time::timeout};

/// What a comparison of the endpoints showed about one of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointReport {
    /// Endpoint, without secrets.
    pub endpoint: String,
    /// Its newest block, or what is wrong with it.
    pub head: Result<BlockRef, String>,
    /// Its block at a height that all have differs from the active endpoint's.
    pub disagrees: bool,
    /// Calls go here from now on.
    pub active: bool,
}

pub(super) struct Endpoint {
    url: Url,
    label: String,
    websocket: bool,
    limits: AnswerLimits,
    provider: Mutex<Option<DynProvider>>,
    rest: std::sync::Mutex<Rest>,
}

/// An endpoint that said we ask too often is left alone for a while.
#[derive(Debug, Default)]
struct Rest {
    until: Option<Instant>,
    /// How often in a row it said so.
    times: u32,
}

/// Rest of an endpoint that does not say for how long it wants it; doubled each time …
const SHORTEST_REST: Duration = Duration::from_millis(500);
/// … up to this, and no more is granted to those who say.
const LONGEST_REST: Duration = Duration::from_secs(60);

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.label)
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Endpoint").field(&self.label).finish()
    }
}

impl Endpoint {
    pub(super) fn new(url: &Url, limits: AnswerLimits) -> Result<Self, RpcError> {
        // Access keys stand in paths, queries or user info: only scheme, host and port are ever shown.
        let host = url.host_str().unwrap_or_default();
        let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
        let label = format!("{}://{host}{port}", url.scheme());
        let websocket = match url.scheme() {
            "http" | "https" => false,
            "ws" | "wss" => true,
            _ => return Err(RpcError::BadUrl(label)),
        };
        Ok(Self { url: url.clone(), label, websocket, limits, provider: Mutex::new(None), rest: Default::default() })
    }

    pub(super) fn label(&self) -> &str {
        &self.label
    }

    pub(super) fn is_websocket(&self) -> bool {
        self.websocket
    }

    /// The provider, connected and of the right chain.
    pub(super) async fn provider(&self, chain_id: u64) -> Result<DynProvider, RpcError> {
        let mut slot = self.provider.lock().await;
        if let Some(provider) = slot.as_ref() {
            return Ok(provider.clone());
        }
        let builder = ProviderBuilder::new().disable_recommended_fillers();
        let provider = if self.websocket {
            let bulk = Some(self.limits.bulk);
            let config = WebSocketConfig::default().max_message_size(bulk).max_frame_size(bulk);
            let connecting = builder.connect_ws(WsConnect::new(self.url.as_str()).with_config(config));
            self.bounded(connecting).await?.erased()
        } else {
            let http = BoundedHttp::new(self.url.clone(), self.limits).map_err(|_| RpcError::Transport {
                endpoint: self.label.clone(),
                reason: "the HTTP client can't be set up".to_owned(),
            })?;
            builder.connect_client(http.into_client()).erased()
        };
        let found = self.bounded(provider.get_chain_id()).await?;
        if found != chain_id {
            return Err(RpcError::WrongChain { endpoint: self.label.clone(), expected: chain_id, found });
        }
        *slot = Some(provider.clone());
        Ok(provider)
    }

    pub(super) async fn run<T, F>(&self, chain_id: u64, operation: impl Fn(DynProvider) -> F) -> Result<T, RpcError>
    where
        F: Future<Output = TransportResult<T>>,
    {
        if let Some(left) = self.resting() {
            return Err(RpcError::RateLimited { endpoint: self.label.clone(), retry_after: Some(left) });
        }
        let result = match self.provider(chain_id).await {
            Ok(provider) => self.bounded(operation(provider)).await,
            Err(error) => Err(error),
        };
        match &result {
            Err(RpcError::RateLimited { retry_after, .. }) => self.begin_rest(*retry_after),
            // Whatever answers at this address next time must name its chain again.
            Err(error) if error.is_endpoint_failure() => *self.provider.lock().await = None,
            _ => self.rest.lock().unwrap_or_else(PoisonError::into_inner).times = 0,
        }
        result
    }

    fn resting(&self) -> Option<Duration> {
        let until = self.rest.lock().unwrap_or_else(PoisonError::into_inner).until?;
        until.checked_duration_since(Instant::now()).filter(|left| !left.is_zero())
    }

    fn begin_rest(&self, wanted: Option<Duration>) {
        let mut rest = self.rest.lock().unwrap_or_else(PoisonError::into_inner);
        let doubled = SHORTEST_REST.saturating_mul(2u32.saturating_pow(rest.times));
        let rested = wanted.unwrap_or(doubled).clamp(SHORTEST_REST, LONGEST_REST);
        rest.times = rest.times.saturating_add(1);
        rest.until = Some(Instant::now() + rested);
        tracing::warn!(endpoint = %self, ?rested, "the RPC endpoint limits the rate: it is left alone for a while");
    }

    /// Asks for the chain id once more: behind one address there may be another node than a moment ago.
    pub(super) async fn identify(&self, chain_id: u64) -> Result<(), RpcError> {
        let found = self.run(chain_id, |provider| async move { provider.get_chain_id().await }).await?;
        if found == chain_id {
            return Ok(());
        }
        *self.provider.lock().await = None;
        Err(RpcError::WrongChain { endpoint: self.label.clone(), expected: chain_id, found })
    }

    async fn bounded<T>(&self, call: impl Future<Output = TransportResult<T>>) -> Result<T, RpcError> {
        match timeout(self.limits.patience, call).await {
            Ok(result) => result.map_err(|error| RpcError::from_transport(&self.label, error)),
            Err(_) => Err(RpcError::Timeout { endpoint: self.label.clone() }),
        }
    }

    pub(super) async fn head(&self, chain_id: u64) -> Result<BlockRef, RpcError> {
        self.run(chain_id, |provider| async move { calls::block(&provider, "latest".into()).await })
            .await?
            .ok_or_else(|| RpcError::BlockUnknown("latest".to_owned()))
    }
}
