//! The HTTP API: inputs, public keys, ciphertext objects, handles, health and metrics.

mod cors;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use alloy_primitives::{Address, B256};
use axum::{
    Json, Router,
    body::Body,
    extract::{ConnectInfo, Path, Request, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use futures::StreamExt;
use kms_chain::follower::FollowerStatus;
use kms_fhe::{InputError, inputs::MAX_BYTES};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio_util::io::ReaderStream;

use crate::{
    admission::{Admission, Refusal},
    error::Error,
    fhe::fault_label,
    inputs::{Inputs, Post, Receipt, Refused},
    keys::Bundle,
    metrics::Metrics,
    objects::Objects,
    store::{Progress, Store},
};

/// Digests and key files never change: whoever has one may keep it for ever.
const IMMUTABLE: &str = "public, max-age=31536000, immutable";
/// A body must be there within this time, or its place goes to the next one.
const BODY_TIMEOUT: Duration = Duration::from_secs(20);
/// Longest body of a post: the longest list in hex and what stands around it.
const MAX_BODY: usize = 2 * MAX_BYTES + 1024;
/// Bytes of a body that is too long which are still read.
const MAX_DRAINED: usize = 8 << 20;

/// What the handlers need.
#[derive(Debug)]
pub struct Api {
    /// Checks inputs.
    pub inputs: Inputs,
    /// Lets them in.
    pub admission: Arc<Admission>,
    /// The public key bundle.
    pub bundle: Bundle,
    /// Ciphertext objects.
    pub objects: Objects,
    /// The database.
    pub store: Store,
    /// How the follower of each chain is doing.
    pub chains: Vec<(u64, watch::Receiver<FollowerStatus>)>,
    /// Counters.
    pub metrics: Arc<Metrics>,
}

/// The routes.
pub fn router(api: Arc<Api>) -> Router {
    Router::new()
        .route("/v1/inputs", post(post_input))
        .route("/v1/keys", get(get_keys))
        .route("/v1/keys/{file}", get(get_key_file))
        .route("/v1/handles/{handle}", get(get_handle))
        .route("/ct/{digest}", get(get_object))
        .route("/healthz", get(healthz))
        .route("/metrics", get(metrics))
        .layer(axum::middleware::from_fn(cors::for_every_origin))
        .with_state(api)
}

/// A failure as the caller sees it: a stable label and a sentence.
#[derive(Debug)]
struct Failure {
    status: StatusCode,
    label: &'static str,
    message: String,
    retry_after: Option<u64>,
}

impl Failure {
    fn new(status: StatusCode, label: &'static str, message: impl Into<String>) -> Self {
        Self { status, label, message: message.into(), retry_after: None }
    }

    fn malformed(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "malformed_request", message)
    }

    fn later(status: StatusCode, label: &'static str, message: &str) -> Self {
        Self { retry_after: Some(2), ..Self::new(status, label, message) }
    }

    /// Room comes back as the chain uses inputs or their time ends: no matter of seconds.
    fn no_room(status: StatusCode, label: &'static str, message: String) -> Self {
        Self { retry_after: Some(60), ..Self::new(status, label, message) }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        tracing::error!(%error, "a request failed by our own fault");
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "the coprocessor could not do this")
    }
}

impl From<Refused> for Failure {
    fn from(refused: Refused) -> Self {
        let message = refused.to_string();
        match refused {
            Refused::Internal(error) => error.into(),
            Refused::Fault(InputError::Eval(error)) => Error::Ciphertext(error.to_string()).into(),
            Refused::UnknownChain(_) => Self::new(StatusCode::BAD_REQUEST, "unknown_chain", message),
            Refused::NoRoom => Self::no_room(StatusCode::SERVICE_UNAVAILABLE, "storage_full", message),
            Refused::NoRoomForClient => Self::no_room(StatusCode::TOO_MANY_REQUESTS, "too_many_bytes", message),
            Refused::Fault(fault) => Self::new(StatusCode::BAD_REQUEST, fault_label(&fault), message),
        }
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let body = Json(serde_json::json!({ "error": { "label": self.label, "message": self.message } }));
        let mut response = (self.status, body).into_response();
        if let Some(seconds) = self.retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct InputBody<'a> {
    chain_id: u64,
    contract: Address,
    user: Address,
    ciphertext: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct InputAnswer {
    handles: Vec<B256>,
    input_proof: String,
}

async fn post_input(
    State(api): State<Arc<Api>>,
    ConnectInfo(client): ConnectInfo<SocketAddr>,
    request: Request,
) -> Result<Response, Failure> {
    let timer = api.metrics.input_seconds.start_timer();
    let result = accept_input(&api, client, request).await;
    let outcome = match &result {
        Ok(_) => "accepted",
        Err(failure) => failure.label,
    };
    api.metrics.inputs.with_label_values(&[outcome]).inc();
    if result.is_ok() {
        timer.observe_duration();
    } else {
        timer.stop_and_discard();
    }
    let receipt = result?;
    let input_proof = format!("0x{}", hex::encode(&receipt.proof));
    Ok(Json(InputAnswer { handles: receipt.handles, input_proof }).into_response())
}

async fn accept_input(api: &Api, client: SocketAddr, request: Request) -> Result<Receipt, Failure> {
    // The place comes before the body: whoever has none costs no memory.
    let place = api.admission.enter(client.ip()).map_err(|refusal| match refusal {
        Refusal::TooManyOfYours => {
            Failure::later(StatusCode::TOO_MANY_REQUESTS, "too_many_requests", "too many inputs of yours are open")
        }
        Refusal::Full => Failure::later(StatusCode::SERVICE_UNAVAILABLE, "busy", "too many inputs are waiting"),
    })?;
    let body = read_body(request, MAX_BODY).await?;
    let post = parse_input(&body)?;
    drop(body);
    if let Some(receipt) = api.inputs.known(&post).await? {
        return Ok(receipt);
    }
    let worker = place.worker().await;
    let receipt = api.inputs.accept(post, client.ip()).await?;
    drop(worker);
    Ok(receipt)
}

async fn read_body(request: Request, limit: usize) -> Result<Vec<u8>, Failure> {
    let too_large = || Failure::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", "the body is too large");
    let read = async {
        let mut body = request.into_body().into_data_stream();
        let (mut bytes, mut seen) = (Vec::new(), 0);
        while let Some(frame) = body.next().await {
            let frame = frame.map_err(|_| Failure::malformed("the body ended early"))?;
            seen += frame.len();
            // The rest of a body that is too long is read and dropped for a while: a client that is still sending would
            // see a broken connection instead of the answer.
            if seen > MAX_DRAINED {
                break;
            }
            if seen <= limit {
                bytes.extend_from_slice(&frame);
            }
        }
        if seen > limit { Err(too_large()) } else { Ok(bytes) }
    };
    tokio::time::timeout(BODY_TIMEOUT, read)
        .await
        .map_err(|_| Failure::new(StatusCode::REQUEST_TIMEOUT, "timeout", "the body did not arrive in time"))?
}

fn parse_input(body: &[u8]) -> Result<Post, Failure> {
    let body: InputBody<'_> = serde_json::from_slice(body).map_err(|error| Failure::malformed(error.to_string()))?;
    let digits = body.ciphertext.strip_prefix("0x").unwrap_or(body.ciphertext);
    if digits.len() > 2 * MAX_BYTES {
        return Err(Failure::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", "the ciphertext is too large"));
    }
    let ciphertext = hex::decode(digits).map_err(|error| Failure::malformed(format!("ciphertext: {error}")))?;
    Ok(Post { chain_id: body.chain_id, contract: body.contract, user: body.user, ciphertext })
}

async fn get_keys(State(api): State<Arc<Api>>) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], api.bundle.description().to_owned()).into_response()
}

