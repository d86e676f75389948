//! What the API answers with, as types: the OpenAPI document is made of them.

use alloy_primitives::{B256, Bytes};
use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::{IntoResponses, ToSchema};

use super::with_retry_after;
use crate::job::Job;
use crate::store::{StoredAnswer, StoredShare};

/// What has become of a job.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum Status {
    /// Under way.
    Queued,
    /// There is a result.
    Succeeded,
    /// There is none.
    Failed,
}

/// 202: under way.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Queued {
    #[schema(inline)]
    status: Status,
    /// Id of the request, 32 bytes in hex.
    request_id: String,
    result: QueuedJob,
}

/// Where to ask for the result.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct QueuedJob {
    /// Equal requests have the same.
    job_id: String,
}

impl Queued {
    /// The response, with seconds after which to come again.
    pub(super) fn response(job: B256, retry_after: u64) -> Response {
        let id = job.to_string();
        let body = Self { status: Status::Queued, request_id: id.clone(), result: QueuedJob { job_id: id } };
        with_retry_after((StatusCode::ACCEPTED, Json(body)).into_response(), Some(retry_after))
    }
}

/// 200 of a public decryption.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct PublicAnswer {
    #[schema(inline)]
    status: Status,
    /// Id of the request.
    request_id: String,
    result: PublicResult,
}

/// Cleartexts and the signatures that prove them.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct PublicResult {
    /// One word per handle, in hex without 0x.
    decrypted_value: String,
    /// At least a threshold of signatures that agree, in hex without 0x.
    signatures: Vec<String>,
    /// Extra data that was signed.
    extra_data: String,
}

impl PublicAnswer {
    /// The answer of the parties that agree.
    pub(super) fn new(job: &Job, group: &[&StoredAnswer]) -> Self {
        let (value, extra) =
            group.first().map(|s| (s.answer.cleartexts.clone(), s.answer.extra_data.clone())).unwrap_or_default();
        // Bare hex, as existing clients read it.
        let signatures = group.iter().map(|stored| hex::encode(stored.answer.signature)).collect();
        let result = PublicResult { decrypted_value: hex::encode(value), signatures, extra_data: prefixed(&extra) };
        Self { status: Status::Succeeded, request_id: job.id.to_string(), result }
    }
}

/// 200 of a user decryption: at least 2t + 1 shares that can be put together.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct UserAnswer {
    #[schema(inline)]
    status: Status,
    /// Id of the request.
    request_id: String,
    result: Shares,
}

/// What has been collected.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Shares {
    /// Those of the largest group first.
    shares: Vec<Share>,
    /// Whether a later read may hold more.
    collecting: bool,
}

/// A party's sealed share, which only the user can open.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Share {
    /// The envelope.
    share: String,
    /// The party's signature over it.
    signature: String,
    /// Extra data that was signed.
    extra_data: String,
}

impl UserAnswer {
    /// What is stored of a job.
    pub(super) fn new(job: &Job, shares: &[StoredShare], collecting: bool) -> Self {
        let share = |stored: &StoredShare| Share {
            share: prefixed(&stored.share.share),
            signature: prefixed(&stored.share.signature),
            extra_data: prefixed(&stored.share.extra_data),
        };
        let result = Shares { shares: shares.iter().map(share).collect(), collecting };
        Self { status: Status::Succeeded, request_id: job.id.to_string(), result }
    }
}

/// An error.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Failed {
    #[schema(inline)]
    pub(super) status: Status,
    /// Id of the request, if it is one that failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) request_id: Option<String>,
    pub(super) error: Problem,
}

/// What went wrong.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Problem {
    /// Stable.
    pub(super) label: String,
    /// For people.
    pub(super) message: String,
}

impl Failed {
    /// A job that ended without a result.
    pub(super) fn of(job: &Job, label: &str) -> Self {
        let label = job.reason.as_deref().unwrap_or(label).to_owned();
        let message = job.detail.as_deref().unwrap_or("the decryption did not succeed").to_owned();
        Self { status: Status::Failed, request_id: Some(job.id.to_string()), error: Problem { label, message } }
    }
}

/// What every call that asks for a decryption may be answered with.
#[derive(Debug, IntoResponses)]
#[allow(dead_code, reason = "the document alone is made of it")]
pub(super) enum Asked {
    /// recorded, or known
    #[response(status = 202, headers(("Retry-After" = u64, description = "seconds")))]
    Queued(Queued),
    /// a rule is broken, or the chain does not permit it
    #[response(status = 400)]
    Wrong(Failed),
    /// a key is needed, or not known
    #[response(status = 401)]
    NoKey(Failed),
    /// the body is too large
    #[response(status = 413)]
    TooLarge(Failed),
    /// too many calls or jobs of this client
    #[response(status = 429, headers(("Retry-After" = u64, description = "seconds")))]
    TooMany(Failed),
    /// too many jobs, about to restart, or the chain can't be asked
    #[response(status = 503, headers(("Retry-After" = u64, description = "seconds")))]
    Busy(Failed),
}

/// What every call that reads a decryption may be answered with, besides its result.
#[derive(Debug, IntoResponses)]
#[allow(dead_code, reason = "the document alone is made of it")]
pub(super) enum Unread {
    /// under way
    #[response(status = 202, headers(("Retry-After" = u64, description = "seconds")))]
    Queued(Queued),
    /// refused by the parties, or no job id
    #[response(status = 400)]
    Refused(Failed),
    /// a key is needed, or not known
    #[response(status = 401)]
    NoKey(Failed),
    /// no such job on this route, or forgotten
    #[response(status = 404)]
    Missing(Failed),
    /// too many calls of this client
    #[response(status = 429, headers(("Retry-After" = u64, description = "seconds")))]
    TooMany(Failed),
    /// the parties did not answer in time
    #[response(status = 504)]
    Late(Failed),
}

/// Whether the process lives.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Health {
    /// Always `ok`.
    pub(super) status: &'static str,
}

/// Whether it can do its work.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Readiness {
    /// `ready` or `not-ready`.
    pub(super) status: &'static str,
    /// What keeps it from its work.
    pub(super) problems: Vec<String>,
}

fn prefixed(bytes: &Bytes) -> String {
    format!("0x{}", hex::encode(bytes))
}
