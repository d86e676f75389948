//! Sums of words over the sets with AVX-512: consecutive blocks of a stream side by side in one vector.
//!
//! A batch of values is long, so the four 128-bit lanes are four counters of one set, whose round keys are broadcast: sums
//! stay in their lanes, and nothing is joined but at the end. Words of 128 bits are taken in limbs of 32 bits times small
//! numerators, as masks are; words of 64 bits times the weights themselves.

use core::arch::x86_64::{
    __m128i, __m512i, _mm_setzero_si128, _mm512_add_epi64, _mm512_aesenc_epi128, _mm512_aesenclast_epi128,
    _mm512_and_si512, _mm512_broadcast_i32x4, _mm512_extracti32x4_epi32, _mm512_madd52lo_epu64, _mm512_mullo_epi64,
    _mm512_set_epi64, _mm512_set1_epi64, _mm512_setzero_si512, _mm512_slli_epi64, _mm512_srli_epi64,
    _mm512_storeu_si512, _mm512_sub_epi64, _mm512_xor_si512,
};

use kms_algebra::{Gr, Word};
use zeroize::{Zeroize, Zeroizing};

use super::{OFFSET_LOG2, Wide, blocks, derive, mac};

/// Vectors of words of 128 bits whose sums are in registers at a time.
const VECTORS_128: usize = 2;
/// Vectors of words of 64 bits whose sums are in registers at a time.
const VECTORS_64: usize = 4;

/// What the words of a set are multiplied with. Public.
pub(super) struct Weights<const D: usize> {
    /// Coefficients of N_A + 2^OFFSET_LOG2.
    numerator: [i64; D],
    /// f_A(α_i) mod 2^64.
    weight: [i64; D],
}

impl<const D: usize> Weights<D> {
    pub(super) fn new(numerator: &Gr<u128, D>, scale: &Gr<u128, D>) -> Self {
        Self {
            // Between 0 and 2^(OFFSET_LOG2 + 1), as was checked.
            numerator: numerator.0.map(|word| word.wrapping_add(1 << OFFSET_LOG2) as i64),
            weight: (*numerator * *scale).0.map(|word| word as i64),
        }
    }
}

/// Key schedules of the streams of all sets. Erased on drop.
pub(in super::super) struct Streams(Vec<[__m128i; 11]>);

impl Drop for Streams {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl<const D: usize> Wide<D> {
    /// The streams whose keys are the MACs of `message`.
    pub(in super::super) fn streams(&self, message: &[u8; mac::MESSAGE_BYTES]) -> Streams {
        // SAFETY: a value of this type exists only where `new` found the features that this is compiled for.
        #[expect(unsafe_code, reason = "see SAFETY")]
        unsafe {
            self.schedules(message)
        }
    }

    /// What [`Self::sums`] have to be multiplied with.
    pub(in super::super) fn scale<W: Word>(&self) -> Option<Gr<W, D>> {
        (W::BITS == 128).then(|| self.scale.cast())
    }

