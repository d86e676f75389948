//! What a party says to a question.

use crate::verify::{self, AnswerError, Question, VerifiedAnswer};
use alloy_primitives::B256;
use kms_chain::manifest::{Committee, DecryptionDomain};
use kms_proto::{
    bounds::{self, BoundsError},
    node::{self, decrypt_response},
};
use std::{error::Error, time::Duration};
use tonic::{Code, Status};

use kms_proto::node::{NotYetReason, RefusedReason};

/// What one party says to a question, all within bounds: to one that asks for signed cleartexts, or (with a
/// [`VerifiedShare`](crate::verify::VerifiedShare)) for a user's share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome<Answer = VerifiedAnswer> {
    /// A verified answer.
    Answer(Answer),
    /// Not now.
    NotYet {
        /// Why.
        reason: NotYetReason,
        /// For people.
        detail: String,
        /// When to ask again.
        retry_after: Duration,
    },
    /// Never.
    Refused {
        /// Why.
        reason: RefusedReason,
        /// For people.
        detail: String,
    },
    /// The party does not hold the epoch that it is asked for.
    EpochNotLive {
        /// Those that it holds.
        live: Vec<B256>,
    },
}

impl<Answer> Outcome<Answer> {
    /// Which of the four it is, for logs and traces.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Answer(_) => "answer",
            Self::NotYet { .. } => "not yet",
            Self::Refused { .. } => "refused",
            Self::EpochNotLive { .. } => "epoch not live",
        }
    }
}

impl<Answer> From<node::NotYet> for Outcome<Answer> {
    fn from(not_yet: node::NotYet) -> Self {
        Self::NotYet {
            reason: not_yet.reason(),
            retry_after: Duration::from_millis(not_yet.retry_after_ms.into()),
            detail: not_yet.detail,
        }
    }
}

impl<Answer> From<node::Refused> for Outcome<Answer> {
    fn from(refused: node::Refused) -> Self {
        Self::Refused { reason: refused.reason(), detail: refused.detail }
    }
}

impl<Answer> From<node::EpochNotLive> for Outcome<Answer> {
    fn from(epoch: node::EpochNotLive) -> Self {
        Self::EpochNotLive { live: epoch.live.iter().filter_map(|id| B256::try_from(id.as_slice()).ok()).collect() }
    }
}

/// A call to a party that came to nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PartyError {
    /// No connection, or it broke: TCP, TLS or HTTP/2.
    #[error("unreachable: {0}")]
    Unreachable(String),
    /// No answer in time.
    #[error("no answer in time")]
    Timeout,
    /// The party does not admit this client, or not for this call.
    #[error("not admitted: {0}")]
    NotAdmitted(String),
    /// The party limits this client's rate.
    #[error("too many calls: {0}")]
    Limited(String),
    /// Another gRPC status.
    #[error("gRPC {code}: {message}")]
    Status {
        /// Name of the code.
        code: String,
        /// The party's words.
        message: String,
    },
    /// The party's answer is its fault.
    #[error(transparent)]
    Bad(#[from] AnswerError),
    /// The party says that it is another one.
    #[error("it says that it is party {0}")]
    OtherParty(u32),
    /// The party has another committee.
    #[error("it belongs to another committee")]
    OtherCommittee,
}

impl PartyError {
    pub(super) fn from_status(status: &Status) -> Self {
        // A status that the party never sent carries the reason in its source.
        let mut reason = bounds::text(status.message().to_owned());
        let mut source = status.source();
        while let Some(error) = source {
            reason = bounds::text(error.to_string());
            source = error.source();
        }
        match status.code() {
            Code::Unauthenticated | Code::PermissionDenied => Self::NotAdmitted(reason),
            Code::ResourceExhausted => Self::Limited(reason),
            Code::DeadlineExceeded => Self::Timeout,
            Code::Unavailable | Code::Cancelled | Code::Unknown => Self::Unreachable(reason),
            code => Self::Status { code: format!("{code:?}"), message: reason },
        }
    }

    /// Whether asking again later can help without anybody changing anything.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Unreachable(_) | Self::Timeout | Self::Limited(_))
    }
}

impl Outcome {
    pub(super) fn read(
        committee: &Committee,
        domain: &DecryptionDomain,
        index: u32,
        question: &Question,
        response: node::DecryptResponse,
    ) -> Result<Self, PartyError> {
        bounds::check_decrypt_response(&response).map_err(AnswerError::from)?;
        let outcome = response.outcome.ok_or(AnswerError::Bounds(BoundsError::Missing("outcome")))?;
        Ok(match outcome {
            decrypt_response::Outcome::Answer(answer) => {
                Self::Answer(verify::answer(question, committee, domain, index, &answer)?)
            }
            decrypt_response::Outcome::NotYet(not_yet) => not_yet.into(),
            decrypt_response::Outcome::Refused(refused) => refused.into(),
            decrypt_response::Outcome::EpochNotLive(epoch) => epoch.into(),
        })
    }
}
