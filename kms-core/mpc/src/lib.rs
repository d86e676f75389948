//! The protocols of the committee: plain async functions over a [`Network`], with no sockets, no chain and no tfhe.
//!
//! - [`Committee`]: n parties, t faults, checked so that the flooding fits;
//! - [`SessionId`], [`JobId`]: identities that are hashes of the content they stand for;
//! - [`prss`]: pseudorandom secret sharing, and with it the flooding masks;
//! - [`opening`]: robust asynchronous opening that decodes as shares arrive and names wrong ones;
//! - [`decrypt`](mod@decrypt): one-round threshold decryption of many ciphertexts in one job;
//! - [`wire`]: the bytes of a share message;
//! - [`lockstep`]: synchronous rounds, for what follows; [`broadcast`](mod@broadcast): reliable broadcast that agrees on absence;
//! - [`commit`](mod@commit): hash commitments; [`vss`]: verifiable secret sharing; [`coin`]: coins that nobody can bias;
//! - [`prss_setup`]: PRSS keys without a dealer;
//! - [`insecure_dealt`]: key material from a dealer, for development and tests;
//! - [`sim`]: a deterministic network in memory; [`malicious`]: parties that lie.
//!
//! Sources: Dahl et al., *Noah's Ark* (ePrint 2023/815); Cramer, Damgård and Ishai, *Share Conversion, Pseudorandom
//! Secret-Sharing and Applications to Secure Computation* (TCC 2005).
//!
//! # Speed
//! What takes time is synchronous and says so: [`Epoch::partial_decrypt`], [`prss::Prss::add_masks`],
//! [`decrypt::dot_blocks`], [`kms_algebra::Codec::decode`]. The async functions hand it to [`Network::compute`].

#![deny(unsafe_code)]

pub mod broadcast;
pub mod coin;
pub mod commit;
mod committee;
pub mod decrypt;
pub mod dkg;
mod error;
pub mod insecure_dealt;
pub mod lockstep;
pub mod malicious;
mod network;
pub mod opening;
pub mod prss;
pub mod prss_setup;
mod session;
pub mod sim;
mod tiles;
pub mod vss;
pub mod wire;

pub use committee::Committee;
pub use decrypt::{Decryption, Epoch, Item, OwnShare, Tail, decrypt};
pub use error::{DecryptError, Refusal, SetupError};
pub use kms_algebra::{PartyId, PartySet};
pub use network::{Closed, Network};
pub use opening::{Evidence, Fault, Outcome};
pub use session::{JobId, KeygenRun, Part, SessionId};
