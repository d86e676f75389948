//! Signing and recovering digests, with the contract's strictness.

use std::sync::LazyLock;

use crate::proof::SignatureBytes;
use alloy_primitives::{Address, B256, Signature};
use k256::ecdsa::SigningKey;
use secp256k1::ecdsa::{RecoverableSignature, RecoveryId};
use secp256k1::{Message, Secp256k1, VerifyOnly};

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
    if Signature::from_bytes_and_parity(&signature[..64], v == 28).normalize_s().is_some() {
        return Err(SignatureError::HighS);
    }
    // Nothing here is secret, and whoever asks many parties recovers many: the C library takes a fifth of the time.
    static CURVE: LazyLock<Secp256k1<VerifyOnly>> = LazyLock::new(Secp256k1::verification_only);
    let parity = if v == 28 { RecoveryId::One } else { RecoveryId::Zero };
    let key = RecoverableSignature::from_compact(&signature[..64], parity)
        .and_then(|signature| CURVE.recover_ecdsa(Message::from_digest(digest.0), &signature))
        .map_err(|_| SignatureError::Unrecoverable)?;
    Ok(Address::from_raw_public_key(&key.serialize_uncompressed()[1..]))
}
