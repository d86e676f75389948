//! What a caller of the KMS needs: to check what parties answer, to combine a quorum of answers into a proof, to read a user
//! decryption ([`user`]), and (feature `transport`) to ask n parties at once over mutual TLS.
//!
//! Nothing here trusts a party: an answer counts only after [`verify::answer`] has checked its signature against the signer
//! of that very party, and its content against the question.

pub mod quorum;
pub mod user;
pub mod verify;

#[cfg(feature = "transport")]
pub mod tls;
#[cfg(feature = "transport")]
pub mod transport;

#[cfg(test)]
mod testing;

pub use quorum::{Decryption, Quorum};
pub use verify::{AnswerError, Question, VerifiedAnswer, VerifiedShare};
