//! The OpenAPI document of the API, made from the handlers and their types.

use axum::Json;
use utoipa::OpenApi;

use super::{health, pull, requests, user};

/// The document, as `GET /openapi.json` answers it and `docs/spec/relayer-openapi.json` keeps it.
#[derive(Debug, OpenApi)]
#[openapi(
    info(
        title = "kms-relayer",
        description = "Public decryptions by pull, decryptions for users, and the timeline of every request. Rules, labels \
                       and bounds: docs/spec/relayer-http.md.",
        license(name = "Apache-2.0", identifier = "Apache-2.0")
    ),
    paths(
        pull::submit,
        pull::result,
        user::submit,
        user::result,
        user::submit_delegated,
        user::result_delegated,
        requests::timeline,
        health::live,
        health::ready,
        health::metrics,
        document
    )
)]
pub(super) struct Document;

/// This document.
#[utoipa::path(get, path = "/openapi.json", tag = "operations", operation_id = "openapi",
    responses((status = 200, description = "OpenAPI 3.1", body = Object)))]
pub(super) async fn document() -> Json<utoipa::openapi::OpenApi> {
    Json(Document::openapi())
}
