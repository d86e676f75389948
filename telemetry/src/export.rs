//! Where logs and spans of a process go.

use std::io::IsTerminal;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::{Request, Response};
use opentelemetry::trace::{SpanId, TraceId, TracerProvider};
use opentelemetry::{KeyValue, global};
use opentelemetry_http::{HttpClient, HttpError};
use opentelemetry_otlp::{SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{
    BatchConfigBuilder, BatchSpanProcessor, IdGenerator, RandomIdGenerator, Sampler, SdkTracerProvider,
};
use serde::Deserialize;
use tracing::Level;
use tracing::subscriber::Subscriber;
use tracing_subscriber::filter::{FilterExt, filter_fn};
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, fmt};

use crate::past::{SCOPE, fixed_span, fixed_trace};

/// Spans that wait to be sent; of more, the newest are dropped.
const QUEUE: usize = 16_384;
/// How often they are sent.
const EVERY: Duration = Duration::from_secs(1);
/// How long the collector may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// What is read of a collector's answer.
const ANSWER_BYTES: usize = 64 * 1024;

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// For machines.
    Json,
}

/// Where traces go. A process without this section traces nothing.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TracesConfig {
    /// Base URL of a collector that speaks OTLP over HTTP, usually port 4318. Headers that it asks for come from the
    /// environment (`OTEL_EXPORTER_OTLP_HEADERS`), since they are secrets.
    pub endpoint: String,
    /// Share of the requests that are traced, 0 to 1. Which ones follows from their ids: with the same share, all relayers and
    /// parties keep the same ones.
    #[serde(default = "all")]
    pub sample: f64,
}

fn all() -> f64 {
    1.0
}

/// Logs or traces can't be started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The filter of the logs.
    #[error("log.level: {0}")]
    Level(#[from] tracing_subscriber::filter::ParseError),
    /// The section `traces`.
    #[error("traces: {0}")]
    Traces(String),
    /// The process logs already.
    #[error("logs were started before")]
    Twice,
}

impl TracesConfig {
    /// What can be checked without connecting. Returns the URL that spans are posted to.
    ///
    /// # Errors
    /// What is wrong.
    pub fn check(&self) -> Result<reqwest::Url, StartError> {
        let wrong = |what: &str| StartError::Traces(format!("{:?} {what}", self.endpoint));
        let mut url: reqwest::Url = self.endpoint.parse().map_err(|_| wrong("is not a URL"))?;
        if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
            return Err(wrong("is neither http:// nor https://"));
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(wrong("has more than a path"));
        }
        if !(0.0..=1.0).contains(&self.sample) {
            return Err(StartError::Traces(format!("sample is {}, not between 0 and 1", self.sample)));
        }
        let path = format!("{}/v1/traces", url.path().trim_end_matches('/'));
        url.set_path(&path);
        Ok(url)
    }
}

/// What a process has started. Sends what is left when it is dropped, for which its runtime must still be there.
#[derive(Debug)]
#[must_use]
pub struct Telemetry {
    _traces: Option<Traces>,
}

/// Starts logs to standard error, and traces if they are configured: then within a runtime of several threads, which sends
/// them. `service` is the kind of process, `instance` which one of them.
///
/// # Errors
/// A filter or an endpoint that can't be used.
pub fn start(
    level: &str,
    format: LogFormat,
    traces: Option<&TracesConfig>,
    service: &'static str,
    instance: &str,
) -> Result<Telemetry, StartError> {
    // Logs show events only: what spans say stands in the lines already.
    let filter = || Ok::<_, StartError>(EnvFilter::try_new(level)?.and(filter_fn(|meta| meta.is_event())));
    let traces = traces.map(|config| Traces::connect(config, service, instance)).transpose()?;
    let lines = fmt::layer().with_ansi(std::io::stderr().is_terminal()).with_writer(std::io::stderr);
    let registry = tracing_subscriber::registry().with(traces.as_ref().map(Traces::layer));
    let started = match format {
        LogFormat::Text => registry.with(lines.with_filter(filter()?)).try_init(),
        LogFormat::Json => registry.with(lines.json().with_filter(filter()?)).try_init(),
    };
    started.map_err(|_| StartError::Twice)?;
    Ok(Telemetry { _traces: traces })
}

static ON: AtomicBool = AtomicBool::new(false);

/// Whether this process traces.
pub(crate) fn is_on() -> bool {
    ON.load(Ordering::Relaxed)
}

/// Traces of a process, on their way to a collector.
#[derive(Debug)]
pub struct Traces {
    provider: SdkTracerProvider,
}

