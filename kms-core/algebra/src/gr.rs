//! Elements of the Galois ring GR(2^k, d).

use core::ops::{Add, AddAssign, Mul, Neg, Sub, SubAssign};

use rand::RngCore;
use zeroize::Zeroize;

use crate::{Gf, PartyId, Word};

/// An element of GR(2^k, D) = Z_2^k\[X\]/F(X), F = X^4 + X + 1 (D = 4) or X^5 + X^2 + 1 (D = 5): coefficient j of X^j.
///
/// F is irreducible mod 2, so an element is a unit exactly if it is not 0 mod 2, and differences of the points of
/// different parties are units.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Gr<W, const D: usize>(pub [W; D]);

impl<W: Word, const D: usize> Gr<W, D> {
    /// X^D = −X^MIDDLE − 1.
    const MIDDLE: usize = match D {
        4 => 1,
        5 => 2,
        _ => panic!("rings have degree 4 or 5"),
    };
    /// 0.
    pub const ZERO: Self = Self([W::ZERO; D]);
    /// 1.
    pub const ONE: Self = {
        let mut one = [W::ZERO; D];
        one[0] = W::ONE;
        Self(one)
    };

    /// The constant `word`.
    #[must_use]
    pub fn constant(word: W) -> Self {
        let mut c = [W::ZERO; D];
        c[0] = word;
        Self(c)
    }

    /// The point α_i of party i: the element whose 0/1 coefficients are the binary digits of i.
    #[must_use]
    pub fn point(party: PartyId) -> Self {
        Self::from_residue(Gf::from_bits(party.index()))
    }

    /// The lift of a residue with coefficients 0 and 1.
    #[must_use]
    pub fn from_residue(residue: Gf<D>) -> Self {
        Self(core::array::from_fn(|j| if residue.bits() >> j & 1 == 1 { W::ONE } else { W::ZERO }))
    }

    /// Bit `index` of every coefficient: for `index` = 0 the residue mod 2.
    #[must_use]
    pub fn residue_at(&self, index: u32) -> Gf<D> {
        Gf::from_bits((0..D).fold(0, |bits, j| bits | u8::from(self.0[j].bit(index)) << j))
    }

    /// A uniformly random element.
    pub fn random(rng: &mut (impl RngCore + ?Sized)) -> Self {
        Self(core::array::from_fn(|_| {
            let low = u128::from(rng.next_u64());
            W::truncate(if W::BITS > 64 { low | u128::from(rng.next_u64()) << 64 } else { low })
        }))
    }

    /// Whether every coefficient is 0.
    #[must_use]
    pub fn is_zero(&self) -> bool {
        self.0.iter().fold(W::ZERO, |all, c| all.or(*c)) == W::ZERO
    }

    /// Exponent of the largest power of two that divides the element; k for 0.
    #[must_use]
    pub fn valuation(&self) -> u32 {
        self.0.iter().fold(W::ZERO, |all, c| all.or(*c)).valuation()
    }

    /// The product with an integer.
    #[must_use]
    #[inline]
    pub fn scale(&self, word: W) -> Self {
        Self(core::array::from_fn(|j| self.0[j].times(word)))
    }

    /// The product with X.
    #[must_use]
    #[inline]
    pub fn times_x(&self) -> Self {
        let top = self.0[D - 1];
        let mut c = [W::ZERO; D];
        c[1..].copy_from_slice(&self.0[..D - 1]);
        c[0] = c[0].minus(top);
        c[Self::MIDDLE] = c[Self::MIDDLE].minus(top);
        Self(c)
    }

    /// The product with itself: D·(D + 1)/2 products of words.
    #[must_use]
    #[inline]
    pub fn square(&self) -> Self {
        // Up to X^(2·D − 2), in an array that is long enough for D = 5.
        let mut product = [W::ZERO; 9];
        for (i, a) in self.0.iter().enumerate() {
            product[2 * i] = product[2 * i].plus(a.times(*a));
            let twice = a.plus(*a);
            for (j, b) in self.0.iter().enumerate().skip(i + 1) {
                product[i + j] = product[i + j].plus(twice.times(*b));
            }
        }
        for power in (D..2 * D - 1).rev() {
            for lower in [power - D, power - D + Self::MIDDLE] {
                product[lower] = product[lower].minus(product[power]);
            }
        }
        Self(core::array::from_fn(|c| product[c]))
    }

    /// The product with the point of a party: sums only.
    #[must_use]
    #[inline]
    pub fn times_point(&self, party: PartyId) -> Self {
        (0..D).rev().fold(Self::ZERO, |product, bit| {
            let shifted = product.times_x();
            if party.index() >> bit & 1 == 1 { shifted + *self } else { shifted }
        })
    }

    /// The matrix M of the multiplication with this element: (self · x)_r = Σ_c M\[r\]\[c\] · x_c.
    #[must_use]
    pub fn matrix(&self) -> [[W; D]; D] {
        let mut m = [[W::ZERO; D]; D];
        let mut column = *self;
        for c in 0..D {
            for (row, word) in m.iter_mut().zip(column.0) {
                row[c] = word;
            }
            column = column.times_x();
        }
        m
    }

    /// The inverse; `None` if the element is 0 mod 2 and so no unit.
    #[must_use]
    pub fn inverse(&self) -> Option<Self> {
        let residue = self.residue_at(0);
        if residue == Gf::ZERO {
            return None;
        }
        let two = Self::constant(W::ONE.plus(W::ONE));
        let mut x = Self::from_residue(residue.inverse());
        // Newton: each step doubles the number of right low bits, from 1 to k.
        for _ in 0..W::BITS.ilog2() {
            x = x * (two - *self * x);
        }
        Some(x)
    }

