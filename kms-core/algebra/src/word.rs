//! The base rings Z_2^64 and Z_2^128.

use core::fmt::Debug;

use zeroize::DefaultIsZeroes;

mod sealed {
    pub trait Sealed {}
    impl Sealed for u64 {}
    impl Sealed for u128 {}
}

/// An element of Z_2^k in one machine word: `u64` or `u128`. All arithmetic wraps.
pub trait Word: sealed::Sealed + DefaultIsZeroes + Copy + Default + Eq + Debug + Send + Sync + 'static {
    /// k.
    const BITS: u32;
    /// k / 8.
    const BYTES: usize;
    /// 0.
    const ZERO: Self;
    /// 1.
    const ONE: Self;
    /// Sum mod 2^k.
    #[must_use]
    fn plus(self, other: Self) -> Self;
    /// Difference mod 2^k.
    #[must_use]
    fn minus(self, other: Self) -> Self;
    /// Product mod 2^k.
    #[must_use]
    fn times(self, other: Self) -> Self;
    /// Bitwise or.
    #[must_use]
    fn or(self, other: Self) -> Self;
    /// Exponent of the largest power of two that divides the word; k for 0.
    fn valuation(self) -> u32;
    /// Bit `index`, `index` < k.
    fn bit(self, index: u32) -> bool;
    /// The low k bits.
    fn truncate(word: u128) -> Self;
    /// The word as an integer.
    fn widen(self) -> u128;
    /// Reads the first [`Self::BYTES`] bytes, little-endian. Panics when there are fewer.
    fn read_le(bytes: &[u8]) -> Self;
    /// Writes the first [`Self::BYTES`] bytes, little-endian. Panics when there are fewer.
    fn write_le(self, bytes: &mut [u8]);
}

macro_rules! word {
    ($t:ty) => {
        impl Word for $t {
            const BITS: u32 = <$t>::BITS;
            const BYTES: usize = size_of::<$t>();
            const ZERO: Self = 0;
            const ONE: Self = 1;
            #[inline(always)]
            fn plus(self, other: Self) -> Self {
                self.wrapping_add(other)
            }
            #[inline(always)]
            fn minus(self, other: Self) -> Self {
                self.wrapping_sub(other)
            }
            #[inline(always)]
            fn times(self, other: Self) -> Self {
                self.wrapping_mul(other)
            }
            #[inline(always)]
            fn or(self, other: Self) -> Self {
                self | other
            }
            #[inline(always)]
            fn valuation(self) -> u32 {
                self.trailing_zeros()
            }
            #[inline(always)]
            fn bit(self, index: u32) -> bool {
                self >> index & 1 == 1
            }
            #[inline(always)]
            fn truncate(word: u128) -> Self {
                word as $t
            }
            #[inline(always)]
            #[allow(clippy::unnecessary_cast, clippy::cast_lossless, reason = "one macro for both words")]
            fn widen(self) -> u128 {
                self as u128
            }
            #[inline(always)]
            fn read_le(bytes: &[u8]) -> Self {
                let mut word = [0; size_of::<$t>()];
                word.copy_from_slice(&bytes[..size_of::<$t>()]);
                <$t>::from_le_bytes(word)
            }
            #[inline(always)]
            fn write_le(self, bytes: &mut [u8]) {
                bytes[..size_of::<$t>()].copy_from_slice(&self.to_le_bytes());
            }
        }
    };
}

word!(u64);
word!(u128);
