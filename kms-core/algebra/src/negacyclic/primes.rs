//! The primes, and transforms modulo one of them.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use parking_lot::Mutex;
use tfhe_ntt::prime64;

use crate::Word;

/// The largest primes below 2^50 with roots of unity of order 2^17. All are within 2^25 of 2^50.
const PRIMES: [u64; 6] = [
    0x3_FFFF_FFD2_0001,
    0x3_FFFF_FFB8_0001,
    0x3_FFFF_FED6_0001,
    0x3_FFFF_FEC8_0001,
    0x3_FFFF_FEBE_0001,
    0x3_FFFF_FEA6_0001,
];
/// Their bits.
pub(super) const PRIME_BITS: u32 = 50;
/// Bits of a limb of a word that is reduced modulo a prime.
const LIMB_BITS: u32 = 48;

/// A number that others are multiplied with modulo a prime, with floor(2^64·value/p) (Shoup).
#[derive(Clone, Copy)]
struct Factor {
    value: u64,
    quotient: u64,
}

impl Factor {
    fn new(value: u64, prime: u64) -> Self {
        Self { value, quotient: ((u128::from(value) << 64) / u128::from(prime)) as u64 }
    }

    /// x·value mod p up to one p too much, for any x.
    #[inline(always)]
    const fn times(self, x: u64, prime: u64) -> u64 {
        let quotient = ((x as u128 * self.quotient as u128) >> 64) as u64;
        x.wrapping_mul(self.value).wrapping_sub(quotient.wrapping_mul(prime))
    }
}

/// Transforms of one length modulo one prime.
pub(super) struct Plan {
    ntt: prime64::Plan,
    /// 2^48 and 2^96 mod p.
    limbs: [Factor; 2],
    /// (P/p)^{-1}/N mod p.
    scale: Factor,
    /// P/p mod 2^128.
    pub(super) others: u128,
}

/// Transforms of one length modulo as many primes as a word needs.
pub(super) struct Transforms {
    pub(super) plans: Vec<Plan>,
    /// P mod 2^128.
    pub(super) product: u128,
}

/// The transforms of polynomials of `len` coefficients of this width, made once per process.
pub(super) fn transforms<W: Word>(len: usize) -> Arc<Transforms> {
    static KNOWN: LazyLock<Mutex<HashMap<(usize, u32), Arc<Transforms>>>> = LazyLock::new(Mutex::default);
    let mut known = KNOWN.lock();
    Arc::clone(known.entry((len, W::BITS)).or_insert_with(|| Arc::new(Transforms::new::<W>(len))))
}

impl Transforms {
    fn new<W: Word>(len: usize) -> Self {
        let primes = if W::BITS == 64 { &PRIMES[..3] } else { &PRIMES[..] };
        let product = |without: Option<u64>| {
            primes.iter().filter(|p| Some(**p) != without).fold(1u128, |product, p| product.wrapping_mul((*p).into()))
        };
        let plans = primes.iter().map(|prime| Plan::new(*prime, primes, product(Some(*prime)), len)).collect();
        Self { plans, product: product(None) }
    }
}

impl Plan {
    fn new(prime: u64, primes: &[u64], others: u128, len: usize) -> Self {
        let wide = u128::from(prime);
        let times = |a: u64, b: u64| (u128::from(a) * u128::from(b) % wide) as u64;
        let divisor = primes.iter().filter(|p| **p != prime).fold(len as u64, |product, p| times(product, p % prime));
        // Fermat: the inverse is the power p − 2.
        let inverse = (0..PRIME_BITS).rev().fold(1, |power, bit| {
            let square = times(power, power);
            if (prime - 2) >> bit & 1 == 1 { times(square, divisor) } else { square }
        });
        let limb = (1u64 << LIMB_BITS) % prime;
        Self {
            ntt: prime64::Plan::try_new(len, prime).expect("the primes have roots of unity for all allowed lengths"),
            limbs: [limb, times(limb, limb)].map(|limb| Factor::new(limb, prime)),
            scale: Factor::new(inverse, prime),
            others,
        }
    }

    /// A word mod p.
    #[inline(always)]
    fn reduce<W: Word>(&self, word: W) -> u64 {
        let prime = self.ntt.modulus();
        let word = word.widen();
        let lowest = word as u64 & ((1 << LIMB_BITS) - 1);
        let middle = self.limbs[0].times((word >> LIMB_BITS) as u64 & ((1 << LIMB_BITS) - 1), prime);
        // Less than p + 2p (+ 2p).
        let sum = lowest + middle;
        if W::BITS == 64 {
            return at_most_once(at_most_once(sum, 2 * prime), prime);
        }
        let sum = sum + self.limbs[1].times((word >> (2 * LIMB_BITS)) as u64, prime);
        at_most_once(at_most_once(at_most_once(sum, 4 * prime), 2 * prime), prime)
    }

    /// The transform of a polynomial.
    pub(super) fn forward<W: Word>(&self, words: &[W], out: &mut [u64]) {
        out.iter_mut().zip(words).for_each(|(out, word)| *out = self.reduce(*word));
        self.ntt.fwd(out);
    }

    /// The transform of a polynomial times (P/p)^{-1}/N.
    pub(super) fn forward_scaled<W: Word>(&self, words: &[W], out: &mut [u64]) {
        let prime = self.ntt.modulus();
        for (out, word) in out.iter_mut().zip(words) {
            *out = at_most_once(self.scale.times(self.reduce(*word), prime), prime);
        }
        self.ntt.fwd(out);
    }

    /// Adds the products of two transforms.
    pub(super) fn accumulate(&self, sums: &mut [u64], left: &[u64], right: &[u64]) {
        self.ntt.mul_accumulate(sums, left, right);
    }

    /// The inverse of the transform, times N; values are less than p.
    pub(super) fn back(&self, values: &mut [u64]) {
        self.ntt.inv(values);
    }
}

/// Subtracts `modulus` if that leaves nothing negative.
#[inline(always)]
fn at_most_once(value: u64, modulus: u64) -> u64 {
    value.min(value.wrapping_sub(modulus))
}
