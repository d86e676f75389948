//! ⟨a, s_i⟩ for many ciphertexts under one share of a key: what dominates a partial decryption.
//!
//! For a pair of elements a, a' of a mask and s, s' of a share
//! a·s + a'·s' = (a + s')·(a' + s) − a·a' − s·s' (Winograd, *A New Algorithm for Inner Product*, IEEE Trans. Comput.,
//! 1968). The products a·a' are made once for all D coefficients of the share, the products s·s' once for all masks: with
//! D = 4 a pair takes 5 products for 8.
//!
//! The masks `a` are public, the share is not: nothing branches on it or indexes with it.

#[cfg(target_arch = "x86_64")]
mod wide;

use kms_algebra::Gr;
use kms_encoding::ShareVector;

/// Subtracts ⟨`row`, share⟩ from each element of `out`. Single-threaded. Panics if a row is not as long as the share, if
/// the share is not of degree D, or if there are not as many rows as elements.
pub(super) fn subtract<const D: usize>(rows: &[&[u128]], share: &ShareVector, out: &mut [Gr<u128, D>]) {
    assert!(share.degree() == D && rows.len() == out.len() && rows.iter().all(|row| row.len() == share.len()));
    #[cfg(target_arch = "x86_64")]
    if let Some(units) = wide::Units::find() {
        units.subtract(rows, share, out);
        return;
    }
    portable(rows, share, out);
}

/// A sum of products mod 2^128. With words split in halves, a·s = a₀s₀ + 2^64·(a₀s₁ + a₁s₀): the sums of the two parts are
/// kept apart and joined at the end.
#[derive(Default)]
struct Products {
    low: u128,
    cross: u64,
}

impl Products {
    #[inline(always)]
    fn add(&mut self, a: u128, s: u128) {
        let [a0, a1, s0, s1] = [a as u64, (a >> 64) as u64, s as u64, (s >> 64) as u64];
        self.low = self.low.wrapping_add(u128::from(a0) * u128::from(s0));
        self.cross = self.cross.wrapping_add(a0.wrapping_mul(s1)).wrapping_add(a1.wrapping_mul(s0));
    }

    const fn sum(&self) -> u128 {
        self.low.wrapping_add((self.cross as u128) << 64)
    }

    /// Σ a·a' over the pairs of a row; an element without a partner has 0.
    fn of_pairs(words: &[u128]) -> u128 {
        let mut sum = Self::default();
        words.as_chunks::<2>().0.iter().for_each(|[a, b]| sum.add(*a, *b));
        sum.sum()
    }
}

/// Pair by pair.
fn portable<const D: usize>(rows: &[&[u128]], share: &ShareVector, out: &mut [Gr<u128, D>]) {
    let of_share: [u128; D] = core::array::from_fn(|c| Products::of_pairs(share.coordinate(c)));
    for (out, row) in out.iter_mut().zip(rows) {
        let of_row = Products::of_pairs(row);
        for (c, word) in out.0.iter_mut().enumerate() {
            let mut sum = Products::default();
            let (row, row_last) = row.as_chunks::<2>();
            let (share, share_last) = share.coordinate(c).as_chunks::<2>();
            for ([a, b], [s, t]) in row.iter().zip(share) {
                sum.add(a.wrapping_add(*t), b.wrapping_add(*s));
            }
            for (a, s) in row_last.iter().zip(share_last) {
                sum.add(*a, *s);
            }
            *word = word.wrapping_sub(sum.sum()).wrapping_add(of_row).wrapping_add(of_share[c]);
        }
    }
}

#[cfg(test)]
mod tests {
    use kms_encoding::SecretKeyKind;
    use proptest::prelude::*;
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha20Rng;

    use super::*;

    /// Rows and a share of words that are random, or all ones to provoke carries.
    fn check<const D: usize>(dimension: usize, rows: usize, extreme: bool, rng: &mut ChaCha20Rng) {
        let mut words =
            |count| -> Vec<u128> { (0..count).map(|_| if extreme { u128::MAX } else { rng.random() }).collect() };
        let share = ShareVector::new(SecretKeyKind::Squashing, D as u8, words(D * dimension)).unwrap();
        let masks = words(rows * dimension);
        let rows: Vec<&[u128]> = masks.chunks(dimension).collect();
        let mut out = vec![Gr::<u128, D>::ONE; rows.len()];
        subtract(&rows, &share, &mut out);
        let mut by_portable = vec![Gr::<u128, D>::ONE; rows.len()];
        portable(&rows, &share, &mut by_portable);
        assert_eq!(by_portable, out);
        for (out, row) in out.iter().zip(&rows) {
            let dot =
                |c| row.iter().zip(share.coordinate(c)).fold(0u128, |sum, (a, s)| sum.wrapping_add(a.wrapping_mul(*s)));
            let expected = Gr::ONE - Gr(core::array::from_fn(dot));
            assert_eq!(*out, expected);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]
        #[test]
        fn all_paths_give_the_definition(seed: u64, dimension in 1usize..700, rows in 0usize..7, extreme: bool) {
            let rng = &mut ChaCha20Rng::seed_from_u64(seed);
            check::<4>(dimension, rows, extreme, rng);
            check::<5>(dimension, rows, extreme, rng);
        }
    }

    #[test]
    fn sums_of_long_rows_of_the_largest_words_do_not_overflow() {
        let rng = &mut ChaCha20Rng::seed_from_u64(0);
        for dimension in [4095, 4096, 4097, 8192, 40_000] {
            check::<4>(dimension, 2, true, rng);
            check::<4>(dimension, 2, false, rng);
        }
        check::<5>(4096, 70, false, rng);
    }
}
