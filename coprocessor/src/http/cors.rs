//! What a browser wants to hear before a page of another origin may read our answers.
//!
//! Everything served here is public and no call carries cookies, so every origin may. Pages that compute with tfhe's
//! WebAssembly are cross-origin isolated and take only answers that say who may have them.

use axum::{
    extract::Request,
    http::{HeaderValue, Method, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};

const EVERYWHERE: [(header::HeaderName, &str); 3] = [
    (header::ACCESS_CONTROL_ALLOW_ORIGIN, "*"),
    (header::ACCESS_CONTROL_EXPOSE_HEADERS, "retry-after, etag"),
    (header::HeaderName::from_static("cross-origin-resource-policy"), "cross-origin"),
];
const PREFLIGHT: [(header::HeaderName, &str); 3] = [
    (header::ACCESS_CONTROL_ALLOW_METHODS, "GET, POST"),
    (header::ACCESS_CONTROL_ALLOW_HEADERS, "content-type, if-none-match"),
    (header::ACCESS_CONTROL_MAX_AGE, "86400"),
];

/// Answers what browsers ask beforehand, and adds to every answer that every origin may read it.
pub(super) async fn for_every_origin(request: Request, next: Next) -> Response {
    let mut response = if request.method() == Method::OPTIONS {
        (StatusCode::NO_CONTENT, PREFLIGHT).into_response()
    } else {
        next.run(request).await
    };
    for (name, value) in EVERYWHERE {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}
