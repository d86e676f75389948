//! The residue field GF(2^d) = GF(2)\[X\]/F(X), d = 4 or 5.

use core::ops::{Add, AddAssign, Mul};

/// An element of GF(2^D): bit j is the coefficient of X^j. F = X^4 + X + 1 or X^5 + X^2 + 1.
///
/// Only used on error positions and public points, never on secrets: not constant time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Gf<const D: usize>(u8);

impl<const D: usize> Gf<D> {
    /// F mod 2, as bits.
    const MODULUS: u8 = match D {
        4 => 0b1_0011,
        5 => 0b10_0101,
        _ => panic!("rings have degree 4 or 5"),
    };
    /// 0.
    pub const ZERO: Self = Self(0);
    /// 1.
    pub const ONE: Self = Self(1);

    /// The element whose coefficients are the low D bits.
    #[must_use]
    pub const fn from_bits(bits: u8) -> Self {
        Self(bits & ((1 << D) - 1))
    }

    /// The coefficients as bits.
    #[must_use]
    pub const fn bits(self) -> u8 {
        self.0
    }

    /// The inverse; 0 for 0.
    #[must_use]
    pub fn inverse(self) -> Self {
        // a^(2^D - 2)
        (1..D)
            .fold((Self::ONE, self), |(product, square), _| {
                let square = square * square;
                (product * square, square)
            })
            .0
    }
}

#[allow(clippy::suspicious_arithmetic_impl, clippy::suspicious_op_assign_impl, reason = "characteristic 2")]
impl<const D: usize> Add for Gf<D> {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self(self.0 ^ other.0)
    }
}

#[allow(clippy::suspicious_op_assign_impl, reason = "characteristic 2")]
impl<const D: usize> AddAssign for Gf<D> {
    fn add_assign(&mut self, other: Self) {
        self.0 ^= other.0;
    }
}

#[allow(clippy::suspicious_arithmetic_impl, reason = "carry-less product")]
impl<const D: usize> Mul for Gf<D> {
    type Output = Self;
    fn mul(self, other: Self) -> Self {
        let mut product = 0u8;
        for bit in (0..D).rev() {
            product <<= 1;
            if product >> D & 1 == 1 {
                product ^= Self::MODULUS;
            }
            if other.0 >> bit & 1 == 1 {
                product ^= self.0;
            }
        }
        Self(product)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn laws<const D: usize>() {
        let all = || (0..1u8 << D).map(Gf::<D>::from_bits);
        for a in all() {
            assert_eq!(a * Gf::ONE, a);
            assert_eq!(a + a, Gf::ZERO);
            assert_eq!(a * a.inverse(), if a == Gf::ZERO { Gf::ZERO } else { Gf::ONE });
            for b in all() {
                assert_eq!(a * b, b * a);
                for c in all() {
                    assert_eq!(a * (b + c), a * b + a * c);
                    assert_eq!(a * (b * c), (a * b) * c);
                }
            }
        }
    }

    #[test]
    fn field_laws_hold_for_all_elements() {
        laws::<4>();
        laws::<5>();
    }
}
