//! The OpenAPI document of the API, made from the handlers and their types.

use axum::Json;
use utoipa::Modify;
use utoipa::OpenApi as _;
use utoipa::openapi::OpenApi;
use utoipa::openapi::security::{ApiKey, ApiKeyValue, Http, HttpAuthScheme, SecurityScheme};

use super::{access, console, follow, health, pull, requests, user};

/// The document, as `GET /openapi.json` answers it and `docs/spec/relayer-openapi.json` keeps it.
#[derive(Debug, utoipa::OpenApi)]
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
        follow::request,
        console::overview,
        console::requests,
        console::events,
        health::live,
        health::ready,
        health::metrics,
        document
    ),
    modifiers(&Keys)
)]
pub(super) struct Document;

/// How keys are sent.
struct Keys;

impl Modify for Keys {
    fn modify(&self, document: &mut OpenApi) {
        let components = document.components.get_or_insert_default();
        let bearer = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
        let header = SecurityScheme::ApiKey(ApiKey::Header(ApiKeyValue::new(access::KEY_HEADER)));
        components.add_security_scheme("bearer", bearer);
        components.add_security_scheme("apiKey", header);
    }
}

/// This document.
#[utoipa::path(get, path = "/openapi.json", tag = "operations", operation_id = "openapi",
    responses((status = 200, description = "OpenAPI 3.1", body = Object)))]
pub(super) async fn document() -> Json<OpenApi> {
    Json(Document::openapi())
}
