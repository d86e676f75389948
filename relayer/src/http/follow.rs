//! Server-sent events: a request's timeline as it grows.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use alloy_primitives::B256;
use axum::Extension;
use axum::extract::{Path, State as Shared};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures::stream::{self, Stream};
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio_util::sync::CancellationToken;

use super::access::Caller;
use super::answers::Failed;
use super::limits::{NoSeat, Seat};
use super::requests::{Timeline, show};
use super::{Api, Failure, hash};
use crate::store::Transition;

/// A line without meaning keeps proxies from closing a quiet connection.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// What parties say moves no state: it is looked for.
const LOOK: Duration = Duration::from_secs(2);
/// Id of the last event. Who comes back with it is told to stay away.
const END: &str = "end";

/// A place for a follower.
pub(super) fn seat(api: &Api, caller: &Caller) -> Result<Seat, Failure> {
    api.seats.take(&caller.client).map_err(|why| match why {
        NoSeat::Full => Failure::busy("too many follow already", 30),
        NoSeat::TooManyOfYours => {
            let message = "you follow as much as you may already";
            let failure = Failure::new(StatusCode::TOO_MANY_REQUESTS, "too_many_followers", message);
            Failure { retry_after: Some(30), ..failure }
        }
    })
}

/// The response that carries events.
pub(super) fn events<S>(stream: S) -> Response
where
    S: Stream<Item = Result<Event, Infallible>> + Send + 'static,
{
    let mut response = Sse::new(stream).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)).into_response();
    // A proxy that collects what it passes on would show nothing for a long time.
    response.headers_mut().insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}

/// A request's timeline as it grows: an event `timeline` now and after every change, an event `end` with the last one.
#[utoipa::path(get, path = "/requests/{id}/events", tag = "requests", operation_id = "follow",
    params(("id" = String, Path, description = "request id or job id, 32 bytes in hex")), responses(
        (status = 200, description = "events `timeline` and `end`, the data of both as `GET /requests/{id}` answers",
            body = Timeline, content_type = "text/event-stream"),
        (status = 204, description = "`Last-Event-ID` says that the end is known already"),
        (status = 400, description = "no request id", body = Failed),
        (status = 404, description = "not seen, or forgotten", body = Failed),
        (status = 429, description = "too many calls or followers of this client", body = Failed,
            headers(("Retry-After" = u64, description = "seconds"))),
        (status = 503, description = "too many followers", body = Failed,
            headers(("Retry-After" = u64, description = "seconds"))),
    ))]
pub(super) async fn request(
    Shared(api): Shared<Arc<Api>>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    let id =
        hash(&id).ok_or_else(|| Failure::bad_request("malformed_request_id", "a request id is 32 bytes in hex"))?;
    let known = api.store.job(id).await.map_err(|e| Failure::internal(&e))?;
    let known = known.ok_or_else(|| Failure::not_found("this relayer has not seen such a request"))?;
    // A browser connects again whenever a stream ends, unless it is told so.
    let last = headers.get("last-event-id").map(HeaderValue::as_bytes);
    if known.state.is_end() && last == Some(END.as_bytes()) {
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    let following = Following {
        _seat: seat(&api, &caller)?,
        moves: api.feed.follow(),
        stopped: api.feed.stopped(),
        api,
        id,
        shown: String::new(),
        ended: false,
    };
    Ok(events(stream::unfold(following, |mut following| async move {
        let event = following.next().await?;
        Some((Ok(event), following))
    })))
}

struct Following {
    api: Arc<Api>,
    id: B256,
    moves: Receiver<Arc<[Transition]>>,
    stopped: CancellationToken,
    /// What was sent last.
    shown: String,
    ended: bool,
    _seat: Seat,
}

impl Following {
    async fn next(&mut self) -> Option<Event> {
        loop {
            if self.ended {
                return None;
            }
            if !self.shown.is_empty() {
                let stopped = self.stopped.clone();
                tokio::select! {
                    () = stopped.cancelled() => return None,
                    () = tokio::time::sleep(LOOK) => {}
                    () = moved(&mut self.moves, self.id) => {}
                }
            }
            let view = match self.api.store.view(self.id).await {
                Ok(Some(view)) => view,
                // Forgotten, or the database is gone: the next connection is told.
                Ok(None) | Err(_) => return None,
            };
            self.ended = view.job.state.is_end();
            let text = serde_json::to_string(&show(view, self.api.committee.threshold())).ok()?;
            if text != self.shown || self.ended {
                self.shown.clone_from(&text);
                let event = Event::default().data(text);
                return Some(if self.ended { event.event(END).id(END) } else { event.event("timeline") });
            }
        }
    }
}

/// Waits for a move of this job, or for a chance that one was missed.
async fn moved(moves: &mut Receiver<Arc<[Transition]>>, id: B256) {
    loop {
        match moves.recv().await {
            Ok(moves) if !is_among(id, &moves) => {}
            Ok(_) | Err(RecvError::Lagged(_)) => return,
            Err(RecvError::Closed) => std::future::pending().await,
        }
    }
}

fn is_among(id: B256, moves: &[Transition]) -> bool {
    moves.iter().any(|made| made.job == id)
}
