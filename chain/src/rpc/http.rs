//! JSON-RPC over HTTP that reads no more of an answer than it may have.
//!
//! The transport that comes with alloy reads bodies of any size into memory: one endpoint that lies or is broken could end
//! the process. Here the body is read piece by piece, and what grows above the limit is dropped with the connection.

use super::{CALL_TIMEOUT, Url};
use alloy::{
    rpc::{
        client::RpcClient,
        json_rpc::{RequestPacket, ResponsePacket},
    },
    transports::{
        TransportError, TransportErrorKind, TransportFut, TransportResult,
        http::reqwest::{self, Client, Response, header, redirect},
        utils::guess_local_url,
    },
};
use std::{
    fmt,
    task::{Context, Poll},
    time::Duration,
};
use tower::Service;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// HTTP statuses of an endpoint that wants to be left alone for a while.
const BUSY: [u16; 2] = [429, 503];
/// Calls whose honest answers may be large: logs, and receipts, because a callback may log as much as its gas buys.
const BULK: [&str; 2] = ["eth_getLogs", "eth_getTransactionReceipt"];

/// How many bytes an answer may have, and how long it may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AnswerLimits {
    /// Time for one call.
    pub patience: Duration,
    /// Of ordinary calls.
    pub ordinary: usize,
    /// Of logs and receipts, and of any message of a WebSocket.
    pub bulk: usize,
}

impl Default for AnswerLimits {
    fn default() -> Self {
        Self { patience: CALL_TIMEOUT, ordinary: 2 << 20, bulk: 32 << 20 }
    }
}

impl AnswerLimits {
    fn of(&self, request: &RequestPacket) -> usize {
        if request.method_names().any(|method| BULK.contains(&method)) { self.bulk } else { self.ordinary }
    }
}

/// An endpoint's answer is larger than it may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an answer of more than {limit} bytes")]
pub struct TooLarge {
    /// Bytes that it may have.
    pub limit: usize,
}

impl TooLarge {
    /// Whether this is why the transport failed.
    #[must_use]
    pub fn of(error: &TransportErrorKind) -> Option<Self> {
        error.as_custom()?.downcast_ref().copied()
    }
}

/// The transport: no redirects, limits of time and size.
#[derive(Clone)]
pub struct BoundedHttp {
    client: Client,
    url: Url,
    limits: AnswerLimits,
}

impl fmt::Debug for BoundedHttp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The URL may carry an access key.
        f.debug_struct("BoundedHttp").field("limits", &self.limits).finish_non_exhaustive()
    }
}

impl BoundedHttp {
    /// Prepares a transport; nothing is sent.
    ///
    /// # Errors
    /// The HTTP client can't be set up.
    pub fn new(url: Url, limits: AnswerLimits) -> Result<Self, reqwest::Error> {
        let client = Client::builder()
            .timeout(limits.patience)
            .connect_timeout(CONNECT_TIMEOUT.min(limits.patience))
            .redirect(redirect::Policy::none())
            .build()?;
        Ok(Self { client, url, limits })
    }

    /// A JSON-RPC client on this transport.
    #[must_use]
    pub fn into_client(self) -> RpcClient {
        let local = guess_local_url(&self.url);
        RpcClient::new(self, local)
    }

    async fn send(self, request: RequestPacket) -> TransportResult<ResponsePacket> {
        let limit = self.limits.of(&request);
        let body = serde_json::to_vec(&request).map_err(TransportError::ser_err)?;
        let response = self
            .client
            .post(self.url)
            .headers(request.headers())
            .header(header::CONTENT_TYPE, "application/json")
            .body(body)
            .send()
            .await
            .map_err(TransportErrorKind::custom)?;
        let status = response.status();
        if BUSY.contains(&status.as_u16()) {
            // Seconds; a date is as good as nothing said.
            let retry_after = response.headers().get(header::RETRY_AFTER).and_then(|value| value.to_str().ok());
            let retry_after = retry_after.and_then(|text| text.trim().parse().ok()).map(Duration::from_secs);
            let body = String::new();
            return Err(TransportErrorKind::http_error_with_retry_after(status.as_u16(), body, retry_after));
        }
        let body = read(response, limit).await?;
        let answer = serde_json::from_slice::<ResponsePacket>(&body);
        if !status.is_success() {
            // Some nodes give their errors an HTTP status as well. The text of other errors is nobody's business.
            return match answer {
                Ok(answer) if answer.is_error() => Ok(answer),
                _ => Err(TransportErrorKind::http_error(status.as_u16(), String::new())),
            };
        }
        answer.map_err(|error| TransportError::deser_err(error, ""))
    }
}

async fn read(mut response: Response, limit: usize) -> TransportResult<Vec<u8>> {
    let too_large = || TransportErrorKind::custom(TooLarge { limit });
    let announced = response.content_length().unwrap_or(0);
    if announced > limit as u64 {
        return Err(too_large());
    }
    let mut body = Vec::new();
    while let Some(piece) = response.chunk().await.map_err(TransportErrorKind::custom)? {
        if body.len() + piece.len() > limit {
            return Err(too_large());
        }
        body.extend_from_slice(&piece);
    }
    Ok(body)
}

impl Service<RequestPacket> for BoundedHttp {
    type Response = ResponsePacket;
    type Error = TransportError;
    type Future = TransportFut<'static>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: RequestPacket) -> Self::Future {
        Box::pin(self.clone().send(request))
    }
}
