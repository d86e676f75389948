//! Cleartexts: one 32-byte word per handle, in request order (`abi.encode` of static types).

use alloy_primitives::U256;
use kms_encoding::FheType;

/// Cleartexts that are not an answer for the types asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CleartextError {
    /// Not one word per handle.
    #[error("{length} bytes of cleartext for {words} values")]
    BadLength {
        /// Bytes given.
        length: usize,
        /// Values expected.
        words: usize,
    },
    /// A value is too large for its type.
    #[error("cleartext {0} is out of its type's range")]
    OutOfRange(usize),
}

impl CleartextError {
    /// Stable label, the same in the golden files.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::BadLength { .. } => "BadLength",
            Self::OutOfRange(_) => "OutOfRange",
        }
    }
}

/// Whether `value` can be a plaintext of `fhe_type`.
#[must_use]
pub fn in_range(fhe_type: FheType, value: U256) -> bool {
    value.bit_len() <= fhe_type.value_bits() as usize
}

/// One word per value.
///
/// # Errors
/// `OutOfRange` with the position of the first value that doesn't fit its type.
pub fn encode(values: &[(FheType, U256)]) -> Result<Vec<u8>, CleartextError> {
    let mut out = Vec::with_capacity(values.len() * 32);
    for (position, (fhe_type, value)) in values.iter().enumerate() {
        if !in_range(*fhe_type, *value) {
            return Err(CleartextError::OutOfRange(position));
        }
        out.extend_from_slice(&value.to_be_bytes::<32>());
    }
    Ok(out)
}

/// The values, one per type, in order.
///
/// # Errors
/// `BadLength` unless there is exactly one word per type; `OutOfRange`.
pub fn decode(bytes: &[u8], types: &[FheType]) -> Result<Vec<U256>, CleartextError> {
    if bytes.len() != types.len() * 32 {
        return Err(CleartextError::BadLength { length: bytes.len(), words: types.len() });
    }
    let (words, _) = bytes.as_chunks::<32>();
    let mut out = Vec::with_capacity(types.len());
    for (position, (word, fhe_type)) in words.iter().zip(types).enumerate() {
        let value = U256::from_be_bytes(*word);
        if !in_range(*fhe_type, value) {
            return Err(CleartextError::OutOfRange(position));
        }
        out.push(value);
    }
    Ok(out)
}