impl Traces {
    /// Prepares the way. Nothing is connected before there is something to send, and a collector that is away costs spans only.
    ///
    /// # Errors
    /// An endpoint that can't be used.
    ///
    /// # Panics
    /// Outside of a runtime.
    pub fn connect(config: &TracesConfig, service: &'static str, instance: &str) -> Result<Self, StartError> {
        let wrong = |error: &dyn std::fmt::Display| StartError::Traces(error.to_string());
        let url = config.check()?;
        let client = reqwest::Client::builder().timeout(PATIENCE).build().map_err(|e| wrong(&e))?;
        let post = Post { client, runtime: tokio::runtime::Handle::current(), failing: AtomicBool::new(false) };
        let exporter = SpanExporter::builder()
            .with_http()
            .with_http_client(post)
            .with_endpoint(url.as_str())
            .with_timeout(PATIENCE)
            .build()
            .map_err(|e| wrong(&e))?;
        let batches = BatchConfigBuilder::default().with_max_queue_size(QUEUE).with_scheduled_delay(EVERY).build();
        let resource = Resource::builder().with_service_name(service).with_attributes([
            KeyValue::new("service.instance.id", instance.to_owned()),
            KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
        ]);
        let provider = SdkTracerProvider::builder()
            .with_span_processor(BatchSpanProcessor::builder(exporter).with_batch_config(batches).build())
            // By the trace, and not by what a caller says.
            .with_sampler(Sampler::TraceIdRatioBased(config.sample))
            .with_id_generator(Ids)
            .with_resource(resource.build())
            .build();
        global::set_tracer_provider(provider.clone());
        ON.store(true, Ordering::Relaxed);
        Ok(Self { provider })
    }

    /// The layer that takes spans from our own crates. Those of libraries, among them who sends these, are not wanted.
    pub fn layer<S>(&self) -> impl Layer<S> + use<S>
    where
        S: Subscriber + for<'a> LookupSpan<'a>,
    {
        let ours = filter_fn(|meta| meta.target().starts_with("kms_") && *meta.level() <= Level::INFO);
        tracing_opentelemetry::layer()
            .with_tracer(self.provider.tracer(SCOPE))
            .with_location(false)
            .with_threads(false)
            .with_target(false)
            .with_tracked_inactivity(false)
            .with_filter(ours)
    }

    /// Sends what is there. Blocks until the collector has it, for some seconds at most.
    pub fn flush(&self) {
        let _ = self.provider.force_flush();
    }
}

impl Drop for Traces {
    fn drop(&mut self) {
        ON.store(false, Ordering::Relaxed);
        if let Err(error) = self.provider.shutdown() {
            tracing::warn!(%error, "the last spans are not sent");
        }
    }
}

/// Random ids, but for spans that say which ones they have.
#[derive(Debug)]
struct Ids;

impl IdGenerator for Ids {
    fn new_trace_id(&self) -> TraceId {
        fixed_trace().unwrap_or_else(|| RandomIdGenerator::default().new_trace_id())
    }

    fn new_span_id(&self) -> SpanId {
        fixed_span().unwrap_or_else(|| RandomIdGenerator::default().new_span_id())
    }
}

/// Posts batches with the HTTP client and the TLS of everything else. Batches come from a thread without a runtime.
#[derive(Debug)]
struct Post {
    client: reqwest::Client,
    runtime: tokio::runtime::Handle,
    failing: AtomicBool,
}

impl Post {
    /// Says it when sending begins to fail, and when it works again.
    fn note(&self, problem: Option<&str>) {
        match (self.failing.swap(problem.is_some(), Ordering::Relaxed), problem) {
            (false, Some(problem)) => tracing::warn!(problem, "spans can't be sent to the collector"),
            (true, None) => tracing::info!("spans are sent to the collector again"),
            _ => {}
        }
    }
}

#[async_trait]
impl HttpClient for Post {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let client = self.client.clone();
        let sent = self.runtime.spawn(async move { send(&client, request).await });
        let result = sent.await.map_err(Into::into).and_then(|result| result);
        match &result {
            Ok(response) if response.status().is_success() => self.note(None),
            Ok(response) => self.note(Some(response.status().as_str())),
            Err(error) => self.note(Some(&error.to_string())),
        }
        result
    }
}

async fn send(client: &reqwest::Client, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
    let mut response = client.execute(request.map(reqwest::Body::from).try_into()?).await?;
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        if body.len() + chunk.len() > ANSWER_BYTES {
            return Err("the collector says too much".into());
        }
        body.extend_from_slice(&chunk);
    }
    let mut answer = Response::new(Bytes::from(body));
    *answer.status_mut() = response.status();
    *answer.headers_mut() = response.headers().clone();
    Ok(answer)
}

#[cfg(test)]
mod tests;
