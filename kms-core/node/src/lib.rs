//! The KMS party: one process per operator, with a peer listener (other parties) and a client listener (relayers,
//! operators), both gRPC over mutual TLS 1.3.
//!
//! A request comes in through [`service`], the [`guard`] checks it against this party's own view of the chain, the
//! [`engine`] computes and opens the masked shares over the [`peer`] transport, signs the answer and writes the
//! receipt. New keys are made by all parties together ([`dkg`]). Secrets rest in [`sealed`] files, everything else in the [`store`].

pub mod chains;
pub mod ciphertexts;
pub mod commands;
pub mod config;
pub mod dkg;
pub mod engine;
pub mod error;
mod files;
pub mod guard;
pub mod identity;
pub mod keys;
pub mod lifecycle;
pub mod metrics;
pub mod misbehave;
pub mod party;
pub mod peer;
mod pool;
pub mod receipts;
pub mod sealed;
pub mod secrets;
pub mod service;
pub mod setup;
pub mod startup;
pub mod store;
pub mod tls;

#[cfg(test)]
mod test_support;
#[cfg(test)]
mod testkit;
