//! The only door to tfhe-rs.
//!
//! Everything that touches a tfhe type is in here: parameter sets, keys, encrypted inputs, computation, noise squashing
//! and the bytes of ciphertext objects. What leaves the crate is plain: [`kms_encoding::LweBlocks`] for the parties, bytes
//! with a digest for the stores, and a few opaque types for the coprocessor.
//!
//! - [`params`]: the production and the insecure test parameters;
//! - [`keygen`]: whole keys, as only a trusted dealer (or a test) makes them;
//! - [`dkg`]: keys that nobody ever held, from what a key generation opened;
//! - [`bundle`]: the folder with the public keys, checked on reading;
//! - [`crs`]: the common reference string of the input proofs, made locally for now;
//! - [`inputs`]: encrypted, proven inputs;
//! - [`eval`]: computing on ciphertexts and squashing their noise;
//! - [`object`]: the bytes that a digest on chain commits to, and how a party reads them.
//!
//! Bytes from outside give a typed error, never a panic, an abort, or an allocation that is larger than they justify.

pub mod bundle;
pub mod ciphertext;
pub mod crs;
pub mod dkg;
pub mod error;
pub mod eval;
pub mod inputs;
pub mod keygen;
mod keyset;
pub mod object;
pub mod params;
mod serial;

pub use bundle::{KeyInfo, PublicKeys};
pub use ciphertext::{Ciphertext, Squashed};
pub use error::{BundleError, EvalError, FormatError, InputError, ObjectError};
pub use eval::{BinaryOp, EvalKeys};
pub use object::{Object, ObjectFormat};
