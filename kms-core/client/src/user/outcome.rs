//! What became of responses, and what they add up to.

use alloy_primitives::{Address, B256, Bytes};
use kms_algebra::{CommitteeError, PartyId, PartySet};
use kms_chain::{eip712::SignatureError, permit::UserRequestError};
use kms_encoding::{DecodeError, FloodBoundError, Plaintext, user::OpenError};

/// A request that can't be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SetUpError {
    /// The request breaks a rule.
    #[error(transparent)]
    Request(#[from] UserRequestError),
    /// The permit names another public key than that of the key pair.
    #[error("the permit is for another key pair")]
    OtherKey,
    /// The committee is impossible.
    #[error(transparent)]
    Committee(#[from] CommitteeError),
    /// The committee can't decrypt.
    #[error(transparent)]
    FloodBound(#[from] FloodBoundError),
    /// A signer stands twice in the committee.
    #[error("signer {0} stands twice in the committee")]
    RepeatedSigner(Address),
    /// The permit's extra data names another context.
    #[error("the permit names context {named}, the committee is {asked}")]
    Context {
        /// In the extra data.
        named: B256,
        /// Of the committee.
        asked: B256,
    },
}

/// A response that no party of the context has signed for this request. Anybody may have made it: nobody is blamed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Rejected {
    /// Larger than any envelope.
    #[error("a share of {0} bytes")]
    TooLarge(usize),
    /// The signature has not 65 bytes.
    #[error("a signature of {0} bytes")]
    SignatureLength(usize),
    /// The signature is malformed.
    #[error(transparent)]
    Signature(#[from] SignatureError),
    /// Other extra data than the permit's.
    #[error("the response carries extra data {0}")]
    ExtraData(Bytes),
    /// Signed by nobody of the context, or for another request, or changed on the way.
    #[error("signed by {0}, who is no party of the context")]
    Stranger(Address),
}

impl Rejected {
    /// Stable label, the same in the golden file.
    #[must_use]
    pub const fn label(&self) -> &'static str {
        match self {
            Self::TooLarge(_) => "TooLarge",
            Self::SignatureLength(_) => "SignatureLength",
            Self::Signature(error) => match error {
                SignatureError::BadV(_) => "BadV",
                SignatureError::HighS => "HighS",
                SignatureError::Unrecoverable => "Unrecoverable",
            },
            Self::ExtraData(_) => "ExtraData",
            Self::Stranger(_) => "Stranger",
        }
    }
}

/// What speaks against a party, under its own signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// Its envelope does not parse, does not open, or holds no payload of this request.
    Opening(OpenError),
    /// Its envelope names another party.
    Index(u8),
    /// Its envelope contradicts the context or the epoch in the extra data that it signed.
    ExtraData,
    /// It signed two different shares of the same ciphertexts.
    Conflicting,
    /// Its share is not on the polynomial on which 2t + 1 others are.
    Share,
}

impl Fault {
    /// Stable label, the same in the golden file.
    #[must_use]
    pub const fn label(&self) -> &'static str {
        match self {
            Self::Opening(error) => error.label(),
            Self::Index(_) => "Index",
            Self::ExtraData => "ExtraData",
            Self::Conflicting => "Conflicting",
            Self::Share => "Share",
        }
    }
}

/// A party and what speaks against it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wrong {
    /// Who.
    pub party: PartyId,
    /// What.
    pub fault: Fault,
}

/// Responses that can be put together: same epoch, key and ciphertexts. Context and handles are the request's.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Group {
    /// Epoch.
    pub epoch: B256,
    /// FHE key.
    pub key: B256,
    /// Committed digests of the ciphertexts, in the order of the handles.
    pub digests: Vec<B256>,
}

/// An authentic response that does not belong to the others. No fault: the party is at another place, or the response is an
/// older one that somebody repeated.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Foreign {
    /// Of another context.
    Context(B256),
    /// To another permit with the same key and handles.
    Permit(B256),
    /// Of another epoch, key, or fork of the chain.
    Group(Group),
}

impl Foreign {
    /// Stable label, the same in the golden file.
    #[must_use]
    pub const fn label(&self) -> &'static str {
        match self {
            Self::Context(_) => "Context",
            Self::Permit(_) => "Permit",
            Self::Group(_) => "Group",
        }
    }
}

/// What became of an authentic response.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Added {
    /// A share that was not there before.
    Share(PartyId),
    /// The same share again.
    Repeated(PartyId),
    /// Of another context or permit.
    Foreign {
        /// Who signed it.
        party: PartyId,
        /// Where it belongs.
        foreign: Foreign,
    },
    /// Its party is wrong.
    Wrong(Wrong),
    /// One of too many views of one party.
    Ignored(PartyId),
}

/// Who has answered what. Each party of the committee is in exactly one of the four.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Agreeing shares that are needed: 2t + 1, and one more for each wrong one among them.
    pub needed: usize,
    /// Parties with a share in the best group that speaks not against them.
    pub shares: PartySet,
    /// Wrong parties, ascending.
    pub wrong: Vec<Wrong>,
    /// Parties whose responses belong elsewhere, ascending.
    pub elsewhere: Vec<(PartyId, Foreign)>,
    /// Parties without an authentic response. Not wrong.
    pub missing: PartySet,
}

impl Progress {
    /// The wrong parties as a set.
    #[must_use]
    pub fn culprits(&self) -> PartySet {
        self.wrong.iter().map(|wrong| wrong.party).collect()
    }
}

/// The values of a user decryption.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reconstruction {
    /// Handle and value, in the order of the request.
    pub values: Vec<(B256, Plaintext)>,
    /// The epoch, key and ciphertexts that they are of.
    pub group: Group,
    /// At least 2t + 1 parties whose shares agree.
    pub agreeing: PartySet,
    /// Who has answered what.
    pub progress: Progress,
}

/// No values.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReconstructError {
    /// Not yet: more responses are needed.
    #[error(
        "not decided: {} shares that fit together, {} agreeing ones are needed; wrong: {}; elsewhere: {}; missing: {}",
        .0.shares.len(), .0.needed, names(.0.culprits()), .0.elsewhere.len(), names(.0.missing)
    )]
    Undecided(Box<Progress>),
    /// Never: 2t + 1 parties agree on blocks that no honest ciphertext has.
    #[error("handle {handle} has no value: {reason}")]
    Refused {
        /// The first handle without a value.
        handle: B256,
        /// Why.
        reason: DecodeError,
        /// Who has answered what.
        progress: Box<Progress>,
    },
}

fn names(parties: PartySet) -> String {
    if parties.is_empty() { "none".to_owned() } else { parties.to_string() }
}
