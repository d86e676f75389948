//! From opened blocks to a plaintext (`kms_encoding::rounding`): the opened words are a function of peers' messages.

use kms_encoding::rounding::{DELTA_LOG2, DecodeError};
use kms_encoding::{FheType, FloodBound, decode};

use crate::budget::{FACTOR, bounded};

/// Type, n, t, then words of 16 bytes. A word with an even first byte is taken as it is; another is near a message: four
/// bits of message, a residual of at most 2^119.
pub fn check(data: &[u8]) {
    let [ty, n, t, words @ ..] = data else { return };
    let ty = FheType::ALL[usize::from(*ty) % 8];
    let Ok(bound) = FloodBound::new((*n).into(), (*t).into()) else {
        assert!(*t == 0 || *n < 3 * t.min(&80) + 1 || *n > 31 || *n > 13, "{n} {t}");
        return;
    };
    let words: Vec<u128> = words.as_chunks::<16>().0.iter().map(|w| word(u128::from_be_bytes(*w))).collect();
    let mut opened = words.clone();
    let result = bounded(data.len(), FACTOR, || decode(ty, &mut opened, bound));
    assert!(opened.iter().all(|word| *word == 0), "opened words are erased");
    match result {
        Ok(plain) => {
            assert_eq!((plain.ty(), words.len()), (ty, ty.squashed_blocks()));
            assert!(plain.value().bit_length() <= ty.value_bits());
            for (message, word) in plain.block_messages().zip(&words) {
                let exact = u128::from(message) << DELTA_LOG2;
                assert!(word.wrapping_sub(exact).cast_signed().unsigned_abs() <= bound.get());
            }
            let mut exact: Vec<u128> = plain.block_messages().map(|m| u128::from(m) << DELTA_LOG2).collect();
            assert_eq!(decode(ty, &mut exact, bound), Ok(plain), "without noise it is the same");
        }
        Err(DecodeError::BlockCount { expected, got, .. }) => {
            assert_eq!((expected, got), (ty.squashed_blocks(), words.len()));
            assert_ne!(expected, got);
        }
        Err(DecodeError::Residual { block } | DecodeError::Padding { block }) => assert!(block < words.len()),
        Err(DecodeError::Width { .. }) => assert_ne!(ty.value_bits() % 4 + u32::from(ty == FheType::Bool), 0),
        Err(_) => {}
    }
}

fn word(raw: u128) -> u128 {
    if raw >> 120 & 1 == 0 {
        return raw;
    }
    let residual = (raw << 8).cast_signed() >> 8;
    ((raw >> 121 & 15) << DELTA_LOG2).wrapping_add(residual.cast_unsigned())
}
