//! `POST /v2/user-decrypt`, `POST /v2/delegated-user-decrypt`, and `GET` of the same with a job's id.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, State as Shared};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use kms_chain::permit::{HandleContract, Permit, PermitError, UserRequest};
use kms_chain::user_view::{UserQuestion, UserRefusal};
use serde::Deserialize;
use utoipa::ToSchema;

use super::access::Caller;
use super::answers::{Asked, Unread, UserAnswer};
use super::pull::{failed, put, still_running};
use super::{Api, Failure, body, hash, with_retry_after};
use crate::clock::now_ms;
use crate::job::{Job, Payload, UserPayload};
use crate::state::State;
use crate::store::{NewUser, StoredShare};
use crate::views::Early;

/// Body of a submission. Other fields are admitted, as clients of other relayers send some.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct UserSubmission {
    /// What to read, in the order of the shares.
    handle_contract_pairs: Vec<HandleContractPair>,
    request_validity: RequestValidity,
    /// Host chain, decimal.
    contracts_chain_id: String,
    /// Contracts of the permit.
    contract_addresses: Vec<String>,
    /// Who signed: the user, or the delegate.
    user_address: String,
    /// Whose handles are read; on the delegated route only, and there always.
    delegator_address: Option<String>,
    /// The user's signature over the permit.
    signature: String,
    /// ML-KEM public key that shares are sealed to.
    public_key: String,
    /// Extra data of the permit; empty if absent.
    #[serde(default)]
    extra_data: String,
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
/// A handle and the contract in whose name it is read.
struct HandleContractPair {
    /// 32 bytes in hex.
    handle: String,
    /// A contract of the permit.
    contract_address: String,
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
/// When the permit counts.
struct RequestValidity {
    /// First second, decimal.
    start_timestamp: String,
    /// 1 to 365, decimal.
    duration_days: String,
}

type Submitted = Result<Json<UserSubmission>, JsonRejection>;

/// Asks for the shares of what the user may read.
#[utoipa::path(post, path = "/v2/user-decrypt", tag = "decryption", operation_id = "askUser",
    request_body = UserSubmission, responses(Asked))]
pub(super) async fn submit(
    Shared(api): Shared<Arc<Api>>,
    Extension(caller): Extension<Caller>,
    body: Submitted,
) -> Result<Response, Failure> {
    take(&api, caller, body, false).await
}

/// Asks for the shares of what a delegator may read.
#[utoipa::path(post, path = "/v2/delegated-user-decrypt", tag = "decryption", operation_id = "askDelegated",
    request_body = UserSubmission, responses(Asked))]
pub(super) async fn submit_delegated(
    Shared(api): Shared<Arc<Api>>,
    Extension(caller): Extension<Caller>,
    body: Submitted,
) -> Result<Response, Failure> {
    take(&api, caller, body, true).await
}

async fn take(api: &Api, caller: Caller, body: Submitted, delegated: bool) -> Result<Response, Failure> {
    let body = body::json(body)?;
    if api.draining.load(Ordering::Relaxed) {
        return Err(Failure::busy("the relayer is about to restart", 5));
    }
    let request = request(&body, delegated)?;
    let question = UserQuestion::new(request, api.committee.context(), api.decryption_contract)
        .map_err(|refusal| refused(&refusal))?;
    let (chain, id) = (question.request().host_chain_id, question.id());
    if !api.followers.contains_key(&chain) {
        return Err(Failure::bad_request("unknown_chain", format!("this relayer does not serve chain {chain}")));
    }
    let known = api.store.job(id).await.map_err(|e| Failure::internal(&e))?;
    // Of what is under way or done only the signature is to be checked again, and a wallet's has been.
    let is_new = known.is_none_or(|job| matches!(job.state, State::Expired | State::Refused));
    if is_new || !question.is_signed_by_wallet() {
        match api.judge.look(&question).await {
            Early::Fine => {}
            Early::Refused(refusal) => return Err(refused(&refusal)),
            Early::Unknown => {
                let message = "the chain can't be asked whether this signature is good";
                let failure = Failure::new(StatusCode::SERVICE_UNAVAILABLE, "chain_unavailable", message);
                return Err(Failure { retry_after: Some(5), ..failure });
            }
            Early::Busy => return Err(Failure::busy("too many requests are being checked", 2)),
        }
    }
    let new = NewUser {
        id,
        chain,
        payload: UserPayload::from(question.request().clone()),
        parties: api.committee.parties().len(),
        deadline: u64::try_from(now_ms() / 1000).unwrap_or(0) + api.pull_timeout_s,
        client: caller.client,
    };
    put(api.store.submit_user(new, api.open_pulls, caller.open_pulls).await)
}

