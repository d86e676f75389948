//! The relayer: watches gateways for requests, asks the parties, verifies their answers and posts them.
//!
//! It is trusted with nothing but liveness, and is judged by one sentence: no request is ever lost or paid for twice,
//! whatever is killed, cut or reorganised. So everything that happens is a move of a row ([`state`]) in a database ([`store`]),
//! made in the same transaction as its cause, and what happens next follows from the row alone ([`pipeline`]).

pub mod clock;
pub mod config;
pub mod dispatch;
mod error;
pub mod feed;
pub mod http;
pub mod job;
pub mod metrics;
pub mod parties;
pub mod pipeline;
pub mod ranks;
mod run;
pub mod sight;
pub mod state;
pub mod store;
pub mod tx;
pub mod views;
pub mod watch;

pub use error::Error;
pub use run::{check, run, run_before};
