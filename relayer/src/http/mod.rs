//! The HTTP API: public decryptions by pull, decryptions for users, and the timeline of every request.

mod access;
mod answers;
mod body;
mod console;
mod cors;
mod follow;
mod health;
mod limits;
mod openapi;
mod pull;
mod requests;
mod user;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use alloy_primitives::Address;
use axum::extract::{DefaultBodyLimit, MatchedPath, Request, State as Shared};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get, post};
use axum::{Json, Router};
use kms_chain::follower::FollowerStatus;
use tokio::sync::watch;

pub use access::{Access, new_key};
use answers::{Failed, Problem, Status};
pub use console::Desk;
pub use limits::{RateLimit, Seats};

use crate::dispatch::Committee;
use crate::feed::Feed;
use crate::store::Store;
use crate::views::Judge;

/// What the handlers share.
#[derive(Debug)]
pub struct Api {
    /// Database.
    pub store: Store,
    /// The parties.
    pub committee: Arc<dyn Committee>,
    /// Condition of each chain's follower.
    pub followers: BTreeMap<u64, watch::Receiver<FollowerStatus>>,
    /// Keys, and who sees the console.
    pub access: Access,
    /// Calls per client without a key.
    pub rate: RateLimit,
    /// Places for followers.
    pub seats: Arc<Seats>,
    /// What moves.
    pub feed: Feed,
    /// What operators look at.
    pub desk: Desk,
    /// Largest body.
    pub body_bytes: usize,
    /// Most open pull jobs.
    pub open_pulls: u64,
    /// Most open pull jobs of one client.
    pub open_pulls_per_client: u64,
    /// Seconds after which a pull job is given up.
    pub pull_timeout_s: u64,
    /// Contract of the domain that parties sign in: a permit is signed for it.
    pub decryption_contract: Address,
    /// Refuses early what the parties would refuse.
    pub judge: Judge,
    /// How long shares are collected when there are enough of them.
    pub collect: Duration,
    /// Set when the process is about to end.
    pub draining: AtomicBool,
}

