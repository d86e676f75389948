//! The registry of scenarios, and what several of them need.

mod decryption;
mod judge;
mod keygen;
mod lockstep;
mod opening;

use self::lockstep::LockstepScenario;
use super::scenario::Scenario;

/// All scenarios.
pub const SCENARIOS: &[&dyn Scenario] = &[
    &decryption::DecryptionScenario,
    &opening::OpeningScenario,
    &LockstepScenario::BROADCAST,
    &LockstepScenario::SHARING,
    &LockstepScenario::COIN,
    &LockstepScenario::SETUP,
    &keygen::KeygenScenario,
];

/// The scenario with this name.
#[must_use]
pub fn find(name: &str) -> Option<&'static dyn Scenario> {
    SCENARIOS.iter().copied().find(|scenario| scenario.name() == name)
}
