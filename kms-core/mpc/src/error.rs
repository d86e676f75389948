//! What can go wrong in the protocols.

use kms_algebra::{CommitteeError, PartyId};
use kms_encoding::{DecodeError, FloodBoundError, SecretKeyKind};

use crate::Closed;

/// Key material or a committee that can't be used. Found at start-up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SetupError {
    /// The flooding does not work out for this committee.
    #[error(transparent)]
    Flooding(#[from] FloodBoundError),
    /// The ring does not fit this committee.
    #[error(transparent)]
    Committee(#[from] CommitteeError),
    /// This party is no member.
    #[error("party {0} is not in a committee of {1}")]
    NotAMember(PartyId, usize),
    /// The PRSS keys are not exactly one for each set of n − t parties with this party in it, by ascending bitmap.
    #[error("the PRSS keys are not those of party {0}")]
    PrssKeys(PartyId),
}

/// Why a decryption did not come to a result at this party.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecryptError {
    /// A job has 1 to [`crate::decrypt::MAX_BLOCKS`] blocks.
    #[error("a job has 1 to {max} blocks, not {got}", max = crate::decrypt::MAX_BLOCKS)]
    JobSize {
        /// Blocks asked for.
        got: usize,
    },
    /// A ciphertext does not have the blocks of its type.
    #[error("ciphertext {item} has {got} blocks, its type {expected}")]
    BlockCount {
        /// Which of the job.
        item: usize,
        /// Blocks of the type.
        expected: usize,
        /// Blocks of the ciphertext.
        got: usize,
    },
    /// This party has no share of the secret key that the ciphertext is under, or of another dimension or degree.
    #[error("no share of the {kind:?} key with dimension {dimension} for ciphertext {item}")]
    NoShare {
        /// Which of the job.
        item: usize,
        /// Key of the ciphertext.
        kind: SecretKeyKind,
        /// Its dimension.
        dimension: usize,
    },
    /// All parties have answered and no 2t + 1 shares agree: more than t are wrong, outside the model.
    #[error("all shares are in, but more than t are wrong")]
    TooManyWrong,
    /// The network was closed: the job was given up or the process ends.
    #[error(transparent)]
    Closed(#[from] Closed),
}

/// A ciphertext that opened to no value: final, and the same at every honest party.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("ciphertext {item} of the job: {reason}")]
pub struct Refusal {
    /// Which of the job; the first one, if there are more.
    pub item: usize,
    /// Why.
    pub reason: DecodeError,
}
