//! Key generation with simulated parties: an exchange over the simulated clock, journals that survive crashes, signatures
//! that anybody can forge, liars, and a judge that puts the key together. **For development and tests only.**

mod check;
mod insecure_signer;
mod journal;
mod lies;
mod world;

pub(crate) use check::check_key;
pub(crate) use insecure_signer::InsecureSigner;
pub(crate) use journal::MemoryJournal;
pub(crate) use lies::{LIES, Lie};
#[cfg(test)]
pub(crate) use world::test_spec;
pub(crate) use world::{Keygen, Links, Outcome, bits_spec, small_spec};
