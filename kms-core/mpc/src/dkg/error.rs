//! Why a run ended without a key, and why a question had no answer.

use std::io;

use kms_algebra::PartySet;

use crate::SetupError;

/// Why a run ended without a key at this party.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// The committee, the key material or the specification can't be used.
    #[error(transparent)]
    Setup(#[from] SetupError),
    /// The specification is none of a key: a position of a secret that does not exist, a size of 0, noise beyond the word.
    #[error("component {component} of the specification can't be made")]
    Spec {
        /// Which one.
        component: usize,
    },
    /// The disk is full or broken. Nothing is lost: the run can be resumed with the same journal.
    #[error("the journal can't be written or read: {0}")]
    Journal(#[from] io::Error),
    /// The journal is that of another run, or records contradict each other. Not resumable.
    #[error("the journal is not that of this run: {0}")]
    ForeignJournal(&'static str),
    /// The exchange was closed: the run was given up or the process ends. Resumable.
    #[error("the run was stopped")]
    Closed,
    /// Parties voted both ways and no certificate can form any more: possible only outside the assumption (more than t
    /// wrong or late). Nothing was revealed. Replace the run by a new one.
    #[error("votes on chunk {chunk} are split and no certificate can form: the run is over, nothing was revealed")]
    Split {
        /// Chunk that no decision can be reached on.
        chunk: u32,
    },
    /// More than t parties are excluded: outside the assumption.
    #[error("more than t parties are excluded: {excluded}")]
    TooManyExcluded {
        /// Those that are.
        excluded: PartySet,
    },
    /// An opened value can't be: this party computes nonsense (faulty memory, another version) or its keys are not those
    /// of the others.
    #[error("internal error in chunk {chunk}: {what}")]
    Internal {
        /// Where.
        chunk: u32,
        /// What can't be.
        what: &'static str,
    },
}

/// Why a question has no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Answerless {
    /// Nothing to say yet: ask again.
    #[error("no answer yet")]
    NotYet,
    /// The question is none of this run.
    #[error("malformed question")]
    Malformed,
    /// The answer is not for this party: it is no member of the committee.
    #[error("not for this party")]
    NotForYou,
    /// The journal can't be read.
    #[error("the journal can't be read")]
    Journal,
}
