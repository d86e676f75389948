//! The life of a job: its states, the moves between them, and what the chain's events make of it.
//!
//! ```text
//! seen → final → dispatched → quorum → submitting → mined → done
//! ```
//!
//! or `expired | cancelled | refused | orphaned`. The moves of the first line are made by workers, all of them guarded by
//! `WHERE state = …`; whatever the chain says comes in through [`observe`], which looks at the facts as they are now and not
//! at how they came about, so that reorganisations need no code of their own: a job whose ground has moved starts again at
//! `seen`, and finds the answers of the parties already stored.

use std::fmt;

/// State of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum State {
    /// Recorded; waits for the finality that it asks for.
    Seen,
    /// Final; waits for a worker.
    Final,
    /// The parties are being asked.
    Dispatched,
    /// Enough verified answers are stored.
    Quorum,
    /// A signed transaction is stored in the outbox.
    Submitting,
    /// The chain has recorded the answer.
    Mined,
    /// The answer is beyond reorganisation, or delivered to whoever asked over HTTP.
    Done,
    /// Ended without an answer, on chain or by its deadline.
    Expired,
    /// The requester took it back.
    Cancelled,
    /// Too many parties refuse it for good.
    Refused,
    /// Its request is no longer part of the chain.
    Orphaned,
}

impl State {
    /// All states, in the order of the pipeline.
    pub const ALL: [State; 11] = [
        State::Seen,
        State::Final,
        State::Dispatched,
        State::Quorum,
        State::Submitting,
        State::Mined,
        State::Done,
        State::Expired,
        State::Cancelled,
        State::Refused,
        State::Orphaned,
    ];

    /// Name in the database, the API and the metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            State::Seen => "seen",
            State::Final => "final",
            State::Dispatched => "dispatched",
            State::Quorum => "quorum",
            State::Submitting => "submitting",
            State::Mined => "mined",
            State::Done => "done",
            State::Expired => "expired",
            State::Cancelled => "cancelled",
            State::Refused => "refused",
            State::Orphaned => "orphaned",
        }
    }

    /// The state of that name.
    #[must_use]
    pub fn parse(name: &str) -> Option<State> {
        State::ALL.into_iter().find(|state| state.as_str() == name)
    }

    /// Whether workers have something to do for a job in this state.
    #[must_use]
    pub fn is_worked_on(self) -> bool {
        matches!(self, State::Final | State::Dispatched | State::Quorum)
    }

    /// Whether nothing happens any more unless the chain (or a caller) says something new.
    #[must_use]
    pub fn is_end(self) -> bool {
        matches!(self, State::Done | State::Expired | State::Cancelled | State::Refused | State::Orphaned)
    }

    /// Whether a job may go from here to there in one move.
    #[must_use]
    pub fn may_become(self, to: State) -> bool {
        use State::{Cancelled, Dispatched, Done, Expired, Final, Mined, Orphaned, Quorum, Refused, Seen, Submitting};
        if self == to {
            return false;
        }
        match (self, to) {
            // What the chain says may meet a job anywhere. Back to the start when what carried it has gone.
            (_, Orphaned | Mined | Expired) | (Final | Dispatched | Quorum | Submitting, Seen) => true,
            (Mined | Done | Expired | Cancelled | Refused | Orphaned, Seen) => true,
            (_, Cancelled) => true,
            // A pull job that failed is asked for again, and one that lacks the shares of some parties collects on.
            (Expired | Refused, Final) | (Done, Quorum) => true,
            // The way of a request.
            (Seen, Final) | (Final, Dispatched) | (Dispatched, Quorum | Refused) => true,
            (Quorum, Submitting | Done) | (Submitting, Quorum) | (Mined, Done) => true,
            _ => false,
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What the canonical chain says about a request at this moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ChainSays {
    /// The request is recorded.
    pub requested: bool,
    /// It is recorded in another block than we last knew.
    pub moved: bool,
    /// The answer is recorded.
    pub fulfilled: bool,
    /// The request ended without an answer.
    pub expired: bool,
    /// The requester shortened the deadline.
    pub cancelled: bool,
}

/// The state that a job in `state` must go to, given what the chain says now; `None` if it stays where it is.
#[must_use]
pub fn observe(state: State, chain: ChainSays) -> Option<State> {
    use State::{Cancelled, Dispatched, Done, Expired, Final, Mined, Orphaned, Quorum, Refused, Seen, Submitting};
    let to = if !chain.requested {
        Orphaned
    } else if chain.fulfilled {
        if state == Done { Done } else { Mined }
    } else if chain.expired {
        Expired
    } else {
        let here = match state {
            Orphaned | Mined | Done | Expired => Seen,
            Cancelled if !chain.cancelled => Seen,
            Final | Dispatched | Quorum | Submitting | Refused | Cancelled if chain.moved => Seen,
            other => other,
        };
        // Once the parties have answered, the answer is posted: it is valid, and the fee is paid for it.
        if chain.cancelled && matches!(here, Seen | Final | Dispatched) { Cancelled } else { here }
    };
    (to != state).then_some(to)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn says() -> impl Strategy<Value = ChainSays> {
        any::<[bool; 5]>().prop_map(|[requested, moved, fulfilled, expired, cancelled]| ChainSays {
            requested,
            moved,
            // The contract knows only one end of a request.
            fulfilled: fulfilled && !expired,
            expired,
            cancelled,
        })
    }

    fn state() -> impl Strategy<Value = State> {
        proptest::sample::select(State::ALL.to_vec())
    }

    proptest! {
        #[test]
        fn whatever_the_chain_says_is_a_legal_move(state in state(), chain in says()) {
            if let Some(to) = observe(state, chain) {
                prop_assert!(state.may_become(to), "{state} → {to}");
            }
        }

        #[test]
        fn saying_it_again_changes_nothing(state in state(), chain in says()) {
            let once = observe(state, chain).unwrap_or(state);
            prop_assert_eq!(observe(once, ChainSays { moved: false, ..chain }), None);
        }

        #[test]
        fn the_chain_has_the_last_word(state in state(), chain in says()) {
            let now = observe(state, chain).unwrap_or(state);
            prop_assert_eq!(now == State::Orphaned, !chain.requested);
            if chain.requested {
                prop_assert_eq!(matches!(now, State::Mined | State::Done), chain.fulfilled);
                prop_assert_eq!(now == State::Expired, chain.expired);
            }
        }
    }

    #[test]
    fn names_are_read_back() {
        for state in State::ALL {
            assert_eq!(State::parse(state.as_str()), Some(state));
        }
        assert_eq!(State::parse("lost"), None);
    }

    #[test]
    fn a_cancelled_request_with_a_quorum_is_still_posted() {
        let chain = ChainSays { requested: true, cancelled: true, ..ChainSays::default() };
        assert_eq!(observe(State::Dispatched, chain), Some(State::Cancelled));
        assert_eq!(observe(State::Quorum, chain), None);
        assert_eq!(observe(State::Submitting, chain), None);
    }
}