    /// The sums of words `first..first + out.len()` over the sets.
    pub(in super::super) fn sums<W: Word>(&self, streams: &Streams, first: u64, out: &mut [Gr<W, D>]) {
        // SAFETY: a value of this type exists only where `new` found the features that these are compiled for.
        #[expect(unsafe_code, reason = "see SAFETY")]
        unsafe {
            if W::BITS == 64 { self.sums_64(streams, first, out) } else { self.sums_128(streams, first, out) }
        }
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512ifma,vaes")]
    fn schedules(&self, message: &[u8; mac::MESSAGE_BYTES]) -> Streams {
        let mut quads = Zeroizing::new(vec![[_mm512_setzero_si512(); 11]; self.quads.len()]);
        derive(&self.quads, &blocks(message), &mut quads);
        let mut schedules = vec![[_mm_setzero_si128(); 11]; 4 * quads.len()];
        for (quad, schedules) in quads.iter().zip(schedules.as_chunks_mut::<4>().0) {
            for (round, keys) in quad.iter().enumerate() {
                schedules[0][round] = _mm512_extracti32x4_epi32::<0>(*keys);
                schedules[1][round] = _mm512_extracti32x4_epi32::<1>(*keys);
                schedules[2][round] = _mm512_extracti32x4_epi32::<2>(*keys);
                schedules[3][round] = _mm512_extracti32x4_epi32::<3>(*keys);
            }
        }
        Streams(schedules)
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512ifma,vaes")]
    fn sums_128<W: Word>(&self, streams: &Streams, first: u64, out: &mut [Gr<W, D>]) {
        let lower = _mm512_set1_epi64(0xFFFF_FFFF);
        for (index, out) in out.chunks_mut(4 * VECTORS_128).enumerate() {
            let counters: [__m512i; VECTORS_128] = counters(first + (4 * VECTORS_128 * index) as u64);
            let mut halves = [[[_mm512_setzero_si512(); 2]; D]; VECTORS_128];
            let mut plain = [[_mm512_setzero_si512(); 2]; VECTORS_128];
            for (weights, schedule) in self.weights.iter().zip(&streams.0) {
                let stream = encrypt(&counters, schedule);
                for ((halves, plain), words) in halves.iter_mut().zip(&mut plain).zip(stream) {
                    let limbs = [_mm512_and_si512(words, lower), _mm512_srli_epi64::<32>(words)];
                    for (halves, weight) in halves.iter_mut().zip(&weights.numerator) {
                        for (half, limb) in halves.iter_mut().zip(limbs) {
                            *half = _mm512_madd52lo_epu64(*half, limb, _mm512_set1_epi64(*weight));
                        }
                    }
                    for (plain, limb) in plain.iter_mut().zip(limbs) {
                        *plain = _mm512_add_epi64(*plain, limb);
                    }
                }
            }
            for ((halves, plain), out) in halves.iter().zip(&plain).zip(out.chunks_mut(4)) {
                for (c, halves) in halves.iter().enumerate() {
                    let mut limbs = Zeroizing::new([[0i64; 8]; 2]);
                    for ((limbs, half), plain) in limbs.iter_mut().zip(halves).zip(plain) {
                        let offset = _mm512_slli_epi64::<OFFSET_LOG2>(*plain);
                        *limbs = lanes(_mm512_sub_epi64(*half, offset));
                    }
                    for (i, out) in out.iter_mut().enumerate() {
                        let [low, high, middle, top] =
                            [limbs[0][2 * i], limbs[0][2 * i + 1], limbs[1][2 * i], limbs[1][2 * i + 1]]
                                .map(|limb| i128::from(limb).cast_unsigned());
                        let sum = low.wrapping_add(middle << 32).wrapping_add(high << 64).wrapping_add(top << 96);
                        out.0[c] = W::truncate(sum);
                    }
                }
            }
        }
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512ifma,vaes")]
    fn sums_64<W: Word>(&self, streams: &Streams, first: u64, out: &mut [Gr<W, D>]) {
        // Blocks have two words: the first of them may not be wanted.
        let skip = (first % 2) as usize;
        let mut done = 0;
        while done < out.len() {
            let behind = if done == 0 { skip } else { 0 };
            let counters: [__m512i; VECTORS_64] = counters((first + done as u64) / 2);
            let mut sums = [[_mm512_setzero_si512(); D]; VECTORS_64];
            for (weights, schedule) in self.weights.iter().zip(&streams.0) {
                let stream = encrypt(&counters, schedule);
                for (sums, words) in sums.iter_mut().zip(stream) {
                    for (sum, weight) in sums.iter_mut().zip(&weights.weight) {
                        let product = _mm512_mullo_epi64(words, _mm512_set1_epi64(*weight));
                        *sum = _mm512_add_epi64(*sum, product);
                    }
                }
            }
            let now = (8 * VECTORS_64 - behind).min(out.len() - done);
            for c in 0..D {
                let mut words = Zeroizing::new([[0i64; 8]; VECTORS_64]);
                words.iter_mut().zip(&sums).for_each(|(words, sums)| *words = lanes(sums[c]));
                let words = words.as_flattened().iter().skip(behind);
                for (out, word) in out[done..done + now].iter_mut().zip(words) {
                    out.0[c] = W::truncate(word.cast_unsigned().into());
                }
            }
            done += now;
        }
    }
}

/// Consecutive counters from `first` on.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512ifma,vaes")]
#[inline]
fn counters<const V: usize>(first: u64) -> [__m512i; V] {
    core::array::from_fn(|vector| {
        let [a, b, c, d] = [0, 1, 2, 3].map(|lane| (first + (4 * vector + lane) as u64).swap_bytes().cast_signed());
        _mm512_set_epi64(d, 0, c, 0, b, 0, a, 0)
    })
}

/// AES-128 of all blocks under one key.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512ifma,vaes")]
#[inline]
fn encrypt<const V: usize>(counters: &[__m512i; V], schedule: &[__m128i; 11]) -> [__m512i; V] {
    let mut state = *counters;
    let key = _mm512_broadcast_i32x4(schedule[0]);
    state.iter_mut().for_each(|state| *state = _mm512_xor_si512(*state, key));
    for key in &schedule[1..10] {
        let key = _mm512_broadcast_i32x4(*key);
        state.iter_mut().for_each(|state| *state = _mm512_aesenc_epi128(*state, key));
    }
    let key = _mm512_broadcast_i32x4(schedule[10]);
    state.iter_mut().for_each(|state| *state = _mm512_aesenclast_epi128(*state, key));
    state
}

/// The words of a vector.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512ifma,vaes")]
#[inline]
fn lanes(vector: __m512i) -> [i64; 8] {
    let mut words = [0i64; 8];
    // SAFETY: the array is as long as a vector, and the store needs no alignment.
    #[expect(unsafe_code, reason = "see SAFETY")]
    unsafe {
        _mm512_storeu_si512(words.as_mut_ptr().cast(), vector);
    }
    words
}
