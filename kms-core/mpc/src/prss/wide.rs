//! Flooding masks with AVX-512: four sets side by side in one vector.
//!
//! Two things make this faster than a set after the other:
//! - **AES.** The four 128-bit lanes of a vector are four sets with keys of their own, all at the same counter. VAES takes
//!   a round of all four in one instruction, for the session keys (CMAC under r_A) and their key schedules as for the
//!   streams, so that a new session costs little more than its streams.
//! - **Products.** The weights f_A(α_i) fill 128 bits, but their numerators
//!   N_A = Π_{j ∉ A} (α_j − α_i) · Π_{j ∈ A, j ≠ i} α_j are products of elements with coefficients −1, 0 and 1, and so
//!   small: 12 bits and a sign for 13 parties. Their common denominator Π_{j ≠ i} α_j is a unit and comes out of the sum,
//!   so that Σ_A f_A(α_i)·φ_A = (Π_{j ≠ i} α_j)^{-1} · Σ_A N_A·φ_A, exactly. A mask u + u' is taken in four limbs of 32
//!   bits (33 with the carry); a limb times a numerator fits 52 bits, what one instruction of AVX-512 IFMA multiplies and
//!   adds up in eight 64-bit words without any carry between them.
//!
//! Where the processor lacks AVX-512 with IFMA and VAES, or a committee's numerators don't fit, the portable code gives
//! the same bytes.

mod sum;

use core::arch::x86_64::{
    __m512i, _mm_add_epi64, _mm_cvtsi128_si64, _mm_extract_epi64, _mm256_add_epi64, _mm256_castsi256_si128,
    _mm256_extracti128_si256, _mm512_add_epi64, _mm512_aesenc_epi128, _mm512_aesenclast_epi128, _mm512_and_si512,
    _mm512_bslli_epi128, _mm512_castsi512_si256, _mm512_extracti64x4_epi64, _mm512_madd52lo_epu64, _mm512_set_epi64,
    _mm512_set1_epi32, _mm512_set1_epi64, _mm512_setzero_si512, _mm512_shuffle_epi8, _mm512_srli_epi64,
    _mm512_xor_si512,
};

use kms_algebra::{Gr, PartyId};
use kms_encoding::PrssKey;
use kms_encoding::rounding::FLOOD_LOG2;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

pub(super) use self::sum::Streams;
use super::mac::{self, Mac};
use super::{TILE, numerator};

/// Numerators are stored with this added, so that none is negative: their bits, the sign included.
const OFFSET_LOG2: u32 = 18;
/// Fewer sets are faster one after the other: what a value costs beside its sets would dominate.
const FEWEST_SETS: usize = 8;
/// Quads whose session keys are kept at a time, in the first level of the cache.
const CHUNK: usize = 16;
/// Quads whose keys are derived side by side, which hides the latency of AES.
const ABREAST: usize = 4;

/// Four sets; those missing in the last quad have keys of zeros and numerators of 0.
#[derive(Zeroize, ZeroizeOnDrop)]
struct Quad<const D: usize> {
    /// Key schedules of r_A.
    schedule: [__m512i; 11],
    /// Second subkeys of CMAC.
    subkey: __m512i,
    /// Coefficients of N_A + 2^OFFSET_LOG2, in both words of a set's lane.
    weights: [__m512i; D],
}

/// All sets of a party. Erased on drop.
pub(super) struct Wide<const D: usize> {
    quads: Vec<Quad<D>>,
    /// Of every set.
    weights: Vec<sum::Weights<D>>,
    /// (Π_{j ≠ i} α_j)^{-1}.
    scale: Gr<u128, D>,
    /// 2^(FLOOD_LOG2 + 1)·Σ_A N_A: what makes the sums of two non-negative uniforms symmetric.
    centre: Gr<u128, D>,
}

/// Sums over sets of one value: per coefficient the lower and upper halves of both words of every lane, times
/// numerators with their offset, and the same without numerators, to take the offset away.
#[derive(Clone, Copy, Zeroize)]
struct Sums<const D: usize> {
    halves: [[__m512i; 2]; D],
    plain: [__m512i; 2],
}

type Schedules = [[__m512i; 11]; CHUNK];

