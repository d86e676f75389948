//! `GET /requests/{id}`: where a request stands, since when, and what it waits for.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State as Shared};
use serde::Serialize;
use utoipa::ToSchema;

use super::answers::Failed;
use super::{Api, Failure, hash};
use crate::job::{Job, Payload};
use crate::state::State;
use crate::store::{TimelineRow, View, largest_group};

/// The public timeline of a request.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Timeline {
    #[schema(value_type = String)]
    request_id: alloy_primitives::B256,
    chain_id: u64,
    kind: &'static str,
    stage: &'static str,
    since: i64,
    waiting_for: Option<String>,
    deadline: u64,
    fee: String,
    callback: Option<String>,
    timeline: Vec<Entry>,
    parties: Vec<Party>,
    transactions: Vec<Transaction>,
    /// In hex, once they are known.
    #[schema(value_type = Option<String>)]
    cleartexts: Option<alloy_primitives::Bytes>,
    /// Addresses whose signatures are used.
    #[schema(value_type = Vec<String>)]
    signers: Vec<alloy_primitives::Address>,
    mpc_ms: Option<f64>,
}

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Entry {
    stage: String,
    at: i64,
    detail: Option<String>,
}

impl From<TimelineRow> for Entry {
    fn from(row: TimelineRow) -> Self {
        Self { stage: row.state, at: row.at, detail: row.detail }
    }
}

#[derive(Debug, Serialize, ToSchema)]
struct Party {
    index: u32,
    status: String,
    at: i64,
    detail: Option<String>,
}

#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Transaction {
    #[schema(value_type = String)]
    hash: alloy_primitives::B256,
    state: String,
    gas_used: Option<u64>,
}

/// Where a request stands, since when, and what it waits for.
#[utoipa::path(get, path = "/requests/{id}", tag = "requests", operation_id = "timeline",
    params(("id" = String, Path, description = "request id or job id, 32 bytes in hex")), responses(
        (status = 200, description = "the timeline", body = Timeline),
        (status = 400, description = "no request id", body = Failed),
        (status = 404, description = "not seen, or forgotten", body = Failed),
        (status = 429, description = "too many calls of this client", body = Failed,
            headers(("Retry-After" = u64, description = "seconds"))),
    ))]
pub(super) async fn timeline(Shared(api): Shared<Arc<Api>>, Path(id): Path<String>) -> Result<Json<Timeline>, Failure> {
    let id =
        hash(&id).ok_or_else(|| Failure::bad_request("malformed_request_id", "a request id is 32 bytes in hex"))?;
    match api.store.view(id).await {
        Ok(Some(view)) => Ok(Json(show(view, api.committee.threshold()))),
        Ok(None) => Err(Failure::not_found("this relayer has not seen such a request")),
        Err(error) => Err(Failure::internal(&error)),
    }
}

pub(super) fn show(view: View, threshold: usize) -> Timeline {
    let job = &view.job;
    let group = largest_group(&view.answers);
    Timeline {
        request_id: job.id,
        chain_id: job.chain,
        kind: job.payload.kind(),
        stage: job.state.as_str(),
        since: job.since,
        waiting_for: waiting_for(job),
        deadline: job.deadline,
        fee: job.fee.to_string(),
        callback: job.callback.clone(),
        cleartexts: job.cleartexts.clone(),
        signers: group.iter().take(threshold).map(|stored| stored.answer.signer).collect(),
        mpc_ms: view.mpc_micros.map(|micros| micros as f64 / 1000.0),
        timeline: view.timeline.into_iter().map(Entry::from).collect(),
        parties: view
            .parties
            .into_iter()
            .map(|row| Party { index: row.party, status: row.status, at: row.at, detail: row.detail })
            .collect(),
        transactions: view
            .transactions
            .into_iter()
            .map(|row| Transaction { hash: row.hash, state: row.state, gas_used: row.gas_used })
            .collect(),
    }
}

pub(super) fn waiting_for(job: &Job) -> Option<String> {
    let general = match job.state {
        State::Seen => "the finality that the request asks for",
        State::Final => "a free worker",
        State::Dispatched => "answers of the parties",
        State::Quorum if matches!(job.payload, Payload::UserDecrypt(_)) => "the shares of the other parties",
        State::Quorum => "its transaction",
        State::Submitting => "its transaction to be mined",
        State::Mined => "blocks on top of the answer",
        State::Orphaned => "the request to be part of the chain again",
        State::Done | State::Expired | State::Cancelled | State::Refused => return None,
    };
    Some(
        job.detail
            .clone()
            .filter(|_| matches!(job.state, State::Dispatched | State::Quorum))
            .unwrap_or_else(|| general.into()),
    )
}
