//! Keys that nobody ever held: their numbers and masks for the protocol, and tfhe's objects made of what it opened.
//!
//! `kms_mpc::dkg` computes with shares and knows nothing of tfhe. Here is what it has to compute ([`key_spec`]), the public
//! masks ([`XofMasks`]), and how the opened bodies become the same [`PublicKeySet`] that a dealer makes ([`assemble`]).
//!
//! All masks of a key come from one stream, that of tfhe's XOF with the domain separator `TFHE_GEN`, in the order in which
//! tfhe-rs generates the components of a `CompressedXofKeySet` (after *Threshold (Fully) Homomorphic Encryption*,
//! eprint 2025/699). All moduli are powers of two with a whole word each, so every mask has a fixed place in the stream.
//!
//! [`PublicKeySet`]: crate::keygen::PublicKeySet

mod assembly;
mod masks;
mod spec;

pub use assembly::{AssemblyError, assemble};
pub use masks::XofMasks;
pub use spec::{key_spec, shared_secrets};
