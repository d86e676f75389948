//! Opening of sharings of any degree without correction.
//!
//! A word of shares of degree ≤ d is opened only if its syndrome is zero over all shares at hand. Among m shares a wrong
//! word of at most m − d − 1 wrong shares is always found; more wrong shares can hide in a codeword. Nothing is ever
//! corrected and nobody is named.

use crate::matrices::{Cache, Matrices, index_by_party};
use crate::{CommitteeError, GrVec, PartyId, PartySet, Word, shamir};

/// Checks and opens sharings of degree ≤ d of one committee, with words of 64 and of 128 bits. Share it: calls take
/// `&self` and lock only to look up a matrix.
pub struct Detector<const D: usize> {
    n: usize,
    degree: usize,
    /// Mod 2^128; reduced mod 2^64 they are the matrices there.
    matrices: Cache<u128, D>,
}

impl<const D: usize> core::fmt::Debug for Detector<D> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Detector").field("n", &self.n).field("degree", &self.degree).finish_non_exhaustive()
    }
}

impl<const D: usize> Detector<D> {
    /// For n parties of which t may be wrong, and sharings of degree ≤ `degree`.
    ///
    /// # Errors
    /// n < 3t + 1, or more parties than the ring has points.
    pub fn new(n: usize, t: usize, degree: usize) -> Result<Self, CommitteeError> {
        shamir::check_committee::<D>(n, t)?;
        Ok(Self { n, degree, matrices: Cache::new(degree) })
    }

    /// What opens words of these parties; `None` with fewer than d + 1.
    ///
    /// Panics if a party is not of the committee.
    #[must_use]
    pub fn of<W: Word>(&self, parties: PartySet) -> Option<Opener<W, D>> {
        assert!(parties.without(PartySet::all(self.n)).is_empty());
        (parties.len() > self.degree).then(|| Opener { parties, matrices: self.matrices.get(parties).cast() })
    }
}

/// Checks and opens words of one set of parties.
pub struct Opener<W: Word, const D: usize> {
    parties: PartySet,
    matrices: Matrices<W, D>,
}

impl<W: Word, const D: usize> core::fmt::Debug for Opener<W, D> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_tuple("Opener").field(&self.parties).finish()
    }
}