    /// The same element modulo a smaller or equal power of two (`u128` to `u64`), or lifted (`u64` to `u128`).
    #[must_use]
    pub fn cast<V: Word>(&self) -> Gr<V, D> {
        Gr(self.0.map(|c| V::truncate(c.widen())))
    }
}

impl<W: Word, const D: usize> Default for Gr<W, D> {
    fn default() -> Self {
        Self::ZERO
    }
}

impl<W: Word, const D: usize> Zeroize for Gr<W, D> {
    fn zeroize(&mut self) {
        self.0.zeroize();
    }
}

impl<W: Word, const D: usize> Add for Gr<W, D> {
    type Output = Self;
    #[inline]
    fn add(self, other: Self) -> Self {
        Self(core::array::from_fn(|j| self.0[j].plus(other.0[j])))
    }
}

impl<W: Word, const D: usize> Sub for Gr<W, D> {
    type Output = Self;
    #[inline]
    fn sub(self, other: Self) -> Self {
        Self(core::array::from_fn(|j| self.0[j].minus(other.0[j])))
    }
}

impl<W: Word, const D: usize> Neg for Gr<W, D> {
    type Output = Self;
    #[inline]
    fn neg(self) -> Self {
        Self::ZERO - self
    }
}

impl<W: Word, const D: usize> AddAssign for Gr<W, D> {
    #[inline]
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl<W: Word, const D: usize> SubAssign for Gr<W, D> {
    #[inline]
    fn sub_assign(&mut self, other: Self) {
        *self = *self - other;
    }
}

#[allow(clippy::suspicious_arithmetic_impl, reason = "Horner")]
impl<W: Word, const D: usize> Mul for Gr<W, D> {
    type Output = Self;
    #[inline]
    fn mul(self, other: Self) -> Self {
        // Horner in X: ((a·o_3)·X + a·o_2)·X + …
        let mut product = Self::ZERO;
        for c in other.0.iter().rev() {
            product = product.times_x() + self.scale(*c);
        }
        product
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn laws<W: Word, const D: usize>(a: Gr<W, D>, b: Gr<W, D>, c: Gr<W, D>) {
        let one = Gr::ONE;
        assert_eq!(a * one, a);
        assert_eq!(a + b, b + a);
        assert_eq!((a - b) + b, a);
        assert_eq!(-a + a, Gr::ZERO);
        assert_eq!(a * b, b * a);
        assert_eq!(a * (b * c), (a * b) * c);
        assert_eq!(a * (b + c), a * b + a * c);
        assert_eq!(a.times_x(), a * Gr(core::array::from_fn(|j| if j == 1 { W::ONE } else { W::ZERO })));
        assert_eq!(a.square(), a * a);
        assert!(PartyId::all((1 << D) - 1).all(|p| a.times_point(p) == a * Gr::point(p)));
        let m = a.matrix();
        let by_matrix =
            Gr(core::array::from_fn(|r| m[r].iter().zip(b.0).fold(W::ZERO, |sum, (m, x)| sum.plus(m.times(x)))));
        assert_eq!(by_matrix, a * b);
        match a.inverse() {
            Some(inverse) => assert_eq!(a * inverse, one),
            None => assert_eq!(a.residue_at(0), Gf::ZERO),
        }
        assert_eq!((a * b).residue_at(0), a.residue_at(0) * b.residue_at(0));
        assert_eq!((a + b).residue_at(0), a.residue_at(0) + b.residue_at(0));
        assert_eq!((a * b).cast::<u64>(), a.cast::<u64>() * b.cast::<u64>());
        assert_eq!(Gr::<W, D>::is_zero(&a), a.valuation() == W::BITS);
    }

    proptest! {
        #[test]
        fn ring_laws(a: [u128; 5], b: [u128; 5], c: [u128; 5]) {
            fn cut<W: Word, const D: usize>(x: [u128; 5]) -> Gr<W, D> { Gr(core::array::from_fn(|j| W::truncate(x[j]))) }
            laws::<u128, 5>(cut(a), cut(b), cut(c));
            laws::<u128, 4>(cut(a), cut(b), cut(c));
            laws::<u64, 5>(cut(a), cut(b), cut(c));
            laws::<u64, 4>(cut(a), cut(b), cut(c));
        }
    }

    #[test]
    fn the_modulus_is_zero() {
        let x = Gr::<u64, 4>([0, 1, 0, 0]);
        assert_eq!(x * x * x * x + x + Gr::ONE, Gr::ZERO);
        let x = Gr::<u128, 5>([0, 1, 0, 0, 0]);
        assert_eq!(x * x * x * x * x + x * x + Gr::ONE, Gr::ZERO);
    }

    #[test]
    fn differences_of_points_are_units() {
        fn check<const D: usize>(n: usize) {
            for a in PartyId::all(n) {
                assert!(Gr::<u128, D>::point(a).inverse().is_some());
                for b in PartyId::all(n).filter(|b| *b != a) {
                    assert!((Gr::<u128, D>::point(a) - Gr::point(b)).inverse().is_some());
                }
            }
        }
        check::<4>(15);
        check::<5>(31);
    }

    #[test]
    fn valuation_is_that_of_the_least_coefficient() {
        assert_eq!(Gr::<u64, 4>([0, 8, 4, 0]).valuation(), 2);
        assert_eq!(Gr::<u64, 4>([0, 8, 4, 0]).residue_at(2).bits(), 0b100);
        assert_eq!(Gr::<u64, 4>::ZERO.valuation(), 64);
    }
}
