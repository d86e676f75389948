//! What one core can do at most: the yardstick for the engine's figures.
//!
//! Loops over registers, without memory, that keep the units busy that AES and multiplication need. Where the machine has
//! no wide units it is measured what the portable code uses: AES of the `aes` crate, 64-bit multiplications.

use std::hint::black_box;

use super::rate;
use crate::report::Figure;

/// Rounds of a loop between two looks at the clock.
const ROUNDS: usize = 100_000;

/// Peak rates of one core.
pub(super) struct Peak {
    /// AES-128 blocks per second, key schedule at hand.
    aes: f64,
    /// Products mod 2^128, added up, per second, from the definition: three 64-bit products, or nine halves of 52-bit ones.
    products: f64,
    /// The widest units that were found.
    units: &'static str,
}

impl Peak {
    pub(super) fn measure() -> Self {
        #[cfg(target_arch = "x86_64")]
        if let Some(peak) = wide::measure() {
            return peak;
        }
        Self { aes: aes_crate(), products: scalar(), units: "portable" }
    }

    /// The peaks as figures of their own.
    pub(super) fn figures(&self) -> Vec<Figure> {
        vec![
            Figure::new(
                "mpc.peak.aes",
                self.aes,
                "blocks/s/core",
                format!("AES-128 in registers, {}: what masks are measured against", self.units),
            ),
            Figure::new(
                "mpc.peak.products",
                self.products,
                "products/s/core",
                format!(
                    "multiply-adds mod 2^128 in registers, from the definition, {}: what dot products and decoding are measured against",
                    self.units
                ),
            ),
        ]
    }

    pub(super) fn share_of_aes(&self, blocks: f64) -> String {
        format!("{:.0} % of the core's AES peak", 100.0 * blocks / self.aes)
    }

    pub(super) fn share_of_products(&self, products: f64) -> String {
        format!("{:.0} % of the core's peak", 100.0 * products / self.products)
    }
}

fn aes_crate() -> f64 {
    use aes::cipher::{BlockEncrypt, KeyInit};
    let cipher = aes::Aes128Enc::new(&[1; 16].into());
    let mut blocks = [aes::Block::default(); 64];
    rate(64 * 1000, || (0..1000).for_each(|_| cipher.encrypt_blocks(black_box(&mut blocks))))
}

/// Products of words of 128 bits as the compiler makes them: one wide and two narrow multiplications.
fn scalar() -> f64 {
    const LANES: usize = 4;
    rate(LANES * ROUNDS, || {
        let factor: u128 = black_box(0x0123_4567_89AB_CDEF_0011_2233_4455_6677);
        let mut sums: [u128; LANES] = black_box([3, 5, 7, 9]);
        for _ in 0..ROUNDS {
            for sum in &mut sums {
                *sum = sum.wrapping_mul(factor).wrapping_add(factor);
            }
        }
        black_box(sums);
    })
}

#[cfg(target_arch = "x86_64")]
#[expect(unsafe_code, reason = "functions for a processor's features may be called only after looking for them")]
mod wide {
    use std::arch::x86_64::{
        __m512i, _mm512_aesenc_epi128, _mm512_madd52hi_epu64, _mm512_madd52lo_epu64, _mm512_set1_epi64,
    };
    use std::hint::black_box;

    use super::{Peak, ROUNDS, rate, scalar};

    /// Vectors in flight: more than latency × throughput of either unit.
    const STREAMS: usize = 12;

    pub(super) fn measure() -> Option<Peak> {
        let found = is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("vaes")
            && is_x86_feature_detected!("avx512ifma");
        // SAFETY: the features that the two functions are compiled for were found just now.
        found.then(|| unsafe {
            let ifma = rate(8 * STREAMS * ROUNDS, || {
                black_box(multiply(black_box(7)));
            });
            let rounds = rate(4 * STREAMS * ROUNDS, || {
                black_box(encrypt(black_box(7)));
            });
            // Ten rounds make an AES-128; nine halves of products a product mod 2^128.
            Peak { aes: rounds / 10.0, products: (ifma / 9.0).max(scalar()), units: "AVX-512 with VAES and IFMA" }
        })
    }

    #[target_feature(enable = "avx512f,vaes")]
    fn encrypt(seed: i64) -> [__m512i; STREAMS] {
        let key = _mm512_set1_epi64(seed);
        let mut streams = [key; STREAMS];
        for _ in 0..ROUNDS {
            for stream in &mut streams {
                *stream = _mm512_aesenc_epi128(*stream, key);
            }
        }
        streams
    }

    #[target_feature(enable = "avx512f,avx512ifma")]
    fn multiply(seed: i64) -> [__m512i; STREAMS] {
        let factor = _mm512_set1_epi64(seed);
        let mut sums = [factor; STREAMS];
        for _ in 0..ROUNDS / 2 {
            for sum in &mut sums {
                *sum = _mm512_madd52lo_epu64(*sum, factor, factor);
            }
            for sum in &mut sums {
                *sum = _mm512_madd52hi_epu64(*sum, factor, factor);
            }
        }
        sums
    }
}
