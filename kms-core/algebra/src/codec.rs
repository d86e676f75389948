//! Decoding of degree-t sharings with at most t wrong shares.
//!
//! Shares come as one [`GrVec`] per party: a matrix whose columns are the values of one message. The parity check
//! H = [−L | I] of the received set maps a column to its syndrome; a zero syndrome proves that the column lies on one
//! polynomial of degree ≤ t, and the secret is an inner product. Matrices are cached per set.
//!
//! Otherwise the column is decoded by lifting: with v the valuation of the syndrome S, the word (0, …, 0, S/2^v mod 2)
//! lies over GF(2^d) within `radius` errors of a codeword; Berlekamp–Welch finds the positions, they are erased for the
//! whole message, and the smaller set is tried again. A column needs at most t rounds, a message too.
//!
//! Sound for n ≥ 3t + 1: a value is accepted only if 2t + 1 shares lie on one polynomial of degree ≤ t, of which at
//! least t + 1 are honest. Decoding never needs to be trusted: a wrong erasure can only delay acceptance, and culprits
//! are those, and only those, whose shares differ from the accepted polynomial.
//!
//! Source: ePrint 2023/815 §4; Abspoel et al., TCC 2019, §3.3.

use crate::matrices::{Cache, MAX_BASE_WORDS, dot, expand, gather, index_by_party};
use crate::{CommitteeError, Gf, Gr, GrVec, PartyId, PartySet, Undecided, Word, bw, shamir};

/// Decoder of one committee, with its cached matrices. Share it: calls take `&self` and lock only to look up a matrix.
pub struct Codec<W: Word, const D: usize> {
    n: usize,
    t: usize,
    matrices: Cache<W, D>,
}

/// A decided batch of sharings.
#[derive(Debug)]
pub struct Decoded<W: Word, const D: usize> {
    /// f(0) of every column.
    pub values: GrVec<W, D>,
    /// At least 2t + 1 parties whose shares lie on the accepted polynomials in all columns.
    pub agreeing: PartySet,
    /// Parties whose share differs from the accepted polynomial in some column. Disjoint from `agreeing`.
    pub culprits: PartySet,
}

impl<W: Word, const D: usize> core::fmt::Debug for Codec<W, D> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Codec").field("n", &self.n).field("t", &self.t).finish_non_exhaustive()
    }
}

impl<W: Word, const D: usize> Codec<W, D> {
    /// The decoder for n parties of which t may be wrong.
    ///
    /// # Errors
    /// n < 3t + 1, or more parties than the ring has points.
    pub fn new(n: usize, t: usize) -> Result<Self, CommitteeError> {
        shamir::check_committee::<D>(n, t)?;
        Ok(Self { n, t, matrices: Cache::new(t) })
    }

    /// Shares that are needed at least: 2t + 1.
    #[must_use]
    pub const fn needed(&self) -> usize {
        2 * self.t + 1
    }

    /// Decodes one message: shares of the same number of values from distinct parties. Single-threaded and without
    /// allocation per value; 1 + (number of culprits) passes at most, each column in one of them.
    ///
    /// Panics if a party is not of the committee or twice in the list, or if lengths differ: the caller has checked
    /// them.
    ///
    /// # Errors
    /// [`Undecided`]: try again with more shares.
    pub fn decode(&self, shares: &[(PartyId, &GrVec<W, D>)]) -> Result<Decoded<W, D>, Undecided> {
        let received: PartySet = shares.iter().map(|(p, _)| *p).collect();
        assert!(received.len() == shares.len() && received.without(PartySet::all(self.n)).is_empty());
        let got = shares.len();
        if got < self.needed() {
            return Err(Undecided::TooFew { got, needed: self.needed() });
        }
        let by_party = index_by_party(shares);
        let columns = shares[0].1.len();
        assert!(shares.iter().all(|(_, s)| s.len() == columns));
        let most = (got - self.needed()).min(self.t);

        let mut values = GrVec::zeros(columns);
        let mut erased = PartySet::EMPTY;
        let mut next = 0;
        let agreeing = loop {
            let set = received.without(erased);
            let matrices = self.matrices.get(set);
            next = matrices.open_columns(&by_party, next..columns, |column, value| values.set(column, value));
            if next == columns {
                break set;
            }
            let radius = most - erased.len();
            let syndrome = matrices.syndrome(&by_party, next);
            let wrong = locate(&matrices.parties, &syndrome, self.t, radius).ok_or(Undecided::Inconsistent { got })?;
            erased = erased.union(wrong);
        };
        let culprits = erased
            .iter()
            .filter(|p| {
                by_party[p.slot()].is_some_and(|share| self.first_difference(shares, agreeing, *p, share).is_some())
            })
            .collect();
        Ok(Decoded { values, agreeing, culprits })
    }

    /// The first column in which a share of `party` differs from the polynomial of the agreeing parties; `None` if it
    /// agrees everywhere. This is how late shares are judged.
    ///
    /// Panics if `shares` lacks t + 1 of the agreeing parties, or on different lengths.
    #[must_use]
    pub fn first_difference(
        &self,
        shares: &[(PartyId, &GrVec<W, D>)],
        agreeing: PartySet,
        party: PartyId,
        share: &GrVec<W, D>,
    ) -> Option<usize> {
        let base: Vec<&(PartyId, &GrVec<W, D>)> =
            shares.iter().filter(|(p, _)| agreeing.contains(*p) && *p != party).take(self.t + 1).collect();
        assert!(base.len() == self.t + 1);
        let parties: Vec<PartyId> = base.iter().map(|(p, _)| *p).collect();
        let rows = expand(&shamir::lagrange(&parties, Gr::<W, D>::point(party)));
        let base: Vec<&GrVec<W, D>> = base.iter().map(|(_, s)| *s).collect();
        assert!(base.iter().all(|b| b.len() == share.len()));
        let mut words = [W::ZERO; MAX_BASE_WORDS];
        (0..share.len()).find(|column| {
            let words = gather(&base, *column, &mut words);
            (0..D).any(|c| dot(&rows[c * words.len()..(c + 1) * words.len()], words) != share.coefficient(c)[*column])
        })
    }
}

/// Positions of errors by one step of the lifting, as parties; `None` if there are more than `radius`.
fn locate<W: Word, const D: usize>(
    parties: &[PartyId],
    syndrome: &[Gr<W, D>],
    t: usize,
    radius: usize,
) -> Option<PartySet> {
    if radius == 0 {
        return None;
    }
    let v = syndrome.iter().map(Gr::valuation).min().filter(|v| *v < W::BITS)?;
    let mut word = vec![Gf::ZERO; t + 1];
    word.extend(syndrome.iter().map(|s| s.residue_at(v)));
    let points: Vec<Gf<D>> = parties.iter().map(|p| Gf::from_bits(p.index())).collect();
    let wrong = bw::error_positions(&points, &word, t, radius)?;
    Some(wrong.into_iter().map(|i| parties[i]).collect())
}

#[cfg(test)]
mod tests;
