//! Shamir sharing over GR(2^k, d): share of s at party i is f(α_i), deg f ≤ t, f(0) = s.
//!
//! Source: ePrint 2023/815 §2.3; Abspoel et al., TCC 2019, §3.

use rand::RngCore;
use zeroize::Zeroizing;

use crate::{CommitteeError, Gr, GrVec, PartyId, Word};

/// Checks that n parties fit a ring of degree D and that n ≥ 3t + 1.
///
/// # Errors
/// They don't.
pub const fn check_committee<const D: usize>(n: usize, t: usize) -> Result<(), CommitteeError> {
    if n >= 1 << D {
        return Err(CommitteeError::TooManyParties { n, degree: D });
    }
    if n < 3 * t + 1 {
        return Err(CommitteeError::TooManyFaults { n, t });
    }
    Ok(())
}

/// The smallest degree of a ring that has points for n parties: 4 for n ≤ 15, 5 for n ≤ 31.
#[must_use]
pub const fn degree_for(n: usize) -> Option<usize> {
    match n {
        0..=15 => Some(4),
        16..=31 => Some(5),
        _ => None,
    }
}

/// Value of the polynomial Σ_j coefficients\[j\]·Y^j at `at`.
#[must_use]
pub fn evaluate<W: Word, const D: usize>(coefficients: &[Gr<W, D>], at: Gr<W, D>) -> Gr<W, D> {
    coefficients.iter().rev().fold(Gr::ZERO, |sum, c| sum * at + *c)
}

/// Shares of `secret` for parties 1..=n, with a random polynomial of degree ≤ `degree`.
pub fn share<W: Word, const D: usize>(
    secret: Gr<W, D>,
    n: usize,
    degree: usize,
    rng: &mut (impl RngCore + ?Sized),
) -> Vec<Gr<W, D>> {
    let mut polynomial = Zeroizing::new(Vec::with_capacity(degree + 1));
    polynomial.push(secret);
    polynomial.extend((0..degree).map(|_| Gr::random(rng)));
    PartyId::all(n).map(|p| evaluate(&polynomial, Gr::point(p))).collect()
}

/// Shares of many secrets of Z_2^k: one vector per party 1..=n.
pub fn share_words<W: Word, const D: usize>(
    secrets: &[W],
    n: usize,
    degree: usize,
    rng: &mut (impl RngCore + ?Sized),
) -> Vec<GrVec<W, D>> {
    let mut shares = vec![GrVec::zeros(secrets.len()); n];
    for (i, secret) in secrets.iter().enumerate() {
        let row = Zeroizing::new(share(Gr::constant(*secret), n, degree, rng));
        for (vector, share) in shares.iter_mut().zip(row.iter()) {
            vector.set(i, *share);
        }
    }
    shares
}

/// Lagrange coefficients λ_b with f(at) = Σ_b λ_b·f(α_b) for all f of degree < number of parties.
///
/// `at` is the point of a party or 0; parties must be distinct. Panics otherwise: only public, checked sets get here.
#[must_use]
pub fn lagrange<W: Word, const D: usize>(parties: &[PartyId], at: Gr<W, D>) -> Vec<Gr<W, D>> {
    parties
        .iter()
        .map(|b| {
            let point = Gr::<W, D>::point(*b);
            let (mut numerator, mut denominator) = (Gr::ONE, Gr::ONE);
            for other in parties.iter().filter(|o| *o != b) {
                let other = Gr::point(*other);
                numerator = numerator * (at - other);
                denominator = denominator * (point - other);
            }
            numerator * denominator.inverse().expect("differences of distinct points are units")
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::SeedableRng;
    use rand_chacha::ChaCha20Rng;

    use super::*;
    use crate::PartySet;

    fn reconstructs<W: Word, const D: usize>(seed: u64, n: usize, t: usize, which: u32) {
        let mut rng = ChaCha20Rng::seed_from_u64(seed);
        let secret = Gr::<W, D>::random(&mut rng);
        let shares = share(secret, n, t, &mut rng);
        let sets = PartySet::subsets(n, t + 1).count();
        let set = PartySet::subsets(n, t + 1).nth(which as usize % sets).unwrap();
        let parties: Vec<_> = set.iter().collect();
        let value_at =
            |at| parties.iter().zip(lagrange(&parties, at)).fold(Gr::ZERO, |sum, (p, l)| sum + l * shares[p.slot()]);
        assert_eq!(value_at(Gr::ZERO), secret);
        for p in PartyId::all(n) {
            assert_eq!(value_at(Gr::point(p)), shares[p.slot()]);
        }
    }

    proptest! {
        #[test]
        fn any_t_plus_1_shares_give_the_secret_and_all_shares(seed: u64, which: u32) {
            for (n, t) in [(4, 1), (7, 2), (13, 4)] {
                reconstructs::<u64, 4>(seed, n, t, which);
                reconstructs::<u128, 4>(seed, n, t, which);
            }
            reconstructs::<u64, 5>(seed, 16, 4, which);
            reconstructs::<u128, 5>(seed, 31, 2, which);
        }
    }

    #[test]
    fn committees_beyond_ring_or_bound_are_refused() {
        assert_eq!(check_committee::<4>(13, 4), Ok(()));
        assert_eq!(check_committee::<4>(12, 4), Err(CommitteeError::TooManyFaults { n: 12, t: 4 }));
        assert_eq!(check_committee::<4>(16, 4), Err(CommitteeError::TooManyParties { n: 16, degree: 4 }));
        assert_eq!(check_committee::<5>(31, 10), Ok(()));
    }
}
