//! Committee contexts: who signs, how many may be bad, how many must sign.

use alloy_primitives::{Address, B256, U256, keccak256};
use alloy_sol_types::SolValue;

/// An immutable committee; its id is a hash of its content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Context {
    /// The context it follows, zero for the first.
    pub previous: B256,
    /// Signers in the order of the parties' indices (party 1 first).
    pub signers: Vec<Address>,
    /// Parties that may be malicious.
    pub t: u32,
    /// Signatures that make an answer.
    pub threshold: u32,
    /// Makes two contexts with the same members different.
    pub salt: B256,
}

/// A context that no verifier accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ContextError {
    /// n = 0 or n > 255.
    #[error("a context of {0} signers")]
    BadSignerCount(usize),
    /// n < 3t + 1.
    #[error("{n} parties can't tolerate {t}")]
    TooManyFaults {
        /// Parties.
        n: usize,
        /// Faulty ones.
        t: u32,
    },
    /// Threshold outside t+1 ..= n−t.
    #[error("threshold {0} is outside t+1 to n-t")]
    BadThreshold(u32),
    /// A signer is the zero address.
    #[error("signer {0} is the zero address")]
    ZeroSigner(usize),
    /// A signer occurs twice.
    #[error("signer {0} occurs twice")]
    DuplicateSigner(Address),
}

impl ContextError {
    /// Stable label: the name of the Solidity error.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::BadSignerCount(_) | Self::TooManyFaults { .. } => "InvalidCommitteeSize",
            Self::BadThreshold(_) => "InvalidThreshold",
            Self::ZeroSigner(_) => "ZeroSigner",
            Self::DuplicateSigner(_) => "DuplicateSigner",
        }
    }
}

/// The usual threshold of a committee of `n` parties, 2t + 1: two proofs share an honest signer.
///
/// # Errors
/// [`ContextError::TooManyFaults`] if no committee of `n` tolerates `t`, however large `t` is.
pub fn usual_threshold(n: usize, t: u32) -> Result<u32, ContextError> {
    match t.checked_mul(2).and_then(|twice| twice.checked_add(1)) {
        Some(threshold) if n as u64 > 3 * u64::from(t) => Ok(threshold),
        _ => Err(ContextError::TooManyFaults { n, t }),
    }
}

impl Context {
    /// The rules of the verifier contract, in its order: count, t, threshold, then signers.
    ///
    /// # Errors
    /// The first broken rule.
    pub fn check(&self) -> Result<(), ContextError> {
        let n = self.signers.len();
        if n == 0 || n > 255 {
            return Err(ContextError::BadSignerCount(n));
        }
        let (n64, t, threshold) = (n as u64, u64::from(self.t), u64::from(self.threshold));
        if n64 < 3 * t + 1 {
            return Err(ContextError::TooManyFaults { n, t: self.t });
        }
        if threshold < t + 1 || threshold > n64 - t {
            return Err(ContextError::BadThreshold(self.threshold));
        }
        for (position, signer) in self.signers.iter().enumerate() {
            if signer.is_zero() {
                return Err(ContextError::ZeroSigner(position));
            }
            if self.signers[..position].contains(signer) {
                return Err(ContextError::DuplicateSigner(*signer));
            }
        }
        Ok(())
    }

    /// `keccak256(abi.encode(previous, signers, t, threshold, salt))`.
    #[must_use]
    pub fn id(&self) -> B256 {
        let content = (self.previous, self.signers.clone(), U256::from(self.t), U256::from(self.threshold), self.salt);
        keccak256(content.abi_encode_params())
    }

    /// Index (from 1) of the party that signs with `signer`.
    #[must_use]
    pub fn index_of(&self, signer: &Address) -> Option<u32> {
        self.signers.iter().position(|s| s == signer).and_then(|p| u32::try_from(p + 1).ok())
    }
}
