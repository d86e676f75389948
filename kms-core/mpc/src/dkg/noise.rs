//! Noise of fresh ciphertexts from random bits.
//!
//! TUniform(b) takes every integer in −2^b + 1..2^b with probability 2^-(b+1), and −2^b and 2^b with half of that. So does
//! e = −2^b + Σ_{j=0..b} 2^j·bit_j + bit_{b+1}, which is linear in b + 2 random bits.
//!
//! Source: ePrint 2023/815 (TUniform).

use kms_algebra::{GrVec, Word};

use crate::tiles;

/// Samples that are worked on at a time.
const TILE: usize = 64;

/// Random bits of one sample.
#[must_use]
pub const fn bits_of_sample(b: u32) -> usize {
    b as usize + 2
}

/// Shares of samples of TUniform(b) from shares of random bits, b + 2 consecutive ones each: bit j of a sample weighs 2^j
/// for j ≤ b, the last one 1.
///
/// Panics if the number of bits is not a multiple of b + 2, or if 2^b is no word.
#[must_use]
pub fn tuniform<W: Word, const D: usize>(bits: &GrVec<W, D>, b: u32) -> GrVec<W, D> {
    let width = bits_of_sample(b);
    assert!(b < W::BITS && bits.len().is_multiple_of(width));
    let mut samples = GrVec::zeros(bits.len() / width);
    tiles::for_each(&mut samples, TILE, |tile, samples| {
        for (c, samples) in samples.into_iter().enumerate() {
            let lowest = if c == 0 { W::truncate(1 << b) } else { W::ZERO };
            let shares = bits.coefficient(c)[tile * TILE * width..].chunks_exact(width);
            for (sample, shares) in samples.iter_mut().zip(shares) {
                let (extra, digits) = (shares[b as usize + 1], &shares[..=b as usize]);
                let sum = digits.iter().rev().fold(W::ZERO, |sum, digit| sum.plus(sum).plus(*digit));
                *sample = sum.plus(extra).minus(lowest);
            }
        }
    });
    samples
}

#[cfg(test)]
mod tests {
    use kms_algebra::{Codec, PartyId, shamir};
    use rand::SeedableRng;
    use rand_chacha::ChaCha20Rng;

    use super::*;

    /// All strings of b + 2 bits, shared: the samples are exactly the distribution.
    fn every_string_gives_the_distribution<W: Word, const D: usize>(n: usize, t: usize, b: u32) {
        let strings = 1u64 << bits_of_sample(b);
        let bits: Vec<W> =
            (0..strings).flat_map(|s| (0..bits_of_sample(b)).map(move |j| W::truncate((s >> j & 1).into()))).collect();
        let shares: Vec<GrVec<W, D>> =
            shamir::share_words::<W, D>(&bits, n, t, &mut ChaCha20Rng::seed_from_u64(b.into()))
                .iter()
                .map(|share| tuniform(share, b))
                .collect();
        let list: Vec<_> = PartyId::all(n).zip(&shares).collect();
        let samples = Codec::new(n, t).unwrap().decode(&list).unwrap().values;
        let mut counts = vec![0; (2 << b) + 1];
        for sample in samples.iter() {
            assert!(sample.0[1..].iter().all(|c| *c == W::ZERO));
            counts[sample.0[0].plus(W::truncate(1 << b)).widen() as usize] += 1;
        }
        let last = counts.len() - 1;
        assert!(counts.iter().enumerate().all(|(i, count)| *count == if i == 0 || i == last { 1 } else { 2 }));
    }

    #[test]
    fn samples_have_exactly_the_distribution() {
        for b in 0..=6 {
            every_string_gives_the_distribution::<u64, 4>(4, 1, b);
            every_string_gives_the_distribution::<u128, 5>(16, 5, b);
        }
    }

    #[test]
    fn large_bounds_are_exact() {
        fn check<W: Word>(b: u32) {
            let width = bits_of_sample(b);
            let mut bits = GrVec::<W, 4>::zeros(2 * width);
            bits.coefficient_mut(0)[width..].fill(W::ONE);
            let samples = tuniform(&bits, b);
            let bound = W::truncate(1 << b);
            assert_eq!(samples.coefficient(0), [W::ZERO.minus(bound), bound]);
        }
        check::<u64>(46);
        check::<u128>(30);
        check::<u128>(100);
    }
}