impl<W: Word, const D: usize> Opener<W, D> {
    /// Writes f(0) of the columns from `first` on to `values`, as many as its slices, one per coefficient, are long. Whether
    /// in each of them all shares lie on one polynomial of degree ≤ d: if not, `values` means nothing. Single-threaded and
    /// without allocation per value.
    ///
    /// Panics if the shares are not one of each party of the set, if slices have different lengths, or beyond the end.
    #[must_use]
    pub fn open(&self, shares: &[(PartyId, &GrVec<W, D>)], first: usize, values: &mut [&mut [W]; D]) -> bool {
        let given: PartySet = shares.iter().map(|(p, _)| *p).collect();
        assert!(given == self.parties && shares.len() == given.len());
        let columns = first..first + values[0].len();
        let end = columns.end;
        let opened = self.matrices.open_columns(&index_by_party(shares), columns, |column, value| {
            for (values, word) in values.iter_mut().zip(value.0) {
                values[column - first] = word;
            }
        });
        opened == end
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::{RngCore, SeedableRng};
    use rand_chacha::ChaCha20Rng;

    use super::*;
    use crate::Gr;

    /// Sharings of degree 2t of random secrets: the secrets, and a vector per party.
    fn shares<W: Word, const D: usize>(n: usize, t: usize, seed: u64) -> (GrVec<W, D>, Vec<GrVec<W, D>>) {
        let mut rng = ChaCha20Rng::seed_from_u64(seed);
        let secrets: GrVec<W, D> = (0..5).map(|_| Gr::random(&mut rng)).collect();
        let mut shares = vec![GrVec::zeros(5); n];
        for (i, secret) in secrets.iter().enumerate() {
            for (vector, share) in shares.iter_mut().zip(shamir::share(secret, n, 2 * t, &mut rng)) {
                vector.set(i, share);
            }
        }
        (secrets, shares)
    }

    fn open<W: Word, const D: usize>(
        detector: &Detector<D>,
        shares: &[(PartyId, &GrVec<W, D>)],
    ) -> Option<GrVec<W, D>> {
        let opener = detector.of(shares.iter().map(|(p, _)| *p).collect())?;
        let mut values = GrVec::zeros(shares[0].1.len());
        let right = values
            .tiles_mut(2)
            .enumerate()
            .fold(true, |right, (tile, mut out)| opener.open(shares, 2 * tile, &mut out) & right);
        right.then_some(values)
    }

    fn opens_unless_a_share_is_wrong<W: Word, const D: usize>(n: usize, t: usize, seed: u64) {
        let detector = Detector::<D>::new(n, t, 2 * t).unwrap();
        let (secrets, mut shares) = shares::<W, D>(n, t, seed);
        let mut rng = ChaCha20Rng::seed_from_u64(seed);
        for m in 2 * t + 1..=n {
            let first = rng.next_u32() as usize % (n - m + 1);
            let list = |shares: &[GrVec<W, D>]| {
                let list: Vec<_> = PartyId::all(n).zip(shares).skip(first).take(m).collect();
                open(&detector, &list)
            };
            assert_eq!(list(&shares), Some(secrets.clone()));
            let wrong = first + rng.next_u32() as usize % m;
            let column = rng.next_u32() as usize % 5;
            let right = shares[wrong].get(column);
            // The smallest of all errors: one bit.
            let bit = W::truncate(1 << (rng.next_u32() % W::BITS));
            shares[wrong].set(column, right + Gr::constant(bit));
            assert_eq!(list(&shares).is_none(), m > 2 * t + 1, "2t + 1 shares are always on one polynomial");
            shares[wrong].set(column, right);
        }
        let few: Vec<_> = PartyId::all(2 * t).zip(&shares).collect();
        assert_eq!(open(&detector, &few), None);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn a_single_wrong_bit_among_more_than_the_base_is_found(seed: u64) {
            for (n, t) in [(4, 1), (7, 2), (13, 4)] {
                opens_unless_a_share_is_wrong::<u64, 4>(n, t, seed);
                opens_unless_a_share_is_wrong::<u128, 4>(n, t, seed);
            }
            opens_unless_a_share_is_wrong::<u64, 5>(16, 5, seed);
            opens_unless_a_share_is_wrong::<u128, 5>(31, 10, seed);
        }

        /// The distance is n − 2t: t errors are always found, t + 1 can hide when n = 3t + 1.
        #[test]
        fn multiples_of_a_codeword_are_found_unless_more_than_t_parties_join(seed: u64) {
            let mut rng = ChaCha20Rng::seed_from_u64(seed);
            for (n, t) in [(4, 1), (7, 2), (13, 4)] {
                let (secrets, mut shares) = shares::<u128, 4>(n, t, seed);
                let detector = Detector::<4>::new(n, t, 2 * t).unwrap();
                let factor = Gr::random(&mut rng).scale(1 << (rng.next_u32() % 128));
                prop_assume!(!factor.is_zero());
                // g = Π (X − α_j) over the first 2t parties vanishes at them: t + 1 shares change.
                let g = |at: Gr<u128, 4>| PartyId::all(2 * t).fold(factor, |g, j| g * (at - Gr::point(j)));
                for joined in 1..=t + 1 {
                    let party = PartyId::all(n).nth(2 * t + joined - 1).unwrap();
                    let share = shares[party.slot()].get(2);
                    shares[party.slot()].set(2, share + g(Gr::point(party)));
                    let list: Vec<_> = PartyId::all(n).zip(&shares).collect();
                    let opened = open(&detector, &list);
                    if joined <= t {
                        prop_assert_eq!(opened, None);
                    } else {
                        let mut wrong = secrets.clone();
                        wrong.set(2, secrets.get(2) + g(Gr::ZERO));
                        prop_assert_eq!(opened, Some(wrong));
                    }
                }
            }
        }
    }
}
