//! Spans of what is over already: they begin when it began.

use std::cell::Cell;
use std::time::{Duration, SystemTime};

use alloy_primitives::B256;
use opentelemetry::trace::{Event, Span as _, SpanContext, SpanId, SpanKind, TraceContextExt, TraceId, Tracer};
use opentelemetry::{Context, KeyValue, global};

use crate::export::is_on;
use crate::request::root;

/// Name under which such spans are exported.
pub(crate) const SCOPE: &str = "kms";

thread_local! {
    /// Ids that the next span of this thread is to have.
    static FIXED: Cell<Option<(TraceId, SpanId)>> = const { Cell::new(None) };
}

/// The trace that the next span is to be the root of, if it was said which.
pub(crate) fn fixed_trace() -> Option<TraceId> {
    FIXED.get().map(|(trace, _)| trace)
}

/// The id that the next span is to have, if it was said which.
pub(crate) fn fixed_span() -> Option<SpanId> {
    FIXED.get().map(|(_, span)| span)
}

/// Something that happened on the way of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Moment {
    /// Milliseconds since 1970.
    pub at: i64,
    /// What.
    pub name: String,
    /// A sentence, or nothing.
    pub detail: String,
}

/// What is known of a stretch of a request's way when it is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Past {
    /// Whose way.
    pub request: B256,
    /// Name of the span.
    pub name: &'static str,
    /// When it began, milliseconds since 1970.
    pub from: i64,
    /// When it ended.
    pub to: i64,
    /// What is to be known about it.
    pub attributes: Vec<(&'static str, String)>,
    /// What happened meanwhile.
    pub moments: Vec<Moment>,
}

impl Past {
    /// Whether anybody wants to know.
    #[must_use]
    pub fn is_wanted() -> bool {
        is_on()
    }

    /// Exports it as the request itself: all other spans of the trace are below it.
    pub fn as_request(self) {
        let root = root(self.request);
        self.export(&Context::new(), Some(&root));
    }

    /// Exports it as one step of the request.
    pub fn as_step(self) {
        let root = root(self.request);
        self.export(&Context::new().with_remote_span_context(root), None);
    }

    fn export(self, parent: &Context, ids: Option<&SpanContext>) {
        if !is_on() {
            return;
        }
        let moment = |m: Moment| {
            let detail = (!m.detail.is_empty()).then(|| KeyValue::new("detail", m.detail));
            Event::new(m.name, time(m.at), detail.into_iter().collect(), 0)
        };
        let mut attributes: Vec<_> =
            self.attributes.into_iter().map(|(key, value)| KeyValue::new(key, value)).collect();
        attributes.push(KeyValue::new("request", self.request.to_string()));
        let tracer = global::tracer(SCOPE);
        let builder = tracer
            .span_builder(self.name)
            .with_kind(SpanKind::Internal)
            .with_start_time(time(self.from))
            .with_attributes(attributes)
            .with_events(self.moments.into_iter().map(moment).collect());
        FIXED.set(ids.map(|ids| (ids.trace_id(), ids.span_id())));
        let mut span = builder.start_with_context(&tracer, parent);
        FIXED.set(None);
        span.end_with_timestamp(time(self.to.max(self.from)));
    }
}

fn time(at: i64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_millis(u64::try_from(at).unwrap_or(0))
}
