//! Dot products with AVX-512 IFMA, eight pairs at a time.
//!
//! **Products mod 2^128.** Words are split in limbs of 51, 51 and 26 bits, so that sums of two limbs still fit the 52 bits
//! that IFMA multiplies. IFMA adds the lower or upper 52 bits of a product to a 64-bit word; a product takes nine. What has
//! the same weight is added up without carries, and joined once per [`SEGMENT`].
//!
//! **Cache.** The limbs of [`TILE`] elements of the share are made once, and stay in the first level of the cache while all
//! masks go over them.

use core::arch::x86_64::{
    __m512i, _mm512_add_epi64, _mm512_and_si512, _mm512_loadu_si512, _mm512_madd52hi_epu64, _mm512_madd52lo_epu64,
    _mm512_or_si512, _mm512_reduce_add_epi64, _mm512_set1_epi64, _mm512_setzero_si512, _mm512_slli_epi64,
    _mm512_srli_epi64, _mm512_unpackhi_epi64, _mm512_unpacklo_epi64,
};

use kms_algebra::Gr;
use kms_encoding::ShareVector;
use zeroize::{Zeroize, Zeroizing};

/// Elements that are multiplied at a time: eight pairs.
const STEP: usize = 16;
/// Steps whose limbs of the share are at hand.
const STEPS: usize = 8;
/// Elements of a tile.
const TILE: usize = STEP * STEPS;
/// Elements whose sums don't overflow, all words of a vector taken together: 256 steps × 8 words × 2 × 2^52 = 2^64.
const SEGMENT: usize = 256 * STEP;

/// Eight words in limbs.
type Limbs = [__m512i; 3];
/// Sums with the weights 2^0, 2^51, 2^52, 2^102 and 2^103; of the last two only 26 bits matter.
type Sums = [__m512i; 5];

/// Of one mask: sums of (a + s')·(a' + s) for every coefficient, and of a·a'.
#[derive(Clone, Copy, Zeroize)]
struct Row<const D: usize> {
    products: [Sums; D],
    own: Sums,
}

/// Proof that the processor has what this file is compiled for.
#[derive(Clone, Copy)]
pub(super) struct Units(());

