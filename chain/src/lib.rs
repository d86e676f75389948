//! What the chain and the parties agree on: handles, ids, extra data, proofs, cleartexts, EIP-712 statements, committee
//! contexts and the cluster manifest. Every format is parsed here and nowhere else in Rust; `contracts/libraries` is the
//! twin in Solidity, and both are held to the same golden files in `tests/golden`.
//!
//! With the feature `rpc` the crate also talks to a chain: bindings from the compiled ABI ([`abi`]), a set of RPC endpoints
//! with failover ([`rpc`]) and the block follower ([`follower`]). The feature `faults` adds an endpoint that misbehaves on
//! command, for tests.

#[cfg(feature = "rpc")]
pub mod abi;
pub mod cleartexts;
pub mod computed;
pub mod context;
pub mod eip712;
pub mod extra_data;
#[cfg(all(feature = "rpc", any(test, feature = "faults")))]
pub mod faults;
#[cfg(feature = "rpc")]
pub mod follower;
pub mod handle;
pub mod ids;
pub mod manifest;
pub mod permit;
pub mod proof;
pub mod request;
#[cfg(feature = "rpc")]
pub mod rpc;
#[cfg(feature = "rpc")]
pub mod user_view;

pub use alloy_primitives::{Address, B256, Bytes, U256};
pub use kms_encoding::FheType;

#[cfg(test)]
mod golden;
#[cfg(test)]
mod properties;
#[cfg(all(test, feature = "rpc"))]
mod testing;
