//! Parity check and opening matrices of received sets.
//!
//! A batch of sharings of degree ≤ d comes as one [`GrVec`] per party. The first d + 1 parties of a set are the base; what
//! the others' shares must be, and the secret, is linear in the base's. Matrices are cached per set.

use core::num::NonZeroUsize;
use core::ops::Range;
use std::sync::Arc;

use lru::LruCache;
use parking_lot::Mutex;

use crate::{Gr, GrVec, MAX_PARTIES, PartyId, PartySet, Word, shamir};

/// Received sets whose matrices are kept. A committee sees few: all parties, all but a slow or wrong one, …
const CACHED_SETS: NonZeroUsize = NonZeroUsize::new(64).unwrap();
/// Most words of d + 1 ring elements: d < n, D ≤ 5.
pub(crate) const MAX_BASE_WORDS: usize = MAX_PARTIES * 5;

/// The matrices of the sets of one committee, for one degree. Calls lock only to look up or keep a matrix.
pub(crate) struct Cache<W: Word, const D: usize> {
    degree: usize,
    matrices: Mutex<LruCache<PartySet, Arc<Matrices<W, D>>>>,
}

impl<W: Word, const D: usize> Cache<W, D> {
    pub(crate) fn new(degree: usize) -> Self {
        Self { degree, matrices: Mutex::new(LruCache::new(CACHED_SETS)) }
    }

    /// The matrices of a set of at least degree + 1 parties.
    pub(crate) fn get(&self, set: PartySet) -> Arc<Matrices<W, D>> {
        if let Some(found) = self.matrices.lock().get(&set) {
            return Arc::clone(found);
        }
        // Computed without the lock: two threads may do it twice, nobody waits.
        let matrices = Arc::new(Matrices::new(set, self.degree));
        self.matrices.lock().put(set, Arc::clone(&matrices));
        matrices
    }
}

/// What is precomputed for a set of parties: the first d + 1 are the base, the others are checked against it.
pub(crate) struct Matrices<W, const D: usize> {
    pub(crate) parties: Vec<PartyId>,
    /// For each checked party and coefficient a row over the words of the base: what its share must be.
    check: Vec<W>,
    /// For each coefficient a row over the words of the base: the secret.
    open: Vec<W>,
}

/// Shares by the slot of their party.
pub(crate) type ByParty<'a, W, const D: usize> = [Option<&'a GrVec<W, D>>; crate::MAX_PARTIES];

pub(crate) fn index_by_party<'a, W: Word, const D: usize>(shares: &[(PartyId, &'a GrVec<W, D>)]) -> ByParty<'a, W, D> {
    let mut by_party = [None; crate::MAX_PARTIES];
    for (party, share) in shares {
        by_party[party.slot()] = Some(*share);
    }
    by_party
}

impl<W: Word, const D: usize> Matrices<W, D> {
    fn new(set: PartySet, degree: usize) -> Self {
        let parties: Vec<PartyId> = set.iter().collect();
        let (base, checked) = parties.split_at(degree + 1);
        let check = checked.iter().flat_map(|p| expand(&shamir::lagrange(base, Gr::<W, D>::point(*p)))).collect();
        let open = expand(&shamir::lagrange(base, Gr::<W, D>::ZERO));
        Self { parties, check, open }
    }

    /// The same matrices modulo a smaller or equal power of two.
    pub(crate) fn cast<V: Word>(&self) -> Matrices<V, D> {
        let cast = |words: &[W]| words.iter().map(|word| V::truncate(word.widen())).collect();
        Matrices { parties: self.parties.clone(), check: cast(&self.check), open: cast(&self.open) }
    }

    fn split<'a>(&self, shares: &ByParty<'a, W, D>) -> (Vec<&'a GrVec<W, D>>, Vec<&'a GrVec<W, D>>) {
        let width = self.open.len() / D / D;
        let mut base: Vec<_> = self.parties.iter().filter_map(|p| shares[p.slot()]).collect();
        let checked = base.split_off(width);
        (base, checked)
    }

    /// Opens columns until one has a syndrome other than zero; its index, or the end.
    pub(crate) fn open_columns(
        &self,
        shares: &ByParty<'_, W, D>,
        columns: Range<usize>,
        mut opened: impl FnMut(usize, Gr<W, D>),
    ) -> usize {
        let (base, checked) = self.split(shares);
        let end = columns.end;
        let mut buffer = [W::ZERO; MAX_BASE_WORDS];
        for column in columns {
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
            opened(
                column,
                Gr(core::array::from_fn(|c| dot(&self.open[c * words.len()..(c + 1) * words.len()], words))),
            );
        }
        end
    }

    /// Received minus expected share of each checked party.
    pub(crate) fn syndrome(&self, shares: &ByParty<'_, W, D>, column: usize) -> Vec<Gr<W, D>> {
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

/// Rows over words for a row of ring elements: word c of Σ_b λ_b·x_b is Σ_{b,e} M(λ_b)\[c\]\[e\]·x_b,e.
pub(crate) fn expand<W: Word, const D: usize>(row: &[Gr<W, D>]) -> Vec<W> {
    let matrices: Vec<_> = row.iter().map(Gr::matrix).collect();
    (0..D).flat_map(|c| matrices.iter().flat_map(move |m| m[c])).collect()
}

/// The words of one column of the base, one party after the other.
#[inline]
pub(crate) fn gather<'b, W: Word, const D: usize>(
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
pub(crate) fn dot<W: Word>(row: &[W], words: &[W]) -> W {
    row.iter().zip(words).fold(W::ZERO, |sum, (m, x)| sum.plus(m.times(*x)))
}
