//! The operator's console: how everything is, in one look, and where each request is. The pages are files of this program.

mod files;
mod overview;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use alloy_primitives::B256;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State as Shared};
use axum::response::Response;
use axum::response::sse::Event;
use axum::{Extension, Json};
use futures::stream;
use serde::{Deserialize, Serialize};
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::Interval;
use tokio_util::sync::CancellationToken;
use utoipa::{IntoParams, ToSchema};

pub(super) use files::files;
pub use overview::Desk;
pub(super) use overview::Overview;

use super::access::Caller;
use super::answers::Failed;
use super::limits::Seat;
use super::requests::{Entry, waiting_for};
use super::{Api, Failure, follow, hash};
use crate::job::Job;
use crate::state::State;
use crate::store::{Listed, Transition};

/// Requests in one answer, if not said otherwise, and at most.
const FEW: usize = 50;
const MANY: usize = 100;
/// Digits of an id that are searched for, at least: fewer would find anything.
const LEAST_DIGITS: usize = 4;
/// Pause between two overviews.
const OVERVIEW_EVERY: Duration = Duration::from_secs(2);

/// Which requests to list.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Wanted {
    /// `open`, `failed`, or the name of a stage; all, if absent.
    stage: Option<String>,
    /// First digits of a request id, at least four.
    search: Option<String>,
    /// `next` of the answer before.
    before: Option<String>,
    /// At most so many, 1 to 100.
    limit: Option<usize>,
}

/// Requests, the one that moved last first.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Requests {
    requests: Vec<Row>,
    /// Where the next answer goes on, if there may be more.
    next: Option<String>,
}

/// A request among others.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Row {
    #[schema(value_type = String)]
    request_id: B256,
    chain_id: u64,
    kind: &'static str,
    stage: &'static str,
    since: i64,
    created_at: i64,
    waiting_for: Option<String>,
    /// Why it ended without an answer.
    reason: Option<String>,
    timeline: Vec<Entry>,
}

impl Row {
    fn new(job: Job, timeline: Vec<Entry>) -> Self {
        let why = job.detail.as_ref().or(job.reason.as_ref()).cloned();
        Self {
            request_id: job.id,
            chain_id: job.chain,
            kind: job.payload.kind(),
            stage: job.state.as_str(),
            since: job.since,
            created_at: job.created_at,
            waiting_for: waiting_for(&job),
            reason: why.filter(|_| FAILED.contains(&job.state)),
            timeline,
        }
    }
}

const FAILED: [State; 4] = [State::Refused, State::Expired, State::Cancelled, State::Orphaned];

fn states(stage: Option<&str>) -> Option<Vec<State>> {
    Some(match stage {
        None => Vec::new(),
        Some("open") => State::ALL.into_iter().filter(|state| !state.is_end()).collect(),
        Some("failed") => FAILED.to_vec(),
        Some(name) => vec![State::parse(name)?],
    })
}

/// The ids that begin with these digits.
fn ids(search: &str) -> Option<std::ops::RangeInclusive<B256>> {
    let digits = search.trim();
    let digits = digits.strip_prefix("0x").unwrap_or(digits);
    let fits = (LEAST_DIGITS..=64).contains(&digits.len()) && digits.is_ascii();
    let end = |filler: &str| hash(&format!("{digits}{}", filler.repeat(64 - digits.len())));
    if fits { Some(end("0")?..=end("f")?) } else { None }
}

fn place(before: &str) -> Option<(i64, B256)> {
    let (since, id) = before.split_once('.')?;
    Some((since.parse().ok()?, hash(id)?))
}

/// Recent requests with their timelines.
#[utoipa::path(get, path = "/console/api/requests", tag = "console", operation_id = "listRequests", params(Wanted),
    security(("bearer" = []), ("apiKey" = [])), responses(
        (status = 200, description = "requests, the one that moved last first; those that were searched for by id",
            body = Requests),
        (status = 400, description = "a parameter that is none", body = Failed),
        (status = 401, description = "the console wants an operator's key", body = Failed),
        (status = 403, description = "the key is not an operator's, or there is none", body = Failed),
        (status = 429, description = "too many calls", body = Failed,
            headers(("Retry-After" = u64, description = "seconds"))),
    ))]
pub(super) async fn requests(
    Shared(api): Shared<Arc<Api>>,
    wanted: Result<Query<Wanted>, QueryRejection>,
) -> Result<Json<Requests>, Failure> {
    let wrong = |message: &str| Failure::bad_request("malformed_query", message);
    let Query(wanted) = wanted.map_err(|rejection| wrong(&rejection.body_text()))?;
    let limit = wanted.limit.unwrap_or(FEW);
    if !(1..=MANY).contains(&limit) {
        return Err(wrong("limit is 1 to 100"));
    }
    let jobs = if let Some(search) = &wanted.search {
        let ids = ids(search).ok_or_else(|| wrong("search is 4 to 64 hex digits"))?;
        api.store.find(ids, limit).await
    } else {
        let states = states(wanted.stage.as_deref()).ok_or_else(|| wrong("there is no such stage"))?;
        let before = match &wanted.before {
            Some(text) => Some(place(text).ok_or_else(|| wrong("before is what next was"))?),
            None => None,
        };
        api.store.list(&Listed { states, before, limit }).await
    };
    let jobs = jobs.map_err(|e| Failure::internal(&e))?;
    let last = jobs.last().filter(|_| jobs.len() == limit && wanted.search.is_none());
    let next = last.map(|job| format!("{}.{}", job.since, job.id));
    let shown: Vec<B256> = jobs.iter().map(|job| job.id).collect();
    let mut moves: BTreeMap<_, _> = api.store.moves(&shown).await.map_err(|e| Failure::internal(&e))?;
    let row = |job: Job| {
        let timeline = moves.remove(&job.id).unwrap_or_default().into_iter().map(Entry::from).collect();
        Row::new(job, timeline)
    };
    Ok(Json(Requests { requests: jobs.into_iter().map(row).collect(), next }))
}

