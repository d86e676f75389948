//! The reference coprocessor: the worker that gives the contracts' symbolic operations their ciphertexts.
//!
//! - [`inputs`]: users post proven lists; after the proof is checked and the list is on disk, a statement is signed that
//!   `InputVerifier` accepts;
//! - [`watch`]: the events of executor, ACL, gateway and registry go into the database, in order, reorgs included;
//! - [`compute`]: operations are evaluated as soon as their operands are there;
//! - [`squash`]: what somebody may want decrypted is squashed and filed under its SHA-256;
//! - [`commit`]: digests are signed and put on the chain;
//! - [`http`]: all that others need from here.
//!
//! Every step is derived from the rows of the database ([`store`]), so a kill at any instruction loses nothing.
//!
//! Whoever runs a coprocessor is trusted with right results and, by quorum, with the secrecy of the data: see
//! `docs/trust.md`. A single one is a warning at start-up.

pub mod admission;
pub mod commit;
pub mod compute;
pub mod config;
#[cfg(test)]
mod crash;
pub mod crew;
pub mod error;
pub mod event;
pub mod fhe;
pub mod http;
pub mod inputs;
pub mod keys;
pub mod ledger;
pub mod metrics;
pub mod objects;
pub mod service;
pub mod signals;
pub mod squash;
pub mod store;
pub mod watch;

pub use config::Config;
pub use error::{Error, Result};