impl Units {
    /// `None` if it hasn't.
    pub(super) fn find() -> Option<Self> {
        (is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512ifma")).then_some(Self(()))
    }

    /// Subtracts ⟨row, share⟩ from each element of `out`. The caller has checked the lengths.
    pub(super) fn subtract<const D: usize>(self, rows: &[&[u128]], share: &ShareVector, out: &mut [Gr<u128, D>]) {
        // SAFETY: `self` exists only where `find` found the features that `subtract` is compiled for.
        #[expect(unsafe_code, reason = "see SAFETY")]
        unsafe {
            subtract(rows, share, out);
        }
    }
}

#[target_feature(enable = "avx512f,avx512ifma")]
fn subtract<const D: usize>(rows: &[&[u128]], share: &ShareVector, out: &mut [Gr<u128, D>]) {
    let zero = _mm512_setzero_si512();
    let mut tile = Zeroizing::new([[[[zero; 3]; 2]; D]; STEPS]);
    let mut sums = Zeroizing::new(vec![Row { products: [[zero; 5]; D], own: [zero; 5] }; rows.len()]);
    for start in (0..share.len()).step_by(SEGMENT) {
        let end = share.len().min(start + SEGMENT);
        let mut share_sums = Zeroizing::new([[zero; 5]; D]);
        for start in (start..end).step_by(TILE) {
            let range = start..end.min(start + TILE);
            let steps = range.len().div_ceil(STEP);
            for c in 0..D {
                let words = &share.coordinate(c)[range.clone()];
                for (step, words) in words.chunks(STEP).enumerate() {
                    let [first, second] = pairs(words);
                    multiply(&mut share_sums[c], &first, &second);
                    // The other way round: the first elements of the pairs of a mask are added to the second ones here.
                    tile[step][c] = [second, first];
                }
            }
            for (row, sums) in rows.iter().zip(sums.iter_mut()) {
                add_tile(&row[range.clone()], &tile[..steps], sums);
            }
        }
        for (out, sums) in out.iter_mut().zip(sums.iter_mut()) {
            let own = join(&sums.own);
            for (c, word) in out.0.iter_mut().enumerate() {
                let both = own.wrapping_add(join(&share_sums[c]));
                *word = word.wrapping_add(both).wrapping_sub(join(&sums.products[c]));
            }
            sums.zeroize();
        }
    }
}

/// Adds the products of a piece of a mask and a tile of the share.
#[target_feature(enable = "avx512f,avx512ifma")]
#[inline]
fn add_tile<const D: usize>(words: &[u128], tile: &[[[Limbs; 2]; D]], sums: &mut Row<D>) {
    let mut products = sums.products;
    let mut own = sums.own;
    for (words, share) in words.chunks(STEP).zip(tile) {
        let mask = pairs(words);
        for (products, share) in products.iter_mut().zip(share) {
            multiply(products, &add(&mask[0], &share[0]), &add(&mask[1], &share[1]));
        }
        multiply(&mut own, &mask[0], &mask[1]);
    }
    sums.products = products;
    sums.own = own;
}

/// The limbs of the first and second elements of eight pairs. What is missing is 0.
#[target_feature(enable = "avx512f")]
#[inline]
fn pairs(words: &[u128]) -> [Limbs; 2] {
    if let Ok(words) = <&[u128; STEP]>::try_from(words) {
        let [a, b, c, d] = load(words);
        return [limbs(a, b), limbs(c, d)];
    }
    let mut padded = Zeroizing::new([0; STEP]);
    padded[..words.len()].copy_from_slice(words);
    let [a, b, c, d] = load(&padded);
    [limbs(a, b), limbs(c, d)]
}

#[target_feature(enable = "avx512f")]
#[inline]
fn load(words: &[u128; STEP]) -> [__m512i; 4] {
    let mut vectors = [_mm512_setzero_si512(); 4];
    for (vector, words) in vectors.iter_mut().zip(words.as_chunks::<4>().0) {
        *vector = load_four(words);
    }
    vectors
}

#[target_feature(enable = "avx512f")]
#[inline]
#[expect(unsafe_code, reason = "a load takes a pointer")]
fn load_four(words: &[u128; 4]) -> __m512i {
    // SAFETY: four words are the 64 bytes that are read, and the load asks for no alignment.
    unsafe { _mm512_loadu_si512(words.as_ptr().cast()) }
}

/// The limbs of eight words, in an order that is the same everywhere.
#[target_feature(enable = "avx512f")]
#[inline]
fn limbs(a: __m512i, b: __m512i) -> Limbs {
    let low = _mm512_unpacklo_epi64(a, b);
    let high = _mm512_unpackhi_epi64(a, b);
    let bits = _mm512_set1_epi64((1 << 51) - 1);
    let middle = _mm512_or_si512(_mm512_srli_epi64::<51>(low), _mm512_slli_epi64::<13>(high));
    [_mm512_and_si512(low, bits), _mm512_and_si512(middle, bits), _mm512_srli_epi64::<38>(high)]
}

#[target_feature(enable = "avx512f")]
#[inline]
fn add(a: &Limbs, b: &Limbs) -> Limbs {
    [_mm512_add_epi64(a[0], b[0]), _mm512_add_epi64(a[1], b[1]), _mm512_add_epi64(a[2], b[2])]
}

/// Adds the products mod 2^128 of eight words, in limbs of at most 52 bits.
#[target_feature(enable = "avx512f,avx512ifma")]
#[inline]
fn multiply(sums: &mut Sums, x: &Limbs, y: &Limbs) {
    sums[0] = _mm512_madd52lo_epu64(sums[0], x[0], y[0]);
    sums[2] = _mm512_madd52hi_epu64(sums[2], x[0], y[0]);
    sums[1] = _mm512_madd52lo_epu64(sums[1], x[0], y[1]);
    sums[4] = _mm512_madd52hi_epu64(sums[4], x[0], y[1]);
    sums[3] = _mm512_madd52lo_epu64(sums[3], x[0], y[2]);
    sums[1] = _mm512_madd52lo_epu64(sums[1], x[1], y[0]);
    sums[4] = _mm512_madd52hi_epu64(sums[4], x[1], y[0]);
    sums[3] = _mm512_madd52lo_epu64(sums[3], x[1], y[1]);
    sums[3] = _mm512_madd52lo_epu64(sums[3], x[2], y[0]);
}

/// The sum mod 2^128 of all words of sums.
#[target_feature(enable = "avx512f")]
#[inline]
fn join(sums: &Sums) -> u128 {
    let weights = [0, 51, 52, 102, 103];
    let mut total = 0u128;
    for (sum, weight) in sums.iter().zip(weights) {
        let word = _mm512_reduce_add_epi64(*sum).cast_unsigned();
        total = total.wrapping_add(u128::from(word) << weight);
    }
    total
}
