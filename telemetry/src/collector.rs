//! For tests: an OpenTelemetry collector in this process, which speaks OTLP over HTTP.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::post;
use bytes::Bytes;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, Span};
use prost::Message;

/// A span, and whose it is.
#[derive(Debug, Clone)]
pub struct Received {
    /// `service.name` and `service.instance.id` of its process.
    pub from: (String, String),
    /// What it sent.
    pub span: Span,
}

type Shared = Arc<Mutex<Vec<Received>>>;

/// Takes what processes send to it, as long as its runtime lives.
#[derive(Debug)]
pub struct Collector {
    /// The base URL.
    pub url: String,
    received: Shared,
}

impl Collector {
    /// Starts on a free port.
    ///
    /// # Errors
    /// There is none.
    pub async fn start() -> io::Result<Self> {
        let received = Shared::default();
        let router = axum::Router::new().route("/v1/traces", post(take)).with_state(received.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}", listener.local_addr()?);
        tokio::spawn(async move { axum::serve(listener, router).await });
        Ok(Self { url, received })
    }

    /// The spans of that name so far.
    #[must_use]
    pub fn named(&self, name: &str) -> Vec<Received> {
        let received = self.received.lock().unwrap_or_else(PoisonError::into_inner);
        received.iter().filter(|received| received.span.name == name).cloned().collect()
    }
}

async fn take(State(received): State<Shared>, body: Bytes) -> StatusCode {
    let Ok(batch) = ExportTraceServiceRequest::decode(body) else { return StatusCode::BAD_REQUEST };
    let spans = batch.resource_spans.into_iter().flat_map(|resource| {
        let from = (attribute(&resource, "service.name"), attribute(&resource, "service.instance.id"));
        let spans = resource.scope_spans.into_iter().flat_map(|scope| scope.spans);
        spans.map(move |span| Received { from: from.clone(), span })
    });
    received.lock().unwrap_or_else(PoisonError::into_inner).extend(spans);
    StatusCode::OK
}

/// What a process says about itself; empty if it says nothing.
fn attribute(resource: &ResourceSpans, key: &str) -> String {
    let attributes = resource.resource.iter().flat_map(|resource| &resource.attributes);
    let value = attributes.filter(|a| a.key == key).find_map(|a| a.value.as_ref()?.value.as_ref());
    if let Some(Value::StringValue(text)) = value { text.clone() } else { String::new() }
}
