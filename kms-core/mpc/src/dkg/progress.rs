//! How far a run is.

use core::time::Duration;

use kms_algebra::PartySet;

/// What a run is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Phase {
    /// Reading the journal.
    #[default]
    Starting,
    /// Opening the seed of the public masks.
    Coin,
    /// Making the bits of this secret (position in the specification).
    Secret(usize),
    /// Making this component (position in the specification).
    Component(usize),
    /// Done: this party has the key. It still answers questions.
    Done,
}

/// How far a run is at this party.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Progress {
    /// What is being done.
    pub phase: Phase,
    /// Chunks that are done.
    pub chunks_done: u32,
    /// Chunks in all.
    pub chunks_total: u32,
    /// Random bits made, also in former lives.
    pub bits_done: u64,
    /// Random bits in all: what takes the time.
    pub bits_total: u64,
    /// Bits per second, on average in this life; 0 if unknown.
    pub bits_per_second: f64,
    /// Time left at this rate, if it is known.
    pub left: Option<Duration>,
    /// Bytes of questions asked and answers given, in this life.
    pub bytes_sent: u64,
    /// Bytes of questions heard and answers got, in this life.
    pub bytes_received: u64,
    /// Parties that others have to be waited for at the moment, or whose votes are missing.
    pub waiting_for: PartySet,
    /// Parties excluded because they were late.
    pub late: PartySet,
    /// Parties shown to be wrong.
    pub wrong: PartySet,
}