/// Decryptions, by path: calls are limited per client, and may be for holders of keys only.
fn decryptions() -> [(&'static str, MethodRouter<Arc<Api>>); 6] {
    [
        ("/v2/public-decrypt", post(pull::submit)),
        ("/v2/public-decrypt/{job}", get(pull::result)),
        ("/v2/user-decrypt", post(user::submit)),
        ("/v2/user-decrypt/{job}", get(user::result)),
        ("/v2/delegated-user-decrypt", post(user::submit_delegated)),
        ("/v2/delegated-user-decrypt/{job}", get(user::result_delegated)),
    ]
}

/// Public facts about requests: calls are limited per client.
fn facts() -> [(&'static str, MethodRouter<Arc<Api>>); 2] {
    [("/requests/{id}", get(requests::timeline)), ("/requests/{id}/events", get(follow::request))]
}

/// What operators see: calls are limited per client, and want an operator's key unless the console is open.
fn operators() -> [(&'static str, MethodRouter<Arc<Api>>); 3] {
    [
        ("/console/api/overview", get(console::overview)),
        ("/console/api/requests", get(console::requests)),
        ("/console/api/events", get(console::events)),
    ]
}

/// The others.
fn unlimited() -> [(&'static str, MethodRouter<Arc<Api>>); 4] {
    [
        ("/healthz", get(health::live)),
        ("/readyz", get(health::ready)),
        ("/metrics", get(health::metrics)),
        ("/openapi.json", get(openapi::document)),
    ]
}

fn routes<const N: usize>(routes: [(&'static str, MethodRouter<Arc<Api>>); N]) -> Router<Arc<Api>> {
    routes.into_iter().fold(Router::new(), |router, (path, handler)| router.route(path, handler))
}

/// The routes.
pub fn router(api: Arc<Api>) -> Router {
    let keyed = routes(decryptions()).route_layer(middleware::from_fn_with_state(api.clone(), access::keyed));
    let mut limited = keyed.merge(routes(facts()));
    let mut unlimited = routes(unlimited());
    if api.access.has_console() {
        let operators = middleware::from_fn_with_state(api.clone(), access::operators);
        limited = limited.merge(routes(self::operators()).route_layer(operators));
        unlimited = unlimited.merge(console::files());
    }
    Router::new()
        .merge(limited.route_layer(middleware::from_fn_with_state(api.clone(), access::limit)))
        .merge(unlimited)
        .fallback(async || Failure::not_found("there is nothing at this path"))
        .layer(DefaultBodyLimit::max(api.body_bytes))
        .layer(middleware::from_fn(cors::open))
        .layer(middleware::from_fn_with_state(api.clone(), count))
        .with_state(api)
}

/// A typed error. Labels are stable; messages are for people.
#[derive(Debug, Clone)]
pub struct Failure {
    status: StatusCode,
    label: &'static str,
    message: String,
    retry_after: Option<u64>,
}

impl Failure {
    fn new(status: StatusCode, label: &'static str, message: impl Into<String>) -> Self {
        Self { status, label, message: message.into(), retry_after: None }
    }

    fn bad_request(label: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, label, message)
    }

    fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", message)
    }

    fn busy(message: impl Into<String>, seconds: u64) -> Self {
        let failure = Self::new(StatusCode::SERVICE_UNAVAILABLE, "overloaded", message);
        Self { retry_after: Some(seconds), ..failure }
    }

    fn internal(error: &crate::error::Error) -> Self {
        tracing::error!(%error, "an HTTP request failed");
        // What went wrong inside is nobody else's business.
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal_error", "the relayer has a problem; try again later")
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let error = Problem { label: self.label.to_owned(), message: self.message };
        let body = Failed { status: Status::Failed, request_id: None, error };
        let mut response = with_retry_after((self.status, Json(body)).into_response(), self.retry_after);
        if self.status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

/// Adds `Retry-After`, 1 to 300 seconds.
fn with_retry_after(mut response: Response, seconds: Option<u64>) -> Response {
    if let Some(seconds) = seconds {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds.clamp(1, 300)));
    }
    response
}

async fn count(Shared(api): Shared<Arc<Api>>, request: Request, next: Next) -> Response {
    let route = request.extensions().get::<MatchedPath>().map_or("other".to_owned(), |path| path.as_str().to_owned());
    let response = next.run(request).await;
    api.store.metrics().http(&route, response.status().as_u16());
    response
}

/// Reads 32 bytes in hex, with or without 0x.
fn hash(text: &str) -> Option<alloy_primitives::B256> {
    let digits = text.strip_prefix("0x").unwrap_or(text);
    if digits.len() != 64 {
        return None;
    }
    hex::decode(digits).ok().and_then(|bytes| alloy_primitives::B256::try_from(bytes.as_slice()).ok())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use utoipa::OpenApi;

    use super::*;

    #[test]
    fn every_route_is_documented_and_nothing_else() {
        let document = openapi::Document::openapi();
        let documented: BTreeSet<&str> = document.paths.paths.keys().map(String::as_str).collect();
        let routes: BTreeSet<&str> =
            [&decryptions()[..], &facts(), &operators(), &unlimited()].concat().iter().map(|(path, _)| *path).collect();
        assert_eq!(documented, routes);
        for (path, item) in &document.paths.paths {
            // A path without a job is asked, one with a job is read.
            let asks = path.starts_with("/v2/") && !path.contains('{');
            assert_eq!((item.post.is_some(), item.get.is_some()), (asks, !asks), "{path}");
        }
        let mut ids = BTreeSet::new();
        let operations = document.paths.paths.values().flat_map(|item| [&item.get, &item.post]).flatten();
        for operation in operations {
            assert!(ids.insert(operation.operation_id.clone()), "{:?} stands twice", operation.operation_id);
        }
    }
}