impl<const D: usize> Wide<D> {
    /// The sets of party `own`, which are `keys`, among n parties; `None` if the processor or the numerators don't allow
    /// it, or if it would not be faster.
    pub(super) fn new(n: usize, own: PartyId, keys: &[PrssKey]) -> Option<Self> {
        let found = is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512ifma")
            && is_x86_feature_detected!("vaes");
        if !found || keys.len() < FEWEST_SETS {
            return None;
        }
        let numerators = keys.iter().map(|key| numerator(n, own, key.set)).collect::<Vec<Gr<u128, D>>>();
        let fits = |word: &u128| word.wrapping_add(1 << (OFFSET_LOG2 - 1)) < 1 << OFFSET_LOG2;
        if !numerators.iter().all(|numerator| numerator.0.iter().all(fits)) {
            return None;
        }
        let denominator =
            PartyId::all(n).filter(|j| *j != own).fold(Gr::<u128, D>::ONE, |product, j| product * Gr::point(j));
        let centre = numerators.iter().fold(Gr::ZERO, |sum, numerator| sum + *numerator);
        // SAFETY: the processor has the features that `quad` is compiled for: they were looked for above.
        #[expect(unsafe_code, reason = "see SAFETY")]
        let quads =
            keys.chunks(4).zip(numerators.chunks(4)).map(|(keys, weights)| unsafe { quad(keys, weights) }).collect();
        let scale = denominator.inverse()?;
        let weights = numerators.iter().map(|numerator| sum::Weights::new(numerator, &scale)).collect();
        Some(Self { quads, weights, scale, centre: centre.scale(2 << FLOOD_LOG2) })
    }

