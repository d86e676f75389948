//! Logs, and traces that join what relayers and parties do for one request.
//!
//! The trace of a request has the first 16 bytes of the request's id as its own: whoever knows the request finds its trace, and
//! relayers, parties and restarts meet in it without telling each other anything. What goes over the wire (the `traceparent`
//! of W3C Trace Context, in gRPC metadata) says only which span of the caller a call belongs to.
//!
//! Without the feature `export` this crate hands contexts on and does nothing else.

#[cfg(feature = "check")]
pub mod check;
#[cfg(feature = "check")]
pub mod collector;
#[cfg(feature = "export")]
mod export;
mod exported;
#[cfg(feature = "export")]
mod past;
mod request;

#[cfg(feature = "export")]
pub use export::{LogFormat, StartError, Telemetry, Traces, TracesConfig, start};
pub use exported::Exported;
#[cfg(feature = "export")]
pub use past::{Moment, Past};
pub use request::{TRACEPARENT, TraceParent, adopt, inject, trace_id};
