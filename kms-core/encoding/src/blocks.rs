//! LWE samples of one noise-squashed ciphertext.

/// Which of the two secret keys that a party holds shares of a ciphertext is under.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum SecretKeyKind {
    /// The noise-squashing key: squashed integers.
    Squashing = 1,
    /// The squashed-compression key: entries of a compressed squashed list.
    SquashedCompression = 2,
}

impl SecretKeyKind {
    /// The kind with this identifier.
    #[must_use]
    pub const fn from_u8(byte: u8) -> Option<Self> {
        match byte {
            1 => Some(Self::Squashing),
            2 => Some(Self::SquashedCompression),
            _ => None,
        }
    }

    /// The identifier.
    #[must_use]
    pub const fn to_u8(self) -> u8 {
        self as u8
    }
}

/// Blocks of one ciphertext: LWE samples (a, b) mod 2^128, least significant block first.
///
/// Flat, so that a party streams through it: the mask of block `j` is `masks[j·dimension .. (j+1)·dimension]`.
/// Block `j` has the absolute position `first + j` in the object that the committed digest covers; that position, never
/// the position inside a request, selects the flooding mask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LweBlocks {
    key: SecretKeyKind,
    dimension: usize,
    first: u32,
    masks: Vec<u128>,
    bodies: Vec<u128>,
}

/// Why blocks can't be put together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BlocksError {
    /// No block at all, or dimension zero.
    #[error("a ciphertext needs at least one block of dimension at least one")]
    Empty,
    /// The masks don't have `dimension` words per body.
    #[error("{bodies} bodies of dimension {dimension} need {bodies}×{dimension} mask words, got {masks}")]
    Shape {
        /// Number of bodies.
        bodies: usize,
        /// Mask words.
        masks: usize,
        /// Words per block.
        dimension: usize,
    },
    /// The last position does not fit 32 bits.
    #[error("the position of the last block does not fit 32 bits")]
    Position,
}

impl LweBlocks {
    /// Puts blocks together.
    ///
    /// # Errors
    /// The shapes don't fit each other; see [`BlocksError`].
    pub fn new(
        key: SecretKeyKind,
        dimension: usize,
        first: u32,
        masks: Vec<u128>,
        bodies: Vec<u128>,
    ) -> Result<Self, BlocksError> {
        if bodies.is_empty() || dimension == 0 {
            return Err(BlocksError::Empty);
        }
        if bodies.len().checked_mul(dimension) != Some(masks.len()) {
            return Err(BlocksError::Shape { bodies: bodies.len(), masks: masks.len(), dimension });
        }
        u32::try_from(bodies.len()).ok().and_then(|n| first.checked_add(n)).ok_or(BlocksError::Position)?;
        Ok(Self { key, dimension, first, masks, bodies })
    }

    /// The secret key that the blocks are under.
    #[must_use]
    pub const fn key(&self) -> SecretKeyKind {
        self.key
    }

    /// Mask words per block.
    #[must_use]
    pub const fn dimension(&self) -> usize {
        self.dimension
    }

    /// Absolute position of the first block in its ciphertext object.
    #[must_use]
    pub const fn first(&self) -> u32 {
        self.first
    }

    /// Number of blocks, at least one.
    #[must_use]
    #[allow(clippy::len_without_is_empty, reason = "never empty by construction")]
    pub fn len(&self) -> usize {
        self.bodies.len()
    }

    /// The mask of block `index`. Panics beyond [`Self::len`], like any slice.
    #[must_use]
    pub fn mask(&self, index: usize) -> &[u128] {
        &self.masks[index * self.dimension..(index + 1) * self.dimension]
    }

    /// All masks, block after block.
    #[must_use]
    pub fn masks(&self) -> &[u128] {
        &self.masks
    }

    /// All bodies.
    #[must_use]
    pub fn bodies(&self) -> &[u128] {
        &self.bodies
    }

    /// Mask and body of every block.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&[u128], u128)> + '_ {
        self.masks.chunks_exact(self.dimension).zip(self.bodies.iter().copied())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_are_checked() {
        let make = |d, first, masks, bodies| {
            LweBlocks::new(SecretKeyKind::Squashing, d, first, vec![7; masks], vec![9; bodies]).map(|_| ())
        };
        assert_eq!(make(4, 0, 8, 2), Ok(()));
        assert_eq!(make(4, u32::MAX - 2, 8, 2), Ok(()));
        assert_eq!(make(4, 0, 8, 0), Err(BlocksError::Empty));
        assert_eq!(make(0, 0, 0, 2), Err(BlocksError::Empty));
        assert_eq!(make(4, 0, 9, 2), Err(BlocksError::Shape { bodies: 2, masks: 9, dimension: 4 }));
        assert_eq!(make(usize::MAX, 0, 9, 2), Err(BlocksError::Shape { bodies: 2, masks: 9, dimension: usize::MAX }));
        assert_eq!(make(4, u32::MAX, 8, 2), Err(BlocksError::Position));
    }

    #[test]
    fn blocks_are_laid_out_one_after_the_other() {
        let b = LweBlocks::new(SecretKeyKind::SquashedCompression, 2, 5, vec![1, 2, 3, 4], vec![10, 20]).unwrap();
        assert_eq!(b.mask(1), [3, 4]);
        assert_eq!(b.iter().map(|(m, b)| (m.to_vec(), b)).collect::<Vec<_>>(), [(vec![1, 2], 10), (vec![3, 4], 20)]);
        assert_eq!((b.len(), b.first(), b.dimension(), b.key()), (2, 5, 2, SecretKeyKind::SquashedCompression));
    }
}