async fn get_key_file(
    State(api): State<Arc<Api>>,
    Path(name): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    let unknown = || Failure::new(StatusCode::NOT_FOUND, "unknown_file", "key.json names no such file");
    let file = api.bundle.file(&name).ok_or_else(unknown)?;
    let tag = format!("\"{}\"", file.sha256);
    if headers.get(header::IF_NONE_MATCH).is_some_and(|known| known.as_bytes() == tag.as_bytes()) {
        return Ok(StatusCode::NOT_MODIFIED.into_response());
    }
    let opened = tokio::fs::File::open(&file.path)
        .await
        .map_err(|source| Error::Io { what: file.path.display().to_string(), source })?;
    let headers = [
        (header::CONTENT_TYPE, "application/octet-stream".to_owned()),
        (header::CONTENT_LENGTH, file.bytes.to_string()),
        (header::CACHE_CONTROL, "public, no-cache".to_owned()),
        (header::ETAG, tag),
    ];
    Ok((headers, Body::from_stream(ReaderStream::with_capacity(opened, 1 << 16))).into_response())
}

fn parse_word(text: &str) -> Result<B256, Failure> {
    let digits = text.strip_prefix("0x").unwrap_or(text);
    let mut word = B256::ZERO;
    hex::decode_to_slice(digits, word.as_mut_slice()).map_err(|_| Failure::malformed("not 32 bytes in hex"))?;
    Ok(word)
}

async fn get_object(State(api): State<Arc<Api>>, Path(digest): Path<String>) -> Result<Response, Failure> {
    let digest = parse_word(&digest)?;
    let unknown = || Failure::new(StatusCode::NOT_FOUND, "unknown_digest", "no object has this digest");
    let object = api.objects.get(digest).await?.ok_or_else(unknown)?;
    let headers = [(header::CONTENT_TYPE, "application/octet-stream"), (header::CACHE_CONTROL, IMMUTABLE)];
    Ok((headers, object).into_response())
}

async fn get_handle(State(api): State<Arc<Api>>, Path(handle): Path<String>) -> Result<Response, Failure> {
    let handle = parse_word(&handle)?;
    let status = api.store.handle_status(handle).await?;
    let state = match status.progress {
        Progress::Unknown => "unknown",
        Progress::Pending => "pending",
        Progress::Computed => "computed",
        Progress::Committed => "committed",
        Progress::Failed => "failed",
    };
    let answer = serde_json::json!({
        "handle": handle, "state": state, "digest": status.digest, "reason": status.failure,
    });
    Ok(Json(answer).into_response())
}

/// 200 while the database answers. A chain that can't be reached is shown, but restarting this process would not help it.
async fn healthz(State(api): State<Arc<Api>>) -> Response {
    if let Err(error) = api.store.ping().await {
        tracing::error!(%error, "not healthy");
        let answer = serde_json::json!({ "status": "failed", "reason": "database" });
        return (StatusCode::SERVICE_UNAVAILABLE, Json(answer)).into_response();
    }
    let chains: Vec<_> = api
        .chains
        .iter()
        .map(|(chain_id, status)| {
            let status = status.borrow();
            serde_json::json!({
                "chainId": chain_id, "block": status.cursor, "head": status.head, "finalized": status.finalized,
                "error": status.error,
            })
        })
        .collect();
    Json(serde_json::json!({ "status": "ok", "keyId": api.bundle.key_id(), "chains": chains })).into_response()
}

async fn metrics(State(api): State<Arc<Api>>) -> Result<Response, Failure> {
    let text = api.metrics.render(&api.store).await?;
    Ok(([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response())
}