    /// Adds the masks of values `first..first + out.len()` of a stream whose keys are the MAC of `message`. `out` has at
    /// most [`TILE`] elements.
    pub(super) fn add_tile(&self, message: &[u8; mac::MESSAGE_BYTES], first: u64, out: &mut [Gr<u128, D>]) {
        // SAFETY: a value of this type exists only where `new` found the features that `masks` is compiled for.
        #[expect(unsafe_code, reason = "see SAFETY")]
        unsafe {
            self.masks(message, first, out);
        }
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512ifma,vaes")]
    fn masks(&self, message: &[u8; mac::MESSAGE_BYTES], first: u64, out: &mut [Gr<u128, D>]) {
        let zero = _mm512_setzero_si512();
        let none = Sums { halves: [[zero; 2]; D], plain: [zero; 2] };
        let message = blocks(message);
        let mut schedules: Zeroizing<Schedules> = Zeroizing::new([[zero; 11]; CHUNK]);
        let mut sums = Zeroizing::new([none; 2]);
        let chunks = self.quads.len().div_ceil(CHUNK);
        // Sums wait here from chunk to chunk.
        let mut waiting = (chunks > 1).then(|| Zeroizing::new([none; TILE]));
        for (index, quads) in self.quads.chunks(CHUNK).enumerate() {
            let schedules = &mut schedules[..quads.len()];
            derive(quads, &message, schedules);
            for (pair, out) in out.chunks_mut(2).enumerate() {
                *sums = match &waiting {
                    Some(waiting) if index > 0 => [waiting[2 * pair], waiting[2 * pair + 1]],
                    _ => [none; 2],
                };
                accumulate(quads, schedules, 2 * (first + 2 * pair as u64), &mut sums);
                match &mut waiting {
                    Some(waiting) if index + 1 < chunks => {
                        waiting[2 * pair..2 * pair + 2].copy_from_slice(sums.as_slice())
                    }
                    _ => out.iter_mut().zip(&*sums).for_each(|(out, sums)| *out += self.finish(sums)),
                }
            }
        }
    }

    /// The share of a mask from its sums.
    #[target_feature(enable = "avx512f,avx512bw,avx512ifma,vaes")]
    #[inline]
    fn finish(&self, sums: &Sums<D>) -> Gr<u128, D> {
        let offset = join(&sums.plain) << OFFSET_LOG2;
        let mut sum = Gr::ZERO;
        for (word, halves) in sum.0.iter_mut().zip(&sums.halves) {
            *word = join(halves).wrapping_sub(offset);
        }
        self.scale * (sum - self.centre)
    }
}

/// Four sets with their key schedules.
#[target_feature(enable = "avx512f,avx512bw,avx512ifma,vaes")]
fn quad<const D: usize>(keys: &[PrssKey], numerators: &[Gr<u128, D>]) -> Quad<D> {
    let zero = _mm512_setzero_si512();
    let mut lanes = Zeroizing::new([[0u8; 16]; 4]);
    let mut subkeys = Zeroizing::new([[0u8; 16]; 4]);
    for ((lane, subkey), key) in lanes.iter_mut().zip(subkeys.iter_mut()).zip(keys) {
        *lane = key.key;
        *subkey = *Mac::new(&key.key).subkey();
    }
    let mut schedule = [[zero; 11]];
    expand(&[vector(&lanes)], &mut schedule);
    let mut weights = [zero; D];
    for (c, weight) in weights.iter_mut().enumerate() {
        let mut lanes = [1u64 << OFFSET_LOG2; 4];
        for (lane, numerator) in lanes.iter_mut().zip(numerators) {
            // Between 0 and 2^(OFFSET_LOG2 + 1), as was checked.
            *lane = numerator.0[c].wrapping_add(1 << OFFSET_LOG2) as u64;
        }
        let [a, b, c, d] = lanes.map(u64::cast_signed);
        *weight = _mm512_set_epi64(d, d, c, c, b, b, a, a);
    }
    Quad { schedule: schedule[0], subkey: vector(&subkeys), weights }
}

/// Four blocks as a vector.
#[target_feature(enable = "avx512f")]
fn vector(lanes: &[[u8; 16]; 4]) -> __m512i {
    let [a, b, c, d] = lanes.map(|lane| {
        let word = u128::from_le_bytes(lane);
        [word as i64, (word >> 64) as i64]
    });
    _mm512_set_epi64(d[1], d[0], c[1], c[0], b[1], b[0], a[1], a[0])
}

/// The blocks of a message of CMAC in all lanes, the last one padded.
#[target_feature(enable = "avx512f")]
fn blocks(message: &[u8; mac::MESSAGE_BYTES]) -> [__m512i; 3] {
    let mut padded = [0u8; 48];
    padded[..mac::MESSAGE_BYTES].copy_from_slice(message);
    padded[mac::MESSAGE_BYTES] = 0x80;
    let mut blocks = [_mm512_setzero_si512(); 3];
    for (block, bytes) in blocks.iter_mut().zip(padded.as_chunks::<16>().0) {
        *block = vector(&[*bytes; 4]);
    }
    blocks
}

/// Key schedules of the session's streams.
#[target_feature(enable = "avx512f,avx512bw,avx512ifma,vaes")]
fn derive<const D: usize>(quads: &[Quad<D>], message: &[__m512i; 3], schedules: &mut [[__m512i; 11]]) {
    let (quads, last_quads) = quads.as_chunks::<ABREAST>();
    let (schedules, last_schedules) = schedules.as_chunks_mut::<ABREAST>();
    for (quads, schedules) in quads.iter().zip(schedules) {
        mac_and_expand(quads, message, schedules);
    }
    for (quad, schedule) in last_quads.iter().zip(last_schedules) {
        mac_and_expand(core::array::from_ref(quad), message, core::array::from_mut(schedule));
    }
}

/// CMAC of the message under each set's key, and the key schedules of the result (FIPS 197, §5.2).
#[target_feature(enable = "avx512f,avx512bw,avx512ifma,vaes")]
fn mac_and_expand<const G: usize, const D: usize>(
    quads: &[Quad<D>; G],
    message: &[__m512i; 3],
    schedules: &mut [[__m512i; 11]; G],
) {
    let mut state = [_mm512_setzero_si512(); G];
    for (index, block) in message.iter().enumerate() {
        for (state, quad) in state.iter_mut().zip(quads) {
            *state = _mm512_xor_si512(_mm512_xor_si512(*state, *block), quad.schedule[0]);
            if index == 2 {
                *state = _mm512_xor_si512(*state, quad.subkey);
            }
        }
        for round in 1..10 {
            for (state, quad) in state.iter_mut().zip(quads) {
                *state = _mm512_aesenc_epi128(*state, quad.schedule[round]);
            }
        }
        for (state, quad) in state.iter_mut().zip(quads) {
            *state = _mm512_aesenclast_epi128(*state, quad.schedule[10]);
        }
    }
    expand(&state, schedules);
    state.zeroize();
}

/// Key schedules of four keys per vector.
///
/// With the rotated last word of a round key in all four columns, the last round of AES is SubWord of it in all columns:
/// equal columns don't notice ShiftRows. Its round key adds the constant.
#[target_feature(enable = "avx512f,avx512bw,avx512ifma,vaes")]
#[inline]
fn expand<const G: usize>(keys: &[__m512i; G], schedules: &mut [[__m512i; 11]; G]) {
    const CONSTANTS: [i32; 10] = [0x01, 0x02, 0x04, 0x08, 0x10, 0x20, 0x40, 0x80, 0x1B, 0x36];
    let rotated_last_word = _mm512_set1_epi32(0x0C0F_0E0D);
    let mut current = *keys;
    for (schedule, key) in schedules.iter_mut().zip(&current) {
        schedule[0] = *key;
    }
    for (round, constant) in (1..).zip(CONSTANTS) {
        let constant = _mm512_set1_epi32(constant);
        for (schedule, key) in schedules.iter_mut().zip(&mut current) {
            let word = _mm512_aesenclast_epi128(_mm512_shuffle_epi8(*key, rotated_last_word), constant);
            let two = _mm512_xor_si512(*key, _mm512_bslli_epi128::<4>(*key));
            let four = _mm512_xor_si512(two, _mm512_bslli_epi128::<8>(two));
            *key = _mm512_xor_si512(four, word);
            schedule[round] = *key;
        }
    }
    current.zeroize();
}

/// Adds what these sets give to the sums of two values, whose four blocks start at `counter`. The processor takes the
/// AES of the next quad while it multiplies this one.
#[target_feature(enable = "avx512f,avx512bw,avx512ifma,vaes")]
#[inline]
fn accumulate<const D: usize>(quads: &[Quad<D>], schedules: &[[__m512i; 11]], counter: u64, sums: &mut [Sums<D>; 2]) {
    let mut counters = [_mm512_setzero_si512(); 4];
    for (counter, block) in (counter..).zip(&mut counters) {
        let low = counter.swap_bytes().cast_signed();
        *block = _mm512_set_epi64(low, 0, low, 0, low, 0, low, 0);
    }
    let lower = _mm512_set1_epi64(0xFFFF_FFFF);
    // Bits 96 to FLOOD_LOG2 of a uniform, in the words that hold its upper 64.
    let top = (1 << (FLOOD_LOG2 - 95)) - 1;
    let upper = _mm512_set_epi64(top, 0xFFFF_FFFF, top, 0xFFFF_FFFF, top, 0xFFFF_FFFF, top, 0xFFFF_FFFF);
    let mut local = *sums;
    for (quad, schedule) in quads.iter().zip(schedules) {
        let mut stream = counters;
        for block in &mut stream {
            *block = _mm512_xor_si512(*block, schedule[0]);
        }
        for key in &schedule[1..10] {
            for block in &mut stream {
                *block = _mm512_aesenc_epi128(*block, *key);
            }
        }
        for block in &mut stream {
            *block = _mm512_aesenclast_epi128(*block, schedule[10]);
        }
        for (sums, [u, v]) in local.iter_mut().zip(stream.as_chunks::<2>().0) {
            let phi = [
                _mm512_add_epi64(_mm512_and_si512(*u, lower), _mm512_and_si512(*v, lower)),
                _mm512_add_epi64(
                    _mm512_and_si512(_mm512_srli_epi64::<32>(*u), upper),
                    _mm512_and_si512(_mm512_srli_epi64::<32>(*v), upper),
                ),
            ];
            for (halves, weight) in sums.halves.iter_mut().zip(&quad.weights) {
                for (half, phi) in halves.iter_mut().zip(&phi) {
                    *half = _mm512_madd52lo_epu64(*half, *phi, *weight);
                }
            }
            for (plain, phi) in sums.plain.iter_mut().zip(&phi) {
                *plain = _mm512_add_epi64(*plain, *phi);
            }
        }
    }
    *sums = local;
}

/// The integer mod 2^128 whose 32-bit limbs, not reduced, stand in all lanes. Lanes of at most 500 quads don't overflow:
/// each adds less than 2^52.
#[target_feature(enable = "avx512f,avx512bw,avx512ifma,vaes")]
#[inline]
fn join(halves: &[__m512i; 2]) -> u128 {
    let mut words = [0u64; 4];
    for (half, words) in halves.iter().zip(words.as_chunks_mut::<2>().0) {
        let two = _mm256_add_epi64(_mm512_castsi512_si256(*half), _mm512_extracti64x4_epi64::<1>(*half));
        let one = _mm_add_epi64(_mm256_castsi256_si128(two), _mm256_extracti128_si256::<1>(two));
        *words = [_mm_cvtsi128_si64(one).cast_unsigned(), _mm_extract_epi64::<1>(one).cast_unsigned()];
    }
    let [low, high, middle, top] = words.map(u128::from);
    low.wrapping_add(middle << 32).wrapping_add(high << 64).wrapping_add(top << 96)
}
