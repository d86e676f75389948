//! `POST /v2/user-decrypt`, `POST /v2/delegated-user-decrypt`, and `GET` of the same with a job's id.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use alloy_primitives::Bytes;
use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{ConnectInfo, Path, State as Shared};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use kms_chain::permit::{HandleContract, Permit, PermitError, UserRequest};
use kms_chain::user_view::{UserQuestion, UserRefusal};
use serde::Deserialize;
use serde_json::json;

use super::limits::client_key;
use super::pull::{failed, put, still_running};
use super::{Api, Failure, body, hash, with_retry_after};
use crate::clock::now_ms;
use crate::job::{Job, Payload, UserPayload};
use crate::state::State;
use crate::store::{NewUser, StoredShare};
use crate::views::Early;

/// Body of a submission. Other fields are admitted, as clients of other relayers send some.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Submission {
    handle_contract_pairs: Vec<Pair>,
    request_validity: Validity,
    contracts_chain_id: String,
    contract_addresses: Vec<String>,
    user_address: String,
    /// On the delegated route only.
    delegator_address: Option<String>,
    signature: String,
    public_key: String,
    #[serde(default)]
    extra_data: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Pair {
    handle: String,
    contract_address: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Validity {
    start_timestamp: String,
    duration_days: String,
}

type Submitted = Result<Json<Submission>, JsonRejection>;

pub(super) async fn submit(
    Shared(api): Shared<Arc<Api>>,
    ConnectInfo(client): ConnectInfo<SocketAddr>,
    body: Submitted,
) -> Result<Response, Failure> {
    take(&api, client, body, false).await
}

pub(super) async fn submit_delegated(
    Shared(api): Shared<Arc<Api>>,
    ConnectInfo(client): ConnectInfo<SocketAddr>,
    body: Submitted,
) -> Result<Response, Failure> {
    take(&api, client, body, true).await
}

async fn take(api: &Api, client: SocketAddr, body: Submitted, delegated: bool) -> Result<Response, Failure> {
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
        client: client_key(client.ip()),
    };
    put(api.store.submit_user(new, api.open_pulls, api.open_pulls_per_client).await)
}

/// The request, well-formed field by field.
fn request(body: &Submission, delegated: bool) -> Result<UserRequest, Failure> {
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

pub(super) async fn result(api: Shared<Arc<Api>>, id: Path<String>) -> Result<Response, Failure> {
    collected(&api, &id, false).await
}

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
    let hex = |bytes: &Bytes| format!("0x{}", hex::encode(bytes));
    let shares: Vec<_> = shares
        .iter()
        .map(|stored| &stored.share)
        .map(|s| json!({ "share": hex(&s.share), "signature": hex(&s.signature), "extraData": hex(&s.extra_data) }))
        .collect();
    let end = job.since.saturating_add(i64::try_from(api.collect.as_millis()).unwrap_or(i64::MAX));
    let collecting = job.state == State::Quorum && now_ms() < end;
    let body = json!({
        "status": "succeeded",
        "requestId": job.id,
        "result": { "shares": shares, "collecting": collecting },
    });
    with_retry_after((StatusCode::OK, Json(body)).into_response(), collecting.then_some(1))
}
