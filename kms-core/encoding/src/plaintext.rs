//! Decrypted values.

use core::fmt;

use zeroize::Zeroize;

use crate::FheType;
use crate::fhe_type::BITS_PER_BLOCK;

/// An unsigned 256-bit number, most significant byte first: the shape of an EVM word.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Zeroize)]
pub struct Word(pub [u8; 32]);

impl Word {
    /// Zero.
    pub const ZERO: Self = Self([0; 32]);

    /// The number of significant bits: 0 for zero.
    #[must_use]
    pub fn bit_length(&self) -> u32 {
        match self.0.iter().position(|b| *b != 0) {
            None => 0,
            // Positions are below 32.
            Some(at) => (32 - at as u32) * 8 - self.0[at].leading_zeros(),
        }
    }

    /// The `index`-th group of four bits, least significant first; zero beyond the 64th.
    #[must_use]
    pub fn nibble(&self, index: usize) -> u8 {
        if index >= 64 {
            return 0;
        }
        let byte = self.0[31 - index / 2];
        if index.is_multiple_of(2) { byte & 15 } else { byte >> 4 }
    }

    /// The value, if it fits 128 bits.
    #[must_use]
    pub fn to_u128(&self) -> Option<u128> {
        let (high, low) = self.0.split_first_chunk::<16>()?;
        let low: [u8; 16] = low.try_into().ok()?;
        (*high == [0; 16]).then(|| u128::from_be_bytes(low))
    }
}

impl From<u128> for Word {
    fn from(value: u128) -> Self {
        let mut word = [0; 32];
        word[16..].copy_from_slice(&value.to_be_bytes());
        Self(word)
    }
}

impl From<u64> for Word {
    fn from(value: u64) -> Self {
        Self::from(u128::from(value))
    }
}

impl From<bool> for Word {
    fn from(value: bool) -> Self {
        Self::from(u128::from(value))
    }
}

impl fmt::Debug for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("0x")?;
        self.0.iter().try_for_each(|b| write!(f, "{b:02x}"))
    }
}

/// A value together with its type; the value always fits the type.
///
/// No `Debug` of the value: a plaintext does not belong into a log.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Plaintext {
    ty: FheType,
    value: Word,
}

/// Why a value is not a plaintext of a type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PlaintextError {
    /// The value has more bits than the type.
    #[error("the value does not fit the type {ty}")]
    TooWide {
        /// The type.
        ty: FheType,
    },
}

impl Plaintext {
    /// A value of a type.
    ///
    /// # Errors
    /// The value is wider than the type.
    pub fn new(ty: FheType, value: impl Into<Word>) -> Result<Self, PlaintextError> {
        let value = value.into();
        if value.bit_length() > ty.value_bits() {
            return Err(PlaintextError::TooWide { ty });
        }
        Ok(Self { ty, value })
    }

    /// Reduces a value modulo 2^bits of the type, as a trivial encryption of a wider constant does. For a boolean the
    /// value is true if it is not zero.
    #[must_use]
    pub fn truncated(ty: FheType, value: Word) -> Self {
        if ty == FheType::Bool {
            return Self { ty, value: Word::from(value != Word::ZERO) };
        }
        let mut word = value.0;
        word[..32 - ty.value_bits() as usize / 8].fill(0);
        Self { ty, value: Word(word) }
    }

    /// The type.
    #[must_use]
    pub const fn ty(&self) -> FheType {
        self.ty
    }

    /// The value.
    #[must_use]
    pub const fn value(&self) -> Word {
        self.value
    }

    /// The messages of the squashed blocks, least significant first.
    pub fn block_messages(&self) -> impl ExactSizeIterator<Item = u8> + '_ {
        (0..self.ty.squashed_blocks()).map(|i| self.value.nibble(i))
    }

    /// Recombines the messages of squashed blocks, least significant first.
    ///
    /// The caller has checked their number and that each is below 16; see [`crate::rounding::decode`].
    pub(crate) fn from_messages(ty: FheType, messages: &[u8]) -> Result<Self, PlaintextError> {
        let mut word = Word::ZERO;
        for (i, message) in messages.iter().enumerate().take(64) {
            word.0[31 - i / 2] |= (message & 15) << ((i as u32 % 2) * BITS_PER_BLOCK);
        }
        Self::new(ty, word)
    }
}

impl fmt::Debug for Plaintext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Plaintext").field("ty", &self.ty).finish_non_exhaustive()
    }
}

impl Zeroize for Plaintext {
    fn zeroize(&mut self) {
        self.value.zeroize();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_boolean_is_zero_or_one() {
        assert!(Plaintext::new(FheType::Bool, true).is_ok());
        assert_eq!(Plaintext::new(FheType::Bool, 2u64), Err(PlaintextError::TooWide { ty: FheType::Bool }));
        assert_eq!(Plaintext::truncated(FheType::Bool, Word::from(6u64)).value(), Word::from(true));
    }

    #[test]
    fn debug_hides_the_value() {
        let text = format!("{:?}", Plaintext::new(FheType::Uint8, 0x5au64).unwrap());
        assert!(!text.contains("5a") && !text.contains("90"), "{text}");
    }

    proptest! {
        #[test]
        fn messages_and_value_are_one(bytes: [u8; 32], which in 0..8usize) {
            let p = Plaintext::truncated(FheType::ALL[which], Word(bytes));
            let messages: Vec<u8> = p.block_messages().collect();
            prop_assert_eq!(messages.len(), p.ty().squashed_blocks());
            prop_assert_eq!(Plaintext::from_messages(p.ty(), &messages), Ok(p));
            prop_assert!(p.value().bit_length() <= p.ty().value_bits());
        }

        #[test]
        fn words_keep_128_bit_numbers(x: u128) {
            prop_assert_eq!(Word::from(x).to_u128(), Some(x));
            prop_assert_eq!(Word::from(x).bit_length(), 128 - x.leading_zeros());
        }
    }
}
