//! From an opened, flooded phase to the message: step 4 and 5 of the threshold decryption.
//!
//! An opened block is c = m·Δ + e + E mod 2^128 with Δ = 2^123: one padding bit, four message bits, then noise. The
//! ciphertext's own noise is |e| ≤ 2^70 after squashing, the flooding is |E| ≤ 2·C(n,t)·2^110 (each of the C(n,t) sets
//! adds the sum of two uniforms in [−2^110, 2^110)). Source: Dahl et al., ePrint 2023/815, §4.

use zeroize::Zeroize;

use crate::{FheType, Plaintext};

/// log2 of Δ.
pub const DELTA_LOG2: u32 = 123;
/// log2 of the bound on the noise of a squashed ciphertext.
pub const NOISE_LOG2: u32 = 70;
/// log2 of the bound on each of the two uniforms that one set of parties adds.
pub const FLOOD_LOG2: u32 = 110;
/// The most PRSS sets that a committee may have.
pub const MAX_SETS: u64 = 2000;

/// Largest |c − m·Δ| of an honest decryption at one committee size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FloodBound(u128);

/// A committee for which the flooding does not work out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FloodBoundError {
    /// n < 3t + 1, or t = 0, or n > 31.
    #[error("a committee of {n} can't tolerate {t} faults: 1 <= t, 3t + 1 <= n <= 31")]
    Committee {
        /// Parties.
        n: u32,
        /// Faults.
        t: u32,
    },
    /// More sets than [`MAX_SETS`].
    #[error("{n} parties with {t} faults need {sets} sets, more than {MAX_SETS}")]
    TooManySets {
        /// Parties.
        n: u32,
        /// Faults.
        t: u32,
        /// C(n, t).
        sets: u64,
    },
    /// The flooding would reach the message bits.
    #[error("the flooding of {sets} sets reaches the message bits")]
    ReachesMessage {
        /// C(n, t).
        sets: u64,
    },
}

impl FloodBound {
    /// The bound 2·C(n,t)·2^110 + 2^70, which must stay below Δ/2.
    ///
    /// # Errors
    /// The committee is not possible or the bound is not below Δ/2.
    pub fn new(n: u32, t: u32) -> Result<Self, FloodBoundError> {
        if t == 0 || n > 31 || n < 3 * t.min(31) + 1 {
            return Err(FloodBoundError::Committee { n, t });
        }
        let sets = (0..u64::from(t)).fold(1, |c, i| c * (u64::from(n) - i) / (i + 1));
        if sets > MAX_SETS {
            return Err(FloodBoundError::TooManySets { n, t, sets });
        }
        let bound = (2 * u128::from(sets)) << FLOOD_LOG2;
        let bound = bound + (1 << NOISE_LOG2);
        if bound >= 1 << (DELTA_LOG2 - 1) {
            return Err(FloodBoundError::ReachesMessage { sets });
        }
        Ok(Self(bound))
    }

    /// The bound.
    #[must_use]
    pub const fn get(self) -> u128 {
        self.0
    }
}

/// Why an opened ciphertext has no plaintext. Final, and the same at every honest party: the opened values are.
///
/// Carries positions only. Opened values, messages of refused ciphertexts and residuals stay inside: they would be
/// equations in the secret key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// Not as many blocks as the type has.
    #[error("a value of type {ty} has {expected} blocks, got {got}")]
    BlockCount {
        /// The type of the handle.
        ty: FheType,
        /// Its blocks.
        expected: usize,
        /// Opened blocks.
        got: usize,
    },
    /// |c − m·Δ| is larger than any honest ciphertext and mask give.
    #[error("the noise of block {block} is larger than an honest ciphertext has")]
    Residual {
        /// Index of the block inside the value.
        block: usize,
    },
    /// The padding bit is set.
    #[error("the padding bit of block {block} is set")]
    Padding {
        /// Index of the block inside the value.
        block: usize,
    },
    /// The value has bits above the width of its type.
    #[error("the ciphertext holds bits above the width of {ty}")]
    Width {
        /// The type of the handle.
        ty: FheType,
    },
}

/// Rounds one opened block: its message, 0..16.
fn round(c: u128, bound: FloodBound) -> Result<u8, Fault> {
    let m = c.wrapping_add(1 << (DELTA_LOG2 - 1)) >> DELTA_LOG2;
    let residual = c.wrapping_sub(m << DELTA_LOG2).cast_signed();
    if residual.unsigned_abs() > bound.0 {
        return Err(Fault::Residual);
    }
    // m < 32 by the shift.
    if m >= 16 { Err(Fault::Padding) } else { Ok(m as u8) }
}

enum Fault {
    Residual,
    Padding,
}

/// Decodes the opened blocks of one value, least significant first, and erases them.
///
/// `opened` is zeroed in every case: residuals are secret (with one flooding key they would be equations in the key).
///
/// # Errors
/// See [`DecodeError`]: a typed final refusal.
pub fn decode(ty: FheType, opened: &mut [u128], bound: FloodBound) -> Result<Plaintext, DecodeError> {
    let result = decode_inner(ty, opened, bound);
    opened.zeroize();
    result
}

