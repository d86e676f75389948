//! An OpenTelemetry collector in this process: OTLP over HTTP.

use std::sync::{Arc, Mutex};

use axum::extract::State;
use bytes::Bytes;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;

/// What it has got so far.
pub(crate) struct Collector {
    pub(crate) url: String,
    spans: Arc<Mutex<Vec<Span>>>,
}

impl Collector {
    pub(crate) async fn start() -> Self {
        async fn take(State(spans): State<Arc<Mutex<Vec<Span>>>>, body: Bytes) {
            let batch = ExportTraceServiceRequest::decode(body).unwrap();
            let scopes = batch.resource_spans.into_iter().flat_map(|resource| resource.scope_spans);
            spans.lock().unwrap().extend(scopes.flat_map(|scope| scope.spans));
        }
        let spans = Arc::<Mutex<Vec<Span>>>::default();
        let router = axum::Router::new().route("/v1/traces", axum::routing::post(take)).with_state(spans.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { url, spans }
    }

    /// The spans of that name.
    pub(crate) fn named(&self, name: &str) -> Vec<Span> {
        self.spans.lock().unwrap().iter().filter(|span| span.name == name).cloned().collect()
    }
}
