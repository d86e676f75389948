//! `POST /v2/public-decrypt` and `GET /v2/public-decrypt/{job}`.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use alloy_primitives::{B256, Bytes};
use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, State as Shared};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use kms_chain::extra_data::ExtraData;
use kms_chain::handle::{Handle, check_request_handles};
use serde::Deserialize;
use utoipa::ToSchema;

use super::access::Caller;
use super::answers::{Asked, Failed, PublicAnswer, Queued, Unread};
use super::{Api, Failure, body, hash};
use crate::clock::now_ms;
use crate::error::Error;
use crate::job::{Job, Payload};
use crate::state::State;
use crate::store::{NewPull, Pulled, largest_group};

/// Body of a submission. Other fields are admitted, as clients of other relayers send some.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct PublicSubmission {
    /// Handles of one chain, 32 bytes each in hex.
    ciphertext_handles: Vec<String>,
    /// Extra data that the answer is to carry; empty if absent.
    #[serde(default)]
    extra_data: String,
}

/// Asks for handles that are marked publicly decryptable.
#[utoipa::path(post, path = "/v2/public-decrypt", tag = "decryption", operation_id = "askPublic",
    request_body = PublicSubmission, responses(Asked))]
pub(super) async fn submit(
    Shared(api): Shared<Arc<Api>>,
    Extension(caller): Extension<Caller>,
    body: Result<Json<PublicSubmission>, JsonRejection>,
) -> Result<Response, Failure> {
    let body = body::json(body)?;
    if api.draining.load(Ordering::Relaxed) {
        return Err(Failure::busy("the relayer is about to restart", 5));
    }
    let (chain, handles) = handles(&api, &body.ciphertext_handles)?;
    let extra_data = extra_data(&api, &body.extra_data)?;
    let deadline = u64::try_from(now_ms() / 1000).unwrap_or(0) + api.pull_timeout_s;
    let new = NewPull { chain, handles, extra_data, deadline, client: caller.client };
    put(api.store.submit_pull(new, api.open_pulls, caller.open_pulls).await)
}

/// What is said about a question that was recorded, or was not.
pub(super) fn put(pulled: Result<Pulled, Error>) -> Result<Response, Failure> {
    match pulled {
        Ok(Pulled::Job(job)) => Ok(Queued::response(job.id, 1)),
        Ok(Pulled::Full) => Err(Failure::busy("too many decryptions are under way", 10)),
        Ok(Pulled::TooManyOfYours) => {
            let message = "too many decryptions of yours are under way";
            let failure = Failure::new(StatusCode::TOO_MANY_REQUESTS, "too_many_pulls", message);
            Err(Failure { retry_after: Some(5), ..failure })
        }
        Err(error) => Err(Failure::internal(&error)),
    }
}

fn handles(api: &Api, texts: &[String]) -> Result<(u64, Vec<B256>), Failure> {
    let handles = texts
        .iter()
        .map(|text| hash(text).ok_or_else(|| Failure::bad_request("malformed_handle", "a handle is 32 bytes in hex")))
        .collect::<Result<Vec<_>, _>>()?;
    let first = handles.first().ok_or_else(|| Failure::bad_request("EmptyHandles", "no handle is given"))?;
    // The first handle names the chain; the check of the list wants the same of all others.
    let chain = Handle::parse(*first).map_err(|e| Failure::bad_request(e.label(), e.to_string()))?.chain_id();
    check_request_handles(&handles, chain).map_err(|e| Failure::bad_request(e.label(), e.to_string()))?;
    if !api.followers.contains_key(&chain) {
        return Err(Failure::bad_request("unknown_chain", format!("this relayer does not serve chain {chain}")));
    }
    Ok((chain, handles))
}

fn extra_data(api: &Api, text: &str) -> Result<Bytes, Failure> {
    let digits = text.strip_prefix("0x").unwrap_or(text);
    if digits.len() > 2 * ExtraData::MAX_LENGTH {
        return Err(Failure::bad_request("malformed_extra_data", "the extra data is too long"));
    }
    let bytes =
        hex::decode(digits).map_err(|_| Failure::bad_request("malformed_extra_data", "the extra data is not hex"))?;
    let parsed = ExtraData::parse(&bytes).map_err(|e| Failure::bad_request(e.label(), e.to_string()))?;
    if parsed.request_id().is_some() {
        return Err(Failure::bad_request("extra_data_of_a_request", "version 3 is for requests of a gateway"));
    }
    if parsed.context().is_some_and(|context| context != api.committee.context()) {
        return Err(Failure::bad_request("unknown_context", "the extra data names a context that is not ours"));
    }
    Ok(bytes.into())
}

/// What became of a public decryption.
#[utoipa::path(get, path = "/v2/public-decrypt/{job}", tag = "decryption", operation_id = "readPublic",
    params(("job" = String, Path, description = "job id, 32 bytes in hex")), responses(
        (status = 200, description = "the cleartexts with their proof", body = PublicAnswer),
        Unread
    ))]
pub(super) async fn result(Shared(api): Shared<Arc<Api>>, Path(id): Path<String>) -> Result<Response, Failure> {
    let id = hash(&id).ok_or_else(|| Failure::bad_request("malformed_job_id", "a job id is 32 bytes in hex"))?;
    let job = api.store.job(id).await.map_err(|e| Failure::internal(&e))?;
    let Some(job) = job.filter(|job| matches!(job.payload, Payload::PublicPull { .. })) else {
        return Err(Failure::not_found("no such job"));
    };
    match job.state {
        State::Done | State::Quorum => {
            let answers = api.store.answers(id).await.map_err(|e| Failure::internal(&e))?;
            Ok(Json(PublicAnswer::new(&job, &largest_group(&answers))).into_response())
        }
        State::Refused => Ok(failed(&job, StatusCode::BAD_REQUEST, "refused")),
        State::Expired => Ok(failed(&job, StatusCode::GATEWAY_TIMEOUT, "timeout")),
        _ => Ok(still_running(&job)),
    }
}

/// Come again after the next attempt.
pub(super) fn still_running(job: &Job) -> Response {
    let wait = u64::try_from((job.next_attempt - now_ms()).max(0) / 1000).unwrap_or(0);
    Queued::response(job.id, wait + 1)
}

pub(super) fn failed(job: &Job, status: StatusCode, label: &str) -> Response {
    (status, Json(Failed::of(job, label))).into_response()
}