/// How everything is.
#[utoipa::path(get, path = "/console/api/overview", tag = "console", operation_id = "overview",
    security(("bearer" = []), ("apiKey" = [])), responses(
        (status = 200, description = "chains, parties, queue, accounts", body = Overview),
        (status = 401, description = "the console wants an operator's key", body = Failed),
        (status = 403, description = "the key is not an operator's, or there is none", body = Failed),
        (status = 429, description = "too many calls", body = Failed,
            headers(("Retry-After" = u64, description = "seconds"))),
    ))]
pub(super) async fn overview(Shared(api): Shared<Arc<Api>>) -> Result<Json<Overview>, Failure> {
    Overview::of(&api).await.map(Json).map_err(|e| Failure::internal(&e))
}

/// A move of a request.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Move {
    #[schema(value_type = String)]
    request_id: B256,
    stage: &'static str,
    at: i64,
}

/// What happens: an event `overview` now and then, an event `moves` whenever requests move.
#[utoipa::path(get, path = "/console/api/events", tag = "console", operation_id = "events",
    security(("bearer" = []), ("apiKey" = [])), responses(
        (status = 200, description = "events `overview`, as `GET /console/api/overview` answers, and `moves`, a list",
            body = Vec<Move>, content_type = "text/event-stream"),
        (status = 401, description = "the console wants an operator's key", body = Failed),
        (status = 403, description = "the key is not an operator's, or there is none", body = Failed),
        (status = 429, description = "too many calls or followers", body = Failed,
            headers(("Retry-After" = u64, description = "seconds"))),
        (status = 503, description = "too many followers", body = Failed,
            headers(("Retry-After" = u64, description = "seconds"))),
    ))]
pub(super) async fn events(
    Shared(api): Shared<Arc<Api>>,
    Extension(caller): Extension<Caller>,
) -> Result<Response, Failure> {
    let watching = Watching {
        _seat: follow::seat(&api, &caller)?,
        moves: api.feed.follow(),
        stopped: api.feed.stopped(),
        every: tokio::time::interval(OVERVIEW_EVERY),
        api,
    };
    Ok(follow::events(stream::unfold(watching, |mut watching| async move {
        let event = watching.next().await?;
        Some((Ok(event), watching))
    })))
}

struct Watching {
    api: Arc<Api>,
    moves: Receiver<Arc<[Transition]>>,
    stopped: CancellationToken,
    every: Interval,
    _seat: Seat,
}

impl Watching {
    async fn next(&mut self) -> Option<Event> {
        let stopped = self.stopped.clone();
        let moves = tokio::select! {
            () = stopped.cancelled() => return None,
            _ = self.every.tick() => {
                let overview = Overview::of(&self.api).await.ok()?;
                return Event::default().event("overview").json_data(overview).ok();
            }
            moves = self.moves.recv() => match moves {
                Ok(moves) => moves,
                // Some were missed: whoever hears of any reads the list again.
                Err(RecvError::Lagged(_)) => Arc::from([]),
                Err(RecvError::Closed) => return None,
            },
        };
        let made = |made: &Transition| Move { request_id: made.job, stage: made.state.as_str(), at: made.at };
        Event::default().event("moves").json_data(moves.iter().map(made).collect::<Vec<_>>()).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_digits_of_an_id_mean_a_range() {
        let range = ids(" 0xAbc12 ").unwrap();
        assert!(range.start().to_string().starts_with("0xabc120000"));
        assert!(range.end().to_string().starts_with("0xabc12ffff"));
        let whole = B256::repeat_byte(7);
        assert_eq!(ids(&whole.to_string()), Some(whole..=whole));
        for wrong in ["", "0x", "abc", "abcg", "ééé", &"a".repeat(65)] {
            assert_eq!(ids(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn stages_have_names_and_two_groups() {
        assert_eq!(states(None), Some(Vec::new()));
        assert_eq!(states(Some("mined")), Some(vec![State::Mined]));
        assert_eq!(states(Some("gone")), None);
        let (open, failed) = (states(Some("open")).unwrap(), states(Some("failed")).unwrap());
        assert_eq!(open.len() + failed.len() + 1, State::ALL.len(), "and what is done");
        assert!(open.iter().all(|state| !failed.contains(state) && *state != State::Done));
    }

    #[test]
    fn a_place_in_the_list_is_read_back() {
        let id = B256::repeat_byte(9);
        assert_eq!(place(&format!("17.{id}")), Some((17, id)));
        for wrong in ["", "17", "17.", "x.0x", &format!("{id}.17")] {
            assert_eq!(place(wrong), None);
        }
    }
}
