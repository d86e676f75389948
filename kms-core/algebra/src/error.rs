//! What can go wrong in the algebra.

/// A committee that the ring or the corruption bound does not allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CommitteeError {
    /// n < 3t + 1.
    #[error("{n} parties can't tolerate {t} faults: n >= 3t + 1")]
    TooManyFaults {
        /// Parties.
        n: usize,
        /// Faults.
        t: usize,
    },
    /// The ring of this degree has fewer points than there are parties.
    #[error("a ring of degree {degree} has no points for {n} parties")]
    TooManyParties {
        /// Parties.
        n: usize,
        /// Degree of the ring.
        degree: usize,
    },
}

/// Shares that do not decide the value yet. Not a fault of anybody: wait for more shares.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Undecided {
    /// Fewer than 2t + 1 shares.
    #[error("{got} shares of {needed}")]
    TooFew {
        /// Shares at hand.
        got: usize,
        /// 2t + 1.
        needed: usize,
    },
    /// No 2t + 1 of the shares could be shown to lie on one polynomial of degree t.
    #[error("{got} shares of which too many are wrong to decide")]
    Inconsistent {
        /// Shares at hand.
        got: usize,
    },
}
