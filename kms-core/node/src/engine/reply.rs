//! What callers are told, in the words of the API.

use std::time::Duration;

use alloy_primitives::B256;
use kms_chain::permit::UserRequestError;
use kms_chain::user_view::UserRefusal;
use kms_proto::node::{
    self, NotYetReason, RefusedReason, decrypt_response::Outcome, user_decrypt_response::Outcome as UserOutcome,
};

use crate::guard::{self, Refusal};

/// Pause before a caller should ask for a running request again.
pub(super) const AGAIN: Duration = Duration::from_millis(200);
/// Pause after a failure inside, or when everything is full.
pub(super) const LATER: Duration = Duration::from_secs(1);

pub(crate) fn refused(reason: RefusedReason, detail: impl Into<String>) -> node::Refused {
    node::Refused { reason: reason.into(), detail: kms_proto::bounds::text(detail.into()) }
}

pub(crate) fn not_yet(reason: NotYetReason, detail: impl Into<String>, retry: Duration) -> Outcome {
    Outcome::NotYet(node::NotYet {
        reason: reason.into(),
        detail: kms_proto::bounds::text(detail.into()),
        retry_after_ms: u32::try_from(retry.as_millis()).unwrap_or(u32::MAX),
    })
}

/// What waits when this party has failed on its own.
pub(super) fn internal() -> Outcome {
    not_yet(NotYetReason::Internal, "this party has a fault of its own", LATER)
}

pub(super) fn in_progress() -> Outcome {
    not_yet(NotYetReason::InProgress, "the parties are at work", AGAIN)
}

pub(super) fn epoch_not_live(live: &[B256]) -> Outcome {
    let live = live.iter().take(kms_proto::bounds::MAX_EPOCHS).map(|epoch| epoch.to_vec()).collect();
    Outcome::EpochNotLive(node::EpochNotLive { live })
}

/// The same in the words of a user decryption, for everything but an answer.
pub(crate) fn to_user(outcome: Outcome) -> UserOutcome {
    match outcome {
        Outcome::NotYet(not_yet) => UserOutcome::NotYet(not_yet),
        Outcome::Refused(refused) => UserOutcome::Refused(refused),
        Outcome::EpochNotLive(epochs) => UserOutcome::EpochNotLive(epochs),
        // Never: an answer in the clear is for a request of another kind.
        Outcome::Answer(_) => to_user(internal()),
    }
}

pub(super) fn not_yet_reason(reason: guard::NotYetReason) -> NotYetReason {
    match reason {
        guard::NotYetReason::NotFinal => NotYetReason::NotFinal,
        guard::NotYetReason::NotCommitted => NotYetReason::NotCommitted,
        guard::NotYetReason::Behind => NotYetReason::Behind,
        guard::NotYetReason::BlockUnknown => NotYetReason::BlockUnknown,
        guard::NotYetReason::ChainUnavailable => NotYetReason::ChainUnavailable,
    }
}

pub(super) fn refused_reason(refusal: &Refusal) -> RefusedReason {
    match refusal.reason() {
        // Never: a reason is no wrapped one.
        Refusal::Unconfirmed(_) => RefusedReason::NotOpen,
        Refusal::UnknownChain(_) => RefusedReason::UnknownChain,
        Refusal::Handles(_) | Refusal::UnknownFinality(_) => RefusedReason::Malformed,
        Refusal::WrongContext { .. } | Refusal::ContextDestroyed(_) => RefusedReason::Context,
        Refusal::NotOpen(_) | Refusal::Cancelled => RefusedReason::NotOpen,
        Refusal::DeadlinePassed { .. } => RefusedReason::DeadlinePassed,
        Refusal::NotPermitted { .. } => RefusedReason::NotPermitted,
        Refusal::KeyState { .. } => RefusedReason::Key,
        Refusal::User(refusal) => user_reason(refusal),
    }
}

/// The class of a user decryption's refusal.
pub(super) fn user_reason(refusal: &UserRefusal) -> RefusedReason {
    use UserRequestError::{Handles, RepeatedHandle, SignatureLength};
    match refusal {
        UserRefusal::Request(Handles(_) | RepeatedHandle(_)) => RefusedReason::Malformed,
        UserRefusal::Request(SignatureLength(_))
        | UserRefusal::WrongSigner(_)
        | UserRefusal::Signature(_)
        | UserRefusal::SignatureRejected(_)
        | UserRefusal::SignatureReverted(_)
        | UserRefusal::SignatureAnswer(_) => RefusedReason::Signature,
        UserRefusal::WrongContext { .. } | UserRefusal::ContextNotLive(_) => RefusedReason::Context,
        UserRefusal::UserNotAllowed { .. } | UserRefusal::ContractNotAllowed { .. } => RefusedReason::NotPermitted,
        UserRefusal::NotDelegated { .. } | UserRefusal::DelegationExpired { .. } => RefusedReason::Delegation,
        UserRefusal::KeyState { .. } => RefusedReason::Key,
        // The permit's rules and times, its end by its owner, and what may be added to the list.
        _ => RefusedReason::Permit,
    }
}