/// The request, well-formed field by field.
fn request(body: &UserSubmission, delegated: bool) -> Result<UserRequest, Failure> {
    let handle =
        |text: &str| hash(text).ok_or_else(|| Failure::bad_request("malformed_handle", "a handle is 32 bytes in hex"));
    let pairs = body
        .handle_contract_pairs
        .iter()
        .map(|pair| {
            Ok(HandleContract { handle: handle(&pair.handle)?, contract: body::address(&pair.contract_address)? })
        })
        .collect::<Result<Vec<_>, Failure>>()?;
    let delegator = match (delegated, &body.delegator_address) {
        (true, Some(delegator)) => Some(body::address(delegator)?),
        (true, None) => return Err(Failure::bad_request("malformed_json", "missing field `delegatorAddress`")),
        (false, Some(_)) => {
            let message = "a delegator is named: that is a permit for /v2/delegated-user-decrypt";
            return Err(Failure::bad_request("malformed_json", message));
        }
        (false, None) => None,
    };
    // What does not fit 64 bits breaks a rule of permits, and is no mistake of form.
    let rule = |error: PermitError| Failure::bad_request(error.label(), error.to_string());
    let (start, days) =
        (body::number(&body.request_validity.start_timestamp)?, body::number(&body.request_validity.duration_days)?);
    let days = u64::try_from(days).map_err(|_| rule(PermitError::Days(u64::MAX)))?;
    let start = u64::try_from(start).map_err(|_| rule(PermitError::Start(u64::MAX)))?;
    let host_chain_id = u64::try_from(body::number(&body.contracts_chain_id)?)
        .map_err(|_| Failure::bad_request("unknown_chain", "no chain has such an id"))?;
    Ok(UserRequest {
        host_chain_id,
        permit: Permit {
            user: body::address(&body.user_address)?,
            delegator,
            public_key: body::bytes(&body.public_key, "malformed_public_key")?,
            contracts: body.contract_addresses.iter().map(|text| body::address(text)).collect::<Result<_, _>>()?,
            start,
            days,
            extra_data: body::bytes(&body.extra_data, "malformed_extra_data")?,
        },
        signature: body::bytes(&body.signature, "malformed_signature")?,
        pairs,
    })
}

fn refused(refusal: &UserRefusal) -> Failure {
    let label = match refusal {
        // As for public decryptions.
        UserRefusal::WrongContext { .. } => "unknown_context",
        other => other.label(),
    };
    Failure::bad_request(label, refusal.to_string())
}

/// What has been collected for a user.
#[utoipa::path(get, path = "/v2/user-decrypt/{job}", tag = "decryption", operation_id = "readUser",
    params(("job" = String, Path, description = "job id, 32 bytes in hex")), responses(
        (status = 200, description = "at least 2t + 1 shares of one group", body = UserAnswer,
            headers(("Retry-After" = u64, description = "seconds, while more may come"))),
        Unread
    ))]
pub(super) async fn result(api: Shared<Arc<Api>>, id: Path<String>) -> Result<Response, Failure> {
    collected(&api, &id, false).await
}

/// What has been collected for a delegate.
#[utoipa::path(get, path = "/v2/delegated-user-decrypt/{job}", tag = "decryption", operation_id = "readDelegated",
    params(("job" = String, Path, description = "job id, 32 bytes in hex")), responses(
        (status = 200, description = "at least 2t + 1 shares of one group", body = UserAnswer,
            headers(("Retry-After" = u64, description = "seconds, while more may come"))),
        Unread
    ))]
pub(super) async fn result_delegated(api: Shared<Arc<Api>>, id: Path<String>) -> Result<Response, Failure> {
    collected(&api, &id, true).await
}

async fn collected(api: &Api, id: &str, delegated: bool) -> Result<Response, Failure> {
    let id = hash(id).ok_or_else(|| Failure::bad_request("malformed_job_id", "a job id is 32 bytes in hex"))?;
    let job = api.store.job(id).await.map_err(|e| Failure::internal(&e))?;
    let of_route =
        |job: &Job| matches!(&job.payload, Payload::UserDecrypt(user) if user.delegator.is_some() == delegated);
    let job = job.filter(of_route).ok_or_else(|| Failure::not_found("no such job"))?;
    match job.state {
        State::Done | State::Quorum => {
            let shares = api.store.shares(id).await.map_err(|e| Failure::internal(&e))?;
            Ok(succeeded(api, &job, &shares))
        }
        State::Refused => Ok(failed(&job, StatusCode::BAD_REQUEST, "refused")),
        State::Expired => Ok(failed(&job, StatusCode::GATEWAY_TIMEOUT, "timeout")),
        _ => Ok(still_running(&job)),
    }
}

fn succeeded(api: &Api, job: &Job, shares: &[StoredShare]) -> Response {
    let end = job.since.saturating_add(i64::try_from(api.collect.as_millis()).unwrap_or(i64::MAX));
    let collecting = job.state == State::Quorum && now_ms() < end;
    let body = UserAnswer::new(job, shares, collecting);
    with_retry_after((StatusCode::OK, Json(body)).into_response(), collecting.then_some(1))
}
