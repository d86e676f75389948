//! One RPC endpoint: connected when first needed, trusted only after it has named its chain.

use super::{AnswerLimits, BlockRef, BoundedHttp, CALL_TIMEOUT, RpcError, Url, calls};
use alloy::{
    providers::{DynProvider, Provider, ProviderBuilder, WsConnect},
    transports::{TransportResult, ws::WebSocketConfig},
};
use std::{fmt, future::Future};
use tokio::{sync::Mutex, time::timeout};

/// What a comparison of the endpoints showed about one of them.
#[derive(Clone, Debug)]
pub struct EndpointReport {
    /// Endpoint, without secrets.
    pub endpoint: String,
    /// Its newest block, or what is wrong with it.
    pub head: Result<BlockRef, String>,
    /// Its block at a height that all have differs from the active endpoint's.
    pub disagrees: bool,
}

pub(super) struct Endpoint {
    url: Url,
    label: String,
    websocket: bool,
    limits: AnswerLimits,
    provider: Mutex<Option<DynProvider>>,
}

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
        Ok(Self { url: url.clone(), label, websocket, limits, provider: Mutex::new(None) })
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
        let provider = self.provider(chain_id).await?;
        let result = self.bounded(operation(provider)).await;
        if result.as_ref().is_err_and(RpcError::is_endpoint_failure) {
            // Whatever answers at this address next time must name its chain again.
            *self.provider.lock().await = None;
        }
        result
    }

    async fn bounded<T>(&self, call: impl Future<Output = TransportResult<T>>) -> Result<T, RpcError> {
        match timeout(CALL_TIMEOUT, call).await {
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