fn decode_inner(ty: FheType, opened: &[u128], bound: FloodBound) -> Result<Plaintext, DecodeError> {
    let expected = ty.squashed_blocks();
    if opened.len() != expected {
        return Err(DecodeError::BlockCount { ty, expected, got: opened.len() });
    }
    let mut messages = [0u8; 64];
    let mut verdict = Ok(());
    for (block, (c, message)) in opened.iter().zip(&mut messages).enumerate() {
        match round(*c, bound) {
            Ok(m) => *message = m,
            Err(fault) => {
                verdict = Err(match fault {
                    Fault::Residual => DecodeError::Residual { block },
                    Fault::Padding => DecodeError::Padding { block },
                });
                break;
            }
        }
    }
    let value = verdict
        .and_then(|()| Plaintext::from_messages(ty, &messages[..expected]).map_err(|_| DecodeError::Width { ty }));
    messages.zeroize();
    value
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::Word;

    fn bound() -> FloodBound {
        FloodBound::new(13, 4).unwrap()
    }

    #[test]
    fn bounds_of_the_usual_committees() {
        for (n, t, log2) in [(4, 1, 113.0), (7, 2, 115.4), (10, 3, 117.9), (13, 4, 120.5)] {
            let got = (FloodBound::new(n, t).unwrap().get() as f64).log2();
            assert!((got - log2).abs() < 0.06, "{n}/{t}: 2^{got}");
        }
    }

    #[test]
    fn impossible_committees_are_refused() {
        for (n, t) in [(0, 0), (4, 0), (3, 1), (6, 2), (40, 1), (4, u32::MAX), (32, 1)] {
            assert_eq!(FloodBound::new(n, t), Err(FloodBoundError::Committee { n, t }));
        }
        assert!(matches!(FloodBound::new(16, 5), Err(FloodBoundError::TooManySets { sets: 4368, .. })));
        // C(31, 3) = 4495 > 2000, C(22, 3) = 1540 fits.
        assert!(FloodBound::new(31, 3).is_err());
        assert!(FloodBound::new(22, 3).is_ok());
    }

    #[test]
    fn the_bound_itself_is_accepted_and_one_more_is_not() {
        let b = bound();
        let delta = 1u128 << DELTA_LOG2;
        for c in [3 * delta + b.get(), 3 * delta - b.get()] {
            assert_eq!(decode(FheType::Uint8, &mut [c, 0], b).unwrap().value(), Word::from(3u64));
        }
        for c in [3 * delta + b.get() + 1, 3 * delta - b.get() - 1, 3 * delta + delta / 2] {
            assert_eq!(decode(FheType::Uint8, &mut [0, c], b), Err(DecodeError::Residual { block: 1 }));
        }
    }

    #[test]
    fn padding_width_and_count_are_checked() {
        let delta = 1u128 << DELTA_LOG2;
        assert_eq!(decode(FheType::Uint8, &mut [16 * delta, 0], bound()), Err(DecodeError::Padding { block: 0 }));
        assert_eq!(decode(FheType::Uint8, &mut [31 * delta, 0], bound()), Err(DecodeError::Padding { block: 0 }));
        // Noise below zero wraps to the top of the ring and still means 0.
        assert_eq!(decode(FheType::Uint8, &mut [u128::MAX, 1], bound()).unwrap().value(), Word::ZERO);
        assert_eq!(decode(FheType::Bool, &mut [2 * delta], bound()), Err(DecodeError::Width { ty: FheType::Bool }));
        assert_eq!(decode(FheType::Bool, &mut [delta], bound()).unwrap().value(), Word::from(true));
        let count = |got| DecodeError::BlockCount { ty: FheType::Uint8, expected: 2, got };
        assert_eq!(decode(FheType::Uint8, &mut [0], bound()), Err(count(1)));
        assert_eq!(decode(FheType::Uint8, &mut [0; 3], bound()), Err(count(3)));
    }

    proptest! {
        #[test]
        fn decoding_removes_the_noise_and_erases_its_input(
            bytes: [u8; 32], which in 0..8usize, noise in proptest::collection::vec(any::<u128>(), 64)
        ) {
            let p = Plaintext::truncated(FheType::ALL[which], Word(bytes));
            let b = bound();
            let mut opened: Vec<u128> = p
                .block_messages()
                .zip(&noise)
                .map(|(m, e)| (u128::from(m) << DELTA_LOG2).wrapping_add(e % (2 * b.get() + 1)).wrapping_sub(b.get()))
                .collect();
            prop_assert_eq!(decode(p.ty(), &mut opened, b), Ok(p));
            prop_assert!(opened.iter().all(|c| *c == 0));
        }

        #[test]
        fn any_words_give_a_value_of_the_type_or_an_error(opened in proptest::collection::vec(any::<u128>(), 0..70), which in 0..8usize) {
            let ty = FheType::ALL[which];
            if let Ok(p) = decode(ty, &mut opened.clone(), bound()) {
                prop_assert_eq!(p.ty(), ty);
                prop_assert!(p.value().bit_length() <= ty.value_bits());
            }
        }
    }
}
