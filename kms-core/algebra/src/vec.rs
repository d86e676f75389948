//! Many ring elements as a structure of arrays.

use core::fmt;

use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::{Gr, Word};

/// A vector of `len` ring elements, coefficient-major: all constant coefficients first, then all of X, and so on.
///
/// Holds shares of one party, so it has no readable `Debug` and is erased on drop.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct GrVec<W: Word, const D: usize> {
    len: usize,
    words: Vec<W>,
}

impl<W: Word, const D: usize> GrVec<W, D> {
    /// `len` zeros.
    #[must_use]
    pub fn zeros(len: usize) -> Self {
        Self { len, words: vec![W::ZERO; len * D] }
    }

    /// A vector from its words in coefficient-major order; `None` if their number is not a multiple of D.
    #[must_use]
    pub fn from_words(words: Vec<W>) -> Option<Self> {
        words.len().is_multiple_of(D).then(|| Self { len: words.len() / D, words })
    }

    /// Number of elements.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Coefficient `c` of every element. Panics if `c` ≥ D.
    #[must_use]
    pub fn coefficient(&self, c: usize) -> &[W] {
        &self.words[c * self.len..(c + 1) * self.len]
    }

    /// Coefficient `c` of every element. Panics if `c` ≥ D.
    pub fn coefficient_mut(&mut self, c: usize) -> &mut [W] {
        &mut self.words[c * self.len..(c + 1) * self.len]
    }

    /// All words, coefficient-major.
    #[must_use]
    pub fn words(&self) -> &[W] {
        &self.words
    }

    /// Element `index`. Panics beyond the end.
    #[must_use]
    #[inline]
    pub fn get(&self, index: usize) -> Gr<W, D> {
        assert!(index < self.len);
        Gr(core::array::from_fn(|c| self.words[c * self.len + index]))
    }

    /// Sets element `index`. Panics beyond the end.
    #[inline]
    pub fn set(&mut self, index: usize, element: Gr<W, D>) {
        assert!(index < self.len);
        for (c, word) in element.0.into_iter().enumerate() {
            self.words[c * self.len + index] = word;
        }
    }

    /// The vector in pieces of `size` elements, the last one shorter: of each piece its coefficients, as slices. Panics if
    /// `size` is 0.
    pub fn tiles_mut(&mut self, size: usize) -> impl ExactSizeIterator<Item = [&mut [W]; D]> {
        let tiles = self.len.div_ceil(size);
        let mut coefficients = self.words.chunks_exact_mut(self.len.max(1));
        let mut pieces: [_; D] = core::array::from_fn(|_| coefficients.next().unwrap_or_default().chunks_mut(size));
        (0..tiles).map(move |_| pieces.each_mut().map(|pieces| pieces.next().unwrap_or_default()))
    }

    /// The elements in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Gr<W, D>> + '_ {
        (0..self.len).map(|i| self.get(i))
    }
}

impl<W: Word, const D: usize> FromIterator<Gr<W, D>> for GrVec<W, D> {
    fn from_iter<I: IntoIterator<Item = Gr<W, D>>>(elements: I) -> Self {
        let mut elements: Vec<_> = elements.into_iter().collect();
        let mut v = Self::zeros(elements.len());
        for (i, e) in elements.iter().enumerate() {
            v.set(i, *e);
        }
        elements.zeroize();
        v
    }
}

impl<W: Word, const D: usize> fmt::Debug for GrVec<W, D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "GrVec({} elements)", self.len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiles_are_the_vector_in_pieces() {
        for len in 0..10 {
            let mut vector = GrVec::<u64, 4>::zeros(len);
            for (tile, coefficients) in vector.tiles_mut(3).enumerate() {
                for (c, words) in coefficients.into_iter().enumerate() {
                    words.iter_mut().enumerate().for_each(|(i, word)| *word = (10 * (3 * tile + i) + c) as u64);
                }
            }
            assert!((0..len).all(|i| vector.get(i).0 == [0, 1, 2, 3].map(|c| 10 * i as u64 + c)));
            assert_eq!(vector.tiles_mut(3).len(), len.div_ceil(3));
        }
    }
}
