//! The phases of the process and what clients may call in each.
//!
//! ```text
//! Booting ─┬─> Recovering ───┬─> Ready ──> Draining
//!          └─> Initialising ─┘              (from every phase)
//! ```
//! The phase never goes back: a party that loses its peers stays [`Phase::Ready`], its requests wait, and the metric
//! `quorum_headroom` and the health call say so. Links to peers are no matter of phases: they are up from the end of
//! booting to the end of the process.

use parking_lot::Mutex;
use tokio::sync::watch;

use crate::error::LifecycleError;

/// Where the process is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Phase {
    /// Stored material is being verified; nothing is served but health.
    Booting,
    /// Material is good; unfinished requests are taken up again and peers are being reached.
    Recovering,
    /// This party can use no key yet: it holds no share, or the parties are making a key or the pseudorandom keys of its
    /// epoch.
    Initialising,
    /// At least n−t−1 peers were reached, and at least one chain: each comes up by itself, see [`crate::chains`].
    Ready,
    /// Shutting down: nothing new starts; what is under way ends as it stands, and the next start takes it up.
    Draining,
}

impl Phase {
    /// All phases, in order of life.
    pub const ALL: [Self; 5] = [Self::Booting, Self::Recovering, Self::Initialising, Self::Ready, Self::Draining];

    /// Lower-case name, as health answers and metrics show it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Booting => "booting",
            Self::Recovering => "recovering",
            Self::Initialising => "initialising",
            Self::Ready => "ready",
            Self::Draining => "draining",
        }
    }

    /// Whether `call` is on the allow-list of this phase.
    pub const fn allows(self, call: Call) -> bool {
        match self {
            Self::Booting => matches!(call, Call::Health),
            Self::Recovering => !matches!(call, Call::Decrypt | Call::UserDecrypt),
            Self::Initialising => matches!(call, Call::Health | Call::GetKeys | Call::KeyGen | Call::KeyGenStatus),
            Self::Ready => true,
            Self::Draining => !matches!(call, Call::Decrypt | Call::UserDecrypt | Call::KeyGen),
        }
    }

    /// Whether the process may go from this phase to `next`.
    pub const fn leads_to(self, next: Self) -> bool {
        match (self, next) {
            (Self::Booting, Self::Recovering | Self::Initialising)
            | (Self::Recovering | Self::Initialising, Self::Ready) => true,
            (Self::Draining, Self::Draining) => false,
            (_, Self::Draining) => true,
            _ => false,
        }
    }
}

impl std::fmt::Display for Phase {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// A call that a client may make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// `Health`.
    Health,
    /// `GetKeys`.
    GetKeys,
    /// `GetStatus`.
    GetStatus,
    /// `Decrypt`.
    Decrypt,
    /// `UserDecrypt`.
    UserDecrypt,
    /// `KeyGen` and `KeyGenAbort`.
    KeyGen,
    /// `KeyGenStatus` and `GetKeyFile`.
    KeyGenStatus,
}

impl Call {
    /// All calls.
    pub const ALL: [Self; 7] = [
        Self::Health,
        Self::GetKeys,
        Self::GetStatus,
        Self::Decrypt,
        Self::UserDecrypt,
        Self::KeyGen,
        Self::KeyGenStatus,
    ];
}

/// The phase of this process, shared between its tasks.
#[derive(Debug)]
pub struct Lifecycle {
    phase: watch::Sender<Phase>,
    waits_for: Mutex<String>,
}

impl Default for Lifecycle {
    fn default() -> Self {
        Self { phase: watch::Sender::new(Phase::Booting), waits_for: Mutex::default() }
    }
}

impl Lifecycle {
    /// A process that has just started.
    pub fn new() -> Self {
        Self::default()
    }

    /// The phase now.
    pub fn phase(&self) -> Phase {
        *self.phase.borrow()
    }

    /// Follows the phase.
    pub fn subscribe(&self) -> watch::Receiver<Phase> {
        self.phase.subscribe()
    }

    /// What keeps the process from being ready, in words; empty if nothing does.
    pub fn waiting_for(&self) -> String {
        self.waits_for.lock().clone()
    }

    /// Says what keeps the process from being ready.
    pub fn waits_for(&self, what: &str) {
        what.clone_into(&mut self.waits_for.lock());
    }

    /// Goes on to `next`, or says why that is not a step of this state machine.
    pub fn advance(&self, next: Phase) -> Result<(), LifecycleError> {
        let mut outcome = Ok(());
        self.phase.send_if_modified(|phase| {
            if phase.leads_to(next) {
                tracing::info!(from = %phase, to = %next, "phase");
                *phase = next;
                true
            } else {
                outcome = Err(LifecycleError::IllegalStep { from: *phase, to: next });
                false
            }
        });
        outcome
    }

    /// Fails with a legible error when `call` is not allowed now.
    pub fn require(&self, call: Call) -> Result<(), LifecycleError> {
        let phase = self.phase();
        if phase.allows(call) { Ok(()) } else { Err(LifecycleError::NotAllowed { call, phase }) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_way_of_life_goes_forward_only() {
        let life = Lifecycle::new();
        assert_eq!(
            life.advance(Phase::Ready),
            Err(LifecycleError::IllegalStep { from: Phase::Booting, to: Phase::Ready })
        );
        life.advance(Phase::Recovering).unwrap();
        life.advance(Phase::Ready).unwrap();
        assert!(life.advance(Phase::Recovering).is_err());
        life.advance(Phase::Draining).unwrap();
        for phase in Phase::ALL {
            assert!(life.advance(phase).is_err(), "{phase} after draining");
        }
    }

    #[test]
    fn every_step_of_the_diagram_is_possible_and_no_other() {
        use Phase::{Booting, Draining, Initialising, Ready, Recovering};
        let steps = [(Booting, Recovering), (Booting, Initialising), (Recovering, Ready), (Initialising, Ready)];
        for from in Phase::ALL {
            for to in Phase::ALL {
                let drawn = steps.contains(&(from, to)) || (to == Draining && from != Draining);
                assert_eq!(from.leads_to(to), drawn, "{from} to {to}");
            }
        }
    }

    #[test]
    fn decryption_is_allowed_only_when_ready() {
        for phase in Phase::ALL {
            assert_eq!(phase.allows(Call::Decrypt), phase == Phase::Ready, "{phase}");
            assert_eq!(phase.allows(Call::UserDecrypt), phase == Phase::Ready, "{phase}");
            assert!(phase.allows(Call::Health), "{phase}");
        }
        let life = Lifecycle::new();
        assert_eq!(
            life.require(Call::Decrypt),
            Err(LifecycleError::NotAllowed { call: Call::Decrypt, phase: Phase::Booting })
        );
    }

    #[test]
    fn a_booting_process_answers_health_only() {
        for call in Call::ALL {
            assert_eq!(Phase::Booting.allows(call), call == Call::Health, "{call:?}");
        }
    }
}
