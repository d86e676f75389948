//! The trace of a request, and what crosses the wire of it.

use alloy_primitives::B256;
use opentelemetry::Context;
use opentelemetry::trace::{SpanContext, SpanId, TraceContextExt, TraceFlags, TraceId, TraceState};
use tonic::metadata::{MetadataMap, MetadataValue};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;

/// Name of the metadata entry and HTTP header (W3C Trace Context, §3.2).
pub const TRACEPARENT: &str = "traceparent";

/// `00-<32 hex digits>-<16 hex digits>-<2 hex digits>`.
const LENGTH: usize = 55;

/// The trace of a request: the first 16 bytes of its id.
#[must_use]
pub fn trace_id(request: B256) -> TraceId {
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&request[..16]);
    TraceId::from_bytes(bytes)
}

/// The span that stands for the whole request. Relayers export it when its way is known (`Past`).
pub(crate) fn root(request: B256) -> SpanContext {
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&request[16..24]);
    SpanContext::new(trace_id(request), SpanId::from_bytes(bytes), TraceFlags::SAMPLED, true, TraceState::NONE)
}

/// A caller's span, as the caller names it. It may say what it likes: it is believed only as far as [`adopt`] goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceParent(SpanContext);

impl TraceParent {
    /// Reads what a call carries. Anything but one well-formed entry of version 00 counts as nothing.
    #[must_use]
    pub fn of(metadata: &MetadataMap) -> Option<Self> {
        let mut entries = metadata.get_all(TRACEPARENT).iter();
        let (text, None) = (entries.next()?, entries.next()) else { return None };
        Self::parse(text.as_bytes())
    }

    /// The current span, for work that goes on when it has ended. `None` where nothing is traced.
    #[must_use]
    pub fn current() -> Option<Self> {
        let context = Span::current().context().span().span_context().clone();
        context.is_valid().then_some(Self(context))
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(bytes).ok().filter(|text| text.len() == LENGTH)?;
        let lowercase_hex = |part: &str| part.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        let mut parts = text.split('-');
        let (Some("00"), Some(trace), Some(span), Some(flags), None) =
            (parts.next(), parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return None;
        };
        if trace.len() != 32 || span.len() != 16 || ![trace, span, flags].into_iter().all(lowercase_hex) {
            return None;
        }
        let flags = TraceFlags::new(u8::from_str_radix(flags, 16).ok()?);
        let (trace, span) = (TraceId::from_hex(trace).ok()?, SpanId::from_hex(span).ok()?);
        let context = SpanContext::new(trace, span, flags, true, TraceState::NONE);
        context.is_valid().then_some(Self(context))
    }
}

/// Puts a span into the trace of its request: below the caller's span if `parent` names one of that very trace, below the
/// request itself otherwise. So nobody can put spans into the trace of another request, or choose which are kept.
pub fn adopt(span: &Span, request: B256, parent: Option<TraceParent>) {
    let parent = parent.map(|TraceParent(context)| context).filter(|context| context.trace_id() == trace_id(request));
    // It fails where nothing is traced.
    let _ = span.set_parent(Context::new().with_remote_span_context(parent.unwrap_or_else(|| root(request))));
}

/// Names the current span to whoever is called. Nothing is added where nothing is traced.
pub fn inject(metadata: &mut MetadataMap) {
    let Some(TraceParent(span)) = TraceParent::current() else { return };
    let text = format!("00-{}-{}-{:02x}", span.trace_id(), span.span_id(), span.trace_flags().to_u8());
    if let Ok(value) = MetadataValue::try_from(text) {
        metadata.insert(TRACEPARENT, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    fn of(entries: &[&'static str]) -> Option<TraceParent> {
        let mut metadata = MetadataMap::new();
        for entry in entries {
            metadata.append(TRACEPARENT, MetadataValue::from_static(entry));
        }
        TraceParent::of(&metadata)
    }

    #[test]
    fn what_the_recommendation_shows_is_read() {
        let TraceParent(context) = of(&[GOOD]).unwrap();
        assert_eq!(context.trace_id().to_string(), "0af7651916cd43dd8448eb211c80319c");
        assert_eq!(context.span_id().to_string(), "b7ad6b7169203331");
        assert!(context.is_sampled() && context.is_remote());
    }

    #[test]
    fn anything_else_counts_as_nothing() {
        for entries in [
            &[][..],
            &[""],
            &["00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331"],
            &["01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"],
            &["00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01"],
            &["00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-0g"],
            &["00-00000000000000000000000000000000-b7ad6b7169203331-01"],
            &["00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01"],
            &["00-0af7651916cd43dd8448eb211c80319cb-7ad6b7169203331-01"],
            &["00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-"],
            &["00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01xx"],
            &[GOOD, GOOD],
        ] {
            assert_eq!(of(entries), None, "{entries:?}");
        }
    }

    #[test]
    fn where_nothing_is_traced_nothing_is_sent() {
        let mut metadata = MetadataMap::new();
        inject(&mut metadata);
        assert!(metadata.is_empty());
    }
}
