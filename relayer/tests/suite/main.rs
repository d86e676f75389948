//! Tests of the relayer's parts together: store, state machine, transaction manager on a real anvil, pipeline, HTTP API.

mod api;
mod model;
mod outbox;
mod permits;
mod pipeline;
mod process;
mod store;
mod support;
mod user;
mod user_parties;
mod user_support;
