//! Tests of the relayer's parts together: store, state machine, transaction manager on a real anvil, pipeline, HTTP API.

mod access;
mod accounts;
mod api;
mod aws;
mod chains;
mod console;
mod faults;
mod follow;
mod model;
mod ops;
mod outbox;
mod outbox_model;
mod parties;
mod permits;
mod pipeline;
mod process;
mod reorgs;
mod room;
mod store;
mod support;
mod user;
mod user_parties;
mod user_support;
