//! Random bits in Z, four per opening.
//!
//! For a ← `uniform_z` let v = a² + a, which is always even. X² + X − v has the two roots a and −1 − a in Z_2^k and no
//! others, one of them even and one odd. With r the even one, b = (r − a)·(1 + 2r)^{-1} is a mod 2: 0 if r = a, and
//! (−1 − 2a)·(−1 − 2a)^{-1} = 1 if r = −1 − a. v tells {a, −1 − a} and so nothing about b, and b is linear in a: shares of
//! degree t of a give shares of degree t of b.
//!
//! Local squares are shares of degree 2t, so what is opened has degree 2t: [`square`] packs four values v by public powers
//! of X and adds a uniformly random sharing of zero of degree 2t. See [`super::double`] for what makes the opening right.
//!
//! Source: ePrint 2023/815 (random bits from roots of X² + X); Damgård et al., IEEE S&P 2019, §V (random bits from roots).

use kms_algebra::{Gr, GrVec, Word};

use crate::prss::Prss;
use crate::{SessionId, tiles};

/// Values v that share one opened ring element.
pub const PER_OPENING: usize = 4;
/// Elements that are worked on at a time.
const TILE: usize = 256;

/// An opened value is odd: impossible for v = a² + a, so a party that can't be named computed nonsense, this one included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the opened value of bit {position} is odd")]
pub struct OddValue {
    /// Position in the slice of opened values.
    pub position: usize,
}

/// Ring elements that are opened for `count` bits.
#[must_use]
pub const fn packed_len(count: usize) -> usize {
    count.div_ceil(PER_OPENING)
}

/// Shares of degree t of the random a of bits `first..first + count` of a session, and the packed shares of degree 2t of
/// their v = a² + a: element g is Σ_j X^j·v_(4g + j). What is missing in the last one is 0.
///
/// Positions are those of the streams of the session: `first` is a multiple of [`PER_OPENING`], and a batch equals its
/// groups of four. Panics otherwise. Long batches are made on rayon's pool.
#[must_use]
pub fn square<W: Word, const D: usize>(
    prss: &Prss<D>,
    session: &SessionId,
    first: u64,
    count: usize,
) -> (GrVec<W, D>, GrVec<W, D>) {
    assert!(first.is_multiple_of(PER_OPENING as u64));
    let a = prss.uniform_z::<W>(session, first, count);
    let mut packed = prss.zero::<W>(session, first / PER_OPENING as u64, packed_len(count));
    tiles::for_each(&mut packed, TILE, |tile, mut packed| {
        for i in 0..packed[0].len() {
            let start = (tile * TILE + i) * PER_OPENING;
            let bits = start..count.min(start + PER_OPENING);
            // Horner in X.
            let sum = bits.rev().fold(Gr::ZERO, |sum: Gr<W, D>, bit| {
                let a = a.get(bit);
                sum.times_x() + a.square() + a
            });
            for (packed, word) in packed.iter_mut().zip(sum.0) {
                packed[i] = packed[i].plus(word);
            }
        }
    });
    (a, packed)
}

/// Shares of degree t of the bits a mod 2, from the shares of a and all opened values v.
///
/// Panics if there are not as many values as shares.
///
/// # Errors
/// [`OddValue`].
pub fn solve<W: Word, const D: usize>(mut a: GrVec<W, D>, opened: &[W]) -> Result<GrVec<W, D>, OddValue> {
    assert!(a.len() == opened.len());
    if let Some(position) = opened.iter().position(|v| v.bit(0)) {
        return Err(OddValue { position });
    }
    tiles::for_each(&mut a, TILE, |tile, a| {
        let mut roots = [(W::ZERO, W::ZERO); TILE];
        for (root, v) in roots.iter_mut().zip(&opened[tile * TILE..]) {
            *root = even_root(*v);
        }
        for (c, a) in a.into_iter().enumerate() {
            for (a, (root, inverse)) in a.iter_mut().zip(&roots) {
                let root = if c == 0 { *root } else { W::ZERO };
                *a = root.minus(*a).times(*inverse);
            }
        }
    });
    Ok(a)
}

/// The even root r of X² + X − v, v even, and (1 + 2r)^{-1}. v is public.
#[inline]
fn even_root<W: Word>(v: W) -> (W, W) {
    let (r, y) = even_root_64(v.widen() as u64);
    if W::BITS == 64 {
        return (W::truncate(r.into()), W::truncate(y.into()));
    }
    // One more step, from 64 to 128 bits: r² + r − v and (1 + 2r)·y − 1 are multiples of 2^64.
    let wide = u128::from(r);
    let error = (wide * wide).wrapping_add(wide).wrapping_sub(v.widen()) >> 64;
    let r = wide.wrapping_sub(u128::from((error as u64).wrapping_mul(y)) << 64);
    let error = (r << 1 | 1).wrapping_mul(u128::from(y)) >> 64;
    let y = u128::from(y).wrapping_sub(u128::from((error as u64).wrapping_mul(y)) << 64);
    (W::truncate(r), W::truncate(y))
}

/// Newton's iteration for r and for the inverse of the derivative together: both double their right low bits.
#[inline]
fn even_root_64(v: u64) -> (u64, u64) {
    // v − v² is a root up to 2v³, a multiple of 16; 1 − 2r an inverse up to 4r².
    let mut r = v.wrapping_sub(v.wrapping_mul(v));
    let mut y = 1u64.wrapping_sub(r << 1);
    for _ in 0..4 {
        let error = r.wrapping_mul(r).wrapping_add(r).wrapping_sub(v);
        r = r.wrapping_sub(error.wrapping_mul(y));
        y = y.wrapping_mul(2u64.wrapping_sub((r << 1 | 1).wrapping_mul(y)));
    }
    (r, y)
}

#[cfg(test)]
mod tests;
