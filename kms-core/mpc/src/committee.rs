//! The committee and its bounds.

use kms_algebra::{PartyId, PartySet, shamir};
use kms_encoding::{FloodBound, FloodBoundError};

/// n parties of which t may lie, stall or vanish. Exists only if the flooding fits below the message bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Committee {
    n: usize,
    t: usize,
    bound: FloodBound,
}

impl Committee {
    /// Checks n ≥ 3t + 1, t ≥ 1, n ≤ 31, C(n,t) ≤ 2000 and 2·C(n,t)·2^110 + 2^70 < Δ/2.
    ///
    /// # Errors
    /// A bound does not hold.
    pub fn new(n: usize, t: usize) -> Result<Self, FloodBoundError> {
        let as_u32 = |x| u32::try_from(x).unwrap_or(u32::MAX);
        Ok(Self { n, t, bound: FloodBound::new(as_u32(n), as_u32(t))? })
    }

    /// Number of parties.
    #[must_use]
    pub const fn n(&self) -> usize {
        self.n
    }

    /// Number of faults tolerated.
    #[must_use]
    pub const fn t(&self) -> usize {
        self.t
    }

    /// Largest residual of an honest decryption.
    #[must_use]
    pub const fn flood_bound(&self) -> FloodBound {
        self.bound
    }

    /// Degree of the ring: 4 for up to 15 parties, 5 for up to 31.
    #[must_use]
    pub fn degree(&self) -> usize {
        shamir::degree_for(self.n).expect("n <= 31 by construction")
    }

    /// Parties 1..=n.
    pub fn parties(&self) -> impl DoubleEndedIterator<Item = PartyId> + Clone + use<> {
        PartyId::all(self.n)
    }

    /// The PRSS sets, all sets of n − t parties, by ascending bitmap.
    pub fn prss_sets(&self) -> impl Iterator<Item = PartySet> + use<> {
        PartySet::subsets(self.n, self.n - self.t)
    }

    /// Whether `party` is a member.
    #[must_use]
    pub const fn contains(&self, party: PartyId) -> bool {
        party.slot() < self.n
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn committees_are_checked_and_know_their_sets() {
        for (n, t, sets) in [(4, 1, 4), (7, 2, 21), (10, 3, 120), (13, 4, 715), (16, 4, 1820)] {
            let c = Committee::new(n, t).unwrap();
            assert_eq!((c.prss_sets().count(), c.degree()), (sets, if n < 16 { 4 } else { 5 }));
        }
        for (n, t) in [(3, 1), (4, 0), (16, 5), (32, 1), (usize::MAX, 1), (4, usize::MAX)] {
            assert!(Committee::new(n, t).is_err(), "{n}/{t}");
        }
    }
}
