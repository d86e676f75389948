//! What speaks against a party, and what proves it to third parties.

use bytes::Bytes;
use kms_algebra::PartyId;

/// What a party did that no honest party does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Misdeed {
    /// It signed two frames of one chunk. Proved.
    Equivocated,
    /// It signed two votes on one chunk. Proved.
    VotedTwice,
    /// Its signed frame is not what its keys give. Proved.
    WrongFrame,
    /// It signed a claim about keys that t + 1 others contradict. Proved.
    WrongKeys,
    /// Its share is not on the polynomial on which 2t + 1 others lie. Observed.
    WrongShare,
    /// It answered with something that is no answer, or not signed by it. Observed.
    Malformed,
}

/// A party that was wrong. Never an honest one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Culprit {
    /// Who.
    pub party: PartyId,
    /// What it did.
    pub misdeed: Misdeed,
    /// Chunk in which it was found.
    pub chunk: u32,
    /// Proof for third parties; empty if it was only observed.
    pub evidence: Bytes,
}
