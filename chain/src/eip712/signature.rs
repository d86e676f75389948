//! Signing and recovering digests, with the contract's strictness.

use crate::proof::SignatureBytes;
use alloy_primitives::{Address, B256, Signature};
use k256::ecdsa::SigningKey;

/// A signature that no contract of ours accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// v is neither 27 nor 28.
    #[error("signature with v = {0}")]
    BadV(u8),
    /// s is in the upper half of the order.
    #[error("signature with high s")]
    HighS,
    /// No public key belongs to it.
    #[error("signature recovers to nothing")]
    Unrecoverable,
}

impl SignatureError {
    /// Stable label, the same in the golden files.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::BadV(_) => "BadV",
            Self::HighS => "HighS",
            Self::Unrecoverable => "Unrecoverable",
        }
    }
}

/// Address of a signing key.
#[must_use]
pub fn signer_address(key: &SigningKey) -> Address {
    Address::from_public_key(key.verifying_key())
}

/// Deterministic (RFC 6979) signature r ‖ s ‖ v with low s and v 27 or 28.
///
/// # Panics
/// Never for a valid key: signing a 32-byte digest can only fail with a negligible probability that RFC 6979 excludes.
#[must_use]
pub fn sign_digest(key: &SigningKey, digest: B256) -> SignatureBytes {
    let (signature, recovery) =
        key.sign_prehash_recoverable(digest.as_slice()).expect("RFC 6979 signs every 32-byte digest");
    let signature = Signature::from((signature, recovery)).normalized_s();
    signature.as_bytes()
}

/// The signer of a digest.
///
/// # Errors
/// v other than 27 or 28, high s, or a signature that recovers to nothing.
pub fn recover(digest: B256, signature: &SignatureBytes) -> Result<Address, SignatureError> {
    let v = signature[64];
    if v != 27 && v != 28 {
        return Err(SignatureError::BadV(v));
    }
    let signature = Signature::from_bytes_and_parity(&signature[..64], v == 28);
    if signature.normalize_s().is_some() {
        return Err(SignatureError::HighS);
    }
    signature.recover_address_from_prehash(&digest).map_err(|_| SignatureError::Unrecoverable)
}
