//! User decryption: a party's masked shares, sealed so that only the user can read them.
//!
//! - [`Kem`], [`PublicKey`], [`KeyPair`]: the user's ML-KEM keys (FIPS 203);
//! - [`SharePayload`]: what a party seals, its masked and unopened partial decryptions of all handles of a request;
//! - [`Envelope`], [`Header`], [`Binding`], [`seal`], [`open`]: the sealed form, ML-KEM + HKDF-SHA256 (RFC 5869) +
//!   AES-256-GCM (SP 800-38D), and all that it is bound to.
//!
//! The bytes are specified in `docs/spec/user-decryption.md` and pinned by `tests/golden/user_decryption.json`.

mod envelope;
mod kem;
mod payload;

pub use envelope::{
    Binding, ENVELOPE_VERSION, Envelope, EnvelopeError, Header, MAX_ENVELOPE_BYTES, MAX_HANDLES, OpenError, SealError,
    open, seal,
};
pub use kem::{Kem, KeyPair, PublicKey, PublicKeyError, RandomError, SEED_BYTES};
pub use payload::{PAYLOAD_VERSION, PayloadError, SharePayload, packed_elements};
