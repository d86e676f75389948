//! Packed openings: D values of Z_2^k in one ring element.
//!
//! Values v_0, v_1, … known to lie in Z_2^k are opened D at a time as Σ_j X^j·v_j. Packing is linear, so it applies to
//! shares: the shares of the packed element are the packed shares.

use crate::{Gr, GrVec, Word};

/// Ring elements that `values` values need.
#[must_use]
pub const fn packed_len<const D: usize>(values: usize) -> usize {
    values.div_ceil(D)
}

/// Packs shares of values of Z_2^k: element g is Σ_j X^j·shares\[g·D + j\]. What is missing in the last one is 0.
#[must_use]
pub fn pack<W: Word, const D: usize>(shares: &[Gr<W, D>]) -> GrVec<W, D> {
    let mut packed = GrVec::zeros(packed_len::<D>(shares.len()));
    for (g, group) in shares.chunks(D).enumerate() {
        // Horner in X.
        let sum = group.iter().rev().fold(Gr::ZERO, |sum, share| sum.times_x() + *share);
        packed.set(g, sum);
    }
    packed
}

/// The first `values` values out of opened packed elements. Panics if there are fewer.
#[must_use]
pub fn unpack<W: Word, const D: usize>(packed: &GrVec<W, D>, values: usize) -> Vec<W> {
    assert!(values <= packed.len() * D);
    (0..values).map(|i| packed.coefficient(i % D)[i / D]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unpacking_undoes_packing_of_constants() {
        for values in 0..=11u64 {
            let v: Vec<u64> = (0..values).map(|i| i.wrapping_mul(0x9E37_79B9_7F4A_7C15)).collect();
            let packed = pack::<u64, 4>(&v.iter().map(|x| Gr::constant(*x)).collect::<Vec<_>>());
            assert_eq!(packed.len(), v.len().div_ceil(4));
            assert_eq!(unpack(&packed, v.len()), v);
            let packed = pack::<u64, 5>(&v.iter().map(|x| Gr::constant(*x)).collect::<Vec<_>>());
            assert_eq!(unpack(&packed, v.len()), v);
        }
    }
}
