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

use core::num::NonZeroUsize;
use std::sync::Arc;

use lru::LruCache;
use parking_lot::Mutex;

use crate::{CommitteeError, Gf, Gr, GrVec, PartyId, PartySet, Undecided, Word, bw, shamir};

/// Received sets whose matrices are kept. A committee sees few: all parties, all but a slow or wrong one, …
const CACHED_SETS: NonZeroUsize = NonZeroUsize::new(64).unwrap();
/// Most words of t + 1 ring elements: t ≤ 10, D ≤ 5.
const MAX_BASE_WORDS: usize = 64;

/// Decoder of one committee, with its cached matrices. Share it: calls take `&self` and lock only to look up a matrix.
pub struct Codec<W: Word, const D: usize> {
    n: usize,
    t: usize,
    cache: Mutex<LruCache<PartySet, Arc<Matrices<W, D>>>>,
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

/// What is precomputed for a set of parties: the first t + 1 are the base, the others are checked against it.
struct Matrices<W, const D: usize> {
    parties: Vec<PartyId>,
    /// For each checked party and coefficient a row over the words of the base: what its share must be.
    check: Vec<W>,
    /// For each coefficient a row over the words of the base: the secret.
    open: Vec<W>,
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
        Ok(Self { n, t, cache: Mutex::new(LruCache::new(CACHED_SETS)) })
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
            let matrices = self.matrices(set);
            next = matrices.open_columns(&by_party, next, &mut values);
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

    fn matrices(&self, set: PartySet) -> Arc<Matrices<W, D>> {
        if let Some(found) = self.cache.lock().get(&set) {
            return Arc::clone(found);
        }
        // Computed without the lock: two threads may do it twice, nobody waits.
        let matrices = Arc::new(Matrices::new(set, self.t));
        self.cache.lock().put(set, Arc::clone(&matrices));
        matrices
    }
}

type ByParty<'a, W, const D: usize> = [Option<&'a GrVec<W, D>>; crate::MAX_PARTIES];

fn index_by_party<'a, W: Word, const D: usize>(shares: &[(PartyId, &'a GrVec<W, D>)]) -> ByParty<'a, W, D> {
    let mut by_party = [None; crate::MAX_PARTIES];
    for (party, share) in shares {
        by_party[party.slot()] = Some(*share);
    }
    by_party
}

impl<W: Word, const D: usize> Matrices<W, D> {
    fn new(set: PartySet, t: usize) -> Self {
        let parties: Vec<PartyId> = set.iter().collect();
        let (base, checked) = parties.split_at(t + 1);
        let check = checked.iter().flat_map(|p| expand(&shamir::lagrange(base, Gr::<W, D>::point(*p)))).collect();
        let open = expand(&shamir::lagrange(base, Gr::<W, D>::ZERO));
        Self { parties, check, open }
    }

    fn split<'a>(&self, shares: &ByParty<'a, W, D>) -> (Vec<&'a GrVec<W, D>>, Vec<&'a GrVec<W, D>>) {
        let width = self.open.len() / D / D;
        let mut base: Vec<_> = self.parties.iter().filter_map(|p| shares[p.slot()]).collect();
        let checked = base.split_off(width);
        (base, checked)
    }

    /// Opens columns from `start` on, until one has a syndrome other than zero; its index, or the number of columns.
    fn open_columns(&self, shares: &ByParty<'_, W, D>, start: usize, values: &mut GrVec<W, D>) -> usize {
        let (base, checked) = self.split(shares);
        let columns = values.len();
        let mut buffer = [W::ZERO; MAX_BASE_WORDS];
        for column in start..columns {
            let words = gather(&base, column, &mut buffer);
            let mut syndrome = W::ZERO;
            for (share, rows) in checked.iter().zip(self.check.chunks_exact(D * words.len())) {
                for (c, row) in rows.chunks_exact(words.len()).enumerate() {
                    syndrome = syndrome.or(dot(row, words).minus(share.coefficient(c)[column]));
                }
            }
            if syndrome != W::ZERO {
                return column;
            }
            values.set(
                column,
                Gr(core::array::from_fn(|c| dot(&self.open[c * words.len()..(c + 1) * words.len()], words))),
            );
        }
        columns
    }

    /// Received minus expected share of each checked party.
    fn syndrome(&self, shares: &ByParty<'_, W, D>, column: usize) -> Vec<Gr<W, D>> {
        let (base, checked) = self.split(shares);
        let mut buffer = [W::ZERO; MAX_BASE_WORDS];
        let words = gather(&base, column, &mut buffer);
        checked
            .iter()
            .zip(self.check.chunks_exact(D * words.len()))
            .map(|(share, rows)| {
                Gr(core::array::from_fn(|c| {
                    share.coefficient(c)[column].minus(dot(&rows[c * words.len()..(c + 1) * words.len()], words))
                }))
            })
            .collect()
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

/// Rows over words for a row of ring elements: word c of Σ_b λ_b·x_b is Σ_{b,e} M(λ_b)\[c\]\[e\]·x_b,e.
fn expand<W: Word, const D: usize>(row: &[Gr<W, D>]) -> Vec<W> {
    let matrices: Vec<_> = row.iter().map(Gr::matrix).collect();
    (0..D).flat_map(|c| matrices.iter().flat_map(move |m| m[c])).collect()
}

/// The words of one column of the base, one party after the other.
#[inline]
fn gather<'b, W: Word, const D: usize>(
    base: &[&GrVec<W, D>],
    column: usize,
    buffer: &'b mut [W; MAX_BASE_WORDS],
) -> &'b [W] {
    for (share, words) in base.iter().zip(buffer.chunks_exact_mut(D)) {
        for (c, word) in words.iter_mut().enumerate() {
            *word = share.coefficient(c)[column];
        }
    }
    &buffer[..base.len() * D]
}

#[inline]
fn dot<W: Word>(row: &[W], words: &[W]) -> W {
    row.iter().zip(words).fold(W::ZERO, |sum, (m, x)| sum.plus(m.times(*x)))
}

#[cfg(test)]
mod tests;
