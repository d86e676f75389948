//! Key generation without a dealer: nobody ever knows a secret key.
//!
//! - [`kms_encoding::key_spec`]: what a key consists of, in numbers;
//! - [`bits`], [`double`], [`noise`]: random bits, their openings of degree 2t, and the noise made of them;
//! - [`exchange`], [`journal`]: what a run needs of the world;
//! - [`evidence`]: what speaks against a party;
//! - [`insecure_rehearsal`]: what a run would cost, for benchmarks;
//! - [`Run`]: one run at one party, with its [`Progress`], and what it leaves behind: [`Finished`], [`Culprit`].

mod agree;
mod ask;
pub mod bits;
mod catchup;
mod chunk;
pub mod double;
mod drive;
mod error;
pub mod evidence;
pub mod exchange;
mod insecure_lie;
pub mod insecure_rehearsal;
pub mod journal;
mod message;
mod meter;
pub mod noise;
mod plan;
mod progress;
mod reader;
mod record;
mod relay;
mod reveal;
mod run;
pub(crate) mod simulated;
mod state;
mod statement;
#[cfg(test)]
mod tests;
mod work;

pub use error::{Answerless, RunError};
pub use evidence::{Culprit, Misdeed};
pub use progress::{Phase, Progress};
pub use run::{Finished, Public, Run, RunConfig, Seed};
