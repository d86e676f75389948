//! Condition of the process.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::Json;
use axum::extract::State as Shared;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::Api;
use super::answers::{Health, Readiness};
use crate::store::follow_lead;

/// Whether the process lives.
#[utoipa::path(get, path = "/healthz", tag = "operations", operation_id = "health",
    responses((status = 200, description = "it lives", body = Health)))]
pub(super) async fn live() -> Json<Health> {
    Json(Health { status: "ok" })
}

/// Ready: the database answers, every chain is followed up to its head, and the process is not about to end.
#[utoipa::path(get, path = "/readyz", tag = "operations", operation_id = "readiness", responses(
    (status = 200, description = "ready", body = Readiness),
    (status = 503, description = "not ready", body = Readiness),
))]
pub(super) async fn ready(Shared(api): Shared<Arc<Api>>) -> Response {
    let problems = problems(&api).await;
    let (code, status) =
        if problems.is_empty() { (StatusCode::OK, "ready") } else { (StatusCode::SERVICE_UNAVAILABLE, "not-ready") };
    (code, Json(Readiness { status, problems })).into_response()
}

/// What keeps the process from its work.
pub(super) async fn problems(api: &Api) -> Vec<String> {
    let mut problems = Vec::new();
    if api.draining.load(Ordering::Relaxed) {
        problems.push("draining".to_owned());
    }
    if let Err(error) = api.store.ping().await {
        tracing::error!(%error, "the database does not answer");
        problems.push("the database does not answer".to_owned());
    }
    for (chain, status) in &api.followers {
        if api.store.leads(&follow_lead(*chain)) == Some(false) {
            // Another relayer of this database follows the chain, and this one stands by.
            continue;
        }
        let status = status.borrow().clone();
        match status.error {
            Some(error) => problems.push(format!("chain {chain}: {error}")),
            None if status.rounds == 0 => problems.push(format!("chain {chain}: not looked at yet")),
            None => {}
        }
    }
    problems
}

/// For Prometheus.
#[utoipa::path(get, path = "/metrics", tag = "operations", operation_id = "metrics",
    responses((status = 200, description = "Prometheus text", body = String,
        content_type = "text/plain; version=0.0.4")))]
pub(super) async fn metrics(Shared(api): Shared<Arc<Api>>) -> Response {
    match api.store.count_by_state().await {
        Ok(counts) => api.store.metrics().jobs(&counts),
        Err(error) => tracing::warn!(%error, "jobs can't be counted"),
    }
    match api.store.oldest().await {
        Ok(since) => api.store.metrics().oldest(&since),
        Err(error) => tracing::warn!(%error, "the oldest jobs can't be found"),
    }
    for (chain, status) in &api.followers {
        let follows = api.store.leads(&follow_lead(*chain)) != Some(false);
        api.store.metrics().follows(*chain, follows);
        let status = status.borrow();
        // Whoever stands by looks at nothing.
        api.store.metrics().chain_up(*chain, !follows || status.rounds > 0 && status.error.is_none());
        if follows {
            api.store.metrics().follower(*chain, status.cursor, status.head);
        }
    }
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], api.store.metrics().render()).into_response()
}
