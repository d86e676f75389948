use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use alloy_primitives::B256;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::trace::v1::Span as Sent;
use prost::Message;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::*;
use crate::{Moment, Past, TraceParent, adopt, inject};

/// A collector in this process, which fails the first batches.
async fn collector(failures: usize) -> (String, UnboundedReceiver<ExportTraceServiceRequest>) {
    type Shared = Arc<(UnboundedSender<ExportTraceServiceRequest>, AtomicUsize)>;
    async fn take(State(shared): State<Shared>, headers: HeaderMap, body: Bytes) -> StatusCode {
        let (send, failures) = &*shared;
        if failures.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1)).is_ok() {
            return StatusCode::SERVICE_UNAVAILABLE;
        }
        assert_eq!(headers["content-type"], "application/x-protobuf");
        let _ = send.send(ExportTraceServiceRequest::decode(body).unwrap());
        StatusCode::OK
    }
    let (send, receive) = unbounded_channel();
    let router = axum::Router::new()
        .route("/otlp/v1/traces", post(take))
        .with_state(Arc::new((send, AtomicUsize::new(failures))));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/otlp/", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });
    (url, receive)
}

fn config(endpoint: &str, sample: f64) -> TracesConfig {
    TracesConfig { endpoint: endpoint.into(), sample }
}

fn attribute<'a>(span: &'a Sent, key: &str) -> Option<&'a str> {
    use opentelemetry_proto::tonic::common::v1::any_value::Value;
    let value = span.attributes.iter().find(|a| a.key == key)?.value.as_ref()?.value.as_ref()?;
    if let Value::StringValue(text) = value { Some(text) } else { None }
}

/// The two halves of a call, and what is told afterwards, as a collector gets them: one trace, whose id follows from the
/// request, and one tree.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_is_one_tree_at_the_collector() {
    let request = B256::repeat_byte(0xab);
    let (url, mut received) = collector(1).await;
    let traces = Traces::connect(&config(&url, 1.0), "kms-test", "one").unwrap();
    let subscriber = tracing_subscriber::registry().with(traces.layer());
    tracing::subscriber::with_default(subscriber, || {
        let asking = tracing::info_span!(target: "kms_test", "ask", party = 3);
        adopt(&asking, request, None);
        let mut metadata = tonic::metadata::MetadataMap::new();
        asking.in_scope(|| inject(&mut metadata));
        let parent = TraceParent::of(&metadata);
        assert!(parent.is_some());
        let answering = tracing::info_span!(target: "kms_test", "answer");
        adopt(&answering, request, parent.clone());
        answering.in_scope(|| tracing::info_span!(target: "kms_test", "guard").in_scope(|| ()));
        // Another request's trace is not to be had by naming a span of it.
        let other = tracing::info_span!(target: "kms_test", "other");
        adopt(&other, B256::repeat_byte(0xcd), parent);
        drop(tracing::info_span!(target: "library", "foreign"));
    });
    let moments = vec![Moment { at: 1_500, name: "quorum".into(), detail: "4 answers".into() }];
    let attributes = vec![("kind", "on-chain".to_owned())];
    Past { request, name: "request", from: 1_000, to: 3_000, attributes, moments }.as_request();
    Past { request, name: "transaction", from: 2_000, to: 3_000, attributes: vec![], moments: vec![] }.as_step();
    // The first batch is refused once, and sent again.
    tokio::task::spawn_blocking(move || drop(traces)).await.unwrap();
    let mut spans = Vec::new();
    while let Ok(batch) = received.try_recv() {
        for resource in batch.resource_spans {
            let names: Vec<_> = resource.resource.unwrap().attributes.into_iter().map(|a| a.key).collect();
            assert!(names.iter().any(|n| n == "service.name") && names.iter().any(|n| n == "service.instance.id"));
            spans.extend(resource.scope_spans.into_iter().flat_map(|scope| scope.spans));
        }
    }
    let get =
        |name: &str| spans.iter().find(|span| span.name == name).unwrap_or_else(|| panic!("no {name}: {spans:?}"));
    assert_eq!(spans.len(), 6, "{spans:?}");
    for name in ["ask", "answer", "guard", "request", "transaction"] {
        assert_eq!(get(name).trace_id, request[..16], "{name}");
    }
    assert_eq!(get("request").parent_span_id, Vec::<u8>::new());
    assert_eq!(get("ask").parent_span_id, get("request").span_id);
    assert_eq!(get("answer").parent_span_id, get("ask").span_id);
    assert_eq!(get("guard").parent_span_id, get("answer").span_id);
    assert_eq!(get("transaction").parent_span_id, get("request").span_id);
    assert_eq!(get("other").trace_id, [0xcd; 16]);
    assert_eq!(get("other").parent_span_id, [0xcd; 8]);
    assert_eq!(
        (get("request").start_time_unix_nano, get("request").end_time_unix_nano),
        (1_000_000_000, 3_000_000_000)
    );
    assert_eq!(get("request").events[0].name, "quorum");
    assert_eq!(attribute(get("request"), "request"), Some(request.to_string().as_str()));
}

#[test]
fn what_is_kept_follows_from_the_request() {
    use opentelemetry_sdk::trace::{SamplingDecision, ShouldSample};
    let sampler = Sampler::TraceIdRatioBased(0.25);
    let kept = |n: u64| {
        let trace = crate::trace_id(alloy_primitives::keccak256(n.to_be_bytes()));
        let result = sampler.should_sample(None, trace, "", &opentelemetry::trace::SpanKind::Internal, &[], &[]);
        result.decision == SamplingDecision::RecordAndSample
    };
    let n = (0..4_000).filter(|n| kept(*n)).count();
    assert!((900..1_100).contains(&n), "{n}");
}

#[test]
fn an_endpoint_is_checked() {
    let checked = |endpoint: &str, sample| config(endpoint, sample).check().map(|url| url.to_string());
    assert_eq!(checked("http://collector:4318", 1.0).unwrap(), "http://collector:4318/v1/traces");
    assert_eq!(checked("https://collector/otlp/", 0.0).unwrap(), "https://collector/otlp/v1/traces");
    for (endpoint, sample, part) in [
        ("collector:4318", 1.0, "neither http"),
        ("grpc://collector", 1.0, "neither http"),
        ("", 1.0, "not a URL"),
        ("http://collector/?key=1", 1.0, "more than a path"),
        ("http://collector", 1.5, "between 0 and 1"),
        ("http://collector", f64::NAN, "between 0 and 1"),
    ] {
        let error = checked(endpoint, sample).unwrap_err().to_string();
        assert!(error.contains(part), "{endpoint}: {error}");
    }
}
