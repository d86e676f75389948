//! Products of public polynomials with shares of polynomials, mod X^N + 1.
//!
//! A body of a fresh ciphertext is Σ_j a_j(X)·S_j(X) + …, with public masks a_j of full width and secrets S_j of which
//! everybody holds a share: D polynomials, one per ring coefficient, because a_j has its coefficients in Z_2^k. Exact mod
//! 2^64 and 2^128: the products are made in the integers, by number theoretic transforms modulo several primes of 50 bits,
//! and joined by the Chinese remainder theorem.
//!
//! - Shares are transformed once ([`SharePoly`]) and used for all rows of a key; a mask is transformed once for all D
//!   coefficients; sums over j are taken between transforms, so that a row takes one transform per mask and D back.
//! - With P = Π p_i and y_i = x·(P/p_i)^{-1} mod p_i an integer x is Σ_i y_i·(P/p_i) − κ·P. The constants are multiplied
//!   into the transforms of the shares, so that the y_i are what comes back; and since |x| is far below P, κ is the
//!   nearest integer to Σ_i y_i/p_i, for which Σ_i y_i/2^50 is near enough.
//!
//! Nothing branches on a share or indexes with it.
//!
//! Source: Pollard, *The fast Fourier transform in a finite field* (Math. Comp. 1971), §5 (several primes); Bernstein and
//! Sorenson, *Modular exponentiation via the explicit Chinese remainder theorem* (Math. Comp. 2007), §2.

mod primes;

use std::sync::Arc;

use zeroize::Zeroizing;

use self::primes::{PRIME_BITS, Plan, Transforms};
use crate::{GrVec, Word};

/// Shortest polynomial.
const SHORTEST: usize = 64;
/// Longest polynomial: what the primes have roots of unity for.
const LONGEST: usize = 1 << 16;
/// log2 of the largest (number of products)·N of one sum: at most 2^146 of 2^150 mod 2^64, so that κ is decided by far.
const LARGEST_SUM_LOG2: u32 = 18;

/// One party's share of a polynomial S of N coefficients in Z_2^k, ready for products. Erased on drop.
pub struct SharePoly<W: Word, const D: usize> {
    transforms: Arc<Transforms>,
    len: usize,
    /// For each prime and each ring coefficient the transform, times 1/N and (P/p_i)^{-1}.
    values: Zeroizing<Vec<u64>>,
    word: core::marker::PhantomData<W>,
}

impl<W: Word, const D: usize> core::fmt::Debug for SharePoly<W, D> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "SharePoly({} coefficients)", self.len)
    }
}

impl<W: Word, const D: usize> SharePoly<W, D> {
    /// From the share of each coefficient of S, in ascending order of powers. Keeps 3·D·N words of 64 bits mod 2^64 and
    /// 6·D·N mod 2^128.
    ///
    /// Panics if their number is not a power of two from 64 to 65536.
    #[must_use]
    pub fn new(share: &GrVec<W, D>) -> Self {
        let len = share.len();
        assert!(len.is_power_of_two() && (SHORTEST..=LONGEST).contains(&len));
        let transforms = primes::transforms::<W>(len);
        let mut values = Zeroizing::new(vec![0u64; transforms.plans.len() * D * len]);
        for (plan, values) in transforms.plans.iter().zip(values.chunks_exact_mut(D * len)) {
            for (c, values) in values.chunks_exact_mut(len).enumerate() {
                plan.forward_scaled(share.coefficient(c), values);
            }
        }
        Self { transforms, len, values, word: core::marker::PhantomData }
    }

    /// N.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether there are no coefficients: never.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Transform of ring coefficient `c` modulo a prime.
    fn transform(&self, prime: usize, c: usize) -> &[u64] {
        let start = (prime * D + c) * self.len;
        &self.values[start..start + self.len]
    }
}

/// Adds Σ_j masks\[j\](X)·shares\[j\](X) mod X^N + 1 to `out`: exact mod 2^64 or 2^128, coefficients in ascending order of
/// powers. Single-threaded; allocates about (3·D + 1)·N words of 64 bits, erased afterwards.
///
/// Panics if there are not as many masks as shares, if not all have N coefficients as `out`, or if their number times N is
/// more than 2^18.
pub fn add_products<W: Word, const D: usize>(masks: &[&[W]], shares: &[&SharePoly<W, D>], out: &mut GrVec<W, D>) {
    let len = out.len();
    assert!(masks.len() == shares.len() && masks.len() * len <= 1 << LARGEST_SUM_LOG2);
    assert!(masks.iter().all(|mask| mask.len() == len) && shares.iter().all(|share| share.len == len));
    let Some(first) = shares.first() else { return };
    let transforms = &first.transforms;
    let mut mask = vec![0u64; len];
    let mut sums = Zeroizing::new(vec![0u64; D * len]);
    let mut digits = Zeroizing::new(vec![0u64; D * len]);
    for (prime, plan) in transforms.plans.iter().enumerate() {
        sums.fill(0);
        for (words, share) in masks.iter().zip(shares) {
            plan.forward(words, &mut mask);
            for (c, sums) in sums.chunks_exact_mut(len).enumerate() {
                plan.accumulate(sums, &mask, share.transform(prime, c));
            }
        }
        for (c, (sums, digits)) in sums.chunks_exact_mut(len).zip(digits.chunks_exact_mut(len)).enumerate() {
            plan.back(sums);
            add_remainders(plan, sums, digits, out.coefficient_mut(c));
        }
    }
    let product = W::truncate(transforms.product);
    for (c, digits) in digits.chunks_exact(len).enumerate() {
        for (word, digits) in out.coefficient_mut(c).iter_mut().zip(digits) {
            let kappa = (digits + (1 << (PRIME_BITS - 1))) >> PRIME_BITS;
            *word = word.minus(product.times(W::truncate(kappa.into())));
        }
    }
}

/// Adds y·(P/p) to words and y to sums of digits.
fn add_remainders<W: Word>(plan: &Plan, remainders: &[u64], digits: &mut [u64], out: &mut [W]) {
    let weight = W::truncate(plan.others);
    for ((y, digits), word) in remainders.iter().zip(digits).zip(out) {
        *word = word.plus(W::truncate((*y).into()).times(weight));
        *digits += y;
    }
}

#[cfg(test)]
mod tests;
