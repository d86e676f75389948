//! What can go wrong between us and a node.

use super::TooLarge;
use alloy::{
    primitives::Bytes,
    transports::{HttpError, TransportError, TransportErrorKind},
};
use std::time::Duration;

/// An error of an RPC call.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RpcError {
    /// No endpoint is configured.
    #[error("no RPC endpoint")]
    NoEndpoints,
    /// The URL's scheme is not http, https, ws or wss.
    #[error("RPC endpoint {0} is neither http(s) nor ws(s)")]
    BadUrl(String),
    /// The endpoint serves another chain.
    #[error("RPC endpoint {endpoint} serves chain {found}, not {expected}")]
    WrongChain {
        /// Endpoint, without secrets.
        endpoint: String,
        /// Expected chain id.
        expected: u64,
        /// Its chain id.
        found: u64,
    },
    /// No answer in time.
    #[error("RPC endpoint {endpoint} did not answer in time")]
    Timeout {
        /// Endpoint, without secrets.
        endpoint: String,
    },
    /// More bytes than an answer may have.
    #[error("RPC endpoint {endpoint}: an answer of more than {limit} bytes")]
    TooLarge {
        /// Endpoint, without secrets.
        endpoint: String,
        /// Bytes that it may have.
        limit: usize,
    },
    /// The endpoint is asked too often.
    #[error("RPC endpoint {endpoint}: rate limit")]
    RateLimited {
        /// Endpoint, without secrets.
        endpoint: String,
        /// How long it wants to be left alone, if it says so.
        retry_after: Option<Duration>,
    },
    /// Connection, HTTP status or an answer that is not JSON-RPC.
    #[error("RPC endpoint {endpoint}: {reason}")]
    Transport {
        /// Endpoint, without secrets.
        endpoint: String,
        /// What happened.
        reason: String,
    },
    /// The node answered with an error.
    #[error("RPC error {code}: {message}")]
    Answer {
        /// JSON-RPC code.
        code: i64,
        /// Message.
        message: String,
        /// Revert data, if any.
        data: Option<Bytes>,
    },
    /// The result is not what the ABI says.
    #[error("the result of {0} can't be decoded")]
    Decode(&'static str),
    /// Two endpoints give different results for the same call.
    #[error("RPC endpoints {first} and {second} disagree")]
    Disagreement {
        /// One endpoint.
        first: String,
        /// Another one.
        second: String,
    },
    /// A block that must exist is not known to the endpoint.
    #[error("block {0} is not known to the endpoint")]
    BlockUnknown(String),
}

/// Characters of a node's own words that are kept.
const MAX_MESSAGE: usize = 1000;
/// JSON-RPC code of a call that was executed and reverted.
const REVERTED: i64 = 3;
/// HTTP status "too many requests".
const TOO_MANY: u16 = 429;
/// What an answer that is too large is called by nodes that use the code of their rate limit for it (Infura's -32005,
/// "query returned more than 10000 results").
const TOO_MUCH: [&str; 4] = ["returned more than", "block range", "response size", "too many results"];
/// Nodes behind a load balancer that are not as far as the others.
const BEHIND: &str = "header not found";

impl RpcError {
    pub(super) fn from_transport(endpoint: &str, error: TransportError) -> Self {
        if let TransportError::Transport(kind) = &error
            && let Some(TooLarge { limit }) = TooLarge::of(kind)
        {
            return Self::TooLarge { endpoint: endpoint.to_owned(), limit };
        }
        let limited = |retry_after| Self::RateLimited { endpoint: endpoint.to_owned(), retry_after };
        let failed = |reason| Self::Transport { endpoint: endpoint.to_owned(), reason };
        match error {
            TransportError::ErrorResp(payload) => {
                let too_much = TOO_MUCH.iter().any(|part| payload.message.contains(part));
                if payload.is_retry_err() && !too_much {
                    return if payload.message.contains(BEHIND) { failed(BEHIND.to_owned()) } else { limited(None) };
                }
                Self::Answer {
                    code: payload.code,
                    data: payload.as_revert_data(),
                    message: payload.message.chars().take(MAX_MESSAGE).collect(),
                }
            }
            TransportError::Transport(TransportErrorKind::HttpErrorWithRetryAfter { retry_after, .. }) => {
                limited(Some(retry_after))
            }
            TransportError::Transport(TransportErrorKind::HttpError(HttpError { status: TOO_MANY, .. })) => {
                limited(None)
            }
            TransportError::Transport(TransportErrorKind::HttpError(error)) => {
                failed(format!("HTTP status {}", error.status))
            }
            // The answer itself may be long.
            TransportError::DeserError { err, .. } => failed(format!("an answer that makes no sense: {err}")),
            // A URL may carry an access key: never print what the HTTP client says about it.
            TransportError::Transport(kind) => failed(
                match kind {
                    TransportErrorKind::BackendGone => "connection closed",
                    TransportErrorKind::PubsubUnavailable => "no subscriptions",
                    _ => "connection failed",
                }
                .to_owned(),
            ),
            other => failed(other.to_string()),
        }
    }

    /// Whether the endpoint failed, so that another one may do better.
    #[must_use]
    pub fn is_endpoint_failure(&self) -> bool {
        matches!(
            self,
            Self::WrongChain { .. }
                | Self::Timeout { .. }
                | Self::TooLarge { .. }
                | Self::RateLimited { .. }
                | Self::Transport { .. }
        )
    }

    /// Whether this is the chain's word and not just this node's: a call that was executed and reverted reverts everywhere.
    #[must_use]
    pub fn is_revert(&self) -> bool {
        match self {
            Self::Answer { code, message, data } => {
                *code == REVERTED || data.is_some() || message.to_lowercase().contains("revert")
            }
            _ => false,
        }
    }

    /// Of several failures the one with the highest rank says most: what the node says, then what fewer blocks may help
    /// against.
    pub(super) fn rank(&self) -> u8 {
        match self {
            Self::NoEndpoints => 0,
            Self::Answer { .. } => 3,
            error if error.wants_less() => 2,
            _ => 1,
        }
    }

    /// Whether the same question about fewer blocks may find an answer. Limits of range or of results have a different
    /// wording at every provider: any refusal may be one.
    #[must_use]
    pub fn wants_less(&self) -> bool {
        matches!(self, Self::Answer { .. } | Self::Timeout { .. } | Self::TooLarge { .. })
    }

    /// Revert data of a failed call.
    #[must_use]
    pub fn revert_data(&self) -> Option<&Bytes> {
        match self {
            Self::Answer { data, .. } => data.as_ref(),
            _ => None,
        }
    }
}
