//! What the guard decides.

use std::time::Duration;

use alloy_primitives::{Address, B256};
use kms_chain::handle::{Handle, HandleError};
use kms_chain::user_view::UserRefusal;

/// The decision about one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// A share may leave the party.
    Allowed(Grant),
    /// Not now; the same question may get another answer later.
    NotYet(NotYet),
    /// No, as far as this party can see; [`Refusal::lasts`] tells whether it stays so.
    Refused(Refusal),
}

impl Verdict {
    /// Labels of the metric `guard_verdicts`: verdict and reason.
    pub fn labels(&self) -> (&'static str, &'static str) {
        match self {
            Self::Allowed(_) => ("allowed", ""),
            Self::NotYet(n) => ("not_yet", n.reason.name()),
            Self::Refused(r) => ("refused", r.name()),
        }
    }
}

/// What the chain permits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// Host chain.
    pub chain_id: u64,
    /// Context that is to answer: this committee's.
    pub context: B256,
    /// Id of the on-chain request, recomputed from its content; none for publicly decryptable handles.
    pub request_id: Option<B256>,
    /// What to decrypt, in request order.
    pub handles: Vec<HandleGrant>,
    /// Number of the block that this was read at.
    pub block_number: u64,
    /// Hash of the block that this was read at.
    pub block_hash: B256,
}

/// One handle that may be decrypted, and the ciphertext that is committed to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HandleGrant {
    /// The handle.
    pub handle: Handle,
    /// Key that it is encrypted under.
    pub key_id: B256,
    /// SHA-256 of the ciphertext object.
    pub digest: B256,
}

/// Ask again later.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotYet {
    /// Class of the reason.
    pub reason: NotYetReason,
    /// One sentence for people.
    pub detail: String,
    /// When to ask again.
    pub retry_after: Duration,
}

/// Why there is no decision yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NotYetReason {
    /// The request or the permission is on the chain, but not in a block that is final enough.
    NotFinal,
    /// The digest of a ciphertext is not committed, or its key is not active yet.
    NotCommitted,
    /// This party's endpoints don't know the request: they are behind, or it is on a fork that they don't follow. Or a permit
    /// starts soon after their latest block.
    Behind,
    /// The endpoints do not agree on a block, or the block vanished while it was read.
    BlockUnknown,
    /// An endpoint does not answer, or answers for another chain.
    ChainUnavailable,
}

impl NotYetReason {
    /// Label of the metric.
    pub const fn name(self) -> &'static str {
        match self {
            Self::NotFinal => "not_final",
            Self::NotCommitted => "not_committed",
            Self::Behind => "behind",
            Self::BlockUnknown => "block_unknown",
            Self::ChainUnavailable => "chain_unavailable",
        }
    }
}

/// Why the answer is no.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// This party does not serve the chain.
    #[error("this party does not serve chain {0}")]
    UnknownChain(u64),
    /// The list of handles is malformed.
    #[error("handles: {0}")]
    Handles(HandleError),
    /// The finality code means nothing.
    #[error("unknown finality code {0}")]
    UnknownFinality(u16),
    /// The request names another committee; for publicly decryptable handles: the chain has another current one.
    #[error("context {requested} is to answer, this party is of {own}")]
    WrongContext {
        /// Context that is to answer.
        requested: B256,
        /// Context of this party.
        own: B256,
    },
    /// The committee's context was destroyed.
    #[error("context {0} was destroyed")]
    ContextDestroyed(B256),
    /// The request was answered, delivered or expired.
    #[error("the request is {0}")]
    NotOpen(&'static str),
    /// The requester withdrew the request.
    #[error("the request was cancelled")]
    Cancelled,
    /// The deadline was reached, in block time.
    #[error("the deadline {deadline} was reached: block time is {now}")]
    DeadlinePassed {
        /// Effective deadline.
        deadline: u64,
        /// Time of the latest block.
        now: u64,
    },
    /// The account that asks has no right to the handle.
    #[error("{account} may not decrypt {handle}")]
    NotPermitted {
        /// The requester; zero for the public.
        account: Address,
        /// The handle.
        handle: B256,
    },
    /// A user decryption is not allowed.
    #[error("{label}: {0}", label = .0.label())]
    User(UserRefusal),
    /// One of the others, read in a block that may still be replaced: a request that was answered, cancelled or too late
    /// on one fork may be open on the next.
    #[error("{0}")]
    Unconfirmed(Box<Refusal>),
    /// The key of the handle must not be used any more.
    #[error("key {key_id} of {handle} is {state}")]
    KeyState {
        /// The handle.
        handle: B256,
        /// Its key.
        key_id: B256,
        /// State of the key.
        state: &'static str,
    },
}

impl Refusal {
    /// Whether no later block and no new manifest takes it back. Only such a refusal ends a recorded request; the others
    /// answer the call, which can be made again: rights are given late, contexts follow each other, and this party's
    /// endpoints may lag behind both. Of a user decryption nothing is recorded.
    pub const fn lasts(&self) -> bool {
        !matches!(
            self,
            Self::UnknownChain(_)
                | Self::WrongContext { .. }
                | Self::NotPermitted { .. }
                | Self::User(_)
                | Self::Unconfirmed(_)
        )
    }

    /// The reason, however sure it is.
    pub fn reason(&self) -> &Self {
        match self {
            Self::Unconfirmed(refusal) => refusal.reason(),
            sure => sure,
        }
    }

    /// Label of the metric.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Unconfirmed(refusal) => refusal.name(),
            Self::UnknownChain(_) => "unknown_chain",
            Self::Handles(_) => "handles",
            Self::UnknownFinality(_) => "unknown_finality",
            Self::WrongContext { .. } => "wrong_context",
            Self::ContextDestroyed(_) => "context_destroyed",
            Self::NotOpen(_) => "not_open",
            Self::Cancelled => "cancelled",
            Self::DeadlinePassed { .. } => "deadline_passed",
            Self::NotPermitted { .. } => "not_permitted",
            Self::KeyState { .. } => "key_state",
            Self::User(refusal) => refusal.label(),
        }
    }
}
