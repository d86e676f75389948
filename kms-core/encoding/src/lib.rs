//! Encodings that everybody shares who touches a plaintext, a ciphertext block or a key share.
//!
//! Pure: no tfhe, no chain, no sockets. A client that reconstructs a user decryption needs exactly this crate, and so does
//! a party; both decode with the same function, so that they can't disagree about what a block means.
//!
//! - [`FheType`]: the types a handle can have, their widths and block counts;
//! - [`Word`], [`Plaintext`]: a decrypted value;
//! - [`LweBlocks`]: the LWE samples (a, b) mod 2^128 of one ciphertext, flat, for the dot products of the parties;
//! - [`rounding`]: from an opened, flooded phase to message bits, with the checks of the protocol;
//! - [`ids`]: key and epoch identifiers;
//! - [`key_spec`]: what a whole key consists of, in numbers;
//! - [`InputMetadata`]: what the proof of an encrypted input is bound to;
//! - [`params`]: the parameter sets and their dimensions;
//! - [`prss_keys`]: the pseudorandom keys of one party in one epoch, and what its committee knows of all of them;
//! - [`share`]: the file by which one party receives its shares;
//! - [`user`]: a party's shares of a user decryption, sealed for the user.

pub mod blocks;
pub mod fhe_type;
pub mod ids;
pub mod input;
pub mod key_spec;
pub mod params;
pub mod plaintext;
pub mod prss_keys;
pub mod rounding;
pub mod share;
pub mod user;

pub use blocks::{BlocksError, LweBlocks, SecretKeyKind};
pub use fhe_type::FheType;
pub use input::InputMetadata;
pub use params::ParamsId;
pub use plaintext::{Plaintext, PlaintextError, Word};
pub use prss_keys::{PrssKey, PrssKeys, PrssKeysError};
pub use rounding::{DecodeError, FloodBound, FloodBoundError, decode};
pub use share::{ShareFile, ShareFileError, ShareVector};
